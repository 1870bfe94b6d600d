"""What is said of measured members, and which of them may be chosen."""

from __future__ import annotations

import pytest

from bnas.commands.decision import keeping, off, spread
from bnas.report import Verified
from bnas.search import Candidate, parse_constraints
from bnas.space import SubnetConfig


def member(width: int, predicted: dict[str, float], measured: dict[str, float]) -> Verified:
    return Verified(
        config=SubnetConfig({"width": width}),
        metric_fp32_percent=90.0,
        metric_int8_percent=89.0,
        latency_ms=1.0,
        predicted_latency_ms=1.0,
        macs=1,
        parameters=1,
        predicted=predicted,
        measured=measured,
    )


MEMBERS = (
    member(8, {"top1_percent": 80.0, "latency_ms": 1.0}, {"top1_percent": 79.0, "latency_ms": 1.25}),
    member(16, {"top1_percent": 90.0, "latency_ms": 2.0}, {"top1_percent": 90.5, "latency_ms": 2.0}),
)


def test_how_far_off_each_value_was() -> None:
    top1, latency = off(MEMBERS, "top1_percent")
    assert top1 == (
        "top1_percent of the INT8 network differs from what the search saw by 0.75 points on average over 2 members of "
        "the front, 1.00 at most."
    )
    assert latency == (
        "Predictions of latency_ms were off by 10.0 % on average over 2 members of the front, by 20.0 % at most."
    )


def test_what_was_not_measured_is_not_judged() -> None:
    alone = member(
        8, {"latency_ms@x": 1.0, "macs": 5.0}, {"latency_ms": 2.0, "macs": 5.0, "memory_bytes": 0.0}
    )
    assert off([alone], "top1_percent") == ()


@pytest.mark.parametrize(
    ("constraints", "kept", "note"),
    [
        ({}, [8, 16], ""),
        ({"latency_ms": "<= 2"}, [8, 16], ""),
        (
            {"latency_ms": "<= 1.5"},
            [8],
            "1 member of the front was not chosen from: as measured, without latency_ms <= 1.5.",
        ),
        (
            {"latency_ms": "<= 1"},
            [8, 16],
            "As measured, no member of the front has latency_ms <= 1; the choice is among all of them.",
        ),
        (
            {"macs": "<= 100"},
            [8],
            "1 member of the front was not chosen from: as measured, without macs <= 100.",
        ),
    ],
)
def test_members_that_break_a_constraint_as_measured_are_not_chosen(
    constraints: dict[str, str], kept: list[int], note: str
) -> None:
    searched = [{"macs": 50.0, "latency_ms": 1.0}, {"macs": 150.0, "latency_ms": 2.0}]
    found, notes = keeping(parse_constraints(constraints), MEMBERS, searched)
    assert [own.config["width"] for own in found] == kept
    assert notes == ((note,) if note else ())


def test_members_at_equal_steps_with_both_ends() -> None:
    front = [Candidate(config=SubnetConfig({"width": own}), values={}) for own in range(10)]
    assert [own.config["width"] for own in spread(front, 4)] == [0, 3, 6, 9]
    assert spread(front, 10) == tuple(front)
    assert spread(front[:1], 3) == tuple(front[:1])
