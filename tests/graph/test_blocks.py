"""Blocks that may be skipped, and their stages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import Net, conv, facts, parameter
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.graph import Block, ChannelGraph


class Own(nn.Module):
    """A block of a 3×3 convolution and a forward of x and what the convolution makes of it."""

    def __init__(self, width: int, forward: Callable[..., Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = layer or conv(width, width)
        self._forward = forward

    def forward(self, x: Tensor, *others: Tensor, **named: Tensor) -> Tensor:
        return self._forward(x, self.conv(x), *others, **named)


def residual() -> Own:
    return Own(8, lambda x, y: F.relu(x + y))


def around(*blocks: nn.Module) -> ChannelGraph:
    """The facts of 3 → 8 channels, the blocks in `s`, 8 → 4 channels."""
    return facts(
        lambda m, x: m.last(m.s(m.first(x))), first=conv(3, 8), s=nn.Sequential(*blocks), last=conv(8, 4)
    )


def names(graph: ChannelGraph, kind: str) -> list[str]:
    return [block.name for block in graph.blocks if block.kind == kind]


def add_in_place(x: Tensor, y: Tensor) -> Tensor:
    y += x
    return F.relu(y, inplace=True)


def written_over(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, :, 0] = 0
    return x + y


@pytest.mark.parametrize(
    ("forward", "skippable"),
    [
        (lambda x, y: F.relu(x + y), True),
        (add_in_place, True),
        (lambda x, y: torch.add(y, x), True),
        (lambda x, y: x + y + x.mean((2, 3), keepdim=True), True),
        (lambda x, y: F.dropout(x, 0.1, training=False).contiguous() + y, True),
        (lambda x, y: (x + y).clone().detach(), True),
        (lambda x, y: (x.transpose(1, 2) + y.transpose(1, 2)).transpose(1, 2), True),
        (lambda x, y: (x.flatten(2) + y.flatten(2)).view_as(y), True),
        (lambda x, y: x.transpose(2, 3) + y, False),
        (lambda x, y: torch.add(y, x, alpha=2), False),
        (lambda x, y: x - y, False),
        (lambda x, y: x * y, False),
        (lambda x, y: F.relu(x) + y, False),
        (lambda x, y: y, False),
        (lambda x, y: (x + y) * 2, False),
        (written_over, False),
        (lambda x, y: x.mean((2, 3), keepdim=True) + y, False),
    ],
)
def test_a_residual_block_adds_its_very_input(
    forward: Callable[[Tensor, Tensor], Tensor], skippable: bool
) -> None:
    graph = around(Own(8, forward))
    assert names(graph, "residual") == (["s.0"] if skippable else [])
    if skippable:
        assert graph.block_by_name["s.0"] == Block(name="s.0", stage="s", type="Own")


def test_stages_are_runs_of_neighbours() -> None:
    graph = facts(
        lambda m, x: m.out(m.two(m.between(m.one(m.first(x))))),
        first=conv(3, 8), one=nn.Sequential(residual(), residual(), residual()), between=conv(8, 8),
        two=nn.Sequential(conv(8, 8), residual(), residual(), nn.ReLU(), residual()), out=conv(8, 4),
    )  # fmt: skip
    assert graph.stages == {
        "one": ("one.0", "one.1", "one.2"),
        "two.1": ("two.1", "two.2"),  # two runs in one parent: named after their first blocks
        "two.4": ("two.4",),
    }


def test_the_innermost_blocks_are_skipped() -> None:
    """A residual block around two residual blocks."""
    inner = nn.Sequential(residual(), residual())
    graph = around(Own(8, lambda x, y: x + y, inner))
    assert names(graph, "residual") == ["s.0.conv.0", "s.0.conv.1"]


def test_blocks_of_a_list_may_take_further_arguments() -> None:
    """Without one, its first input stands in for its output. Code that calls a block by name may need it."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        scale, x = x.std(), m.first(x)
        for block in m.s:
            x = block(x, scale, shift=scale)
        return m.last(m.b(x, scale, shift=scale))

    def block() -> nn.Module:
        return Own(8, lambda x, y, scale, shift: x + scale * y + shift)

    s = nn.ModuleList([block(), block()])
    graph = facts(forward, first=conv(3, 8), s=s, b=block(), last=conv(8, 4))
    assert [block for block in graph.blocks if block.type == "Own"] == [
        Block(name="s.0", stage="s", type="Own", listed=True),
        Block(name="s.1", stage="s", type="Own", listed=True),
    ]


def test_a_block_that_is_called_twice_is_only_preserving() -> None:
    """What is around both calls adds its very input, through both."""
    block = residual()
    graph = around(block, nn.ReLU(), block)
    assert names(graph, "residual") == ["s"]
    assert graph.block_by_name["s.0"] == Block(name="s.0", stage="s", kind="preserving", type="Own")


