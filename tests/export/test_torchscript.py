from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

from bnas.errors import ConfigError, ExportError
from bnas.export import Quantized, TorchScript, export, export_verified, load
from bnas.plain import from_plain

EXAMPLE = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize("batch", [1, None])
def test_torch_itself_gets_the_same_from_the_file(tmp_path: Path, batch: int | None) -> None:
    net, images = small_net(), patterns(5)
    artefact = export_verified(net, TorchScript(batch=batch), tmp_path / "net.ts", EXAMPLE, net, [images])
    assert (artefact.format, artefact.precision, artefact.agreement_percent) == (
        "torchscript",
        "f32",
        100,
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        theirs = torch.jit.load(artefact.path)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(theirs(images), net(images))
        torch.testing.assert_close(load(artefact.path)(images), net(images))


def test_another_shape_is_refused_though_torchscript_forgets_it(tmp_path: Path) -> None:
    artefact = export(small_net(), TorchScript(batch=None), tmp_path / "net", EXAMPLE)
    assert Path(artefact.path).name == "net.ts"
    with pytest.raises(ExportError, match=r"takes images of shape \[n, 3, 16, 16\], got \[2, 1, 16, 16\]"):
        load(artefact.path)(torch.zeros(2, 1, 16, 16))


def test_a_file_that_is_cut_off_is_said(tmp_path: Path) -> None:
    path = Path(export(small_net(), TorchScript(), tmp_path / "net.ts", EXAMPLE).path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ExportError, match=r"net\.ts: torch .* cannot load it as TorchScript") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_int8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="torchscript takes FP32 modules"):
        export(Quantized(model=None), TorchScript(), tmp_path / "net.ts", EXAMPLE)
    with pytest.raises(ConfigError, match=r"export\.int8: torchscript has no INT8 networks"):
        from_plain(TorchScript, {"int8": True}, "export")


def test_a_network_that_cannot_be_traced_is_said(tmp_path: Path) -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("I take\n64×64 only")

    with pytest.raises(ExportError, match="the network cannot be traced: I take 64×64 only"):
        export(Picky().eval(), TorchScript(), tmp_path / "net.ts", EXAMPLE)
    with pytest.raises(ExportError, match=r"in training mode; call \.eval\(\)"):
        export(small_net().train(), TorchScript(), tmp_path / "net.ts", EXAMPLE)
    assert list(tmp_path.iterdir()) == []
