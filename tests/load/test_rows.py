from __future__ import annotations

import pytest

from bnas.load import LoadResult, LoadRow, Slice, compare
from bnas.load.rows import load_row
from bnas.plain import from_plain, to_plain


def result(rate: float, *, valid: bool = True, p99_ms: float = 3.0) -> LoadResult:
    return LoadResult(
        scenario="Server", valid=valid, reasons=() if valid else ("too slow",), samples_per_s=rate, queries=9,
        mean_ms=1.0, p50_ms=1.0, p90_ms=2.0, p99_ms=p99_ms, max_ms=4.0,
    )  # fmt: skip


def row(network: str, *results: LoadResult, scenario: str = "Server") -> LoadRow:
    slices = [
        Slice(
            scenario=scenario,
            network=network,
            round=number,
            inputs="",
            folder="",
            queries_per_s=7.0,
            result=own,
        )
        for number, own in enumerate(results, start=1)
    ]
    return load_row(slices[::-1], 91.5)


def test_a_row_is_the_median_of_its_rounds() -> None:
    own = row("A/int8", result(100, p99_ms=9), result(110, valid=False), result(400, p99_ms=4))
    assert (own.samples_per_s, own.p99_ms, own.top1_percent, own.target_qps) == (110, 4, 91.5, 7.0)
    assert own.by_round == (100, 110, 400)
    assert own.spread_percent == pytest.approx(100 * 300 / 110)
    assert (own.valid, own.valid_rounds, own.reasons) == (False, 2, ("too slow",))
    assert from_plain(LoadRow, to_plain(own)) == own


def test_a_target_is_of_server_alone() -> None:
    assert row("A/int8", result(1), scenario="Offline").target_qps is None


def test_published_ratios() -> None:
    """BootstrapNAS A beside ResNet-50 in MLPerf Inference 2.0: 2.55 times the INT8 original, .87 of its MACs' share."""
    rows = [
        row("reference/fp32", result(939)),
        row("reference/int8", result(4181.64)),
        row("A/int8", result(10679)),
    ]
    macs = {"reference/fp32": 4_090, "reference/int8": 4_090, "A/int8": 1_386}
    own = compare(rows, macs)[-1]
    assert own.to_fp32 == pytest.approx(11.37, abs=0.01)
    assert own.to_int8 == pytest.approx(2.554, abs=0.001)
    assert own.macs_ratio == pytest.approx(2.951, abs=0.001)
    assert own.per_macs == pytest.approx(0.87, abs=0.005)
    assert own.valid


def test_rounds_are_compared_with_the_same_rounds() -> None:
    """The machine was twice as slow in the second round, for both."""
    rows = [
        row("reference/int8", result(10), result(5), result(10)),
        row("A/int8", result(30), result(15), result(33)),
    ]
    assert compare(rows, {})[1].to_int8 == 3.0


def test_what_was_not_run_is_not_compared_and_what_is_invalid_is_said() -> None:
    (own,) = compare([row("A/int8", result(5))], {"A/int8": 3})
    assert (own.to_fp32, own.to_int8, own.macs_ratio, own.per_macs, own.valid) == (
        None,
        None,
        None,
        None,
        True,
    )
    invalid = [row("reference/int8", result(10, valid=False)), row("A/int8", result(30))]
    assert not compare(invalid, {})[1].valid
    elsewhere = [row("reference/int8", result(10), scenario="Offline"), row("A/int8", result(30))]
    assert compare(elsewhere, {})[1].to_int8 is None
