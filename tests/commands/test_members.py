"""Which further hardware a front can be measured on, besides the run's own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bnas.commands.members import config_of
from bnas.commands.project import open_run
from bnas.errors import MeasureError
from bnas.measure import HwConfig


def measured_as(run: Path, name: str, hw: dict[str, Any], hardware: dict[str, Any]) -> None:
    """A campaign as the run's own, but for these options of `hw` and these facts about the machine."""
    shutil.copytree(run / "latency" / "cpu", run / "latency" / name)
    path = run / "latency" / name / "latency.json"
    report = json.loads(path.read_text())
    report["protocol"]["hw"] |= {"name": name, **hw}
    report["hardware"] |= hardware
    path.write_text(json.dumps(report))


def test_it_is_measured_with_the_options_of_its_campaign(run: Path) -> None:
    measured_as(run, "two", {"batch": 2, "scenario": "throughput", "streams": 1}, {})
    assert config_of(open_run(run), "two") == HwConfig(
        name="two", threads=1, batch=2, scenario="throughput", streams=1
    )


@pytest.mark.parametrize(
    ("hw", "hardware", "text"),
    [
        (
            {"where": "worker", "address": "http://board:8765"},
            {},
            r"board is not this machine \(hw.where=worker\)",
        ),
        (
            {},
            {"cpu": "Cortex-A53", "physical_cores": 4},
            r"board was measured on another machine \(Cortex-A53, 4 cores\)",
        ),
    ],
)
def test_another_machine_is_told_not_measured(
    hw: dict[str, Any], hardware: dict[str, Any], text: str, run: Path
) -> None:
    measured_as(run, "board", hw, hardware)
    with pytest.raises(MeasureError, match=text):
        config_of(open_run(run), "board")
