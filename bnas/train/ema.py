"""An exponential moving average of a network's weights, which is often better than the last of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bnas.errors import ModelError


class Ema:
    """The moving average of everything floating-point in a model's state dict, parameters and buffers.

    Polyak & Juditsky 1992. The decay starts low, so that the first weights are soon forgotten: update t (from
    0) keeps min(decay, (1 + t) / (10 + t)) of the average. What is not floating-point, as counters, is
    that of the last update. Averages are float32 at least. The model's tensors are only ever written in
    place: optimizers and elastic modules go on referring to them.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.restart(model)

    @torch.no_grad()
    def restart(self, model: nn.Module) -> None:
        """Forget the past: the average is the model as it is now."""
        self.updates = 0
        self._average = {name: _copied(tensor) for name, tensor in _tensors(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Draw the average to the model, after a step."""
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, values = [], []
        for name, tensor in _tensors(model).items():
            average = self._average[name]
            if not average.is_floating_point():
                average.copy_(tensor)
                continue
            if average.stride() != tensor.stride():  # one layout, one kernel: also after a resume
                average = self._average[name] = torch.empty_like(tensor, dtype=average.dtype).copy_(average)
            averages.append(average)
            values.append(tensor.to(average.dtype))
        if averages:
            torch._foreach_lerp_(averages, values, 1 - keep)
        self.updates += 1

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Make the average the model's own weights and buffers."""
        for name, tensor in _tensors(model).items():
            tensor.copy_(self._average[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, the model is the average; then it is again what it was, bit by bit, whatever happened to it."""
        tensors = _tensors(model)
        with torch.no_grad():
            before = [tensor.detach().clone() for tensor in tensors.values()]
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, own in zip(tensors.values(), before, strict=True):
                    tensor.copy_(own)

    def state_dict(self) -> dict[str, Any]:
        """Tensors, which are the average itself and no copies, and numbers."""
        return {"updates": self.updates, "average": dict(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ModelError: it is that of another network.
        """
        saved = state["average"]
        expected = {name: tensor.shape for name, tensor in self._average.items()}
        got = {name: tensor.shape for name, tensor in saved.items()}
        if expected != got:
            wrong = next(iter(dict(expected.items() ^ got.items())))
            raise ModelError(
                f"the saved moving average is of another network: it has {_shape(got.get(wrong))} for '{wrong}', "
                f"the network has {_shape(expected.get(wrong))}"
            )
        self.updates = int(state["updates"])
        self._average = {
            name: saved[name].to(own.device, own.dtype, copy=True) for name, own in self._average.items()
        }


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The entries of the state dict, not copied or detached; of a shared tensor the first name only."""
    entries = model.state_dict(keep_vars=True).items()
    found = {id(value): (name, value) for name, value in reversed(list(entries)) if isinstance(value, Tensor)}
    return dict(reversed(found.values()))


def _copied(tensor: Tensor) -> Tensor:
    floating = tensor.is_floating_point()
    dtype = torch.promote_types(tensor.dtype, torch.float32) if floating else tensor.dtype
    return tensor.detach().to(dtype, copy=True)


def _shape(shape: torch.Size | None) -> str:
    return "nothing" if shape is None else f"a tensor of shape {list(shape)}"
