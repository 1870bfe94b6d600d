from __future__ import annotations

import json

import pytest

from bnas import progress
from bnas.errors import ConfigError, MeasureError, RunError
from bnas.search import SEARCHES, Generation, Objective, SearchConfig, search

QUICK = SearchConfig(evaluations=40, population=8)


@pytest.fixture
def space(make_space):
    return make_space(5, 4, 5, 4)


@pytest.fixture
def truth(space, make_truth):
    return make_truth(space, 11)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_the_budget_is_the_number_of_different_subnets_evaluated(
    space, truth, goals, counted, settings, algorithm
):
    evaluate = counted(truth)
    front = search(space, goals, evaluate, settings(algorithm, evaluations=37), seed=0)
    assert len(evaluate.asked) == len(set(evaluate.asked)) == 37
    assert [c.config for c in front.evaluations] == evaluate.asked
    assert evaluate.asked[:2] == [space.largest, space.smallest]
    assert len(front.hypervolume) == 37
    assert list(front.hypervolume) == sorted(front.hypervolume)


@pytest.mark.parametrize("algorithm", SEARCHES)
@pytest.mark.parametrize("counts", [(), (1,), (2,), (2, 2, 3), (7, 1, 3)])
def test_a_space_smaller_than_the_budget_is_exhausted(
    make_space, make_truth, goals, counted, settings, algorithm, counts
):
    space = make_space(*counts)
    evaluate = counted(make_truth(space, 0) if counts else lambda c: {"top1_percent": 9.0, "latency_ms": 1.0})
    search(space, goals, evaluate, settings(algorithm, evaluations=500), seed=0)
    assert len(evaluate.asked) == len(set(evaluate.asked)) == space.size


def test_a_budget_smaller_than_the_population(space, truth, goals):
    front = search(space, goals, truth, SearchConfig(evaluations=5, population=20), seed=0)
    assert len(front.evaluations) == 5


@pytest.mark.parametrize("algorithm", SEARCHES)
@pytest.mark.parametrize("killed_at", [0, 1, 2, 7, 8, 25, 39])
def test_a_killed_search_ends_with_the_undisturbed_result(
    space, truth, goals, counted, settings, tmp_path, algorithm, killed_at
):
    config = settings(algorithm, evaluations=40, population=8)
    undisturbed = search(space, goals, truth, config, seed=1, log=tmp_path / "whole.jsonl")
    log = tmp_path / "killed.jsonl"
    with pytest.raises(KeyboardInterrupt):
        search(space, goals, counted(truth, kill_at=killed_at), config, seed=1, log=log)
    rest = counted(truth)
    assert search(space, goals, rest, config, seed=1, log=log) == undisturbed
    assert len(rest.asked) == 40 - killed_at
    assert log.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_log_with_half_a_last_line_goes_on(space, truth, goals, counted, tmp_path, cut):
    log = tmp_path / "evaluations.jsonl"
    undisturbed = search(space, goals, truth, QUICK, seed=1, log=log)
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:21])[:-cut])
    rest = counted(truth)
    assert search(space, goals, rest, QUICK, seed=1, log=log) == undisturbed
    assert len(rest.asked) == 40 - 19
    assert log.read_bytes() == whole


def test_a_finished_search_evaluates_nothing_and_can_be_continued(space, truth, goals, counted, tmp_path):
    log = tmp_path / "evaluations.jsonl"
    short = search(space, goals, truth, QUICK, seed=1, log=log)
    again = counted(truth)
    assert search(space, goals, again, QUICK, seed=1, log=log) == short
    assert again.asked == []
    longer = SearchConfig(evaluations=60, population=8)
    assert search(space, goals, again, longer, seed=1, log=log) == search(space, goals, truth, longer, seed=1)
    assert len(again.asked) == 20
    assert search(space, goals, again, QUICK, seed=1, log=log) == short  # fewer than the log holds


def _other_seed(arguments, make_space):
    arguments["seed"] = 2


def _other_space(arguments, make_space):
    arguments["space"] = make_space(5, 4, 5)


def _other_settings(arguments, make_space):
    arguments["config"] = SearchConfig(evaluations=40, population=9)


def _other_objectives(arguments, make_space):
    first, _ = arguments["objectives"]
    arguments["objectives"] = (first, Objective(name="macs", direction="min"))


def _other_weights(arguments, make_space):
    arguments["evaluator"] = "weights 2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_other_seed, "it has seed 1, now 2"),
        (_other_space, "it has space [0-9a-f]{16}, now [0-9a-f]{16}"),
        (_other_settings, "it has config.population 8, now 9"),
        (
            _other_objectives,
            "it has objectives max top1_percent, min latency_ms, now .*, min macs",
        ),
        (_other_weights, "it has evaluator weights 1, now weights 2"),
    ],
)
def test_the_log_of_another_search_is_refused(space, truth, goals, tmp_path, make_space, change, said):
    log = tmp_path / "evaluations.jsonl"
    arguments = {
        "space": space,
        "objectives": goals,
        "evaluate": truth,
        "config": QUICK,
        "seed": 1,
        "evaluator": "weights 1",
        "log": log,
    }
    search(**arguments)
    before = log.read_bytes()
    change(arguments, make_space)
    with pytest.raises(RunError, match=f"{log.name} is the log of another search: {said}; delete it"):
        search(**arguments)
    assert log.read_bytes() == before


