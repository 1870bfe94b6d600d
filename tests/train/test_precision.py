from __future__ import annotations

import pytest
import torch
from torch import nn

from bnas.train import precision
from bnas.train.precision import autocast, make_scaler, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [
        ({"avx512_bf16"}, "bfloat16"),
        ({"amx_bf16", "fpu"}, "bfloat16"),
        ({"avx512f", "avx512_vnni"}, "float32"),
        (set(), "float32"),
    ],
)
def test_auto_is_bfloat16_only_where_it_is_native(
    flags: set[str], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "cpu_flags", lambda: frozenset(flags))
    assert resolve_precision("auto", CPU) == chosen
    assert resolve_precision("float32", CPU) == "float32"
    assert resolve_precision("bfloat16", CPU) == "bfloat16"
    assert resolve_precision("float16", CPU) == "float16"


@pytest.mark.parametrize(("native", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_on_a_gpu_auto_does_not_count_emulation(
    native: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve_precision("auto", torch.device("cuda")) == chosen
    assert resolve_precision("auto", torch.device("mps")) == "float32"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_autocast_sets_what_a_product_is_computed_in(name: precision.Precision, dtype: torch.dtype) -> None:
    with autocast(name, CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
        conv = nn.Conv2d(1, 1, 1)
        assert conv(torch.ones(1, 1, 2, 2)).dtype == dtype
        assert conv.weight.dtype == torch.float32


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_without_float16_the_scaler_does_nothing(name: precision.Precision) -> None:
    scaler = make_scaler(name, CPU)
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    loss = weight.sum() * 3
    assert scaler.scale(loss) is loss
    loss.backward()
    weight.grad[1] = torch.inf
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert weight.tolist() == [-2.0, -torch.inf]  # not left out
    assert scaler.state_dict() == {}


def test_float16_keeps_gradients_that_would_underflow() -> None:
    scaler, weight = make_scaler("float16", CPU), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    small = 2.0**-30  # the least above zero in float16 is 2**-24

    def gradient(scaled: bool) -> float:
        optimizer.zero_grad()
        loss = weight.half().float().sum() * small
        (scaler.scale(loss) if scaled else loss).backward()  # through float16
        return weight.grad.item()

    assert gradient(scaled=False) == 0
    gradient(scaled=True)
    scaler.unscale_(optimizer)
    assert weight.grad.item() == small


def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    scaler, weight = make_scaler("float16", CPU), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    before = scaler.get_scale()
    scaler.scale(weight.sum()).backward()
    weight.grad.fill_(torch.inf)
    scaler.step(optimizer)
    scaler.update()
    assert weight.item() == 1
    assert scaler.get_scale() == before / 2
    resumed = make_scaler("float16", CPU)
    resumed.load_state_dict(scaler.state_dict())
    assert resumed.get_scale() == before / 2
