"""One run of a model, in which the channels of its layers are followed by number (see `flow`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from bnas.graph.calls import Calls
from bnas.graph.passing import ZERO, Passage, narrow, passed
from bnas.graph.rules import function_name
from bnas.graph.state import Call

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
FROZEN = FrozenBatchNorm2d  # its `forward` is followed as one layer

_KINDS: dict[str, tuple[type[nn.Module], ...]] = {
    "conv": CONVOLUTIONS, "transposed": TRANSPOSED, "linear": (nn.Linear,), "norm": NORMS,
}  # fmt: skip
_FUNCTIONS = {
    "conv1d": "conv", "conv2d": "conv", "conv3d": "conv", "linear": "linear", "batch_norm": "norm",
    "conv_transpose1d": "transposed", "conv_transpose2d": "transposed", "conv_transpose3d": "transposed",
}  # fmt: skip
# Functions that give no tensor, but by which a model, or who runs it, gets at values.
_READS_VALUES = frozenset(
    ("bool", "item", "int", "float", "tolist", "numpy", "array", "equal", "allclose", "setitem")
)


@dataclass(frozen=True, kw_only=True)
class Link:
    """All that becomes of the output of `writer` is that `reader` reads it, and `reader` reads it whenever it runs.

    Both may run several times, as the layers of a head that all levels of a pyramid share do.

    channels: for each input channel of the reader the output channel of the writer that it is, -1 if of another.
    between: the functions that compute in between, in order; of all ways, where there are several, as in
        `torch.cat([x, x.relu()], 1)`. Each treats every element or channel by itself and is scale-equivariant:
        f(s·x) = s·f(x) for every s > 0 of a channel. What only moves elements is not listed.
    padded: whether there are zeros among what the reader's weights meet: a padding of its own, or one before it.
    """

    writer: str
    reader: str
    channels: tuple[int, ...]
    between: tuple[str, ...] = ()
    padded: bool = False

    @property
    def whole(self) -> bool:
        """Whether the reader reads exactly the channels of the writer, in order, if it has no more than these."""
        return self.channels == tuple(range(len(self.channels)))


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The layers of a model that ran, in order of execution, and what becomes of the output of each.

    kinds: by the name of a layer `conv`, `transposed`, `linear` or `norm` (a batch norm).
    links: layers whose output only one other layer reads.
    ends: for every other layer, why there is no link, as in `breaks at features.3.act (ReLU6)`.
    """

    kinds: dict[str, str]
    links: tuple[Link, ...]
    ends: dict[str, str]

    @cached_property
    def link_of(self) -> dict[str, Link]:
        """Each link by its writer."""
        return {link.writer: link for link in self.links}


