"""What a report holds. `to_plain(Report)` is `report.json`: no dates and no durations, so that two equal runs
give equal files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bnas.space import SubnetConfig


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A member of the front after measuring: accuracies on the validation images, latency on the device
    (INT8, batch 1, median) beside what was predicted, at the speed that the machine had meanwhile."""

    config: SubnetConfig
    top1_fp32_percent: float
    top1_int8_percent: float
    latency_ms: float
    predicted_latency_ms: float
    macs: int
    parameters: int
    latency_p10_ms: float | None = None
    latency_p90_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class SubnetReport:
    """One network of the table. Top-1 is on the test images, which nothing was chosen by; `latency_ms`, its
    10th and 90th percentile and `throughput_per_s` are INT8, latencies at batch 1; speed-ups are of the
    INT8 subnet against the original network; `command` makes the subnet again."""

    name: str
    config: dict[str, int] = field(hash=False)
    top1_fp32_percent: float
    top1_int8_percent: float
    latency_ms: float
    latency_fp32_ms: float
    latency_p10_ms: float
    latency_p90_ms: float
    throughput_per_s: float
    macs: int
    parameters: int
    size_bytes: int
    speedup_vs_fp32: float
    speedup_vs_int8: float
    predicted_latency_ms: float | None = None
    command: str
    latency_fp32_p10_ms: float | None = None
    latency_fp32_p90_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """A member of the front on the validation images: as the search saw it (`metric_percent`, not quantized, run
    at the training's precision, against `predicted_latency_ms`) and as measured (INT8). `names`: the chosen
    subnets it became, if any."""

    config_digest: str
    metric_percent: float
    predicted_latency_ms: float
    top1_int8_percent: float | None = None
    latency_ms: float | None = None
    latency_p10_ms: float | None = None
    latency_p90_ms: float | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class EvaluationPoint:
    """A subnet as the search saw it: top-1 on the validation images, predicted latency."""

    metric_percent: float
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished run. `reference` is the original network, as FP32 and as INT8; its two accuracies on the
    validation images place it in the plot of the front, where everything is on those images. `loss_points`: how much
    top-1 subnet B was allowed to lose there."""

    run: str
    task: str = "classification"
    dataset: str
    reference: SubnetReport
    subnets: tuple[SubnetReport, ...]
    reference_val_fp32_percent: float
    reference_val_int8_percent: float
    front: tuple[FrontPoint, ...]
    evaluations: tuple[EvaluationPoint, ...]
    hypervolume: tuple[float, ...] = ()
    hardware: dict[str, Any] = field(hash=False)
    protocol: dict[str, Any] = field(hash=False)
    latency_model: dict[str, Any] = field(hash=False)
    space: dict[str, Any] = field(hash=False)
    loss_points: float = 1.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A number of a training by global step, all finite; `better` says which of two values is the better one."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    better: Literal["higher", "lower"] | None = None

    @property
    def best(self) -> tuple[int, float] | None:
        """The step and the value of the best point, the first of equal ones."""
        if self.better is None or not self.values:
            return None
        value = max(self.values) if self.better == "higher" else min(self.values)
        return self.steps[self.values.index(value)], value


@dataclass(frozen=True, kw_only=True)
class Training:
    """How one training of a run went so far. Curves called `metric/subnet` belong together.

    macs: of the subnets that it drew. ends: names of its stages that have ended, or begun, and their last steps so far.
    """

    name: str
    curves: tuple[Curve, ...]
    macs: tuple[float, ...] = ()
    ends: tuple[tuple[str, int], ...] = ()

    @property
    def last_step(self) -> int:
        return max((curve.steps[-1] for curve in self.curves if curve.steps), default=0)

    @property
    def groups(self) -> dict[str, list[Curve]]:
        """Curves by what they show: by the metric, or by their own name."""
        found: dict[str, list[Curve]] = {}
        for curve in self.curves:
            found.setdefault(curve.name.partition("/")[0], []).append(curve)
        return found


@dataclass(frozen=True, kw_only=True)
class TimedSubnet:
    """A subnet of a latency campaign: as it was timed, and as predictors say that had not seen it.

    Subnets stand in the order in which they were timed.

    measured_ms: its ratio to the reference × the reference's median over the campaign; error_percent: half the width
        of the ratio's 95 % confidence interval. reference_ms: the reference's own median in the same rounds.
    predicted_ms, low_ms, high_ms: the prediction and its error bar, of a model that was fitted without this subnet
        (None: there is none). macs_line_ms: of a straight line through MACs, likewise.
    size_bytes, memory_bytes (peak resident) and energy_mj (of one inference): None where they were not read.
    began: Unix time. seconds: what it cost, by step (extract, deploy, compile, time). disturbed: blocks that were timed
        again. converged: the error came under its target before the cap of rounds.
    """

    config_digest: str
    role: Literal["fit", "held_out"]
    macs: int
    measured_ms: float
    error_percent: float
    reference_ms: float
    began: float
    seconds: dict[str, float] = field(hash=False)
    rounds: int
    disturbed: int = 0
    converged: bool = True
    predicted_ms: float | None = None
    low_ms: float | None = None
    high_ms: float | None = None
    macs_line_ms: float | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None
    energy_mj: float | None = None


@dataclass(frozen=True, kw_only=True)
class PredictorError:
    """How far one kind of latency predictor, fitted on `samples` subnets, is off on subnets that it had not seen.

    mape_percent: mean absolute error in per cent of the measurement; within_…_percent: how many per cent of the
    subnets are predicted so well; kendall_tau: of the order; covered_percent: how many measurements lie within the
    error bar. None: not computed.
    """

    kind: str
    samples: int
    mape_percent: float
    within_2_percent: float | None = None
    within_5_percent: float | None = None
    kendall_tau: float | None = None
    covered_percent: float | None = None


@dataclass(frozen=True, kw_only=True)
class LatencyReport:
    """A latency campaign and the predictor that was fitted to it.

    scenario: throughput, where the times are those from one completed inference to the next.
    hw: the name of the hardware, which is that of its folder in the run's `latency/`.
    kind: of the predictor that was kept. kinds: those that were compared by cross-validation. held_out: errors on the
    subnets of that role, the kept kind first, then baselines. learning: the same by the number of samples, by kind.
    reference_ms: the reference's median over the campaign. coverage_percent: what an error bar promises. noise_percent:
    by how much two timings of one subnet differ (median), where that was measured.
    """

    run: str
    hw: str
    kind: str
    reference_ms: float
    scenario: Literal["latency", "throughput"] = "latency"
    subnets: tuple[TimedSubnet, ...]
    kinds: tuple[PredictorError, ...] = ()
    held_out: tuple[PredictorError, ...] = ()
    learning: tuple[PredictorError, ...] = ()
    coverage_percent: float = 95.0
    noise_percent: float | None = None
    hardware: dict[str, Any] = field(default_factory=dict, hash=False)
    protocol: dict[str, Any] = field(default_factory=dict, hash=False)
    notes: tuple[str, ...] = ()
