"""Detectors made smaller: `python -m benchmarks.detection [--quick] [--deepforest FOLDER] [--keep FOLDER] [--cases …]`.

Each case is one `python -m bnas run conf=detection …`, as a user starts it: a detector is pretrained, made a
super-network, subnets are searched by mAP and latency, fine-tuned, and quantized to INT8. Scenes composed from the
embedded images with RetinaNet and with SSD at 256×256 pixels; with --deepforest real photographs with hand-drawn boxes
as well. Prints each run's table, then the figures of all with their spread over the seeds. A killed run goes on with
--keep. An hour or more each on two cores; --quick shows the way in minutes, far from what the detectors can learn.

The published result to compare with, on other images and another machine: BootstrapNAS' RetinaNet of MLPerf Inference
v3.0, 1.52 times the Offline samples/s of the closed division's INT8 model at 0.43 points more mAP.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.detection_cases import CASES, Case, arguments, chosen
from benchmarks.outcome import Bar, print_outcome
from bnas.files import read_json
from bnas.report import Report, markdown_table

PUBLISHED_SPEEDUP, PUBLISHED_POINTS = 1.52, 0.43
LOST_POINTS = 1.0  # of mAP that subnet B may lose to the original network in FP32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few scenes, one epoch of pretraining")
    parser.add_argument("--deepforest", type=Path, help="the folder with the package's photographs and boxes")
    parser.add_argument("--keep", type=Path, help="keep the runs in this folder, and go on with them")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="only these")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each case")
    options = parser.parse_args()
    cases, left_out = chosen(options.cases, options.deepforest)
    print("\n".join(left_out), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (options.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found = {
            case.name: [_run(case, folder, options, seed) for seed in range(options.seeds)] for case in cases
        }
    figures = {name: spread(runs) for name, runs in found.items()}
    for name, own in figures.items():
        print(f"\n{CASES[name].title}, {options.seeds} run(s)")
        for key, value in own.items():
            print(f"{key:<34} median {value['median']:9.3f}   {value['least']:.3f} … {value['most']:.3f}")
    print(
        f"\nMLPerf's reference (RetinaNet, OpenImages): {PUBLISHED_SPEEDUP} × Offline at +{PUBLISHED_POINTS} points of "
        "mAP against the closed division's INT8 model\n"
    )
    print_outcome("detection", {"quick": options.quick, "seeds": options.seeds, **figures}, bars(figures))


def _run(case: Case, folder: Path, options: argparse.Namespace, seed: int) -> dict[str, float]:
    """One run as a user starts it; its figures."""
    name = f"{case.name}_{seed}"
    words = arguments(
        case,
        name,
        folder,
        seed=seed,
        quick=options.quick,
        photographs=None if options.deepforest is None else options.deepforest.resolve(),
        starts_from=f"{case.starts_from}_{seed}",
    )
    print(f"python -m bnas {' '.join(words)}", flush=True)
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "bnas", *words], cwd=folder, check=True)
    report = read_json(folder / "runs" / name / "report.json", Report)
    print(
        f"\n{case.title}, seed {seed}: {time.monotonic() - begin:.0f} s in this process; latencies at batch 1, "
        f"{report.protocol['threads']} threads, medians\n\n{markdown_table(report)}",
        flush=True,
    )
    return figures_of(report)


def figures_of(report: Report) -> dict[str, float]:
    """mAP and latency (median; of INT8 also the 10th and 90th percentile) of the original and of every subnet, in both
    precisions, and speed-ups of INT8.

    `speedup_at_published_points`: over the INT8 original, of the fastest subnet that has `PUBLISHED_POINTS` more mAP
    in INT8 than it; `speedup_without_loss`: of the fastest that has no less. 0: no subnet has.
    """
    original = report.reference
    found: dict[str, float] = {}
    for own in (original, *report.subnets):
        name = "original" if own is original else own.name
        found |= {
            f"{name}_map_fp32_percent": own.metric_fp32_percent,
            f"{name}_map_int8_percent": own.metric_int8_percent,
            f"{name}_latency_fp32_ms": own.latency_fp32_ms,
            f"{name}_latency_int8_ms": own.latency_ms,
            f"{name}_latency_int8_p10_ms": own.latency_p10_ms,
            f"{name}_latency_int8_p90_ms": own.latency_p90_ms,
        }
        if own is not original:
            found |= {
                f"{name}_speedup_vs_fp32": own.speedup_vs_fp32,
                f"{name}_speedup_vs_int8": own.speedup_vs_int8,
                f"{name}_lost_points": original.metric_fp32_percent - own.metric_int8_percent,
            }
    found["speedup_at_published_points"] = _fastest(report, PUBLISHED_POINTS)
    found["speedup_without_loss"] = _fastest(report, 0.0)
    return found


def _fastest(report: Report, points: float) -> float:
    least = report.reference.metric_int8_percent + points
    return max(
        (own.speedup_vs_int8 for own in report.subnets if own.metric_int8_percent >= least), default=0.0
    )


def spread(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Median, least and most of each figure that every run has."""
    return {
        key: {"median": median(values), "least": min(values), "most": max(values)}
        for key in runs[0]
        if all(key in own for own in runs)
        for values in [[own[key] for own in runs]]
    }


def bars(figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Bar]:
    """What each case should reach: the published speed-up at the published gain; B within `LOST_POINTS`."""
    found = {}
    for name, own in figures.items():
        gain = f"{name}: speed-up over the INT8 original at {PUBLISHED_POINTS} points of mAP more"
        found[gain] = Bar(value=own["speedup_at_published_points"]["median"], goal=f">= {PUBLISHED_SPEEDUP}")
        if "B_lost_points" in own:
            found[f"{name}: points of mAP that B in INT8 loses to the FP32 original"] = Bar(
                value=own["B_lost_points"]["median"], goal=f"<= {LOST_POINTS:g}"
            )
    return found


if __name__ == "__main__":
    main()
