from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest

from bnas.errors import MissingPackageError
from bnas.search import SearchConfig
from bnas.search.algorithms.nsga2 import nsga2
from bnas.search.algorithms.nsga3 import nsga3
from bnas.search.algorithms.pymoo_parts import Scale, _scale


def test_costs_count_as_parts_of_the_first_generations_range(make_problem):
    problem = make_problem(2)
    answers = (
        {"top1_percent": 90.0, "latency_ms": 1e-3},
        None,
        {"top1_percent": 50.0, "latency_ms": 5e-3},
    )
    scale = _scale(problem, answers)
    assert scale.normal((-90.0, 1e-3)) == pytest.approx([0, 0])
    assert scale.normal((-70.0, 3e-3)) == pytest.approx([0.5, 0.5])
    assert scale.normal((-30.0, 9e-3)) == pytest.approx([1.5, 2])


def test_an_axis_without_a_range_keeps_its_unit(make_problem):
    scale = _scale(make_problem(2), ({"top1_percent": 90.0, "latency_ms": 2.0},))
    assert scale.normal((-89.0, 2.5)) == pytest.approx([1, 0.5])
    nothing = _scale(make_problem(2), (None, None))
    assert nothing.normal((3.0, 4.0)) == pytest.approx([3, 4])
    assert isinstance(nothing, Scale)


def test_units_change_nothing(make_problem, make_truth):
    """The same search whether latency is in seconds or in nanoseconds."""
    problem = make_problem(*[4] * 5)
    truth = make_truth(problem.space, 1)

    def proposed(algorithm, factor):
        proposals = algorithm(problem, SearchConfig(population=8), 3)
        generation, found = next(proposals), []
        for _ in range(6):
            found.append(generation)
            values = [truth(subnet) for subnet in generation.subnets]
            generation = proposals.send(
                tuple({**own, "latency_ms": factor * own["latency_ms"]} for own in values)
            )
        return found

    for algorithm in (nsga2, nsga3):
        assert proposed(algorithm, 2.0**-20) == proposed(algorithm, 2.0**30)


@pytest.mark.parametrize("algorithm", [nsga2, nsga3])
def test_warnings_are_on_afterwards(make_problem, make_truth, algorithm):
    problem = make_problem(*[4] * 5)
    truth = make_truth(problem.space, 1)
    proposals = algorithm(problem, SearchConfig(population=8), 3)
    generation = next(proposals)
    before = list(warnings.filters)
    for _ in range(3):
        generation = proposals.send(tuple(truth(subnet) for subnet in generation.subnets))
    assert warnings.filters == before
    with pytest.raises(RuntimeWarning):
        np.float64(1) / np.zeros(1)[0]


def test_without_pymoo_it_says_how_to_install_it(make_problem, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'bnas\[search\]'"):
        next(nsga2(make_problem(2, 2), SearchConfig(), 0))
