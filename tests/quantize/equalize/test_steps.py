from __future__ import annotations

import copy
import math
from typing import NamedTuple

import pytest
import torch
import torchvision
from nets_with_norms import Net, difference, image, uneven
from torch import Tensor, nn

import bnas.quantize.equalize
from bnas.errors import ConfigError, ModelError
from bnas.quantize.equalize import Equalize, equalize
from bnas.quantize.equalize.steps import largest_difference


def resnet18() -> nn.Module:
    return uneven_norms(torchvision.models.resnet18(weights=None))


def mobilenet_v2(rectifier: type[nn.Module]) -> nn.Module:
    model = torchvision.models.mobilenet_v2(weights=None)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, rectifier())
    return uneven_norms(model)


def uneven_norms(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3)
            module.weight.data.uniform_(0.3, 2)
            module.bias.data.normal_()
    return model.eval()


def test_resnet18_as_published() -> None:
    """aimet-torch 2.42 folds 20 norms of it and scales 8 pairs, of the 20 convolutions."""
    model, x = resnet18(), torch.randn(2, 3, 64, 64)
    found = equalize(model, x)
    assert (len(found.folded), len(found.scaled), len(found.absorbed)) == (20, 8, 8)
    assert found.pairs == tuple(
        (f"layer{stage}.{block}.conv1", f"layer{stage}.{block}.conv2")
        for stage in (1, 2, 3, 4)
        for block in (0, 1)
    )
    assert found.differences["fold_norms"] < 1e-5
    assert found.differences["scale"] < 1e-5
    assert 1e-4 < found.differences["absorb"] < 0.05
    assert not any(isinstance(module, nn.BatchNorm2d) for module in found.module.modules())
    reasons = {own.layer: own.reason for own in found.skipped}
    assert reasons["conv1"] == "is read by layer1.0.conv1; breaks at layer1.0 (BasicBlock): add"
    assert reasons["layer1.0.conv2"] == "breaks at layer1.0 (BasicBlock): add"
    told = found.summary
    assert (told["folded"], told["scaled"], told["absorbed"], told["iterations"]) == (20, 8, 8, 1)
    assert told["differences"] == found.differences
    assert told["skipped"]["scale"]["layer1.0.conv2"] == reasons["layer1.0.conv2"]
    assert sum(map(len, told["skipped"].values())) == len(found.skipped)


def test_mobilenet_v2_as_published() -> None:
    """With ReLU in the place of ReLU6 aimet-torch 2.42 folds 52 norms of it and scales 19 sets, 36 pairs."""
    model, x = mobilenet_v2(nn.ReLU), torch.randn(2, 3, 32, 32)
    found = equalize(model, x)
    assert (len(found.folded), len(found.scaled), len(found.pairs)) == (52, 19, 36)
    assert found.summary["scaled"] == 36
    assert found.scaled[0].layers == ("features.0.0", "features.1.conv.0.0", "features.1.conv.1")
    assert sorted(len(own.layers) for own in found.scaled) == [2] * 2 + [3] * 17
    assert max(found.differences["fold_norms"], found.differences["scale"]) < 1e-5
    with_linear = equalize(model, x, Equalize(linear=True))
    assert with_linear.scaled[-1].layers == ("features.18.0", "classifier.1")


def test_relu6_breaks_chains_and_stays() -> None:
    model, x = mobilenet_v2(nn.ReLU6), torch.randn(2, 3, 32, 32)
    found = equalize(model, x)
    assert len(found.folded) == 52
    assert found.pairs == (
        ("features.1.conv.1", "features.2.conv.0.0"),
        ("features.17.conv.2", "features.18.0"),
    )
    reasons = {own.layer: own.reason for own in found.skipped}
    assert reasons["features.0.0"] == "breaks at features.0.2 (ReLU6)"
    assert sum(isinstance(module, nn.ReLU6) for module in found.module.modules()) == 35


def test_the_model_is_left_as_it_was_and_steps_can_be_left_out() -> None:
    net = uneven(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))).train()
    before, x = copy.deepcopy(net.state_dict()), image()
    nothing = equalize(net, x, Equalize(fold_norms=False, scale=False, absorb=False))
    assert nothing.differences == {}
    assert nothing.module.state_dict().keys() == net.state_dict().keys()
    folded = equalize(net, x, Equalize(scale=False, absorb=False))
    assert (list(folded.differences), folded.scaled, folded.absorbed) == (["fold_norms"], (), ())
    assert folded.skipped == ()
    whole = bnas.quantize.equalize(net, x)  # the package itself can be called
    assert list(whole.differences) == ["fold_norms", "scale", "absorb"]
    assert not whole.module.training
    assert net.training
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


