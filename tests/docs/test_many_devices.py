"""The examples for Ray in docs/many_devices.md: what a worker does, done here without Ray."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bnas.cluster import RayConfig
from bnas.search import SearchConfig, parallel
from bnas.search.worker import Answer, Worker, decode, encode

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "many_devices.md").read_text(encoding="utf-8")


def test_a_rays_worker_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, attributes in (
        ("ray", ()),
        ("ray.train", ("ScalingConfig",)),
        ("ray.train.torch", ("TorchTrainer",)),
    ):
        module = ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, None)
        monkeypatch.setitem(sys.modules, name, module)
    space = example("on_ray")
    images = {"name": "embedded", "train_images": 128, "val_images": 50, "test_images": 50}
    space["work"]({"folder": str(tmp_path), "data": images, "epochs": 1.0})
    weights = load_file(tmp_path / "supernet.safetensors")
    assert "fc.weight" in weights
    assert all(bool(value.isfinite().all()) for value in weights.values())
    assert list((tmp_path / "checkpoints").glob("*.pt"))
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_search_with_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = ModuleType("tables")
    vars(tables).update(example("tables"))
    monkeypatch.setitem(sys.modules, "tables", tables)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    asked: list[tuple[int, RayConfig]] = []

    @contextmanager
    def one_worker_here(
        factory: str, arguments: dict[str, Any], workers: int, ray: RayConfig
    ) -> Iterator[Any]:
        asked.append((workers, ray))
        worker = Worker()
        threads = torch.get_num_threads()
        assert not decode(Answer, worker.begin(factory, json.dumps(arguments), threads, "")).error
        yield SimpleNamespace(
            map=lambda jobs: (decode(Answer, worker.evaluate(encode(job))).values for job in jobs)
        )

    monkeypatch.setattr(parallel, "ray_pool", one_worker_here)
    front = example("search_on_ray")["front"]
    assert asked == [(8, RayConfig(address="local"))]
    assert len(front.evaluations) == 40
    assert front.evaluations[0].values == {"top1_percent": 4 * 192**0.5, "latency_ms": 1.92}


@pytest.mark.parametrize(("section", "options"), [("search", SearchConfig()), ("ray", RayConfig())])
def test_options_named_exist(section: str, options: Any) -> None:
    named = set(re.findall(rf"\b{section}\.(\w+)(?:=| seconds|`)", PAGE))
    assert named
    assert all(hasattr(options, option) for option in named)


def example(name: str) -> dict[str, Any]:
    """What the page's file of that name defines."""
    (code,) = re.findall(rf"^```python file={name}\.py\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)
    space: dict[str, Any] = {"__name__": name}
    exec(compile(code, "docs/many_devices.md", "exec", dont_inherit=True), space)
    return space
