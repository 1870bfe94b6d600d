"""INT8 networks for timing only: quantizers put where NNCF put them in a network of the same structure.

NNCF spends seconds on a network: it matches patterns and runs the network for the ranges of its activations.
How fast the network runs depends on where quantizers are and not on their ranges, and the subnets of one
super-network have the same operations around each tensor. So one network is quantized by NNCF; in the next
ones each tensor is treated as one in the same surroundings was. A network with surroundings that are new, or
that NNCF treated in two ways, goes through NNCF itself, and is learnt from. Operations that stay FP32 are
surroundings of other kinds, so that where precisions are mixed a few more networks are learnt from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnas.export import Quantized
from bnas.export.openvino_runtime import openvino
from bnas.quantize.config import QuantizeConfig, quantize
from bnas.quantize.ignored import converted
from bnas.quantize.in_openvino import for_openvino
from bnas.quantize.mixed import of_precision
from bnas.space import Precisions

# The axes of an operation's weights along which each channel has a scale of its own.
_CHANNEL_AXES = {"Convolution": (0,), "GroupConvolution": (0, 1), "ConvolutionBackpropData": (1,)}
_QUANTIZER = "FakeQuantize"
_GOLDEN = 0.6180339887  # whose multiples, modulo 1, are all apart

Place = tuple[str, int]
"""An operation and which of its inputs, or outputs."""

Surroundings = tuple[object, ...]


@dataclass(frozen=True)
class Quantizer:
    """What is done to a tensor: levels, range, and whether each channel along axis 1 has its own.

    `mixed`: of the channels some are never negative. That is a matter of the images, but one of kernels too: where
    NNCF found such channels, the next network gets one.
    """

    levels: int
    low: float
    high: float
    per_channel: bool
    mixed: bool = False

    @property
    def kind(self) -> tuple[int, bool]:
        """What decides about speed: not the range."""
        return self.levels, self.per_channel


@dataclass(frozen=True)
class Treatment:
    """What is done to an activation where it is read, and to the weights of what reads it."""

    quantizer: Quantizer | None
    weights: bool

    @property
    def kind(self) -> tuple[object, ...]:
        """What decides about speed."""
        return self.quantizer and self.quantizer.kind, self.weights

    @property
    def mixed(self) -> bool:
        return self.quantizer is not None and self.quantizer.mixed


class Placement:
    """Where quantizers go in networks of one family, as far as it is known; see the module's text."""

    def __init__(self, config: QuantizeConfig) -> None:
        self._config = for_openvino(config)
        self._known: dict[Surroundings, Treatment] = {}
        self._in_doubt: set[Surroundings] = set()
        self.by_nncf = 0

    def quantize(self, module: nn.Module, example: Tensor, precisions: Precisions | None = None) -> Quantized:
        """`module`, in eval mode, as an INT8 network: right in its speed, not in its answers.

        `example` is one input [n, C, H, W]; `precisions` are those of parts of the module, as for `bnas.quantize`.
        `by_nncf` counts the networks for which NNCF was needed.

        Raises:
            ExportError: the network cannot be converted or quantized.
        """
        model, operations = converted(module, example, self._config, precisions)
        whole, per_tensor = (of_precision(operations, own) for own in ("fp32", "int8_tensor"))
        if operations and whole == operations.keys():
            return Quantized(model=model, precision="f32")
        surroundings = _surroundings(model, whole)
        found = set(surroundings.values())
        known = found <= self._known.keys() and not found & self._in_doubt
        if known and self._place(model, surroundings, per_tensor):
            return Quantized(model=model, precision="int8", operations=operations)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, *example.shape[1:], generator=generator)
        quantized = quantize(module, self._config, [images], example, precisions=precisions)
        self._learn(quantized.model, of_precision(quantized.operations, "fp32"))
        self.by_nncf += 1
        return quantized

    def _learn(self, model: Any, whole: Set[str] = frozenset()) -> None:
        reads = _reads(model, whole)
        for place, around in _surroundings(model, whole).items():
            treatment = reads[place].treatment
            known = self._known.setdefault(around, treatment)
            if known.kind != treatment.kind:
                self._in_doubt.add(around)
            elif treatment.mixed and not known.mixed:
                self._known[around] = treatment

    def _place(
        self, model: Any, surroundings: dict[Place, Surroundings], per_tensor: Set[str] = frozenset()
    ) -> bool:
        """Put the quantizers into `model`; False, and nothing done, where weights are not plain constants.

        The weights of the operations `per_tensor` have one scale.
        """
        nodes = {node.get_friendly_name(): node for node in model.get_ops()}
        wanted = {place: self._known[around] for place, around in surroundings.items()}
        weighted = [nodes[name] for (name, _), treatment in wanted.items() if treatment.weights]
        if any(node.input_value(1).get_node().get_type_name() != "Constant" for node in weighted):
            return False
        made: dict[tuple[object, ...], Any] = {}
        for (name, port), treatment in wanted.items():
            if (quantizer := treatment.quantizer) is not None:
                source = nodes[name].input_value(port)
                key = (source.get_node().get_friendly_name(), source.get_index(), quantizer.kind)
                if key not in made:
                    made[key] = _fake_quantize(source, quantizer, len(made)).output(0)
                nodes[name].input(port).replace_source_output(made[key])
        for node in weighted:
            compressed = _compressed(node, per_tensor=node.get_friendly_name() in per_tensor)
            node.input(1).replace_source_output(compressed.output(0))
        model.validate_nodes_and_infer_types()
        return True


