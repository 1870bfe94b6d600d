from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnas.errors import MissingPackageError
from bnas.report import Report
from bnas.report.png import DPI, SIZE_INCHES, png_figures, write_png

Make = Callable[..., Report]
NAMES = ("front", "hypervolume", "importance", "prediction")


def pixels(path: Path) -> np.ndarray:
    """[height, width, 4] of an 8-bit RGBA file without interlacing, by the PNG specification, filters undone."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, packed, width, height = 8, b"", 0, 0
    while place < len(data):
        (length,), kind = struct.unpack(">I", data[place : place + 4]), data[place + 4 : place + 8]
        own = data[place + 8 : place + 8 + length]
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", own)
            assert rest == [8, 6, 0, 0, 0]
        elif kind == b"IDAT":
            packed += own
        place += 12 + length
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 4 * width + 1)
    # The bytes of filtered lines are enough to tell a figure from an empty page.
    return lines[:, 1:].reshape(height, width, 4)


@pytest.fixture(scope="module")
def written(make_report: Make, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_png(make_report(), tmp_path_factory.mktemp("run") / "figures")


def test_each_figure_is_a_file_of_its_size_and_not_empty(written: tuple[Path, ...]) -> None:
    assert [path.name for path in written] == [f"{name}.png" for name in NAMES]
    for path in written:
        found = pixels(path)
        assert found.shape[:2] == (round(DPI * SIZE_INCHES[1]), round(DPI * SIZE_INCHES[0]))
        assert len(np.unique(found.reshape(-1, 4), axis=0)) > 20


def test_the_axes_say_what_they_show(make_report: Make) -> None:
    figures = png_figures(make_report())
    labels = {
        name: [(a.get_xlabel(), a.get_ylabel()) for a in figure.axes] for name, figure in figures.items()
    }
    assert labels == {
        "front": [("latency, ms, batch 1", "top-1, validation images, %")],
        "hypervolume": [("subnets evaluated", "hypervolume"), ("", "Kendall’s tau, held out")],
        "importance": [("share of the variance", "choice")],
        "prediction": [("predicted latency, ms", "measured latency, ms")],
    }


def test_the_front_has_the_points_of_the_report(make_report: Make) -> None:
    report = make_report()
    drawn = {own.get_label(): own.get_offsets() for own in png_figures(report)["front"].axes[0].collections}
    assert np.allclose(
        np.array(drawn["front, predicted"]),
        [(p.predicted_latency_ms, p.metric_percent) for p in report.front],
    )
    assert np.allclose(np.array(drawn["original, INT8"]), [(1.62, 92.2)])


def test_equal_reports_give_equal_files(make_report: Make, written: tuple[Path, ...], tmp_path: Path) -> None:
    again = write_png(make_report(), tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]


def test_what_there_is_no_data_for_is_not_drawn(make_report: Make, tmp_path: Path) -> None:
    bare = make_report(front=(), evaluations=(), hypervolume=(), importance=(), rounds=(), subnets=())
    assert list(png_figures(bare)) == ["front"]
    (tmp_path / "importance.png").write_text("of a former report")
    assert [path.name for path in write_png(bare, tmp_path)] == ["front.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["front.png"]
    assert len(png_figures(make_report(rounds=()))["hypervolume"].axes) == 1


def test_names_are_no_formulas(make_report: Make, tmp_path: Path) -> None:
    report = make_report()
    choices = tuple(
        type(own)(name=f"{own.name}$_{{", dim=own.dim, values=own.values, targets=own.targets)
        for own in report.choices
    )
    told = tuple(
        type(own)(
            value=own.value,
            samples=own.samples,
            r2=own.r2,
            scores={f"{name}$_{{": score for name, score in own.scores.items()},
        )
        for own in report.importance
    )
    assert len(write_png(make_report(choices=choices, importance=told), tmp_path)) == len(NAMES)


def test_without_matplotlib_it_says_how_to_get_it(
    make_report: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = importlib.import_module

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named '{name}'", name="matplotlib")
        return usual(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match=r"matplotlib is not installed; .*'bnas\[figures\]'"):
        write_png(make_report(), tmp_path)
    assert not list(tmp_path.iterdir())
