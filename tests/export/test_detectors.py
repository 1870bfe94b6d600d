"""A detector in every format, run and verified."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from small_detectors import scenes, small_detector
from torch import Tensor, nn

from bnas import progress
from bnas.detection import RawDetections, completing, deployed
from bnas.errors import ExportError
from bnas.export import (
    ExportConfig,
    Onnx,
    OpenVinoIR,
    Preprocess,
    Quantized,
    TorchExport,
    TorchScript,
    export,
    export_verified,
    load,
    load_all,
    verify,
)
from bnas.export.compare import compare

FORMATS = [(OpenVinoIR, "net.xml"), (Onnx, "net.onnx"), (TorchExport, "net.pt2"), (TorchScript, "net.ts")]
EXAMPLE = torch.zeros(1, 3, 64, 64)


class Changed(nn.Module):
    """A detector with other outputs."""

    def __init__(self, net: nn.Module, *, logits: float = 0, boxes: float = 0, roll: int = 0) -> None:
        super().__init__()
        self.net, self.decoding = net, net.decoding
        self._logits, self._boxes, self._roll = logits, boxes, roll

    def forward(self, images: Tensor) -> RawDetections:
        raw = self.net(images)
        return raw._replace(
            logits=raw.logits.roll(self._roll, 2) + self._logits, boxes=raw.boxes + self._boxes
        )


@pytest.mark.parametrize(("kind", "file"), FORMATS)
@pytest.mark.parametrize("batch", [2, None])
def test_every_format_gives_all_outputs_for_any_number_of_images(
    tmp_path: Path, kind: type[ExportConfig], file: str, batch: int | None
) -> None:
    net, images = small_detector(), scenes(5)
    path = export(net, kind(batch=batch), tmp_path / file, EXAMPLE).path
    with torch.no_grad():
        wanted = deployed(net(images))
    got = load_all(path)(images)
    assert [own.dtype for own in got] == [torch.float32, torch.float32]
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    assert torch.equal(load(path)(images), got[0])


@pytest.mark.parametrize(("kind", "file"), FORMATS)
def test_every_format_is_verified_in_boxes(tmp_path: Path, kind: type[ExportConfig], file: str) -> None:
    net, images = small_detector("softmax"), [scenes(3), scenes(2, seed=1)]
    artefact = export_verified(net, kind(), tmp_path / file, EXAMPLE, net, images)
    assert artefact.agreement_percent == 100
    assert artefact.largest_difference is not None
    assert artefact.largest_difference < 1e-5
    complete = completing(net, EXAMPLE)
    with torch.no_grad():
        logits = net(images[0]).logits
    again = complete(load_all(artefact.path)(images[0])).logits
    torch.testing.assert_close(again.softmax(2), logits.softmax(2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_an_output_is_judged_by_its_own_scale(tmp_path: Path, scores: Literal["sigmoid", "softmax"]) -> None:
    """Regressions are much smaller than logits: what spoils them is little beside these."""
    net, images = small_detector(scores), scenes(6)
    artefact = export(Changed(net, boxes=0.01).eval(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    with torch.no_grad():
        scale = float(net(images).boxes.abs().max())
    assert compare(artefact, net, [images[:4], images[4:]]).relative == pytest.approx(0.01 / scale, rel=1e-3)
    with pytest.raises(ExportError, match=r"outputs differ from the torch module's by up to .* on 6 images"):
        verify(artefact, net, [images])


def test_the_worst_image_is_named(tmp_path: Path) -> None:
    class Spoilt(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net, self.decoding = net, net.decoding

        def forward(self, images: Tensor) -> RawDetections:
            raw = self.net(images)
            return raw._replace(boxes=raw.boxes + (images.mean((1, 2, 3)) > 5).float()[:, None, None])

    net, images = small_detector(), scenes(5)
    images[3] += 10
    artefact = export(Spoilt(net).eval(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    with pytest.raises(ExportError, match=r"\(most on image 3\)"):
        verify(artefact, net, [images[:2], images[2:]])


def test_int8_is_judged_by_boxes(tmp_path: Path) -> None:
    net, images = small_detector(), scenes(8)
    wrong = export(Changed(net, roll=1).eval(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    int8 = replace(wrong, precision="int8")
    with pytest.raises(
        ExportError,
        match=r"agrees with the torch module on .* % of \d+ boxes with a score of 0\.3 or more in 8 images; exp",
    ):
        verify(int8, net, [images])
    assert verify(int8, net, [images], OpenVinoIR(min_agreement_percent=0)).agreement_percent is not None
    good = replace(export(net, OpenVinoIR(), tmp_path / "good.xml", EXAMPLE), precision="int8")
    assert verify(good, net, [images]).agreement_percent == 100


def test_where_few_boxes_are_sure_the_less_sure_ones_judge_and_too_few_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net, images = small_detector(), scenes(8)
    timid = Changed(net, logits=-20).eval()
    artefact = export(timid, OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    assert verify(artefact, timid, [images]).agreement_percent is None
    int8 = replace(artefact, precision="int8")
    with torch.no_grad():
        highest = float(net(images).logits.max())
    unsure = Changed(net, logits=-highest - 0.8).eval()  # of one box, or a few, a score of .31
    with pytest.raises(
        ExportError, match=r"on 0\.0 % of \d\d+ boxes with a score of 0\.[12] or more in 8 images"
    ):
        verify(int8, unsure, [images])
    monkeypatch.setattr(progress._screen, "enabled", True)
    most_unsure = Changed(net, logits=-highest - 2.1).eval()  # .11
    assert verify(int8, most_unsure, [images]).agreement_percent is None
    assert re.fullmatch(
        r"warning: .*/net\.xml: INT8 was not judged: 1?\d boxes with a score of 0\.1 or more in 8 images; it takes 20 to tell\n",
        capsys.readouterr().out,
    )


def test_pre_processing_is_built_in(tmp_path: Path) -> None:
    net, config = small_detector(), OpenVinoIR(preprocess=Preprocess(mean_values=(120,), scale_values=(60,)))
    artefact = export_verified(net, config, tmp_path / "net.xml", EXAMPLE, net, [scenes(4)])
    assert artefact.agreement_percent == 100
    stored = torch.randint(0, 256, (2, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = deployed(net((stored - 120) / 60))
    torch.testing.assert_close(load_all(artefact.path)(stored), wanted, atol=1e-4, rtol=1e-4)


def test_the_number_of_outputs_has_to_be_right(tmp_path: Path) -> None:
    net = small_detector()
    other = export(nn.Conv2d(3, 2, 3).eval(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    with pytest.raises(
        ExportError, match=r"its output is \[2, 2, 62, 62\], the network's \[2, 240, 3\], \[2, 240, 4\]"
    ):
        verify(other, net, [scenes(2)])


def test_the_detector_stays_as_it_is(tmp_path: Path) -> None:
    net = small_detector()
    before = copy.deepcopy(net.state_dict())
    for kind, file in FORMATS:
        export(net, kind(), tmp_path / file, EXAMPLE)
    assert isinstance(net(EXAMPLE), RawDetections)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert Quantized(model=None).detector is None
