"""Trace a model by running it: every torch function it calls passes through `torch.overrides`.

Each tensor carries a label per axis (see `channels`). A rule says what a function does with the labels; a
function without a rule freezes what passes through it, and the reason is kept. Rules use shapes, never
values, so the trace is the same for every input of one shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnas.errors import ModelError, SpaceError
from bnas.graph.blocks import BlockFinder
from bnas.graph.calls import Calls
from bnas.graph.channels import freeze
from bnas.graph.checks import check_model
from bnas.graph.collect import collect, idle_modules
from bnas.graph.facts import ChannelGraph, Resolution
from bnas.graph.lengths import with_labels
from bnas.graph.rules import AFTER_RULES, FUNCTION_RULES, MODULE_RULES, function_name
from bnas.graph.rules.elementwise import POINTWISE, forget
from bnas.graph.state import Call, OpenLayer, Trace, tensors_in, tensors_within

Inputs = Sequence[Any] | Mapping[str, Any]  # positional or keyword arguments, nested as the model takes them


def trace(model: nn.Module, inputs: Inputs) -> ChannelGraph:
    """Run `model` once in eval mode on `inputs` and write down the facts about its channels.

    The model is left as it was (mode, buffers, gradients). Where all inputs are tensors with one leading
    size, only the first item of that batch is used, so that costs are those of one item.

    Args:
        model: any module; it may call whatever Python and torch it likes.
        inputs: a sequence of positional arguments or a dict of keyword arguments; each a tensor or nested
            lists, tuples and dicts of tensors.

    Raises:
        ModelError: the model does not run on the inputs, or is of a kind that cannot be made elastic.
    """
    check_model(model)
    first = _first_item(inputs)
    if first is not None:
        try:
            return _trace(model, first)
        except ModelError:  # a model that only takes the batch it was given
            pass
    return _trace(model, inputs)


def at_resolutions(
    model: nn.Module, inputs: Inputs, graph: ChannelGraph, sizes: Sequence[int]
) -> ChannelGraph:
    """`graph` with the output positions of every layer for images of each size (pixels of a side).

    Raises:
        SpaceError: the model does not run, or runs through other layers, at one of the sizes.
    """
    found = []
    for wanted in sorted(set(sizes)):
        try:
            other = trace(model, resized_inputs(inputs, wanted))
        except ModelError as error:
            raise SpaceError(f"space.resolutions: {wanted} pixels: {error}") from error
        if [layer.name for layer in other.layers] != [layer.name for layer in graph.layers]:
            raise SpaceError(
                f"space.resolutions: at {wanted} pixels other layers run than at the model's own size"
            )
        positions = tuple(layer.positions for layer in other.layers)
        found.append(Resolution(size=wanted, positions=positions, pyramids=other.pyramids))
    return replace(graph, resolutions=tuple(found))


def resized_inputs(inputs: Any, size: int) -> Any:
    """Nested inputs with every image [..., C, H, W] resized to size × size."""
    if isinstance(inputs, Tensor):
        if inputs.ndim < 3 or not inputs.is_floating_point():
            return inputs
        images = inputs if inputs.ndim == 4 else inputs.reshape(-1, 1, *inputs.shape[-2:])
        images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return images.reshape(*inputs.shape[:-2], size, size)
    if isinstance(inputs, Mapping):
        return {name: resized_inputs(value, size) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return _like(inputs, [resized_inputs(value, size) for value in inputs])
    return inputs


def call_with(model: Callable[..., Any], inputs: Inputs) -> Any:
    """Call a model with positional or keyword arguments."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def _first_item(inputs: Inputs) -> Inputs | None:
    values = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)
    if not values or not all(isinstance(value, Tensor) and value.ndim for value in values):
        return None
    if len({len(value) for value in values}) > 1 or len(values[0]) <= 1:
        return None
    if isinstance(inputs, Mapping):
        return {name: value[:1] for name, value in inputs.items()}
    return [value[:1] for value in values]


def _trace(model: nn.Module, inputs: Inputs) -> ChannelGraph:
    state, finder = Trace(model), BlockFinder()
    with eval_mode(model), torch.no_grad(), _watch(model, state, finder):
        arguments = _aliased(inputs)  # so that marks never stay on the caller's tensors
        try:
            with Calls(partial(_called, state)):
                output = call_with(model, arguments)
        except Exception as error:  # what a model does with its inputs is its own affair
            shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors_in(inputs))
            text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(
                f"{type(model).__name__} does not run on inputs of shape {shapes}: {text}"
            ) from error
        _freeze_outputs(state, output)
        if idle_modules(state):
            _run_in_training(model, inputs, state)
        return collect(state, finder, tuple(tuple(tensor.shape) for tensor in tensors_in(inputs)))


