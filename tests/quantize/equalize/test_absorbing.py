from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from nets_with_norms import Net, difference, image, uneven
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.quantize.equalize import Equalize, equalize
from bnas.quantize.equalize.absorbing import absorb
from bnas.quantize.equalize.folding import fold_norms
from bnas.quantize.equalize.scaling import chains

ABSORB = Equalize(scale=False)


def net_of(*between: nn.Module, reader: nn.Module | None = None) -> nn.Sequential:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), *between, reader or nn.Conv2d(8, 4, 3))
    uneven(net)
    net[1].weight.data[:4] = 0.1  # four channels of high bias
    net[1].bias.data[:4] = 5 + torch.arange(4)
    return net


def test_the_formula() -> None:
    net = net_of(nn.ReLU())
    beta, gamma = net[1].bias.detach().clone(), net[1].weight.detach().clone()
    found = copy.deepcopy(net)
    with torch.no_grad():
        folding = fold_norms(found, image())
        before = copy.deepcopy(found)
        absorbed, _ = absorb(found, folding.flow, chains(found, folding.flow, ABSORB)[0], folding.spreads)
    high = torch.tensor(
        [max(0.0, float(b - 3 * abs(g))) for b, g in zip(beta, gamma, strict=True)], dtype=torch.float64
    )
    assert [(own.writer, own.reader, own.channels) for own in absorbed] == [("0", "3", int((high > 0).sum()))]
    torch.testing.assert_close(found[0].bias, before[0].bias - high)
    moved = torch.einsum("oihw,i->o", net[3].weight, high)
    torch.testing.assert_close(found[3].bias, before[3].bias + moved)
    assert torch.equal(found[0].weight, before[0].weight)
    assert torch.equal(found[3].weight, net[3].weight)
    torch.testing.assert_close(folding.spreads["0"].mean, beta - high)


def test_it_is_exact_where_all_stays_above() -> None:
    net = net_of(nn.ReLU(), nn.MaxPool2d(2), nn.AvgPool2d(2), reader=nn.Conv2d(8, 4, 1, groups=2))
    net[0].weight.data.mul_(1e-3)  # hardly any spread, so that β − 3γ is below every value
    net[0].bias.data = net[1].running_mean.clone()
    found = equalize(net, image(2, 3, 12, 12), ABSORB)
    assert found.absorbed[0].channels >= 4
    assert found.differences["absorb"] < 1e-12
    assert difference(net, found.module, image(2, 3, 12, 12)) < 1e-12


def test_it_changes_the_outputs_where_zeros_are_met_and_that_is_measured() -> None:
    net = net_of(nn.ReLU(), reader=nn.Conv2d(8, 4, 3, padding=1))
    x = image()
    found = equalize(net, x, ABSORB)
    assert found.differences["absorb"] > 1e-3
    assert found.differences["absorb"] == pytest.approx(difference(net, found.module, x), rel=1e-6)


def test_all_of_the_mean_moves_where_nothing_lies_between() -> None:
    net = net_of()
    x = image()
    found = equalize(net, x, ABSORB)
    assert found.absorbed[0].channels == 8
    assert found.differences["absorb"] < 1e-12
    with torch.no_grad():
        seen = found.module[0](x)
        expected = net[1](net[0](x)) - net[1].bias.view(-1, 1, 1)
    torch.testing.assert_close(seen, expected)


@pytest.mark.parametrize(
    ("between", "reader", "reason"),
    [
        (nn.ReLU(), nn.ConvTranspose2d(8, 4, 3), "3 is a transposed convolution"),
        (nn.LPPool2d(2, 2), nn.Conv2d(8, 4, 3), "lp_pool2d lies between it and 3"),
    ],
)
def test_where_it_would_be_wrong_it_is_not_done(between: nn.Module, reader: nn.Module, reason: str) -> None:
    found = equalize(net_of(between, reader=reader), image(), ABSORB)
    assert found.absorbed == ()
    (reason_found,) = [own.reason for own in found.skipped if own.step == "absorb"]
    assert reason in reason_found


def branching(branches: Callable[[Tensor], list[Tensor]]) -> nn.Module:
    net = Net(
        lambda self, x: self.two(torch.cat(branches(self.norm(self.one(x))), 1)),
        one=nn.Conv2d(3, 8, 3), norm=nn.BatchNorm2d(8), two=nn.Conv2d(16, 4, 3),
    )  # fmt: skip
    return uneven(net)


@pytest.mark.parametrize("turned", [False, True])
def test_a_rectifier_on_one_of_two_ways_counts(turned: bool) -> None:
    net = branching(lambda y: [y.relu(), F.max_pool2d(y, 3, 1, 1)][:: -1 if turned else 1])
    net.norm.bias.data[:4] = torch.tensor([4.0, 5, 6, 7])
    net.norm.bias.data[4:] = -4
    net.one.weight.data.mul_(1e-3)  # hardly any spread, so that β − 3γ is below every value
    net.one.bias.data = net.norm.running_mean.clone()
    net.norm.weight.data.fill_(0.1)
    found = equalize(net, image(), ABSORB)
    assert [own.channels for own in found.absorbed] == [4]  # without the rectifier all of β would be moved
    assert difference(net, found.module, image()) < 1e-12


@pytest.mark.parametrize("branches", [lambda y: [-y, y.relu()], lambda y: [y.relu(), -y]])
def test_a_way_that_changes_what_is_added_counts(branches: Callable[[Tensor], list[Tensor]]) -> None:
    found = equalize(branching(branches), image())
    assert found.pairs == (("one", "two"),)
    assert found.absorbed == ()
    assert [own.reason for own in found.skipped if own.step == "absorb"] == [
        "neg lies between it and two, and changes what is added"
    ]


def test_without_a_norm_there_is_nothing_to_go_by() -> None:
    found = equalize(uneven(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))), image())
    assert found.absorbed == ()
    assert [own.reason for own in found.skipped if own.step == "absorb"] == [
        "no batch norm was folded into it"
    ]
