from __future__ import annotations

import copy
import math

import pytest
import torch
from nets_with_norms import Net, difference, image, uneven
from torch import Tensor, nn

from bnas.graph.flow import flow
from bnas.quantize.equalize import Equalize, Scaled
from bnas.quantize.equalize.folding import Spread
from bnas.quantize.equalize.scaling import chains, ranges, scale

ONCE = Equalize(linear=True)


def scaled(net: nn.Module, *shape: int, config: Equalize = ONCE) -> tuple[nn.Module, list[Scaled], int]:
    """A scaled copy, which computes what the net does; after one time all ranges between two layers are the same."""
    x, copied = image(*shape), copy.deepcopy(net)
    with torch.no_grad():
        found, _ = chains(copied, flow(copied, x), config)
        reports, times = scale(copied, found, {}, config)
    assert difference(net, copied, x) < 1e-12
    assert difference(copied, net, x) < 1e-12
    if len(found) == 1 or config.iterations > 1:
        for chain in found:
            first, *others = ranges(copied, chain)
            for other in others:
                torch.testing.assert_close(first, other, rtol=2 * config.tolerance, atol=0)
    return copied, reports, times


def by_hand(one: Tensor, two: Tensor) -> list[float]:
    """The factors of two 1×1 convolutions in plain Python."""
    one, two, factors = one.detach(), two.detach(), []
    for i in range(len(one)):
        r1 = max(abs(float(weight)) for weight in one[i].flatten())
        r2 = max(abs(float(weight)) for weight in two[:, i].flatten())
        factors.append(math.sqrt(r1 * r2) / r2)
    return factors


def test_two_layers_as_in_the_paper() -> None:
    net = uneven(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1)))
    factors = by_hand(net[0].weight, net[2].weight)
    found, (report,), times = scaled(net)
    for i, factor in enumerate(factors):
        torch.testing.assert_close(found[0].weight[i], net[0].weight[i] / factor)
        torch.testing.assert_close(found[0].bias[i], net[0].bias[i] / factor)
        torch.testing.assert_close(found[2].weight[:, i], net[2].weight[:, i] * factor)
    assert torch.equal(found[2].bias, net[2].bias)
    assert (report.layers, times) == (("0", "2"), 1)
    for before_or_after, precision in zip((net, found), report.precision, strict=True):
        makes = before_or_after[0].weight.detach().flatten(1).abs().amax(1)
        reads = before_or_after[2].weight.detach().flatten(2).abs().amax((0, 2))
        torch.testing.assert_close(precision, float((makes / makes.max() * reads / reads.max()).mean()))
    assert report.precision[0] < report.precision[1]


def test_three_layers_with_a_depthwise_one() -> None:
    net = uneven(
        nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.PReLU(), nn.Conv2d(4, 5, 1)
        )
    )
    found, (report,), _ = scaled(net)
    assert report.layers == ("0", "2", "4")
    for i in range(4):
        r1, r2 = (float(net[layer].weight[i].detach().abs().max()) for layer in (0, 2))
        r3 = float(net[4].weight[:, i].detach().abs().max())
        t = (r1 * r2 * r3) ** (1 / 3)
        s12, s23 = r1 / t, t / r3
        torch.testing.assert_close(found[0].weight[i], net[0].weight[i] / s12)
        torch.testing.assert_close(found[2].weight[i], net[2].weight[i] * s12 / s23)
        torch.testing.assert_close(found[2].bias[i], net[2].bias[i] / s23)
        torch.testing.assert_close(found[4].weight[:, i], net[4].weight[:, i] * s23)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 3, groups=4)), (2, 3, 9)),
        ((nn.Conv2d(6, 8, 3, groups=2), nn.LeakyReLU(), nn.Conv2d(8, 4, 3, groups=2, padding=1)), (2, 6, 9, 9)),
        ((nn.Conv2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3, stride=2)), ()),
        ((nn.ConvTranspose2d(3, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 6, 3, groups=2)), ()),
        ((nn.ConvTranspose2d(4, 8, 3, groups=2), nn.Conv2d(8, 4, 3)), (2, 4, 9, 9)),
        ((nn.Conv2d(3, 3, 3, groups=3), nn.ReLU(), nn.Conv2d(3, 4, 1)), ()),
        ((nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2), nn.Conv2d(8, 4, 1)), ()),
        ((nn.Conv3d(3, 8, 3), nn.ReLU(), nn.Conv3d(8, 4, 1)), (1, 3, 4, 4, 4)),
        ((nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 4)), (5, 3)),
        ((nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 4)), ()),
        ((nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.ChannelShuffle(2), nn.Conv2d(8, 4, 1)), ()),
        ((nn.Conv2d(3, 4, 3, groups=1), nn.Conv2d(4, 8, 3, groups=4)), ()),
    ],
)  # fmt: skip
def test_all_kinds_of_layers(layers: tuple[nn.Module, ...], shape: tuple[int, ...]) -> None:
    net = uneven(nn.Sequential(*layers))
    found, reports, _ = scaled(net, *shape)
    assert [report.layers for report in reports] == [("0", str(len(layers) - 1))]
    assert not torch.equal(found[0].weight, net[0].weight)


