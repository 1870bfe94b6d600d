from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bnas.errors import ConfigError, MeasureError, SpaceError
from bnas.search import SearchConfig, parse_constraints, search


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def total(space):
    """The sum of the indices: 0 for the smallest."""
    return lambda config: {"macs": float(sum(space.encode(config)))}


@pytest.fixture
def bounded(make_problem):
    """A problem with bounds on what is known for nothing."""

    def make(*counts, cheap=total, **bounds):
        space = make_problem(*counts).space
        return make_problem(*counts, cheap=cheap(space), constraints=parse_constraints(bounds))

    return make


def test_what_is_known_for_nothing_is_computed_once(make_problem):
    asked = Counter()

    def cheap(config):
        asked[config] += 1
        return {"latency_ms": 1.0, "macs": 2.0}

    problem = make_problem(3, 3, cheap=cheap)
    for _ in range(3):
        assert problem.cheaply(problem.space.largest) == {"latency_ms": 1.0, "macs": 2.0}
    assert problem.cheap_objectives == ("latency_ms",)
    assert replace(problem, start=()).cheaply(problem.space.largest)["macs"] == 2.0
    assert set(asked.values()) == {1}


def test_nothing_is_known_for_nothing_by_default(make_problem):
    problem = make_problem(3, 3, constraints=parse_constraints({"latency_ms": "<= 1"}))
    assert problem.cheap_objectives == ()
    assert problem.allowed(problem.space.largest)  # that is only known afterwards
    assert problem.violation({"latency_ms": 2.0}) == pytest.approx(1.0)


def test_costs_follow_the_directions(make_problem):
    assert make_problem(2).costs({"top1_percent": 80.0, "latency_ms": 3.0, "macs": 1.0}) == (-80.0, 3.0)


def test_decode_gives_the_canonical_config(make_problem):
    space = make_problem(3, 3).space
    problem = make_problem(3, 3, canonical=lambda config: space.decode((space.encode(config)[0], 2)))
    assert problem.decode(np.array([1, 0])) == space.decode((1, 2))
    sampled = {problem.sample(np.random.default_rng(i)) for i in range(50)}
    assert sampled == {space.decode((i, 2)) for i in range(3)}


@pytest.mark.parametrize("bound", ["<= 12", "<= 3", ">= 27", "<= 0", ">= 30"])
def test_samples_are_allowed_however_rare_that_is(bounded, rng, bound):
    """Of a sum of ten choices of 0…3; `<= 0` is kept by one subnet of a million."""
    problem = bounded(*[4] * 10, macs=bound)
    samples = [problem.sample(rng) for _ in range(20)]
    assert all(map(problem.allowed, samples))
    ends = bound in ("<= 0", ">= 30")
    assert (len(set(samples)) == 1) == ends


def test_several_bounds_at_once(bounded, rng):
    def cheap(space):
        def told(config):
            x = space.encode(config)
            return {"macs": float(sum(x)), "latency_ms": float(sum(x[::2])) - 0.5 * sum(x[1::2])}

        return told

    problem = bounded(*[4] * 10, cheap=cheap, macs=">= 18", latency_ms="<= -4")
    samples = [problem.sample(rng) for _ in range(10)]
    assert all(map(problem.allowed, samples))
    assert len(set(samples)) > 1


def test_it_is_led_no_farther_than_needed(bounded, rng):
    problem = bounded(*[4] * 10, macs="<= 12")
    near = problem.decode([1] * 10)
    assert problem.led(near, rng) == near
    far = problem.led(problem.space.largest, rng)
    assert sum(problem.space.encode(far)) == 12


def test_as_near_as_it_gets_where_nothing_is_allowed(bounded, rng):
    problem = bounded(3, 3, macs=">= 9")
    assert problem.led(problem.space.smallest, rng) == problem.space.largest
    assert problem.sample(rng) == problem.space.largest


def test_what_is_no_number_is_not_allowed(bounded, rng):
    def cheap(space):
        def told(config):
            return {"macs": float("nan") if config["layer0.width"] == 8 else 1.0}

        return told

    problem = bounded(3, 3, cheap=cheap, macs="<= 5")
    assert not problem.allowed(problem.space.smallest)
    assert problem.allowed(problem.led(problem.space.smallest, rng))


def test_possible_constraints_pass(bounded, rng):
    bounded(*[4] * 10, macs="<= 0").check_possible(rng)
    bounded(*[4] * 10, macs=">= 30").check_possible(rng)
    bounded(3, 3, latency_ms="<= -1").check_possible(rng)  # nothing is known of it


