from __future__ import annotations

import numpy as np
import pytest

from bnas.report import Curve, Training
from bnas.report.training_plots import macs_plot, running_mean, thinned, title_of, training_figures


def curve(name, values, steps=None):
    return Curve(name=name, steps=tuple(steps or range(len(values))), values=tuple(values))


def test_every_point_of_a_curve_is_drawn_where_it_belongs():
    training = Training(name="train", curves=(curve("lr", [0.1, 0.3], steps=(9, 19)),))
    (line,) = training_figures(training)["lr"]["data"]
    assert (line["x"], line["y"]) == ([9, 19], [0.1, 0.3])


def test_subnets_of_one_metric_share_a_figure_with_a_colour_each():
    names = ("top1_percent/largest", "top1_percent/smallest", "top1_percent/random-1")
    training = Training(name="train", curves=tuple(curve(name, [1, 2]) for name in names))
    figures = training_figures(training)
    assert list(figures) == ["top1_percent"]
    data = figures["top1_percent"]["data"]
    assert [line["name"] for line in data] == ["largest", "smallest", "random-1"]
    assert len({line["line"]["color"] for line in data}) == 3
    assert figures["top1_percent"]["layout"]["showlegend"]


def test_a_long_loss_has_a_running_mean():
    noise = np.random.default_rng(0).normal(size=400)
    training = Training(name="train", curves=(curve("loss", (2 + noise).tolist()),))
    raw, mean = training_figures(training)["loss"]["data"]
    assert mean["name"] == "running mean"
    assert np.std(mean["y"]) < np.std(raw["y"]) / 3
    training = Training(name="train", curves=(curve("loss", [2, 1]),))
    assert len(training_figures(training)["loss"]["data"]) == 1


def test_a_running_mean_is_that_of_a_centred_window():
    values = np.random.default_rng(1).normal(size=30)
    smooth = running_mean(list(enumerate(values.tolist())), 5)
    assert [x for x, _ in smooth] == list(range(30))
    inner = np.convolve(values, np.ones(5) / 5, mode="valid")
    np.testing.assert_allclose([y for _, y in smooth][2:-2], inner)
    assert smooth[0][1] == pytest.approx(values[0])
    assert smooth[1][1] == pytest.approx(values[:3].mean())
    assert running_mean([], 5) == []


def test_a_very_long_curve_is_thinned_to_means():
    values = np.random.default_rng(2).normal(size=1003)
    places = thinned(curve("loss", values.tolist()), most=100)
    assert len(places) <= 100
    assert places[0] == (pytest.approx(5), pytest.approx(values[:11].mean()))  # eleven in a run
    assert places[-1][1] == pytest.approx(values[1001:].mean())
    short = curve("loss", [1, 2, 3])
    assert thinned(short, most=3) == [(0, 1), (1, 2), (2, 3)]


def test_the_histogram_counts_every_subnet_where_it_lies():
    macs = (np.random.default_rng(3).beta(2, 5, size=500) * 4e9).tolist()
    (bars,) = macs_plot(macs)["data"]
    assert sum(bars["y"]) == 500
    expected, edges = np.histogram(macs, bins=40)
    assert bars["y"] == [int(count) for count in expected if count]
    assert bars["width"] == pytest.approx(edges[1] - edges[0])
    assert bars["x"][0] == pytest.approx((edges[0] + edges[1]) / 2)


def test_subnets_of_equal_macs_are_one_bar():
    (bars,) = macs_plot([5e6] * 7)["data"]
    assert bars["y"] == [7]
    assert bars["width"] > 0


def test_the_end_of_each_stage_is_marked_in_every_figure_and_named_in_one():
    training = Training(
        name="train", curves=(curve("loss", [1, 2]), curve("lr", [1, 2])), ends=(("depth", 1), ("<b>", 2))
    )
    figures = training_figures(training)
    for figure in figures.values():
        assert [shape["x0"] for shape in figure["layout"]["shapes"]] == [1, 2]
    assert [note["text"] for note in figures["loss"]["layout"]["annotations"]] == ["depth", "&lt;b&gt;"]
    assert figures["lr"]["layout"]["annotations"] == []


def test_titles_are_words():
    assert title_of("lr") == "learning rate"
    assert title_of("map_percent") == "mAP, validation images, %"
    assert title_of("grad_norm") == "grad norm"
