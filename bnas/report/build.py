"""From measured numbers to the files of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bnas.files import write_json, write_text
from bnas.report.page import page
from bnas.report.types import LatencyReport, Report, SubnetReport


def subnet_report(
    *,
    name: str,
    config: Mapping[str, int],
    metric_fp32_percent: float,
    metric_int8_percent: float,
    latency_ms: float,
    latency_p10_ms: float,
    latency_p90_ms: float,
    latency_fp32_ms: float,
    throughput_per_s: float,
    macs: int,
    parameters: int,
    size_bytes: int,
    command: str,
    reference: SubnetReport | None = None,
    predicted_latency_ms: float | None = None,
    latency_fp32_p10_ms: float | None = None,
    latency_fp32_p90_ms: float | None = None,
    details: Mapping[str, float] | None = None,
) -> SubnetReport:
    """A row of the report with its speed-ups against `reference`; without one it is the reference itself.

    Latencies of a subnet and of its reference must come from one interleaved measurement.
    """
    original_int8_ms = latency_ms if reference is None else reference.latency_ms
    original_fp32_ms = latency_fp32_ms if reference is None else reference.latency_fp32_ms
    return SubnetReport(
        name=name,
        config=dict(config),
        metric_fp32_percent=metric_fp32_percent,
        metric_int8_percent=metric_int8_percent,
        latency_ms=latency_ms,
        latency_fp32_ms=latency_fp32_ms,
        latency_p10_ms=latency_p10_ms,
        latency_p90_ms=latency_p90_ms,
        throughput_per_s=throughput_per_s,
        macs=macs,
        parameters=parameters,
        size_bytes=size_bytes,
        speedup_vs_fp32=original_fp32_ms / latency_ms,
        speedup_vs_int8=original_int8_ms / latency_ms,
        predicted_latency_ms=predicted_latency_ms,
        command=command,
        latency_fp32_p10_ms=latency_fp32_p10_ms,
        latency_fp32_p90_ms=latency_fp32_p90_ms,
        details=dict(details or {}),
    )


def write_report(report: Report, folder: Path, latency: LatencyReport | None = None) -> tuple[Path, Path]:
    """Write `report.json` and `report.html` into `folder`; returns their paths. `latency`: see `page`.

    Raises:
        MissingPackageError: plotly is not installed.
        RunError: a file cannot be written.
    """
    html = page(report, latency)
    json_path, html_path = folder / "report.json", folder / "report.html"
    write_json(json_path, report)
    write_text(html_path, html)
    return json_path, html_path
