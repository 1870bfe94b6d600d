from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from bnas.errors import MeasureError
from bnas.measure import HwConfig
from bnas.measure.remote.package import Store, pack

EXAMPLE = torch.zeros(1, 3, 8, 8)


def test_an_artefact_travels_with_its_weights_and_arrives_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "net.xml").write_bytes(b"structure")
    (tmp_path / "net.bin").write_bytes(b"weights")
    (tmp_path / "other.bin").write_bytes(b"of another network")
    package, paths = pack(tmp_path / "net.xml", HwConfig(), EXAMPLE, tmp_path)
    assert [file.name for file in package.files] == ["net.xml", "net.bin"]
    assert package.files[1].sha256 == hashlib.sha256(b"weights").hexdigest()
    assert package.shape == (1, 3, 8, 8)
    store = Store(tmp_path / "store")
    for sha256, path in paths.items():
        store.add(sha256, [path.read_bytes()[:2], path.read_bytes()[2:]])
    main = store.place(package, "network")
    assert main.read_bytes() == b"structure"
    assert main.with_suffix(".bin").read_bytes() == b"weights"


def test_a_damaged_file_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    sha256 = hashlib.sha256(b"whole").hexdigest()
    with pytest.raises(MeasureError, match="damaged on its way"):
        store.add(sha256, [b"whale"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_oldest_files_make_room(tmp_path: Path) -> None:
    store = Store(tmp_path, limit_bytes=250)
    sums = [hashlib.sha256(bytes([i]) * 100).hexdigest() for i in range(3)]
    for i, sha256 in enumerate(sums):
        store.add(sha256, [bytes([i]) * 100])
    assert {path.name for path in (tmp_path / "files").iterdir()} == set(sums[1:])


def test_networks_of_a_backend_without_files_are_refused(tmp_path: Path) -> None:
    hw = HwConfig(backend="torch_eager", precision="f32", where="worker", address="http://127.0.0.1:1")
    with pytest.raises(
        MeasureError, match=r"torch_eager cannot be sent .* expected one of openvino, onnxruntime"
    ):
        pack(torch.nn.Conv2d(3, 3, 3).eval(), hw, EXAMPLE, tmp_path)
    with pytest.raises(MeasureError, match="does not exist"):
        pack(tmp_path / "none.xml", hw, EXAMPLE, tmp_path)
