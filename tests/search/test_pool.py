from __future__ import annotations

import pytest

from bnas.errors import DataError, ExportError, MeasureError
from bnas.search import Failure, Job, SearchConfig, search
from bnas.search.pool import OneByOne, outcome_of


@pytest.fixture
def configs(make_space):
    space = make_space(4, 4)
    return [space.decode((i, i)) for i in range(4)]


def test_one_by_one_in_order_and_only_as_they_are_wanted(configs):
    asked = []

    def evaluate(config):
        asked.append(config)
        return {"width": float(config["layer0.width"])}

    outcomes = OneByOne(evaluate).map([Job(config) for config in configs])
    assert asked == []
    assert next(outcomes) == {"width": 8.0}
    assert asked == configs[:1]
    assert list(outcomes) == [{"width": 16.0}, {"width": 24.0}, {"width": 32.0}]


def test_the_share_is_said_where_it_is_not_all(configs):
    told = []

    def evaluate(config, *share):
        told.append(share)
        return {}

    assert list(OneByOne(evaluate).map([Job(configs[0]), Job(configs[1], 0.25)])) == [{}, {}]
    assert told == [(), (0.25,)]


@pytest.mark.parametrize("error", [MeasureError, ExportError])
def test_what_cannot_be_measured_has_failed(configs, error):
    def evaluate(config):
        raise error("not this one")

    assert outcome_of(evaluate, Job(configs[0])) == Failure("not this one")


@pytest.mark.parametrize("error", [DataError, ValueError, KeyboardInterrupt])
def test_other_errors_are_raised(configs, error):
    def evaluate(config):
        raise error("all is lost")

    with pytest.raises(error):
        outcome_of(evaluate, Job(configs[0]))


class Backwards:
    """Evaluates the jobs from the last to the first, and gives the outcomes in their order."""

    def __init__(self, evaluate):
        self.evaluate, self.asked, self.batches = evaluate, [], []

    def map(self, jobs):
        self.batches.append(len(jobs))
        found = []
        for job in reversed(jobs):
            self.asked.append(job.config)
            found.append(outcome_of(self.evaluate, job))
        yield from reversed(found)


def test_a_search_does_not_depend_on_who_evaluates(make_space, make_truth, goals, tmp_path):
    space = make_space(4, 4, 4, 4)
    truth = make_truth(space, 1)

    def evaluate(config):
        if config.digest[0] in "3b":
            raise MeasureError("not this one")
        return truth(config)

    config = SearchConfig(algorithm="nsga2", evaluations=40, population=10)
    alone = search(space, goals, evaluate, config, seed=0, log=tmp_path / "alone.jsonl")
    pool = Backwards(evaluate)
    assert search(space, goals, pool, config, seed=0, log=tmp_path / "pool.jsonl") == alone
    assert (tmp_path / "pool.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert pool.batches[:3] == [2, 8, 10]  # a whole generation at once, less what is known
    assert set(pool.asked) == {c.config for c in (*alone.evaluations, *alone.failed)}


def test_of_a_killed_batch_only_the_rest_is_evaluated_again(make_space, make_truth, goals, tmp_path):
    space, log = make_space(4, 4, 4, 4), tmp_path / "evaluations.jsonl"
    truth, config = make_truth(space, 1), SearchConfig(algorithm="nsga2", evaluations=30, population=10)
    whole = search(space, goals, truth, config, seed=0, log=tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:15]))
    pool = Backwards(truth)
    assert search(space, goals, pool, config, seed=0, log=log) == whole
    assert pool.batches[0] == 6  # 14 are known: two ends, eight more, four of the second generation
    assert len(pool.asked) == 16
