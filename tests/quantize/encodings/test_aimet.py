"""Encodings of whole networks: ranges beside those that hooks in torch see, and the outputs of the simulation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from oracles import randomize_norms
from small_networks import SmallNet
from torch import Tensor, nn

from bnas import quantize
from bnas.errors import ConfigError, ExportError
from bnas.export.encodings import Encoded
from bnas.plain import from_plain, to_plain
from bnas.quantize import Aimet, Equalize, NncfPTQ, QuantizeConfig
from bnas.quantize.encodings.aimet import precision
from bnas.quantize.in_openvino import for_openvino

PLAIN = Aimet(equalize=None)


def images(count: int = 4, size: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 3, size, size, generator=generator) for _ in range(count)]


def encoded(module: nn.Module, config: Aimet = PLAIN, batches: list[Tensor] | None = None) -> Encoded:
    batches = images() if batches is None else batches
    with torch.random.fork_rng():
        found = quantize(module.eval(), config, batches, batches[0]).model
    assert isinstance(found, Encoded)
    return found


def plain_net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 4, 2, 2), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 5),
        )  # fmt: skip


@pytest.fixture(scope="module")
def normed() -> nn.Module:
    return randomize_norms(SmallNet(), 0).eval()


def test_ranges_are_those_of_all_images() -> None:
    net, seen = plain_net(), []
    net[1].register_forward_hook(lambda _, x, y: seen.append(y))
    with torch.no_grad():
        for image in images():
            net(image)
    own = encoded(net).encoding("/1/Relu_output_0")
    assert own.offset == (0,)
    assert own.scale[0] == pytest.approx(float(torch.cat(seen).max()) / 255, rel=1e-5)


def test_an_image_that_is_not_used_changes_nothing() -> None:
    few = encoded(plain_net(), Aimet(equalize=None, samples=2), [*images(2), 100 * images(1)[0]])
    assert few.activations == encoded(plain_net(), PLAIN, images(2)).activations
    assert few.images == 2


def test_channels_are_those_that_come_out() -> None:
    net = plain_net()
    found = encoded(net, Aimet(equalize=None, per_channel=True))
    for name, axis in (("0.weight", 0), ("2.weight", 1), ("5.weight", 0)):
        own, weight = found.encoding(name), net.get_parameter(name).detach().numpy()
        others = tuple(place for place in range(weight.ndim) if place != axis)
        assert own.axis == axis
        assert own.scale == pytest.approx(np.abs(weight).max(others) / 127, rel=1e-5)
        assert set(own.offset) == {-128}
    bias = found.encoding("0.bias")
    assert bias.scale == pytest.approx(
        [found.encoding("images").scale[0] * s for s in found.encoding("0.weight").scale]
    )


def test_weights_symmetric_and_activations_asymmetric_unless_asked_otherwise() -> None:
    found = encoded(plain_net())
    assert all(own.symmetric for own in found.parameters)
    assert not any(own.symmetric for own in found.activations)
    other = encoded(
        plain_net(), Aimet(equalize=None, weight_symmetry="asymmetric", activation_symmetry="symmetric")
    )
    assert not any(own.symmetric for own in other.parameters if own.name.endswith("weight"))
    assert all(own.symmetric for own in other.activations)


def test_unsigned_weights_are_so_for_all_channels_or_none() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1))
    config = Aimet(equalize=None, weight_symmetry="unsigned", per_channel=True)
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.1, 0.5, 1], [-0.2, 0.3, 1]]).reshape(2, 3, 1, 1))
    assert encoded(net, config).encoding("0.weight").offset == (-128, -128)
    with torch.no_grad():
        net[0].weight.abs_()
    assert encoded(net, config).encoding("0.weight").offset == (0, 0)


def test_a_histogram_of_weights_is_as_wide_as_they_are() -> None:
    net = nn.Sequential(nn.Conv2d(3, 400, 3))
    weight = net[0].weight.detach()
    own = encoded(net, Aimet(equalize=None, scheme="percentile", percentile=95)).encoding("0.weight")
    low, high = np.percentile(weight.numpy(), [5, 95])
    bin_width = float(weight.max() - weight.min()) / 2048
    assert own.scale[0] * 127 == pytest.approx(max(-low, high), abs=1.5 * bin_width)


def test_batch_norms_are_folded_and_the_state_is_of_what_was_written(normed: nn.Module) -> None:
    import onnx

    found = encoded(normed)
    assert not any("running_mean" in name for name in found.state)
    values = {value.name: onnx.numpy_helper.to_array(value) for value in found.network.graph.initializer}
    names = [own.name for own in found.parameters]
    assert names
    assert all(np.array_equal(values[name], found.state[name].numpy()) for name in names)


class WithoutBias(nn.Conv2d):
    """A convolution with a forward of its own, in which a bias has no place."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, None, self.stride, self.padding)


