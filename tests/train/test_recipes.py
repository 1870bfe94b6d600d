"""The recipes in conf/train: what was published is in them, they fit a real space, and they train."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from toy import SIDE, Block, toy_data

from bnas.compose import compose
from bnas.config import RunConfig
from bnas.graph import ChannelGraph, at_resolutions, trace
from bnas.plain import from_plain
from bnas.space import SearchSpace, derive_space
from bnas.supernet import Supernet
from bnas.train import SAMPLINGS, Stage, finetune, learning_rate, train, validate_stages

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted(path.stem for path in (ROOT / "conf" / "train").glob("*.yaml"))


@cache
def recipe(name: str) -> RunConfig:
    return from_plain(RunConfig, compose("resnet50", [f"train={name}"]))


@dataclass(frozen=True, kw_only=True)
class Published:
    """A recipe's source in numbers. Epochs, warm-up and rates are of each stage; rates of the whole batch.

    added: the source adds what is 1 - distill and distill here, and the gradients of a step's subnets.
    """

    batch: int
    epochs: tuple[float, ...]
    warmup: tuple[float, ...]
    lr: tuple[float, ...]
    weight_decay: float
    smoothing: float
    subnets: tuple[int, ...]
    sampling: str = "random"
    added: bool = False


PUBLISHED = {
    # NNCF 2.6 and IntelLabs: 25 + 40 + 50 + 50 epochs at 2.5e-6, batch 64, decay 3e-7, smoothing .1
    "progressive": Published(
        batch=64, epochs=(25, 40, 50, 50), warmup=(0,) * 4, lr=(2.5e-6,) * 4, weight_decay=3e-7, smoothing=0.1,
        subnets=(1,) * 4,
    ),
    # mit-han-lab/once-for-all, train_ofa_net.py: 64 images and these rates on each of 32 GPUs; warm-up comes on top
    "ofa": Published(
        batch=64 * 32, epochs=(120 + 5, 25, 120 + 5, 25, 120 + 5), warmup=(5, 0, 5, 0, 5),
        lr=tuple(32 * rate for rate in (3e-2, 2.5e-3, 7.5e-3, 2.5e-3, 7.5e-3)), weight_decay=3e-5, smoothing=0.1,
        subnets=(1, 2, 2, 4, 4), added=True,
    ),
    # Yu et al. 2020: 64 x 64 images at 0.256, decay 1e-5; epochs as AttentiveNAS's
    "sandwich": Published(
        batch=64 * 64, epochs=(360,), warmup=(5,), lr=(0.256,), weight_decay=1e-5, smoothing=0.1, subnets=(4,),
        sampling="sandwich",
    ),
    # facebookresearch/AttentiveNAS: 64 GPUs with 32 images, 0.1 for 256 images, decay 1e-5, smoothing .1
    "attentive": Published(
        batch=64 * 32, epochs=(360,), warmup=(5,), lr=(0.1 * 64 * 32 / 256,), weight_decay=1e-5, smoothing=0.1,
        subnets=(4,), sampling="best_up",
    ),
    # Jordan-HS/RSS-Interference-CVPRW2022, main.py
    "uniform": Published(
        batch=64, epochs=(180,), warmup=(0,), lr=(0.01,), weight_decay=3e-5, smoothing=0.0, subnets=(1,)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers(name: str) -> None:
    found, source = recipe(name).train, PUBLISHED[name]
    halved = 0.5 if source.added else 1.0
    assert found.batch_size == source.batch
    assert tuple(stage.epochs for stage in found.stages) == source.epochs
    assert tuple(stage.warmup_epochs for stage in found.stages) == source.warmup
    assert tuple(stage.lr * halved for stage in found.stages) == pytest.approx(source.lr)
    assert found.weight_decay / halved == pytest.approx(source.weight_decay)
    assert found.label_smoothing == source.smoothing
    assert tuple(stage.subnets_per_step for stage in found.stages) == source.subnets
    assert {stage.sampling for stage in found.stages} == {source.sampling}
    assert (found.distill == 0.5 and found.subnet_gradients == "sum") or not source.added


def test_total_epochs() -> None:
    """BootstrapNAS 165; Once-for-All 410 and its warm-up; the single-stage ones 360."""
    totals = {name: sum(stage.epochs for stage in recipe(name).train.stages) for name in PUBLISHED}
    assert totals == {"progressive": 165, "ofa": 410 + 15, "sandwich": 360, "attentive": 360, "uniform": 180}
    assert recipe("finetune").finetune.epochs == 25


def test_what_each_recipe_opens_when() -> None:
    sizes, kernels = {"resolution": 0}, {"resolution": 0, "kernel": 0}
    opened = [dict(stage.dims) for stage in recipe("ofa").train.stages]
    assert [{**sizes, **own} for own in opened] == opened
    assert opened == [
        kernels,
        {**kernels, "depth": 2},
        {**kernels, "depth": 3},
        {**kernels, "depth": 3, "width": 2},
        {**kernels, "depth": 3, "width": 3},
    ]
    assert [dict(stage.dims) for stage in recipe("progressive").train.stages] == [
        {"depth": 2},
        {"depth": 3},
        {"depth": 3, "width": 2},
        {"depth": 3, "width": 3},
    ]
    for name in ("ofa", "progressive"):  # sorted whenever widths open, and only then
        assert all(stage.reorder == ("width" in stage.dims) for stage in recipe(name).train.stages)
    assert recipe("ofa").space.kernel_transform
    assert {*recipe("ofa").space.resolutions, 224} == {128, 160, 192, 224}


@pytest.mark.parametrize("name", ["sandwich", "attentive"])
def test_the_single_stage_recipes_learn_in_place(name: str) -> None:
    found = recipe(name).train
    (stage,) = found.stages
    assert (found.teacher, found.distill, found.dropout, found.subnet_gradients) == (
        "largest",
        1.0,
        "largest",
        "sum",
    )
    assert SAMPLINGS[stage.sampling].has_largest
    assert set(stage.dims.values()) == {0}


def test_the_sandwich_recipe_ends_constant_at_five_percent() -> None:
    """.97 for every 2.4 epochs from epoch 5 on, until 5 % are reached (Yu et al. 2020, section 3)."""
    (stage,) = recipe("sandwich").train.stages
    for epoch in (5, 50, 120, 200, 235, 245, 300, 359):
        expected = max(0.97 ** ((epoch - 5) / 2.4), 0.05)
        assert learning_rate(stage, epoch * 10, 3600) / 0.256 == pytest.approx(expected, rel=0.01)


def test_halved_losses_at_twice_the_rate_are_the_summed_losses() -> None:
    """Once-for-All's step (sums; SGD with Nesterov's momentum and decay) is that of the recipe's numbers."""
    found, rng = recipe("ofa").train, torch.Generator().manual_seed(0)
    images = torch.randn(5, 8, 6, dtype=torch.float64, generator=rng)
    labels = torch.randint(4, (5, 8), generator=rng)
    teacher, start = torch.randn(2, 6, 4, dtype=torch.float64, generator=rng)
    ends = []
    for share, factor, decay in ((None, 1.0, 3e-5), (found.distill, 2.0, found.weight_decay)):
        weight = nn.Parameter(start.clone())
        optimizer = torch.optim.SGD(
            [weight], lr=0.24 * factor, momentum=found.momentum, nesterov=True, weight_decay=decay
        )
        for x, y in zip(images, labels, strict=True):
            optimizer.zero_grad()
            for scale in (1.0, 0.7):  # two subnets
                logits = scale * x @ weight
                hard = F.cross_entropy(logits, y, label_smoothing=found.label_smoothing)
                soft = F.cross_entropy(logits, (x @ teacher).softmax(dim=1))
                loss = hard + soft if share is None else (1 - share) * hard + share * soft
                loss.backward()
            optimizer.step()
        ends.append(weight.detach())
    assert torch.allclose(ends[0], ends[1], rtol=1e-12)
    assert not torch.allclose(ends[0], start)


