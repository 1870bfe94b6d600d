from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oracles
import pytest
import torch
from elastic_networks import IMAGES, Cat, Gate, build, tiny_resnet
from safetensors.torch import save_file
from torch import Tensor, nn

from bnas.errors import ConfigError
from bnas.graph import trace
from bnas.space import Choice, SearchSpace
from bnas.supernet import IMPORTANCE, Supernet, reorder_channels


def batches() -> Iterator[tuple[Any, Callable[[Any], Tensor]]]:
    for _ in range(2):
        yield IMAGES, lambda outputs: outputs.square().mean()


def none() -> Iterator[tuple[Any, Callable[[Any], Tensor]]]:
    raise AssertionError("this measure needs no batches")


@pytest.mark.parametrize("importance", sorted(IMPORTANCE))
def test_every_importance_keeps_the_output(importance: str) -> None:
    supernet = build(tiny_resnet())
    oracles.check_reordering(supernet, IMAGES, importance, batches)
    assert all(parameter.grad is None for parameter in supernet.model.parameters())


def test_reordering_puts_the_heaviest_first() -> None:
    supernet = build(tiny_resnet())
    reorder_channels(supernet, "l1")
    weight = supernet.model.get_submodule("layer2.0.conv1").weight
    norms = weight.detach().abs().sum((1, 2, 3))
    assert torch.all(norms[:-1] >= norms[1:] - 1e-6)
    assert float(norms[0]) > float(norms[-1])


def pair() -> Supernet:
    """Two linear layers without activation, whose values are chosen by hand."""
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.Linear(4, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [2.0, -2.0], [0.0, -3.0], [0.5, 0.5]]))
        model[1].weight.copy_(torch.tensor([[10.0, 0.1, 1.0, 0.0]]))
    return build(model, (torch.ones(2, 2),), width_multiple=1, width_min=1)


@pytest.mark.parametrize(
    ("importance", "scores"),
    [
        ("l1", [1.0, 4.0, 3.0, 1.0]),
        ("l2", [1.0, 8.0**0.5, 3.0, 0.5**0.5]),
        # L = y for x = (1, 1), (3, 0): ∂L/∂w = out × x, so |w ∂L/∂w| is |w·x| taken weight by weight × out
        ("taylor", [10 * (1 + 3), 0.1 * (4 + 6), 1.0 * 3, 0.0]),
        # outputs for (1, 1) and (3, 0): (1, 0, -3, 1) and (3, 6, 0, 1.5)
        ("activation", [2.0, 3.0, 1.5, 1.25]),
    ],
)
def test_scores_by_hand(importance: str, scores: list[float]) -> None:
    def two() -> Iterator[tuple[Any, Callable[[Any], Tensor]]]:
        for x in ([1.0, 1.0], [3.0, 0.0]):
            yield (torch.tensor([x]),), lambda outputs: outputs.sum()

    runs = importance in ("taylor", "activation")
    found = IMPORTANCE[importance](pair(), two if runs else none)["0"]
    assert found.tolist() == pytest.approx(scores)


def test_bn_scale_is_the_size_of_gamma() -> None:
    model = Cat()
    with torch.no_grad():
        model.norm.weight.copy_(torch.arange(-16.0, 16.0))
    supernet = build(model)
    assert IMPORTANCE["bn_scale"](supernet, none)["norm"].tolist() == [abs(i) for i in range(-16, 16)]
    reorder_channels(supernet, "bn_scale")
    assert model.norm.weight.tolist() == [float(i) for i in (*range(-16, 0), *range(15, -1, -1))]


@pytest.mark.parametrize("suffix", ["json", "safetensors"])
def test_scores_from_a_file(suffix: str, tmp_path: Path) -> None:
    supernet = pair()
    before = supernet.model[0].weight.detach().clone()
    path = tmp_path / f"scores.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps({"0": [0.1, 3, 0.2, 5]}))
    else:
        save_file({"0": torch.tensor([0.1, 3.0, 0.2, 5.0])}, path)
    expected = oracles.run(supernet, (torch.ones(1, 2),))
    reorder_channels(supernet, str(path))
    assert torch.equal(supernet.model[0].weight, before[[3, 1, 2, 0]])
    assert torch.allclose(oracles.run(supernet, (torch.ones(1, 2),)), expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"o": [1, 2, 3, 4]}', r"no layer 'o'.*known: 0, 1"),
        ('{"0": [1, 2, 3]}', r"0 has 4 output channels, got scores of shape \[3\]"),
        ('{"0": ["a"]}', "cannot be read as scores"),
        ("[1]", "cannot be read as scores"),
        ("{", "cannot be read as scores"),
    ],
)
def test_a_file_that_does_not_fit(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(content)
    supernet = pair()
    before = supernet.model[0].weight.clone()
    with pytest.raises(ConfigError, match=message):
        reorder_channels(supernet, str(tmp_path / "s.json"))
    assert torch.equal(supernet.model[0].weight, before)


def test_refusals() -> None:
    supernet = pair()
    with pytest.raises(ConfigError, match="no such measure 'bn_scal'; did you mean 'bn_scale'"):
        reorder_channels(supernet, "bn_scal")
    with pytest.raises(ConfigError, match="'taylor' runs the model; give batches"):
        reorder_channels(supernet, "taylor")
    with pytest.raises(ConfigError, match="cannot be read as scores"):
        reorder_channels(supernet, "nowhere.json")


def test_bare_parameters_move_along() -> None:
    model = Gate().eval()
    supernet = build(model)
    scale, weight = model.scale.detach().clone(), model.first.weight.detach().clone()
    order = torch.argsort(weight.abs().sum((1, 2, 3)), descending=True, stable=True)
    oracles.check_reordering(supernet, IMAGES)
    assert torch.equal(model.first.weight, weight[order])
    assert torch.equal(model.scale, scale[order])


def test_transposed_convolutions_have_their_outputs_on_the_second_axis() -> None:
    model = nn.Sequential(nn.ConvTranspose2d(1, 16, 3), nn.Conv2d(16, 2, 1)).eval()
    supernet = build(model)
    with torch.no_grad():
        model[0].weight.copy_(torch.rand(16)[:, None, None].expand(1, 16, 3, 3))
    assert torch.allclose(
        IMPORTANCE["l1"](supernet, none)["0"], model[0].weight.detach().abs().sum((0, 2, 3))
    )
    oracles.check_reordering(supernet, IMAGES)
    weight = model[0].weight.detach()[0, :, 0, 0]
    assert torch.equal(weight, weight.sort(descending=True).values)


def test_groups_of_one_choice_are_sorted_alike() -> None:
    """One may stand in for the other: channel 3 of the one stays beside channel 3 of the other."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 2, 1)).eval()
    graph = trace(model, IMAGES)
    choice = Choice(name="both.width", dim="width", values=(8, 16), targets=("0", "1"))
    supernet = Supernet(model, graph, SearchSpace(choices=(choice,)))
    bias = [model[index].bias.detach().clone() for index in (0, 1)]
    oracles.check_reordering(supernet, IMAGES)
    orders = [[int((old == new).nonzero()) for new in model[i].bias.detach()] for i, old in enumerate(bias)]
    assert orders[0] == orders[1] != list(range(16))
