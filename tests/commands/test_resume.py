"""Killed at any moment, the same command goes on and ends with the files of an undisturbed run."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

from mini import MINI, bnas

PLUGIN = ("plugins=[steady]",)
HERE = str(Path(__file__).parent)
# How many writes each attempt survives: from the first configuration to the last report, all stages are hit.
KILLS = (2, 14, 30, 20, 24, 30, 36, 30, 36, 30, 24, 16, 10)
SAME = (
    "report.json",
    "verified.json",
    "search/cpu/front.json",
    "search/cpu/evaluations.jsonl",
    "weights/pretrained.safetensors",
    "weights/supernet.safetensors",
    "subnets/A/int8.bin",
    "subnets/C/weights.safetensors",
)


def measurements(home: Path) -> list[dict[str, Any]]:
    """Without what tells when, and how long each step took."""
    lines = (home / "runs/mini/latency/cpu/measurements.jsonl").read_text().splitlines()
    return [
        {name: value for name, value in json.loads(line).items() if name not in ("began", "seconds")}
        for line in lines
    ]


def test_killed_runs_end_like_an_undisturbed_one(tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    undisturbed.mkdir()
    disturbed.mkdir()
    whole = bnas("run", *MINI, *PLUGIN, cwd=undisturbed, PYTHONPATH=HERE)
    assert whole.returncode == 0, whole.stderr
    stages_killed_after: list[int] = []
    for writes in KILLS:
        attempt = bnas("run", *MINI, *PLUGIN, cwd=disturbed, PYTHONPATH=HERE, KILL_AT_WRITE=str(writes))
        if attempt.returncode == 0:
            break
        assert attempt.returncode == -signal.SIGKILL, attempt.stderr
        ledger = disturbed / "runs/mini/stages.json"
        stages_killed_after.append(len(json.loads(ledger.read_text())) if ledger.exists() else 0)
    assert len(set(stages_killed_after)) >= 6, str(stages_killed_after)
    last = bnas("run", *MINI, *PLUGIN, cwd=disturbed, PYTHONPATH=HERE)
    assert last.returncode == 0, last.stderr
    for name in SAME:
        assert (disturbed / "runs/mini" / name).read_bytes() == (
            undisturbed / "runs/mini" / name
        ).read_bytes(), name
    assert measurements(disturbed) == measurements(undisturbed)
    report = json.loads((disturbed / "runs/mini/report.json").read_text())
    assert [subnet["name"] for subnet in report["subnets"]] == ["A", "B", "C"]
    again = bnas("measure", "--force", cwd=disturbed, PYTHONPATH=HERE)
    assert again.returncode == 0, again.stderr
    refused = bnas("extract", cwd=disturbed, PYTHONPATH=HERE)  # what the old measurements led to is gone
    assert refused.returncode == 2
    assert "first: python -m bnas search" in refused.stderr
    last = bnas("run", *MINI, *PLUGIN, cwd=disturbed, PYTHONPATH=HERE)
    assert last.returncode == 0, last.stderr
    assert (disturbed / "runs/mini/report.json").read_bytes() == (
        undisturbed / "runs/mini/report.json"
    ).read_bytes()