def test_a_log_that_another_course_left_is_refused(space, truth, goals, tmp_path):
    log = tmp_path / "evaluations.jsonl"
    search(space, goals, truth, QUICK, seed=1, log=log)
    lines = log.read_text().splitlines(keepends=True)
    lines[10], lines[11] = lines[11], lines[10]
    log.write_text("".join(lines))
    with pytest.raises(RunError, match="line 11 holds subnet"):
        search(space, goals, truth, QUICK, seed=1, log=log)


def test_a_damaged_log_is_refused_with_the_line(space, truth, goals, tmp_path):
    log = tmp_path / "evaluations.jsonl"
    search(space, goals, truth, QUICK, seed=1, log=log)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join((*lines[:5], "{not json\n", *lines[5:])))
    with pytest.raises(RunError, match="line 6"):
        search(space, goals, truth, QUICK, seed=1, log=log)
    log.write_text("".join(lines[1:]))
    with pytest.raises(RunError, match="not the log of one search"):
        search(space, goals, truth, QUICK, seed=1, log=log)


def test_the_log_is_readable_line_by_line(space, truth, goals, tmp_path):
    log = tmp_path / "evaluations.jsonl"
    search(space, goals, truth, QUICK, seed=1, log=log)
    begun, first, *rest = map(json.loads, log.read_text().splitlines())
    assert (begun["kind"], begun["seed"], begun["space"]) == ("search", 1, space.digest)
    assert first["config"]["values"] == dict(space.largest.items())
    assert first["values"] == truth(space.largest)
    assert len(rest) == 39


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_subnet_without_numbers_has_failed_and_the_search_goes_on(
    space, truth, goals, counted, settings, tmp_path, algorithm
):
    log, config = tmp_path / "evaluations.jsonl", settings(algorithm, evaluations=40, population=8)
    bad = {space.decode([1, 1, 1, 1])}

    def sick(evaluate):
        def values(config):
            found = evaluate(config)
            if config.digest[0] in "37" or config in bad:
                return found | {"latency_ms": float("nan")}
            if config.digest[0] in "456":
                raise MeasureError("it does not convert")
            return found

        return values

    front = search(space, goals, sick(truth), config, seed=1, log=log)
    assert len(front.failed) > 2
    assert len(front.failed) + len(front.evaluations) == 40
    assert {failed.reason for failed in front.failed} == {"it gave latency_ms = nan", "it does not convert"}
    assert all(failed.config.digest[0] in "34567" or failed.config in bad for failed in front.failed)
    assert not {failed.config for failed in front.failed} & {member.config for member in front.members}
    again = counted(truth)
    assert search(space, goals, sick(again), config, seed=1, log=log) == front
    assert again.asked == []


def test_a_search_whose_ends_fail_says_why(space, truth, goals):
    def sick(config):
        return {**truth(config), "latency_ms": float("inf")}

    with pytest.raises(MeasureError, match=r"the largest and the smallest .* it gave latency_ms = inf"):
        search(space, goals, sick, QUICK, seed=1)


def test_an_unknown_algorithm_and_a_lone_objective_are_refused(space, truth, goals):
    with pytest.raises(ConfigError, match="no search 'randm'; did you mean 'random'"):
        search(space, goals, truth, SearchConfig(algorithm="randm"), seed=0)
    with pytest.raises(ConfigError, match="two or more objectives"):
        search(space, goals[:1], truth, seed=0)


def test_predictions_are_marked(space, truth, goals):
    front = search(space, goals, truth, QUICK, seed=0, predicted=["latency_ms"])
    assert {c.predicted for c in front.evaluations} == {("latency_ms",)}


def test_an_algorithm_that_repeats_itself_ends_the_search(space, truth, goals, monkeypatch):
    def stubborn(problem, config, seed):
        while True:
            yield Generation((space.smallest, space.decode([1, 1, 1, 1])))

    monkeypatch.setitem(SEARCHES, "stubborn", stubborn)
    front = search(space, goals, truth, SearchConfig(algorithm="stubborn"), seed=0)
    assert len(front.evaluations) == 3


def test_progress_names_the_best_of_each_objective(space, truth, goals, monkeypatch):
    from contextlib import contextmanager

    notes = []

    @contextmanager
    def bar(description, total):
        assert (description, total) == ("search", 40)
        yield lambda n=1, note="": notes.append((n, note))

    monkeypatch.setattr(progress, "bar", bar)
    front = search(space, goals, truth, QUICK, seed=0)
    best = max(c.values["top1_percent"] for c in front.members)
    assert sum(n for n, _ in notes) == 40
    assert notes[-1][1].startswith(f"top1_percent {best:.4g}  latency_ms ")
    assert notes[-1][1].endswith(f"hypervolume {front.hypervolume[-1]:.3f}")
