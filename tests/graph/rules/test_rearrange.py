"""Reshaping and permuting: axes that merge, and axes that are seen as two."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import attributes, conv, facts, free, layers, parameter, weights, why
from torch import Tensor, nn
from torch.nn import functional as F


def test_flatten_repeats_each_channel() -> None:
    graph = facts(
        lambda m, x: m.fc(torch.flatten(F.max_pool2d(m.a(x), 2), 1)), a=conv(3, 8), fc=nn.Linear(8 * 16, 5)
    )
    assert layers(graph)["fc"] == "a:8x16 → fc:5"
    assert weights(graph, "fc.weight") == {"fc.weight": ["fc:5", "a:8x16"]}
    assert attributes(graph)["fc.in_features"] == "a:8x16"


def test_flatten_with_channels_last_repeats_all_of_them() -> None:
    graph = facts(
        lambda m, x: m.fc(m.a(x).permute(0, 2, 3, 1).flatten(1)),
        1,
        3,
        2,
        2,
        a=conv(3, 8),
        fc=nn.Linear(32, 5),
    )
    assert layers(graph)["fc"] == "a:8 + a:8 + a:8 + a:8 → fc:5"


@pytest.mark.parametrize(
    "tokens",
    [
        lambda x: x.flatten(2).transpose(1, 2), lambda x: x.permute(0, 2, 3, 1).flatten(1, 2),
        lambda x: x.reshape(len(x), -1, 64).mT, lambda x: torch.movedim(x, 1, -1).view(len(x), 64, -1),
        lambda x: x.view(len(x), x.shape[1], -1).swapaxes(1, -1), lambda x: x.transpose(1, 3).reshape(len(x), 64, -1),
        lambda x: x.unsqueeze(-1).transpose(1, -1).squeeze(1).flatten(1, 2),
        lambda x: x.moveaxis((1, 2), (3, 1)).unflatten(1, (2, 4)).flatten(1, 3),
        lambda x: torch.stack([row.T for row in x.flatten(2).unbind(0)]),
        lambda x: x.view_as(x).permute(dims=(0, 2, 3, 1)).reshape(x.shape[0], -1, x.shape[1]),
    ],
)  # fmt: skip
def test_image_to_tokens(tokens: Callable[[Tensor], Tensor]) -> None:
    graph = facts(lambda m, x: m.b(tokens(m.a(x))), a=conv(3, 8), b=nn.Linear(8, 4))
    assert free(graph) == {"a": "8"}
    assert layers(graph)["b"] == "a:8 → b:4"


def test_tokens_back_to_an_image() -> None:
    graph = facts(
        lambda m, x: m.b(m.a(x).transpose(1, 2).reshape(2, -1, 4, 4)),
        2,
        16,
        3,
        a=nn.Linear(3, 8),
        b=conv(8, 4),
    )
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}


def test_class_token_and_positions() -> None:
    """Bare parameters that meet an axis of channels, as in a ViT."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([m.token.expand(len(x), -1, -1), x], 1) + m.positions
        return m.head(x[:, 0])

    graph = facts(
        forward,
        patches=nn.Conv2d(3, 8, 4, 4), token=parameter(1, 1, 8), positions=parameter(1, 5, 8), head=nn.Linear(8, 4),
    )  # fmt: skip
    assert free(graph) == {"patches": "8"}
    assert weights(graph, "token", "positions") == {
        "token": ["1", "1", "patches:8"],
        "positions": ["1", "5", "patches:8"],
    }


def windows(x: Tensor, side: int) -> Tensor:
    n, h, w, c = x.shape
    x = x.view(n, h // side, side, w // side, side, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, side * side, c)


def windows_back(x: Tensor, side: int, h: int, w: int) -> Tensor:
    x = x.view(-1, h // side, w // side, side, side, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, h, w, x.shape[-1])


def test_windows_and_back() -> None:
    """Shifted windows (Liu et al. 2021) leave the channels, which are last, alone."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x).permute(0, 2, 3, 1)
        y = windows(torch.roll(x, (-2, -2), (1, 2)), 4)
        y = torch.roll(windows_back(m.b(y), 4, 8, 8), (2, 2), (1, 2))
        return m.c(x + y)

    graph = facts(forward, a=conv(3, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 4))
    assert free(graph) == {"a": "8"}
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → a:8", "c": "a:8 → c:4"}
    assert graph.layer_by_name["b"].positions == 64


def test_groups_of_channels_normalised_each_by_itself() -> None:
    """[n, 4, 2, …] with a weight for each of the 2: whole groups of 2 stay."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x)
        y = x.view(len(x), -1, 2, 8, 8)
        y = (y - y.mean((2, 3, 4), keepdim=True)) * m.scale.view(2, 1, 1)
        return m.b(y.flatten(1, 2))

    graph = facts(forward, a=conv(3, 8), scale=parameter(2), b=conv(8, 4))
    assert free(graph) == {"a": "4x2"}
    assert layers(graph)["b"] == "a:4x2 → b:4"


def test_two_rows_across_the_parts_of_a_cat() -> None:
    """5 + 3 channels as two rows of 4: the last of a stands below its first, b below the three between."""
    graph = facts(
        lambda m, x: torch.cat([m.a(x), m.b(x)], 1).reshape(len(x), 2, -1, 8, 8).sum(2),
        a=conv(3, 5),
        b=conv(3, 3),
    )
    assert free(graph) == {"a[0:1]": "1", "a[1:4]": "3"}
    assert layers(graph) == {"a": "3 → a[0:1]:1 + a[1:4]:3 + a[0:1]:1", "b": "3 → a[1:4]:3"}


def test_two_elastic_axes_in_one() -> None:
    """[c, c] flattened: the outer stays elastic, or neither."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        rows, columns = m.a(x).flatten(2), m.b(x).flatten(2)
        return m.c((rows @ columns.mT).flatten(1))

    graph = facts(forward, a=conv(3, 4), b=conv(3, 6), c=nn.Linear(24, 4))
    assert free(graph) == {"a": "4"}
    assert why(graph, "b") == "is merged below another axis by flatten in the model"
    assert layers(graph)["c"] == "a:4x6 → c:4"


def test_a_length_taken_from_another_axis() -> None:
    """`view(b, n, c)` says that what comes out is as wide as what came in, here by heads of 4."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x)
        b, n, c = x.shape
        y = m.values(x).view(b, n, -1, 4).transpose(1, 2)
        y = (
            (m.scores(x).view(b, n, -1, 4).transpose(1, 2).sum(-1, keepdim=True) * y)
            .transpose(1, 2)
            .reshape(b, n, c)
        )
        return m.b(y)

    graph = facts(
        forward, 2, 5, 6,
        a=nn.Linear(6, 8), values=nn.Linear(8, 8), scores=nn.Linear(8, 8), b=nn.Linear(8, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "2x4"}
    assert layers(graph)["values"] == "a:2x4 → a:2x4"


def test_an_empty_batch() -> None:
    graph = facts(
        lambda m, x: (m.b(m.a(x)[:0].flatten(1)), m.c(m.a(x))),
        a=conv(3, 8),
        b=nn.Linear(512, 3),
        c=conv(8, 2),
    )
    assert free(graph) == {"a": "8"}
    assert layers(graph)["b"] == "a:8x64 → b:3"
