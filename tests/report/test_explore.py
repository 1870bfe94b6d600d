from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bnas.report import Report
from bnas.report.explore import AXES, Explored
from bnas.space import Choice

Make = Callable[..., Report]


def test_every_subnet_is_there_once_and_the_original_last(make_report: Make) -> None:
    report = make_report()
    explored = Explored(report)
    assert len(explored.subnets) == 160 + 1
    assert explored.original == 160
    member = next(i for i, p in enumerate(report.front) if p.names == ("B",))
    own = explored.subnets[member]
    assert own["names"] == ("B",)
    assert own["indices"] == report.evaluations[member].indices
    assert (own["metric"], own["int8"]) == (
        report.front[member].metric_percent,
        report.front[member].metric_int8_percent,
    )
    assert (own["low"], own["p10"]) == (
        report.evaluations[member].latency_low_ms,
        report.front[member].latency_p10_ms,
    )
    assert not explored.subnets[100]["front"]
    assert explored.subnets[100]["measured"] is None
    original = explored.subnets[-1]
    assert original["indices"] == tuple(len(choice.values) - 1 for choice in report.choices)
    assert (original["int8"], original["measured"]) == (92.2, 1.62)


def test_members_that_are_not_among_the_evaluations_are_there_too(make_report: Make) -> None:
    report = make_report(evaluations=())
    explored = Explored(report)
    assert len(explored.subnets) == 9 + 1
    assert [explored.number[p.config_digest] for p in report.front] == list(range(9))
    b = next(own for own in explored.subnets if own["names"] == ("B",))
    chosen = report.subnets[1]
    assert b["macs"] == chosen.macs
    assert [c.values[i] for c, i in zip(report.choices, b["indices"], strict=True)] == list(
        chosen.config.values()
    )


def test_choices_stand_in_their_stages(make_report: Make) -> None:
    report = make_report()
    data = Explored(report).data()
    assert data["stages"] == ("layer1", "layer2", "layer3")
    first = data["choices"][1]
    assert (first["label"], first["stage"], first["values"]) == ("0.conv1", 0, ("8", "16", "24", "32"))
    assert data["gone"][0][0] == (2, 3)  # blocks 1 and 3 of layer1 are left out at depth 0
    assert data["pinned"] == next(i for i, p in enumerate(report.front) if p.names == ("B",))
    assert data["axes"] == list(range(12))


def test_of_many_choices_those_that_matter_most_are_axes(make_report: Make) -> None:
    report = make_report()
    idle = tuple(
        Choice(name=f"stem.{i}.width", dim="width", values=(1, 2), targets=(f"stem.{i}",)) for i in range(9)
    )
    data = Explored(make_report(choices=(*idle, *report.choices))).data()
    assert len(data["axes"]) == AXES
    assert set(data["axes"]) == set(
        range(9, 21)
    )  # in their order, with none that the importance does not know


def test_a_report_without_choices_and_one_without_a_front(make_report: Make) -> None:
    data = Explored(make_report(choices=())).data()
    assert data["choices"] == data["axes"] == []
    assert data["subnets"][-1]["indices"] == ()
    bare = Explored(make_report(choices=(), front=(), subnets=(), evaluations=())).data()
    assert bare["pinned"] == bare["original"] == 0


def test_further_values_have_names(make_report: Make) -> None:
    report = make_report()
    first = replace(report.evaluations[0], values={"throughput_per_s@cpu_throughput": 812.0})
    data = Explored(make_report(evaluations=(first, *report.evaluations[1:]))).data()
    assert data["names"] == {"throughput_per_s@cpu_throughput": "throughput, 1/s on cpu_throughput"}


def test_precisions_are_words(make_report: Make) -> None:
    report = make_report()
    precision = Choice(name="layer1.0.precision", dim="precision", values=(0, 2), targets=("layer1.0",))
    data = Explored(make_report(choices=(*report.choices, precision))).data()
    assert data["choices"][-1]["values"] == ("per tensor", "FP32")
    assert data["choices"][-1]["shares"] == (0, 1)
    assert data["choices"][1]["shares"] == (0.25, 0.5, 0.75, 1.0)
