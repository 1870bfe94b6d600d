from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bnas.measure.advice import Findings, advice_for
from bnas.measure.hardware import Hardware, HwConfig
from bnas.measure.machine import Activity, Process
from bnas.measure.noise import Noise
from bnas.measure.timing import MeasureConfig

NOISE = Noise(
    networks=(),
    trials=18,
    preparations=9,
    reference_ms=2.0,
    rounds=10,
    error_percent=4.0,
    claimed_percent=3.0,
    floor_percent=0.5,
    exact_percent=0,
    disturbed_percent=20,
    drift_percent=4.0,
    trend_percent=0.5,
)
HARDWARE = Hardware(
    cpu="x",
    physical_cores=4,
    logical_cores=8,
    flags=(),
    memory_gib=8,
    os="Linux",
    runtime="openvino",
    runtime_version="1",
)


def findings(
    *, quiet: bool = False, threads: int = 1, hardware: dict[str, Any] | None = None, **changes: Any
) -> Findings:
    noise = {name: changes.pop(name) for name in list(changes) if name in Noise.__dataclass_fields__}
    hw = HwConfig(
        where="worker", address="http://x:1", threads=threads
    )  # may have more threads than this machine
    return Findings(
        hw=hw,
        hardware=replace(HARDWARE, **(hardware or {})),
        activity=Activity(seconds=10, **changes),
        noise=replace(NOISE, **noise),
        config=MeasureConfig(),
        quiet=quiet,
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            findings(other_cpus=1.7, busiest=(Process(name="backup", pid=7, cpus=1.5),)),
            "other work takes 1.7 CPUs: backup (process 7, 1.5 CPUs); stop it",
        ),
        (findings(other_cpus=0.5), "which this process cannot see"),
        (findings(steal_percent=3.0), "the hypervisor takes 3.0 %"),
        (findings(throttled=4), "CPU quota stopped this process 4 times"),
        (findings(threads=6), "6 threads share 4 physical cores"),
        (findings(threads=4, hardware={"logical_cores": 4}), "hw.threads=3 is less noisy"),
        (findings(governor="powersave"), "sudo cpupower frequency-set -g performance"),
        (findings(turbo=True), "no_turbo"),
        (findings(trend_percent=6.0), "got 6.0 % slower"),
        (findings(trend_percent=-6.0), "got 6.0 % faster"),
        (findings(floor_percent=3.0), "±3.0 % come from preparing the same network anew"),
        (findings(claimed_percent=1.0), "than each says of itself (±1.0 %)"),
        (findings(error_percent=9.0), "measure.max_rounds="),
    ],
)
def test_each_cause_has_its_advice(found: Findings, said: str) -> None:
    usual = advice_for(findings())
    new = [text for text in advice_for(found) if text not in usual]
    assert any(said in text for text in new), new


@pytest.mark.parametrize(
    "found",
    [
        findings(),
        findings(other_cpus=None, steal_percent=None),
        findings(other_cpus=0.05, steal_percent=0.2, throttled=0, governor="performance", turbo=False),
    ],
)
def test_causes_that_are_not_there_or_not_known_are_not_blamed(found: Findings) -> None:
    text = " ".join(advice_for(found))
    for word in ("other work takes", "hypervisor", "quota", "threads", "governor", "turbo"):
        assert word not in text


def test_a_quiet_machine_gets_no_advice_about_what_does_no_harm() -> None:
    quiet = findings(
        quiet=True,
        other_cpus=1.0,
        steal_percent=2.0,
        governor="powersave",
        turbo=True,
        error_percent=0.8,
        claimed_percent=0.7,
        floor_percent=0.2,
    )
    assert advice_for(quiet) == ()
