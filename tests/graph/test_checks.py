"""Each kind of model that cannot be traced gets one line that says what to give instead."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from bnas.errors import ModelError
from bnas.graph.checks import check_model


def plain() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(plain())


def traced() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(plain().eval(), torch.zeros(1, 3, 2, 2))


def quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.nn.quantized import Conv2d

        return nn.Sequential(nn.ReLU(), Conv2d(3, 4, 1))


def dynamically_quantized() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.ao.quantization import quantize_dynamic

        return quantize_dynamic(nn.Sequential(nn.Linear(3, 4)), {nn.Linear})


def with_quantized_buffer() -> nn.Module:
    model = plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model[2].register_buffer("table", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8))
    return model


def compiled_in_place() -> nn.Module:
    model = plain()
    model[0].compile()
    return model


def wrapped_tensor() -> nn.Module:
    from torch.testing._internal.two_tensor import TwoTensor

    model = plain()
    model[0].weight = nn.Parameter(TwoTensor(torch.ones(4, 3, 1, 1), torch.ones(4, 3, 1, 1)))
    return model


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (scripted, "RecursiveScriptModule is a TorchScript module: give the module that was scripted"),
        (traced, "TopLevelTracedModule is a TorchScript module: give the module that was scripted"),
        (lambda: nn.Sequential(scripted()), "0: RecursiveScriptModule is a TorchScript module"),
        (lambda: torch.compile(plain()), "OptimizedModule is a compiled module: give the original, model._orig_mod"),
        (lambda: nn.Sequential(torch.compile(plain())), "0: OptimizedModule is a compiled module"),
        (compiled_in_place, r"0: Conv2d was compiled in place: give the module before its compile\(\)"),
        (lambda: nn.DataParallel(plain()), "DataParallel wraps a module for several devices: .* model.module"),
        (quantized, "1: Conv2d is quantized: give the network in floating point"),
        (dynamically_quantized, "0: Linear is quantized: give the network in floating point"),
        (with_quantized_buffer, r"2: ReLU is quantized \(table\)"),
        (lambda: nn.LazyLinear(3), "LazyLinear is lazy, weight has no shape yet: run the model once"),
        (lambda: nn.Sequential(nn.LazyBatchNorm1d()), "0: LazyBatchNorm1d is lazy"),
        (wrapped_tensor, "0: Conv2d keeps weight as a TwoTensor, which cannot be sliced"),
        (lambda: plain().to("meta"), "0: Conv2d is on the device meta, weight has no values"),
        (lambda: plain, "expected a torch.nn.Module, got function"),
        (lambda: nn.ReLU, "expected a torch.nn.Module, got the class ReLU; give an instance of it"),
    ],
)  # fmt: skip
def test_what_to_give_instead(make: Callable[[], nn.Module], text: str) -> None:
    with pytest.raises(ModelError, match=text) as caught:
        check_model(make())
    assert "\n" not in str(caught.value)


def test_plain_modules_pass() -> None:
    check_model(plain())
    check_model(plain().half())
    lazy = nn.Sequential(nn.LazyLinear(3))
    lazy(torch.zeros(1, 2))
    check_model(lazy)
    check_model(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)))
    shared = nn.Linear(2, 2)
    check_model(nn.Sequential(shared, shared))


def test_a_module_with_a_child_called_like_dynamos_passes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = nn.ReLU()

    check_model(Net())
