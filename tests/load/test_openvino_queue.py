from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import patterns, small_net

from bnas.errors import MeasureError
from bnas.export import OpenVinoIR, export
from bnas.load import OpenVinoQueue


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("queue") / "net.xml"
    export(small_net(), OpenVinoIR(), path, patterns(1))
    return path


@pytest.mark.parametrize(("hint", "batch"), [("LATENCY", 1), ("LATENCY", 8), ("THROUGHPUT", 3)])
def test_gives_what_the_network_gives(file: Path, hint: str, batch: int) -> None:
    """Also for fewer images than fill a batch; each answer goes to who asked."""
    queue = OpenVinoQueue(file, hint=hint, threads=1, batch=batch)  # type: ignore[arg-type]
    images = patterns(7)
    found: dict[int, np.ndarray] = {}
    for first in range(0, 7, batch):
        chunk = images[first : first + batch]
        queue.start(
            [image[None].numpy() for image in chunk], lambda out, at=first: found.update({at: out.copy()})
        )
    queue.wait()
    with torch.no_grad():
        wanted = small_net()(images).numpy()
    got = np.concatenate([found[first] for first in sorted(found)])
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_streams(file: Path) -> None:
    assert OpenVinoQueue(file, hint="LATENCY", threads=2).streams == 1
    asked = min(2, len(os.sched_getaffinity(0)))  # OpenVINO gives no more than there are CPUs
    many = OpenVinoQueue(file, hint="THROUGHPUT", threads=2, streams=asked)
    assert (many.streams, many.requests) == (asked, asked)
    assert many.images_per_s(patterns(1).numpy(), 0.001) > 0


def test_more_streams_than_threads(file: Path) -> None:
    with pytest.raises(
        MeasureError, match=r"load.streams: 3 inferences at once need as many threads; this run has 2"
    ):
        OpenVinoQueue(file, hint="THROUGHPUT", threads=2, streams=3)


def test_other_images(file: Path) -> None:
    queue = OpenVinoQueue(file, hint="LATENCY", threads=1)
    queue.check_takes(patterns(1).numpy())
    with pytest.raises(MeasureError, match=r"takes f32 \[3, 16, 16\], the run's images are f32 \[1, 8, 8\]"):
        queue.check_takes(np.zeros((1, 1, 8, 8), np.float32))


def test_damaged_files(file: Path, tmp_path: Path) -> None:
    with pytest.raises(MeasureError, match="does not exist"):
        OpenVinoQueue(tmp_path / "net.xml", hint="LATENCY", threads=1)
    copy = tmp_path / "cut.xml"
    copy.write_bytes(file.read_bytes())
    copy.with_suffix(".bin").write_bytes(file.with_suffix(".bin").read_bytes()[:100])
    with pytest.raises(MeasureError, match=r"cut\.xml"):
        OpenVinoQueue(copy, hint="LATENCY", threads=1)
