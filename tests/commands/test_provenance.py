from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
import torchvision

from bnas.commands.invocation import Invocation
from bnas.commands.project import Project, open_project
from bnas.commands.provenance import licences, origin_of_weights, versions

DATA = Path(__file__).parents[2] / "bnas/data/fashion_mnist"


def project(tmp_path: Path, *overrides: str) -> Project:
    """A run that is only asked about."""
    line = (
        f"runs={tmp_path}",
        "data.train_images=100",
        "data.val_images=100",
        "data.test_images=100",
        *overrides,
    )
    return open_project(Invocation(command="report", conf="mobilenet_v2", overrides=line))


def weights(own: Project) -> tuple[str, str, str]:
    of, told = origin_of_weights(own), licences(own)[1]
    return of, told.licence, told.source


def test_weights_that_the_run_made(tmp_path: Path) -> None:
    origin, licence, source = weights(project(tmp_path, "model.weights=none"))
    assert origin == "trained by this run on embedded from random weights"
    assert licence == "yours"
    assert "random weights" in source


@pytest.mark.parametrize("head", ["new", "same"])
def test_weights_of_a_file(tmp_path: Path, head: str) -> None:
    path = tmp_path / "own.pth"
    torch.save(torchvision.models.mobilenet_v2(num_classes=10).state_dict(), path)
    origin, licence, source = weights(project(tmp_path, f"model.weights={path}", f"model.head={head}"))
    assert f"the weights {path} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()})" in origin
    assert ("new last layer" in origin) == (head == "new")
    assert licence == "not known"
    assert str(path) in source


def test_published_weights(tmp_path: Path) -> None:
    """torchvision's README: pretrained models "may have their own licenses or terms and conditions"."""
    origin, licence, source = weights(project(tmp_path))
    assert "IMAGENET1K_V2" in origin
    assert "SHA-256" not in origin
    assert licence == "not known"
    assert "may have terms of their own" in source


def test_the_licence_of_the_embedded_images_is_that_of_the_file_beside_them(tmp_path: Path) -> None:
    told = licences(project(tmp_path))[2]
    assert told.licence in (DATA / "LICENCE").read_text().splitlines()[0]
    assert "Zalando SE" in told.source
    assert "Zalando SE" in (DATA / "LICENCE").read_text()


def test_versions_are_those_that_are_installed() -> None:
    told = versions()
    assert told["torch"] == version("torch")
    assert told["openvino"] == version("openvino")
    assert list(told)[:2] == ["python", "bnas"]
