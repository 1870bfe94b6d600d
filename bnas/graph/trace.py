"""Trace a model by running it: every torch function it calls passes through `torch.overrides`.

Each tensor carries a label per axis (see `channels`). A rule says what a function does with the labels; a
function without a rule freezes what passes through it, and the reason is kept. Rules use shapes, never
values, so the trace is the same for every input of one shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bnas.errors import ModelError
from bnas.graph.blocks import BlockFinder
from bnas.graph.channels import Channels, Part, Parts, fixed, freeze, merged, unite
from bnas.graph.facts import ChannelGraph, Group, Label, Layer, Other, Segment
from bnas.graph.rules import FUNCTION_RULES, MODULE_RULES, function_name


@dataclass
class Mark:
    """What a tensor carries: a label per axis, its identity, and the tensors that were added into it."""

    labels: tuple[Parts, ...]
    token: int
    sums: frozenset[int] = frozenset()


@dataclass
class OpenLayer:
    """A layer while tracing; becomes a `Layer` when all variables are known."""

    name: str
    kind: str
    reads: Parts
    writes: Parts
    positions: int = 0
    kernel: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False


@dataclass
class Call:
    """One call of a torch function, as a rule sees it."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def get(self, position: int, keyword: str, default: Any = None) -> Any:
        """An argument by position or keyword."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(keyword, default)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments, in order."""
        return list(_tensors((self.args, self.kwargs)))

    @property
    def results(self) -> list[Tensor]:
        return list(_tensors(self.out))


@dataclass
class Trace:
    """The state of one trace; the rules read and mark tensors through it."""

    model: nn.Module
    layers: dict[str, OpenLayer] = field(default_factory=dict)
    variables: list[Channels] = field(default_factory=list)
    other_macs: dict[str, int] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.owners: dict[int, tuple[str, nn.Module, str]] = {}
        self.shared: set[int] = set()
        for path, module in self.model.named_modules():
            direct = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            for name, tensor in direct:
                if id(tensor) in self.owners:
                    self.shared.add(id(tensor))
                self.owners[id(tensor)] = (path, module, name)

    @property
    def where(self) -> str:
        return self.path[-1] if self.path and self.path[-1] else "the model"

    def labels(self, tensor: Tensor) -> tuple[Parts, ...]:
        """The label of each axis; a tensor never seen (an input, a parameter, a constant) is fixed."""
        mark = _mark(tensor)
        return mark.labels if mark else tuple(fixed(size) for size in tensor.shape)

    def mark(self, tensor: Tensor, labels: Sequence[Parts], sums: frozenset[int] = frozenset()) -> None:
        """Set the labels of a result. `sums`: identities of the tensors added into it."""
        self.tokens += 1
        tensor._bnas_mark = Mark(tuple(labels), self.tokens, sums)  # type: ignore[attr-defined]

    def token(self, tensor: Tensor) -> int:
        """The identity of a tensor's present value (an in-place change gives it a new one)."""
        mark = _mark(tensor)
        if mark is None:
            self.mark(tensor, self.labels(tensor))
            mark = _mark(tensor)
        assert mark is not None
        return mark.token

    def sums(self, tensor: Tensor) -> frozenset[int]:
        mark = _mark(tensor)
        return mark.sums if mark else frozenset()

    def new_channels(self, name: str, units: int) -> Parts:
        """A new variable for the `units` output channels of layer `name`."""
        variable = Channels(name, units, len(self.variables))
        self.variables.append(variable)
        return (Part(variable, units),)

    def freeze_all(self, tensors: Sequence[Tensor], reason: str) -> None:
        for tensor in tensors:
            for label in self.labels(tensor):
                freeze(label, reason)

    def owner(self, tensor: Any, kinds: tuple[type[nn.Module], ...], name: str) -> tuple[str, Any] | None:
        """Path and module whose own tensor `name` this is; None where it is shared, computed or foreign."""
        path, module, own_name = self.owners.get(id(tensor), ("", None, ""))
        if module is None or own_name != name or id(tensor) in self.shared:
            return None
        kind = next((kind for kind in kinds if isinstance(module, kind)), None)
        if kind is None or type(module).forward is not kind.forward:
            return None
        return path, module

    def layer(self, layer: OpenLayer) -> Parts:
        """Enter a call of a layer; returns the label of its output channels.

        A module that is called again reads and writes the same channels as the first time.
        """
        known = self.layers.setdefault(layer.name, layer)
        if known is not layer:
            unite(known.reads, layer.reads, f"the shared layer {layer.name}")
            unite(known.writes, layer.writes, f"the shared layer {layer.name}")
            known.positions += layer.positions
        return known.writes


