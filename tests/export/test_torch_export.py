from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn
from torch._dynamo.utils import counters

from bnas.errors import ExportError
from bnas.export import Quantized, TorchExport, export, export_verified, load
from bnas.quantize import quantize
from bnas.quantize.nncf_fx import NncfPTQFx

EXAMPLE = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize("batch", [1, 3, None])
def test_torch_itself_gets_the_same_from_the_file(tmp_path: Path, batch: int | None) -> None:
    net, images = small_net(), patterns(batch or 5)
    artefact = export_verified(
        net, TorchExport(batch=batch), tmp_path / "net.pt2", EXAMPLE, net, [patterns(8)]
    )
    assert (artefact.format, artefact.precision, artefact.agreement_percent) == (
        "torch_export",
        "f32",
        100,
    )
    with torch.no_grad():
        theirs = torch.export.load(artefact.path).module()
        torch.testing.assert_close(theirs(images), net(images))
        for count in (1, 4):  # whatever the file takes at once
            torch.testing.assert_close(load(artefact.path)(patterns(count)), net(patterns(count)))


def test_a_file_tells_nothing_of_images_or_folders(tmp_path: Path) -> None:
    marked = torch.full_like(EXAMPLE, 1234.5)
    path = Path(export(small_net(), TorchExport(), tmp_path / "net", marked).path)
    assert path.name == "net.pt2"
    with zipfile.ZipFile(path) as archive:
        content = b"".join(archive.read(name) for name in archive.namelist())
    assert str(Path(__file__).parent).encode() not in content
    assert marked[0, 0, 0].numpy().tobytes() not in content


class Odd(nn.Module):
    """Works for one image alone."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, 3 * 16 * 16)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    for module, config in ((Odd(), TorchExport(batch=None)), (Branching(), TorchExport())):
        with pytest.raises(
            ExportError, match="export: torch cannot export the network as a graph: "
        ) as error:
            export(module.eval(), config, tmp_path / "net.pt2", EXAMPLE)
        assert "\n" not in str(error.value)
    with pytest.raises(ExportError, match=r"in training mode; call \.eval\(\)"):
        export(small_net().train(), TorchExport(), tmp_path / "net.pt2", EXAMPLE)
    with pytest.raises(ExportError, match=r"torch_export takes .* this one was quantized for openvino"):
        export(Quantized(model=None), TorchExport(), tmp_path / "net.pt2", EXAMPLE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")
def test_an_int8_file_runs_through_inductor(tmp_path: Path) -> None:
    """Long: inductor compiles for half a minute."""
    net, images = small_net(), patterns(4, seed=2)
    quantized = quantize(net, NncfPTQFx(samples=16), [patterns(16)], EXAMPLE)
    config = TorchExport(batch=4, min_agreement_percent=90)
    artefact = export_verified(quantized, config, tmp_path / "int8.pt2", EXAMPLE, net, [images])
    assert artefact.precision == "int8"
    counters.clear()
    got = load(artefact.path, compiled=True)(images)
    assert counters["inductor"]["qconv_unary_lower_count"] == 3  # all three convolutions
    wanted = load(artefact.path)(images)
    torch.testing.assert_close(got, wanted, atol=0.02 * float(wanted.abs().max()), rtol=0)
