"""Gradient checkpointing: what blocks computed is computed again in the backward pass, not kept till then.

Chen et al. 2016, "Training deep nets with sublinear memory cost": only the inputs of blocks are kept.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten
from torch.utils.checkpoint import checkpoint

from bnas.errors import ConfigError, ModelError
from bnas.train.norms import still_statistics

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@contextmanager
def recomputed(model: nn.Module, enabled: bool = True) -> Iterator[None]:
    """Inside, the blocks of the model (see `blocks`) keep only their inputs for the backward pass.

    Losses, gradients and buffers are those of the model without it, bit by bit: random numbers are drawn
    again from where they were, modules have the training flags that they had, and norms count a batch once.
    The backward pass has to come while the subnet of the forward pass is active. Forward hooks of modules
    inside a block run again with it. A block that is skipped, or whose `forward` was set on the module
    itself, is left as it is; and so are passes without gradients. The classes of blocks are swapped, as those
    of elastic modules are, and swapped back at the end.

    Raises:
        ConfigError: the model has no such blocks.
        ModelError: in a forward pass: a block changes its inputs in place.
    """
    if not enabled:
        yield
        return
    swapped = [(block, type(block)) for block in blocks(model).values()]
    if not swapped:
        raise ConfigError(
            "recompute: this network has no blocks to compute again (children of a Sequential or ModuleList with "
            "two layers or more); set it to false"
        )
    for block, original in swapped:
        _swap_class(block, _recomputed_class(original))
    try:
        yield
    finally:
        for block, original in swapped:
            if isinstance(block, Recomputed):  # unless somebody else has swapped it meanwhile
                _swap_class(block, original)


def blocks(model: nn.Module) -> dict[str, nn.Module]:
    """The modules, by path, that are computed again as a whole.

    From the model down, the first modules with at least two layers that own parameters, which are children
    of a Sequential or ModuleList, or have a sibling of the same class: residual blocks, transformer layers,
    inception modules. Of a stage the blocks are taken, not the whole; a stage is a module in which some
    container holds two modules of one class, each with two layers that have weights of two axes or more
    (which a convolution with its norm has not).
    """
    found: dict[str, nn.Module] = {}
    _find(model, "", found, set())
    return found


def _find(module: nn.Module, path: str, found: dict[str, nn.Module], seen: set[int]) -> None:
    children = [child for child in module.children() if not isinstance(child, _CONTAINERS)]
    classes = [type(child) for child in children]
    for name, child in module.named_children():
        if id(child) in seen or isinstance(child, torch.jit.ScriptModule):
            continue
        seen.add(id(child))
        own = f"{path}.{name}" if path else name
        repeated = isinstance(module, nn.Sequential | nn.ModuleList) or classes.count(type(child)) > 1
        if repeated and not isinstance(child, nn.ModuleList | nn.ModuleDict) and _is_block(child):
            found[own] = child
        else:
            _find(child, own, found, seen)


def _is_block(module: nn.Module) -> bool:
    return _layers(module, axes=0) >= 2 and not any(
        isinstance(inner, _CONTAINERS) and _is_stage(inner.children()) for inner in module.modules()
    )


def _is_stage(children: Iterable[nn.Module]) -> bool:
    classes = [type(child) for child in children if _layers(child, axes=2) >= 2]
    return len(set(classes)) < len(classes)


def _layers(module: nn.Module, axes: int) -> int:
    """How many modules own a parameter with at least so many axes."""
    return sum(
        any(parameter.dim() >= axes for parameter in inner.parameters(recurse=False))
        for inner in module.modules()
    )


class Recomputed(nn.Module):
    """Base of the classes that blocks have inside `recomputed`; `_original` is the block's own."""

    _original: type[nn.Module]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the block's own."""
        compute = super().forward
        if not torch.is_grad_enabled():
            return compute(*args, **kwargs)
        # flat, so that autograd sees all tensors, and later changes of the caller's lists are not seen
        inputs, form = tree_flatten((args, kwargs))
        flags = [(module, module.training) for module in self.modules()]
        passes = count()

        def run(*values: Any) -> Any:
            args, kwargs = tree_unflatten(values, form)
            with _again(self, flags) if next(passes) else nullcontext():
                return compute(*args, **kwargs)

        versions = _versions(inputs)
        outputs = checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=True)
        if _versions(inputs) != versions:
            raise ModelError(
                f"recompute: a {type(self).__name__} block changes its input in place, and cannot be computed "
                "again from it; set recompute to false"
            )
        return outputs

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copies have the block's own class."""
        made: Any = super().__reduce_ex__(protocol)
        make, (_, *args), *state = made
        return make, (self._original, *args), *state


@contextmanager
def _again(block: nn.Module, flags: Sequence[tuple[nn.Module, bool]]) -> Iterator[None]:
    """A block as it was in its first pass, which leaves no trace."""
    now = [(module, module.training) for module, _ in flags]
    with still_statistics(block):
        try:
            _set_training(flags)
            yield
        finally:
            _set_training(now)


def _set_training(flags: Sequence[tuple[nn.Module, bool]]) -> None:
    for module, training in flags:
        module.training = training


def _swap_class(module: nn.Module, kind: type[nn.Module]) -> None:
    module.__class__ = kind


def _versions(values: Iterable[Any]) -> list[int]:
    return [value._version for value in values if isinstance(value, Tensor)]


_CLASSES: dict[type[nn.Module], type[nn.Module]] = {}


def _recomputed_class(original: type[nn.Module]) -> type[nn.Module]:
    if original not in _CLASSES:
        namespace = {"__module__": original.__module__, "__doc__": original.__doc__, "_original": original}
        _CLASSES[original] = types.new_class(
            original.__name__, (Recomputed, original), {}, lambda own: own.update(namespace)
        )
    return _CLASSES[original]
