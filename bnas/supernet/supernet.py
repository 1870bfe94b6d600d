"""The super-network: the user's own model, of which any subnet can be activated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from torch import nn

from bnas.errors import ModelError
from bnas.graph.facts import ChannelGraph
from bnas.space import SearchSpace, SubnetConfig, check_fits, shape_of
from bnas.supernet.kernel import make_transforms
from bnas.supernet.levels import LevelSlot
from bnas.supernet.slots import BlockSlot, Slot, make_slots

_TAKEN: WeakSet[nn.Module] = WeakSet()  # models that belong to a super-network


class Supernet:
    """`model` made elastic in place, with the largest subnet (the original network) active.

    Parameters, buffers and `state_dict` keys stay those of the model; only the classes of modules with
    elastic tensors are swapped, until `release` swaps them back. Nothing is copied.

    Args:
        model: the network that `graph` was traced from.
        graph: its facts.
        space: the choices; each must fit the graph.
        kernel_transform: smaller kernels are the transformed centre of larger ones, by the learned matrices
            in `transforms`, not the plain centre (Cai et al. 2020, §3.3).

    Raises:
        SpaceError: the space does not fit the model.
        ModelError: the model belongs to a super-network already, is compiled, or is not the graph's.
    """

    def __init__(
        self, model: nn.Module, graph: ChannelGraph, space: SearchSpace, *, kernel_transform: bool = False
    ) -> None:
        check_fits(graph, space)
        if model in _TAKEN:
            raise ModelError("this model already belongs to a super-network; call its release() first")
        if hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None:
            raise ModelError(
                "the model is compiled by torch.compile; give the module that it was made from, and compile "
                "what is extracted"
            )
        self.model, self.graph, self.space = model, graph, space
        kernels = {name for choice in space.choices if choice.dim == "kernel" for name in choice.targets}
        self.transforms = make_transforms(graph, kernels) if kernel_transform else nn.ParameterDict()
        self._slots = make_slots(model, graph, space)
        _TAKEN.add(model)
        self.activate(space.largest)

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Run the active subnet."""
        return self.model(*inputs, **named)

    @property
    def active(self) -> SubnetConfig:
        """The config that is active."""
        return self._active

    @property
    def trained(self) -> nn.Module:
        """All that training changes, in one module: the model, with the kernels' matrices where there are any."""
        if not self.transforms:
            return self.model
        return nn.ModuleDict({"model": self.model, "kernel_transforms": self.transforms})

    def parameters(self) -> Iterator[nn.Parameter]:
        """The model's parameters, then the kernels' matrices."""
        yield from self.model.parameters()
        yield from self.transforms.parameters()

    def activate(self, config: SubnetConfig) -> None:
        """Make `config` the active subnet.

        Raises:
            SpaceError: the config does not belong to the space; the active subnet stays as it was.
        """
        self.space.validate(config)
        for slot, key, plan in self._plans(config, changed_only=True):
            slot.set(key, plan)
        self._active = config

    @contextmanager
    def activated(self, config: SubnetConfig) -> Iterator[None]:
        """Activate `config` for the length of a `with` block."""
        before = self.active
        self.activate(config)
        try:
            yield
        finally:
            self.activate(before)

    def release(self) -> nn.Module:
        """Give the model back as a plain module of its own classes, whole; this super-network ends."""
        for slot in self._slots:
            slot.close()
        _TAKEN.discard(self.model)
        return self.model

    def plans(self, config: SubnetConfig) -> list[tuple[Slot | BlockSlot | LevelSlot, Any]]:
        """Every slot with what activating `config` would set. Raises SpaceError for one outside the space."""
        self.space.validate(config)
        return [(slot, plan) for slot, _, plan in self._plans(config, changed_only=False)]

    def _plans(
        self, config: SubnetConfig, *, changed_only: bool
    ) -> list[tuple[Slot | BlockSlot | LevelSlot, Any, Any]]:
        values, shape, found = config.values, None, []
        for slot in self._slots:
            key = slot.key(values)
            if changed_only and key == slot.active:
                continue
            plan = slot.plans.get(key)
            if plan is None:
                shape = shape or shape_of(self.graph, self.space, config)
                plan = slot.make_plan(shape, self.transforms)
                slot.keep(key, plan)  # type: ignore[arg-type]
            found.append((slot, key, plan))
        return found
