from __future__ import annotations

import copy

import pytest
import torch
from nets_with_norms import Net, difference, image, uneven
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torchvision.ops import FrozenBatchNorm2d

from bnas.quantize.equalize.folding import Folding, fold_norms


def folded(net: nn.Module, *shape: int) -> tuple[nn.Module, Folding]:
    """A folded copy, which computes what the net does."""
    x, copied = image(*shape), copy.deepcopy(net)
    with torch.no_grad():
        found = fold_norms(copied, x)
    assert difference(net, copied, x) < 1e-12
    return copied, found


@pytest.mark.parametrize(
    ("layer", "norm", "shape"),
    [
        (nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), (2, 3, 9)),
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), ()),
        (nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8, eps=0.1), (2, 6, 9, 9)),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), nn.BatchNorm2d(8), (2, 8, 9, 9)),
        (nn.Conv2d(4, 8, 3, groups=4), nn.BatchNorm2d(8), (2, 4, 9, 9)),
        (nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), (2, 3, 5, 5, 5)),
        (nn.ConvTranspose2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), ()),
    ],
)  # fmt: skip
def test_after_a_convolution_as_torch_fuses_it(
    layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]
) -> None:
    net = uneven(nn.Sequential(layer, norm))
    fused = fuse_conv_bn_eval(net[0], net[1], transpose=isinstance(layer, nn.ConvTranspose2d))
    found, report = folded(net, *shape)
    torch.testing.assert_close(dict(found[0].named_parameters()), dict(fused.named_parameters()))
    assert isinstance(found[1], nn.Identity)
    assert [(own.norm, own.into, own.place) for own in report.folded] == [("1", "0", "after")]
    assert torch.equal(report.spreads["0"].mean, norm.bias)
    assert torch.equal(report.spreads["0"].deviation, norm.weight.abs())


def test_after_a_linear_layer_as_torch_fuses_it() -> None:
    net = uneven(nn.Sequential(nn.Linear(3, 8, bias=False), nn.BatchNorm1d(8)))
    fused = fuse_linear_bn_eval(net[0], net[1])
    found, _ = folded(net, 4, 3)
    torch.testing.assert_close(dict(found[0].named_parameters()), dict(fused.named_parameters()))


def test_a_grouped_transposed_convolution_which_torch_does_not_fuse() -> None:
    _, report = folded(
        uneven(nn.Sequential(nn.ConvTranspose2d(6, 8, 3, groups=2), nn.BatchNorm2d(8))), 2, 6, 9, 9
    )
    assert len(report.folded) == 1


@pytest.mark.parametrize("norm", [nn.BatchNorm2d(8, affine=False), FrozenBatchNorm2d(8)])
def test_norms_without_parameters(norm: nn.Module) -> None:
    _, report = folded(uneven(nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU())))
    assert len(report.folded) == 1
    if isinstance(norm, nn.BatchNorm2d):
        assert not report.spreads["0"].mean.any()
        assert (report.spreads["0"].deviation == 1).all()


@pytest.mark.parametrize(
    "layers",
    [
        (nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3)),
        (nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, bias=False, stride=2)),
        (nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3, groups=3)),
        (nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect")),
        (nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(243, 5)),
    ],
)  # fmt: skip
def test_before_a_layer(layers: tuple[nn.Module, ...]) -> None:
    net = uneven(nn.Sequential(nn.ReLU6(), *layers))
    found, report = folded(net)
    assert [(own.norm, own.into, own.place) for own in report.folded] == [("1", str(len(layers)), "before")]
    assert isinstance(found[1], nn.Identity)
    assert not report.spreads


def test_before_a_layer_where_zeros_are_met() -> None:
    net = uneven(nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, padding=1)))
    _, report = folded(net)
    assert report.folded == []
    assert report.skipped[0].reason.endswith("1 pads with zeros, which its shift would not reach")
    net[0].bias.data.zero_()
    net[0].running_mean.zero_()
    _, report = folded(net)  # without a shift, zeros are right
    assert len(report.folded) == 1


def test_before_a_transposed_convolution() -> None:
    _, report = folded(uneven(nn.Sequential(nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 8, 3))))
    assert "1 is a transposed convolution" in report.skipped[0].reason


