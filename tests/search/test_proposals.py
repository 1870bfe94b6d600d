from __future__ import annotations

import numpy as np
import pytest

from bnas.errors import ConfigError
from bnas.search import SearchConfig
from bnas.search.proposals import unseen, warm_start


def test_a_space_is_drawn_out_to_its_last_subnet(make_problem):
    problem, rng, seen = make_problem(6, 5, 7, 3), np.random.default_rng(0), {}
    space = problem.space
    for _ in range(space.size):
        config = unseen(problem, rng, seen)
        space.validate(config)
        assert config not in seen
        seen[config] = None
    assert unseen(problem, rng, seen) is None


def test_the_last_subnet_is_found_where_sampling_would_hardly_meet_it(make_problem):
    problem = make_problem(*[2] * 14)
    space = problem.space
    everything = [space.decode([n >> i & 1 for i in range(14)]) for n in range(space.size)]
    missing = everything.pop(9999)
    assert unseen(problem, np.random.default_rng(1), set(everything)) == missing


def test_the_warm_start_has_both_ends_and_different_subnets(make_problem):
    problem = make_problem(4, 4, 4)
    space = problem.space
    start = warm_start(problem, np.random.default_rng(0), 10)
    assert start[:2] == (space.largest, space.smallest)
    assert len(set(start)) == len(start) == 10


def test_the_warm_start_is_at_most_the_space(make_problem):
    assert len(warm_start(make_problem(2, 2), np.random.default_rng(0), 10)) == 4
    assert len(warm_start(make_problem(1), np.random.default_rng(0), 10)) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evaluations": 1}, "evaluations: expected 2 or more, got 1"),
        ({"population": 0}, "population: expected 2 or more, got 0"),
        ({"mutation_probability": 1.5}, "mutation_probability: expected 0 to 1, got 1.5"),
        ({"crossover_eta": 0.0}, "crossover_eta: expected more than 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(options, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        SearchConfig(**options)
