from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from elastic_networks import IMAGES, build, tiny_resnet
from torch import Tensor, nn
from torch.nn import functional

from bnas.errors import ConfigError, ModelError
from bnas.supernet import Supernet, extract_subnet
from bnas.train.recompute import Recomputed, blocks, recomputed


class Layer(nn.Module):
    """A pre-norm transformer layer with dropout and a batch norm of its own."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(0.3)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.ends = nn.Sequential(nn.Linear(width, width), nn.BatchNorm1d(width), nn.GELU())

    def forward(self, x: Tensor, *, scale: Tensor) -> tuple[Tensor, Tensor]:
        y = self.norm(x)
        x = x + self.dropout(self.attention(y, y, y)[0]) * scale
        return x + self.ends(x.mean(1)).unsqueeze(1), scale


class Layers(nn.Module):
    """Layers with a keyword argument and a tuple for their output."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer() for _ in range(3)])
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x, _ = layer(x, scale=self.scale)
        return x


class Growing(nn.Module):
    """What a block gets is a list that goes on growing after it, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Dense(2 * (i + 1)) for i in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for block in self.blocks:
            features.append(block(features))
        return torch.cat(features, 1)


class Dense(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(width), nn.Conv2d(width, 2, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        y: Tensor = self.conv(functional.relu(self.norm(torch.cat(features, 1)), inplace=True))
        return y


class Changing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(self.one(functional.hardswish(x, inplace=True)))
        return y


def passed(
    model: nn.Module, inputs: Tensor, *, enabled: bool, low: bool = False
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Loss and gradients of a pass, on a copy of the model; and its buffers and next random number then."""
    model = copy.deepcopy(model).train()
    with recomputed(model, enabled):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
            outputs = model(inputs)
            loss = torch.stack([out.float().square().mean() for out in _tensors(outputs)]).sum()
        loss.backward()
    state = dict(model.named_buffers()) | {"next random number": torch.rand(1)}
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    return [loss, *gradients], state


def _tensors(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else [out for out in outputs if out is not None]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def kept_bytes(model: nn.Module, run: Callable[[], Tensor], *, enabled: bool) -> int:
    """Bytes of the tensors, other than parameters, that autograd keeps for the backward pass."""
    kept: dict[int, Tensor] = {}
    own = {tensor.untyped_storage().data_ptr() for tensor in chain(model.parameters(), model.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor
        return tensor

    with recomputed(model, enabled), torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = run()
    assert loss.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Tensor]] = {
    "residual": (tiny_resnet, IMAGES[0]),
    "mobilenet": (
        lambda: torchvision.models.mobilenet_v3_small(width_mult=0.25, dropout=0.2),
        torch.rand(2, 3, 32, 32),
    ),
    "dropped paths": (
        lambda: torchvision.models.convnext.ConvNeXt(
            [torchvision.models.convnext.CNBlockConfig(8, None, 3)], stochastic_depth_prob=0.5
        ),
        torch.rand(2, 3, 16, 16),
    ),
    "transformer": (Layers, torch.rand(4, 5, 8)),
    "growing list": (Growing, torch.rand(2, 2, 4, 4)),
}


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_all_is_bit_identical_to_the_pass_that_keeps_everything(name: str, low: bool) -> None:
    make, inputs = NETWORKS[name]
    torch.manual_seed(1)
    model = make()
    before = {key: value.clone() for key, value in model.named_buffers()}
    ours, state = passed(model, inputs, enabled=True, low=low)
    theirs, expected = passed(model, inputs, enabled=False, low=low)
    assert same(ours, theirs)
    assert state.keys() == expected.keys()
    assert same(list(state.values()), list(expected.values()))
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())  # the copies moved
    counters = [value for key, value in state.items() if key.endswith("num_batches_tracked")]
    assert all(value == 1 for value in counters)


