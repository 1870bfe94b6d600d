"""What one measurement leaves on disk, and which measurements belong together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bnas.files import read_jsonl
from bnas.measure.hardware import Hardware, HwConfig
from bnas.space import SubnetConfig

Role = Literal["fit", "held_out"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One subnet timed beside the reference network, on which hardware and how.

    `role`: chosen to fit the predictor to, or random, held out to tell its error. The times are as in
    `Timing`, and of this moment: `ratio` is to the reference, `reference_ms` the reference's own median in the
    same rounds. Ratios compare between moments, milliseconds only nearly. `space` is the digest of the search
    space, `artefact` the SHA-256 of the network that was timed and `size_bytes` the size of its weights.
    `seconds` is what each step took: extract, deploy (convert and quantize), compile, time.
    `memory_bytes` (peak resident memory) and `energy_mj` (millijoules of one inference) are None where they were
    not or cannot be read. `began` is in seconds of Unix time.
    """

    config: SubnetConfig
    space: str
    role: Role
    time_ms: float
    p10_ms: float
    p90_ms: float
    p99_ms: float
    ratio: float
    ratio_p10: float
    ratio_p90: float
    ratio_error_percent: float
    converged: bool
    reference_ms: float
    rounds: int
    calls: int
    disturbed: int
    batch: int
    threads: int
    streams: int
    precision: str
    scenario: str
    artefact: str
    size_bytes: int
    seconds: dict[str, float]
    memory_bytes: int | None
    energy_mj: float | None
    began: float
    hardware: Hardware

    @property
    def throughput_per_s(self) -> float:
        """Images per second."""
        return 1000 * self.batch / self.time_ms


def measured_set(
    path: Path, space: str, hw: HwConfig, hardware: Hardware
) -> tuple[dict[SubnetConfig, Measurement], str | None]:
    """The measurements in the JSONL file `path` that were made under the conditions of now, by subnet.

    A predictor must not be fitted to a mixture, so those made otherwise are left out; where there are only
    such, the text says what has changed since the last of them.

    Raises:
        RunError: the file is damaged.
    """
    threads = hw.threads or len(hw.cpus) or hardware.physical_cores  # of the device, which may be another one
    now = _conditions(hardware, space, threads, hw.batch, hw.streams, hw.precision, hw.scenario)
    found: dict[SubnetConfig, Measurement] = {}
    changed = None
    for line in read_jsonl(path, Measurement):
        before = _conditions(
            line.hardware, line.space, line.threads, line.batch, line.streams, line.precision, line.scenario
        )
        if before == now:
            found[line.config] = line
        else:
            changed = "; ".join(
                f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]
            )
    return found, None if found else changed


def _conditions(
    hardware: Hardware, space: str, threads: int, batch: int, streams: int, precision: str, scenario: str
) -> dict[str, Any]:
    return {
        "cpu": hardware.cpu,
        "physical_cores": hardware.physical_cores,
        "flags": " ".join(hardware.flags),
        "runtime": hardware.runtime,
        "runtime_version": hardware.runtime_version,
        "threads": threads,
        "cpus": len(hardware.cpus),
        "batch": batch,
        "streams": streams,
        "precision": precision,
        "scenario": scenario,
        "space": space,
    }