def _freeze_outputs(state: Trace, output: Any) -> None:
    for tensor in tensors_within(output):
        for label in state.labels(tensor):
            freeze(label, "is an output of the model")


def _run_in_training(model: nn.Module, inputs: Inputs, state: Trace) -> None:
    """Run once more in train mode, as auxiliary outputs do not run in eval mode; buffers are left as they were."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    state.training = True
    model.train()
    try:
        with Calls(partial(_called, state)), torch.random.fork_rng(devices=[]):
            _freeze_outputs(state, call_with(model, _aliased(inputs)))
    except Exception:  # it may not take one item, or want targets: what is idle stays as it is
        state.running.clear()
    finally:
        state.training = False
        model.eval()
        for buffer, before in buffers:
            buffer.copy_(before)


def _aliased(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {name: _aliased(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return _like(value, [_aliased(item) for item in value])
    return value


def _like(value: Any, items: list[Any]) -> Any:
    """Items in a list, tuple or named tuple, as `value` is."""
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


# What Python asks a tensor for when it decides by its values.
_LOOKS_AT_VALUES = ("bool", "item", "int", "float", "tolist", "equal", "allclose")
_LENGTHS = frozenset(("shape", "size"))
_LEAVES = frozenset(("numpy", "tolist", "array"))  # what comes back cannot be followed


def _called(state: Trace, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a torch function, and follow what it does."""
    name = function_name(func)
    state.begins((args, kwargs))
    before = [label for tensor in tensors_in((args, kwargs)) for label in state.labels(tensor)]
    out = func(*args, **kwargs)
    call = Call(name, args, kwargs, out)
    rule = FUNCTION_RULES.get(name)
    if name in _LENGTHS:
        labels = state.labels(args[0])
        dim = call.get(1, "dim") if name == "size" else None
        return with_labels(out, labels if dim is None else (labels[dim],))
    if name in _LEAVES:
        forget(state, call, before, "leaves torch")
    if not call.results and name != "setitem":
        if name in _LOOKS_AT_VALUES and type(out) in (bool, int, float, list):
            state.decided.add(state.path)
        return out
    if rule is None:
        forget(state, call, before)
        return out
    if name in POINTWISE:
        state.follows_layer(name)
    try:
        rule(state, call)
    except (AssertionError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        forget(state, call, before, f"is more than the rule for {name} can follow ({error!r})")
    return out


@contextmanager
def _watch(model: nn.Module, state: Trace, finder: BlockFinder) -> Iterator[None]:
    """Follow which module runs, find blocks, and let module rules stand in for a whole `forward`."""
    with ExitStack() as stack:
        for path, module in model.named_modules():
            stack.callback(
                module.register_forward_pre_hook(_enter(state, finder, path), with_kwargs=True).remove
            )
            stack.callback(module.register_forward_hook(_leave(state, finder, path), with_kwargs=True).remove)
            rule = MODULE_RULES.get(type(module))
            if rule is not None and "forward" not in vars(module):
                module.forward = _as_one(module, module.forward, rule, state, path)
                stack.callback(vars(module).pop, "forward")
        stack.callback(_remove_marks, model, state)
        yield


def _remove_marks(model: nn.Module, state: Trace) -> None:
    """From parameters and buffers, and from what modules keep of what they compute."""
    kept = (tensor for module in model.modules() for tensor in tensors_in(list(vars(module).values())))
    for tensor in (*state.tensors.values(), *kept):
        vars(tensor).pop("_bnas_mark", None)


def _enter(state: Trace, finder: BlockFinder, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        state.running.append((path, module))
        if state.training:
            return
        first = next(iter((*args, *kwargs.values())), None)
        with torch._C.DisableTorchFunction():
            alone = len(args) == 1 and not kwargs
            finder.enter(path, first if isinstance(first, Tensor) else None, state, alone=alone)

    return hook


def _leave(state: Trace, finder: BlockFinder, path: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        with torch._C.DisableTorchFunction():
            for kind in type(module).__mro__:
                if kind in AFTER_RULES:
                    AFTER_RULES[kind](state, path, module, Call(type(module).__name__, args, kwargs, output))
            state.running.pop()
            if not state.training:
                finder.leave(path, module, output if isinstance(output, Tensor) else None, state)

    return hook


def _as_one(
    module: nn.Module, forward: Callable[..., Any], rule: Callable[..., None], state: Trace, path: str
) -> Callable[..., Any]:
    def traced(*args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            out = forward(*args, **kwargs)
            state.begins((args, kwargs))
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


__all__ = ["Call", "Inputs", "OpenLayer", "Trace", "at_resolutions", "call_with", "eval_mode", "trace"]
