"""What to do about a noisy machine: one sentence for each cause that its figures show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bnas.measure.hardware import Hardware, HwConfig
from bnas.measure.machine import Activity
from bnas.measure.noise import Noise
from bnas.measure.timing import MeasureConfig


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All that advice is drawn from."""

    hw: HwConfig
    hardware: Hardware
    activity: Activity
    noise: Noise
    config: MeasureConfig
    quiet: bool


def advice_for(findings: Findings) -> tuple[str, ...]:
    """What to do, the gravest first; nothing for a quiet machine whose figures can be trusted."""
    return tuple(text for rule in RULES for text in rule(findings))


def _other_load(f: Findings) -> Iterator[str]:
    """Others compete when they take time and no CPU is left for them, or when blocks were disturbed by them."""
    others = f.activity.other_cpus
    if others is None or others < 0.1 or f.quiet:
        return
    named = ", ".join(f"{p.name} (process {p.pid}, {p.cpus:.1f} CPUs)" for p in f.activity.busiest)
    who = f": {named}" if named else ", which this process cannot see (another container, or the host)"
    yield f"other work takes {others:.1f} CPUs{who}; stop it, or measure on CPUs that it leaves free (hw.cpus=…)"


def _steal(f: Findings) -> Iterator[str]:
    stolen = f.activity.steal_percent
    if stolen is not None and stolen >= 1 and not f.quiet:
        yield (
            f"the hypervisor takes {stolen:.1f} % of the CPUs' time for its other guests; measure at another "
            "hour, or on a machine of your own (a dedicated host)"
        )


def _quota(f: Findings) -> Iterator[str]:
    if f.activity.throttled:
        yield (
            f"the container's CPU quota stopped this process {f.activity.throttled} times; give it whole CPUs "
            "(a cpuset instead of a quota), or take fewer threads (hw.threads=…)"
        )


def _threads(f: Findings) -> Iterator[str]:
    threads, physical, logical = f.hw.thread_count, f.hardware.physical_cores, f.hardware.logical_cores
    if threads > physical:
        yield (
            f"{threads} threads share {physical} physical cores: two on one core are slower, and vary more "
            "(hw.threads)"
        )
    elif threads == logical > 1 and not f.quiet:
        yield (
            f"all {logical} CPUs are measured on, and none is left for the rest of the system; hw.threads="
            f"{logical - 1} is less noisy, if that is how the network will run"
        )


def _governor(f: Findings) -> Iterator[str]:
    governor = f.activity.governor
    if governor not in (None, "performance") and not f.quiet:
        yield (
            f"the frequency follows the load (governor {governor}): sudo cpupower frequency-set -g performance"
        )


def _turbo(f: Findings) -> Iterator[str]:
    if f.activity.turbo and not f.quiet and f.noise.drift_percent > 2:
        yield (
            "turbo lets the frequency depend on temperature and on the other cores; for comparisons it can be "
            "switched off: echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo, or elsewhere "
            "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"
        )


def _trend(f: Findings) -> Iterator[str]:
    trend = f.noise.trend_percent
    if abs(trend) > 3:
        way, why = ("slower", "warmer, or busier") if trend > 0 else ("faster", "less busy")
        yield (
            f"the machine got {abs(trend):.1f} % {way} during the check ({why}): compare ratios to the "
            "reference, as bnas does, never milliseconds of different hours"
        )


def _preparation(f: Findings) -> Iterator[str]:
    if f.noise.floor_percent > max(0.5, 0.5 * f.noise.error_percent):
        yield (
            f"±{f.noise.floor_percent:.1f} % come from preparing the same network anew (where it lies in "
            "memory): more rounds do not help; many subnets do, as the predictor averages over them"
        )


def _claimed(f: Findings) -> Iterator[str]:
    noise = f.noise
    if noise.error_percent > 2 * max(noise.claimed_percent, 0.5):
        yield (
            f"measurements differ by more (±{noise.error_percent:.1f} %) than each says of itself "
            f"(±{noise.claimed_percent:.1f} %): something slower than a measurement goes on, as preparing anew "
            "or other work that comes and goes"
        )


def _rounds(f: Findings) -> Iterator[str]:
    needed = f.noise.rounds_for(1.0)
    if not f.quiet and needed is not None and needed > f.config.max_rounds:
        yield (
            f"±1 % takes about {needed} rounds as things are: measure.max_rounds={needed} (now "
            f"{f.config.max_rounds}) lets a campaign have them"
        )


RULES: tuple[Callable[[Findings], Iterator[str]], ...] = (
    _quota, _other_load, _steal, _threads, _governor, _turbo, _trend, _preparation, _claimed, _rounds,
)  # fmt: skip
