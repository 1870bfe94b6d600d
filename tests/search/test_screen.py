from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from bnas.errors import MeasureError
from bnas.search import Candidate, Failed, SearchConfig, parse_constraints, search
from bnas.search.screen import promising

FRONT = np.array([[-80.0, 2.0], [-90.0, 4.0]])


@pytest.fixture
def judged(make_problem):
    def judge(values, constraints=None):
        problem = make_problem(2, constraints=parse_constraints(constraints or {}))
        return promising(problem, Candidate(config=problem.space.largest, values=values), FRONT)

    return judge


def values(top1, latency, **more):
    return {"top1_percent": top1, "latency_ms": latency, **more}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (values(85.0, 3.0), True),
        (values(70.0, 1.0), True),
        (values(80.0, 2.0), True),  # equal: not dominated
        (values(79.0, 2.5), False),
        (values(79.0, 2.5, top1_percent_error=0.4), False),
        (values(79.0, 2.5, top1_percent_error=0.6), True),  # by two standard errors it is above 80
        (values(79.0, 2.5, latency_ms_error=0.3), True),
        (values(79.0, 2.5, macs_error=9.0), False),
        (values(90.0, 4.1, latency_ms_error=0.04), False),
    ],
)
def test_by_two_standard_errors(judged, own, expected):
    assert judged(own) == expected


@pytest.mark.parametrize(
    ("own", "constraints", "expected"),
    [
        (values(95.0, 1.0), {"top1_percent": ">= 96"}, False),
        (values(95.0, 1.0, top1_percent_error=0.6), {"top1_percent": ">= 96"}, True),
        (values(95.0, 1.0, heat=3.0), {"heat": "<= 2"}, False),
        (values(95.0, 1.0, heat=3.0, heat_error=0.6), {"heat": "<= 2"}, True),
        (values(95.0, 1.0, cold=1.0, cold_error=0.6), {"cold": ">= 2"}, True),
    ],
)
def test_constraints_get_the_same_benefit(judged, own, constraints, expected):
    assert judged(own, constraints) == expected


def test_without_a_front_all_is_promising_but_what_failed(make_problem):
    problem = make_problem(2)
    nothing = np.empty((0, 2))
    largest = problem.space.largest
    assert promising(problem, Candidate(config=largest, values=values(1.0, 99.0)), nothing)
    assert not promising(problem, Failed(config=largest, reason="no"), nothing)


class TestInASearch:
    @pytest.fixture
    def space(self, make_space):
        return make_space(*[5] * 10)

    @pytest.fixture
    def noisy(self, space, make_truth):
        """Accuracy on a share of a million images, with its binomial standard error; `asked` remembers every call."""
        truth = make_truth(space, 2)
        asked = []

        def evaluate(config, share=1.0):
            asked.append((config, share))
            own = truth(config)
            if share < 1:
                p = own["top1_percent"] / 100
                error = 100 * math.sqrt(p * (1 - p) / (1e6 * share))
                chance = np.random.default_rng(int(config.digest, 16) % 2**32).normal()
                own |= {"top1_percent": own["top1_percent"] + error * chance, "top1_percent_error": error}
            return own

        evaluate.asked = asked
        evaluate.truth = truth
        return evaluate

    CONFIG = SearchConfig(evaluations=60, population=12, screen=0.1)

    def test_few_are_evaluated_on_all(self, space, goals, noisy):
        config = replace(self.CONFIG, algorithm="random")  # the more of it is poor, the more screening saves
        front = search(space, goals, noisy, config, seed=0)
        whole = [config for config, share in noisy.asked if share == 1]
        part = [config for config, share in noisy.asked if share == 0.1]
        assert len(part) == len(set(part)) == 58
        assert whole[:2] == [space.largest, space.smallest]
        assert set(whole[2:]) < set(part)
        assert len(whole) == len(set(whole)) < 40
        assert len(front.evaluations) == len(front.hypervolume) == 60
        for candidate in front.evaluations:
            assert (candidate.share == 1) == (candidate.config in whole)
        for member in front.members:
            assert member.values == noisy.truth(member.config)

    def test_it_is_resumed_like_any_other(self, space, goals, noisy, tmp_path):
        whole = search(space, goals, noisy, self.CONFIG, seed=0, log=tmp_path / "whole.jsonl")
        lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
        assert len(lines) == 1 + len(noisy.asked)
        before = [*noisy.asked]
        for kept in (2, 14, 40):
            noisy.asked.clear()
            log = tmp_path / f"{kept}.jsonl"
            log.write_bytes(b"".join(lines[: 1 + kept]))
            assert search(space, goals, noisy, self.CONFIG, seed=0, log=log) == whole
            assert noisy.asked == before[kept:]
            assert log.read_bytes() == b"".join(lines)

    def test_what_fails_on_a_share_is_not_tried_on_all(self, space, goals, noisy):
        def evaluate(config, share=1.0):
            if share < 1 and config.digest[0] in "5a":
                raise MeasureError("not this one")
            return noisy(config, share)

        front = search(space, goals, evaluate, self.CONFIG, seed=0)
        failed = {own.config for own in front.failed}
        assert failed
        assert not failed & {config for config, _ in noisy.asked}
        assert len(front.evaluations) == len(front.hypervolume) == 60 - len(failed)