class Two(NamedTuple):
    first: Tensor
    second: Tensor
    count: int


def test_outputs_may_be_nested() -> None:
    net = Net(
        lambda self, x: Two(y := self.one(x), {"a": [self.three(self.two(y).relu())]}, 3),  # type: ignore[arg-type]
        one=nn.Conv2d(3, 8, 3), two=nn.Conv2d(8, 4, 3), three=nn.Conv2d(4, 4, 3),
    )  # fmt: skip
    found = equalize(uneven(net), image())
    assert found.pairs == (("two", "three"),)
    assert found.differences["scale"] < 1e-12


def test_random_nets_stay_what_they_are() -> None:
    """Layers of all kinds in a row, drawn at random: folding and scaling are exact."""
    drawn = torch.Generator().manual_seed(1)
    for _ in range(10):
        net, channels = nn.Sequential(), 4
        for _ in range(6):
            kind = int(torch.randint(5, (), generator=drawn))
            outputs = channels if kind == 1 else 4 * int(torch.randint(1, 4, (), generator=drawn))
            layer: nn.Module = (
                nn.Conv2d(channels, outputs, 3, padding=1),
                nn.Conv2d(channels, channels, 3, groups=channels, bias=False),
                nn.Conv2d(channels, outputs, 1, groups=4, bias=False),
                nn.ConvTranspose2d(channels, outputs, 2, groups=2, bias=False),
                nn.Conv2d(channels, outputs, 1),
            )[kind]
            activation = (nn.ReLU(), nn.PReLU(), nn.Identity(), nn.SiLU())[
                int(torch.randint(4, (), generator=drawn))
            ]
            net.extend([layer, nn.BatchNorm2d(outputs), activation])
            channels = outputs
        x = image(2, 4, 12, 12)
        found = equalize(uneven(net), x, Equalize(absorb=False))
        assert len(found.folded) == 6
        assert difference(net, found.module, x) < 1e-10
        assert len(found.pairs) == 5 - sum(isinstance(own, nn.SiLU) for own in net[:-1])


@pytest.mark.parametrize(
    ("dtype", "share", "by"), [(torch.float64, 1.0, ".*"), (torch.float32, 1e-2, r"0\.00\d+")]
)
def test_what_torch_does_not_show_is_noticed(dtype: torch.dtype, share: float, by: str) -> None:
    def seen_elsewhere(net: Net, x: Tensor) -> Tensor:
        y = net.one(x)
        hidden = torch.from_dlpack(torch.utils.dlpack.to_dlpack(y))
        return torch.cat([net.two(y), share * hidden], 1)

    net = uneven(Net(seen_elsewhere, one=nn.Conv2d(3, 8, 3), two=nn.Conv2d(8, 8, 1)))
    with pytest.raises(
        ModelError, match=rf"scale changed an output of Net by {by} of .*; set equalize.scale=false"
    ):
        equalize(net.to(dtype), image().to(dtype))


def test_bad_options_and_models_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"equalize.iterations: expected at least 1, got 0"):
        Equalize(iterations=0)
    with pytest.raises(ConfigError, match=r"equalize.tolerance: expected 0 or more, below 1, got 2"):
        Equalize(tolerance=2)
    with pytest.raises(ModelError, match=r"Conv2d does not run on an input of shape \[2, 4, 9, 9\]"):
        equalize(nn.Conv2d(3, 4, 3).double(), image(2, 4, 9, 9))


@pytest.mark.parametrize(
    ("before", "after", "by"),
    [
        ([1.0, -4.0], [1.0, -3.0], 0.25),
        ([math.nan, 2.0], [math.nan, 2.0], 0.0),
        ([math.inf, 2.0], [math.inf, 1.0], 0.5),
        ([1.0, 2.0], [1.0, math.inf], math.inf),
        ([1.0, 2.0], [1.0, math.nan], math.nan),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference(before: list[float], after: list[float], by: float) -> None:
    found = largest_difference([torch.ones(3), torch.tensor(before)], [torch.ones(3), torch.tensor(after)])
    assert found == pytest.approx(by, nan_ok=True)
