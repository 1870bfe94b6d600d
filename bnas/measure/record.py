"""What one measurement leaves on disk, and which measurements belong together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bnas.files import read_jsonl
from bnas.measure.disturbance import calm_ms
from bnas.measure.hardware import Hardware, HwConfig
from bnas.space import SubnetConfig

Role = Literal["fit", "held_out"]

_TIMES = ("time_ms", "p10_ms", "p90_ms", "p99_ms", "ratio", "ratio_p10", "ratio_p90", "reference_ms")
_COUNTS = ("rounds", "calls", "disturbed")
_NORMAL_95 = 1.96  # standard errors to each side that hold 95 %


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One subnet timed beside the reference network, on which hardware and how.

    `role`: chosen to fit the predictor to, or random, held out to tell its error. The times are as in
    `Timing`, and of this moment: `ratio` is to the reference, `reference_ms` the reference's own median in the
    same rounds. Ratios compare between moments, milliseconds only nearly. `space` is the digest of the search
    space, `artefact` the SHA-256 of the network that was timed and `size_bytes` the size of its weights.
    `seconds` is what each step took: extract, deploy (convert and quantize), compile, time.
    `memory_bytes` (peak resident memory) and `energy_mj` (millijoules of one inference) are None where they were
    not or cannot be read. `began` is in seconds of Unix time. `passes`: how many timings it is the mean of; lines of a
    file are of one each.
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
    passes: int = field(default=1, metadata={"plain": "unless default"})

    @property
    def throughput_per_s(self) -> float:
        """Images per second."""
        return 1000 * self.batch / self.time_ms


def measured_set(
    path: Path, space: str, hw: HwConfig, hardware: Hardware
) -> tuple[dict[SubnetConfig, Measurement], str | None]:
    """The measurements in the JSONL file `path` that were made under the conditions of now, by subnet.

    What was timed more than once is the mean of what was timed calmly (`calm`, `mean_of`); see `timings`.
    """
    found, changed = timings(path, space, hw, hardware)
    return {config: mean_of(lines) for config, lines in calm(found).items()}, changed


def timings(
    path: Path, space: str, hw: HwConfig, hardware: Hardware
) -> tuple[dict[SubnetConfig, list[Measurement]], str | None]:
    """The lines of the JSONL file `path` that were made under the conditions of now, by subnet, in their order.

    A predictor must not be fitted to a mixture, so those made under other conditions are left out; where there are
    only such, the text says what has changed since the last of them.

    Raises:
        RunError: the file is damaged.
    """
    threads = hw.threads or len(hw.cpus) or hardware.physical_cores  # of the device, which may be another one
    now = _conditions(hardware, space, threads, hw.batch, hw.streams, hw.precision, hw.scenario)
    found: dict[SubnetConfig, list[Measurement]] = {}
    changed = None
    for line in read_jsonl(path, Measurement):
        before = _conditions(
            line.hardware, line.space, line.threads, line.batch, line.streams, line.precision, line.scenario
        )
        if before == now:
            found.setdefault(line.config, []).append(line)
        else:
            changed = "; ".join(
                f"{name} was {before[name]}, is {now[name]}" for name in now if before[name] != now[name]
            )
    return found, None if found else changed


def calm(found: Mapping[SubnetConfig, Sequence[Measurement]]) -> dict[SubnetConfig, list[Measurement]]:
    """Of each subnet's timings those that were calm; where none was, the calmest.

    How calm it was the reference tells, which is the same network in all timings of a set: a subnet's own time has no
    say, so that none looks faster for being chosen.
    """
    limit = calm_limit(found)
    return {
        config: [line for line in lines if line.reference_ms <= limit]
        or [min(lines, key=lambda line: line.reference_ms)]
        for config, lines in found.items()
    }


def calm_limit(found: Mapping[SubnetConfig, Sequence[Measurement]]) -> float:
    """What the reference takes at most, in ms, in those timings of a set that are calm; 0 of none."""
    return calm_ms(line.reference_ms for lines in found.values() for line in lines)


def mean_of(lines: Sequence[Measurement]) -> Measurement:
    """Several timings of one subnet as one.

    Times and ratios are geometric means. The error is that of a mean of independent timings, by their own intervals
    or by how far apart they are, whichever is larger.
    """
    if len(lines) == 1:
        return lines[0]
    changed: dict[str, Any] = {
        name: float(np.exp(np.mean(np.log([getattr(line, name) for line in lines])))) for name in _TIMES
    }
    changed |= {name: sum(getattr(line, name) for line in lines) for name in _COUNTS}
    own = math.sqrt(sum(line.ratio_error_percent**2 for line in lines)) / len(lines)
    apart = 100 * float(np.std(np.log([line.ratio for line in lines]), ddof=1))
    return replace(
        lines[0],
        **changed,
        ratio_error_percent=max(own, _NORMAL_95 * apart / math.sqrt(len(lines))),
        converged=all(line.converged for line in lines),
        seconds={step: sum(line.seconds.get(step, 0.0) for line in lines) for step in lines[0].seconds},
        memory_bytes=max(
            (line.memory_bytes for line in lines if line.memory_bytes is not None), default=None
        ),
        energy_mj=_mean([line.energy_mj for line in lines if line.energy_mj is not None]),
        passes=len(lines),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


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
