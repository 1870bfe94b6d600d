"""Independent witnesses (docs/design.md §8): each checks one promise without the code that keeps it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import FrozenBatchNorm2d

from bnas import space as spaces
from bnas.graph import ChannelGraph
from bnas.plain import from_plain, to_plain
from bnas.space import SearchSpace, SubnetConfig, shape_of
from bnas.supernet import Supernet, extract_subnet, reorder_channels

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
    """All tensors of an output, in order."""
    if isinstance(output, Tensor):
        return [output]
    values = output.values() if isinstance(output, dict) else output
    return [tensor for value in values for tensor in flat(value)]


def assert_close(a: Any, b: Any, tolerance: float = 2e-4) -> None:
    """Outputs agree within `tolerance` of their own scale, and are not all but zero."""
    for x, y in zip(flat(a), flat(b), strict=True):
        assert x.shape == y.shape
        scale = float(x.abs().max())
        assert scale > 1e-6, "this output proves nothing"
        assert float((x - y).abs().max()) <= tolerance * scale


@torch.no_grad()
def run(model: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Any:
    return model(*inputs)


def dropped_channels_unread(
    original: nn.Module, graph: ChannelGraph, space: SearchSpace, config: SubnetConfig
) -> nn.Module:
    """Oracle 1's witness: the full model, in which nobody reads what `config` drops.

    Weights that read a dropped channel are zeroed one by one from the facts; nothing is sliced.
    """
    model = copy.deepcopy(original)
    shape = shape_of(graph, space, config)
    for layer in graph.layers:
        if layer.kind not in ("conv2d", "linear") or layer.groups > 1:
            continue  # depthwise and grouped layers, and norms, treat whole groups of channels on their own
        weight = model.get_submodule(layer.name).weight
        position = 0
        for segment in layer.reads:
            for unit in range(segment.units):
                keep = segment.group is None or unit < shape.widths.get(segment.group, segment.units)
                for _ in range(segment.repeat):
                    if not keep:
                        weight.data[:, position] = 0
                    position += 1
        assert position == weight.shape[1]
    for block in shape.skipped:
        parent, _, name = block.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())
    return model


def check_extraction(
    original: nn.Module, supernet: Supernet, config: SubnetConfig, inputs: tuple[Tensor, ...]
) -> None:
    """Oracles 1 and 2: extracted = full model with dropped channels unread = activated super-network."""
    subnet = extract_subnet(supernet, config)
    result = run(subnet, inputs)
    witness = dropped_channels_unread(original, supernet.graph, supernet.space, config)
    assert_close(run(witness, inputs), result)
    with supernet.activated(config):
        assert_close(run(supernet, inputs), result, 1e-5)


def check_largest(original: nn.Module, supernet: Supernet, inputs: tuple[Tensor, ...]) -> None:
    """Oracle 4: the largest config is the pretrained model bit for bit, `state_dict` keys too."""
    supernet.activate(supernet.space.largest)
    for x, y in zip(flat(run(original, inputs)), flat(run(supernet, inputs)), strict=True):
        assert torch.equal(x, y)
    state = supernet.model.state_dict()
    assert list(state) == list(original.state_dict())
    assert all(torch.equal(state[key], value) for key, value in original.state_dict().items())


def check_reordering(supernet: Supernet, inputs: tuple[Tensor, ...], importance: str = "l1") -> None:
    """Oracle 3: reordering leaves the largest subnet's output unchanged, and really reorders."""
    supernet.activate(supernet.space.largest)
    before = run(supernet, inputs)
    weights = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    reorder_channels(supernet, importance)
    after = run(supernet, inputs)
    assert_close(before, after)
    if "width" in supernet.space.dims:
        assert any(
            not torch.equal(value, weights[name]) for name, value in supernet.model.state_dict().items()
        )


def check_gradients(supernet: Supernet, config: SubnetConfig, inputs: tuple[Tensor, ...]) -> None:
    """Oracle 5: a weight gets a gradient only if the extracted subnet has it; the numbers of both agree."""
    supernet.model.zero_grad(set_to_none=True)
    with supernet.activated(config):
        sum(output.square().mean() for output in flat(supernet(*inputs))).backward()
    touched = sum(int((p.grad != 0).sum()) for p in supernet.model.parameters() if p.grad is not None)
    subnet = extract_subnet(supernet, config)
    sum(output.square().mean() for output in flat(subnet(*inputs))).backward()
    kept = sum(p.numel() for p in subnet.parameters() if p.grad is not None)
    expected = sum(int((p.grad != 0).sum()) for p in subnet.parameters() if p.grad is not None)
    assert touched <= kept
    assert abs(touched - expected) <= 1e-3 * expected  # exact zeros can differ by rounding
    supernet.model.zero_grad(set_to_none=True)


def check_costs(supernet: Supernet, config: SubnetConfig, inputs: tuple[Tensor, ...]) -> None:
    """Oracle 6: MACs and parameters from facts equal those counted by running the extracted model."""
    subnet = extract_subnet(supernet, config)
    one = tuple(tensor[:1] for tensor in inputs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        subnet(*one)
    costs = spaces.costs(supernet.graph, supernet.space, config)
    assert costs.macs * 2 == counter.get_total_flops()
    assert costs.parameters == sum(parameter.numel() for parameter in subnet.parameters())


def check_round_trip(kind: type[T], value: T) -> None:
    """Oracle 10: plain data and back is the same value."""
    assert from_plain(kind, to_plain(value)) == value
