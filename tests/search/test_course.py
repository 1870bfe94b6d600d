from __future__ import annotations

import pytest

from bnas.search import Expected, Generation, Job, SearchConfig
from bnas.search.course import IDLE_GENERATIONS, Course
from bnas.search.evaluations import Evaluations


@pytest.fixture
def problem(make_problem):
    return make_problem(4, 4)


@pytest.fixture
def take(make_truth, problem):
    truth = make_truth(problem.space, 0)

    def evaluated(done, subnets):
        for subnet in subnets:
            done.take(Job(subnet), truth(subnet))
            done.count(subnet)

    return evaluated


def course_of(generations, done, sent=None):
    def algorithm(problem, config, seed):
        for generation in generations:
            answers = yield generation
            if sent is not None:
                sent.append(answers)

    return Course(algorithm, SearchConfig(), done, seed=0)


def test_it_passes_over_what_is_known_and_sends_its_values(problem, take):
    a, b, c, d = (problem.decode(indices) for indices in ((0, 0), (3, 3), (1, 2), (2, 1)))
    done, sent = Evaluations(problem), []
    take(done, (a, b))
    course = course_of([Generation((a, c, c)), Generation((b,)), Generation((d, a))], done, sent)
    assert course.wanted() == (c,)
    assert course.wanted() == (c,)
    assert sent == []
    take(done, (c,))
    assert course.wanted() == (d,)
    assert sent == [tuple(map(done.values, (a, c, c))), (done.values(b),)]
    take(done, (d,))
    assert course.wanted() == ()
    assert course.wanted() == ()


def test_none_is_sent_of_what_failed(problem, take):
    a, b, c = (problem.decode(indices) for indices in ((0, 0), (3, 3), (1, 2)))
    done, sent = Evaluations(problem), []
    take(done, (a, b))
    course = course_of([Generation((a, c)), Generation((b,))], done, sent)
    done.take(Job(c), done.checked(Job(c), {"top1_percent": float("inf"), "latency_ms": 1.0}))
    assert course.wanted() == ()
    assert sent[0] == (done.values(a), None)


def test_an_algorithm_that_only_repeats_itself_has_ended(problem, take):
    a, b = problem.decode((0, 0)), problem.decode((3, 3))
    done, sent = Evaluations(problem), []
    take(done, (a, b))
    assert course_of([Generation((a,))] * 1000, done, sent).wanted() == ()
    assert len(sent) == IDLE_GENERATIONS + 1


def test_no_generation_and_an_empty_one_end_it(problem):
    assert course_of([], Evaluations(problem)).wanted() == ()
    assert (
        course_of([Generation(()), Generation((problem.decode((0, 0)),))], Evaluations(problem)).wanted()
        == ()
    )


def test_each_generation_is_judged_once_the_last_one_as_far_as_it_is_known(problem, take):
    a, b, c, d = (problem.decode(indices) for indices in ((0, 0), (3, 3), (1, 2), (2, 1)))
    done = Evaluations(problem)
    take(done, (a, b))
    expected = {"latency_ms": Expected(1.0, 0.1)}
    course = course_of([Generation((c,), (expected,)), Generation((d, a), (expected, expected))], done)
    assert course.wanted() == (c,)
    take(done, (c,))
    assert course.wanted() == (d, a)[:1]
    assert [own.evaluations for own in done.front().rounds] == [3]
    course.end()
    assert [own.evaluations for own in done.front().rounds] == [3, 3]
    course.end()
    assert len(done.front().rounds) == 2


def test_what_was_sent_back_is_not_judged_again_at_the_end(problem, take):
    done = Evaluations(problem)
    take(done, (problem.decode((0, 0)), problem.decode((3, 3))))
    course = course_of([Generation((problem.decode((1, 2)),), ({"latency_ms": Expected(1.0, 0.1)},))], done)
    take(done, course.wanted())
    assert course.wanted() == ()
    course.end()
    assert len(done.front().rounds) == 1


def test_what_an_algorithm_refuses_is_said_at_once(problem):
    def refuses(problem, config, seed):
        raise ValueError("no")
        yield

    with pytest.raises(ValueError, match="no"):
        Course(refuses, SearchConfig(), Evaluations(problem), seed=0)
