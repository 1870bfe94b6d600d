from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_networks import small_net

from bnas.errors import ExportError
from bnas.export import TorchExport, export
from bnas.export.pt2_archive import checked
from bnas.export.torch_export import load_program

EXAMPLE = torch.zeros(1, 3, 16, 16)


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "net.pt2"
    export(small_net(), TorchExport(batch=None), path, EXAMPLE)
    return path


def changed(good: Path, path: Path, change: Callable[[str, bytes], bytes], **further: bytes) -> Path:
    """A copy of an archive with other contents, and with further files in it."""
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as target:
        for name in source.namelist():
            target.writestr(name, change(name, source.read(name)))
        root = source.namelist()[0].partition("/")[0]
        for name, data in further.items():
            target.writestr(f"{root}/{name.replace('__', '/')}", data)
    return path


def unchanged(name: str, data: bytes) -> bytes:
    return data


def graph(change: Callable[[dict], None]) -> Callable[[str, bytes], bytes]:
    def apply(name: str, data: bytes) -> bytes:
        if "models/" not in name:
            return data
        content = json.loads(data)
        change(content)
        return json.dumps(content).encode()

    return apply


def test_what_bnas_writes_is_harmless(good: Path, tmp_path: Path) -> None:
    file, libraries = checked(good)
    assert (file.getvalue(), libraries) == (good.read_bytes(), {"aten"})
    assert len(list(load_program(changed(good, tmp_path / "same.pt2", unchanged)).graph.nodes)) > 5


def test_a_pickle_is_not_run(good: Path, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(((Evil(tmp_path / "pickled"),), {}), buffer)

    def put_in(name: str, data: bytes) -> bytes:
        return buffer.getvalue() if "sample_inputs" in name else data

    with pytest.raises(ExportError, match=r"evil\.pt2: torch .* cannot load it"):
        load_program(changed(good, tmp_path / "evil.pt2", put_in))
    assert not (tmp_path / "pickled").exists()
    buffer.seek(0)
    torch.load(buffer, weights_only=False)
    assert (tmp_path / "pickled").is_dir()  # so it would have been


def test_pickled_objects_and_native_libraries_are_refused(good: Path, tmp_path: Path) -> None:
    evil = pickle.dumps(Evil(tmp_path / "pickled"))
    path = changed(good, tmp_path / "a.pt2", unchanged, data__constants__opaque_obj_0=evil)
    with pytest.raises(
        ExportError, match=r"is not loaded: it holds a pickled object .*opaque_obj_0.*trusted=True"
    ):
        load_program(path)
    path = changed(good, tmp_path / "b.pt2", unchanged, data__aotinductor__model__wrapper=b"\x7fELF")
    with pytest.raises(ExportError, match="it holds a native library"):
        load_program(path)
    assert checked(path, trusted=True)[0].getvalue() == path.read_bytes()


def test_two_files_of_one_name_are_refused(good: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(good) as archive:
        name = next(name for name in archive.namelist() if "models/" in name)
    path = changed(good, tmp_path / "net.pt2", unchanged, **{name.partition("/")[2].upper(): b"{}"})
    with pytest.raises(ExportError, match="two of its files have the same name"):
        load_program(path)


@pytest.mark.parametrize(
    "target", ["torch.os.system", "torch.ops.load_library", "torch.ops.aten.from_file", "math.nan"]
)
def test_a_graph_that_calls_anything_else_is_refused(good: Path, tmp_path: Path, target: str) -> None:
    def call(content: dict) -> None:
        content["graph_module"]["graph"]["nodes"][-1]["target"] = target

    with pytest.raises(ExportError, match=f"its graph calls '{target}'"):
        load_program(changed(good, tmp_path / "evil.pt2", graph(call)))


def test_sizes_are_sums_and_products(good: Path, tmp_path: Path) -> None:
    found = []

    def call(content: dict) -> None:
        def walk(x: object) -> None:
            for key, value in (
                x.items() if isinstance(x, dict) else enumerate(x) if isinstance(x, list) else ()
            ):
                if key == "expr_str":
                    found.append(value)
                    x[key] = "__import__('os').getcwd()"  # type: ignore[index]
                walk(value)

        walk(content)

    path = changed(good, tmp_path / "evil.pt2", graph(call))
    assert found  # the number of images, at least
    with pytest.raises(ExportError, match=r"its sizes say '__import__"):
        load_program(path)


def test_another_version_is_named(good: Path, tmp_path: Path) -> None:
    def later(content: dict) -> None:
        content["schema_version"], content["torch_version"] = {"major": 99, "minor": 1}, "9.9.0"

    said = rf"new\.pt2 was written by torch 9\.9\.0 \(schema 99\.1\), this is torch {torch.__version__.split('+')[0]}"
    with pytest.raises(ExportError, match=said):
        load_program(changed(good, tmp_path / "new.pt2", graph(later)))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_said(good: Path, tmp_path: Path, share: float) -> None:
    data = good.read_bytes()
    (tmp_path / "cut.pt2").write_bytes(data[: int(share * len(data))])
    with pytest.raises(ExportError, match=r"cut\.pt2 cannot be read: it is cut off") as error:
        load_program(tmp_path / "cut.pt2")
    assert "\n" not in str(error.value)
