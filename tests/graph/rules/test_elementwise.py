"""Element by element: channels that meet become the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import conv, facts, free, groups, layers, parameter, weights, why
from torch import Tensor, nn
from torch.nn import functional as F


@pytest.mark.parametrize(
    "use",
    [
        F.relu, F.hardswish, F.gelu, F.leaky_relu, F.softplus, torch.sigmoid, torch.tanh, torch.abs,
        lambda x: F.relu(x, inplace=True),
        lambda x: F.dropout(x, 0.5, training=False),
        lambda x: x.clone().contiguous().float().detach(),
        lambda x: -x, lambda x: x**2, lambda x: 1 / (x + 9), lambda x: x.clamp(-1, 1), lambda x: x * torch.ones(()),
        lambda x: x.masked_fill(x > 0, 0.0), lambda x: torch.where(x > 0, x, 0.1 * x),
        lambda x: x + torch.zeros_like(x), lambda x: x + torch.full((1, 1, 8, 8), 0.5),
        lambda x: torch.lerp(x, x.exp(), 0.5), lambda x: torch.addcmul(x, x, x, value=0.5),
        lambda x: x + x.new_zeros(x.shape), lambda x: x + torch.zeros(x.size(0), x.size(1), 1, 1),
    ],
)  # fmt: skip
def test_handed_on(use: Callable[[Tensor], Tensor]) -> None:
    graph = facts(lambda m, x: m.b(use(m.a(x))), a=conv(3, 8), b=conv(8, 4))
    assert groups(graph) == {"a": "8", "b": "4 ! is an output of the model"}
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}


def test_sum_unites_and_the_first_names_the_group() -> None:
    graph = facts(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 8), b=conv(3, 8), c=conv(8, 4))
    assert groups(graph) == {"a": "8", "c": "4 ! is an output of the model"}
    assert layers(graph) == {"a": "3 → a:8", "b": "3 → a:8", "c": "a:8 → c:4"}


def add_in_place(x: Tensor, y: Tensor) -> Tensor:
    x += y
    return x


@pytest.mark.parametrize(
    "use",
    [
        add_in_place, torch.mul, torch.maximum, torch.true_divide, torch.atan2,
        lambda x, y: x.copy_(y),
        lambda x, y: torch.where(x > y, x, 0.0),
        lambda x, y: torch.clamp(x, min=y),
        lambda x, y: x.masked_fill(y > 0, 1.0),
        lambda x, y: torch.add(x, y, out=torch.empty_like(x)),
        lambda x, y: torch.broadcast_tensors(x, y)[1],
    ],
)  # fmt: skip
def test_united(use: Callable[[Tensor, Tensor], Tensor]) -> None:
    graph = facts(lambda m, x: m.c(use(m.a(x), m.b(x))), a=conv(3, 8), b=conv(3, 8), c=conv(8, 4))
    assert free(graph) == {"a": "8"}
    assert layers(graph)["b"] == "3 → a:8"


def test_squeeze_and_excitation() -> None:
    graph = facts(
        lambda m, x: m.out(m.a(x) * torch.sigmoid(m.up(F.relu(m.down(m.a(x).mean((2, 3), keepdim=True)))))),
        a=conv(3, 8), down=nn.Conv2d(8, 2, 1), up=nn.Conv2d(2, 8, 1), out=conv(8, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "8", "down": "2"}
    assert layers(graph)["up"] == "down:2 → a:8"


def test_one_map_for_all_channels_is_broadcast() -> None:
    graph = facts(
        lambda m, x: m.out(m.a(x) * torch.sigmoid(m.map(m.a(x)))),
        a=conv(3, 8),
        map=conv(8, 1),
        out=conv(8, 4),
    )
    assert free(graph) == {"a": "8"}
    assert layers(graph)["map"] == "a:8 → 1"


def test_layer_scale() -> None:
    graph = facts(
        lambda m, x: m.out(m.a(x) + m.scale * m.b(m.a(x))),
        a=conv(3, 8), b=conv(8, 8), scale=parameter(8, 1, 1), out=conv(8, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "8"}
    assert weights(graph, "scale") == {"scale": ["a:8", "1", "1"]}


def test_parameters_in_lists_and_dicts() -> None:
    graph = facts(
        lambda m, x: m.b(m.a(x) * m.scales[0][:, None, None] + m.shifts["one"].view(-1, 1, 1)),
        a=conv(3, 8), b=conv(8, 4),
        scales=nn.ParameterList([parameter(8)]), shifts=nn.ParameterDict({"one": parameter(8)}),
    )  # fmt: skip
    assert free(graph) == {"a": "8"}
    assert weights(graph, "scales.0", "shifts.one") == {"scales.0": ["a:8"], "shifts.one": ["a:8"]}


def test_a_buffer_follows_too() -> None:
    model = nn.Module()
    model.register_buffer("mean", torch.randn(8, 1, 1))
    graph = facts(lambda m, x: m.b(m.a(x) - m.held.mean), a=conv(3, 8), b=conv(8, 4), held=model)
    assert weights(graph, "held.mean") == {"held.mean": ["a:8", "1", "1"]}
    assert not graph.weight_by_name["held.mean"].trainable


def test_constants_freeze() -> None:
    graph = facts(lambda m, x: m.b(m.a(x) + torch.ones(1, 8, 1, 1)), a=conv(3, 8), b=conv(8, 4))
    assert why(graph, "a") == "meets an axis of fixed size in add in the model"


def test_the_input_freezes() -> None:
    graph = facts(lambda m, x: m.b(m.a(x) + x), 2, 8, 8, 8, a=conv(8, 8), b=conv(8, 4))
    assert why(graph, "a") == "meets an axis of fixed size in add in the model"


def test_a_function_without_a_rule_freezes() -> None:
    graph = facts(lambda m, x: m.b(torch.sinc(m.a(x))), a=conv(3, 8), b=conv(8, 4))
    assert why(graph, "a") == "passes through sinc, which has no rule, in the model"


def test_what_leaves_torch_freezes() -> None:
    graph = facts(lambda m, x: m.b(torch.tensor(m.a(x).tolist())), a=conv(3, 8), b=conv(8, 4))
    assert why(graph, "a") == "leaves torch in the model"


def test_a_rule_that_cannot_follow_a_call_freezes(monkeypatch: pytest.MonkeyPatch) -> None:
    from bnas.graph.rules import FUNCTION_RULES

    def fails(trace: object, call: object) -> None:
        raise IndexError("too far")

    monkeypatch.setitem(FUNCTION_RULES, "sigmoid", fails)
    graph = facts(lambda m, x: m.b(m.a(x).sigmoid()), a=conv(3, 8), b=conv(8, 4))
    assert (
        why(graph, "a") == "is more than the rule for sigmoid can follow (IndexError('too far')) in the model"
    )


def test_where_of_a_condition_alone() -> None:
    """It says where the condition holds: as many rows as there are such places."""
    graph = facts(lambda m, x: (m.b(m.a(x)), torch.where(m.a(x) > 9)[0]), a=conv(3, 8), b=conv(8, 4))
    assert why(graph, "a") == "passes through where, which has no rule, in the model"


def test_a_function_of_autograd_is_followed_into() -> None:
    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

    graph = facts(lambda m, x: m.b(Swish.apply(m.a(x))), a=conv(3, 8), b=conv(8, 4))
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}