class Doubled(nn.Conv2d):
    """A convolution by other numbers than its weights."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, 2 * self.weight)


class Shared(nn.Module):
    """A convolution whose outputs two batch norms take."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.one(self.conv(x)) + self.two(self.conv(-x))


UNFOLDED = {
    "fold_norms=false": (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), Equalize(fold_norms=False, absorb=False)
    ),
    "own forward": (nn.Sequential(WithoutBias(3, 4, 3, bias=False), nn.BatchNorm2d(4)), Equalize()),
    "shared": (Shared(), Equalize()),
}  # fmt: skip


@pytest.mark.parametrize("name", UNFOLDED)
def test_with_norms_that_stay_the_onnx_network_holds_what_the_state_holds(name: str) -> None:
    import onnx

    ort = pytest.importorskip("onnxruntime")
    net, equalization = UNFOLDED[name]
    randomize_norms(net, 0).eval()
    found = encoded(net, Aimet(equalize=equalization, per_channel=True))
    assert any("running_mean" in own for own in found.state)
    values = {value.name: onnx.numpy_helper.to_array(value) for value in found.network.graph.initializer}
    learnt = {own: value.numpy() for own, value in found.state.items() if value.is_floating_point()}
    assert set(values) == set(learnt)
    assert all(np.array_equal(values[own], value) for own, value in learnt.items())
    (weight,) = (own for own in found.parameters if own.name.endswith("weight"))
    assert weight.scale == pytest.approx(np.abs(learnt[weight.name]).max((1, 2, 3)) / 127, rel=1e-5)
    (got,) = ort.InferenceSession(found.network.SerializeToString()).run(
        None, {"images": images()[0].numpy()}
    )
    np.testing.assert_allclose(got, net(images()[0]).detach().numpy(), atol=1e-5)


def test_what_is_computed_from_a_weight_does_not_get_its_name() -> None:
    found = encoded(nn.Sequential(Doubled(3, 4, 3, bias=False)))
    (own,) = found.parameters
    assert own.name not in found.state
    assert own.scale[0] == pytest.approx(2 * float(found.state["0.weight"].abs().max()) / 127, rel=1e-5)


@pytest.mark.parametrize("scheme", ["tf_enhanced", "percentile"])
def test_a_black_image_first_leaves_the_grid_usable(scheme: Any) -> None:
    black = torch.full((1, 3, 8, 8), -2.0)
    config = Aimet(equalize=None, scheme=scheme, percentile=99.9)
    first, last = (
        encoded(plain_net(), config, batches) for batches in ([black, *images()], [*images(), black])
    )
    assert first.activations == last.activations
    whole = encoded(plain_net(), PLAIN, [black, *images()])
    for own, widest in zip(first.activations, whole.activations, strict=True):
        assert own.scale[0] > 0.3 * widest.scale[0]


def test_equalization_is_told() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1)
    )
    randomize_norms(net, 0)
    with torch.no_grad():
        net[1].bias.fill_(9)  # high beside the spread
    told = encoded(net, Aimet()).equalization
    assert {name: told[name] for name in ("folded", "scaled", "absorbed", "iterations")} == {
        "folded": 1, "scaled": 1, "absorbed": 1, "iterations": 1
    }  # fmt: skip
    assert list(told["differences"]) == ["fold_norms", "scale", "absorb"]
    assert told["differences"]["scale"] < 1e-5
    assert told["skipped"]["scale"]["3"] == "breaks at 4 (ReLU6)"


def test_the_precision_is_that_of_weights_and_activations() -> None:
    half = {"activation_form": "float", "activation_bits": 16}
    for options, name in (
        ({}, "int8"),
        ({"weight_bits": 4, "activation_bits": 4}, "int4"),
        ({"weight_bits": 4, "activation_bits": 16}, "int4/int16"),
        (half, "int8/f16"),
        (half | {"weight_form": "float", "weight_bits": 16}, "f16"),
    ):
        assert precision(Aimet(**options)) == name  # type: ignore[arg-type]
    assert quantize(plain_net().eval(), Aimet(weight_bits=5), images(), images()[0]).precision == "int5/int8"


