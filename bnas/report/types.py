"""What a report holds. `to_plain(Report)` is `report.json`: no dates and no durations, so that two equal runs
give equal files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from bnas.search import Constraint, Objective, Round
from bnas.space import Choice, SubnetConfig


@dataclass(frozen=True, kw_only=True)
class Verified:
    """A member of the front after measuring: the task's metric on the validation images, latency on the device
    (INT8, batch 1, median) beside what was predicted, at the speed that the machine had meanwhile.

    predicted, measured: the same by the names of the search's objectives and constraints, as `throughput_per_s@HW`; of
    the task's metric what the search found and what the INT8 network has. Not measured: what is not in `measured`.
    """

    config: SubnetConfig
    metric_fp32_percent: float
    metric_int8_percent: float
    latency_ms: float
    predicted_latency_ms: float
    macs: int
    parameters: int
    latency_p10_ms: float | None = None
    latency_p90_ms: float | None = None
    predicted: dict[str, float] = field(default_factory=dict, hash=False)
    measured: dict[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """A file of a subnet; `path` is relative to the run folder."""

    path: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """`subnets/<name>/finetuned.json`: a subnet's `metric` before and after it was trained on, on `images` images of
    the validation split; `kept`: it became better and the new weights are used."""

    metric: str
    before: float
    after: float
    kept: bool
    images: int


@dataclass(frozen=True, kw_only=True)
class SubnetReport:
    """One network of the table. The metric is on the test images, which nothing was chosen by; `latency_ms`, its
    10th and 90th percentile and `throughput_per_s` are INT8, latencies at batch 1; speed-ups are of the
    INT8 subnet against the original network; `command` makes the subnet again; `files` are its own.
    `finetuned`: None where it was not trained on its own. `details`: what else the task tells of the INT8 network, by
    name, as a detector's precision by the size of objects."""

    name: str
    config: dict[str, int] = field(hash=False)
    metric_fp32_percent: float
    metric_int8_percent: float
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
    files: tuple[FileReport, ...] = ()
    finetuned: Finetuned | None = None
    details: dict[str, float] = field(default_factory=dict, hash=False, metadata={"plain": "unless default"})


@dataclass(frozen=True, kw_only=True)
class FrontPoint:
    """A member of the front on the validation images: as the search saw it (`metric_percent`, not quantized, run
    at the training's precision, against `predicted_latency_ms`) and as measured (INT8). `predicted` and `measured`:
    further values by name, each in both ways. `names`: the chosen subnets it became, if any."""

    config_digest: str
    metric_percent: float
    predicted_latency_ms: float
    metric_int8_percent: float | None = None
    latency_ms: float | None = None
    latency_p10_ms: float | None = None
    latency_p90_ms: float | None = None
    names: tuple[str, ...] = ()
    predicted: dict[str, float] = field(default_factory=dict, hash=False)
    measured: dict[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class EvaluationPoint:
    """A subnet as the search saw it: the metric on the validation images, predicted latency with its error bar.

    indices: of its value of each of the report's `choices`. share: of the images, on which it was evaluated.
    values: all others that the search had, by name.
    """

    metric_percent: float
    latency_ms: float
    config_digest: str = ""
    indices: tuple[int, ...] = ()
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    macs: int | None = None
    share: float = 1.0
    values: dict[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Which choices move a value, as far as `samples` evaluated subnets tell; see `bnas.report.importance`.

    scores: of each choice, the share of the value's variance that is lost when the choice is permuted; empty where the
    subnets are too few. r2: of the model behind it, on subnets that it had not seen.
    """

    value: str
    samples: int
    r2: float | None = None
    scores: dict[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished run. `metric` is what its task is judged by, its unit included, and `metric_label` what people call
    that; values called `metric_…` are of it. `reference` is the original network, as FP32 and as INT8; its two values
    on the validation images place it in the plot of the front, where everything is on those images. `loss_points`: how
    much of the metric subnet B was allowed to lose there.

    `search`: the algorithm and its options. `search_images` and `report_images`: how many images the search decided by,
    and how many, which decided nothing, the numbers of `subnets` are on. `failed`: how many subnets could not be
    evaluated, by the reason. `rounds`: what the search's predictors were worth. `choices` are those of the space.
    """

    run: str
    task: str = "classification"
    metric: str = "top1_percent"
    metric_label: str = "top-1"
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
    search: dict[str, Any] = field(default_factory=dict, hash=False)
    search_images: int | None = None
    report_images: int | None = None
    objectives: tuple[Objective, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    failed: dict[str, int] = field(default_factory=dict, hash=False)
    rounds: tuple[Round, ...] = ()
    choices: tuple[Choice, ...] = ()
    importance: tuple[Importance, ...] = ()


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
