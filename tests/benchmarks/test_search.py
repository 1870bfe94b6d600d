from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import search
from benchmarks.search_cases import BudgetSpent, Case, resnet50_cases
from benchmarks.search_truth import Stage, Truth

STAGE = Stage(width=256, side=14, depths=(1, 2), points=1.0)


def run(capsys, monkeypatch, *options: str) -> tuple[list[str], dict]:
    monkeypatch.setattr(
        search,
        "Truth",
        lambda stages, noise, law: Truth((STAGE,) * 3, shares=(0.65, 1.0), noise=noise, law=law),
    )
    monkeypatch.setattr("sys.argv", ["search", *options])
    search.main()
    *lines, last = capsys.readouterr().out.splitlines()
    return lines, json.loads(last)


def test_a_quick_run_prints_a_table_and_one_line_of_json(capsys, monkeypatch):
    lines, outcome = run(capsys, monkeypatch, "--quick", "--algorithms", "nsga2", "random")
    assert outcome["name"] == "search"
    assert set(outcome["figures"]) == {
        f"resnet50, evaluations ±{noise}, latency {known}"
        for noise in ("0", "0.1")
        for known in ("predicted", "evaluated")
    }
    for figures in outcome["figures"].values():
        for name, row in figures["hypervolume"].items():
            assert list(row) == ["50", "100"], name
            assert 0 < row["50"]["mean"] <= row["100"]["mean"] <= figures["ceiling"]["100"] + 1e-9
            assert row["50"]["seeds"] == 2
        assert figures["needed"]["nsga2"] <= 100
        assert figures["cost"]["random"]["candidates_per_evaluation"] >= 0.9
    assert outcome["bars"] == {}  # linas was not asked for
    assert any(line.strip().startswith("nsga2") and "±" in line for line in lines)


def test_the_bars_are_about_linas():
    def figure(mean: float) -> search.Figure:
        return search.Figure(mean=mean, standard_error=0.0, seeds=5)

    table = {
        "linas": {150: figure(0.98), 200: figure(0.996)},
        "nsga2": {200: figure(0.95), 500: figure(0.985)},
        "random": {200: figure(0.9)},
    }
    cost = {"linas": {"ms_per_candidate": 0.3}}
    bars: dict = {}
    search.add_bars("resnet50, latency predicted", table, cost, bars)
    assert {name.partition(": ")[2]: own.holds for name, own in bars.items()} == {
        "linas at 150 − nsga2 at 500": False,
        "linas at 200": True,
        "nsga2 − linas at 200": True,
        "random − linas at 200": True,
        "linas's own ms per candidate": True,
    }
    other: dict = {}
    search.add_bars("resnet50, latency evaluated", table, cost, other)
    assert other == {}


def test_figures_are_of_the_seeds_with_which_all_searches_came_so_far():
    curves = {
        "linas": [np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.4]), np.array([0.9])],
        "random": [np.array([0.1, 0.1]), np.array([0.1, 0.3, 0.3]), np.array([0.1, 0.1])],
    }
    assert search.at(curves, "linas", 2) == search.Figure(
        mean=pytest.approx(0.3), standard_error=pytest.approx(0.1), seeds=2
    )
    assert search.at(curves, "random", 2) == search.Figure(
        mean=pytest.approx(0.2), standard_error=pytest.approx(0.1), seeds=2
    )
    assert search.at(curves, "linas", 3) is None


def test_searches_that_the_budget_cut_short_are_told(capsys, monkeypatch):
    left = iter(range(250))  # of four searches of 100 evaluations, less those to warm up

    def cut(truth: Truth, *, name: str, as_evaluated: bool) -> list[Case]:
        case = resnet50_cases(truth, name=name, as_evaluated=as_evaluated)[0]

        def evaluate(config):
            if next(left, None) is None:
                raise BudgetSpent
            return case.evaluate(config)

        return [replace(case, evaluate=evaluate)]

    monkeypatch.setattr(search, "resnet50_cases", cut)
    lines, outcome = run(capsys, monkeypatch, "--quick", "--noise", "0.1", "--algorithms", "nsga2", "random")
    (figures,) = outcome["figures"].values()
    assert any("3 searches were cut short" in line for line in lines)
    assert figures["hypervolume"]["nsga2"]["50"]["seeds"] == 1
    assert figures["needed"]["nsga2"] is not None
