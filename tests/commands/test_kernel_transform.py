"""Kernels whose smaller sizes are learned transforms, trained by the command and read again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mini import MINI, bnas
from safetensors.torch import load_file

from bnas.commands.project import open_run
from bnas.supernet import extract_subnet

MODEL = """
from torch import nn

def make(num_classes, shape):
    return nn.Sequential(
        nn.Conv2d(shape[0], 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, num_classes),
    )
"""
STAGES = "[{name: kernel, dims: {kernel: 0}, epochs: 1, lr: 0.05}]"


def test_the_matrices_are_trained_kept_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wide.py").write_text(MODEL)
    options = [own for own in MINI if not own.startswith(("model", "train="))]
    result = bnas(
        "train", *options, "model=wide:make", "space.dims=[kernel]", "space.kernel_transform=true",
        f"train={{batch_size: 50, recalibrate_images: 100, precision: float32, stages: {STAGES}}}",
        cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    weights = load_file(tmp_path / "runs" / "mini" / "weights" / "supernet.safetensors")
    (name,) = [name for name in weights if name.startswith("kernel_transforms.")]
    matrix = weights[name]
    assert matrix.shape == (9, 9)
    assert not torch.equal(matrix, torch.eye(9))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    supernet = open_run("runs/mini").supernet(trained=True)
    kernel = extract_subnet(supernet, supernet.space.smallest).get_submodule("0").weight
    centre = weights["model.0.weight"][:, :, 1:4, 1:4].flatten(2)
    torch.testing.assert_close(kernel.detach().flatten(2), centre @ matrix.T)
