from __future__ import annotations

import pytest

from bnas.errors import MeasureError, SpaceError
from bnas.search import Candidate, Failed, Failure, Job, parse_constraints
from bnas.search.evaluations import Evaluations


def values(top1, latency, **more):
    return {"top1_percent": top1, "latency_ms": latency, **more}


@pytest.fixture
def problem(make_problem):
    return make_problem(4, 4)


def take(done, problem, indices, outcome, share=1.0):
    job = Job(problem.decode(indices), share)
    done.take(job, done.checked(job, outcome))
    done.count(job.config)
    return job.config


def test_hypervolume_is_counted_once_its_box_is_known(problem):
    """The box is 70…90 % and 1…5 ms; the areas are drawn by hand."""
    done = Evaluations(problem)
    take(done, problem, (1, 1), values(80.0, 3.0))
    take(done, problem, (0, 0), values(70.0, 1.0))
    with pytest.raises(SpaceError, match="not among the 2 that were evaluated"):
        done.front()
    take(done, problem, (3, 3), values(90.0, 5.0))
    take(done, problem, (2, 2), values(85.0, 4.0))
    front = done.front()
    assert front.hypervolume == pytest.approx((0.25, 0.25, 0.25, 0.25 + 0.25 * 0.25))
    assert [c.values["top1_percent"] for c in front.evaluations] == [80.0, 70.0, 90.0, 85.0]
    assert [c.values["top1_percent"] for c in front.members] == [90.0, 85.0, 80.0, 70.0]
    assert done.summary() == "top1_percent 90  latency_ms 1  hypervolume 0.312"


def test_what_failed_has_no_place_in_the_history(problem):
    done = Evaluations(problem, predicted=("latency_ms",))
    for indices, outcome in (((3, 3), values(90.0, 5.0)), ((0, 0), values(70.0, 1.0))):
        take(done, problem, indices, outcome)
    sick = take(done, problem, (1, 1), values(float("nan"), 1.0))
    other = take(done, problem, (2, 1), Failure("it does not convert"))
    front = done.front()
    assert len(front.hypervolume) == len(front.evaluations) == 2
    assert front.failed == (
        Failed(config=sick, reason="it gave top1_percent = nan"),
        Failed(config=other, reason="it does not convert"),
    )
    assert done.values(sick) is None
    assert {c.predicted for c in front.evaluations} == {("latency_ms",)}


def test_what_was_screened_out_is_no_member(problem):
    done = Evaluations(problem)
    take(done, problem, (3, 3), values(90.0, 5.0))
    take(done, problem, (0, 0), values(70.0, 1.0))
    small = take(done, problem, (1, 1), values(89.0, 1.0), share=0.1)
    front = done.front()
    assert front.hypervolume == (0.0, 0.0, 0.0)
    assert small not in {member.config for member in front.members}
    assert front.evaluations[2] == Candidate(config=small, values=values(89.0, 1.0), share=0.1)
    assert done.values(small) == values(89.0, 1.0)


def test_an_end_that_fails_is_said(problem):
    done = Evaluations(problem)
    take(done, problem, (3, 3), values(90.0, 5.0))
    take(done, problem, (0, 0), Failure("it does not convert"))
    with pytest.raises(MeasureError, match="the smallest subnet cannot be evaluated: it does not convert"):
        done.front()


def test_constraints_nobody_keeps_are_said_with_the_best_there_is(make_problem):
    problem = make_problem(4, 4, constraints=parse_constraints({"top1_percent": ">= 95", "heat": "<= 2"}))
    done = Evaluations(problem)
    take(done, problem, (3, 3), values(90.0, 5.0, heat=9.0))
    take(done, problem, (0, 0), values(70.0, 1.0, heat=3.0))
    with pytest.raises(
        SpaceError,
        match=r"none of the 2 subnets evaluated has top1_percent >= 95 and heat <= 2; the best there is "
        r"\(each by itself\): top1_percent: 90, heat: 3$",
    ):
        done.front()
    with pytest.raises(MeasureError, match="gave no heat; it gave: latency_ms, top1_percent"):
        take(done, problem, (1, 1), values(1.0, 1.0))


def test_cheap_values_are_added_and_an_evaluation_knows_better(make_problem):
    problem = make_problem(4, 4, cheap=lambda config: {"latency_ms": 3.0, "macs": 7})
    done = Evaluations(problem)
    job = Job(problem.decode((1, 1)))
    assert done.checked(job, {"top1_percent": 80.0}) == values(80.0, 3.0, macs=7.0)
    assert done.checked(job, values(80.0, 2.0)) == values(80.0, 2.0, macs=7.0)


def test_values_are_by_name(problem):
    with pytest.raises(MeasureError, match=r"gave \(80.0, 1.0\); expected values by name"):
        Evaluations(problem).checked(Job(problem.decode((1, 1))), (80.0, 1.0))
