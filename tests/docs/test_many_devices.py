"""The example for Ray Train in docs/many_devices.md: what a worker does, done here without Ray."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "many_devices.md").read_text(encoding="utf-8")


def test_a_rays_worker_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"^```python file=on_ray\.py\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
    for name, attributes in (
        ("ray", ()),
        ("ray.train", ("ScalingConfig",)),
        ("ray.train.torch", ("TorchTrainer",)),
    ):
        module = ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, None)
        monkeypatch.setitem(sys.modules, name, module)
    space: dict[str, Any] = {"__name__": "on_ray"}
    exec(compile(code, "docs/many_devices.md", "exec", dont_inherit=True), space)
    images = {"name": "embedded", "train_images": 128, "val_images": 50, "test_images": 50}
    space["work"]({"folder": str(tmp_path), "data": images, "epochs": 1.0})
    weights = load_file(tmp_path / "supernet.safetensors")
    assert "fc.weight" in weights
    assert all(bool(value.isfinite().all()) for value in weights.values())
    assert list((tmp_path / "checkpoints").glob("*.pt"))
    assert list((tmp_path / "tensorboard").iterdir())