def test_blocks_run_twice_and_only_with_gradients() -> None:
    model, runs = tiny_resnet().train(), []
    block = next(iter(blocks(model).values()))
    conv = next(module for module in block.modules() if isinstance(module, nn.Conv2d))
    conv.register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    with recomputed(model):
        model(*IMAGES).sum().backward()
        assert runs == [True, True]
        with torch.no_grad():
            model(*IMAGES)
        assert runs == [True, True, False]
    model(*IMAGES).sum().backward()
    assert runs == [True, True, False, True]
    with recomputed(model, False):
        model(*IMAGES).sum().backward()
    assert len(runs) == 5


def test_less_is_kept_for_the_backward_pass() -> None:
    model = nn.Sequential(*[torchvision.models.resnet.BasicBlock(8, 8) for _ in range(6)]).train()
    x = torch.rand(2, 8, 16, 16)
    assert (
        kept_bytes(model, lambda: model(x).sum(), enabled=True) == 6 * x.nbytes
    )  # what goes into each block
    assert kept_bytes(model, lambda: model(x).sum(), enabled=False) > 4 * 6 * x.nbytes


def test_one_pass_can_be_followed_by_two_backward_passes() -> None:
    model = tiny_resnet().train()
    with recomputed(model):
        loss = model(*IMAGES).square().mean()
        loss.backward(retain_graph=True)
        first = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        loss.backward()
    twice = [p.grad for p in model.parameters() if p.grad is not None]
    assert same([2 * gradient for gradient in first], twice)
    norm = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.num_batches_tracked == 1


def test_training_flags_are_those_of_the_forward_pass() -> None:
    model = Layers().train()
    gradients = []
    for enabled in (True, False):
        model.zero_grad()
        with recomputed(model, enabled):
            torch.manual_seed(0)
            for layer in model.layers:
                layer.dropout.eval()
            loss = model(NETWORKS["transformer"][1]).square().mean()
            for layer in model.layers:
                layer.dropout.train()
            loss.backward()
            assert all(module.training for module in model.modules())
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert same(*gradients)


# elastic networks


def elastic(supernet: Supernet, inputs: Tensor, *, enabled: bool) -> list[Tensor]:
    """Losses, gradients and buffers of the largest, the smallest and a random subnet, one after the other."""
    space = supernet.space
    some = space.sample(np.random.default_rng(0))
    losses = []
    supernet.model.train()
    torch.manual_seed(2)
    with recomputed(supernet.model, enabled):
        for subnet in (space.largest, space.smallest, some, space.largest):
            supernet.activate(subnet)
            loss = supernet(inputs).square().mean()
            loss.backward()
            losses.append(loss.detach())
    model = supernet.model
    return [*losses, *[p.grad for p in model.parameters() if p.grad is not None], *model.buffers()]


def tiny_densenet() -> nn.Module:
    """Its norms are of concatenated channels: of several groups, parts are gathered and written back."""
    torch.manual_seed(0)
    return torchvision.models.DenseNet(
        growth_rate=4, block_config=(2, 2), num_init_features=8, bn_size=2, num_classes=4
    ).eval()


def tiny_convnext() -> nn.Module:
    """Its blocks are elastic themselves: they own the scales of their channels."""
    torch.manual_seed(0)
    settings = [torchvision.models.convnext.CNBlockConfig(16, None, 3)]
    return torchvision.models.convnext.ConvNeXt(settings, stochastic_depth_prob=0.5, num_classes=4).eval()


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (tiny_resnet, IMAGES[0]),
        (tiny_densenet, torch.rand(2, 3, 32, 32)),
        (tiny_convnext, torch.rand(2, 3, 32, 32)),
    ],
)
def test_subnets_of_a_supernet(make: Callable[[], nn.Module], inputs: Tensor) -> None:
    ours, theirs = (
        elastic(build(make(), (inputs,), width_min=2, width_multiple=2), inputs, enabled=enabled)
        for enabled in (True, False)
    )
    assert len(ours) > 20
    assert same(ours, theirs)


