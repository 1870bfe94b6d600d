"""Take a subnet out: a plain module of the user's own classes that knows nothing of bnas."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from bnas.detection import decoding_of
from bnas.graph.facts import is_inside
from bnas.space import SubnetConfig, resolution_of
from bnas.supernet.elastic import apply_cut
from bnas.supernet.levels import Dropped, LevelSlot, modules_of_dropped, without_levels
from bnas.supernet.slots import BlockSlot, Slot, make_plain
from bnas.supernet.supernet import Supernet

_TABLES = (OrderedDict, dict, list, set)


@dataclass(frozen=True, kw_only=True)
class Reshaping:
    """How a subnet differs from the network it was taken out of, besides the shapes of its tensors.

    `skipped` modules are gone, those in `listed` from the list they were in; `attributes` are the numbers by
    which modules tell their sizes, by the path of the module and the name. `levels` are those of pyramids
    that modules, by their paths, know no more.
    """

    skipped: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    levels: dict[str, Dropped] = field(default_factory=dict)
    attributes: dict[str, dict[str, int | tuple[int, ...]]] = field(default_factory=dict)


def extract_subnet(supernet: Supernet, config: SubnetConfig) -> nn.Module:
    """The subnet `config` as an independent module in eval mode.

    Its tensors are copies of the active parts; skipped blocks are `nn.Identity`. The super-network, its
    active config and its weights stay untouched. Batch-norm statistics are the super-network's: recalibrate
    them on the result (`bnas.recalibrate`) before judging its accuracy.

    Raises:
        SpaceError: the config does not belong to the space.
    """
    plans = supernet.plans(config)
    # deepcopy takes the copies it finds here for its own: cut tensors, and identities for skipped blocks.
    memo: dict[int, Any] = {}
    for slot, plan in plans:
        if isinstance(slot, BlockSlot) and plan:
            memo[id(slot.module)] = nn.Identity()
    for path in modules_of_dropped(plans):
        memo[id(supernet.model.get_submodule(path))] = nn.Identity()
    kept = _reached(supernet.model, set(memo))
    for slot, plan in plans:
        if isinstance(slot, Slot) and slot.tensors and id(slot.module) in kept:
            memo[id(slot.module.__dict__["_cuts"])] = {}
            for name in slot.tensors:
                tensor = slot.module._parameters.get(name, slot.module._buffers.get(name))
                if tensor is not None and id(tensor) not in memo:
                    memo[id(tensor)] = _like(tensor, apply_cut(tensor.detach(), plan["_cuts"].get(name)))
    for module in kept.values():
        _spare(module, memo)
    subnet: nn.Module = copy.deepcopy(supernet.model, memo)
    for slot, plan in plans:
        if id(slot.module) not in kept:  # skipped
            continue
        copied = memo[id(slot.module)]
        if isinstance(slot, BlockSlot):
            copied.__dict__.pop("forward", None)  # it may be skipped in the super-network just now
            if slot.own is not None:
                copied.__dict__["forward"] = copy.deepcopy(slot.own, memo)
        elif isinstance(slot, LevelSlot):
            slot.make_plain(copied, plan, memo)
        else:
            make_plain(copied, slot.original)
            copied.__dict__.update({name: value for name, value in plan.items() if name != "_cuts"})
    for path, attributes in _image_sizes(supernet.model, config).items():
        vars(subnet.get_submodule(path)).update(attributes)
    _shorten(subnet, _listed(supernet, config))
    return subnet.eval()


def _listed(supernet: Supernet, config: SubnetConfig) -> tuple[str, ...]:
    """The skipped blocks that leave the list they are in, and the modules of dropped levels."""
    blocks = supernet.graph.block_by_name
    skipped = [path for path in _skipped(supernet, config) if blocks[path].listed]
    return (*skipped, *modules_of_dropped(supernet.plans(config)))


def _image_sizes(model: nn.Module, config: SubnetConfig) -> dict[str, dict[str, int | tuple[int, ...]]]:
    """Of detectors that resize the images they are called with, to a fixed size: that of the subnet's."""
    size = resolution_of(config)
    if size is None:
        return {}
    found: dict[str, dict[str, int | tuple[int, ...]]] = {}
    for path, module in model.named_modules():
        if isinstance(module, GeneralizedRCNNTransform) and module.fixed_size is not None:
            found[path] = {"fixed_size": (size, size)}
        elif decoding_of(module) is not None and "image_size" in vars(module):
            found[path] = {"image_size": (size, size)}
    return found


