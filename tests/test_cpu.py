from __future__ import annotations

import pytest

from bnas import cpu


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_int8\n\nprocessor\t: 1\nflags\t\t: other\n",
            {"fpu", "avx512_bf16", "amx_int8"},
        ),
        ("processor\t: 0\nFeatures\t: asimd i8mm\n", {"asimd", "i8mm"}),
        ("processor\t: 0\n", set()),
        ("", set()),
    ],
)
def test_flags_are_those_of_the_first_processor(
    text: str, flags: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "cpuinfo", lambda: text)
    assert cpu.cpu_flags() == flags


def test_this_machine_is_read_once() -> None:
    assert cpu.cpuinfo() is cpu.cpuinfo()
