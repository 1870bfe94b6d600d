"""Rules for functions that use weights: they read channels and make channels.

The axes of a weight have labels of their own; what a weight meets is united with them.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bnas.graph.channels import Parts, coarsen, fixed, freeze, is_fixed, resolved, scaled, size
from bnas.graph.rules.elementwise import broadcast
from bnas.graph.rules.table import rule
from bnas.graph.state import OpenLayer
from bnas.graph.unify import unite

if TYPE_CHECKING:
    from bnas.graph.trace import Call, Trace


@rule("conv1d", "conv2d", "conv3d")
def conv(trace: Trace, call: Call) -> None:
    """Reads the channels of [N, C, …] or [C, …] and makes new ones; grouped: whole groups stay."""
    x, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    groups = int(call.get(6, "groups", 1))
    outputs, inputs = trace.labels(weight)[:2]
    spatial = weight.ndim - 2
    labels = trace.labels(x)
    reads = labels[-spatial - 1]
    if groups == 1:
        reads = unite(reads, inputs, _where(trace, call))
    else:
        inputs_each, outputs_each = weight.shape[1], weight.shape[0] // groups
        reads = _grouped(trace, reads, outputs, inputs_each, outputs_each, groups) or reads
    _with_bias(trace, call, bias, outputs)
    module = trace.module
    plain = module._parameters.get("weight") is weight
    if trace.is_own(weight, _ConvNd):
        trace.follows("in_channels", reads)
        trace.follows("out_channels", outputs)
    trace.layer(
        OpenLayer(
            trace.layer_name(weight, "conv"),
            f"conv{spatial}d",
            reads,
            outputs,
            prod(call.out.shape[-spatial:]) * _fixed_positions(labels[: -spatial - 1]),
            tuple(weight.shape[2:]),
            groups,
            bias is not None,
            type(module).__name__,
            axes=_elastic_axes(labels[: -spatial - 1]),
            kernels=crops(module) if isinstance(module, _ConvNd) and plain else (),
            makes=True,
            stride=_stride(call.get(3, "stride", 1), spatial),
            input_positions=prod(x.shape[-spatial:]) * _fixed_positions(labels[: -spatial - 1]),
        )
    )
    trace.mark(call.out, (*labels[: -spatial - 1], outputs, *map(fixed, call.out.shape[-spatial:])))


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(trace: Trace, call: Call) -> None:
    """As `conv`; the weight is [inputs, outputs ÷ groups, …]."""
    x, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    groups = int(call.get(6, "groups", 1))
    inputs, outputs = trace.labels(weight)[:2]
    spatial = weight.ndim - 2
    labels = trace.labels(x)
    reads = labels[-spatial - 1]
    if groups == 1:
        reads = unite(reads, inputs, _where(trace, call))
    else:
        per = weight.shape[0] // groups
        coarse = _grouped(trace, reads, inputs, per, per, groups)
        outputs = scaled(coarse, weight.shape[1], per) if coarse else fixed(call.out.shape[-spatial - 1])
        reads = coarse or reads
    _with_bias(trace, call, bias, outputs)
    if trace.is_own(weight, _ConvTransposeNd):
        trace.follows("in_channels", reads)
        trace.follows("out_channels", outputs)
    trace.layer(
        OpenLayer(
            trace.layer_name(weight, "conv_transpose"),
            f"conv_transpose{spatial}d",
            reads,
            outputs,
            prod(x.shape[-spatial:])
            * _fixed_positions(labels[: -spatial - 1]),  # each input position meets the whole kernel
            tuple(weight.shape[2:]),
            groups,
            bias is not None,
            type(trace.module).__name__,
            axes=_elastic_axes(labels[: -spatial - 1]),
            makes=True,
        )
    )
    trace.mark(call.out, (*labels[: -spatial - 1], outputs, *map(fixed, call.out.shape[-spatial:])))


def _stride(stride: Any, spatial: int) -> int:
    """The product of the strides, given as one number or as one for each of the `spatial` axes."""
    each = [int(own) for own in stride] if isinstance(stride, Iterable) else [int(stride)]
    return prod(each * spatial if len(each) == 1 else each)


def _grouped(
    trace: Trace, reads: Parts, weights: Parts, inputs: int, outputs: int, groups: int
) -> Parts | None:
    """Unite what a grouped convolution reads with its weights: the units become whole groups.

    Each group of `inputs` channels makes its own group of `outputs` channels, so both have the same unknowns.
    Returns what it reads; None where the groups do not divide that.
    """
    coarse = coarsen(reads, inputs)
    if coarse is None:
        for label in (reads, weights):
            freeze(label, f"its channels do not divide into the groups of {trace.where}")
        return None
    unite(scaled(coarse, outputs, inputs), weights, f"the grouped {trace.where}")
    trace.follows_number("groups", groups, coarse, inputs)
    return resolved(reads)


def crops(module: _ConvNd) -> tuple[int, ...]:
    """The sizes, of the longest side, that a centre crop of the kernel can have with less padding.

    Sides of 1 stay. Empty where there is no centre (even sides), nothing to spare in the padding, or where
    the padding is not by zeros inside the layer.
    """
    sides = module.kernel_size
    if (
        isinstance(module, _ConvTransposeNd)
        or isinstance(module.padding, str)
        or module.padding_mode != "zeros"
    ):
        return ()
    largest = max(sides)
    if largest < 5 or any(side % 2 == 0 for side in sides):
        return ()
    sizes = []
    for value in range(3, largest + 1, 2):
        spare = [(side - min(side, value)) // 2 * module.dilation[i] for i, side in enumerate(sides)]
        if all(need <= have for need, have in zip(spare, module.padding, strict=True)):
            sizes.append(value)
    return tuple(sizes) if len(sizes) > 1 else ()


@rule("linear")
def linear(trace: Trace, call: Call) -> None:
    """Reads the last axis and makes new channels there; leading axes keep their labels."""
    x, weight, bias = call.get(0, "input"), call.get(1, "weight"), call.get(2, "bias")
    labels = trace.labels(x)
    own = trace.labels(weight)
    reads = unite(labels[-1], own[-1], _where(trace, call))
    if weight.ndim == 1:
        trace.mark(call.out, labels[:-1])
        return
    _with_bias(trace, call, bias, own[0])
    module = trace.module
    if trace.is_own(weight, nn.Linear):
        trace.follows("in_features", reads)
        trace.follows("out_features", own[0])
    trace.layer(
        OpenLayer(
            trace.layer_name(weight, "linear"),
            "linear",
            reads,
            own[0],
            _fixed_positions(labels[:-1]),
            bias=bias is not None,
            type=type(module).__name__,
            axes=_elastic_axes(labels[:-1]),
            makes=True,
        )
    )
    trace.mark(call.out, (*labels[:-1], own[0]))


@rule("embedding", "embedding_bag")
def embedding(trace: Trace, call: Call) -> None:
    """Looks up rows: all entries stay, the channels of each row are made here."""
    indices, weight = call.get(0, "input"), call.get(1, "weight")
    entries, channels = trace.labels(weight)
    freeze(entries, f"is indexed by {trace.where}")
    module = trace.module
    if trace.is_own(weight, nn.Embedding, nn.EmbeddingBag):
        trace.follows("embedding_dim", channels)
    name = trace.layer_name(weight, "embedding")
    trace.layer(OpenLayer(name, "embedding", fixed(1), channels, type=type(module).__name__, makes=True))
    leading = trace.labels(indices) if call.name == "embedding" else [fixed(n) for n in call.out.shape[:-1]]
    trace.mark(call.results[0], (*leading, channels))


@rule("batch_norm", "instance_norm")
def batch_norm(trace: Trace, call: Call) -> None:
    """Hands all labels on; its own tensors follow axis 1."""
    x = call.get(0, "input")
    tensors = [call.get(1, "running_mean"), call.get(2, "running_var")]
    tensors += [call.get(3, "weight"), call.get(4, "bias")]
    labels = trace.labels(x)
    _norm(trace, call, labels[1], [tensor for tensor in tensors if tensor is not None])
    if isinstance(trace.module, _NormBase):
        trace.follows("num_features", labels[1])
    trace.mark(call.out, labels)


@rule("layer_norm", "rms_norm")
def layer_norm(trace: Trace, call: Call) -> None:
    """Normalises over the last axes, however many channels they have; its own tensors follow them."""
    x, shape = call.get(0, "input"), tuple(call.get(1, "normalized_shape"))
    labels = trace.labels(x)
    last = labels[-len(shape) :]
    for tensor in (call.get(2, "weight"), call.get(3, "bias") if call.name == "layer_norm" else None):
        if isinstance(tensor, Tensor):
            for label, own in zip(last, trace.labels(tensor), strict=True):
                unite(label, own, _where(trace, call))
    held = getattr(trace.module, "normalized_shape", None)
    if held is not None and tuple(held) == shape:
        trace.follows("normalized_shape", *last, many=True)
    _enter_norm(trace, call, call.get(2, "weight"), last[-1], labels[:-1])
    trace.mark(call.out, labels)


@rule("group_norm")
def group_norm(trace: Trace, call: Call) -> None:
    """Whole groups of channels stay together, so that each is normalised as before."""
    x, groups = call.get(0, "input"), int(call.get(1, "num_groups"))
    labels = trace.labels(x)
    channels = labels[1]
    if groups > 1:
        per = x.shape[1] // groups
        if coarsen(channels, per) is None:
            freeze(channels, f"its channels do not divide into the groups of {trace.where}")
        trace.follows_number("num_groups", groups, channels, per)
    tensors = [tensor for tensor in (call.get(2, "weight"), call.get(3, "bias")) if tensor is not None]
    _norm(trace, call, channels, tensors)
    if isinstance(trace.module, nn.GroupNorm):
        trace.follows("num_channels", channels)
    trace.mark(call.out, labels)


@rule("prelu")
def prelu(trace: Trace, call: Call) -> None:
    """One slope for all, or one per channel."""
    x, weight = call.get(0, "input"), call.get(1, "weight")
    labels = trace.labels(x)
    if weight.numel() > 1:
        unite(labels[1 if x.ndim > 1 else 0], trace.labels(weight)[0], _where(trace, call))
        if isinstance(trace.module, nn.PReLU):
            trace.follows("num_parameters", trace.labels(weight)[0])
    trace.mark(call.out, labels)


def _norm(trace: Trace, call: Call, channels: Parts, tensors: Iterable[Tensor]) -> None:
    weight = None
    for tensor in tensors:
        weight = tensor if weight is None else weight
        unite(channels, trace.labels(tensor)[0], _where(trace, call))
    x = trace.labels(call.get(0, "input"))
    _enter_norm(trace, call, weight, channels, (x[0], *x[2:]))


def _enter_norm(
    trace: Trace, call: Call, weight: Tensor | None, channels: Parts, others: Iterable[Parts]
) -> None:
    if weight is None or trace.name(weight) is None:
        return
    name = str(trace.name(weight)).rpartition(".")[0]
    bias = getattr(trace.module, "bias", None) is not None
    kind, axes = type(trace.module).__name__, _elastic_axes(others)
    trace.layer(OpenLayer(name, call.name, channels, channels, bias=bias, type=kind, axes=axes))


def _with_bias(trace: Trace, call: Call, bias: Any, outputs: Parts) -> None:
    if isinstance(bias, Tensor):
        unite(outputs, trace.labels(bias)[0], _where(trace, call))


def _fixed_positions(axes: Iterable[Parts]) -> int:
    """Positions along the leading axes of fixed size; the others count as `elastic_axes`."""
    return prod(size(axis) for axis in axes if is_fixed(axis))


def _elastic_axes(axes: Iterable[Parts]) -> tuple[Parts, ...]:
    return tuple(axis for axis in axes if not is_fixed(axis))


def _where(trace: Trace, call: Call) -> str:
    return f"{call.name} in {trace.where}"


@rule("_weight_norm", "_weight_norm_interface")
def weight_norm(trace: Trace, call: Call) -> None:
    """A weight of the direction v and the length g, which is 1 along all axes but `dim` (Salimans et al. 2016)."""
    v, g = call.args[:2]
    labels = broadcast(trace, [v, g], v.ndim, _where(trace, call))
    trace.mark(call.results[0], labels)
    for lengths in call.results[1:]:
        trace.mark(lengths, trace.labels(g))


@rule("gru", "lstm", "rnn_tanh", "rnn_relu")
def recurrent(trace: Trace, call: Call) -> None:
    """Keeps its width, as all steps and gates share it; its products are counted, matrix by matrix."""
    x, weights = call.args[0], [tensor for tensor in call.tensors if trace.name(tensor) is not None]
    trace.freeze_all(call.tensors, f"passes through {call.name}, which keeps its width, in {trace.where}")
    for weight in weights:
        if weight.ndim == 2:
            name = trace.layer_name(weight, call.name)
            outputs, inputs = (fixed(n) for n in weight.shape)
            steps = x.numel() // x.shape[-1]
            trace.layer(
                OpenLayer(name, "recurrent", inputs, outputs, steps, type=type(trace.module).__name__)
            )
    for result in call.results:
        trace.mark(result, [fixed(n) for n in result.shape])
