"""Functions that look along a whole axis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from nets import conv, facts, free, layers, parameter, weights, why
from torch import Tensor, nn
from torch.nn import functional as F


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
        lambda x: x.flatten(2).max(2).values,
        lambda x: x.flatten(2).logsumexp(dim=-1),
        lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
        lambda x: x.norm(dim=(2, 3)),
        lambda x: x.flatten(2).std(2, unbiased=False),
        lambda x: torch.var_mean(x, dim=(2, 3))[0],
        lambda x: torch.std_mean(x, (2, 3), correction=0)[1],
        lambda x: x.flatten(2).median(2)[0],
        lambda x: x.flatten(2).softmax(2).sum(2),
        lambda x: x.flatten(2).topk(3, 2)[0].sum(2),
        lambda x: x.flatten(2).sort(2)[0][..., 0],
        lambda x: x.flatten(2).cumsum(2)[..., -1],
    ],
)
def test_pooling_keeps_channels(pooled: Callable[[Tensor], Tensor]) -> None:
    graph = facts(lambda m, x: m.fc(pooled(m.a(x))), a=conv(3, 8), fc=nn.Linear(8, 5))
    assert free(graph) == {"a": "8"}
    assert layers(graph)["fc"] == "a:8 → fc:5"


@pytest.mark.parametrize(
    "over",
    [
        lambda x: x.mean(1, keepdim=True),
        lambda x: x.amax(dim=1, keepdim=True),
        lambda x: x.max(1, keepdim=True)[0],
        lambda x: x.sum(1)[:, None],
        lambda x: torch.linalg.vector_norm(x, 2, 1, keepdim=True),
        lambda x: x.std(1, keepdim=True) * x.mean(),
        lambda x: x.sum(),
    ],
)
def test_reduced_channels_are_those_that_are_there(over: Callable[[Tensor], Tensor]) -> None:
    graph = facts(lambda m, x: m.b(m.a(x) * over(m.a(x))), a=conv(3, 8), b=conv(8, 4))
    assert free(graph) == {"a": "8"}
    assert layers(graph)["b"] == "a:8 → b:4"


def test_spatial_attention() -> None:
    """The mean and the largest of all channels side by side (CBAM, Woo et al. 2018): two of fixed number."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x)
        seen = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True).values], 1)
        return m.b(x * torch.sigmoid(m.map(seen)))

    graph = facts(forward, a=conv(3, 8), map=conv(2, 1), b=conv(8, 4))
    assert free(graph) == {"a": "8"}
    assert layers(graph)["map"] == "2 → 1"


def test_normalised() -> None:
    graph = facts(lambda m, x: m.b(F.normalize(m.a(x), dim=1)), a=conv(3, 8), b=conv(8, 4))
    assert free(graph) == {"a": "8"}


def test_global_response_normalisation() -> None:
    """ConvNeXt V2 (Woo et al. 2023): the norm over positions, divided by its mean over channels."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x).permute(0, 2, 3, 1)
        g = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        return m.b(m.gamma * (x * g / (g.mean(dim=-1, keepdim=True) + 1e-6)) + m.beta + x)

    graph = facts(
        forward, a=conv(3, 8), gamma=parameter(1, 1, 1, 8), beta=parameter(1, 1, 1, 8), b=nn.Linear(8, 4)
    )
    assert free(graph) == {"a": "8"}


def test_larger_of_two() -> None:
    graph = facts(lambda m, x: m.c(torch.max(m.a(x), other=m.b(x))), a=conv(3, 8), b=conv(3, 8), c=conv(8, 4))
    assert layers(graph)["b"] == "3 → a:8"


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "cumsum", "cumprod", "argsort", "sort", "topk"])
def test_order_and_number_freeze(name: str) -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        y = m.a(x).topk(2, 1) if name == "topk" else getattr(m.a(x), name)(1)
        return y if isinstance(y, Tensor) else y[0]

    graph = facts(forward, a=conv(3, 8))
    assert f"passes through {name} in the model" in why(graph, "a")


def test_largest_index_freezes() -> None:
    assert "passes through argmax" in why(facts(lambda m, x: m.a(x).argmax(1), a=conv(3, 8)), "a")
    assert "passes through argmax" in why(facts(lambda m, x: m.a(x).argmax(), a=conv(3, 8)), "a")


def test_triangles_compare_positions() -> None:
    graph = facts(lambda m, x: m.b(m.a(x).tril()), a=conv(3, 8), b=conv(8, 4))
    assert free(graph) == {"a": "8"}
    graph = facts(lambda m, x: m.a(x).flatten(2).mT.triu(), a=conv(3, 8))
    assert "passes through triu in the model" in why(graph, "a")


def test_a_filter_of_frequencies() -> None:
    """GFNet (Rao et al. 2021): a learned filter for each frequency and channel."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.a(x).permute(0, 2, 3, 1)
        y = torch.fft.rfft2(x, dim=(1, 2), norm="ortho") * torch.view_as_complex(m.filter)
        return m.b(torch.fft.irfft2(y, s=(8, 8), dim=(1, 2), norm="ortho"))

    graph = facts(forward, a=conv(3, 6), filter=parameter(8, 5, 6, 2), b=nn.Linear(6, 4))
    assert free(graph) == {"a": "6"}
    assert weights(graph, "filter") == {"filter": ["8", "5", "a:6", "2"]}


def test_frequencies_of_channels_freeze() -> None:
    """FNet (Lee-Thorp et al. 2021) mixes tokens and channels."""
    graph = facts(
        lambda m, x: m.b(torch.fft.fft2(m.a(x)).real), 2, 5, 6, a=nn.Linear(6, 8), b=nn.Linear(8, 4)
    )
    assert why(graph, "a") == "passes through fft_fft2 in the model"
    graph = facts(lambda m, x: torch.view_as_real(torch.fft.fftn(m.a(x))), 2, 5, 6, a=nn.Linear(6, 8))
    assert "passes through fft_fftn in the model" in why(graph, "a")
