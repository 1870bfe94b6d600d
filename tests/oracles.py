"""Independent witnesses (docs/design.md §8): each checks one promise without the code that keeps it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG
from torchvision.ops import FrozenBatchNorm2d

from bnas import space as spaces
from bnas.graph import ChannelGraph, Label, Layer
from bnas.graph.trace import Inputs, call_with
from bnas.plain import from_plain, to_plain
from bnas.space import SearchSpace, Shape, SubnetConfig, shape_of
from bnas.supernet import Batches, Supernet, extract_subnet, reorder_channels

T = TypeVar("T")


def randomize_norms(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random batch-norm statistics and scales: a fresh network's output can be almost nothing, and prove nothing."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor: Tensor, low: float, high: float) -> None:
        tensor.data.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | FrozenBatchNorm2d):
            uniform(module.running_mean, -0.2, 0.2)
            uniform(module.running_var, 0.5, 1.5)
            uniform(module.weight, 0.5, 1.5)
            uniform(module.bias, -0.2, 0.2)
    return model


def flat(output: Any) -> list[Tensor]:
    """All tensors of an output, in order, without numbers and settings beside them."""
    if isinstance(output, Tensor):
        return [output]
    values = (
        output.values() if isinstance(output, dict) else output if isinstance(output, (list, tuple)) else ()
    )
    return [tensor for value in values for tensor in flat(value)]


def assert_close(a: Any, b: Any, tolerance: float = 2e-4) -> None:
    """Outputs agree within `tolerance` of their own scale, and are not all but zero."""
    for x, y in zip(flat(a), flat(b), strict=True):
        assert x.shape == y.shape
        scale = float(x.abs().max())
        assert scale > 1e-6, "this output proves nothing"
        assert float((x - y).abs().max()) <= tolerance * scale


@torch.no_grad()
def run(model: Callable[..., Any], inputs: Inputs) -> Any:
    return call_with(model, inputs)


@contextmanager
def layer_by_layer() -> Iterator[None]:
    """Without the fused transformer layer: it counts as nothing, and reads the weights past any module."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def one_example(inputs: Inputs) -> Inputs:
    """The first of a batch where all inputs are tensors, else all of them: what costs are of."""
    values = list(inputs.values()) if isinstance(inputs, dict) else list(inputs)
    if not all(isinstance(value, Tensor) for value in values):
        return inputs
    return {k: v[:1] for k, v in inputs.items()} if isinstance(inputs, dict) else [v[:1] for v in values]


class Through(nn.Module):
    """A block that is not there, whatever else it is called with."""

    def forward(self, x: Tensor, *rest: Any, **named: Any) -> Tensor:
        return x


class NormOfKept(nn.Module):
    """A layer norm in which only the `kept` channels (a mask) count; the others come out as they may."""

    def __init__(self, norm: nn.Module, kept: Tensor) -> None:
        super().__init__()
        self.norm, self.kept, self.eps = norm, kept, norm.eps
        self.channels_first = type(norm).__name__ == "LayerNorm2d"

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1) if self.channels_first else x
        count = int(self.kept.sum())
        mean = x[..., self.kept].sum(-1, keepdim=True) / count
        variance = (x[..., self.kept] - mean).square().sum(-1, keepdim=True) / count
        x = (x - mean) / (variance + self.norm.eps).sqrt() * self.norm.weight
        x = x if self.norm.bias is None else x + self.norm.bias
        return x.movedim(-1, 1) if self.channels_first else x


def kept_positions(label: Label, shape: Shape) -> Tensor:
    """Which positions along a labelled axis a subnet keeps, one by one: a mask."""
    kept: list[bool] = []
    for segment in label:
        for unit in range(segment.units):
            keep = segment.group is None or unit < shape.widths.get(segment.group, segment.units)
            kept += [keep] * segment.repeat
    return torch.tensor(kept)


def read_weight(model: nn.Module, layer: Layer) -> tuple[Tensor, int] | None:
    """The weight by which a layer reads channels, and the axis along it that they lie on."""
    if not layer.kind.startswith(("conv", "linear")) or layer.groups > 1:
        return None  # depthwise and grouped layers, and norms, treat whole groups of channels on their own
    parent, _, own = layer.name.rpartition(".")
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if own in ("query", "key", "value") and isinstance(model.get_submodule(parent), nn.MultiheadAttention):
        return parameters[f"{parent}.in_proj_weight"], 1
    weight = parameters.get(f"{layer.name}.weight", parameters.get(layer.name))
    assert weight is not None, layer.name
    if layer.kind.startswith("conv"):
        return weight, 0 if layer.kind.startswith("conv_transpose") else 1
    linear = f"{layer.name}.weight" in parameters
    return weight, 1 if linear else 0  # a bare parameter on the right of a product: [inputs, outputs]


