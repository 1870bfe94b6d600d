from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bnas
from bnas.errors import ExportError
from bnas.export import EXPORTERS, Artefact, ExportConfig, Quantized, export, exporter


@dataclass(frozen=True, kw_only=True)
class Text(ExportConfig):
    """A format that only this test knows."""


def test_a_new_format_plugs_in_by_its_config_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match="no exporter for Text; known: OpenVinoIR"):
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