@dataclass
class Following:
    """The state of one run: who writes what, and where it ends up."""

    model: nn.Module
    running: list[tuple[str, nn.Module]] = field(default_factory=list)
    inside: int = 0  # modules that are followed as one layer and are running
    calls: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, str] = field(default_factory=dict)
    first: dict[str, int] = field(default_factory=dict)  # the number of each writer's first channel
    width: dict[str, int] = field(default_factory=dict)
    readings: dict[str, list[Link]] = field(default_factory=dict)
    reasons: dict[str, list[str]] = field(default_factory=dict)
    spoilt: dict[str, str] = field(default_factory=dict)  # layers whose weights are not theirs alone

    def __post_init__(self) -> None:
        self.key = object()
        self.owners: dict[int, list[str]] = {}
        for path, module in self.model.named_modules():
            for tensor in (*module._parameters.values(), *module._buffers.values()):
                if tensor is not None:
                    self.owners.setdefault(id(tensor), []).append(path)

    @property
    def where(self) -> str:
        path, module = self.running[-1] if self.running else ("", self.model)
        return f"{path or 'the model'} ({type(module).__name__})"

    def passage(self, tensor: Tensor) -> Passage | None:
        key, passage = getattr(tensor, "_bnas_flow", (None, None))
        return passage if key is self.key else None

    def put(self, tensor: Tensor, passage: Passage | None) -> None:
        tensor._bnas_flow = (self.key, passage)  # type: ignore[attr-defined]

    def end(self, tensor: Tensor, reason: str) -> None:
        """What `tensor` carries ends here."""
        passage = self.passage(tensor)
        for writer in passage.between if passage else ():
            self.reasons.setdefault(writer, []).append(reason)

    def layer(self, call: Call) -> tuple[str, str] | None:
        """Path and kind of the layer that this call is of: of the running module, with its very own weights."""
        kind = _FUNCTIONS.get(call.name)
        if kind is None or not self.running:
            return None
        path, module = self.running[-1]
        if kind == "norm":
            own = module._buffers.get("running_mean")
            given = None if call.get(5, "training", False) else call.get(1, "running_mean")
        else:
            own, given = module._parameters.get("weight"), call.get(1, "weight")
        return (path, kind) if isinstance(module, _KINDS[kind]) and own is not None and given is own else None

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = function(*args, **kwargs)
        self.follow(Call(function_name(function), args, kwargs, out), function)
        return out

    def follow(self, call: Call, function: Callable[..., Any]) -> None:
        """Note what one call does with what its arguments carry."""
        if self.inside or (not call.results and call.name not in _READS_VALUES):
            return
        found = self.layer(call)
        if found is not None:
            self.run(*found, call)
            return
        for tensor in call.tensors:
            for owner in self.owners.get(id(tensor), ()):
                self.spoilt.setdefault(owner, f"its weights are also used by {call.name} in {self.where}")
        carried = [tensor for tensor in call.tensors if self.passage(tensor) is not None]
        results = passed(call, function, self.passage) if carried else None
        if results is None:
            leaf = self.running and not any(self.running[-1][1].children())
            reason = f"breaks at {self.where}" + ("" if leaf else f": {call.name}")
            for tensor in {id(tensor): tensor for tensor in carried}.values():
                self.end(tensor, reason)
            results = [None] * len(call.results)
        for tensor, passage in zip(call.results, results, strict=True):
            if passage is not None or self.passage(tensor) is not None:
                self.put(tensor, passage)

    def run(self, path: str, kind: str, call: Call) -> None:
        """A layer runs: it reads its input and writes its output."""
        x, out = call.get(0, "input"), call.results[0]
        self.kinds[path] = kind
        self.calls[path] += 1
        weight = self.model.get_submodule(path)._parameters.get("weight")
        spatial = weight.ndim - 2 if weight is not None and kind in ("conv", "transposed") else 0
        axis = {"linear": -1, "norm": 1}.get(kind, out.ndim - 1 - spatial)
        self.read(path, x, axis, kind == "conv" and _pads(call, self.model.get_submodule(path)))
        size = out.shape[axis]
        if path not in self.first:
            self.first[path], self.width[path] = sum(self.width.values()), size
        shape = [1] * out.ndim
        shape[axis] = size
        numbers = torch.arange(size, dtype=torch.float32, device=out.device) + self.first[path]
        self.put(out, Passage(numbers.reshape(shape).expand(out.shape), {path: ()}))

    def read(self, reader: str, x: Tensor, axis: int, padded: bool) -> None:
        passage = self.passage(x)
        if passage is None:
            return
        rows = narrow(passage.numbers.movedim(axis, 0), skip=1).flatten(1)
        high = rows.amax(1)
        zeros = rows == ZERO
        if bool((torch.where(zeros, high[:, None], rows) != high[:, None]).any()):
            self.end(x, f"several of its channels meet in one of {reader}")
            return
        for writer, between in passage.between.items():
            channels = (high - self.first[writer]).long()
            channels[(channels < 0) | (channels >= self.width[writer])] = -1
            if bool((channels >= 0).any()):
                self.readings.setdefault(writer, []).append(
                    Link(
                        writer=writer,
                        reader=reader,
                        channels=tuple(channels.tolist()),
                        between=between,
                        padded=padded or bool(zeros.any()),
                    )
                )

    def facts(self) -> Flow:
        links, ends = [], {}
        for path in self.kinds:
            found = self.link(path)
            if isinstance(found, Link):
                links.append(found)
            else:
                ends[path] = found
        return Flow(kinds=self.kinds, links=tuple(links), ends=ends)

    def link(self, path: str) -> Link | str:
        """The link of a layer, or why there is none."""
        readings, reasons = self.readings.get(path, []), self.reasons.get(path, [])
        readers = list(dict.fromkeys(link.reader for link in readings))
        unfit = self.unfit(path)
        if unfit is not None:
            return unfit
        if len(readers) != 1 or reasons:
            by = [f"is read by {', '.join(readers)}"] if readers else []
            return "; ".join(dict.fromkeys([*by, *reasons])) or "nothing reads it"
        reader, first = readers[0], readings[0]
        unfit = self.unfit(reader)
        if unfit is not None:
            return f"is read by {reader}: {unfit}"
        if any((link.channels, link.between) != (first.channels, first.between) for link in readings):
            return f"is read by {reader} in several ways"
        if len(readings) < self.calls[reader]:
            return f"is read by {reader}, which runs {self.calls[reader]} times and reads others too"
        return replace(first, padded=any(link.padded for link in readings))

    def unfit(self, path: str) -> str | None:
        """Why a layer's weights cannot be changed with those of one other layer."""
        for tensor in self.model.get_submodule(path).parameters(recurse=False):
            others = [owner for owner in self.owners[id(tensor)] if owner != path]
            if others:
                return f"shares its weights with {others[0]}"
        return self.spoilt.get(path)


def _pads(call: Call, module: nn.Module) -> bool:
    """Whether a convolution puts zeros around its input."""
    padding = call.get(4, "padding", 0)
    if isinstance(padding, str):
        weight = call.get(1, "weight")
        return padding == "same" and any(size > 1 for size in weight.shape[2:])
    return any(padding) if isinstance(padding, (tuple, list)) else bool(padding)


@contextmanager
def following(model: nn.Module, state: Following) -> Iterator[None]:
    """What `model` computes inside is noted in `state`."""
    with ExitStack() as stack:
        for path, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(_enter(state, path)).remove)
            stack.callback(module.register_forward_hook(_leave(state, path)).remove)
        stack.enter_context(Calls(state.call))
        yield


def _enter(state: Following, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        state.running.append((path, module))
        state.inside += isinstance(module, FROZEN)

    return hook


def _leave(state: Following, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, FROZEN):
            state.inside -= 1
            with torch._C.DisableTorchFunction():
                state.run(path, "norm", Call("batch_norm", args, {}, output))
        state.running.pop()

    return hook
