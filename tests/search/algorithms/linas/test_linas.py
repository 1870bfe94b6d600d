"""What LINAS has to do beyond what every algorithm has to (test_algorithms.py)."""

from __future__ import annotations

import sys
from statistics import median

import numpy as np
import pytest

from bnas.search import Problem, SearchConfig, parse_constraints, search
from bnas.search.algorithms.linas.linas import linas
from bnas.search.search import SEARCHES


@pytest.fixture(autouse=True)
def _named(monkeypatch):
    monkeypatch.setitem(SEARCHES, "linas", linas)


def _cheap(truth):
    return lambda config: {"latency_ms": truth(config)["latency_ms"]}


def _generations(problem, truth, count):
    proposals = linas(problem, SearchConfig(), 0)
    found = [next(proposals)]
    while len(found) < count:
        found.append(proposals.send(tuple(map(truth, found[-1].subnets))))
    return found


def test_finds_the_true_front_with_a_third_of_what_nsga2_needs(make_space, make_truth, every_subnet, goals):
    space = make_space(4, 4, 4, 4, 3)  # 768 subnets, of which NSGA-II evaluates 550 (test_nsga2.py)
    truth = make_truth(space, 1)
    values = {config: truth(config) for config in every_subnet(space)}
    points = {config: (-v["top1_percent"], v["latency_ms"]) for config, v in values.items()}
    true_front = {
        config
        for config, (a, b) in points.items()
        if not any(x <= a and y <= b and (x, y) != (a, b) for x, y in points.values())
    }
    front = search(
        space, goals, truth, SearchConfig(algorithm="linas", evaluations=180), seed=3, cheap=_cheap(truth)
    )
    assert {member.config for member in front.members} == true_front


def test_is_beyond_nsga2_at_half_the_budget(make_space, make_truth, goals):
    space = make_space(*[5] * 12)  # 244 million subnets
    truth = make_truth(space, 7)

    def reached(algorithm, evaluations):
        return median(
            search(
                space,
                goals,
                truth,
                SearchConfig(algorithm=algorithm, evaluations=evaluations),
                seed=seed,
                cheap=_cheap(truth),
            ).hypervolume[-1]
            for seed in range(5)
        )

    assert reached("linas", 50) > reached("nsga2", 100) + 0.01


def test_foretells_what_it_has_not_seen(make_space, make_truth, goals):
    space = make_space(*[4] * 10)
    truth = make_truth(space, 2)
    front = search(
        space, goals, truth, SearchConfig(algorithm="linas", evaluations=70), seed=0, cheap=_cheap(truth)
    )
    assert [own.evaluations for own in front.rounds] == [30, 40, 50, 60, 70]
    assert front.rounds[-1].kendall_tau["top1_percent"] > 0.8
    assert set(front.rounds[-1].kendall_tau) == {"top1_percent"}  # latency is known
    later = _generations(Problem(space=space, objectives=goals, cheap=_cheap(truth)), truth, 6)[1:]
    off = [
        (expected["top1_percent"].value - truth(subnet)["top1_percent"]) / expected["top1_percent"].error
        for own in later
        for subnet, expected in zip(own.subnets, own.expected, strict=True)
    ]
    assert np.mean(np.abs(off) < 3) > 0.85


def test_what_is_wholly_known_is_searched_exactly(make_problem, make_truth, every_subnet):
    """Then there is nothing to learn: one round proposes nothing but members of the true front."""
    problem = make_problem(4, 4, 4, 4)
    truth = make_truth(problem.space, 5)
    problem = make_problem(4, 4, 4, 4, cheap=truth)
    points = np.array([problem.costs(truth(config)) for config in every_subnet(problem.space)])
    _, second = _generations(problem, truth, 2)
    assert second.expected == ()
    for subnet in second.subnets:
        own = np.array(problem.costs(truth(subnet)))
        assert not ((points <= own).all(axis=1) & (points < own).any(axis=1)).any()


