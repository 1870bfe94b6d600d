from __future__ import annotations

import numpy as np
import pytest

from bnas.search import non_dominated
from bnas.search.algorithms.ranking import crowding_distances, pareto_ranks


def test_ranks_drawn_by_hand():
    points = np.array([[1, 5], [2, 3], [4, 1], [2, 4], [5, 5], [2, 3]], dtype=float)
    # point 5 equals point 1 and comes after it; 3 is dominated by both; 4 by all
    assert pareto_ranks(points, np.zeros(6)).tolist() == [0, 0, 0, 2, 3, 1]


def test_ranks_agree_with_peeling_off_one_front_after_the_other():
    points = np.random.default_rng(0).integers(0, 6, (60, 3)).astype(float)
    left, expected = list(range(60)), np.zeros(60, dtype=int)
    rank = 0
    while left:
        front = [left[i] for i in non_dominated(points[left])]
        expected[front] = rank
        left = [i for i in left if i not in front]
        rank += 1
    assert pareto_ranks(points, np.zeros(60)).tolist() == expected.tolist()


def test_what_breaks_constraints_comes_last_in_order_of_how_much():
    points = np.array([[9, 9], [0, 0], [8, 8], [1, 1], [0, 1]], dtype=float)
    assert pareto_ranks(points, [0, 0.5, 0, 0.2, 0.2]).tolist() == [1, 3, 0, 2, 2]


def test_crowding_drawn_by_hand():
    points = np.array([[0, 10], [1, 6], [4, 5], [10, 0], [11, 11]], dtype=float)
    ranks = np.array([0, 0, 0, 0, 1])
    found = crowding_distances(points, ranks)
    assert found[[0, 3, 4]].tolist() == [np.inf] * 3
    assert found[1] == pytest.approx(4 / 10 + 5 / 10)
    assert found[2] == pytest.approx(9 / 10 + 6 / 10)


def test_crowding_of_points_that_agree_on_an_axis():
    points = np.array([[0, 1], [1, 1], [3, 1], [4, 1]], dtype=float)
    found = crowding_distances(points, np.zeros(4, dtype=int))
    assert found[1] == pytest.approx(3 / 4) or found[1] == np.inf
    assert not np.isnan(found).any()


def test_no_points():
    assert pareto_ranks(np.empty((0, 2)), []).tolist() == []
    assert crowding_distances(np.empty((0, 2)), np.empty(0, dtype=int)).tolist() == []
