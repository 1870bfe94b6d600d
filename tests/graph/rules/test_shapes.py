"""Functions that join, repeat or resample axes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import conv, facts, free, groups, layers, why
from torch import Tensor, nn
from torch.nn import functional as F


@pytest.mark.parametrize(
    "use",
    [
        lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2), lambda x: F.adaptive_avg_pool2d(x, 3),
        lambda x: F.adaptive_max_pool2d(x, 3), lambda x: F.lp_pool2d(x, 2, 2),
        lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        lambda x: F.interpolate(x, scale_factor=2), lambda x: F.interpolate(x, (5, 7), mode="bilinear"),
        lambda x: F.grid_sample(x, torch.zeros(len(x), 4, 4, 2), align_corners=False),
        lambda x: F.pad(x, (1, 2, 3, 4)), lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda x: F.pad(x, (-1, -1, 0, 0)), nn.ReplicationPad2d(1),
    ],
)  # fmt: skip
def test_spatial_axes_alone(use: Callable[[Tensor], Tensor]) -> None:
    graph = facts(lambda m, x: m.b(use(m.a(x))), a=conv(3, 8), b=conv(8, 4))
    assert free(graph) == {"a": "8"}
    assert layers(graph)["b"] == "a:8 → b:4"


@pytest.mark.parametrize(
    "use",
    [
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: F.max_pool1d(x, 2),
        lambda x: F.adaptive_avg_pool1d(x, 4),
    ],
)
def test_one_spatial_axis(use: Callable[[Tensor], Tensor]) -> None:
    graph = facts(lambda m, x: m.b(use(m.a(x))), 2, 3, 9, a=nn.Conv1d(3, 8, 3), b=nn.Conv1d(8, 4, 3))
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}


def test_cat_is_a_sequence() -> None:
    graph = facts(
        lambda m, x: m.c(torch.cat([m.a(x), x, m.b(x)], 1)), a=conv(3, 8), b=conv(3, 6), c=conv(17, 4)
    )
    assert layers(graph)["c"] == "a:8 + 3 + b:6 → c:4"


def test_cat_of_the_same_twice() -> None:
    graph = facts(lambda m, x: m.c(torch.cat([m.a(x), m.a(x)], dim=-3)), a=conv(3, 8), c=conv(16, 4))
    assert layers(graph)["c"] == "a:8 + a:8 → c:4"


def test_cat_on_another_axis_unites() -> None:
    graph = facts(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 3)), a=conv(3, 8), b=conv(3, 8), c=conv(8, 4))
    assert layers(graph) == {"a": "3 → a:8", "b": "3 → a:8", "c": "a:8 → c:4"}


def test_cat_added_to_a_whole_layer_cuts_that_in_two() -> None:
    graph = facts(
        lambda m, x: m.d(torch.cat([m.a(x), m.b(x)], 1) + m.c(x)),
        a=conv(3, 4), b=conv(3, 6), c=conv(3, 10), d=conv(10, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "4", "b": "6"}
    assert layers(graph)["c"] == "3 → a:4 + b:6"
    assert layers(graph)["d"] == "a:4 + b:6 → d:4"


def test_two_cats_of_other_sizes_that_are_added() -> None:
    """4 + 6 against 7 + 3: three pieces of 4, 3 and 3."""
    graph = facts(
        lambda m, x: m.e(torch.cat([m.a(x), m.b(x)], 1) + torch.cat([m.c(x), m.d(x)], 1)),
        a=conv(3, 4), b=conv(3, 6), c=conv(3, 7), d=conv(3, 3), e=conv(10, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "4", "b[0:3]": "3", "b[3:6]": "3"}
    assert layers(graph)["c"] == "3 → a:4 + b[0:3]:3"
    assert layers(graph)["d"] == "3 → b[3:6]:3"


def test_stack_is_a_new_axis() -> None:
    graph = facts(
        lambda m, x: m.c(torch.stack([m.a(x), m.b(x)], -1).amax(-1)), a=conv(3, 8), b=conv(3, 8), c=conv(8, 4)
    )
    assert layers(graph) == {"a": "3 → a:8", "b": "3 → a:8", "c": "a:8 → c:4"}


def test_stack_flattened_into_the_channels() -> None:
    """[n, c, 2, …] → each channel twice in a row; [n, 2, c, …] → all channels, then again."""
    for dim, reads in ((2, "a:8x2"), (1, "a:8 + a:8")):
        graph = facts(
            lambda m, x, dim=dim: m.c(torch.stack([m.a(x), m.b(x)], dim).flatten(1, 2)),
            a=conv(3, 8), b=conv(3, 8), c=conv(16, 4),
        )  # fmt: skip
        assert layers(graph)["c"] == f"{reads} → c:4"


def test_repetitions() -> None:
    graph = facts(lambda m, x: m.c(m.a(x).repeat(1, 2, 1, 1)), a=conv(3, 8), c=conv(16, 4))
    assert layers(graph)["c"] == "a:8 + a:8 → c:4"
    graph = facts(lambda m, x: m.c(m.a(x).repeat_interleave(2, dim=1)), a=conv(3, 8), c=conv(16, 4))
    assert layers(graph)["c"] == "a:8x2 → c:4"


@pytest.mark.parametrize(
    "use",
    [
        lambda x, gate: x * gate.expand_as(x),
        lambda x, gate: x * gate.expand(-1, x.shape[1], -1, -1),
        lambda x, gate: x * gate.expand(x.size()),
        lambda x, gate: x * gate.broadcast_to(x.shape),
    ],
)
def test_expanded_like_another(use: Callable[[Tensor, Tensor], Tensor]) -> None:
    graph = facts(
        lambda m, x: m.out(use(m.a(x), torch.sigmoid(m.map(m.a(x))))),
        a=conv(3, 8), map=conv(8, 1), out=conv(8, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "8"}


def test_expanded_to_a_number() -> None:
    graph = facts(
        lambda m, x: m.out(m.a(x) * m.map(x).expand(-1, 8, -1, -1)),
        a=conv(3, 8),
        map=conv(3, 1),
        out=conv(8, 4),
    )
    assert why(graph, "a") == "meets an axis of fixed size in mul in the model"


def test_padded_channels() -> None:
    """The shortcut of the ResNets for CIFAR (option A): 4 zeros before and after 8 channels."""
    graph = facts(
        lambda m, x: m.c(m.b(m.a(x)) + F.pad(m.a(x)[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))),
        a=conv(3, 8), b=nn.Conv2d(8, 16, 3, stride=2, padding=1), c=conv(16, 4),
    )  # fmt: skip
    fixed = " ! meets an axis of fixed size in add in the model"
    assert groups(graph) == {
        "a": "8",
        "b[0:4]": "4" + fixed,
        "b[12:16]": "4" + fixed,
        "c": "4 ! is an output of the model",
    }
    assert layers(graph)["b"] == "a:8 → b[0:4]:4 + a:8 + b[12:16]:4"


def test_channels_cropped_by_pad_are_frozen() -> None:
    graph = facts(lambda m, x: m.c(F.pad(m.a(x), (0, 0, 0, 0, -1, -1))), a=conv(3, 8), c=conv(6, 4))
    assert why(graph, "a") == "is cropped or mirrored by pad in the model"


def test_glu_halves() -> None:
    graph = facts(lambda m, x: m.c(F.glu(m.a(x), 1)), a=conv(3, 8), c=conv(4, 4))
    assert layers(graph) == {"a": "3 → a:4 + a:4", "c": "a:4 → c:4"}
    assert free(graph) == {"a": "4"}


def test_pixel_shuffle() -> None:
    """Four channels in a row become one of twice the height and width."""
    graph = facts(lambda m, x: m.c(F.pixel_shuffle(m.a(x), 2)), a=conv(3, 12), c=conv(3, 4))
    assert free(graph) == {"a": "3x4"}
    assert layers(graph)["c"] == "a:3 → c:4"


def test_pixel_unshuffle() -> None:
    graph = facts(lambda m, x: m.c(F.pixel_unshuffle(m.a(x), 2)), a=conv(3, 6), c=conv(24, 4))
    assert layers(graph)["c"] == "a:6x4 → c:4"


def own_shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


@pytest.mark.parametrize("shuffle", [F.channel_shuffle, nn.ChannelShuffle, own_shuffle])
def test_channel_shuffle(shuffle: Callable[..., Tensor]) -> None:
    """Two runs of 4 are interleaved: both keep the same members, which stand side by side afterwards."""
    use = (lambda x: shuffle(2)(x)) if isinstance(shuffle, type) else (lambda x: shuffle(x, 2))
    graph = facts(lambda m, x: m.c(use(m.a(x))), a=conv(3, 8), c=conv(8, 4))
    assert free(graph) == {"a": "4"}
    assert layers(graph) == {"a": "3 → a:4 + a:4", "c": "a:4x2 → c:4"}


def test_unfold_and_fold() -> None:
    """im2col: each channel 3·3 times in a row, and back."""
    graph = facts(
        lambda m, x: m.b(F.unfold(m.a(x), 3, padding=1)), 1, 3, 4, 4, a=conv(3, 8), b=nn.Conv1d(72, 4, 1)
    )
    assert layers(graph)["b"] == "a:8x9 → b:4"
    graph = facts(
        lambda m, x: m.c(F.fold(m.b(m.a(x).flatten(2)), (5, 5), 2)), 1, 3, 4, 4,
        a=conv(3, 8), b=nn.Conv1d(8, 24, 1), c=conv(6, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "8", "b": "6x4"}
    assert layers(graph)["c"] == "b:6 → c:4"


def test_windows_along_one_axis() -> None:
    graph = facts(lambda m, x: m.b(m.a(x).unfold(2, 3, 2).mean(-1)), a=conv(3, 8), b=conv(8, 4))
    assert layers(graph)["b"] == "a:8 → b:4"
    graph = facts(lambda m, x: m.a(x).unfold(1, 2, 2), a=conv(3, 8))
    assert "is cut by unfold in the model" in why(graph, "a")