def test_a_block_that_was_skipped_is_computed_again_when_it_is_back() -> None:
    supernet = build(tiny_resnet())
    supernet.model.train()

    def kept(*, enabled: bool) -> int:
        supernet.activate(supernet.space.smallest)
        supernet.activate(supernet.space.largest)
        return kept_bytes(supernet.model, lambda: supernet(*IMAGES).sum(), enabled=enabled)

    with recomputed(supernet.model):
        supernet.activate(supernet.space.smallest)  # skips blocks inside of the context
        within = kept_bytes(supernet.model, lambda: supernet(*IMAGES).sum(), enabled=False)
        supernet.activate(supernet.space.largest)
        again = kept_bytes(supernet.model, lambda: supernet(*IMAGES).sum(), enabled=False)
    assert within < again == kept(enabled=True) < 0.7 * kept(enabled=False)


def test_copies_made_inside_know_nothing_of_it() -> None:
    supernet = build(tiny_resnet())
    with recomputed(supernet.model):
        assert any(isinstance(module, Recomputed) for module in supernet.model.modules())
        copies = [copy.deepcopy(supernet.model), extract_subnet(supernet, supernet.space.smallest)]
    for copied in copies:
        assert not any(isinstance(module, Recomputed) for module in copied.modules())


# what is swapped, and back


def test_classes_are_put_back_also_after_an_error() -> None:
    model = tiny_resnet()
    before = [type(module) for module in model.modules()]

    def look_and_fail() -> None:
        inside = [type(module) for module in model.modules()]
        assert inside != before
        assert [kind.__name__ for kind in inside] == [kind.__name__ for kind in before]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), recomputed(model):
        look_and_fail()
    assert [type(module) for module in model.modules()] == before


def test_a_supernet_released_inside_stays_released() -> None:
    model, inputs = tiny_convnext(), torch.rand(2, 3, 32, 32)
    before = [type(module) for module in model.modules()]
    supernet = build(model, (inputs,))
    assert any(type(block) not in before for block in blocks(model).values())  # elastic themselves
    with recomputed(model):
        supernet.release()
    assert [type(module) for module in model.modules()] == before


def test_blocks_of_known_networks() -> None:
    models = torchvision.models
    resnet = blocks(models.resnet18())
    assert list(resnet) == [f"layer{i}.{j}" for i in (1, 2, 3, 4) for j in (0, 1)]
    transformer = blocks(
        models.VisionTransformer(
            image_size=16, patch_size=8, num_layers=2, num_heads=1, hidden_dim=4, mlp_dim=4
        )
    )
    assert list(transformer) == ["encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1"]
    dense = blocks(models.DenseNet(growth_rate=2, block_config=(2, 1), num_init_features=4, bn_size=1))
    assert list(dense) == [
        *(f"features.denseblock1.denselayer{i}" for i in (1, 2)),
        "features.transition1",
    ]
    swin = blocks(
        models.SwinTransformer(
            patch_size=[4, 4], embed_dim=4, depths=[2, 1], num_heads=[1, 1], window_size=[2, 2]
        )
    )
    assert list(swin) == ["features.0", "features.1.0", "features.1.1", "features.2", "features.3"]
    google = blocks(models.GoogLeNet(num_classes=2, aux_logits=False, init_weights=False))
    assert [name for name, block in google.items() if type(block).__name__ == "Inception"] == [
        f"inception{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    ]


def test_no_block_holds_another() -> None:
    for make, _ in NETWORKS.values():
        names = list(blocks(make()))
        assert names
        assert not any(a.startswith(f"{b}.") for a in names for b in names)


def test_a_network_without_blocks_is_refused() -> None:
    flat = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"^recompute: .*no blocks"), recomputed(flat):
        pass
    with recomputed(flat, False):
        pass
    in_a_dict = nn.ModuleDict({"model": flat, "matrices": nn.ParameterDict({"5": torch.ones(2, 2)})})
    assert blocks(in_a_dict) == {}


def test_a_block_that_changes_its_input_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(2, 2, 1), Changing())
    with (
        recomputed(model),
        pytest.raises(ModelError, match=r"^recompute: a Changing block changes its input"),
    ):
        model(torch.rand(1, 2, 3, 3))
