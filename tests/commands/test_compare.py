"""`bnas report RUN RUN …`: which reports are found, how they are called, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from bnas.__main__ import main
from bnas.files import write_json
from bnas.report import Report, SubnetReport, subnet_report
from bnas.run_folder import RunFolder


def network(name: str, latency_ms: float, reference: SubnetReport | None = None) -> SubnetReport:
    return subnet_report(
        name=name, config={"a.width": 8}, metric_fp32_percent=90.0, metric_int8_percent=89.0, latency_ms=latency_ms,
        latency_p10_ms=latency_ms, latency_p90_ms=latency_ms, latency_fp32_ms=2.0, throughput_per_s=100.0, macs=10,
        parameters=10, size_bytes=10, command="", reference=reference,
    )  # fmt: skip


def report(run: str, hw: str, latency_ms: float) -> Report:
    reference = network("reference", 1.0)
    return Report(
        run=run, dataset="images", reference=reference, subnets=(network("B", latency_ms, reference),),
        reference_val_fp32_percent=90.0, reference_val_int8_percent=89.5, front=(), evaluations=(),
        hardware={"cpu": hw}, protocol={"hw": hw}, latency_model={}, space={},
    )  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs a and b, both reported, b for two machines."""
    monkeypatch.chdir(tmp_path)
    for name, machines, seed in (("a", ("cpu",), 0), ("b", ("cpu", "server"), 1)):
        folder = RunFolder(Path("runs") / name)
        folder.write_config({"name": name, "seed": seed, "search": {"algorithm": "linas"}})
        for hw in machines:
            told = report(name, hw, 0.5 if hw == "cpu" else 0.25)
            write_json(folder.path("search", hw, "report.json"), told)
            write_json(folder.path("report.json"), told)
    Path("runs/a/report.html").write_text("")
    return tmp_path


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["report", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_runs_and_machines_are_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "runs/a", "runs/b", "out=shown/both.html"]) == 0
    assert (
        "report: 3 reports compared: a on cpu, b on cpu, b on server → shown/both.html"
        in capsys.readouterr().out
    )
    html = Path("shown/both.html").read_text(encoding="utf-8")
    assert 'href="../runs/a/report.html"' in html
    assert "Of 3 runs, b on server has the fastest subnet B: 0.250 ms" in html
    assert ">seed<" in html
    assert ">search.algorithm<" not in html
    assert not list(Path("runs").rglob("stages.json"))  # no stage was done


def test_the_page_is_called_compare_html_and_a_report_may_be_named(runs: Path) -> None:
    shutil.rmtree("runs/b/search")
    assert main(["report", "runs/a/report.json", "runs/b"]) == 0
    assert "<h1>Of 2 runs, b has" in Path("compare.html").read_text(encoding="utf-8")


def test_one_run_with_two_machines_is_enough(runs: Path) -> None:
    assert main(["report", "runs/b"]) == 0


def test_runs_of_one_name_are_told_apart(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("runs/a", "other/a")
    assert main(["report", "runs/a", "other/a"]) == 0
    assert "runs/a on cpu, other/a on cpu" in capsys.readouterr().out
    assert main(["report", "runs/a", "runs/a"]) == 0
    assert "runs/a on cpu (1), runs/a on cpu (2)" in capsys.readouterr().out


def test_what_is_not_there_is_told_with_the_command_that_makes_it(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs/a/report.json").unlink()
    told = refused(["runs/a", "runs/b"], capsys)
    assert (
        "runs/a has no report.json yet; make it with: python -m bnas report conf=runs/a/config.yaml" in told
    )
    assert "runs/c does not exist" in refused(["runs/b", "runs/c"], capsys)
    Path("empty").mkdir()
    assert "empty is not the folder of a run" in refused(["empty", "runs/b"], capsys)
    Path("runs/a/report.json").write_text("{")
    assert "runs/a/report.json is damaged" in refused(["runs/a", "runs/b"], capsys)
    assert not Path("compare.html").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["runs/a"], "report: runs/a alone has nothing to be compared with; name a second run"),
        (["runs/a", "runs/b", "seed=3"], "seed: no option of a comparison"),
        (["runs/a", "runs/b", "oot=x.html"], "did you mean 'out'?"),
        (
            ["runs/a", "runs/b", "out=x.pdf"],
            "out: expected the name of a page, as in out=compare.html, got 'x.pdf'",
        ),
        (["runs/a", "runs/b", "--force"], "--force: goes with the report of one run"),
        (["runs/a", "runs/b", "conf=x"], "conf=: goes with the report of one run"),
    ],
)
def test_bad_input(runs: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    assert text in refused(words, capsys)