def test_a_cheap_value_that_is_not_what_is_evaluated_is_predicted(make_problem, make_truth):
    """As a latency that was predicted for one machine and is measured on another."""
    truth = make_truth(make_problem(4, 4, 4, 4, 4, 4).space, 5)
    problem = make_problem(
        4, 4, 4, 4, 4, 4, cheap=lambda config: {"latency_ms": 3 + 0.1 * truth(config)["latency_ms"] ** 2}
    )
    *_, last = _generations(problem, truth, 5)
    for subnet, expected in zip(last.subnets, last.expected, strict=True):
        assert expected["latency_ms"].value == pytest.approx(truth(subnet)["latency_ms"], rel=0.15)


def test_the_least_known_are_among_a_generation(make_problem, make_truth, monkeypatch):
    """They are what a generation has of its own over one that takes only the most promising."""
    problem = make_problem(*[4] * 8)
    truth = make_truth(problem.space, 5)
    problem = make_problem(*[4] * 8, cheap=_cheap(truth))

    def errors():
        return [own["top1_percent"].error for own in _generations(problem, truth, 2)[1].expected]

    both = errors()
    monkeypatch.setattr("bnas.search.algorithms.linas.linas.UNSURE", 0.0)
    assert np.mean(both) > np.mean(errors())


def test_the_first_generation_has_all_sizes_and_later_ones_gather_at_the_front(make_problem, make_truth):
    truth = make_truth(make_problem(*[5] * 10).space, 3)
    problem = make_problem(*[5] * 10, cheap=_cheap(truth))
    first, *_, last = _generations(problem, truth, 5)
    assert len(first.subnets) == 20
    assert {problem.space.largest, problem.space.smallest} < set(first.subnets)
    assert len(last.subnets) == 10
    points = np.array([problem.costs(truth(subnet)) for subnet in (*first.subnets, *last.subnets)])
    beaten = [((points <= own).all(axis=1) & (points < own).any(axis=1)).any() for own in points]
    assert np.mean(beaten[20:]) < 0.5 * np.mean(beaten[:20])


def test_a_constraint_on_accuracy_keeps_it_from_what_is_too_bad(make_problem, make_truth):
    truth = make_truth(make_problem(*[4] * 8).space, 4)
    rng = np.random.default_rng(0)
    drawn = [truth(make_problem(*[4] * 8).sample(rng))["top1_percent"] for _ in range(300)]
    least = float(np.quantile(drawn, 0.7))
    bounds = parse_constraints({"top1_percent": f">= {least}"})
    problem = make_problem(*[4] * 8, cheap=_cheap(truth), constraints=bounds)
    found = [subnet for own in _generations(problem, truth, 8)[4:] for subnet in own.subnets]
    assert np.mean([truth(subnet)["top1_percent"] >= least - 0.1 for subnet in found]) > 0.8


def test_the_budget_does_not_bear_upon_the_proposals(make_space, make_truth, goals):
    space = make_space(*[4] * 6)
    truth = make_truth(space, 0)
    short, long = (
        search(space, goals, truth, SearchConfig(algorithm="linas", evaluations=count, population=10), seed=1)
        for count in (31, 50)
    )
    assert long.evaluations[:31] == short.evaluations


def test_looks_at_no_more_than_a_few_thousand_subnets_a_round(make_problem, make_truth):
    problem = make_problem(*[5] * 20)
    truth = make_truth(problem.space, 0)
    asked: set = set()

    def cheap(config):
        assert config not in asked
        asked.add(config)
        return {"latency_ms": truth(config)["latency_ms"]}

    _generations(make_problem(*[5] * 20, cheap=cheap), truth, 4)
    assert 1000 < len(asked) < 4 * 3000


def test_does_not_need_pymoo(make_problem, make_truth, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo", None)  # as if it were not installed
    problem = make_problem(4, 4, 4)
    assert len(_generations(problem, make_truth(problem.space, 0), 3)) == 3


def test_values_that_are_noisy_and_say_so(make_problem, make_truth):
    """`NAME_error` beside a value, as an evaluation on a part of the images gives, is taken for what it is."""
    problem = make_problem(*[4] * 6)
    truth = make_truth(problem.space, 0)
    rng = np.random.default_rng(0)

    def noisy(config):
        values = truth(config)
        return {**values, "top1_percent": values["top1_percent"] + rng.normal(), "top1_percent_error": 1.0}

    *_, last = _generations(problem, noisy, 4)
    assert np.mean([own["top1_percent"].error for own in last.expected]) > 0.5