def dropped_channels_unread(
    original: nn.Module, graph: ChannelGraph, space: SearchSpace, config: SubnetConfig
) -> nn.Module:
    """Oracle 1's witness: the full model, in which nobody reads what `config` drops.

    Weights that read a dropped channel are zeroed one by one from the facts, as is what lies outside of a
    smaller kernel; norms over channels leave dropped ones out. Nothing is sliced.
    """
    model = copy.deepcopy(original)
    normalized = before_normalize(model)
    shape = shape_of(graph, space, config)
    for layer in graph.layers:
        found = read_weight(model, layer)
        if found is not None:
            weight, axis = found
            kept = kept_positions(layer.reads, shape)
            assert len(kept) == weight.shape[axis]
            for position in (~kept).nonzero().flatten().tolist():
                weight.data.select(axis, position).zero_()
        if layer.name in normalized:
            conv = model.get_submodule(layer.name)
            for position in (~kept_positions(layer.writes, shape)).nonzero().flatten().tolist():
                conv.weight.data[position] = conv.bias.data[position] = 0
        if layer.name in shape.kernels:
            kernel = model.get_submodule(layer.name).weight.data
            for axis in range(2, kernel.ndim):
                middle = (kernel.shape[axis] - 1) / 2
                for position in range(kernel.shape[axis]):
                    if abs(position - middle) > (shape.kernels[layer.name] - 1) / 2:
                        kernel.select(axis, position).zero_()
        if layer.kind == "layer_norm":
            replace(
                model,
                layer.name,
                NormOfKept(model.get_submodule(layer.name), kept_positions(layer.reads, shape)),
            )
    for block in shape.skipped:
        replace(model, block, Through())
    return model


def before_normalize(model: nn.Module) -> list[str]:
    """SSD's convolutions before `F.normalize`, where channels count although no weight reads them."""
    extractors = [name for name, own in model.named_modules() if isinstance(own, SSDFeatureExtractorVGG)]
    return [
        [f"{name}.{path}" for path, own in model.get_submodule(name).named_modules()
         if path.startswith("features") and isinstance(own, nn.Conv2d)][-1]
        for name in extractors
    ]  # fmt: skip


def replace(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def check_extraction(original: nn.Module, supernet: Supernet, config: SubnetConfig, inputs: Inputs) -> None:
    """Oracles 1 and 2: extracted = full model with dropped channels unread = activated super-network."""
    subnet = extract_subnet(supernet, config)
    result = run(subnet, inputs)
    witness = dropped_channels_unread(original, supernet.graph, supernet.space, config)
    with layer_by_layer():
        assert_close(run(witness, inputs), result)
    with supernet.activated(config):
        assert_close(run(supernet, inputs), result, 1e-5)


def check_largest(original: nn.Module, supernet: Supernet, inputs: Inputs) -> None:
    """Oracle 4: the largest config is the pretrained model bit for bit, `state_dict` keys too."""
    supernet.activate(supernet.space.largest)
    for x, y in zip(flat(run(original, inputs)), flat(run(supernet, inputs)), strict=True):
        assert torch.equal(x, y)
    state = supernet.model.state_dict()
    assert list(state) == list(original.state_dict())
    assert all(torch.equal(state[key], value) for key, value in original.state_dict().items())


def check_reordering(
    supernet: Supernet,
    inputs: Inputs,
    importance: str = "l1",
    batches: Callable[[], Batches] | None = None,
) -> None:
    """Oracle 3: reordering leaves the largest subnet's output unchanged, and really reorders."""
    supernet.activate(supernet.space.largest)
    before = run(supernet, inputs)
    weights = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    reorder_channels(supernet, importance, batches)
    after = run(supernet, inputs)
    assert_close(before, after)
    if "width" in supernet.space.dims:
        assert any(
            not torch.equal(value, weights[name]) for name, value in supernet.model.state_dict().items()
        )


def check_gradients(supernet: Supernet, config: SubnetConfig, inputs: Inputs) -> None:
    """Oracle 5: a weight gets a gradient only if the extracted subnet has it; the numbers of both agree."""
    supernet.model.zero_grad(set_to_none=True)
    with supernet.activated(config):
        sum(output.square().mean() for output in flat(call_with(supernet, inputs))).backward()
    touched = sum(int((p.grad != 0).sum()) for p in supernet.model.parameters() if p.grad is not None)
    subnet = extract_subnet(supernet, config)
    sum(output.square().mean() for output in flat(call_with(subnet, inputs))).backward()
    kept = sum(p.numel() for p in subnet.parameters() if p.grad is not None)
    expected = sum(int((p.grad != 0).sum()) for p in subnet.parameters() if p.grad is not None)
    assert touched <= kept
    assert abs(touched - expected) <= 1e-3 * expected  # exact zeros can differ by rounding
    supernet.model.zero_grad(set_to_none=True)


def check_costs(supernet: Supernet, config: SubnetConfig, inputs: Inputs) -> None:
    """Oracle 6: MACs and parameters from facts equal those counted by running the extracted model."""
    subnet = extract_subnet(supernet, config)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), layer_by_layer():
        call_with(subnet, one_example(inputs))
    costs = spaces.costs(supernet.graph, supernet.space, config)
    assert costs.macs * 2 == counter.get_total_flops()
    assert costs.parameters == sum(parameter.numel() for parameter in subnet.parameters())


def check_round_trip(kind: type[T], value: T) -> None:
    """Oracle 10: plain data and back is the same value."""
    assert from_plain(kind, to_plain(value)) == value


def all_configs(space: SearchSpace) -> list[SubnetConfig]:
    """Every config of a small space."""
    assert space.size <= 64
    names = [choice.name for choice in space.choices]
    values = itertools.product(*(choice.values for choice in space.choices))
    return [SubnetConfig(dict(zip(names, own, strict=True))) for own in values]
