"""What is no plain module of eager PyTorch, and what to give instead: refused before anything is traced."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from bnas.errors import ModelError

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_QUANTIZED = (  # packages of modules whose weights are integers, or are rounded while they run
    "torch.ao.nn.quantized",
    "torch.ao.nn.intrinsic.quantized",
    "torch.ao.nn.qat",
    "torch.ao.nn.intrinsic.qat",
    "torch.ao.nn.sparse.quantized",
)


def check_model(model: nn.Module) -> None:
    """Refuse a model that cannot be traced as it is; the text says which module, and what to give instead.

    Raises:
        ModelError: not a module, or one that is scripted, compiled, wrapped for several devices, quantized or
            sharded; or one with tensors without shapes (lazy modules) or without values (device meta).
    """
    if not isinstance(model, nn.Module):
        hint = "; give an instance of it" if isinstance(model, type) else ""
        raise ModelError(f"the model: expected a torch.nn.Module, got {_kind(model)}{hint}")
    for path, module in model.named_modules():
        where = f"{path}: {type(module).__name__}" if path else type(module).__name__
        reason = _reason(module)
        if reason:
            raise ModelError(f"{where} {reason}")


def _reason(module: nn.Module) -> str:
    """Why a module, its submodules aside, cannot be traced; empty where it can."""
    kind = type(module)
    if isinstance(module, torch.jit.ScriptModule):
        return "is a TorchScript module: give the module that was scripted or traced"
    if "_orig_mod" in module._modules and kind.__module__.startswith("torch._dynamo"):
        return "is a compiled module: give the original, model._orig_mod, and compile the subnets"
    if getattr(module, "_compiled_call_impl", None) is not None:
        return (
            "was compiled in place: give the module before its compile() is called, and compile the subnets"
        )
    if isinstance(module, _WRAPPERS):
        return "wraps a module for several devices: give that module, model.module"
    if kind.__module__.startswith(_QUANTIZED):
        return "is quantized: give the network in floating point; its subnets are quantized later"
    for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
        if is_lazy(tensor):
            return f"is lazy, {name} has no shape yet: run the model once on its inputs first"
        if tensor.is_quantized:
            return (
                f"is quantized ({name}): give the network in floating point; its subnets are quantized later"
            )
        if is_traceable_wrapper_subclass(tensor):
            return f"keeps {name} as a {type(tensor).__name__}, which cannot be sliced: give it as a plain tensor"
        if tensor.is_meta:
            return f"is on the device meta, {name} has no values: give it with its weights"
    return ""


def _kind(x: Any) -> str:
    return f"the class {x.__name__}" if isinstance(x, type) else type(x).__name__
