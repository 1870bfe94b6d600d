from __future__ import annotations

from collections.abc import Callable

import pytest

from bnas.report import Importance, Report
from bnas.report.search_plots import importance_plot, progress_plot, search_figures, taus

Make = Callable[..., Report]


def test_the_hypervolume_and_what_was_foretold(make_report: Make) -> None:
    report = make_report()
    line, top1, latency = progress_plot(report)["data"]
    assert line["y"] == list(report.hypervolume)
    assert line["x"][0] == 1
    assert (top1["x"], top1["y"]) == ([40, 80, 120, 160], pytest.approx([0.58, 0.66, 0.74, 0.82]))
    assert (top1["yaxis"], latency["yaxis"]) == ("y2", "y2")
    assert top1["name"] == "tau of top-1, %"
    assert progress_plot(report)["layout"]["yaxis2"]["range"] == [0.0, 1.05]


def test_without_rounds_there_is_one_axis(make_report: Make) -> None:
    figure = progress_plot(make_report(rounds=()))
    assert len(figure["data"]) == 1
    assert "yaxis2" not in figure["layout"]
    assert taus(make_report(rounds=())) == {}


def test_bars_go_from_what_matters_most_downwards(make_report: Make) -> None:
    told = (
        Importance(value="top1_percent", samples=50, scores={"layer1.depth": 0.1, "layer3.depth": 0.9}),
        Importance(value="latency_ms", samples=50, scores={"layer2.depth": 0.3}),
        Importance(value="energy_mj", samples=3),
    )
    latency, top1 = importance_plot(make_report(importance=told))["data"]
    assert top1["y"][-1] in ("layer3.depth", "layer2.depth")  # plotly draws upwards
    assert set(top1["y"][-2:]) == {"layer3.depth", "layer2.depth"}
    assert top1["x"][top1["y"].index("layer3.depth")] == 0.9
    assert latency["x"][latency["y"].index("layer2.depth")] == 0.3
    assert len(top1["y"]) == 12


def test_what_there_is_no_data_for_is_not_drawn(make_report: Make) -> None:
    none = (Importance(value="top1_percent", samples=3),)
    assert search_figures(make_report(hypervolume=(), importance=none)) == {}
