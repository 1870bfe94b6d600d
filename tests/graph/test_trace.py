"""Facts of small nets, each written down by hand from the net's definition."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.errors import ModelError
from bnas.graph import ChannelGraph, Segment, trace


class Net(nn.Module):
    """Layers by name, and a forward given as a function of them."""

    def __init__(self, forward: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self._forward = forward

    def forward(self, *inputs: Tensor) -> object:
        return self._forward(self, *inputs)


def facts(forward: Callable[..., object], *shape: int, **layers: nn.Module) -> ChannelGraph:
    return trace(Net(forward, **layers), (torch.randn(*(shape or (2, 3, 8, 8))),))


def reads(graph: ChannelGraph, layer: str) -> list[tuple[str | None, int, int]]:
    return [(segment.group, segment.units, segment.repeat) for segment in graph.layer_by_name[layer].reads]


def conv(inputs: int, outputs: int, **options: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def test_chain() -> None:
    graph = facts(
        lambda m, x: m.b(F.relu(m.norm(m.a(x)))), a=conv(3, 8), norm=nn.BatchNorm2d(8), b=conv(8, 4)
    )
    assert [(g.name, g.units, g.free) for g in graph.groups] == [("a", 8, True), ("b", 4, False)]
    assert graph.group_by_name["b"].why == ("is an output of the model",)
    assert reads(graph, "a") == [(None, 3, 1)]
    assert reads(graph, "norm") == reads(graph, "b") == [("a", 8, 1)]
    assert graph.layer_by_name["a"].positions == 64
    assert graph.layer_by_name["a"].kernel == (3, 3)


def test_sum_unites_and_the_first_names_the_group() -> None:
    graph = facts(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(3, 8), b=conv(3, 8), c=conv(8, 4))
    assert [g.name for g in graph.groups] == ["a", "c"]
    assert graph.layer_by_name["b"].writes == (Segment(group="a", units=8),)


def test_cat_is_a_sequence() -> None:
    graph = facts(
        lambda m, x: m.c(torch.cat([m.a(x), x, m.b(x)], 1)), a=conv(3, 8), b=conv(3, 6), c=conv(17, 4)
    )
    assert reads(graph, "c") == [("a", 8, 1), (None, 3, 1), ("b", 6, 1)]


def test_cat_added_to_a_whole_layer_freezes_both() -> None:
    """One layer of 8 channels cannot follow two groups of 4 of its own."""
    graph = facts(
        lambda m, x: m.d(torch.cat([m.a(x), m.b(x)], 1) + m.c(x)),
        a=conv(3, 4), b=conv(3, 4), c=conv(3, 8), d=conv(8, 4),
    )  # fmt: skip
    assert [g.name for g in graph.groups if g.free] == []
    assert "meets channels of another layout" in graph.group_by_name["a"].why[0]


def test_flatten_repeats_each_channel() -> None:
    graph = facts(
        lambda m, x: m.fc(torch.flatten(F.max_pool2d(m.a(x), 2), 1)), a=conv(3, 8), fc=nn.Linear(8 * 16, 5)
    )
    assert reads(graph, "fc") == [("a", 8, 16)]


@pytest.mark.parametrize(
    "pooled",
    [
        lambda x: x.mean((2, 3)),
        lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1),
        lambda x: x.mean(-1).mean(-1),
        lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
        lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
        lambda x: x.amax((2, 3), keepdim=True)[:, :, 0, 0],
        lambda x: x.transpose(1, 3).sum((1, 2)),
    ],
)
def test_pooling_keeps_channels(pooled: Callable[[Tensor], Tensor]) -> None:
    graph = facts(lambda m, x: m.fc(pooled(m.a(x))), a=conv(3, 8), fc=nn.Linear(8, 5))
    assert reads(graph, "fc") == [("a", 8, 1)]
    assert graph.group_by_name["a"].free


def test_depthwise_hands_channels_on() -> None:
    graph = facts(lambda m, x: m.c(m.dw(m.a(x))), a=conv(3, 8), dw=conv(8, 16, groups=8), c=conv(16, 4))
    assert reads(graph, "c") == [("a", 8, 2)]
    assert [g.name for g in graph.groups] == ["a", "c"]


def test_grouped_convolution_keeps_whole_groups() -> None:
    """conv(12 → 6, groups=3): 4 input channels and 2 output channels go together."""
    graph = facts(
        lambda m, x: m.c(m.grouped(m.a(x))), a=conv(3, 12), grouped=conv(12, 6, groups=3), c=conv(6, 4)
    )
    group = graph.group_by_name["a"]
    assert (group.units, group.channels_per_unit, group.channels, group.free) == (3, 4, 12, True)
    assert reads(graph, "grouped") == [("a", 3, 4)]
    assert reads(graph, "c") == [("a", 3, 2)]


def test_grouped_convolution_over_a_cat_that_does_not_divide() -> None:
    graph = facts(
        lambda m, x: m.grouped(torch.cat([m.a(x), m.b(x)], 1)),
        a=conv(3, 5), b=conv(3, 7), grouped=conv(12, 6, groups=3),
    )  # fmt: skip
    assert "do not divide into the groups of grouped" in graph.group_by_name["a"].why[0]


def test_squeeze_and_excitation() -> None:
    graph = facts(
        lambda m, x: m.out(m.a(x) * torch.sigmoid(m.up(F.relu(m.down(m.a(x).mean((2, 3), keepdim=True)))))),
        a=conv(3, 8), down=nn.Conv2d(8, 2, 1), up=nn.Conv2d(2, 8, 1), out=conv(8, 4),
    )  # fmt: skip
    assert [(g.name, g.units) for g in graph.groups] == [("a", 8), ("down", 2), ("out", 4)]
    assert graph.layer_by_name["up"].writes == (Segment(group="a", units=8),)


def test_shared_layer_reads_one_group_and_counts_its_calls() -> None:
    graph = facts(
        lambda m, x: (m.shared(m.a(x)), m.shared(m.b(x))[:, :, ::2]),
        a=conv(3, 8),
        b=conv(3, 8),
        shared=conv(8, 4),
    )
    assert reads(graph, "b") == [(None, 3, 1)]
    assert graph.layer_by_name["b"].writes == (Segment(group="a", units=8),)
    assert graph.layer_by_name["shared"].positions == 128


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda x: x.cumsum(1), "cumsum, which has no rule"),
        (lambda x: x[:, :4], "is cut by getitem"),
        (lambda x: x.reshape(2, 2, 4, 8, 8), "is split over several axes by reshape"),
        (lambda x: x.softmax(1), "passes through softmax"),
        (lambda x: x.mean(1), "is reduced by mean"),
        (lambda x: x + torch.ones(1, 8, 1, 1), "meets an axis of fixed size in add"),
        (lambda x: x[:, torch.arange(8)], "is indexed by a tensor"),
        (lambda x: F.pad(x, (0, 0, 0, 0, 2, 2)), "is padded"),
        (lambda x: x.chunk(2, 1), "is cut by chunk"),
        (lambda x: F.linear(x, torch.ones(3, 8)), "meets weights that no plain layer owns"),
    ],
)
def test_what_is_not_understood_is_frozen_with_its_reason(
    use: Callable[[Tensor], object], reason: str
) -> None:
    graph = facts(lambda m, x: use(m.a(x).transpose(1, 3) if "weights" in reason else m.a(x)), a=conv(3, 8))
    assert any(reason in why for why in graph.group_by_name["a"].why), graph.group_by_name["a"].why


def test_a_parameter_of_two_modules_is_no_layer() -> None:
    a, b = conv(8, 8), conv(8, 8)
    b.weight = a.weight
    graph = facts(lambda m, x: m.b(m.a(m.first(x))), first=conv(3, 8), a=a, b=b)
    assert set(graph.layer_by_name) == {"first"}
    assert not graph.group_by_name["first"].free


class Residual(nn.Module):
    def __init__(self, width: int, forward: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = conv(width, width)
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(x, self.conv(x))


def in_place(x: Tensor, y: Tensor) -> Tensor:
    y += x
    return F.relu(y, inplace=True)


@pytest.mark.parametrize(
    ("forward", "skippable"),
    [
        (lambda x, y: F.relu(x + y), True),
        (in_place, True),
        (lambda x, y: torch.add(y, x), True),
        (lambda x, y: torch.add(y, x, alpha=2), False),
        (lambda x, y: x - y, False),
        (lambda x, y: x * y, False),
        (lambda x, y: F.relu(x) + y, False),
        (lambda x, y: y, False),
        (lambda x, y: (x + y) * 2, False),
    ],
)
def test_a_block_adds_its_very_input(forward: Callable[[Tensor, Tensor], Tensor], skippable: bool) -> None:
    graph = facts(
        lambda m, x: m.last(m.block(m.first(x))),
        first=conv(3, 8),
        block=Residual(8, forward),
        last=conv(8, 4),
    )
    assert [block.name for block in graph.blocks] == (["block"] if skippable else [])


def test_stages_are_runs_of_neighbours() -> None:
    def block() -> Residual:
        return Residual(8, lambda x, y: F.relu(x + y))

    graph = facts(
        lambda m, x: m.out(m.two(m.between(m.one(m.first(x))))),
        first=conv(3, 8), one=nn.Sequential(block(), block(), block()), between=conv(8, 8),
        two=nn.Sequential(conv(8, 8), block(), block(), nn.ReLU(), block()), out=conv(8, 4),
    )  # fmt: skip
    assert graph.stages == {
        "one": ("one.0", "one.1", "one.2"),
        "two.1": ("two.1", "two.2"),  # two runs in one parent: named after their first blocks
        "two.4": ("two.4",),
    }


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU())
    model[1].eval()
    x = torch.randn(2, 3, 8, 8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, (x,))
    assert model.training
    assert not model[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(vars(tensor) for tensor in (*model.parameters(), *model.buffers(), x))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_model_that_does_not_run() -> None:
    with pytest.raises(
        ModelError, match=r"Sequential does not run on inputs of shape \[2, 1, 8, 8\]: Given groups"
    ):
        trace(nn.Sequential(conv(3, 8)), (torch.randn(2, 1, 8, 8),))