def _skipped(supernet: Supernet, config: SubnetConfig) -> tuple[str, ...]:
    """The skipped blocks, without those inside of others."""
    found = [slot.path for slot, plan in supernet.plans(config) if isinstance(slot, BlockSlot) and plan]
    return tuple(
        path for path in found if not any(path != other and is_inside(path, other) for other in found)
    )


def _shorten(model: nn.Module, paths: tuple[str, ...]) -> None:
    """Take modules out of the lists they are in; those after them move up."""
    gone = [model.get_submodule(path) for path in paths]
    for parent in dict.fromkeys(path.rpartition(".")[0] for path in paths):
        members = model.get_submodule(parent)
        kept = [own for own in members._modules.values() if not any(own is one for one in gone)]
        members._modules = {str(place): module for place, module in enumerate(kept)}


def reshaping(supernet: Supernet, config: SubnetConfig) -> Reshaping:
    """What must be done to a freshly built model, so that it loads the extracted subnet's weights."""
    plans = supernet.plans(config)
    gone = {id(slot.module) for slot, plan in plans if isinstance(slot, BlockSlot) and plan}
    gone |= {id(supernet.model.get_submodule(path)) for path in modules_of_dropped(plans)}
    kept = _reached(supernet.model, gone)
    attributes = _image_sizes(supernet.model, config)
    for slot, plan in plans:
        if isinstance(slot, Slot) and id(slot.module) in kept:
            own = {
                name: tuple(value) if isinstance(value, (list, tuple)) else value
                for name, value in plan.items()
                if name != "_cuts" and value is not slot.before.get(name)
            }
            if own:
                attributes[slot.path] = own
    listed = _listed(supernet, config)
    skipped = tuple(path for path in _skipped(supernet, config) if path not in listed)
    levels = {slot.path: plan for slot, plan in plans if isinstance(slot, LevelSlot) and plan}
    return Reshaping(skipped=skipped, listed=listed, levels=levels, attributes=attributes)


def reshape(model: nn.Module, how: Reshaping, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Give `model`, freshly built, the structure of a subnet, in place; its tensors then hold nothing.

    `shapes` are those of the subnet's tensors by name; of tensors with several names one is enough.

    Raises:
        AttributeError: the model has no such module; it is another network.
    """
    for path in how.skipped:
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.Identity())
    for path, attributes in how.attributes.items():
        vars(model.get_submodule(path)).update(attributes)
    _shorten(model, how.listed)
    for path, dropped in how.levels.items():
        without_levels(model.get_submodule(path), dropped)
    made: dict[int, Tensor] = {}
    kept = []  # so that no identity is used twice
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False))
    for name, tensor in tensors:
        shape = shapes.get(name)
        if shape is not None and shape != tuple(tensor.shape):
            empty = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
            made[id(tensor)] = _like(tensor, empty)
            kept.append(tensor)
    for module in model.modules():
        for store in (module._parameters, module._buffers):
            for name, own in store.items():
                if own is not None and id(own) in made:
                    store[name] = made[id(own)]  # type: ignore[assignment]


def _reached(module: nn.Module, skipped: set[int]) -> dict[int, nn.Module]:
    """The modules of `module`, itself included, by identity, without what lies in `skipped` ones alone."""
    found: dict[int, nn.Module] = {}
    rest = [module]
    while rest:
        module = rest.pop()
        if id(module) not in skipped and id(module) not in found:
            found[id(module)] = module
            rest += [child for child in module._modules.values() if child is not None]
    return found


def _spare(module: nn.Module, memo: dict[int, Any]) -> None:
    """Spare deepcopy what takes it long (a dozen empty tables of hooks in every module) or what it refuses."""
    for value in vars(module).values():
        if type(value) in _TABLES and not value:
            memo[id(value)] = type(value)()
        elif isinstance(value, Tensor) and not value.is_leaf:  # computed by a hook before each forward
            memo[id(value)] = value.detach().clone()
    for tensor in (*module._parameters.values(), *module._buffers.values()):
        if tensor is not None and id(tensor) not in memo:
            memo[id(tensor)] = _like(tensor, tensor.detach())


def _like(tensor: Tensor, part: Tensor) -> Tensor:
    """A contiguous copy of `part`: a parameter where `tensor` is one, without gradient history."""
    part = part.clone(memory_format=torch.contiguous_format)
    return nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part
