from __future__ import annotations

import platform

import pytest

from bnas import progress
from bnas.quantize import overflow
from bnas.quantize.overflow import overflow_fix, saturates, say_once


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "fma avx2 avx512f avx512bw", True),
        ("x86_64", "fma avx2", True),
        ("AMD64", "fma avx2 avx_vnni", False),
        ("x86_64", "avx512f avx512_vnni", False),
        ("x86_64", "amx_tile amx_int8", False),
        ("aarch64", "", False),
    ],
)
def test_what_the_flags_of_a_cpu_say(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, expected: bool
) -> None:
    monkeypatch.setattr(overflow, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert saturates() is expected


def test_a_cpu_that_tells_nothing_is_left_to_nncf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(overflow, "cpu_flags", frozenset)
    assert saturates() is None
    assert overflow_fix("auto") is None


def test_the_fix_is_for_this_cpu_and_for_symmetric_weights(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(overflow, "saturates", lambda: True)
    say_once.cache_clear()
    progress.enable()
    try:
        assert [overflow_fix("auto", device=device) for device in ("any", "cpu")] == ["enable", "enable"]
        assert [overflow_fix("auto", device=device) for device in ("cpu_spr", "gpu", "npu")] == [None] * 3
        assert overflow_fix("auto", asymmetric=True) == "disable"
        assert overflow_fix("disable") == "disable"
    finally:
        progress.enable(False)
        say_once.cache_clear()
    enabled, warned = capsys.readouterr().out.splitlines()
    assert "overflow_fix=enable" in enabled
    assert "weights.mode=symmetric" in warned
