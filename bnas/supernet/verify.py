"""Prove by running that what was built is what it claims to be, and find the choices that are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bnas.errors import ModelError
from bnas.graph.costs import active_size
from bnas.graph.facts import ChannelGraph, Layer
from bnas.graph.trace import Inputs, call_with, eval_mode
from bnas.space import SearchSpace, SubnetConfig, resized, resolution_of, shape_of
from bnas.supernet.supernet import Supernet


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A choice that the model cannot take, and what happened: the text of its exception."""

    choice: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Proof:
    """`space` is what is left without the choices `refused`; `ran` counts the runs of the model."""

    space: SearchSpace
    refused: tuple[Refused, ...]
    ran: int


def prove(supernet: Supernet, inputs: Inputs, *, seed: int = 0, random_subnets: int = 2) -> Proof:
    """Run the largest, the smallest (also with every block) and some random subnets; leave out what breaks one.

    A subnet fails when the model raises, when a layer's output is not of the size that the facts say, or
    when the outputs have another shape than those of the largest (at the same resolution, with the same levels
    of pyramids, of which a detector has anchors each). The culprit is
    found by bisection: choices are lowered one after another until the subnet fails.

    Args:
        inputs: positional or keyword arguments as in `trace`.

    Raises:
        ModelError: the largest subnet, the model as it is, does not run.
    """
    trial = _Trial(supernet, inputs)
    space, refused = supernet.space, list[Refused]()
    reason = trial.failure(supernet.space.largest)
    if reason is not None:
        raise ModelError(f"the model does not run on these inputs: {reason}")
    rng = np.random.default_rng([seed, 1])
    deep = SubnetConfig(  # with every block, as one that is skipped can break nothing
        {c.name: c.values[-1] if c.dim == "depth" else c.values[0] for c in space.choices}
    )
    drawn = list(dict.fromkeys([deep, space.smallest, *(space.sample(rng) for _ in range(random_subnets))]))
    for number in range(len(drawn)):
        while True:
            config = _restricted(supernet.space, drawn[number], space)
            reason = trial.failure(config)
            if reason is None:
                break
            culprit, reason = _bisect(supernet.space, config, reason, trial.failure)
            refused.append(Refused(choice=culprit, reason=reason))
            kept = tuple(choice for choice in space.choices if choice.name != culprit)
            space = replace(space, choices=kept)
    return Proof(space=space, refused=tuple(refused), ran=trial.ran)


def _restricted(whole: SearchSpace, config: SubnetConfig, left: SearchSpace) -> SubnetConfig:
    """`config` with the largest value of every choice that is no longer in the space."""
    return SubnetConfig(
        {
            choice.name: config[choice.name] if choice.name in left.choice_by_name else choice.values[-1]
            for choice in whole.choices
        }
    )


def _bisect(
    space: SearchSpace, config: SubnetConfig, reason: str, failure: Callable[[SubnetConfig], str | None]
) -> tuple[str, str]:
    """The choice that, lowered after those before it, makes `config` fail, and the reason."""
    lowered = [choice for choice in space.choices if config[choice.name] != choice.values[-1]]
    passes, fails = 0, len(lowered)  # so many lowered choices run, so many do not
    while fails - passes > 1:
        middle = (passes + fails) // 2
        names = {choice.name for choice in lowered[:middle]}
        found = failure(
            SubnetConfig({c.name: config[c.name] if c.name in names else c.values[-1] for c in space.choices})
        )
        if found is None:
            passes = middle
        else:
            fails, reason = middle, found
    return lowered[fails - 1].name, reason


class _Trial:
    """Runs subnets on the inputs and compares them with the largest at the same resolution and levels."""

    def __init__(self, supernet: Supernet, inputs: Inputs) -> None:
        self.supernet, self.inputs = supernet, inputs
        self.ran = 0
        self.expected: dict[SubnetConfig, _Run] = {}

    def failure(self, config: SubnetConfig) -> str | None:
        """Why the subnet does not run as it should; None where it does."""
        space = self.supernet.space
        size = resolution_of(config)
        try:
            largest = SubnetConfig(
                {
                    c.name: config[c.name] if c.dim in ("resolution", "levels") else c.values[-1]
                    for c in space.choices
                }
            )
            if largest not in self.expected:
                self.expected[largest] = self._run(largest, size)
            if config == largest:
                return None
            return self._run(config, size).differs(self.expected[largest], self.supernet, config)
        except Exception as error:  # what the user's model does with its tensors is its own affair
            first = next(iter(str(error).strip().splitlines()), "")
            return f"{type(error).__name__}: {first}" if first else type(error).__name__

    @torch.no_grad()
    def _run(self, config: SubnetConfig, size: int | None) -> _Run:
        self.ran += 1
        run = _Run()
        with (
            self.supernet.activated(config),
            eval_mode(self.supernet.model),
            _watched(self.supernet.model, self.supernet.graph, run.layers),
            _Values() as values,
        ):
            output = call_with(self.supernet, resized(self.inputs, size))
        run.output, run.by_value = shapes(output), values.seen
        return run


class _Run:
    """What a run showed: shapes of the outputs, sizes of the layers' outputs, whether values decided them."""

    def __init__(self) -> None:
        self.layers: dict[str, list[int]] = {}
        self.output: Any = None
        self.by_value = False

    def differs(self, largest: _Run, supernet: Supernet, config: SubnetConfig) -> str | None:
        """What is not as it should be, compared with the run of the largest."""
        if self.by_value or largest.by_value:  # boxes that are found and the like: any number is right
            return None
        shape = shape_of(supernet.graph, supernet.space, config)
        for layer in supernet.graph.layers:
            got, full = self.layers.get(layer.name), largest.layers.get(layer.name)
            if got is None or full is None or len(got) != len(full):  # some of its calls are skipped
                continue
            expected = sum(full)
            for label in (layer.writes, *layer.axes):
                expected = expected * active_size(label, shape.widths) // active_size(label, {})
            if sum(got) != expected:
                return f"{layer.name} makes {sum(got)} numbers where {expected} were expected"
        if self.output != largest.output:
            return f"the output has shape {self.output}, that of the whole model {largest.output}"
        return None


class _Values(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees whether values, not shapes alone, decide how large a result is."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if torch.Tag.dynamic_output_shape in func.tags:
            self.seen = True
        return func(*args, **(kwargs or {}))


@contextmanager
def _watched(model: nn.Module, graph: ChannelGraph, sizes: dict[str, list[int]]) -> Iterator[None]:
    """Write down how many numbers the layers that are modules put out, call by call."""
    modules = dict(model.named_modules())

    def hook(layer: Layer) -> Callable[[nn.Module, Any, Any], None]:
        def add(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                sizes.setdefault(layer.name, []).append(output.numel())

        return add

    handles = [
        modules[layer.name].register_forward_hook(hook(layer))
        for layer in graph.layers
        if layer.name in modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def shapes(output: Any) -> Any:
    """An output with the shapes of its tensors in their places."""
    if isinstance(output, Tensor):
        return tuple(output.shape)
    if isinstance(output, Mapping):
        return {name: shapes(value) for name, value in output.items()}
    if isinstance(output, Sequence) and not isinstance(output, str):
        return [shapes(value) for value in output]
    return type(output).__name__
