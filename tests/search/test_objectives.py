from __future__ import annotations

import math

import numpy as np
import pytest

from bnas.errors import ConfigError, MeasureError
from bnas.search import OBJECTIVES, Objective, objective
from bnas.search.objectives import check_objectives, check_values, costs, not_finite

NAMES = ("top1_percent", "latency_ms")


def test_costs_turn_every_axis_so_that_smaller_is_better(goals):
    assert costs(goals, {"latency_ms": 2.0, "top1_percent": 91.0, "macs": 5}) == (-91.0, 2.0)


def test_best_and_worst_follow_the_direction():
    assert OBJECTIVES["top1_percent"].best([90.0, 92.0]) == 92.0
    assert OBJECTIVES["top1_percent"].worst([90.0, 92.0]) == 90.0
    assert OBJECTIVES["latency_ms"].best([1.0, 2.0]) == 1.0
    assert OBJECTIVES["latency_ms"].worst([1.0, 2.0]) == 2.0


@pytest.mark.parametrize(
    ("names", "said"),
    [((), "got none"), (("macs",), "got macs"), (("macs", "macs", "latency_ms"), "given twice")],
)
def test_objectives_are_two_or_more_different_ones(names, said):
    with pytest.raises(ConfigError, match=said):
        check_objectives([OBJECTIVES[name] for name in names])


def test_values_become_plain_floats_and_keep_what_is_beside_the_objectives(goals):
    values = check_values(NAMES, {"top1_percent": np.float32(90.5), "latency_ms": 2, "macs": 7}, "s")
    assert values == {"top1_percent": 90.5, "latency_ms": 2.0, "macs": 7.0}
    assert {type(value) for value in values.values()} == {float}


def test_values_that_are_no_finite_numbers_are_named():
    assert (
        not_finite({"top1_percent": 90.0, "latency_ms": math.nan, "macs": math.inf})
        == "latency_ms = nan, macs = inf"
    )
    assert not_finite({"top1_percent": 90.0}) == ""


def test_an_objective_may_be_on_other_hardware():
    on = objective("latency_ms@cpu_fp32")
    assert (on.name, on.direction, on.unit) == ("latency_ms@cpu_fp32", "min", "ms")
    with pytest.raises(ConfigError, match="no objective 'latencyms'; did you mean 'latency_ms'"):
        objective("latencyms@cpu")


def test_a_missing_objective_is_refused_by_name(goals):
    with pytest.raises(MeasureError, match="gave no latency_ms; it gave: latency, top1_percent"):
        check_values(NAMES, {"top1_percent": 90.0, "latency": 1.0}, "abc123")


def test_named_objectives_carry_their_name():
    assert all(isinstance(x, Objective) and x.name == name for name, x in OBJECTIVES.items())
