"""`bnas search` on a run of seconds: what is wanted by name, and what cannot be had."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mini import MINI

from bnas.__main__ import main
from bnas.commands.decision import Decision
from bnas.commands.evaluation import Evaluation
from bnas.commands.project import open_run
from bnas.files import read_json
from bnas.measure import LatencyModel, predict_ms
from bnas.space import SubnetConfig, canonical, costs, layer_costs

Refused = Callable[..., str]


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Refused:
    """Run a command line that must be refused with one line on stderr (below what was said before), which is returned."""

    def run(*arguments: str) -> str:
        capsys.readouterr()
        assert main(list(arguments)) == 2
        errors = [
            line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("bnas: error: ")
        ]
        assert len(errors) == 1
        return errors[0].removeprefix("bnas: error: ")

    return run


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "search/cpu/evaluations.jsonl").read_text().splitlines()]


def decision(run: Path) -> Decision:
    return read_json(run / "search/cpu/front.json", Decision)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["search.objectives=[top1_percent,latency]"],
            "search.objectives: no value 'latency'; did you mean 'latency_ms'?",
        ),
        (
            ["search.objectives=[top1_percent]"],
            "search: expected two or more objectives, got top1_percent",
        ),
        (
            ["search.objectives=[latency_ms,latency_ms]"],
            "search: expected two or more objectives, got latency_ms, latency_ms",
        ),
        (
            ["search.objectives=[top1_percent,latency_ms@gpu]"],
            "search.objectives: latency_ms@gpu: 'gpu' was not measured in this run (measured: nothing yet); first: "
            "python -m bnas measure --hw gpu",
        ),
        (
            ["search.objectives=[top1_percent,macs@cpu]"],
            "search.objectives: macs is the same on any hardware; write macs, got 'macs@cpu'",
        ),
        (
            ["search.objectives=[top1_percent,throughput_per_s]"],
            "search.objectives: cpu times one inference at a time; name hardware with scenario=throughput, as in "
            "throughput_per_s@cpu_throughput (measured by: python -m bnas measure --hw cpu_throughput)",
        ),
        (
            ["search.objectives=[top1_percent,memory_bytes]"],
            "search.objectives: memory_bytes is read only where measure.memory=true asks for it; add that",
        ),
        (
            ['search.constraints={latancy_ms: "<= 5"}'],
            "search.constraints: no value 'latancy_ms'; did you mean 'latency_ms'?",
        ),
        (
            ["search.constraints.latency_ms=below 5"],
            "search.constraints.latency_ms: expected '<= NUMBER' or '>= NUMBER', got 'below 5'",
        ),
        (
            ["search.preference={top1_percent: 93, latency_ms: 1.5}"],
            "search.preference: only search=rnsga2 searches near a point, got search.algorithm=nsga2",
        ),
        (
            ["search=rnsga2", "search.preference={top1_percent: 93, macs: 1e6}"],
            "search.preference: macs is not among search.objectives",
        ),
        (
            ["search=rnsga2", "search.preference.latency_ms=1.5"],
            "search.preference: rnsga2 searches near a point, a value for each objective; none given for "
            "top1_percent, as in search.preference.top1_percent=NUMBER",
        ),
        (
            ["search.algorithm=nsga4"],
            "search.algorithm: no search 'nsga4'; did you mean 'nsga3'?",
        ),
        (
            ["search.evaluations=8", "search.population=16"],
            "search.population: expected at most search.evaluations (8), got 16",
        ),
        (
            ["search.objectives=[map_percent,latency_ms]"],
            "search.objectives: map_percent is of detection, this run's task is classification (train.task): write "
            "top1_percent",
        ),
        (
            ['search.constraints={map_percent: ">= 30"}'],
            "search.constraints: map_percent is of detection, this run's task is classification (train.task): write "
            "top1_percent",
        ),
        (
            ["train.task=detection", "train.distill=0"],
            "search.objectives: top1_percent is of classification, this run's task is detection (train.task): write "
            "map_percent",
        ),
        (
            [
                "train.task=detection",
                "train.distill=0",
                "search.objectives=[map_percent,latency_ms]",
                "search.screen=0.25",
            ],
            "search.screen: how far map_percent of 0.25 of the images may be from that of all is not known; expected 1 "
            "with train.task=detection, got 0.25",
        ),
        (["search.screen=0"], "search.screen: expected more than 0 and 1 at most, got 0"),
        (["search.workers=-1"], "search.workers: expected 0 (this process alone) or more, got -1"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_done(
    words: list[str], text: str, refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused("search", "conf=quickstart", "search=nsga2", *words) == text
    assert not (tmp_path / "runs/quickstart/config.yaml").exists()


@pytest.mark.parametrize(
    "typed",
    [
        "search.constraints={macs: '<= 1'}",
        'search.constraints={macs: "<=1"}',
        "search.constraints.macs=<= 1",
        "search.constraints.macs<=1",
        "search.constraints={macs: <= 1}",
        "search.constraints.macs=<=1",
        "+search.constraints.macs=<= 1",
        '++search.constraints.macs="<= 1"',
    ],
)
def test_constraints_as_a_person_types_them(typed: str, run: Path, refused: Refused) -> None:
    text = refused("search", typed)
    assert text.startswith("search.constraints: no subnet found with macs <= 1; the best there is: macs: ")


def test_what_no_subnet_keeps_is_said_before_anything_is_evaluated(run: Path, refused: Refused) -> None:
    project = open_run(run)
    least = costs(project.graph, project.space, project.space.smallest).macs
    text = refused("search", "search.constraints={macs: '<= 1000', parameters: '>= 1'}")
    assert text == (
        "search.constraints: no subnet found with macs <= 1000 and parameters >= 1; the best there is (each by itself): "
        f"macs: {least:g}, parameters: {costs(project.graph, project.space, project.space.largest).parameters:g}"
    )
    assert not (run / "search").exists()


def test_what_no_evaluated_subnet_keeps_is_said_after_and_the_log_stays(run: Path, refused: Refused) -> None:
    text = refused("search", "search.constraints.top1_percent=>= 99.9")
    best = max(line["values"]["top1_percent"] for line in log(run)[1:])
    assert text == (
        "search: none of the 8 subnets evaluated has top1_percent >= 99.9; the best there is: "
        f"top1_percent: {best:g}"
    )
    assert len(log(run)) == 1 + 8


def test_a_refused_option_is_not_gone_on_with(run: Path, refused: Refused) -> None:
    before = open_run(run).plain
    for _ in range(2):
        assert "no subnet found with latency_ms <= 1e-06" in refused(
            "search", "search.constraints.latency_ms<=1e-6"
        )
        assert open_run(run).plain == before
    words = ["hw.name=other", "search.constraints.latency_ms<=1e-6"]
    assert "no subnet found with latency_ms <= 1e-06" in refused("search", *words)
    kept = open_run(run).plain
    assert kept["hw"]["name"] == "other"  # on which was measured before the search was refused
    assert kept["search"] == before["search"]
    assert main(["search"]) == 0


def test_a_start_that_is_no_file(run: Path, refused: Refused) -> None:
    text = refused("search", "search.start=[largest,mine.json]")
    assert text.startswith("search.start[1]: cannot read mine.json")
    assert not (run / "search").exists()


def test_a_quantity_that_was_not_read(run: Path, refused: Refused) -> None:
    text = refused("search", "search.objectives=[top1_percent,memory_bytes]")
    assert text == (
        "search: memory_bytes was not read in the campaign on cpu; read it with: python -m bnas measure "
        "measure.memory=true --force --hw cpu"
    )


def test_a_space_of_one_subnet(refused: Refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert refused("search", *MINI, "space.freeze=['*']").endswith(
        "has not been trained yet; first: python -m bnas train"
    )
    assert refused("train", *MINI, "space.freeze=['*']").startswith(
        "nothing is elastic in this model: is frozen by"
    )
    text = refused(
        "measure",
        *MINI,
        "space.dims=[resolution]",
        "space.resolutions=[16]",
        "model.options.depths=[1]",
        "model.options.widths=[8]",
    )
    assert text.startswith("2 subnets are measured; a latency predictor needs 4 or more")


def test_four_objectives_on_two_kinds_of_hardware_under_a_constraint(
    run: Path, capsys: pytest.CaptureFixture[str], refused: Refused
) -> None:
    assert main(["measure", "--hw", "cpu_throughput", "hw.streams=1"]) == 0
    objectives = "[top1_percent,latency_ms,throughput_per_s@cpu_throughput,size_bytes]"
    words = [f"search.objectives={objectives}", "search.constraints.parameters=<= 9000", "search.screen=0.5"]
    assert main(["search", "--hw", "cpu", *words]) == 0
    said = capsys.readouterr()
    found, project = decision(run), open_run(run)
    graph, space = project.graph, project.space
    same = canonical(graph, space)
    assert "size_bytes is predicted (" in said.out + said.err

    lines = log(run)[1:]
    first_looks = [SubnetConfig(line["config"]["values"]) for line in lines if line.get("share", 1.0) == 0.5]
    wholes = [SubnetConfig(line["config"]["values"]) for line in lines if line.get("share", 1.0) == 1.0]
    assert len(set(first_looks)) == len(first_looks) == 8 - 2  # all but the two ends
    assert len(set(wholes)) == len(wholes)
    assert len(found.front.evaluations) == 8
    assert all(same(own.config) == own.config for own in found.front.evaluations)
    assert all("top1_percent_error" in line["values"] for line in lines if "share" in line)

    model = read_json(run / "latency/cpu_throughput/model.json", LatencyModel)
    for own in found.front.evaluations:
        total, layers = costs(graph, space, own.config), layer_costs(graph, space, own.config)
        assert (own.values["macs"], own.values["parameters"]) == (total.macs, total.parameters)
        assert own.values["throughput_per_s@cpu_throughput"] == pytest.approx(
            1000 / predict_ms(model, layers)
        )
        assert set(own.predicted) == {"latency_ms", "throughput_per_s@cpu_throughput", "size_bytes"}
    assert all(own.values["parameters"] <= 9000 for own in found.front.members)

    for member in found.members:
        names = {"top1_percent", "latency_ms", "throughput_per_s@cpu_throughput", "size_bytes"}
        assert set(member.measured) == names
        assert set(member.predicted) == {*names, "parameters"}
        assert member.measured["top1_percent"] == member.metric_int8_percent
        assert member.measured["latency_ms"] == member.latency_ms
        assert member.measured["size_bytes"] == pytest.approx(member.predicted["size_bytes"], rel=0.5)
    for name in ("top1_percent", "latency_ms", "throughput_per_s@cpu_throughput", "size_bytes"):
        assert sum(name in line and "members of the front" in line for line in said.out.splitlines()) == 1

    assert main(["measure", "--hw", "cpu_throughput", "hw.streams=1", "--force"]) == 0
    assert refused("search", "--hw", "cpu").startswith("runs/mini: 'search' was done with other options")


def test_more_evaluations_go_on_where_the_search_was(run: Path, refused: Refused) -> None:
    assert main(["search"]) == 0
    assert main(["extract"]) == 0
    before = (run / "search/cpu/evaluations.jsonl").read_bytes()
    assert main(["search", "search.workers=2"]) == 0  # done before, whoever evaluates
    assert (run / "search/cpu/evaluations.jsonl").read_bytes() == before
    assert main(["search", "search.evaluations=10", "loss_points=2"]) == 0
    after = (run / "search/cpu/evaluations.jsonl").read_bytes()
    assert after.startswith(before)
    assert len(log(run)) == 1 + 10
    assert not (run / "subnets").exists()  # what was made from the former front is gone
    assert "first: python -m bnas extract" in refused("finetune")
    assert refused("search", "search.population=5").startswith(
        "runs/mini: 'search' was done with other options (search.population: 4 → 5)"
    )
    assert (run / "search/cpu/evaluations.jsonl").read_bytes() == after


def test_a_killed_search_goes_on_with_more_evaluations(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = Evaluation.__call__, 5

    def killed(self: Evaluation, config: SubnetConfig, share: float = 1.0) -> dict[str, float]:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(self, config, share)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "__call__", killed)
        assert main(["search"]) == 130
    begun = (run / "search/cpu/evaluations.jsonl").read_bytes()
    assert len(begun.splitlines()) == 1 + 5
    assert main(["search", "search.evaluations=9"]) == 0
    assert (run / "search/cpu/evaluations.jsonl").read_bytes().startswith(begun)
    assert len(log(run)) == 1 + 9