@cache
def resnet50_graph() -> ChannelGraph:
    model, inputs = torchvision.models.resnet50(weights=None).eval(), (torch.zeros(1, 3, 64, 64),)
    return at_resolutions(model, inputs, trace(model, inputs), (48,))


@pytest.mark.parametrize("name", RECIPES)
def test_stages_fit_the_space_that_is_made_with_them(name: str) -> None:
    config = recipe(name)
    space = derive_space(resnet50_graph(), replace(config.space, resolutions=()))
    validate_stages(config.train.stages, space)
    assert any(stage.dims for stage in config.train.stages)


@pytest.mark.parametrize("name", RECIPES)
def test_each_file_says_how_to_use_it_and_where_it_is_from(name: str) -> None:
    text = (ROOT / "conf" / "train" / f"{name}.yaml").read_text()
    assert text.startswith(f"# @package _global_\n# train={name}: ")
    if name in PUBLISHED:
        first = text.splitlines()[1]
        assert " -m bnas " in first
        assert first.endswith(f"train={name}")
        assert "What differs:" in text


class KernelNet(nn.Module):
    """The toy network with a stem whose kernel may shrink."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 5, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.dropout = nn.Dropout(0.1)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(torch.relu(self.norm(self.stem(x))))
        return self.head(self.dropout(self.pool(x).flatten(1)))


def kernel_net() -> KernelNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KernelNet()


def small_supernet(config: RunConfig) -> Supernet:
    model, inputs = kernel_net().eval(), (torch.zeros(2, 1, SIDE, SIDE),)
    rules = replace(config.space, resolutions=(), width_multiple=2, width_min=2)
    graph = at_resolutions(model, inputs, trace(model, inputs), (4,))
    space: SearchSpace = derive_space(graph, rules)
    return Supernet(model, graph, space, kernel_transform=config.space.kernel_transform)


def short(stage: Stage) -> Stage:
    """Three steps of it, at a rate that suits a batch of 16."""
    warmup = 1 if stage.warmup_epochs else None
    return replace(
        stage, steps=3, warmup_epochs=0.0, warmup_steps=warmup, lr=min(stage.lr, 0.01), recalibrate_images=32
    )


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("detection", "finetune")])
def test_each_recipe_trains(name: str) -> None:
    config = recipe(name)
    supernet, data = small_supernet(config), toy_data()
    before = supernet.model.stem.weight.detach().clone()
    options = replace(
        config.train,
        stages=tuple(short(stage) for stage in config.train.stages),
        batch_size=16,
        precision="float32",
        recalibrate_images=32,
        checkpoint_seconds=60.0,
    )
    train(supernet, data, options, seed=0, teacher=kernel_net())
    assert all(torch.isfinite(value).all() for value in supernet.trained.state_dict().values())
    assert not torch.equal(supernet.model.stem.weight, before)
    assert supernet.active == supernet.space.largest


def test_the_finetune_recipe_trains() -> None:
    data, model = toy_data(), kernel_net()
    options = replace(recipe("finetune").finetune, epochs=1.0, batch_size=16, precision="float32")
    finetune(model, data, options, seed=0, teacher=kernel_net(), resolution=4)
    assert not torch.equal(model.stem.weight, kernel_net().stem.weight)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
