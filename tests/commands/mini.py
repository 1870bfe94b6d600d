"""A run of the whole pipeline that takes seconds: the quickstart on few images with a tiny network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

MINI = (
    "conf=quickstart",
    "name=mini",
    "threads=1",
    "hw.threads=1",
    "front_size=3",
    "model.options={widths: [8, 16], depths: [2, 2]}",
    "data.train_images=400",
    "data.val_images=200",
    "data.test_images=200",
    "pretrain={epochs: 2, warmup_epochs: 0, batch_size: 50, checkpoint_seconds: 0.2, precision: float32}",
    "train={batch_size: 50, checkpoint_seconds: 0.2, recalibrate_images: 100, precision: float32, stages: ["
    "{name: depth, dims: {depth: 0}, epochs: 1, lr: 0.05}, "
    "{name: depth-width, dims: {depth: 0, width: 0}, epochs: 2, lr: 0.05, reorder: true}]}",
    "measure={samples: 6, holdout: 2, retries: 0, min_rounds: 2, max_rounds: 2, block_ms: 1, warmup_ms: 1, "
    "max_ratio_error_percent: 1000}",
    "search={evaluations: 8, population: 4}",
    "quantize.samples=20",
)


def bnas(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m bnas …` as a person runs it, in `cwd`."""
    env = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", **environment}
    return subprocess.run(
        [sys.executable, "-m", "bnas", *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