def test_a_shared_layer_that_is_a_block_once_only_by_its_input() -> None:
    """Called on x and on something else; what is added is the first input each time."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.first(x)
        return m.last(m.b(x, x) + m.b(F.relu(x), x))

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(8, 8)

        def forward(self, x: Tensor, other: Tensor) -> Tensor:
            return self.conv(x) + other

    graph = facts(forward, first=conv(3, 8), b=Two(), last=conv(8, 4))
    assert names(graph, "residual") == []


def test_preserving_layers_and_their_ties() -> None:
    """Convolutions 8 → 8 can be left out where both widths are one."""
    graph = around(conv(8, 8), nn.ReLU(), conv(8, 8), conv(8, 6), conv(6, 8))
    assert [(b.name, b.stage, b.type, b.ties) for b in graph.blocks] == [
        ("s.0", "s.0", "Conv2d", (("first", "s.0"),)),
        ("s.2", "s.2", "Conv2d", (("s.0", "s.2"),)),
        ("s", "s", "Sequential", (("first", "s.4"),)),
    ]  # fmt: skip


def test_a_plain_stack_is_one_stage() -> None:
    """What holds all of its blocks is a stage of its own, of another name."""
    graph = around(*(nn.Sequential(conv(8, 8), nn.ReLU()) for _ in range(3)))
    assert graph.preserving_stages["s"] == ("s.0", "s.1", "s.2")
    assert graph.block_by_name["s.1"].ties == (("s.0.0", "s.1.0"),)
    assert graph.preserving_stages["s.whole"] == ("s",)


def test_norms_and_layers_that_change_the_shape_are_no_blocks() -> None:
    graph = around(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.Sequential(nn.ReLU()))
    assert graph.blocks == ()


def test_a_fixed_width_cannot_stand_in_for_an_elastic_one() -> None:
    """x + constant fixes the width before the convolution; that after it stays elastic."""
    graph = facts(
        lambda m, x: m.last(m.b(m.first(x) + torch.ones(1, 8, 1, 1))),
        first=conv(3, 8),
        b=conv(8, 8),
        last=conv(8, 4),
    )
    assert graph.blocks == ()


def partition(x: Tensor, side: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, c, h // side, side, w // side, side)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, side * side, c)


def departition(x: Tensor, side: int, h: int, w: int) -> Tensor:
    n, _, _, c = x.shape
    x = x.view(n, h // side, w // side, side, side, c)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w)


class Windowed(nn.Module):
    """Adds to windows of the input, and puts them back (MaxViT, Tu et al. 2022)."""

    def __init__(self, side_back: int = 4) -> None:
        super().__init__()
        self.mlp, self.side_back = nn.Linear(8, 8), side_back

    def forward(self, x: Tensor) -> Tensor:
        y = partition(x, 4)
        y = y + self.mlp(y)
        return departition(y.reshape(len(x), -1, self.side_back**2, 8), self.side_back, 8, 8)


def test_windows_put_back_are_the_very_input() -> None:
    assert names(around_frozen(Windowed()), "residual") == ["s.0"]


def test_windows_put_back_elsewhere_are_not() -> None:
    assert names(around_frozen(Windowed(side_back=2)), "residual") == []


def around_frozen(*blocks: nn.Module) -> ChannelGraph:
    """As `around`, with 8 channels for good, as the blocks have the number in their Python."""
    return facts(
        lambda m, x: m.last(m.s(m.first(x) + torch.ones(8, 1, 1))),
        first=conv(3, 8), s=nn.Sequential(*blocks), last=conv(8, 4),
    )  # fmt: skip


def test_a_chain_that_goes_on_in_windows_is_one_stage() -> None:
    """Between the blocks the value is only rearranged."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.s[0](m.first(x).flatten(2).transpose(1, 2))
        return m.last(m.s[1](x.unflatten(1, (4, 16))).flatten(0, -2).mean(0))

    blocks = nn.Sequential(*(Own(8, lambda x, y: x + y, nn.Linear(8, 8)) for _ in range(2)))
    graph = facts(forward, first=conv(3, 8), s=blocks, last=nn.Linear(8, 4))
    assert graph.stages == {"s": ("s.0", "s.1")}


def test_residual_blocks_have_the_reach_of_layer_scale_and_stochastic_depth() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mlp, self.scale = nn.LayerNorm(8), nn.Linear(8, 8), parameter(8)

        def forward(self, x: Tensor) -> Tensor:
            keep = torch.ones(len(x), 1, 1).bernoulli(0.9)
            return x + self.scale * self.mlp(self.norm(x)) * keep.div(0.9).clamp(1, 1)

    graph = facts(
        lambda m, x: m.last(m.s(m.first(x))), 2, 5, 6,
        first=nn.Linear(6, 8), s=nn.Sequential(Scaled(), Scaled()), last=nn.Linear(8, 4),
    )  # fmt: skip
    assert graph.stages == {"s": ("s.0", "s.1")}


def test_what_only_hands_on_is_no_block() -> None:
    net = Net(lambda m, x: m.last(m.same(m.first(x))), first=conv(3, 8), last=conv(8, 4), same=Same())
    from bnas.graph import trace

    assert trace(net, (torch.randn(1, 3, 8, 8),)).blocks == ()


class Same(nn.Module):
    """Has a parameter that it does not use."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = parameter(3)

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous()
