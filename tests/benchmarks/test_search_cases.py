from __future__ import annotations

from pathlib import Path

import pytest
from mini import MINI, bnas

from benchmarks.search_cases import BudgetSpent, Known, run_case
from benchmarks.search_curves import run_search
from bnas.errors import RunError
from bnas.files import read_jsonl
from bnas.search import SEARCHES, hypervolume
from bnas.search.evaluation_log import Evaluated, LogLine


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    done = bnas("run", *MINI, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "mini"


def test_a_run_is_evaluated_as_its_own_search_did(run, tmp_path):
    kept = tmp_path / "kept.jsonl"
    case = run_case(run, kept, 20)
    log = next((run / "search").glob("*/evaluations.jsonl"))
    own = [line for line in read_jsonl(log, LogLine) if isinstance(line, Evaluated)]
    assert len(own) == 8
    for line in own:
        told = {**case.cheap(line.config), **case.evaluate(line.config)}
        assert told == {name: pytest.approx(line.values[name], rel=1e-6) for name in told}
        assert case.points([line.config]).tolist() == [
            pytest.approx([-line.values["top1_percent"], line.values["latency_ms"]], rel=1e-6)
        ]
    found = run_search(case, SEARCHES["random"], 0, 6)
    assert len(found.evaluated) == 6
    assert {line.config for line in read_jsonl(kept, Known)} == {line.config for line in own} | set(
        found.evaluated
    )
    everything = case.points([line.config for line in read_jsonl(kept, Known)])
    assert hypervolume(case.reference(), case.box) == pytest.approx(hypervolume(everything, case.box))


def test_a_run_is_not_evaluated_beyond_the_budget(run, tmp_path):
    with pytest.raises(BudgetSpent):
        run_case(run, tmp_path / "kept.jsonl", 1)  # its two ends alone need two
    assert len(read_jsonl(tmp_path / "kept.jsonl", Known)) == 1
    assert len(run_search(run_case(run, tmp_path / "kept.jsonl", 3), SEARCHES["random"], 0, 9).evaluated) == 4


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunError):
        run_case(tmp_path, tmp_path / "kept.jsonl", 5)
