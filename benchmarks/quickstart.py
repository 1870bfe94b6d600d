"""The quickstart's table and its bars: `python -m benchmarks.quickstart [--quick] [--keep FOLDER]`.

Runs `python -m bnas run conf=quickstart` in a new folder as a user would, several times with different seeds
unless --quick, and prints every run's figures, then medians with their spread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.outcome import Bar, print_outcome
from bnas.files import read_json
from bnas.report import Report, markdown_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one run instead of three")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        runs = [_run(folder, seed) for seed in range(1 if options.quick else 3)]
    figures = {key: _spread([figures[key] for figures in runs]) for key in runs[0]}
    for key, value in figures.items():
        print(f"{key:<32} median {value['median']:.3f}   {value['least']:.3f} … {value['most']:.3f}")
    bars = {
        "seconds": Bar(value=figures["seconds"]["median"], goal="<= 360"),
        "B: speed-up against the INT8 original": Bar(
            value=figures["b_speedup_vs_int8"]["median"], goal=">= 2"
        ),
        "B: speed-up against the FP32 original": Bar(
            value=figures["b_speedup_vs_fp32"]["median"], goal=">= 6"
        ),
        "B: points of INT8 top-1 lost against the pretrained network": Bar(
            value=figures["b_loss_points"]["median"], goal="<= 1"
        ),
    }
    print_outcome("quickstart", {"repeats": len(runs), **figures}, bars)


def _run(folder: Path, seed: int) -> dict[str, float]:
    """One quickstart as a user runs it; its figures."""
    command = [sys.executable, "-m", "bnas", "run", "conf=quickstart", f"seed={seed}", f"name=seed{seed}"]
    begin = time.monotonic()
    subprocess.run(command, cwd=folder, check=True)
    seconds = time.monotonic() - begin
    report = read_json(folder / "runs" / f"seed{seed}" / "report.json", Report)
    print(f"\nseed {seed}, {seconds:.0f} s, {report.protocol['threads']} threads\n\n{markdown_table(report)}")
    chosen = {subnet.name: subnet for subnet in report.subnets}["B"]
    return {
        "seconds": seconds,
        "b_speedup_vs_int8": chosen.speedup_vs_int8,
        "b_speedup_vs_fp32": chosen.speedup_vs_fp32,
        "b_loss_points": report.reference.metric_fp32_percent - chosen.metric_int8_percent,
        "b_top1_int8_percent": chosen.metric_int8_percent,
        "reference_top1_fp32_percent": report.reference.metric_fp32_percent,
        "reference_latency_fp32_ms": report.reference.latency_fp32_ms,
        "reference_latency_ms": report.reference.latency_ms,
        "b_latency_ms": chosen.latency_ms,
        "b_prediction_error_percent": 100 * abs((chosen.predicted_latency_ms or 0) / chosen.latency_ms - 1),
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "least": min(values), "most": max(values)}


if __name__ == "__main__":
    main()
