from __future__ import annotations

import numpy as np

from bnas.search import OBJECTIVES, Problem
from bnas.search.algorithms.linas.surrogates import Encoding
from bnas.space import Choice, SearchSpace, SubnetConfig


def test_positions_keep_the_order_and_span_one_with_diminishing_returns(make_problem):
    problem = make_problem(5, 1)
    codes = np.array([[k, 0] for k in range(5)])
    features = Encoding(problem).of(codes, np.zeros((5, 0)))
    position = features.positions[:, 0]
    assert position[0] == -0.5
    assert position[-1] == 0.5
    steps = np.diff(position)
    assert (steps > 0).all()
    assert (np.diff(steps) < 0).all()  # from 8 to 16 channels is more than from 32 to 40
    assert (features.positions[:, 1] == 0).all()


def test_levels_are_any_function_of_a_choice(make_problem):
    codes = np.arange(4)[:, None]
    levels = Encoding(make_problem(4)).of(codes, np.zeros((4, 0))).levels
    wanted = np.array([3.0, -1.0, 2.0, 7.0])
    columns = np.hstack([np.ones((4, 1)), levels])
    found, *_ = np.linalg.lstsq(columns, wanted, rcond=None)
    np.testing.assert_allclose(columns @ found, wanted, atol=1e-9)


def test_totals_are_logarithms_of_what_is_cheaply_known(make_space, goals):
    space = make_space(3, 3)
    problem = Problem(
        space=space, objectives=goals, cheap=lambda c: {"macs": c["layer0.width"] * 10.0, "offset": 0.0}
    )
    encoding = Encoding(problem)
    assert encoding.names == ("macs", "offset")
    features = encoding.of(np.array([[0, 0], [2, 0]]), np.array([[80.0, 0.0], [240.0, 0.0]]))
    np.testing.assert_allclose(features.totals[1] - features.totals[0], [0.5, np.log(3), 0.0])
    np.testing.assert_array_equal(features.without_known().totals, features.totals[:, :1])


def test_groups_are_means_over_choices_that_differ_in_a_number(goals):
    names = ("layer1.0.width", "layer1.1.width", "layer2.0.width", "stem.width")
    space = SearchSpace(choices=tuple(Choice(name=name, dim="width", values=(8, 16)) for name in names))
    codes = np.array([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    groups = Encoding(Problem(space=space, objectives=goals)).of(codes, np.zeros((4, 0))).groups
    assert sorted(map(tuple, (groups[1:] - groups[0]).T.tolist())) == [(0.5, 0.0, 0.0), (0.5, 0.5, 0.0)]


def _with_depth() -> tuple[SearchSpace, object]:
    space = SearchSpace(
        choices=(
            Choice(name="stage.depth", dim="depth", values=(1, 2, 3), targets=("a", "b", "c")),
            Choice(name="b.width", dim="width", values=(8, 16)),
            Choice(name="c.width", dim="width", values=(8, 16, 24)),
        )
    )

    def canonical(config: SubnetConfig) -> SubnetConfig:
        values = dict(config.values)
        if values["stage.depth"] < 3:
            values["c.width"] = 24
        if values["stage.depth"] < 2:
            values["b.width"] = 16
        return SubnetConfig(values)

    return space, canonical


def test_a_width_that_bears_on_nothing_counts_for_nothing():
    space, canonical = _with_depth()
    goals = (OBJECTIVES["top1_percent"], OBJECTIVES["macs"])
    encoding = Encoding(Problem(space=space, objectives=goals, canonical=canonical))
    codes = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 0]])
    positions = encoding.of(codes, np.zeros((3, 0))).positions
    assert positions[0, 1:].tolist() == [0, 0]
    assert positions[1, 1:].tolist() == [-0.5, 0]
    assert positions[2, 1:].tolist() == [-0.5, -0.5]


def test_without_equal_networks_every_width_counts():
    space, _ = _with_depth()
    goals = (OBJECTIVES["top1_percent"], OBJECTIVES["macs"])
    positions = (
        Encoding(Problem(space=space, objectives=goals)).of(np.array([[0, 1, 2]]), np.zeros((1, 0))).positions
    )
    assert positions[0, 1:].tolist() == [0.5, 0.5]


def test_a_part_of_the_subnets_has_their_features(make_problem):
    features = Encoding(make_problem(3, 3)).of(np.array([[0, 1], [2, 2], [1, 0]]), np.zeros((3, 0)))
    part = features[np.array([2, 0])]
    assert len(part) == 2
    np.testing.assert_array_equal(part.positions, features.positions[[2, 0]])
    np.testing.assert_array_equal(part.totals, features.totals[[2, 0]])
