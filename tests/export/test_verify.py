from __future__ import annotations

import copy
import errno
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import patterns, small_net
from torch import nn

from bnas.errors import ExportError, RunError
from bnas.export import (
    Artefact,
    ExportConfig,
    Onnx,
    OpenVinoIR,
    TorchExport,
    TorchScript,
    check_digest,
    export,
    export_verified,
    openvino_runtime,
    verify,
)
from bnas.export.artefact import files_of

openvino = openvino_runtime.openvino()  # the package itself, without its telemetry
EXAMPLE = torch.zeros(1, 3, 16, 16)


@pytest.fixture
def net() -> nn.Module:
    return small_net()


@pytest.fixture
def artefact(net: nn.Module, tmp_path: Path) -> Artefact:
    return export(net, OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)


def test_a_good_artefact_is_measured_against_the_module(net: nn.Module, artefact: Artefact) -> None:
    checked = verify(artefact, net, [patterns(5), patterns(3, seed=1)])
    assert checked.largest_difference is not None
    assert 0 < checked.largest_difference < 1e-5
    assert checked.agreement_percent == 100
    assert replace(checked, largest_difference=None, agreement_percent=None) == artefact


def test_the_difference_is_the_one_found_by_hand(net: nn.Module, artefact: Artefact) -> None:
    other, images = copy.deepcopy(net), patterns(6)
    with torch.no_grad():
        other.head[3].bias[2] += 0.25
        wanted = other(images).numpy()
    compiled = openvino.Core().compile_model(artefact.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    got = np.concatenate([compiled(image[None].numpy())[0] for image in images])
    checked = verify(artefact, other, [images], OpenVinoIR(tolerance=1e9))
    assert checked.largest_difference == pytest.approx(
        np.abs(wanted - got).max() / np.abs(wanted).max(), rel=1e-4
    )
    assert checked.agreement_percent == 100 * np.mean(wanted.argmax(1) == got.argmax(1))


def test_an_artefact_of_another_network_is_refused(net: nn.Module, artefact: Artefact) -> None:
    with torch.no_grad():
        net.head[3].bias[2] += 0.25
    with pytest.raises(ExportError, match=r"net\.xml: its outputs differ .* \(export\.tolerance\)"):
        verify(artefact, net, [patterns(4)])


def test_an_int8_artefact_is_judged_by_agreement(net: nn.Module, artefact: Artefact) -> None:
    with torch.no_grad():
        net.head[3].bias[2] += 1e3  # one class for all: agreement only on images that have it already
    int8 = replace(artefact, precision="int8")
    with pytest.raises(ExportError, match=r"INT8 agrees .* on \d+\.\d % of 8 images; expected 90 %"):
        verify(int8, net, [patterns(8)], OpenVinoIR(min_agreement_percent=90))
    agreement = verify(int8, net, [patterns(8)], OpenVinoIR(min_agreement_percent=0)).agreement_percent
    assert agreement is not None
    assert agreement < 90


def test_outputs_that_are_no_classes_have_no_agreement(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    artefact = export(net, OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    checked = verify(artefact, net, [patterns(2)])
    assert checked.agreement_percent is None
    assert checked.largest_difference is not None


def test_another_shape_and_no_images_are_said(net: nn.Module, artefact: Artefact) -> None:
    with pytest.raises(ExportError, match=r"its output is \[2, 4\], the network's \[2, 3, 16, 16\]"):
        verify(artefact, nn.Identity(), [patterns(2)])
    with pytest.raises(ExportError, match="no images"):
        verify(artefact, net, [])


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    class Log(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.log(x.mean((2, 3)))

    artefact = export(Log().eval(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    with pytest.raises(ExportError, match="not finite"):
        verify(artefact, Log().eval(), [-torch.ones(2, 3, 16, 16)])


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_a_damaged_file_is_named(artefact: Artefact, suffix: str) -> None:
    check_digest(artefact)
    path = Path(artefact.path).with_suffix(suffix)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(RunError, match=r"net\.xml is damaged.*bnas export --force"):
        check_digest(artefact)


def test_a_missing_file_is_named(net: nn.Module, artefact: Artefact) -> None:
    Path(artefact.path).with_suffix(".bin").unlink()
    with pytest.raises(RunError, match=r"net\.bin is missing; run `bnas export --force`"):
        verify(artefact, net, [patterns(1)])


class Shifted(nn.Module):
    """A network whose outputs are those of another and `by`."""

    def __init__(self, net: nn.Module, by: float) -> None:
        super().__init__()
        self.net, self.by = net, by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) + self.by


FORMATS = [(OpenVinoIR, "net.xml"), (Onnx, "net.onnx"), (TorchExport, "net.pt2"), (TorchScript, "net.ts")]


@pytest.mark.parametrize(("kind", "file"), FORMATS)
def test_a_wrong_artefact_is_never_where_a_good_one_belongs(
    net: nn.Module, tmp_path: Path, kind: type[ExportConfig], file: str
) -> None:
    path, images = tmp_path / file, [patterns(4)]
    with pytest.raises(ExportError, match=rf"/{file}: its outputs differ .* \(most on image [0-3]\)"):
        export_verified(Shifted(net, 0.5).eval(), kind(), path, EXAMPLE, net, images)
    assert list(tmp_path.iterdir()) == []
    good = export_verified(net, kind(), path, EXAMPLE, net, images)
    check_digest(good)
    assert good.agreement_percent == 100
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert set(files) == set(files_of(good))
    with pytest.raises(ExportError, match="its outputs differ"):
        export_verified(Shifted(net, 0.5).eval(), kind(), path, EXAMPLE, net, images)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files  # the good one is still there


@pytest.mark.parametrize(("kind", "file"), FORMATS)
def test_no_space_left_is_said(
    net: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[ExportConfig], file: str
) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as half:
            half.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(RunError, match=r"cannot write .*: No space left on device; free some space"):
        export_verified(net, kind(), tmp_path / file, EXAMPLE, net, [patterns(2)])
    assert list(tmp_path.iterdir()) == []
