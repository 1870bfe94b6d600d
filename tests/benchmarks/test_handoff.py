from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.handoff import bars, best_under
from bnas.commands.verify import Deployed
from bnas.load import Comparison

ANY: Any = None


def network(fp32: float, int8: float) -> dict[str, Deployed]:
    return {
        kind: Deployed(metric_percent=percent, timing=ANY, throughput_per_s=1.0, size_bytes=1)
        for kind, percent in (("fp32", fp32), ("int8", int8))
    }


def comparison(name: str, times: float) -> Comparison:
    return Comparison(
        scenario="Offline", network=f"{name}/int8", to_fp32=times, to_int8=times / 4, macs_ratio=times / 4,
        per_macs=1.0, valid=True,
    )  # fmt: skip


NETWORKS = {
    "reference": network(90.0, 89.5),
    "A": network(90.0, 90.0),
    "B": network(89.5, 89.1),
    "C": network(88.0, 88.0),
}
COMPARISONS = {
    name: comparison(name, times) for name, times in (("reference", 4), ("A", 8), ("B", 20), ("C", 30))
}


def test_the_fastest_of_those_that_lose_less_than_a_point_is_judged() -> None:
    assert best_under(NETWORKS, COMPARISONS) == COMPARISONS["B"]
    assert best_under({name: NETWORKS[name] for name in ("reference", "C")}, COMPARISONS) is None


def test_bars() -> None:
    found = bars(NETWORKS, COMPARISONS["B"])
    lost = {name: bar for name, bar in found.items() if "points lost" in name}
    assert [bar.value for bar in lost.values()] == pytest.approx([0.5, 0.0, 0.4, 0.0])
    assert [bar.holds for bar in lost.values()] == [False, True, False, True]
    judged = {name.rpartition(": ")[2]: bar.holds for name, bar in found.items() if name.startswith("best")}
    assert list(judged.values()) == [True, True, True]
    slower = bars(NETWORKS, replace(COMPARISONS["B"], to_fp32=16.7, to_int8=4.4, per_macs=0.94))
    assert [bar.holds for name, bar in slower.items() if name.startswith("best")] == [False] * 3
    assert [bar.value for name, bar in bars(NETWORKS, None).items() if name.startswith("best")] == [0.0] * 3
