"""A latency campaign for TensorBoard, as curves: it draws no scatter plots without a plotting library, but a curve's
step can be any whole number, so predictions stand at the step of their measured latency."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnas.files import cannot_write
from bnas.report.latency_words import drifts_percent, error_cells, kind_name, off_percent
from bnas.report.types import LatencyReport

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def write_latency_curves(report: LatencyReport, folder: Path) -> None:
    """Write the curves as TensorBoard's files into `folder`; those of an earlier campaign are removed.

    Raises:
        RunError: the folder cannot be written.
    """
    from torch.utils.tensorboard import SummaryWriter  # a second to import, and seldom needed

    try:
        for path in folder.glob("events.out.tfevents.*"):
            path.unlink()
        with SummaryWriter(str(folder)) as writer:
            add_latency_curves(report, writer)
    except OSError as error:
        cannot_write(folder, error.strerror or str(error), error)


def add_latency_curves(report: LatencyReport, writer: SummaryWriter) -> None:
    """Add the report's curves to `writer`.

    `campaign/…` by the number of the subnet in the order of timing; `predicted_against_measured/…` (ms) and
    `residual_percent` by its measured latency in whole microseconds; `learning_curve/…` by the number of samples. The
    tab of custom scalars shows together predictions with their error bars and the line through MACs, and the learning
    curves.
    """
    _add_campaign(report, writer)
    _add_predictions(report, writer)
    for error in report.learning:
        writer.add_scalar(f"learning_curve/{error.kind}", error.mape_percent, error.samples)
    if layout := _layout(report):
        writer.add_custom_scalars(layout)
    if report.held_out:
        writer.add_text("held_out", _markdown(report))


def _add_campaign(report: LatencyReport, writer: SummaryWriter) -> None:
    drifts = drifts_percent(report)
    for number, (subnet, drift) in enumerate(zip(report.subnets, drifts, strict=True), start=1):
        curves = {
            "reference_ms": subnet.reference_ms,
            "drift_percent": drift,
            "error_percent": subnet.error_percent,
            "disturbed_blocks": float(subnet.disturbed),
            **{f"seconds_{step}": seconds for step, seconds in subnet.seconds.items()},
        }
        for name, value in curves.items():
            writer.add_scalar(f"campaign/{name}", value, number, walltime=subnet.began)


def _add_predictions(report: LatencyReport, writer: SummaryWriter) -> None:
    for subnet in sorted(report.subnets, key=lambda subnet: subnet.measured_ms):
        off = off_percent(subnet)
        if off is None:
            continue
        step = round(1000 * subnet.measured_ms)
        curves = {
            "predicted_ms": subnet.predicted_ms,
            "low_ms": subnet.low_ms,
            "high_ms": subnet.high_ms,
            "macs_line_ms": subnet.macs_line_ms,
            "measured_ms": subnet.measured_ms,
        }
        for name, value in curves.items():
            if value is not None:
                writer.add_scalar(f"predicted_against_measured/{name}", value, step)
        writer.add_scalar("residual_percent", off, step)


def _layout(report: LatencyReport) -> Mapping[str, Any]:
    """Which curves TensorBoard's tab of custom scalars draws together."""
    charts: dict[str, dict[str, Any]] = {}
    place = "predicted_against_measured"
    if any(subnet.predicted_ms is not None for subnet in report.subnets):
        charts["latency"] = {
            "predicted, measured (step: measured µs)": [
                "Multiline",
                [f"{place}/{name}" for name in ("predicted_ms", "measured_ms", "macs_line_ms")],
            ]
        }
        if any(subnet.low_ms is not None for subnet in report.subnets):
            bar = [f"{place}/{name}" for name in ("predicted_ms", "low_ms", "high_ms")]
            charts["latency"]["predicted, with its error bar"] = ["Margin", bar]
    if report.learning:
        kinds = dict.fromkeys(error.kind for error in report.learning)
        charts["learning"] = {
            "mean error, %, by samples": ["Multiline", [f"learning_curve/{kind}" for kind in kinds]]
        }
    return charts


def _markdown(report: LatencyReport) -> str:
    heads = ("predictor", "samples", "mean error", "within 2 %", "within 5 %", "Kendall tau", "in error bar")
    rows = [heads, ("---",) * len(heads)]
    rows += [(kind_name(error.kind), *error_cells(error)) for error in report.held_out]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