def test_equalization_comes_first() -> None:
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    with torch.no_grad():
        net[0].weight[0] *= 100
    scaled = encoded(net, Aimet(equalize=Equalize(absorb=False)))
    for found, uneven in ((encoded(net), True), (scaled, False)):
        ranges = found.state["0.weight"].abs().amax((1, 2, 3))
        assert (float(ranges.max() / ranges.min()) > 50) == uneven
        scale = found.encoding("0.weight").scale[0]
        assert scale == pytest.approx(float(ranges.max()) / 127, rel=1e-5)


def test_float16_needs_no_range_and_biases_then_have_their_own() -> None:
    found = encoded(plain_net(), Aimet(equalize=None, activation_form="float", activation_bits=16))
    assert {own.form for own in found.activations} == {"float"}
    assert all(own.axis is None for own in found.parameters)
    halves = encoded(plain_net(), Aimet(equalize=None, weight_form="float", weight_bits=16, bias_bits=None))
    assert [(own.name, own.form) for own in halves.parameters] == [
        ("0.weight", "float"), ("2.weight", "float"), ("5.weight", "float")
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["tf", "tf_enhanced", "percentile"])
def test_more_bits_lose_less(normed: nn.Module, scheme: Any) -> None:
    from bnas.export.encodings import simulated

    ort = pytest.importorskip("onnxruntime")
    batches, errors = images(), []
    wanted = normed(batches[0]).detach().numpy()
    for bits in (4, 8, 16):
        config = Aimet(equalize=None, scheme=scheme, percentile=100, weight_bits=bits, activation_bits=bits)
        own = encoded(normed, config, batches)
        model = simulated(own.network, (*own.activations, *own.parameters)).SerializeToString()
        (got,) = ort.InferenceSession(model).run(None, {"images": batches[0].numpy()})
        errors.append(float(np.abs(got - wanted).max() / np.abs(wanted).max()))
    assert errors[0] > 3 * errors[1] > 3 * 3 * errors[2]
    assert errors[1] < 0.2


def test_a_shared_weight_is_encoded_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(torch.sigmoid(self.conv(x)))

    found = encoded(Twice())
    assert [own.name for own in found.parameters] == ["conv.weight", "conv.bias"]
    assert found.encoding("conv.bias").axis is None
    assert len(found.activations) == 4


def test_weights_that_torch_turned_are_named_as_the_modules() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.up(x).mean(1)

    net, batch = Tokens(), torch.randn(2, 3, 8)
    own = quantize(net.eval(), Aimet(equalize=None, per_channel=True), [batch], batch[:1]).model
    found = own.encoding("up.weight")
    assert found.axis == 1  # of the turned one
    assert found.scale == pytest.approx(net.up.weight.detach().abs().amax(1).numpy() / 127, rel=1e-5)
    assert own.encoding("up.bias").scale == pytest.approx(
        [own.encoding("images").scale[0] * s for s in found.scale]
    )


def test_the_conf_is_the_flow_of_ssd_resnet34() -> None:
    text = (Path(__file__).parents[3] / "conf" / "quantize" / "aimet.yaml").read_text()
    config = from_plain(QuantizeConfig, yaml.safe_load(text))
    assert isinstance(config, Aimet)
    assert (config.scheme, config.weight_bits, config.activation_bits, config.bias_bits) == ("tf", 8, 8, 32)
    assert config == Aimet()  # which is what export.also=[aimet] takes beside another quantizer
    assert (config.weight_symmetry, config.activation_symmetry, config.per_channel) == (
        "symmetric", "asymmetric", False
    )  # fmt: skip
    assert config.equalize is not None
    assert config.equalize.fold_norms
    assert config.equalize.scale
    assert config.equalize.absorb
    assert (config.equalize.linear, config.equalize.iterations) == (False, 1)
    assert from_plain(QuantizeConfig, to_plain(config)) == config
    assert for_openvino(config) == NncfPTQ(samples=config.samples)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weight_bits": 3}, "weight_bits: expected 4 to 16, got 3"),
        ({"activation_bits": 32}, "activation_bits: expected 4 to 16, got 32"),
        ({"weight_form": "float"}, "weight_bits: expected 16 with weight_form=float, got 8"),
        ({"percentile": 40}, "percentile: expected 50 to 100, got 40"),
        ({"samples": 0}, "samples: expected 1 or more"),
        (
            {"precisions": ("int8_tensor", "fp32")},
            "precisions: of blocks they can be chosen with quantize=nncf_ptq only",
        ),
    ],
)
def test_bad_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Aimet(**options)


def test_no_images() -> None:
    with pytest.raises(ExportError, match="no calibration images"):
        quantize(plain_net().eval(), PLAIN, [], images()[0])