def trace(model: nn.Module, inputs: Sequence[Tensor]) -> ChannelGraph:
    """Run `model` once in eval mode on `inputs` and write down the facts about its channels.

    The model is left as it was (mode, buffers, gradients).

    Raises:
        ModelError: the model does not run on the inputs.
    """
    state, finder = Trace(model), BlockFinder()
    with eval_mode(model), torch.no_grad(), _watch(model, state, finder):
        # A fresh alias, so that marks never stay on the caller's tensors.
        arguments = tuple(tensor.detach() for tensor in inputs)
        try:
            with _Mode(state):
                output = model(*arguments)
        except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
            shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"{type(model).__name__} does not run on inputs of shape {shapes}: {text}"
            ) from error
    for tensor in _tensors(output):
        for label in state.labels(tensor):
            freeze(label, "is an output of the model")
    return _facts(state, finder, tuple(tuple(tensor.shape) for tensor in inputs))


class _Mode(TorchFunctionMode):
    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = function_name(func)
        labels = [label for tensor in _tensors((args, kwargs)) for label in self.trace.labels(tensor)]
        out = func(*args, **kwargs)
        call = Call(name, args, kwargs, out)
        if not call.results:
            return out
        rule = FUNCTION_RULES.get(name)
        if rule is not None:
            rule(self.trace, call)
        else:
            for label in labels:
                freeze(label, f"passes through {name}, which has no rule, in {self.trace.where}")
            for result in call.results:
                self.trace.mark(result, tuple(fixed(size) for size in result.shape))
        return out


@contextmanager
def _watch(model: nn.Module, state: Trace, finder: BlockFinder) -> Iterator[None]:
    """Follow which module runs, find blocks, and let module rules stand in for a whole `forward`."""
    with ExitStack() as stack:
        for path, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(_enter(state, finder, path)).remove)
            stack.callback(module.register_forward_hook(_leave(state, finder, path)).remove)
            rule = MODULE_RULES.get(type(module))
            if rule is not None and "forward" not in vars(module):
                module.forward = _as_one(module, module.forward, rule, state, path)
                stack.callback(vars(module).pop, "forward")
        for tensor in (*model.parameters(), *model.buffers()):
            stack.callback(vars(tensor).pop, "_bnas_mark", None)
        yield


def _enter(state: Trace, finder: BlockFinder, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
        state.path.append(path)
        single = len(args) == 1 and isinstance(args[0], Tensor)
        finder.enter(path, state.token(args[0]) if single else None, state.labels(args[0]) if single else ())

    return hook


def _leave(state: Trace, finder: BlockFinder, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        state.path.pop()
        if isinstance(output, Tensor):
            finder.leave(path, state.token(output), state.labels(output), state.sums(output))
        else:
            finder.leave(path, None, (), frozenset())

    return hook


def _as_one(
    module: nn.Module, forward: Callable[..., Any], rule: Callable[..., None], state: Trace, path: str
) -> Callable[..., Any]:
    def traced(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            out = forward(*args, **kwargs)
        rule(state, path, module, Call(type(module).__name__, args, kwargs, out))
        return out

    return traced


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _facts(state: Trace, finder: BlockFinder, input_shapes: tuple[tuple[int, ...], ...]) -> ChannelGraph:
    names: dict[int, str] = {}
    groups: list[Group] = []
    for variable in state.variables:  # in order of creation: the first of a class names the group
        root, factor = variable.find()
        if id(root) not in names:
            names[id(root)] = variable.name
            groups.append(
                Group(name=variable.name, units=root.units, channels_per_unit=factor, why=tuple(root.why))
            )

    def label(parts: Parts) -> Label:
        return tuple(
            Segment(
                group=None if part.channels is None else names[id(part.channels)],
                units=part.units,
                repeat=part.repeat,
            )
            for part in merged(parts)
        )

    layers = tuple(
        Layer(
            name=layer.name,
            kind=layer.kind,
            reads=label(layer.reads),
            writes=label(layer.writes),
            positions=layer.positions,
            kernel=layer.kernel,
            groups=layer.groups,
            bias=layer.bias,
        )
        for layer in state.layers.values()
    )
    return ChannelGraph(
        groups=tuple(groups),
        layers=layers,
        blocks=finder.blocks(),
        others=_others(state),
        input_shapes=input_shapes,
    )


def _others(state: Trace) -> tuple[Other, ...]:
    """Parameters outside the layers and MACs that no layer counted, by module."""
    counts: dict[str, int] = {}
    for path, module in state.model.named_modules():
        if path not in state.layers:
            own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
            if own:
                counts[path] = own
    return tuple(
        Other(module=path, parameters=counts.get(path, 0), macs=state.other_macs.get(path, 0))
        for path in dict.fromkeys((*counts, *state.other_macs))
    )


def _mark(tensor: Tensor) -> Mark | None:
    return getattr(tensor, "_bnas_mark", None)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
