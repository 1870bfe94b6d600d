"""What a report holds. `to_plain(Report)` is `report.json`: no dates and no durations, so that two equal runs
give equal files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bnas.space import SubnetConfig


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A member of the front after measuring: accuracies on the validation images, latency on the device
    (INT8, batch 1, median) beside what was predicted."""

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
