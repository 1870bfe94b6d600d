from __future__ import annotations

import pytest

from bnas import progress
from bnas.search import SEARCHES, Expected, Generation, Round, SearchConfig, search
from bnas.search.foretold import Foretold


@pytest.fixture
def said(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def generation(make_problem, *expected):
    space = make_problem(9, 9).space
    subnets = tuple(space.decode((i, 0)) for i in range(len(expected)))
    return Generation(subnets, expected)


def latency(value):
    return {"latency_ms": Expected(value, 0.1)}


def test_pairs_gather_over_the_generations(make_problem, goals, said):
    own = Foretold(goals)
    own.add(
        generation(make_problem, latency(1.0), latency(2.0)),
        ({"top1_percent": 1.0, "latency_ms": 1.5}, {"top1_percent": 1.0, "latency_ms": 2.5}),
        5,
    )
    own.add(
        generation(make_problem, latency(3.0), latency(9.0)),
        ({"top1_percent": 1.0, "latency_ms": 2.0}, None),
        6,
    )
    # (1, 1.5), (2, 2.5), (3, 2): two of the three pairs in order, one not
    assert own.rounds == [
        Round(evaluations=5, kendall_tau={"latency_ms": 1.0}, mean_error={"latency_ms": 0.5}),
        Round(
            evaluations=6,
            kendall_tau={"latency_ms": pytest.approx(1 / 3)},
            mean_error={"latency_ms": pytest.approx(2 / 3)},
        ),
    ]
    assert said == [
        "search: 5 evaluated; foretold: latency_ms tau 1.00, off by 0.5",
        "search: 6 evaluated; foretold: latency_ms tau 0.33, off by 0.667",
    ]


def test_without_predictions_there_is_nothing_to_judge(make_problem, goals, said):
    own = Foretold(goals)
    space = make_problem(3).space
    own.add(Generation((space.largest,)), ({"top1_percent": 1.0, "latency_ms": 1.0},), 1)
    assert (own.rounds, said) == ([], [])


def test_nothing_is_said_where_nothing_that_was_foretold_was_evaluated(make_problem, goals, said):
    own = Foretold(goals)
    own.add(generation(make_problem, latency(1.0)), (None,), 3)
    own.add(
        generation(make_problem, {"macs": Expected(1.0, 0.0)}), ({"top1_percent": 1.0, "latency_ms": 1.0},), 4
    )
    assert (own.rounds, said) == ([], [])


def test_a_search_keeps_the_rounds_and_judges_the_part_of_the_last(
    make_space, make_truth, goals, said, monkeypatch
):
    space = make_space(5, 5, 5)
    truth = make_truth(space, 1)

    def seer(problem, config, seed):
        """Knows the latency of everything, and nothing of its accuracy."""
        for i in range(5):
            subnets = tuple(problem.decode((i, j, 1)) for j in range(5))
            expected = tuple({"latency_ms": Expected(truth(own)["latency_ms"], 0.0)} for own in subnets)
            yield Generation(subnets, expected)

    monkeypatch.setitem(SEARCHES, "seer", seer)
    front = search(space, goals, truth, SearchConfig(algorithm="seer", evaluations=10), seed=0)
    assert [own.evaluations for own in front.rounds] == [7, 10]
    assert all(own.kendall_tau == {"latency_ms": 1.0} for own in front.rounds)
    assert all(own.mean_error == {"latency_ms": 0.0} for own in front.rounds)
    assert len(said) == 2
