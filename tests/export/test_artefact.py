from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bnas
from bnas.errors import ConfigError, ExportError
from bnas.export import (
    EXPORTERS,
    Artefact,
    ExportConfig,
    Onnx,
    OpenVinoIR,
    Quantized,
    TorchExport,
    export,
    exporter,
)
from bnas.plain import from_plain, to_plain


@dataclass(frozen=True, kw_only=True)
class Text(ExportConfig):
    """A format that only this test knows."""


def test_a_new_format_plugs_in_by_its_config_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ExportError, match=r"no exporter for Text; known: .*Onnx, OpenVinoIR, TorchExport, TorchScript"
    ):
        export(nn.Identity(), Text(), tmp_path / "net.txt", torch.zeros(1))
    monkeypatch.setitem(EXPORTERS, Text, None)  # so that the table is put back afterwards

    @exporter(Text)
    def write(model: nn.Module | Quantized, config: Text, path: Path, example: Tensor) -> Artefact:
        path.write_text(str(model))
        return Artefact(
            path=str(path), format="text", precision="f32", digest="0", size_bytes=path.stat().st_size
        )

    artefact = bnas.export(nn.Identity(), Text(), tmp_path / "net.txt", torch.zeros(1))
    assert (artefact.size_bytes, Path(artefact.path).read_text()) == (10, "Identity()")


def test_further_formats_take_what_they_share_from_the_first() -> None:
    config = from_plain(
        ExportConfig,
        {
            "kind": "onnx",
            "batch": None,
            "tolerance": 0.01,
            "also": ["torch_export", {"kind": "onnx", "opset": 18}],
        },
        "export",
    )
    assert config.formats() == (
        Onnx(batch=None, tolerance=0.01),
        TorchExport(batch=None, tolerance=0.01),
        Onnx(opset=18),
    )
    assert from_plain(ExportConfig, to_plain(config)) == config
    assert to_plain(OpenVinoIR()) == {
        "kind": "openvino_ir", "batch": 1, "tolerance": 1e-3, "min_agreement_percent": 50.0
    }  # as runs of before say  # fmt: skip


@pytest.mark.parametrize(
    ("also", "said"),
    [
        (["onyx"], r"export\.also: no such format 'onyx'; did you mean 'onnx'"),
        (
            [{"kind": "onnx", "also": ["torchscript"]}],
            r"export\.also: a format named there has no `also` of its own",
        ),
        ([{"kind": "onnx", "opset": 1}], r"export\.also\[0\]\.opset: expected 13 to 20, got 1"),
        ([3], r"export\.also\[0\]: expected str or a mapping of options"),
    ],
)
def test_further_formats_are_checked(also: list[object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_plain(ExportConfig, {"kind": "openvino_ir", "also": also}, "export")
