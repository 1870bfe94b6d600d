"""One network through the whole builder: a row of the coverage table."""

from __future__ import annotations

import copy
import importlib.util
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import log10
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.heads import HeadsOnly, enliven
from benchmarks.own_networks import OWN
from bnas.graph import ChannelGraph, Label, trace
from bnas.models import FAMILIES, ModelConfig, load_model
from bnas.space import SearchSpace, SpaceRules, SubnetConfig, costs, derive_space
from bnas.supernet import Supernet, prove

RULES = SpaceRules(dims=("depth", "kernel", "width"))
# For quick checks: smaller inputs than a family's own, by the first pattern of names that matches. Those
# that are not named here demand their own size.
SMALLER: dict[str, tuple[int, ...]] = {
    r"tiny_|s3d|mvit|maxvit|ssd": (),
    r"inception": (3, 96, 96),
    r"vit_h_14": (3, 84, 84),
    r".*rcnn|retinanet|fcos": (3, 128, 128),
    r"r3d|mc3|r2plus1d|swin3d": (3, 8, 64, 64),
    r".*": (3, 64, 64),
}
# Quick checks leave these out: too large, or inputs that cannot be small.
SLOW = (
    r"vit_[hl]_|vgg|regnet_\w_(16|32|128)gf|convnext_(base|large)|efficientnet_(b[567]|v2_[ml])|wide_resnet101"
    r"|resnext101|(mask|keypoint)rcnn|swin\w*_b|swin3d|mvit|s3d|maxvit|ssd300|densenet(161|201)"
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the builder makes of one network.

    `build_s`: seconds of trace, space and super-network; `forward_s`: of one plain pass. Groups that are the
    network's outputs (a detector's: frozen, and no layer reads them) are no one's choice, and counted apart.
    `conv_free_percent`: share of the convolutions' output channels that is in free groups, outputs aside;
    `linear_…` likewise; None where there are none. `oracles` maps each oracle's number to "passed" or what
    it said. `refused`: what the proof by running took back, and why.
    """

    name: str
    task: str
    inputs: str = ""
    forward_s: float = 0.0
    build_s: float = 0.0
    total_s: float = 0.0
    peak_mib: float = 0.0
    groups: int = 0
    free: int = 0
    outputs: int = 0
    layers: int = 0
    elastic_layers: int = 0
    attentions: int = 0
    elastic_attentions: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    residual_blocks: int = 0
    preserving_blocks: int = 0
    depth_choices: int = 0
    kernel_choices: int = 0
    width_choices: int = 0
    conv_free_percent: float | None = None
    linear_free_percent: float | None = None
    log10_size: float = 0.0
    macs: int = 0
    macs_least: int = 0
    parameters: int = 0
    parameters_least: int = 0
    oracles: dict[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    error: str | None = None

    @property
    def is_cnn(self) -> bool:
        """Whether its channels are those of convolutions: not in transformers, which only begin with one."""
        return not re.match(r"vit|swin|maxvit|mvit|own", self.name)

    @property
    def failed(self) -> list[str]:
        """Oracles that did not pass."""
        return [name for name, outcome in self.oracles.items() if outcome != "passed"]


def names() -> list[str]:
    """Every network of the table."""
    return [*FAMILIES, *OWN]


def small_shape(name: str) -> tuple[int, ...] | None:
    """The input shape for a quick check of the family `name`; None: its own."""
    return next(shape for pattern, shape in SMALLER.items() if re.match(pattern, name)) or None


def examine(name: str, *, small: bool = False, seed: int = 0) -> Row:
    """Build the network `name`, and hold the oracles on it; an error becomes part of the row."""
    begin = time.perf_counter()
    task = FAMILIES[name].task if name in FAMILIES else "own"
    found: dict[str, Any] = {}
    try:
        _examine(name, small, seed, found)
    except Exception as error:  # whatever a network raises is its row
        found["error"] = _one_line(error)
    return Row(name=name, task=task, total_s=time.perf_counter() - begin, peak_mib=_peak_mib(), **found)


def _examine(name: str, small: bool, seed: int, found: dict[str, Any]) -> None:
    torch.manual_seed(seed)
    model, inputs = _load(name, small, seed)
    found["inputs"] = _described(inputs)
    with torch.no_grad():
        found["forward_s"] = _timed(lambda: _call(model, inputs))
    begin = time.perf_counter()
    graph = trace(model, inputs)
    found |= _facts(graph, HeadsOnly.fits(model))
    space = derive_space(graph, RULES)
    supernet = Supernet(model, graph, space)
    found["build_s"] = time.perf_counter() - begin
    proof = prove(supernet, inputs, seed=seed)
    found["refused"] = tuple(f"{refused.choice}: {_short(refused.reason)}" for refused in proof.refused)
    space, model = proof.space, supernet.release()
    found |= _choices(graph, space)
    if HeadsOnly.fits(model):
        model = HeadsOnly(model)
        graph = trace(model, inputs)
        space = derive_space(graph, RULES)
    enliven(model, inputs, seed)
    found["oracles"] = _oracles(model, graph, space, inputs, seed)


def _load(name: str, small: bool, seed: int) -> tuple[nn.Module, Any]:
    if name in OWN:
        model, inputs = OWN[name]()
        return model.eval(), inputs
    return load_model(
        ModelConfig(name=name, weights="none"), shape=small_shape(name) if small else None, seed=seed
    )


def _call(model: nn.Module, inputs: Any) -> Any:
    return model(**inputs) if isinstance(inputs, dict) else model(*inputs)


def _facts(graph: ChannelGraph, detector: bool) -> dict[str, Any]:
    read = {segment.group for layer in graph.layers for segment in layer.reads}
    outputs = {
        group.name
        for group in graph.groups
        if "is an output of the model" in group.why or (detector and group.why and group.name not in read)
    }
    frozen = [group for group in graph.groups if not group.free and group.name not in outputs]
    layers = [layer for layer in graph.layers if _is_conv(layer.kind) or layer.kind == "linear"]
    heads: dict[str, bool] = {}  # by the module that multiplies, whether some heads may go
    for layer in graph.layers:
        if layer.kind == "matmul":
            along = [s.group for axis in layer.axes for s in axis if s.group]
            module = layer.name.rpartition(".")[0]
            heads[module] = heads.get(module, False) or any(graph.group_by_name[g].free for g in along)
    kinds = [block.kind for block in graph.blocks]
    return {
        "groups": len(graph.groups),
        "free": sum(group.free for group in graph.groups),
        "outputs": len(outputs),
        "layers": len(layers),
        "elastic_layers": sum(
            any(s.group and graph.group_by_name[s.group].free for s in (*layer.reads, *layer.writes))
            for layer in layers
        ),
        "attentions": len(heads),
        "elastic_attentions": sum(heads.values()),
        "reasons": dict(
            Counter(re.sub(r" (in|by|of) \S+$", "", group.why[0]) for group in frozen).most_common()
        ),
        "residual_blocks": kinds.count("residual"),
        "preserving_blocks": kinds.count("preserving"),
        "conv_free_percent": _free_percent(graph, outputs, _is_conv),
        "linear_free_percent": _free_percent(graph, outputs, "linear".__eq__),
    }


def _is_conv(kind: str) -> bool:
    return "conv" in kind


def _free_percent(graph: ChannelGraph, outputs: set[str], of_kind: Callable[[str], bool]) -> float | None:
    """Share of the output channels of layers `of_kind` that are in free groups, outputs of the model aside."""

    def written() -> Iterator[Label]:
        yield from (layer.writes for layer in graph.layers if of_kind(layer.kind))

    free = total = 0
    for label in written():
        for segment in label:
            if segment.group not in outputs:
                total += segment.size
                free += segment.size if segment.group and graph.group_by_name[segment.group].free else 0
    return 100 * free / total if total else None


def _choices(graph: ChannelGraph, space: SearchSpace) -> dict[str, Any]:
    dims = [choice.dim for choice in space.choices]
    largest, smallest = (costs(graph, space, config) for config in (space.largest, space.smallest))
    return {
        "depth_choices": dims.count("depth"),
        "kernel_choices": dims.count("kernel"),
        "width_choices": dims.count("width"),
        "log10_size": sum(log10(bound) for bound in space.bounds),
        "macs": largest.macs,
        "macs_least": smallest.macs,
        "parameters": largest.parameters,
        "parameters_least": smallest.parameters,
    }


def _oracles(
    model: nn.Module, graph: ChannelGraph, space: SearchSpace, inputs: Any, seed: int
) -> dict[str, str]:
    """Every oracle of tests/oracles.py that needs one network only, by its number in docs/design.md §8."""
    oracles = load_oracles()
    supernet = Supernet(copy.deepcopy(model), graph, space)
    drawn = space.sample(np.random.default_rng(seed))
    configs: tuple[SubnetConfig, ...] = (space.smallest, drawn)
    found: dict[str, str] = {}

    def hold(number: str, check: Callable[..., None], *arguments: Any) -> None:
        try:
            check(*arguments)
        except Exception as error:
            found[number] = _one_line(error)
        else:
            found.setdefault(number, "passed")

    hold("4", oracles.check_largest, model, supernet, inputs)
    for config in configs:
        hold("1, 2", oracles.check_extraction, model, supernet, config, inputs)
    for config in (space.largest, *configs):
        hold("6", oracles.check_costs, supernet, config, inputs)
    hold("5", oracles.check_gradients, supernet, drawn, inputs)
    hold("10", oracles.check_round_trip, ChannelGraph, graph)
    hold("10", oracles.check_round_trip, SearchSpace, space)
    hold("3", oracles.check_reordering, supernet, inputs)  # the last: it changes the weights
    return dict(sorted(found.items(), key=lambda item: int(item[0].partition(",")[0])))


def load_oracles() -> ModuleType:
    """tests/oracles.py, which is no part of any package."""
    path = Path(__file__).parents[1] / "tests" / "oracles.py"
    spec = importlib.util.spec_from_file_location("oracles", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _timed(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _described(inputs: Any) -> str:
    """Shapes of the inputs as a person reads them: 1×3×224×224."""
    if isinstance(inputs, torch.Tensor):
        return "×".join(map(str, inputs.shape)) or "number"
    values = inputs.values() if isinstance(inputs, dict) else inputs
    return ", ".join(map(_described, values))


def _one_line(error: BaseException) -> str:
    text = _short(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _short(text: str) -> str:
    return " ".join(text.split())[:200]


def _peak_mib() -> float:
    """The most memory that this process has held; 0 where the system does not tell."""
    try:  # not ru_maxrss: a child inherits its parent's
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    match = re.search(r"^VmHWM:\s*(\d+) kB", status, re.M)
    return int(match[1]) / 1024 if match else 0.0