def test_an_impossible_constraint_says_the_best_there_is(bounded, rng):
    with pytest.raises(
        ConfigError,
        match=r"^search.constraints: no subnet found with macs >= 31; the best there is: macs: 30$",
    ):
        bounded(*[4] * 10, macs=">= 31").check_possible(rng)


def test_constraints_that_exclude_each_other_say_the_best_of_each(bounded, rng):
    def cheap(space):
        return lambda config: {
            "macs": float(sum(space.encode(config))),
            "size_bytes": 2.0 * sum(space.encode(config)),
        }

    with pytest.raises(
        ConfigError,
        match=r"no subnet found with macs >= 20 and size_bytes <= 20; the best there is \(each by itself\): "
        r"macs: 30, size_bytes: 0$",
    ):
        bounded(*[4] * 10, cheap=cheap, macs=">= 20", size_bytes="<= 20").check_possible(rng)


class TestBadInputOfASearch:
    """What `search` says, and when: before anything is evaluated where that can be known."""

    @pytest.fixture
    def space(self, make_space):
        return make_space(4, 4, 3)

    @pytest.fixture
    def truth(self, space, make_truth):
        return make_truth(space, 1)

    @staticmethod
    def never(config):
        raise AssertionError("nothing should be evaluated")

    def test_a_cheap_constraint_that_is_impossible(self, space, goals):
        config = SearchConfig(constraints={"macs": ">= 9"})
        with pytest.raises(ConfigError, match="no subnet found with macs >= 9; the best there is: macs: 8"):
            search(space, goals, self.never, config, seed=0, cheap=total(space))

    def test_an_evaluated_constraint_that_is_impossible(self, space, goals, truth):
        config = SearchConfig(evaluations=20, constraints={"top1_percent": ">= 99"})
        with pytest.raises(
            SpaceError, match="none of the 20 subnets evaluated has top1_percent >= 99; the best"
        ) as said:
            search(space, goals, truth, config, seed=0)
        best = float(str(said.value).rpartition(" ")[2])
        assert best == pytest.approx(truth(space.largest)["top1_percent"], rel=1e-4)

    def test_a_constraint_on_what_nobody_tells(self, space, goals, truth):
        config = SearchConfig(constraints={"energy_mj": "<= 9"})
        with pytest.raises(MeasureError, match="gave no energy_mj; it gave: latency_ms, top1_percent"):
            search(space, goals, truth, config, seed=0)

    def test_one_objective(self, space, goals):
        with pytest.raises(ConfigError, match="expected two or more objectives, got latency_ms"):
            search(space, goals[1:], self.never, seed=0)

    def test_a_space_of_one_subnet_has_a_front_of_one(self, make_space, goals):
        space = make_space(1, 1)
        front = search(space, goals, lambda subnet: {"top1_percent": 9.0, "latency_ms": 1.0}, seed=0)
        assert [member.config for member in front.members] == [space.largest]
        assert (len(front.evaluations), front.hypervolume) == (1, (0.0,))
        assert front.best_under(latency_ms=2.0).config == space.largest

    def test_a_budget_smaller_than_the_population(self, space, goals, truth):
        for evaluations in (2, 3):
            config = SearchConfig(evaluations=evaluations, population=20)
            assert len(search(space, goals, truth, config, seed=0).evaluations) == evaluations

    def test_a_population_larger_than_the_space(self, space, goals, truth):
        config = SearchConfig(evaluations=500, population=100)
        assert len(search(space, goals, truth, config, seed=0).evaluations) == space.size

    def test_a_function_for_each_objective(self, space, goals, truth):
        by_name = {
            "latency_ms": lambda subnet: truth(subnet)["latency_ms"],
            "top1_percent": lambda subnet: truth(subnet)["top1_percent"],
        }
        config = SearchConfig(evaluations=20)
        assert search(space, goals, by_name, config, seed=0) == search(space, goals, truth, config, seed=0)
        with pytest.raises(MeasureError, match="gave no latency_ms; it gave: top1_percent"):
            search(space, goals, {"top1_percent": by_name["top1_percent"]}, config, seed=0)
        with pytest.raises(ConfigError, match=r"^search.screen: functions of a config alone .* got 0.2$"):
            search(space, goals, by_name, SearchConfig(screen=0.2), seed=0)

    def test_an_evaluation_that_gives_no_values_by_name(self, space, goals):
        with pytest.raises(MeasureError, match=r"gave 3\.0; expected values by name"):
            search(space, goals, lambda subnet: 3.0, seed=0)
