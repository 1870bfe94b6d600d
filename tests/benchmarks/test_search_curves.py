from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from benchmarks.search_cases import BudgetSpent, Known, Remembered, resnet50_cases
from benchmarks.search_curves import WATCHED, ceiling, curve, run_search
from benchmarks.search_truth import Stage, Truth
from bnas.files import read_jsonl
from bnas.search import SEARCHES, Box, hypervolume
from bnas.space import SubnetConfig

BOX = Box(ideal=(0.0, 0.0), nadir=(1.0, 2.0))


@pytest.fixture(scope="module")
def cases():
    stage = Stage(width=256, side=14, depths=(1, 2), points=1.0)
    return resnet50_cases(Truth((stage, stage, stage), shares=(0.65, 1.0)))


def test_the_ceiling_is_the_best_of_all_subsets():
    rng = np.random.default_rng(3)
    front = np.stack([np.sort(rng.uniform(-0.1, 1, 9)), 2 * np.sort(rng.uniform(0, 1, 9))[::-1]], axis=1)
    expected = [max(hypervolume(np.array(own), BOX) for own in combinations(front, k)) for k in range(1, 10)]
    assert ceiling(front, BOX, 11).tolist() == pytest.approx([*expected, expected[-1], expected[-1]])


def test_points_beyond_the_box_do_not_count_for_the_ceiling():
    front = np.array([[0.2, 1.0], [1.5, 0.1]])
    assert ceiling(front, BOX, 2).tolist() == pytest.approx([0.4, 0.4])


def test_the_curve_is_the_hypervolume_after_each_evaluation():
    points = np.array([[0.5, 1.0], [0.75, 1.5], [0.5, 0.5]])
    assert curve(points, BOX).tolist() == pytest.approx([0.25, 0.25, 0.375])


@pytest.mark.parametrize("name", ["random", "nsga2"])
def test_a_search_is_watched_from_its_first_evaluation_to_its_last(cases, name):
    for case in cases:
        found = run_search(case, SEARCHES[name], 0, 40)
        ends = [case.canonical(case.space.largest), case.canonical(case.space.smallest)]
        assert list(found.evaluated[:2]) == ends
        assert len(set(found.evaluated)) == 40
        assert found.looked_at >= 36  # all but the two ends, and perhaps the start's
        assert WATCHED not in SEARCHES


def test_searches_of_a_case_are_the_same_whether_latency_is_known_before(cases):
    predicted, evaluated = (run_search(case, SEARCHES["nsga2"], 1, 40) for case in cases)
    assert predicted.evaluated == evaluated.evaluated


def test_what_is_judged_is_true_and_what_is_told_is_not(cases):
    case = cases[0]
    config = case.space.largest
    told, true = case.evaluate(config)["top1_percent"], -case.points([config])[0, 0]
    assert told != true
    assert told == pytest.approx(true, abs=0.5)
    whole = hypervolume(case.reference(), case.box)
    assert curve(case.points(run_search(case, SEARCHES["random"], 0, 60).evaluated), case.box)[-1] < whole


@pytest.fixture
def asked():
    return []


@pytest.fixture
def evaluate(asked):
    def evaluation(config: SubnetConfig) -> dict[str, float]:
        asked.append(config)
        return {"top1_percent": float(config["width"])}

    return evaluation


def test_evaluations_are_made_once_and_kept(tmp_path, evaluate, asked):
    path = tmp_path / "known.jsonl"
    configs = [SubnetConfig({"width": width}) for width in (8, 16, 8, 24)]
    for _ in range(2):  # the second command finds them in the file
        known = Remembered(evaluate, path, evaluator="a", budget=10)
        assert [known(own)["top1_percent"] for own in configs] == [8, 16, 8, 24]
    assert [own["width"] for own in asked] == [8, 16, 24]
    Remembered(evaluate, path, evaluator="b", budget=10)(configs[0])  # other weights, other values
    assert len(asked) == 4
    assert [line.evaluator for line in read_jsonl(path, Known)] == ["a", "a", "a", "b"]


def test_a_spent_budget_cuts_searches_short_where_they_need_more(tmp_path, cases):
    case = cases[0]
    known = Remembered(case.evaluate, tmp_path / "known.jsonl", evaluator="a", budget=25)
    watched = type(case)(**{**vars(case), "evaluate": known})
    cut = run_search(watched, SEARCHES["random"], 0, 60)
    assert len(cut.evaluated) == 25
    assert WATCHED not in SEARCHES
    again = run_search(watched, SEARCHES["random"], 0, 60)  # what is known is had for nothing
    assert again.evaluated == cut.evaluated
    with pytest.raises(BudgetSpent):
        known(case.space.sample(np.random.default_rng(99)))
