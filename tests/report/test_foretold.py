from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from bnas.report import Report
from bnas.report.foretold import off_rows, offs

Make = Callable[..., Report]


def test_how_far_each_value_was_off(make_report: Make) -> None:
    report = make_report()
    top1, latency = offs(report)
    # By the formula of the report: every third latency 3 % too small, the others 3 % too large.
    assert (latency.value, latency.count, latency.unit) == ("latency_ms", 9, "%")
    assert (latency.mean, latency.worst) == pytest.approx((3, 3))
    assert latency.bias == pytest.approx((6 * 3 - 3 * 3) / 9)
    # Accuracy: .1 points lost by INT8, and .05 more of every second.
    assert (top1.value, top1.unit) == ("top1_percent", "pts")
    assert (top1.mean, top1.bias) == pytest.approx((0.1 + 0.05 * 4 / 9,) * 2)
    assert top1.worst == pytest.approx(0.15)
    assert latency.kendall_tau is not None
    assert 0.9 < latency.kendall_tau <= 1


def test_further_values_and_the_speed_of_the_machine(make_report: Make) -> None:
    report = make_report()
    front = tuple(
        replace(
            p,
            predicted={"latency_ms": 1.1 * (p.latency_ms or 0), "energy_mj": 11.0, "macs": 5.0},
            measured={"energy_mj": 10.0, "macs": 5.0},
        )
        for p in report.front[:2]
    )
    found = {own.value: own for own in offs(make_report(front=front))}
    assert list(found) == ["top1_percent", "latency_ms", "energy_mj"]  # of MACs nothing is predicted
    assert found["latency_ms"].mean == pytest.approx(10)
    assert found["energy_mj"].bias == pytest.approx(10)
    assert found["energy_mj"].kendall_tau is None
    rows = off_rows(make_report(front=front))
    assert rows[2] == ("energy, mJ", "2", "10.00 %", "+10.00 %", "10.00 %", "–")
    assert rows[0][0] == "top-1, %"


def test_nothing_measured_nothing_said(make_report: Make) -> None:
    unmeasured = tuple(replace(p, latency_ms=None, metric_int8_percent=None) for p in make_report().front)
    assert offs(make_report(front=unmeasured)) == ()
    assert offs(make_report(front=())) == ()
