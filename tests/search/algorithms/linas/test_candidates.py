from __future__ import annotations

import numpy as np

from bnas.search import Constraint, Problem
from bnas.search.algorithms.linas.candidates import Candidates
from bnas.space import SubnetConfig


def _merged(config):
    """The last width bears on nothing where the first is the smallest."""
    values = dict(config.values)
    return SubnetConfig({**values, "layer1.width": 24}) if values["layer0.width"] == 8 else config


def test_codes_of_one_network_have_one_row_and_are_asked_about_once(make_space, goals):
    asked = []

    def cheap(config):
        asked.append(config)
        return {"latency_ms": float(sum(config.values.values())), "macs": 2.0}

    space = make_space(2, 3)
    problem = Problem(space=space, objectives=goals, cheap=cheap, canonical=_merged)
    candidates = Candidates(problem)
    rows = candidates.look(np.array([[0, 0], [0, 2], [1, 1], [0, 1], [1, 1]]))
    assert rows.tolist() == [0, 0, 1, 0, 1]
    assert len(candidates) == 2
    assert candidates.codes(rows[:1]).tolist() == [[0, 2]]
    assert candidates.configs[1] == space.decode([1, 1])
    assert candidates.row(space.decode([0, 0])) == 0
    assert candidates.cheap(np.array([0, 1])).tolist() == [[32.0, 2.0], [32.0, 2.0]]
    assert len(asked) == len(set(asked))


def test_what_breaks_cheap_constraints_is_known(make_space, goals):
    problem = Problem(
        space=make_space(4),
        objectives=goals,
        cheap=lambda c: {"latency_ms": float(c["layer0.width"])},
        constraints=(
            Constraint(name="latency_ms", bound="<=", limit=16.0),
            Constraint(name="top1_percent", bound=">=", limit=1),
        ),
    )
    candidates = Candidates(problem)
    rows = candidates.look(np.arange(4)[:, None])
    np.testing.assert_allclose(candidates.broken(rows), [0, 0, 0.5, 1.0])


def test_grows_as_it_looks_on(make_problem):
    candidates = Candidates(make_problem(10, 10, 10))
    rng = np.random.default_rng(0)
    for _ in range(5):
        codes = rng.integers(10, size=(150, 3))
        rows = candidates.look(codes)
        np.testing.assert_array_equal(candidates.codes(rows), codes)
    assert len(candidates) == len(candidates.configs)