def test_a_longer_chain_goes_on_through_depthwise_layers_only() -> None:
    net = uneven(
        nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(),
            nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 5, 1),
        )
    )  # fmt: skip
    _, reports, _ = scaled(net)
    assert [report.layers for report in reports] == [("0", "2", "3", "5"), ("5", "7")]


def test_iterated_until_all_ranges_are_even() -> None:
    net = uneven(nn.Sequential(*[part for _ in range(4) for part in (nn.Conv2d(6, 6, 1), nn.ReLU())]))
    _, reports, times = scaled(net, 2, 6, 9, 9, config=Equalize(iterations=200, tolerance=1e-6))
    assert len(reports) == 3
    assert 2 < times < 200  # one time is not enough: the layers share channels
    with torch.no_grad():
        found, _ = chains(net, flow(net, image(2, 6, 9, 9)), ONCE)
        scale(net, found, {}, ONCE)
    first, second = ranges(net, found[0])
    assert ((first - second).abs() > 1e-3 * first).any()


def test_both_parts_of_a_concatenation() -> None:
    net = Net(
        lambda self, x: self.last(torch.cat([self.one(x).relu(), self.two(x)], 1)),
        one=nn.Conv2d(3, 4, 3), two=nn.Conv2d(3, 6, 3), last=nn.Conv2d(10, 5, 1),
    )  # fmt: skip
    _, reports, _ = scaled(uneven(net))
    assert [report.layers for report in reports] == [("one", "last"), ("two", "last")]


def test_a_head_that_several_levels_share() -> None:
    net = Net(
        lambda self, x: torch.cat([self.two(self.one(level).relu()).flatten() for level in (x, x[..., ::2])]),
        one=nn.Conv2d(3, 4, 3), two=nn.Conv2d(4, 5, 1),
    )  # fmt: skip
    _, reports, _ = scaled(uneven(net))
    assert [report.layers for report in reports] == [("one", "two")]


def test_channels_that_are_dead_are_left_alone() -> None:
    net = uneven(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1)))
    net[0].weight.data[0] = 0
    net[2].weight.data[:, 1] = 0
    net[0].weight.data[2] = 1e-30
    x, found = image(), copy.deepcopy(net)
    with torch.no_grad():
        scale(found, chains(found, flow(found, x), ONCE)[0], {}, ONCE)
    assert difference(net, found, x) < 1e-12
    for i in range(3):
        assert torch.equal(found[0].weight[i], net[0].weight[i])
        assert torch.equal(found[0].bias[i], net[0].bias[i])
        assert torch.equal(found[2].weight[:, i], net[2].weight[:, i])
    assert not torch.equal(found[0].weight[3], net[0].weight[3])


def test_spreads_are_scaled_too() -> None:
    net = uneven(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1)))
    factors = torch.tensor(by_hand(net[0].weight, net[2].weight), dtype=torch.float64)
    spread = Spread(torch.full((4,), 2.0, dtype=torch.float64), torch.full((4,), 3.0, dtype=torch.float64))
    with torch.no_grad():
        scale(net, chains(net, flow(net, image()), ONCE)[0], {"0": spread}, ONCE)
    torch.testing.assert_close(spread.mean, 2 / factors)
    torch.testing.assert_close(spread.deviation, 3 / factors)


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ((nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Conv2d(8, 4, 1)), "breaks at 1 (ReLU6)"),
        ((nn.Conv2d(3, 8, 3), nn.Hardswish(), nn.Conv2d(8, 4, 1)), "breaks at 1 (Hardswish)"),
        ((nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 4, 1)), "breaks at 1 (SiLU)"),
        ((nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)), "is read by 2, a batch norm that stays"),
        ((nn.Conv2d(3, 8, 9), nn.Flatten(), nn.Linear(8, 4)), "is read by 2, a linear layer, and equalize.linear is false"),
    ],
)  # fmt: skip
def test_layers_that_are_in_no_chain_say_why(layers: tuple[nn.Module, ...], reason: str) -> None:
    net = uneven(nn.Sequential(*layers))
    found, skipped = chains(net, flow(net, image()), Equalize())
    assert found == []
    assert skipped[0].reason == reason
    assert (skipped[0].step, skipped[0].layer) == ("scale", "0")
