from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from bnas.load import Comparison, LoadRow, print_load
from bnas.load.table import HEAD, lines_of

ROW = LoadRow(
    scenario="Server", network="A/int8", samples_per_s=1234.5, spread_percent=3.0, p50_ms=0.1234, p90_ms=2.345,
    p99_ms=14.56, valid=True, valid_rounds=3, reasons=(), by_round=(1234.5,) * 3, top1_percent=91.234,
)  # fmt: skip
TIMES = Comparison(
    scenario="Server", network="A/int8", to_fp32=16.84, to_int8=4.5, macs_ratio=5.0, per_macs=0.9, valid=True
)


def test_a_line() -> None:
    (line,) = lines_of([ROW], [TIMES])
    assert dict(zip(HEAD, line, strict=True)) == {
        "scenario": "Server", "network": "A/int8", "samples/s": "1234", "±": "1.5 %", "p50 ms": "0.123",
        "p90 ms": "2.35", "p99 ms": "14.6", "valid": "yes", "top-1 %": "91.23", "× FP32": "16.84", "× INT8": "4.50",
        "÷ MACs": "0.90",
    }  # fmt: skip


def test_what_is_invalid_says_so_with_loadgens_reason() -> None:
    row = replace(
        ROW, valid=False, valid_rounds=2, reasons=("Early stopping not satisfied", "Only 3 [queries].")
    )
    text = io.StringIO()
    print_load([ROW, row], [TIMES, TIMES], Console(file=text, width=60))
    assert "1234" in text.getvalue()
    assert "NO (2/3)" in text.getvalue()
    assert "Server A/int8: INVALID: Early stopping not satisfied Only 3 [queries]." in text.getvalue()


def test_offline_has_no_latencies() -> None:
    (line,) = lines_of([replace(ROW, scenario="Offline", top1_percent=None)], [replace(TIMES, to_fp32=None)])
    assert line[4:7] == ("–", "–", "–")
    assert (line[8], line[9]) == ("–", "–")


def test_without_accuracies_there_is_no_column_of_them() -> None:
    with_one, without = io.StringIO(), io.StringIO()
    print_load([ROW, replace(ROW, top1_percent=None)], [TIMES, TIMES], Console(file=with_one, width=60))
    print_load([replace(ROW, top1_percent=None)], [TIMES], Console(file=without, width=60))
    assert "top-1 %" in with_one.getvalue()
    assert "top-1 %" not in without.getvalue()
    (row,) = (line for line in without.getvalue().splitlines() if "A/int8" in line)
    assert row.split()[-4:] == ["yes", "16.84", "4.50", "0.90"]
