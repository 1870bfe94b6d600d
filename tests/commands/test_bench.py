"""`python -m bnas bench` on a small run, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bnas.__main__ import main
from bnas.commands.bench import Bench
from bnas.commands.verify import Verification
from bnas.files import read_json

QUICK = (
    "load.seconds=0.05",
    "load.rounds=2",
    "load.min_queries=3",
    "load.search_seconds=0.05",
    "load.search_steps=2",
)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bench(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`bnas bench` with these words, in a folder with a copy of the run; gives exit status, stdout and stderr."""
    shutil.copytree(finished / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["bench", *QUICK, *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_every_network_under_load(bench: Run) -> None:
    status, out, err = bench("load.scenarios=[Offline]")
    assert status == 0, err
    folder = Path("runs/mini")
    result = read_json(folder / "bench.json", Bench)
    verified = read_json(folder / "verified.json", Verification)
    names = [row.network for row in result.rows]
    subnets = sorted(name for name in verified.networks if name != "reference")
    assert names == ["reference/fp32", "reference/int8", *(f"{name}/int8" for name in subnets)]
    for row in result.rows:  # the same artefacts on the same images, by another way
        name, _, kind = row.network.partition("/")
        assert row.top1_percent == verified.networks[name][kind].metric_percent
    report = json.loads((folder / "report.json").read_text())
    macs = {own["name"]: own["macs"] for own in [report["reference"], *report["subnets"]]}
    assert {name.partition("/")[0]: count for name, count in result.macs.items()} == macs
    assert result.comparisons[1].to_int8 == result.comparisons[1].macs_ratio == 1.0
    assert "A/int8" in out
    assert "runs/mini/bench.json" in out


def test_unknown_network_or_scenario(bench: Run) -> None:
    status, _, err = bench("load.networks=[A/int9]")
    assert status == 2
    assert err == "bnas: error: load.networks: no exported network 'A/int9'; did you mean 'A/int8'?\n"
    status, _, err = bench("load.scenarios=[Ofline]")
    assert status == 2
    assert err == "bnas: error: load.scenarios: no such scenario 'Ofline'; did you mean 'Offline'?\n"
    assert not Path("runs/mini/bench").exists()


def test_more_streams_than_cores(bench: Run) -> None:
    status, _, err = bench("load.scenarios=[Offline]", "load.streams=999", "load.networks=[A/int8]")
    assert status == 2
    assert "load.streams: 999 inferences at once need as many threads" in err
    assert not Path("runs/mini/bench.json").exists()


def test_a_damaged_artefact(bench: Run) -> None:
    file = Path("runs/mini/subnets/A/int8.bin")
    file.write_bytes(file.read_bytes()[:-100])
    status, _, err = bench()
    assert status == 2
    assert "is damaged: it is not the network that was exported" in err
    assert "bnas quantize --force" in err


def test_a_run_without_exported_files(bench: Run) -> None:
    ledger = Path("runs/mini/stages.json")
    ledger.write_text(json.dumps([own for own in json.loads(ledger.read_text()) if own["stage"] != "export"]))
    status, _, err = bench()
    assert status == 2
    assert err == ("bnas: error: runs/mini has not been exported yet; first: python -m bnas export\n")


def test_words_that_say_nothing(bench: Run) -> None:
    assert bench("offline")[2] == "bnas: error: bench: no other word expected, got 'offline'\n"
    assert bench("--check")[2] == "bnas: error: --check: goes with `measure`, not with `bench`\n"


def test_the_preset_is_a_choice(bench: Run) -> None:
    """MLPerf's numbers of queries, cut short here."""
    words = ("load=mlperf", "load.scenarios=[SingleStream]", "load.networks=[A/int8]", "load.accuracy=false")
    status, _, err = bench(*words)
    assert status == 0, err
    result = read_json("runs/mini/bench.json", Bench)
    assert result.load.preset == "mlperf"
    assert result.load.min_queries == 3
    assert [own.to_fp32 for own in result.comparisons] == [None]
