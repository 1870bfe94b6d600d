"""Timing many subnets on this machine, and comparing finished artefacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnas import progress
from bnas.errors import MeasureError
from bnas.export import Artefact, check_digest
from bnas.files import append_jsonl, read_jsonl
from bnas.measure.backends import Network, Runner, prepare
from bnas.measure.hardware import Hardware, HwConfig, detect
from bnas.measure.timing import MeasureConfig, Timing, time_interleaved
from bnas.quantize import QuantizeConfig, quantize
from bnas.space import SearchSpace, SubnetConfig, resized, resolution_of

MEASURE = 4  # the place of measuring among the users of the run's seed
_REFERENCE, _SUBNET = "reference", "subnet"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One subnet timed beside the reference network, on which hardware and how.

    `latency_ms` is the median; the times are those of this moment. `ratio` is to the reference,
    `reference_ms` the reference's own median in the same rounds: ratios compare between moments,
    milliseconds only nearly. `space` is the digest of the search space.
    """

    config: SubnetConfig
    space: str
    latency_ms: float
    p10_ms: float
    p90_ms: float
    ratio: float
    ratio_p10: float
    ratio_p90: float
    ratio_error_percent: float
    reference_ms: float
    rounds: int
    calls: int
    batch: int
    threads: int
    precision: str
    hardware: Hardware


def campaign(
    space: SearchSpace,
    make: Callable[[SubnetConfig], nn.Module],
    hw: HwConfig,
    config: MeasureConfig,
    *,
    quantizer: QuantizeConfig,
    reference: nn.Module,
    example: Tensor,
    path: Path,
    seed: int,
) -> tuple[Measurement, ...]:
    """Time `config.samples` subnets beside `reference` and append each to the JSONL file `path`.

    They are the largest, the smallest and random ones; fewer when the space is smaller. `make` gives a
    subnet as a plain module in eval mode, which gets `example` at the config's resolution, where it has one.
    Those that are in the file already are not timed again, so a campaign that was interrupted goes on. For
    int8 the networks are quantized on random numbers: the ranges that calibration finds change what a
    network answers, not how long it takes.

    Raises:
        MeasureError: the file holds measurements made on other hardware, or otherwise not like these.
    """
    hardware = detect(hw)
    known = {}
    for number, line in enumerate(read_jsonl(path, Measurement), start=1):
        _refuse_if_other(line, space, hw, hardware, f"{path}, line {number}")
        known[line.config] = line
    chosen = tuple(choose(space, config.samples, seed))
    missing = [subnet for subnet in chosen if subnet not in known]
    if missing:
        beside = _runner(reference, hw, quantizer, example)
        with progress.bar("measure", len(missing)) as step:
            for subnet in missing:
                inputs = resized(example, resolution_of(subnet))
                runner = _runner(make(subnet), hw, quantizer, inputs)
                timings = time_interleaved({_REFERENCE: beside, _SUBNET: runner}, config)
                known[subnet] = _measurement(subnet, timings, space, hw, hardware)
                append_jsonl(path, known[subnet])
                step(note=f"{known[subnet].latency_ms:.3f} ms ±{known[subnet].ratio_error_percent:.1f} %")
    return tuple(known[subnet] for subnet in chosen)


def choose(space: SearchSpace, count: int, seed: int) -> Iterator[SubnetConfig]:
    """The largest subnet, the smallest, then random ones: `count` different ones, or the whole space."""
    count = min(count, space.size)

    def drawn() -> Iterator[SubnetConfig]:
        yield space.largest
        yield space.smallest
        rng = np.random.default_rng([seed, MEASURE])
        while True:
            yield space.sample(rng)

    return islice(_different(drawn()), count)


def time_artefacts(
    artefacts: Mapping[str, Artefact], hw: HwConfig, config: MeasureConfig
) -> dict[str, Timing]:
    """Time finished artefacts, of any precision, in one interleaved run; the first is the reference.

    Raises:
        RunError: an artefact's files are not those that were written.
    """
    for artefact in artefacts.values():
        check_digest(artefact)
    return time_interleaved(
        {name: prepare(Path(artefact.path), hw) for name, artefact in artefacts.items()}, config
    )


def _runner(module: nn.Module, hw: HwConfig, quantizer: QuantizeConfig, example: Tensor) -> Runner:
    network: Network = module
    if hw.precision == "int8":
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, *example.shape[1:], generator=generator)
        network = quantize(module, quantizer, [images], example)
    return prepare(network, hw, example)


def _measurement(
    subnet: SubnetConfig,
    timings: Mapping[str, Timing],
    space: SearchSpace,
    hw: HwConfig,
    hardware: Hardware,
) -> Measurement:
    timing = timings[_SUBNET]
    return Measurement(
        config=subnet,
        space=space.digest,
        latency_ms=timing.latency_ms,
        p10_ms=timing.p10_ms,
        p90_ms=timing.p90_ms,
        ratio=timing.ratio,
        ratio_p10=timing.ratio_p10,
        ratio_p90=timing.ratio_p90,
        ratio_error_percent=timing.ratio_error_percent,
        reference_ms=timings[_REFERENCE].latency_ms,
        rounds=timing.rounds,
        calls=timing.calls,
        batch=hw.batch,
        threads=hw.thread_count,
        precision=hw.precision,
        hardware=hardware,
    )


def _refuse_if_other(
    line: Measurement, space: SearchSpace, hw: HwConfig, hardware: Hardware, where: str
) -> None:
    """A predictor must not be fitted on a mixture."""
    before, now = line.hardware, hardware
    pairs: dict[str, tuple[Any, Any]] = {
        "cpu": (before.cpu, now.cpu),
        "physical_cores": (before.physical_cores, now.physical_cores),
        "flags": (" ".join(before.flags), " ".join(now.flags)),
        "runtime": (before.runtime, now.runtime),
        "runtime_version": (before.runtime_version, now.runtime_version),
        "threads": (line.threads, hw.thread_count),
        "batch": (line.batch, hw.batch),
        "precision": (line.precision, hw.precision),
        "space": (line.space, space.digest),
    }
    for name, (was, is_now) in pairs.items():
        if was != is_now:
            raise MeasureError(
                f"{where}: was measured with {name} {was}, now it is {is_now}; measure anew with "
                "`bnas measure --force`, or under another name with hw.name=…"
            )


def _different(configs: Iterator[SubnetConfig]) -> Iterator[SubnetConfig]:
    seen = set()
    for config in configs:
        if config not in seen:
            seen.add(config)
            yield config
