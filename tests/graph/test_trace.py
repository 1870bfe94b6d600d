"""Running a model for its facts: inputs, outputs, resolutions, and how it is left."""

from __future__ import annotations

import copy
from collections import namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from nets import Net, checked, conv, free, groups, layers, why
from torch import Tensor, nn

from bnas.errors import ModelError, SpaceError
from bnas.graph import ChannelGraph, Resolution, at_resolutions, trace
from bnas.graph.trace import resized_inputs

IMAGES = torch.randn(2, 3, 8, 8)
Pair = namedtuple("Pair", ["image", "row"])


def two(forward: Any) -> nn.Module:
    return Net(forward, a=conv(3, 8), b=conv(8, 4), row=nn.Linear(6, 8))


@pytest.mark.parametrize(
    ("forward", "inputs"),
    [
        (lambda m, x, y: m.b(m.a(x) + m.row(y)[:, :, None, None]), (IMAGES, torch.randn(2, 6))),
        (lambda m, x, y: m.b(m.a(x) + m.row(y)[:, :, None, None]), [IMAGES, torch.randn(2, 6)]),
        (lambda m, y, x: m.b(m.a(x) + m.row(y)[:, :, None, None]), {"x": IMAGES, "y": torch.randn(2, 6)}),
        (
            lambda m, x: m.b(m.a(x[0]) + m.row(x[1]["y"])[:, :, None, None]),
            ([IMAGES, {"y": torch.randn(2, 6)}],),
        ),
        (lambda m, x: m.b(m.a(x.image) + m.row(x.row)[:, :, None, None]), (Pair(IMAGES, torch.randn(2, 6)),)),
        (
            lambda m, x, y: m.b(m.a(x) + m.row(y)[:, None, None]),
            (IMAGES, torch.randn(6)),
        ),  # no batch in common
    ],
    ids=["tuple", "list", "dict", "nested", "named tuple", "other leading sizes"],
)
def test_inputs(forward: Any, inputs: Any) -> None:
    graph = checked(two(forward), inputs)
    assert free(graph) == {"a": "8"}
    assert layers(graph) == {"a": "3 → a:8", "row": "6 → a:8", "b": "a:8 → b:4"}


def test_costs_are_of_one_item() -> None:
    graph = trace(nn.Sequential(conv(3, 8)), (torch.randn(5, 3, 8, 8),))
    assert graph.input_shapes == ((1, 3, 8, 8),)
    assert graph.layers[0].positions == 64


def test_a_model_that_takes_its_own_batch_only() -> None:
    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = conv(3, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x.view(4, 3, 8, 8))

    assert trace(Whole(), (torch.randn(4, 3, 8, 8),)).layers[0].positions == 4 * 64


@dataclass
class Found:
    boxes: Tensor
    more: dict[str, list[Tensor]]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: y, lambda y: [y], lambda y: {"y": (y, y)}, lambda y: Found(y.mean(), {"a": [y]}),
        lambda y: SimpleNamespace(y=y), lambda y: Pair(None, y), lambda y: {"loss": 0.0, "name": "y", "y": y},
    ],
    ids=["tensor", "list", "dict", "dataclass", "object", "named tuple", "mixed"],
)  # fmt: skip
def test_outputs_are_frozen_however_they_are_returned(wrap: Any) -> None:
    graph = trace(Net(lambda m, x: wrap(m.a(x)), a=conv(3, 8)), (IMAGES,))
    assert groups(graph) == {"a": "8 ! is an output of the model"}


def test_the_trace_is_the_same_for_every_input_of_one_shape() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.b(m.a(x).relu())

    model = two(forward)
    assert trace(model, (torch.zeros(1, 3, 8, 8),)) == trace(model, (torch.randn(1, 3, 8, 8),))


def by_values(m: nn.Module, x: Tensor) -> Tensor:
    y = m.a(x)
    return m.b(y * 2) if y.mean() > -1e9 else m.other(y)


def test_what_another_branch_would_read_is_frozen() -> None:
    """A branch by values: `other` did not run on the example, and may read the same channels."""
    graph = trace(Net(by_values, a=conv(3, 8), b=conv(8, 4), other=conv(8, 4)), (IMAGES,))
    assert "other, which did not run on the example" in why(graph, "a")
    assert free(graph) == {}
    assert graph.idle == ("other",)


def test_a_branch_by_values_where_everything_ran() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x)
        return m.b(y * 2 if y.mean() > 0 else y)

    assert free(trace(Net(forward, a=conv(3, 8), b=conv(8, 4)), (IMAGES,))) == {"a": "8"}


def test_what_runs_only_in_training_is_seen_too() -> None:
    def forward(m: nn.Module, x: Tensor) -> Any:
        y = m.a(x)
        return (m.b(y), m.auxiliary(y)) if m.training else m.b(y)

    graph = trace(Net(forward, a=conv(3, 8), b=conv(8, 4), auxiliary=conv(8, 2)), (IMAGES,))
    assert free(graph) == {"a": "8"}
    (weight,) = [weight for weight in graph.weights if weight.name == "auxiliary.weight"]
    assert [segment.group for segment in weight.axes[1]] == ["a"]


