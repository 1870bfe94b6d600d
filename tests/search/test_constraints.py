from __future__ import annotations

import math

import pytest

from bnas.errors import ConfigError
from bnas.search import Constraint, parse_constraints
from bnas.search.constraints import violation


@pytest.mark.parametrize(
    ("text", "bound", "limit"),
    [("<= 5", "<=", 5.0), (">=93", ">=", 93.0), ("  <=  1e-3 ", "<=", 1e-3), (">= -2.5", ">=", -2.5)],
)
def test_bounds_are_read(text, bound, limit):
    assert parse_constraints({"latency_ms": text}) == (
        Constraint(name="latency_ms", bound=bound, limit=limit),
    )


def test_a_value_may_have_a_bound_on_either_side():
    low, high = parse_constraints({"latency_ms": ">= 1, <= 5"})
    assert (str(low), str(high)) == ("latency_ms >= 1", "latency_ms <= 5")
    broken = [violation((low, high), {"latency_ms": own}) for own in (0.5, 1.0, 5.0, 6.0)]
    assert broken == pytest.approx([0.5, 0.0, 0.0, 0.2])


@pytest.mark.parametrize(
    "text", ["5", "< 5", "== 5", "<= five", "<= nan", "<= inf", "<= 5 ms", "", "<= 5,", 5]
)
def test_what_is_no_bound_is_refused_by_name(text):
    with pytest.raises(
        ConfigError, match=rf"^constraints.latency_ms: expected '<= NUMBER' or .*, got '{text}'$"
    ):
        parse_constraints({"macs": "<= 3", "latency_ms": text})


def test_they_keep_their_order_and_print_as_they_are_written():
    found = parse_constraints({"latency_ms": "<= 5", "top1_percent": ">= 93.5"})
    assert [str(own) for own in found] == ["latency_ms <= 5", "top1_percent >= 93.5"]
    assert parse_constraints({}) == ()


@pytest.mark.parametrize(
    ("bound", "limit", "value", "broken"),
    [
        ("<=", 5.0, 5.0, 0.0),
        ("<=", 5.0, 4.0, 0.0),
        ("<=", 5.0, 6.0, 0.2),
        (">=", 80.0, 80.0, 0.0),
        (">=", 80.0, 60.0, 0.25),
        (">=", -4.0, -5.0, 0.25),
        ("<=", 5.0, math.nan, math.inf),
        (">=", 5.0, math.nan, math.inf),
    ],
)
def test_violations_are_shares_of_the_limit(bound, limit, value, broken):
    own = Constraint(name="x", bound=bound, limit=limit)
    assert own.violation({"x": value, "y": 1e9}) == pytest.approx(broken)


def test_a_limit_of_zero_is_kept_or_broken():
    own = Constraint(name="x", bound="<=", limit=0.0)
    assert own.violation({"x": 0.0}) == 0
    assert own.violation({"x": 1e-6}) > 0


def test_the_sum_is_over_what_is_known():
    own = parse_constraints({"latency_ms": "<= 5", "top1_percent": ">= 80"})
    assert violation(own, {"latency_ms": 6.0, "top1_percent": 60.0}) == pytest.approx(0.45)
    assert violation(own, {"latency_ms": 6.0}) == pytest.approx(0.2)
    assert violation(own, {}) == 0


def test_the_better_of_two_values():
    low, high = parse_constraints({"a": "<= 5", "b": ">= 5"})
    assert (low.better(3.0, 4.0), high.better(3.0, 4.0)) == (3.0, 4.0)
