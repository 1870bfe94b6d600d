"""Encodings for AIMET's and QNN's users: weights and activations on grids found on calibration images, in FP32.

Batch norms are folded and layers equalized first (`bnas.quantize.equalize`); then the ONNX network is run on the images
to find the range of each of its tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from bnas.errors import ConfigError, ExportError, require
from bnas.export import Quantized
from bnas.export.encodings import Encoded, Encoding
from bnas.export.encodings.aimet import channel_axes
from bnas.export.encodings.encoding import Form
from bnas.export.onnx import INPUT, OPSET, to_onnx
from bnas.export.texts import said_by_onnxruntime
from bnas.plain import to_plain
from bnas.quantize.calibration import calibration_images
from bnas.quantize.config import QuantizeConfig, quantizer
from bnas.quantize.encodings.bias import bias_encodings, guarded
from bnas.quantize.encodings.grids import Array, Grid, Symmetry
from bnas.quantize.encodings.placement import Placement, module_of, place
from bnas.quantize.encodings.ranges import FIRST, MinMax, Scheme, observer
from bnas.quantize.equalize import Equalize, equalize

_BITS, _FLOAT_BITS = range(4, 17), 16


@dataclass(frozen=True, kw_only=True)
class Aimet(QuantizeConfig):
    """Post-training quantization told as encodings; for `export=aimet`.

    `scheme`: ranges from least to greatest number ("tf"), by the least error ("tf_enhanced", slow) or without what
    lies beyond `percentile` per cent at either end ("percentile"). `weight_…`, `activation_…`: form, 4 to 16 bits and
    symmetry; "float" is float16. `per_channel`: weights have a scale for each output channel. `bias_bits`: of the
    integers of biases; 32 are taken to lose nothing, 31 are simulated; null: biases have no encodings. `equalize`: null
    folds batch norms only. `opset`: of the ONNX network.
    """

    kind: Literal["aimet"] = "aimet"
    scheme: Scheme = "tf"
    percentile: float = 99.99
    weight_form: Form = "int"
    weight_bits: int = 8
    weight_symmetry: Symmetry = "symmetric"
    per_channel: bool = False
    activation_form: Form = "int"
    activation_bits: int = 8
    activation_symmetry: Symmetry = "asymmetric"
    bias_bits: Literal[32, 31] | None = 32
    equalize: Equalize | None = field(default_factory=Equalize)
    opset: int = OPSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precisions:
            raise ConfigError("precisions: of blocks they can be chosen with quantize=nncf_ptq only")
        if not 50 <= self.percentile <= 100:
            raise ConfigError(f"percentile: expected 50 to 100, got {self.percentile:g}")
        for part in ("weight", "activation"):
            bits, form = getattr(self, f"{part}_bits"), getattr(self, f"{part}_form")
            if form == "float" and bits != _FLOAT_BITS:
                raise ConfigError(f"{part}_bits: expected 16 with {part}_form=float, got {bits}")
            if bits not in _BITS:
                raise ConfigError(f"{part}_bits: expected {_BITS[0]} to {_BITS[-1]}, got {bits}")


@quantizer(Aimet)
def quantize_aimet(
    module: nn.Module, config: Aimet, calibration: Iterable[Tensor], example: Tensor
) -> Quantized:
    """A `bnas.export.encodings.Encoded`: the network in FP32, folded and equalized, and its encodings.

    Raises:
        ExportError: the network cannot be written as ONNX, or there are no calibration images.
        MissingPackageError: onnx or onnxruntime is not installed.
    """
    require("onnxruntime", "onnxruntime")
    equalized = equalize(module, example, config.equalize or Equalize(scale=False, absorb=False))
    prepared, state = equalized.module, equalized.module.state_dict()
    network = to_onnx(prepared, example, opset=config.opset, fused=False)  # of what the state holds
    name_parameters(network, prepared, state)
    images = calibration_images(calibration, config.samples, example)
    placement = place(network, prepared)
    seen = observed(network, placement, images, config)
    activations = {name: _activation(name, own, config) for name, own in seen.items()}
    return Quantized(
        model=Encoded(
            network=network,
            state=state,
            activations=tuple(activations.values()),
            parameters=_parameters(network, activations, placement, config),
            moved=placement.moved,
            modules=placement.modules,
            images=len(images),
            options=to_plain(config),
            equalization=equalized.summary,
        ),
        precision=precision(config),
        runtime="aimet",
    )


def precision(config: Aimet) -> str:
    """What weights and activations are, as "int8" where both are the same, else as "int4/f16"."""
    parts = ((config.weight_form, config.weight_bits), (config.activation_form, config.activation_bits))
    return "/".join(dict.fromkeys(f"{'f' if form == 'float' else 'int'}{bits}" for form, bits in parts))


def observed(network: Any, placement: Placement, images: Sequence[Array], config: Aimet) -> dict[str, MinMax]:
    """What the scheme has seen of each activation of `network` on `images`, each [1, C, H, W]."""
    onnx, ort = require("onnx", "onnxruntime"), require("onnxruntime", "onnxruntime")
    model, names = onnx.ModelProto(), placement.activations
    model.CopyFrom(network)
    known = {value.name for value in (*model.graph.output, *model.graph.input)}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    leaders = {placement.shared.get(name, name): observer(config.scheme, config.percentile) for name in names}
    found = {name: leaders[placement.shared.get(name, name)] for name in names}
    asked = [name for name in names if name != INPUT]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

        def values(some: Iterable[Array]) -> Iterator[tuple[MinMax, Array]]:
            for image in some:
                own = zip(asked, session.run(asked, {INPUT: image}), strict=True)
                for name, value in (*own, (INPUT, image)):
                    if name in found and value.size:
                        yield found[name], value

        for own, value in values(images[:FIRST] if config.scheme != "tf" else ()):
            own.cover(value)
        for own, value in values(images):
            own.observe(value)
    except Exception as error:  # ONNX Runtime's errors have no common class
        raise ExportError(
            f"quantize: ONNX Runtime cannot run the network: {said_by_onnxruntime(error)}"
        ) from error
    return found


def weight_encoding(name: str, weight: Array, axis: int | None, config: Aimet) -> Encoding:
    """That of `weight`, for each channel along `axis`; None: one for all of them."""
    if config.weight_form == "float":
        return Encoding(name=name, bits=config.weight_bits, form="float")
    grid = Grid(bits=config.weight_bits, symmetry=config.weight_symmetry)
    parts = [weight] if axis is None else list(np.moveaxis(weight, axis, 0))
    pairs = []
    for part in parts:
        own = observer(config.scheme, config.percentile, wider=1.0)  # nothing will come after it
        own.observe(part)
        pairs.append(own.encoding(grid))
    scales, offsets = zip(*pairs, strict=True)
    if axis is not None and config.weight_symmetry == "unsigned" and len(set(offsets)) > 1:
        signed = Grid(bits=config.weight_bits, symmetry="symmetric")  # one type of integers for all channels
        scales, offsets = zip(*(_again(part, signed, config) for part in parts), strict=True)
    return _encoding(name, grid, scales, offsets, axis)


def name_parameters(network: Any, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give weights and biases of an `onnx.ModelProto` whose names torch made up those that `module` has for them.

    They have to hold the same numbers, perhaps turned; what `module` computes from its parameters is none of them.
    """
    arrays = require("onnx.numpy_helper", "onnxruntime")
    constants = {value.name: value for value in network.graph.initializer}
    paths = {path for path, _ in module.named_modules()}
    names: dict[str, str] = {}
    for node in network.graph.node:
        path = module_of(node.name.rpartition("/")[0], paths)
        for name, part in zip(node.input[1:3], ("weight", "bias"), strict=False):
            proper = f"{path}.{part}"
            if name in constants and name not in state and proper in state and proper not in constants:
                own, wanted = arrays.to_array(constants[name]), state[proper].detach().cpu().numpy()
                same = np.array_equal(own, wanted) or np.array_equal(own, wanted.T)
                if same and proper not in names.values():
                    names[name] = proper
    for node in network.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = names.get(name, name)
    for value in network.graph.initializer:
        value.name = names.get(value.name, value.name)


