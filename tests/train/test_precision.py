from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bnas.train import precision
from bnas.train.precision import autocast, cpu_flags, resolve_precision

CPU = torch.device("cpu")


def test_flags_are_read_from_cpuinfo(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(
        "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_int8\n\nprocessor\t: 1\nflags\t\t: other\n"
    )
    assert cpu_flags(file) == {"fpu", "avx512_bf16", "amx_int8"}
    assert cpu_flags(tmp_path / "missing") == frozenset()


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


def test_autocast_sets_what_a_product_is_computed_in() -> None:
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with autocast(name, CPU):  # type: ignore[arg-type]
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
