"""What a run hands over: `python -m benchmarks.handoff --run FOLDER`, the folder of a run that was verified.

The original network in FP32 and INT8 and every subnet in INT8 under LoadGen's Offline load, in turn, in one
run; with the accuracies that `bnas verify` found on the test images. The subnet it judges is the one with the most
samples a second among those that lose under a point to the original in FP32. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from benchmarks.outcome import Bar, print_outcome
from bnas import progress
from bnas.commands.bench import bench
from bnas.commands.extract import REFERENCE
from bnas.commands.project import open_run
from bnas.commands.verify import Deployed, Verification
from bnas.files import read_json
from bnas.load import Comparison, LoadConfig, print_load

POINTS = 1.0  # that the subnet may lose


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, required=True, help="the folder of a run that was verified")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one test of one network")
    parser.add_argument("--rounds", type=int, default=5, help="in which all networks take turns")
    options = parser.parse_args()
    progress.enable()
    project = open_run(options.run)
    networks = read_json(project.folder.path("verified.json"), Verification).networks
    config = LoadConfig(
        scenarios=("Offline",), seconds=options.seconds, rounds=options.rounds, accuracy=False
    )
    found = bench(project, config)
    print_load(found.rows, found.comparisons)
    for name, own in networks.items():
        print(
            f"{name}: {found.macs.get(f'{name}/int8', 0) / 1e6:.1f} M MACs, top-1 {own['fp32'].metric_percent:.2f} % "
            f"in FP32, {own['int8'].metric_percent:.2f} % in INT8"
        )
    best = best_under(networks, {own.network.partition("/")[0]: own for own in found.comparisons})
    print_outcome("handoff", {"bench": found, "verified": networks, "best": best}, bars(networks, best))


def best_under(
    networks: Mapping[str, Mapping[str, Deployed]], comparisons: Mapping[str, Comparison]
) -> Comparison | None:
    """The subnet with the most samples a second of those that lose `POINTS` at most; None: none does."""
    least = networks[REFERENCE]["fp32"].metric_percent - POINTS
    good = [
        comparisons[name]
        for name, own in networks.items()
        if name != REFERENCE and own["int8"].metric_percent >= least
    ]
    return max(good, key=lambda own: own.to_fp32 or 0.0, default=None)


def bars(networks: Mapping[str, Mapping[str, Deployed]], best: Comparison | None) -> dict[str, Bar]:
    """The published figures to reach are those of an ImageNet network (docs/results.md)."""
    lost = {name: own["fp32"].metric_percent - own["int8"].metric_percent for name, own in networks.items()}
    found = {
        f"{name}: points lost to INT8": Bar(value=points, goal="<= 0.3") for name, points in lost.items()
    }
    what = f"best under {POINTS:g} point" + (f" ({best.network})" if best else "")
    for text, value, goal in (
        ("times the FP32 original's samples/s", best and best.to_fp32, 16.8),
        ("times the INT8 original's samples/s", best and best.to_int8, 4.5),
        ("speed-up ÷ ratio of MACs", best and best.per_macs, 0.95),
    ):
        found[f"{what}: {text}"] = Bar(value=value or 0.0, goal=f">= {goal}")
    return found


if __name__ == "__main__":
    main()