def test_norms_in_a_row_and_one_that_is_known_by_two_names() -> None:
    net = uneven(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8), nn.BatchNorm2d(8)))
    _, report = folded(net)
    assert len(report.folded) == 3
    assert torch.equal(report.spreads["0"].mean, net[3].bias)
    norm = nn.BatchNorm2d(8)
    net = uneven(Net(lambda self, x: self.again(self.one(x)), one=nn.Conv2d(3, 8, 3), norm=norm, again=norm))
    found, _ = folded(net)
    assert isinstance(found.again, nn.Identity)
    assert found.again is found.norm


def test_a_norm_before_and_after_goes_into_the_layer_before() -> None:
    net = uneven(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)))
    _, report = folded(net)
    assert [(own.norm, own.into) for own in report.folded] == [("1", "0"), ("3", "2")]


def test_densely_connected_layers() -> None:
    net = Net(
        lambda self, x: (
            y := self.stem(x),
            z := torch.cat([y, self.two(self.two_norm(self.one(self.one_norm(y).relu())).relu())], 1),
            self.last(self.last_norm(z)),
        )[-1],
        stem=nn.Conv2d(3, 4, 3), one_norm=nn.BatchNorm2d(4), one=nn.Conv2d(4, 8, 1), two_norm=nn.BatchNorm2d(8),
        two=nn.Conv2d(8, 4, 3, padding=1), last_norm=nn.BatchNorm2d(8), last=nn.Conv2d(8, 5, 1),
    )  # fmt: skip
    _, report = folded(uneven(net))
    assert {(own.norm, own.into, own.place) for own in report.folded} == {
        ("two_norm", "one", "after"), ("last_norm", "last", "before")
    }  # fmt: skip
    (left,) = report.skipped
    assert left.layer == "one_norm"
    assert "relu lies between it and one" in left.reason


@pytest.mark.parametrize(
    ("between", "reason"),
    [
        (nn.ReLU(), "relu lies between it and 0"),
        (nn.ZeroPad2d(1), "zeros are put between it and 0"),
        (nn.Sigmoid(), "what it reads is no single layer's, or goes elsewhere too"),
    ],
)
def test_what_lies_between_is_named(between: nn.Module, reason: str) -> None:
    _, report = folded(uneven(nn.Sequential(nn.Conv2d(3, 8, 3), between, nn.BatchNorm2d(8))))
    assert report.skipped[0].reason == f"{reason}; is an output of the model"


def test_what_is_used_twice_is_folded_if_it_is_always_used_together() -> None:
    conv, norm, other = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)
    _, report = folded(uneven(nn.Sequential(conv, norm, conv, norm)))
    assert len(report.folded) == 1
    _, report = folded(uneven(nn.Sequential(conv, norm, other, norm)))
    assert report.folded == []
    _, report = folded(uneven(nn.Sequential(conv, norm, conv)))
    assert report.folded == []
    net = Net(
        lambda self, x: self.norm(y := self.conv(x)) + y, conv=nn.Conv2d(3, 3, 3), norm=nn.BatchNorm2d(3)
    )
    _, report = folded(uneven(net))
    assert report.folded == []


def test_a_forward_of_its_own_may_not_add_a_bias() -> None:
    class Own(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(x, self.weight)

    _, report = folded(uneven(nn.Sequential(Own(3, 8, 3, bias=False), nn.BatchNorm2d(8))))
    assert "Own has no bias, and a forward of its own" in report.skipped[0].reason


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, FrozenBatchNorm2d])
def test_a_norm_with_a_forward_of_its_own_stays(kind: type[nn.Module]) -> None:
    class Activated(kind):  # as other libraries have them, with the activation inside
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).relu()

    class Renamed(kind):
        pass

    found, report = folded(uneven(nn.Sequential(nn.Conv2d(3, 8, 3), Activated(8), nn.Conv2d(8, 4, 3))))
    assert isinstance(found[1], Activated)
    assert [(own.layer, own.reason) for own in report.skipped] == [
        ("1", "Activated has a forward of its own, which may do more than a batch norm")
    ]
    _, report = folded(uneven(nn.Sequential(nn.Conv2d(3, 8, 3), Renamed(8), nn.ReLU())))
    assert [own.norm for own in report.folded] == ["1"]