@pytest.fixture
def model() -> nn.Sequential:
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.MultiheadAttention(8, 2))
    model.forward = lambda x: model[3](*[model[2](model[1](model[0](x))).flatten(2).transpose(1, 2)] * 3)[0]
    model[1].eval()
    return model


def test_the_model_is_left_as_it_was(model: nn.Sequential) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    own = {path: set(vars(module)) for path, module in model.named_modules()}
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    trace(model, (x,))
    assert model.training
    assert not model[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {path: set(vars(module)) for path, module in model.named_modules()} == own
    assert not any(vars(tensor) for tensor in (*model.parameters(), *model.buffers(), x))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_model_that_fails_is_left_as_it_was(model: nn.Sequential) -> None:
    with pytest.raises(ModelError):
        trace(model, (torch.randn(2, 4, 8, 8),))
    assert model.training
    assert not model[1].training
    assert not any(vars(tensor) for tensor in (*model.parameters(), *model.buffers()))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert "forward" not in vars(model[3])


class Keeps(nn.Module):
    """Keeps what it computes, and the lengths it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 4)
        self.seen: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        self.seen = [y, y.shape]
        if not hasattr(self, "last"):
            self.last = torch.zeros(y.shape)
        return self.b(y + self.last)


def test_what_a_model_keeps_carries_nothing_on() -> None:
    model = Keeps()
    assert free(trace(model, (IMAGES,))) == {"a": "8"}
    assert not any(hasattr(tensor, "_bnas_mark") for tensor in (model.last, model.seen[0]))
    assert copy.deepcopy(model).seen[1] == (1, 8, 8, 8)
    assert type(copy.deepcopy(tuple(model.seen[1]))[1]) is int
    assert free(trace(model, (IMAGES,))) == {}  # `last` is a constant by now
    assert why(trace(model, (IMAGES,)), "a") == "meets an axis of fixed size in add in the model"


def test_a_model_that_does_not_run() -> None:
    with pytest.raises(
        ModelError, match=r"^Sequential does not run on inputs of shape \[2, 1, 8, 8\]: Given groups"
    ):
        trace(nn.Sequential(conv(3, 8)), (torch.randn(2, 1, 8, 8),))
    with pytest.raises(
        ModelError, match=r"^Net does not run on inputs of shape \[2, 3\], \[4\]: ValueError$"
    ):
        trace(Net(fails), {"x": torch.randn(2, 3), "y": torch.randn(4)})


def fails(m: nn.Module, **inputs: Tensor) -> Tensor:
    raise ValueError


def test_an_interrupt_is_no_error_of_the_model() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trace(Net(forward), (IMAGES,))


def test_images_of_other_sizes() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1)
    )
    graph = trace(model, (IMAGES,))
    assert at_resolutions(model, (IMAGES,), graph, (32, 8, 16, 16)).resolutions == (
        Resolution(size=8, positions=(16, 1)),
        Resolution(size=16, positions=(64, 1)),
        Resolution(size=32, positions=(256, 1)),
    )


def test_sizes_at_which_the_model_does_not_run() -> None:
    model = nn.Sequential(conv(3, 8), nn.Flatten(), nn.Linear(512, 4))
    graph = trace(model, (IMAGES,))
    with pytest.raises(
        SpaceError, match=r"^space\.resolutions: 16 pixels: Sequential does not run on inputs of shape"
    ):
        at_resolutions(model, (IMAGES,), graph, (16,))


def test_sizes_at_which_other_layers_run() -> None:
    model = Net(lambda m, x: m.b(x) if x.shape[-1] > 8 else m.a(x), a=conv(3, 4), b=conv(3, 4))
    graph: ChannelGraph = trace(model, (IMAGES,))
    with pytest.raises(SpaceError, match="at 16 pixels other layers run than at the model's own size"):
        at_resolutions(model, (IMAGES,), graph, (16,))


def test_only_images_are_resized() -> None:
    inputs = {
        "images": [torch.randn(3, 8, 8), torch.randn(2, 3, 8, 6)],
        "video": torch.randn(1, 3, 4, 8, 8),
        "ids": torch.zeros(1, 5, 7, dtype=torch.long),
        "pair": Pair(torch.randn(1, 3, 8, 8), torch.randn(2, 6)),
        "flag": True,
    }
    resized = resized_inputs(inputs, 4)
    assert [tuple(x.shape) for x in resized["images"]] == [(3, 4, 4), (2, 3, 4, 4)]
    assert resized["video"].shape == (1, 3, 4, 4, 4)
    assert resized["ids"].shape == (1, 5, 7)
    assert resized["pair"].image.shape == (1, 3, 4, 4)
    assert resized["pair"].row.shape == (2, 6)
    assert resized["flag"] is True
