"""Functions that take parts of axes, or write into them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from nets import conv, facts, free, layers, why
from torch import Tensor, nn


@pytest.mark.parametrize(
    "halves",
    [
        lambda x: x.chunk(2, 1),
        lambda x: torch.chunk(x, chunks=2, dim=-3),
        lambda x: x.split(x.shape[1] // 2, dim=1),
        lambda x: torch.tensor_split(x, 2, 1),
        lambda x: (x[:, : x.shape[1] // 2], x[:, x.shape[1] // 2 :]),
        lambda x: (x.narrow(1, 0, x.shape[1] // 2), x.narrow(1, x.shape[1] // 2, x.shape[1] // 2)),
    ],
)
def test_halves_have_one_width(halves: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        first, second = halves(m.a(x))
        return m.b(first) + m.c(second)

    graph = facts(forward, a=conv(3, 8), b=conv(4, 5), c=conv(4, 5))
    assert free(graph) == {"a": "4"}
    assert layers(graph) == {"a": "3 → a:4 + a:4", "b": "a:4 → b:5", "c": "a:4 → b:5"}


def test_a_slice_of_several_pieces() -> None:
    """Three of four quarters."""
    graph = facts(lambda m, x: m.b(m.a(x)[:, m.a(x).shape[1] // 4 :]), a=conv(3, 8), b=conv(6, 4))
    assert layers(graph) == {"a": "3 → a:2 + a:2 + a:2 + a:2", "b": "a:2 + a:2 + a:2 → b:4"}


def test_chunks_of_a_cat_are_its_parts() -> None:
    graph = facts(
        lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1).chunk(2, 1)[1]),
        a=conv(3, 4), b=conv(3, 4), c=conv(4, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "4"}
    assert layers(graph) == {"a": "3 → a:4", "b": "3 → a:4", "c": "a:4 → c:4"}


@pytest.mark.parametrize(
    ("use", "reason"),
    [
        (lambda x: x.split([2, 6], 1)[1], "is cut by split"),
        (lambda x: x[:, 1:7], "is cut by getitem"),
        (lambda x: x[:, ::2], "is cut by getitem"),
        (lambda x: x[:, 3], "is indexed by a number"),
        (lambda x: x[:, [0, 2]], "is indexed by a number, tensor or list"),
        (lambda x: x[:, torch.arange(8)], "is indexed by a number, tensor or list"),
        (lambda x: x[:, np.array([1, 1])], "is indexed by a number, tensor or list"),
        (lambda x: x[:, torch.ones(8) > 0], "is indexed by a number, tensor or list"),
        (lambda x: x[x > 0], "is indexed by a number, tensor or list"),
        (lambda x: x.unbind(1)[0], "is cut by unbind"),
        (lambda x: x.select(1, 0), "is cut by select"),
        (lambda x: x.index_select(1, torch.tensor([0, 1])), "is indexed by index_select"),
        (lambda x: x.flip(1), "is turned around by flip"),
        (lambda x: torch.flip(x, (1, 2)), "is turned around by flip"),
        (lambda x: x.roll(1, 1), "is turned around by roll"),
        (lambda x: x.gather(1, torch.zeros(len(x), 1, 8, 8, dtype=torch.long)), "is indexed by gather"),
    ],
)
def test_numbers_fix_the_channels_that_they_index(use: Callable[[Tensor], Tensor], reason: str) -> None:
    graph = facts(lambda m, x: use(m.a(x)), 1, 3, 8, 8, a=conv(3, 8))
    assert reason in why(graph, "a")


@pytest.mark.parametrize(
    ("use", "channels"),
    [
        (lambda x: x[:, :, ::2, 1:], 1),
        (lambda x: x[..., 0], 1),
        (lambda x: x[:, :, [0, 2]], 1),
        (lambda x: x[:, :, None, 0], 1),
        (lambda x: x[0], 0),
        (lambda x: x[:, :, torch.arange(3), torch.arange(3)], 1),
        (lambda x: x[..., torch.tensor([[0, 1], [2, 3]]), :], 1),
        (lambda x: x[:, :, torch.ones(8, 8) > 0], 1),
        (lambda x: x[:, :, 2, torch.tensor([1, 2])], 1),
        (lambda x: x[torch.tensor([0, 0]), :, torch.tensor([1, 2])], 1),  # what tensors index comes first
        (lambda x: x[:, :, 1:][torch.tensor([[0, 0]])], 2),
        (lambda x: x.roll((1, 2), (2, 3)), 1),
        (lambda x: x.flip(2, 3), 1),
        (lambda x: x.select(2, 0), 1),
        (lambda x: x.unbind(3)[1], 1),
        (lambda x: x.index_select(2, torch.tensor([1, 1])), 1),
        (lambda x: torch.take_along_dim(x, torch.zeros(1, 1, 2, 8, dtype=torch.long), 2), 1),
        (lambda x: x.gather(2, x.argsort(2)), 1),
    ],
)
def test_other_axes_leave_the_channels_alone(use: Callable[[Tensor], Tensor], channels: int) -> None:
    """The channels are wherever they are after `use`; b reads them, and nothing else is elastic."""
    graph = facts(
        lambda m, x: m.b(use(m.a(x)).movedim(channels, -1).flatten(0, -2).mean(0)),
        1, 3, 8, 8, a=conv(3, 10), b=nn.Linear(10, 4),
    )  # fmt: skip
    assert free(graph) == {"a": "10"}
    assert layers(graph)["b"] == "a:10 → b:4"


def test_rows_picked_by_a_mask() -> None:
    """As many rows of tokens as the mask has true entries."""
    graph = facts(lambda m, x: m.b(m.a(x)[x.mean(2) > -9]), 2, 5, 6, a=nn.Linear(6, 8), b=nn.Linear(8, 4))
    assert free(graph) == {"a": "8"}


def written(m: nn.Module, x: Tensor) -> Tensor:
    """The temporal shift of channels (Lin et al. 2019), along the last axis."""
    x = m.a(x)
    fold = x.shape[1] // 4
    out = torch.zeros_like(x)
    out[:, :fold, :, :-1] = x[:, :fold, :, 1:]
    out[:, fold : 2 * fold, :, 1:] = x[:, fold : 2 * fold, :, :-1]
    out[:, 2 * fold :] = x[:, 2 * fold :]
    return m.b(out)


def test_written_parts_have_the_channels_of_what_is_written() -> None:
    graph = facts(written, a=conv(3, 8), b=conv(8, 4))
    assert free(graph) == {"a": "2"}
    assert layers(graph)["b"] == "a:2 + a:2 + a:2 + a:2 → b:4"


def test_what_is_written_into_another() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x)
        y[:, :, 2:4] = m.b(x)[:, :, :2]
        y[..., 0] = 0
        y[y > 3] = 3
        return m.c(y)

    graph = facts(forward, a=conv(3, 8), b=conv(3, 8), c=conv(8, 4))
    assert layers(graph) == {"a": "3 → a:8", "b": "3 → a:8", "c": "a:8 → c:4"}


def test_channels_written_by_number_are_frozen() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x)
        y[:, 2] = 0
        return m.c(y)

    assert "is indexed by a number" in why(facts(forward, a=conv(3, 8), c=conv(8, 4)), "a")


def test_channels_written_into_a_constant_are_frozen() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = torch.zeros(len(x), 8, 8, 8)
        y[:, :, 1:] = m.a(x)[:, :, 1:]
        return m.c(y)

    assert (
        why(facts(forward, a=conv(3, 8), c=conv(8, 4)), "a")
        == "meets an axis of fixed size in setitem in the model"
    )


@pytest.mark.parametrize(
    "gathered",
    [
        lambda x, to: torch.zeros(3, x.shape[1]).index_add(0, to, x),
        lambda x, to: torch.zeros(3, x.shape[1]).scatter_add_(0, to[:, None].expand_as(x), x),
        lambda x, to: torch.zeros_like(x).scatter(0, to[:, None].expand(-1, x.shape[1]), x),
    ],
)
def test_messages_along_the_edges_of_a_graph(gathered: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Rows are added up where they point to, as in graph networks; the target's width was taken from them."""
    graph = facts(
        lambda m, x: m.b(gathered(m.a(x), torch.arange(len(x)) % 2)),
        5,
        6,
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 4),
    )
    assert free(graph) == {"a": "8"}


def test_rows_put_into_a_table_of_a_number_of_columns() -> None:
    graph = facts(lambda m, x: m.b(torch.zeros(3, 8).index_add(0, torch.arange(len(x)) % 2, m.a(x))), 5, 6,
                  a=nn.Linear(6, 8), b=nn.Linear(8, 4))  # fmt: skip
    assert why(graph, "a") == "meets an axis of fixed size in index_add in the model"
