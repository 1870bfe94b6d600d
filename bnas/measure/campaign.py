"""A campaign: which subnets are timed, in what order, each beside the reference, and written down at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from torch import Tensor, nn

from bnas import progress
from bnas.errors import MeasureError
from bnas.files import append_jsonl
from bnas.measure.backends import BACKENDS, Network, deploy_mixed
from bnas.measure.cross_validation import MIN_MEASUREMENTS
from bnas.measure.device import Device, Here, Timed
from bnas.measure.disturbance import CALM
from bnas.measure.features import features
from bnas.measure.hardware import HwConfig
from bnas.measure.latency import fit_latency, predict_many
from bnas.measure.record import Measurement, Role, calm, calm_limit, mean_of, timings
from bnas.measure.selection import choose, choose_unsure, random_subnets
from bnas.measure.timing import MeasureConfig
from bnas.quantize import QuantizeConfig
from bnas.space import (
    PRECISION,
    LayerCost,
    Precisions,
    SearchSpace,
    SubnetConfig,
    architecture,
    has_precisions,
    resized,
    resolution_of,
)

FIRST = 20  # subnets that are chosen without a predictor, before it is asked where it is unsure
UNSURE = "gaussian_process"  # the kind of predictor that is asked: the one whose error bars tell the most
_SLOWED = f"were timed while other work slowed the reference by over {100 * (CALM - 1):.0f} %"
AT_ONCE = 10  # subnets that are chosen before the predictor is fitted again

Costs = Callable[[SubnetConfig], Sequence[LayerCost]]
Connect = Callable[[HwConfig, MeasureConfig, Network, Tensor], Device]
Deployed = Callable[[SubnetConfig, nn.Module, Tensor], Network]


def campaign(
    space: SearchSpace,
    make: Callable[[SubnetConfig], nn.Module],
    hw: HwConfig,
    config: MeasureConfig,
    *,
    costs: Costs,
    quantizer: QuantizeConfig,
    example: Tensor,
    path: Path,
    seed: int,
    connect: Connect = Here,
    subnets: Sequence[SubnetConfig] = (),
    precisions: Callable[[SubnetConfig], Precisions] | None = None,
) -> tuple[Measurement, ...]:
    """Time `config.samples` subnets beside the one of `reference_of` and append each to the JSONL file `path`.

    Those held out are random, and spread over the campaign; of the others the first are spread over the space,
    the later ones those of which the predictor fitted so far is least sure. Fewer when the space is smaller.
    `make` gives a subnet as a plain module in eval mode, which gets `example` at the config's resolution, where
    it has one; `costs` its layers. For int8 the networks are quantized on made-up ranges: those that
    calibration finds change what a network answers, not how long it takes. `connect` gives the device that they
    run on. `subnets`, where there are any, are timed instead of chosen ones. Of a space with choices of
    precisions `make` gets the architecture alone, and `precisions` (as `precisions_of`) tells what each part of
    that module is quantized to.

    Those that are in the file already are not timed again, so a campaign that was interrupted goes on with
    the very subnets it would have taken. Measurements made on another machine, by another version of the
    runtime or with other options stay in the file and are left out; a line says why.

    Raises:
        ConfigError: the space has choices of precisions, and the hardware runs all of a network in one.
        MeasureError: a network cannot be converted, quantized or run; the text names the operation.
    """
    deploy = _deployed(space, hw, quantizer, precisions)
    reference = reference_of(space)
    inputs = resized(example, resolution_of(reference))
    middle = deploy(reference, make(architecture(reference)), inputs)
    with closing(connect(hw, config, middle, inputs)) as device:
        known, changed = timings(path, space.digest, hw, device.hardware)
        if changed is not None:
            progress.say(
                f"measure: {changed}: a new set is begun; those measured before stay in {path}, unused"
            )
        unweighed = sum(lines[0].memory_bytes is None for lines in known.values()) if config.memory else 0
        if unweighed:
            progress.say(
                f"measure: the memory of {unweighed} subnets that were timed before was not read; --force times "
                "all of them anew, and reads it"
            )
        first = {subnet: lines[0] for subnet, lines in known.items()}  # what the plan was made by
        plan = _Plan(space, config, costs, seed, subnets)
        unreadable: dict[str, str] = {}

        def time_all(wanted: Sequence[SubnetConfig], step: Callable[..., None]) -> None:
            for subnet, timed, spent in _time(wanted, make, deploy, device, example):
                line = _measurement(subnet, timed, spent, plan.role(subnet), space, hw)
                append_jsonl(path, line)
                known.setdefault(subnet, []).append(line)
                first.setdefault(subnet, line)
                unreadable.update(timed.unreadable)
                step(note=f"{line.time_ms:.3f} ms ±{line.ratio_error_percent:.1f} %")

        with progress.bar("measure", plan.count * config.passes) as step:
            for times, wanted in plan.batches(first, config.passes):
                missing = [subnet for subnet in wanted if len(known.get(subnet, ())) < times]
                step(len(wanted) - len(missing))
                time_all(missing, step)
        for retry in range(config.retries):
            slowed = _slowed(known, plan.planned, config.passes)
            wanted = [subnet for subnet in slowed if len(known[subnet]) <= config.passes + retry]
            if wanted:
                progress.say(f"measure: {len(slowed)} of {len(plan.planned)} subnets {_SLOWED}; timed again")
                with progress.bar("measure again", len(wanted)) as step:
                    time_all(wanted, step)
    if slowed := _slowed(known, plan.planned, config.passes):
        progress.say(f"measure: {len(slowed)} of {len(plan.planned)} subnets {_SLOWED}, each time")
    best = calm(known)
    lines = [mean_of(best[subnet]) for subnet in plan.planned]
    if capped := [line.ratio_error_percent for line in lines if not line.converged]:
        progress.say(
            f"measure: {len(capped)} of {len(lines)} subnets reached the cap of {config.max_rounds} rounds before "
            f"±{config.target_ratio_error_percent:g} %; their ratios are known to ±{median(capped):.1f} % (median)"
        )
    for name, reason in unreadable.items():
        progress.say(f"measure: {name} is not told: {reason}")
    return tuple(lines)


def _slowed(
    known: Mapping[SubnetConfig, Sequence[Measurement]], planned: Sequence[SubnetConfig], passes: int
) -> list[SubnetConfig]:
    """Those of which fewer than `passes` timings were calm."""
    limit = calm_limit(known)
    return [
        subnet for subnet in planned if sum(line.reference_ms <= limit for line in known[subnet]) < passes
    ]


def reference_of(space: SearchSpace) -> SubnetConfig:
    """A subnet to be the reference: in the middle of the space.

    What it leaves in the caches, and what slows it down, is then near that of any other: beside the largest
    network, ratios of small ones spread several times as much (docs/decisions/0011). For the same reason it is INT8
    throughout: of precisions that in the middle, or the lower of two.
    """
    return SubnetConfig(
        values={
            choice.name: choice.values[(len(choice.values) - (choice.dim == PRECISION)) // 2]
            for choice in space.choices
        }
    )


def _deployed(
    space: SearchSpace,
    hw: HwConfig,
    quantizer: QuantizeConfig,
    precisions: Callable[[SubnetConfig], Precisions] | None,
) -> Deployed:
    """What makes of a subnet, as a module, and an example input of it what is timed."""
    if not has_precisions(space):
        deploy = BACKENDS[hw.backend].deploy(hw, quantizer)
        return lambda subnet, module, inputs: deploy(module, inputs)
    if precisions is None:
        raise MeasureError(
            "campaign: the space has choices of precisions; `precisions` must tell them of a subnet"
        )
    mixed, told = deploy_mixed(hw, quantizer), precisions
    return lambda subnet, module, inputs: mixed(module, inputs, told(subnet))


class _Plan:
    """Which subnets are timed. The order follows from the seed and from what was measured alone."""

    def __init__(
        self,
        space: SearchSpace,
        config: MeasureConfig,
        costs: Costs,
        seed: int,
        given: Sequence[SubnetConfig],
    ) -> None:
        self._space, self._costs, self._seed, self._given = space, costs, seed, given
        self.count = len(given) or min(config.samples, space.size)
        most = 0 if given else max(0, min(self.count * 2 // 3, self.count - MIN_MEASUREMENTS))
        self.held_out = random_subnets(space, min(config.holdout, most), seed)
        self.planned: list[SubnetConfig] = []

    def role(self, subnet: SubnetConfig) -> Role:
        """What the measurement of a subnet is for."""
        return "held_out" if subnet in self.held_out else "fit"

    def batches(
        self, known: Mapping[SubnetConfig, Measurement], passes: int
    ) -> Iterator[tuple[int, Sequence[SubnetConfig]]]:
        """Subnets to time, batch by batch, and how often each was timed once its batch is done.

        Those of one batch are in `known` when the next is asked for; what is there was timed in the first pass.
        """
        to_fit = self.count - len(self.held_out)
        fitted = list(self._given or self._choose((), min(FIRST, to_fit)))
        chosen, asked = tuple(fitted), 0
        while chosen:
            due = len(self.held_out) * len(fitted) // to_fit
            batch = _evenly(chosen, self.held_out[asked:due])
            asked = due
            self.planned += batch
            yield 1, batch
            chosen = self._unsure(fitted, min(AT_ONCE, to_fit - len(fitted)), known)
            fitted += chosen
        for times in range(2, passes + 1):
            yield times, self.planned

    def _choose(self, known: Sequence[SubnetConfig], count: int) -> tuple[SubnetConfig, ...]:
        return choose(
            self._space, known, count, seed=self._seed, describe=self._describe, without=self.held_out
        )

    def _unsure(
        self, fitted: Sequence[SubnetConfig], count: int, known: Mapping[SubnetConfig, Measurement]
    ) -> tuple[SubnetConfig, ...]:
        if count <= 0:
            return ()
        model = fit_latency([known[subnet] for subnet in fitted], self._costs, kinds=(UNSURE,))

        def uncertainty(subnets: Sequence[SubnetConfig]) -> Sequence[float]:
            predictions = predict_many(model, [self._costs(subnet) for subnet in subnets])
            return [(own.high_ms - own.low_ms) / own.ms for own in predictions]

        return choose_unsure(
            self._space,
            fitted,
            count,
            seed=self._seed,
            uncertainty=uncertainty,
            describe=self._describe,
            without=self.held_out,
        )

    def _describe(self, subnet: SubnetConfig) -> Mapping[str, float]:
        return features(self._costs(subnet))


def _evenly(*kinds: Sequence[SubnetConfig]) -> list[SubnetConfig]:
    """Both kinds in one order, each spread over all of it: the machine is then the same for both (0020)."""
    places = [((place + 0.5) / len(own), subnet) for own in kinds for place, subnet in enumerate(own)]
    return [subnet for _, subnet in sorted(places, key=lambda at: at[0])]


def _time(
    subnets: Sequence[SubnetConfig],
    make: Callable[[SubnetConfig], nn.Module],
    deploy: Deployed,
    device: Device,
    example: Tensor,
) -> Iterator[tuple[SubnetConfig, Timed, Spent]]:
    """Time `subnets` on `device`, as many at once as it takes; in the order in which they are finished."""
    waiting, spent = dict(enumerate(subnets)), {}
    running: set[int] = set()
    while waiting or running:
        while waiting and len(running) < device.capacity:
            key = next(iter(waiting))
            subnet = waiting.pop(key)
            began, at = time.time(), time.perf_counter()
            module = make(architecture(subnet))
            extracted = time.perf_counter()
            inputs = resized(example, resolution_of(subnet))
            network = deploy(subnet, module, inputs)
            spent[key] = Spent(began, extracted - at, time.perf_counter() - extracted)
            device.submit(key, network, inputs)
            running.add(key)
        for key, timed in device.results():
            running.remove(key)
            yield subnets[key], timed, spent.pop(key)


@dataclass(frozen=True)
class Spent:
    """When work on a candidate began (Unix time), and the seconds it took before it went to the device."""

    began: float
    extract: float
    deploy: float


def _measurement(
    subnet: SubnetConfig, timed: Timed, spent: Spent, role: Role, space: SearchSpace, hw: HwConfig
) -> Measurement:
    timing = timed.subnet
    return Measurement(
        config=subnet,
        space=space.digest,
        role=role,
        time_ms=timing.time_ms,
        p10_ms=timing.p10_ms,
        p90_ms=timing.p90_ms,
        p99_ms=timing.p99_ms,
        ratio=timing.ratio,
        ratio_p10=timing.ratio_p10,
        ratio_p90=timing.ratio_p90,
        ratio_error_percent=timing.ratio_error_percent,
        converged=timing.converged,
        reference_ms=timed.reference.time_ms,
        rounds=timing.rounds,
        calls=timing.calls,
        disturbed=timing.disturbed + timed.reference.disturbed,
        batch=hw.batch,
        threads=timed.threads,
        streams=hw.streams,
        precision=hw.precision,
        scenario=hw.scenario,
        artefact=timed.artefact,
        size_bytes=timed.size_bytes,
        seconds={"extract": spent.extract, "deploy": spent.deploy, **timed.seconds},
        memory_bytes=timed.memory_bytes,
        energy_mj=timed.energy_mj,
        began=spent.began,
        hardware=timed.hardware,
    )
