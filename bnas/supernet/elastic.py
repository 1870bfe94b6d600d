"""Elastic modules: the user's own, with another class whose labelled tensors are the active part of themselves.

`module.__class__` is swapped for a subclass with a property per labelled tensor, so that any `forward` reads
active parts. Names, parameters, hooks, optimizer references and `state_dict` keys stay. Tensors are cut,
never masked.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _NormBase

Index = slice | Tensor  # positions along an axis: a range, or positions in ascending order
Slices = tuple[slice, ...]
# What a module uses of a tensor: a range of each leading axis, or what a function makes of the tensor.
Cut = Slices | Callable[[Tensor], Tensor]
WHOLE = slice(None)
_MISSING = object()


class Elastic(nn.Module):
    """Base of all elastic classes. `_cuts` maps the names of tensors that are cut to how."""

    _cuts: dict[str, Cut]

    def __setattr__(self, name: str, value: Any) -> None:
        """What is assigned to a buffer of which a part is active goes into that part."""
        cut = self.__dict__.get("_cuts", {}).get(name)
        whole = self._buffers.get(name) if cut is not None else None
        if whole is None or not isinstance(value, Tensor) or value.shape == whole.shape:
            super().__setattr__(name, value)
        elif isinstance(cut, Gathered):
            cut.put_back(whole, value.detach())
        else:
            whole[cut].copy_(value.detach())


class Gathered:
    """A cut by positions: `slices` of the leading axes first, then `indices` (axis, positions)."""

    def __init__(self, slices: Slices, indices: tuple[tuple[int, Tensor], ...]) -> None:
        self.slices, self.indices = slices, indices

    def __call__(self, tensor: Tensor) -> Tensor:
        self.move(tensor.device)
        tensor = tensor[self.slices]
        for axis, index in self.indices:
            tensor = tensor.index_select(axis, index)
        return tensor

    def put_back(self, tensor: Tensor, part: Tensor) -> None:
        """Write `part`, a gathered copy that has changed, into `tensor`."""
        places = torch.arange(tensor.numel(), device=tensor.device).reshape(tensor.shape)
        tensor.view(-1)[self(places).flatten()] = part.flatten()

    def move(self, device: torch.device) -> None:
        """Keep the positions where the tensor is."""
        if self.indices and self.indices[0][1].device != device:
            self.indices = tuple((axis, index.to(device)) for axis, index in self.indices)


def make_cut(indices: tuple[Index | None, ...]) -> Cut | None:
    """The cut at `indices`, one per leading axis; an index of None takes the whole axis."""
    slices = tuple(index if isinstance(index, slice) else WHOLE for index in indices)
    while slices and slices[-1] is WHOLE:
        slices = slices[:-1]
    gathered = tuple((axis, index) for axis, index in enumerate(indices) if isinstance(index, Tensor))
    if gathered:
        return Gathered(slices, gathered)
    return slices or None


def apply_cut(tensor: Tensor, cut: Cut | None) -> Tensor:
    """The active part of `tensor`; a view where the cut is of ranges."""
    if cut is None:
        return tensor
    return tensor[cut] if isinstance(cut, tuple) else cut(tensor)


class _Part(torch.autograd.Function):
    """A range of each leading axis, with one tensor of zeros for its gradient, laid out as the whole tensor.

    torch's own slices make one for each axis, laid out plainly, which a channels-last parameter copies again.
    """

    @staticmethod
    def forward(ctx: Any, whole: Tensor, cut: Slices) -> Tensor:
        ctx.whole, ctx.cut = whole.detach(), cut
        return whole[cut]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = torch.zeros_like(ctx.whole)
        whole[ctx.cut] = gradient
        return whole, None


class ElasticNorm(Elastic):
    """A norm whose running statistics, where they are gathered copies, are written back after a forward."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the norm's own."""
        if not self.training:
            return super().forward(*args, **kwargs)
        gathered = {
            name: cut
            for name in ("running_mean", "running_var")
            if isinstance(cut := self._cuts.get(name), Gathered)
        }
        if not gathered:
            return super().forward(*args, **kwargs)
        cuts = self._cuts
        whole = {name: self._buffers[name] for name in gathered}
        parts = {name: getattr(self, name) for name in gathered}
        self._cuts = {name: cut for name, cut in cuts.items() if name not in gathered}
        self._buffers.update(parts)
        try:
            return super().forward(*args, **kwargs)
        finally:
            self._cuts = cuts
            self._buffers.update(whole)
            for name, cut in gathered.items():
                cut.put_back(whole[name], parts[name])  # type: ignore[arg-type]


# Modules for which reading active parts is not enough: their class → a base of their elastic class, whose
# `forward` may call `super().forward`.
ELASTIC: dict[type[nn.Module], type[Elastic]] = {_NormBase: ElasticNorm}
_CLASSES: dict[tuple[type[nn.Module], type[Elastic], tuple[str, ...]], type[nn.Module]] = {}


def elastic_class(original: type[nn.Module], tensors: tuple[str, ...]) -> type[nn.Module]:
    """The class to swap in for `original`, the parameters and buffers `tensors` of which are labelled."""
    base = next((base for kind, base in ELASTIC.items() if issubclass(original, kind)), Elastic)
    if (original, base, tensors) not in _CLASSES:
        namespace = {name: _active(name) for name in tensors}
        namespace |= {"__module__": original.__module__, "__doc__": original.__doc__}
        bases, name = (base, original), f"Elastic{original.__name__}"
        _CLASSES[original, base, tensors] = types.new_class(
            name, bases, {}, lambda own: own.update(namespace)
        )
    return _CLASSES[original, base, tensors]


def _active(name: str) -> Any:
    """The property that stands for the tensor `name`: its active part.

    It stands in front of `nn.Module.__getattr__`, which finds the whole in the same dictionaries.
    """

    def get(self: nn.Module) -> Any:
        own = self.__dict__
        parameters = own["_parameters"]
        tensor = parameters[name] if name in parameters else own["_buffers"].get(name, _MISSING)
        if tensor is _MISSING:
            if name in own:
                return own[name]
            raise AttributeError(name)
        cut = own["_cuts"].get(name)
        if cut is None or tensor is None:
            return tensor
        if type(cut) is not tuple:
            return cut(tensor)
        if tensor.requires_grad and tensor.dim() > 1 and torch.is_grad_enabled():
            return _Part.apply(tensor, cut)
        return tensor[cut]

    def put(self: nn.Module, value: Any) -> None:  # no parameter and no buffer: a plain attribute
        self.__dict__[name] = value

    def delete(self: nn.Module) -> None:
        if name not in self.__dict__:
            raise AttributeError(name)
        del self.__dict__[name]

    return property(get, put, delete)