@dataclass(frozen=True)
class _Read:
    """An operation reads an activation: from which output, and how it is treated."""

    kind: str
    source: Place
    source_kind: str
    treatment: Treatment


def _reads(model: Any, whole: Set[str] = frozenset()) -> dict[Place, _Read]:
    """Every input of an operation that depends on the network's input; operations `whole` stay FP32."""
    dynamic: set[str] = set()
    reads: dict[Place, _Read] = {}
    for node in model.get_ordered_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        inputs = [node.input_value(port) for port in range(node.get_input_size())]
        ports = [i for i, own in enumerate(inputs) if own.get_node().get_friendly_name() in dynamic]
        if kind == "Parameter" or ports:
            dynamic.add(name)
        if kind == _QUANTIZER:
            continue
        for port in ports:
            source, quantizer = inputs[port], None
            if source.get_node().get_type_name() == _QUANTIZER:
                quantizer = _quantizer(source.get_node())
                source = source.get_node().input_value(0)
            producer = source.get_node()
            reads[name, port] = _Read(
                _kind(node, whole),
                (producer.get_friendly_name(), source.get_index()),
                _kind(producer, whole),
                Treatment(quantizer, weights=port == 0 and _has_small_weights(node)),
            )
    return reads


def _surroundings(model: Any, whole: Set[str] = frozenset()) -> dict[Place, Surroundings]:
    """What decides how a tensor is treated: who reads it, who made it from what, and who reads on.

    Operations `whole`, which stay FP32, are of other kinds than those that may be quantized.
    """
    reads = _reads(model, whole)
    readers: dict[str, list[str]] = defaultdict(list)
    made_from: dict[str, list[str]] = defaultdict(list)
    for (name, _), read in reads.items():
        readers[read.source[0]].append(read.kind)
        made_from[name].append(read.source_kind)
    return {
        (name, port): (
            read.kind,
            port,
            tuple(sorted(readers[name])),
            read.source_kind,
            tuple(sorted(readers[read.source[0]])),
            tuple(made_from[read.source[0]]),
        )
        for (name, port), read in reads.items()
    }


def _kind(node: Any, whole: Set[str]) -> str:
    """The operation's type; whether it is `whole`, has weights, and of convolutions whether it is depthwise."""
    kind = str(node.get_type_name())
    if node.get_friendly_name() in whole:
        return f"{kind} in FP32"
    if kind == "GroupConvolution":
        return f"{kind} of {'one' if node.input_value(1).shape[2] == 1 else 'many'}"
    return f"{kind} with weights" if kind == "MatMul" and _has_weights(node) else kind


def _has_weights(node: Any) -> bool:
    if node.get_type_name() in _CHANNEL_AXES:
        return True
    return node.get_type_name() == "MatMul" and not _depends_on_input(node.input_value(1).get_node())


def _has_small_weights(node: Any) -> bool:
    """Its weights are INT8 numbers, made whole again: a product, no plain constant."""
    return _has_weights(node) and node.input_value(1).get_node().get_type_name() != "Constant"


def _depends_on_input(node: Any) -> bool:
    if node.get_type_name() == "Parameter":
        return True
    return any(_depends_on_input(node.input_value(i).get_node()) for i in range(node.get_input_size()))


def _quantizer(node: Any) -> Quantizer:
    low, high = (np.ravel(node.input_value(port).get_node().data) for port in (1, 2))
    channel = np.argmin(low / np.maximum(high - low, 1e-12))  # the one that reaches furthest below zero
    return Quantizer(
        levels=int(node.get_attributes()["levels"]),
        low=float(low[channel]),
        high=float(high[channel]),
        per_channel=low.size > 1,
        mixed=bool((low < 0).any() and (low >= 0).any()),
    )


def _fake_quantize(source: Any, quantizer: Quantizer, place: int) -> Any:
    """The quantizer behind `source`, the `place`-th of its network.

    As in a network that was calibrated, each has a range of its own and so has each of its channels: steps of one size
    on both sides of a sum, or for all channels, are less work.
    """
    shape: tuple[int, ...] = ()
    if quantizer.per_channel:
        rank, channels = len(source.partial_shape), source.partial_shape[1].get_length()
        shape = (1, channels, *(1,) * (rank - 2))
    spread = np.linspace(0.5, 1.0, int(np.prod(shape))).reshape(shape) * (1 + place * _GOLDEN % 1)
    bounds = [np.asarray(bound * spread, dtype=np.float32) for bound in (quantizer.low, quantizer.high)]
    if quantizer.mixed and shape:
        bounds[0].flat[0] = 0.0
    low, high = (openvino().op.Constant(own) for own in bounds)
    return openvino().opset13.fake_quantize(source, low, high, low, high, quantizer.levels)


def _compressed(node: Any, *, per_tensor: bool = False) -> Any:
    """The weights of `node` as INT8 numbers times a scale, for each channel or one, as NNCF leaves them."""
    weights = node.input_value(1).get_node().data
    axes = _CHANNEL_AXES.get(node.get_type_name())
    if axes is None:  # a product of matrices: its outputs
        axes = (weights.ndim - 2 if node.get_attributes()["transpose_b"] else weights.ndim - 1,)
    others = tuple(axis for axis in range(weights.ndim) if per_tensor or axis not in axes)
    scale = np.maximum(np.abs(weights).max(axis=others, keepdims=True), 1e-12) / 127
    ov = openvino()
    numbers = ov.op.Constant(np.rint(weights / scale).astype(np.int8))
    whole = ov.opset13.convert(numbers, "f32")
    return ov.opset13.multiply(whole, ov.op.Constant(scale.astype(np.float32)))
