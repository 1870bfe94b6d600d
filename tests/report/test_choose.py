from __future__ import annotations

import pytest

from bnas.errors import RunError
from bnas.report import Verified, choice_notes, choose
from bnas.space import SubnetConfig


def verified(width: int, top1_int8: float, latency_ms: float) -> Verified:
    return Verified(
        config=SubnetConfig({"width": width}),
        metric_fp32_percent=99.0,  # must play no part
        metric_int8_percent=top1_int8,
        latency_ms=latency_ms,
        predicted_latency_ms=100 - latency_ms,  # nor must this
        macs=width,
        parameters=width,
    )


def widths(chosen: dict[str, Verified]) -> dict[str, int]:
    return {name: v.config["width"] for name, v in chosen.items()}


FRONT = (verified(64, 92.4, 4.0), verified(48, 91.6, 2.5), verified(32, 91.1, 2.0), verified(8, 84.0, 0.5))


def test_a_is_most_accurate_b_fastest_under_a_point_c_fastest():
    assert widths(choose(FRONT, 92.0)) == {"A": 64, "B": 32, "C": 8}
    assert choice_notes(choose(FRONT, 92.0), 92.0) == ()


def test_a_loss_of_exactly_a_point_is_not_under_a_point():
    assert widths(choose((*FRONT, verified(16, 91.0, 1.0)), 92.0))["B"] == 32


def test_loss_points_move_b():
    assert widths(choose(FRONT, 92.0, loss_points=0.5))["B"] == 48
    assert widths(choose(FRONT, 92.0, loss_points=10.0))["B"] == 8


def test_where_all_lose_too_much_b_is_the_closest_and_a_note_says_so():
    chosen = choose(FRONT, 95.0)
    assert widths(chosen) == {"A": 64, "B": 64, "C": 8}
    notes = choice_notes(chosen, 95.0)
    assert "No subnet of the front loses less than 1 point of top-1" in notes[0]
    assert "2.60 points" in notes[0]
    assert notes[1] == "A and B are the same subnet."


def test_one_subnet_may_have_all_names():
    chosen = choose(FRONT[:1], 92.0)
    assert widths(chosen) == {"A": 64, "B": 64, "C": 64}
    assert choice_notes(chosen, 92.0) == ("A, B and C are the same subnet.",)


def test_ties_go_to_the_better_other_value_then_to_the_digest_whatever_the_order():
    tied = [verified(40, 92.4, 3.0), verified(41, 92.4, 3.0), verified(9, 85.0, 0.5), verified(10, 84.0, 0.5)]
    chosen = choose([*FRONT, *tied], 92.0)
    assert chosen == choose([*FRONT, *tied][::-1], 92.0)
    assert chosen["A"].config.digest == min(tied[0].config.digest, tied[1].config.digest)
    assert chosen["C"].config["width"] == 9


def test_nothing_to_choose_from():
    with pytest.raises(RunError, match="run `bnas search` again"):
        choose((), 92.0)
