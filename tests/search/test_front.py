from __future__ import annotations

import numpy as np
import pytest

from bnas.errors import ConfigError, SpaceError
from bnas.plain import from_plain, to_plain
from bnas.search import Box, Candidate, ParetoFront, hypervolume, non_dominated
from bnas.search.front import box, members_of
from bnas.space import SubnetConfig

UNIT = Box(ideal=(0.0, 0.0), nadir=(1.0, 1.0))


def candidate(width: int, top1: float, latency: float) -> Candidate:
    return Candidate(
        config=SubnetConfig({"width": width}), values={"top1_percent": top1, "latency_ms": latency}
    )


def test_non_dominated_points_drawn_by_hand():
    points = np.array([[1, 5], [2, 3], [4, 1], [2, 4], [5, 5], [2, 3], [4, 1.5]])
    assert non_dominated(points) == [0, 1, 2]  # point 5 equals point 1, 3, 4 and 6 are dominated


def test_non_dominated_agrees_with_the_definition_in_three_dimensions():
    points = np.random.default_rng(0).integers(0, 5, (80, 3)).astype(float)
    unique = {tuple(p) for p in points.tolist()}
    front = {p for p in unique if not any(q != p and all(a <= b for a, b in zip(q, p)) for q in unique)}  # noqa: B905
    assert {tuple(p) for p in points[non_dominated(points)].tolist()} == front
    assert len(non_dominated(points)) == len(front)


def test_hypervolume_of_rectangles():
    assert hypervolume(np.array([[0.5, 0.5]]), UNIT) == pytest.approx(0.25)
    assert hypervolume(np.array([[0.2, 0.6], [0.6, 0.2], [0.7, 0.7]]), UNIT) == pytest.approx(0.32 * 2 - 0.16)


def test_hypervolume_is_a_share_of_the_box():
    wide = Box(ideal=(-90.0, 2.0), nadir=(-70.0, 12.0))
    assert hypervolume(np.array([[-80.0, 7.0]]), wide) == pytest.approx(0.25)


def test_hypervolume_ignores_what_lies_beyond_the_nadir_and_counts_what_beats_the_ideal():
    assert hypervolume(np.array([[-5.0, 1.5], [1.0, 0.0]]), UNIT) == 0.0
    assert hypervolume(np.array([[-0.5, 0.0]]), UNIT) == pytest.approx(1.5)


def test_hypervolume_where_the_corners_agree_on_an_axis():
    flat = Box(ideal=(0.0, 3.0), nadir=(1.0, 3.0))
    assert hypervolume(np.array([[0.5, 1.0]]), flat) == pytest.approx(0.5 * 2)


def test_the_box_takes_the_better_and_the_worse_of_the_two_corner_subnets(goals):
    corners = box(goals, candidate(64, 92.0, 8.0), candidate(8, 80.0, 1.0))
    assert corners == Box(ideal=(-92.0, 1.0), nadir=(-80.0, 8.0))


@pytest.fixture
def front(goals) -> ParetoFront:
    evaluations = (
        candidate(64, 92.0, 8.0),
        candidate(8, 80.0, 1.0),
        candidate(24, 79.0, 3.0),
        candidate(32, 90.0, 4.0),
    )
    return ParetoFront(
        objectives=goals,
        members=members_of(goals, (), evaluations),
        evaluations=evaluations,
        hypervolume=(0.0, 0.1, 0.1, 0.5),
        hypervolume_box=box(goals, evaluations[0], evaluations[1]),
    )


def test_members_are_the_non_dominated_best_metric_first(front):
    assert [member.config["width"] for member in front.members] == [64, 32, 8]
    assert len(front.evaluations) == 4


@pytest.mark.parametrize(
    ("limits", "width"),
    [({}, 64), ({"latency_ms": 5.0}, 32), ({"latency_ms": 4.0}, 32), ({"latency_ms": 1.0}, 8)],
)
def test_best_under_a_latency(front, limits, width):
    assert front.best_under(**limits).config["width"] == width


def test_best_under_reads_a_limit_by_the_direction_of_its_objective(front):
    assert front.best_under(top1_percent=85.0, latency_ms=5.0).config["width"] == 32


def test_best_under_what_nobody_reaches_says_the_best_there_is(front):
    with pytest.raises(SpaceError, match=r"latency_ms of at most 0.5; the best there is: 1"):
        front.best_under(latency_ms=0.5)
    with pytest.raises(SpaceError, match=r"top1_percent of at least 99; the best there is: 92"):
        front.best_under(top1_percent=99)
    with pytest.raises(ConfigError, match="did you mean 'latency_ms'"):
        front.best_under(latency=5.0)


def test_a_front_survives_being_written(front):
    assert from_plain(ParetoFront, to_plain(front)) == front
