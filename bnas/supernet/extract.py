"""Take a subnet out: a plain module of the user's own classes that knows nothing of bnas."""

from __future__ import annotations

import copy

import torch
from torch import nn

from bnas.space import SubnetConfig
from bnas.supernet.elastic import Elastic, cut
from bnas.supernet.supernet import Supernet, make_plain


def extract_subnet(supernet: Supernet, config: SubnetConfig) -> nn.Module:
    """The subnet `config` as an independent module in eval mode.

    Its tensors are copies of the active parts; skipped blocks are `nn.Identity`. The super-network, its
    active config and its weights stay untouched. Batch-norm statistics are the super-network's: recalibrate
    them on the result (`bnas.recalibrate`) before judging its accuracy.

    Raises:
        SpaceError: the config does not belong to the space.
    """
    plan = supernet.plan(config)
    model = supernet.model
    # deepcopy takes the copies it finds here for its own: cut tensors, and identities for skipped blocks.
    memo: dict[int, object] = {id(model.get_submodule(name)): nn.Identity() for name in plan.skipped}
    modules = dict(model.named_modules())
    for name, layer in plan.layers.items():
        module = modules[name]
        assert isinstance(module, Elastic)
        for tensor_name in module.AXES:
            tensor = getattr(module, tensor_name)
            if tensor is not None:
                indices = module.indices(tensor_name, layer)
                part = tensor.detach() if indices is None else cut(tensor.detach(), indices)
                memo[id(tensor)] = _like(tensor, part)
    for parameter in model.parameters():
        if id(parameter) not in memo:
            memo[id(parameter)] = _like(parameter, parameter.detach())
    subnet = copy.deepcopy(model, memo)
    copies = dict(subnet.named_modules())
    for name, layer in plan.layers.items():
        if (module := copies.get(name)) is not None and isinstance(module, Elastic):
            module.set_sizes(layer)
            make_plain(module, supernet.original_class(name))
    for block in supernet.graph.blocks:
        if (module := copies.get(block.name)) is not None:
            module.__dict__.pop("forward", None)  # it may be skipped in the super-network just now
    return subnet.eval()


def _like(tensor: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """A contiguous copy of `part`: a parameter where `tensor` is one, without gradient history."""
    part = part.clone(memory_format=torch.contiguous_format)
    return nn.Parameter(part, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else part