def _parameters(
    network: Any, activations: Mapping[str, Encoding], placement: Placement, config: Aimet
) -> tuple[Encoding, ...]:
    arrays = require("onnx.numpy_helper", "onnxruntime")
    values = {value.name: arrays.to_array(value) for value in network.graph.initializer}
    axes = channel_axes(network)
    weights: dict[str, Encoding] = {}
    for layer in placement.layers:
        if layer.weight not in weights:
            axis = axes[layer.weight] if config.per_channel and not layer.grouped else None
            weights[layer.weight] = weight_encoding(layer.weight, values[layer.weight], axis, config)
    if config.bias_bits is None:
        return tuple(weights.values())
    weights = guarded(weights, values, activations, placement, config.bias_bits)
    return (*weights.values(), *bias_encodings(weights, values, activations, placement, config.bias_bits))


def _activation(name: str, own: MinMax, config: Aimet) -> Encoding:
    if config.activation_form == "float":
        return Encoding(name=name, bits=config.activation_bits, form="float")
    grid = Grid(bits=config.activation_bits, symmetry=config.activation_symmetry)
    scale, offset = own.encoding(grid)
    return _encoding(name, grid, (scale,), (offset,), None)


def _again(part: Array, grid: Grid, config: Aimet) -> tuple[float, int]:
    own = observer(config.scheme, config.percentile, wider=1.0)
    own.observe(part)
    return own.encoding(grid)


def _encoding(
    name: str, grid: Grid, scales: Sequence[float], offsets: Sequence[int], axis: int | None
) -> Encoding:
    return Encoding(
        name=name,
        bits=grid.bits,
        symmetric=grid.symmetry != "asymmetric" and any(offsets),  # from zero up: about nothing
        strict=grid.symmetry == "strict",
        scale=tuple(scales),
        offset=tuple(offsets),
        axis=axis,
    )
