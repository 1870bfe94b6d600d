from __future__ import annotations

import copy
import subprocess
import sys
import tempfile
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import numpy as np
import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

import bnas
from bnas.errors import ConfigError, ExportError, RunError
from bnas.export import OpenVinoIR, export, openvino_runtime
from bnas.plain import from_plain, to_plain

openvino = openvino_runtime.openvino()  # the package itself, without its telemetry
EXAMPLE = torch.zeros(2, 3, 16, 16)


def run_ir(path: str | Path, images: Tensor) -> np.ndarray:
    """What OpenVINO itself makes of the file, without bnas."""
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(images.numpy())[0]


def test_the_ir_computes_what_the_module_computes(tmp_path: Path) -> None:
    net, images = small_net(), patterns(8)
    artefact = export(net, OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    with torch.no_grad():
        wanted = net(images).numpy()
    got = np.concatenate([run_ir(artefact.path, image[None]) for image in images])
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())


def test_an_artefact_says_what_it_is(tmp_path: Path) -> None:
    artefact = export(small_net(), OpenVinoIR(), tmp_path / "deep" / "net", EXAMPLE)
    assert artefact.path == str(tmp_path / "deep" / "net.xml")
    assert (artefact.format, artefact.precision) == ("openvino_ir", "f32")
    files = sorted((tmp_path / "deep").iterdir())
    assert [file.name for file in files] == ["net.bin", "net.xml"]  # and nothing temporary
    assert artefact.size_bytes == sum(file.stat().st_size for file in files)
    assert from_plain(type(artefact), to_plain(artefact)) == artefact


def test_weights_are_stored_in_full_precision(tmp_path: Path) -> None:
    export(small_net(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    model = openvino.Core().read_model(tmp_path / "net.xml")
    kinds = {
        op.get_element_type().get_type_name() for op in model.get_ops() if op.get_type_name() == "Constant"
    }
    assert "f32" in kinds
    assert "f16" not in kinds


@pytest.mark.parametrize(("batch", "wanted"), [(1, "[1,3,16,16]"), (4, "[4,3,16,16]"), (None, "[?,3,16,16]")])
def test_the_batch_is_the_one_asked_for(tmp_path: Path, batch: int | None, wanted: str) -> None:
    net, images = small_net(), patterns(4)
    artefact = export(net, OpenVinoIR(batch=batch), tmp_path / "net.xml", EXAMPLE)
    model = openvino.Core().read_model(artefact.path)
    assert str(model.inputs[0].partial_shape) == wanted
    with torch.no_grad():
        np.testing.assert_allclose(
            run_ir(artefact.path, images[: batch or 3]), net(images[: batch or 3]), atol=1e-4
        )


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    net = small_net()
    first = export(net, OpenVinoIR(), tmp_path / "a.xml", EXAMPLE)
    export(small_net(seed=1), OpenVinoIR(), tmp_path / "b.xml", EXAMPLE)
    again = export(net, OpenVinoIR(), tmp_path / "c.xml", EXAMPLE)
    assert first.digest == again.digest
    assert (tmp_path / "a.xml").read_bytes() == (tmp_path / "c.xml").read_bytes()
    assert (tmp_path / "a.bin").read_bytes() != (tmp_path / "b.bin").read_bytes()


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    net = small_net()
    before = copy.deepcopy(net)
    export(net, OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    assert str(net) == str(before)
    assert not net.training
    for (name, value), (_, old) in zip(net.state_dict().items(), before.state_dict().items(), strict=True):
        assert torch.equal(value, old), name
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(not module._forward_hooks for module in net.modules())


def test_a_network_in_training_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"in training mode; call \.eval\(\)"):
        export(small_net().train(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)


class Zeta(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.zeta(x, x)


class Picky(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("I take\n64×64 only")


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Zeta(), "OpenVINO cannot convert the operation aten::special_zeta"),
        (Picky(), "the network cannot be traced: I take 64×64 only"),
    ],
)
def test_what_cannot_be_converted_is_said(tmp_path: Path, module: nn.Module, said: str) -> None:
    with pytest.raises(ExportError, match=said) as error:
        export(module.eval(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        export(small_net(), OpenVinoIR(), tmp_path / "file" / "net.xml", EXAMPLE)


def test_no_room_for_temporary_files_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(RunError, match=r"cannot write .*net\.xml: .*No such file or directory"):
        export(small_net(), OpenVinoIR(), tmp_path / "net.xml", EXAMPLE)


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"export\.batch: expected 1 or more, or null"):
        from_plain(OpenVinoIR, {"batch": 0}, "export")
    with pytest.raises(ConfigError, match=r"export\.tolerance: expected more than 0"):
        from_plain(OpenVinoIR, {"tolerance": 0}, "export")
    with pytest.raises(ConfigError, match=r"export\.min_agreement_percent: expected 0 to 100"):
        from_plain(OpenVinoIR, {"min_agreement_percent": 101}, "export")
    assert from_plain(bnas.export.ExportConfig, {"kind": "openvino_ir", "batch": None}) == OpenVinoIR(
        batch=None
    )


def test_nothing_is_sent_anywhere(tmp_path: Path) -> None:
    """Conversion, quantization and inference in a fresh process in which every connection is refused aloud."""
    script = f"""
        import socket, sys, threading
        def refuse(self, address): print("CONNECTS TO", address); raise OSError
        socket.socket.connect = refuse
        sys.path[:0] = [{str(Path(__file__).parents[1])!r}]
        import torch
        from small_networks import small_net, patterns
        from bnas.export import OpenVinoIR, export, verify
        from bnas.quantize import NncfPTQ, quantize
        quantized = quantize(small_net(), NncfPTQ(samples=4), [patterns(4)], patterns(1))
        artefact = export(quantized, OpenVinoIR(), {str(tmp_path / "net.xml")!r}, patterns(1))
        verify(artefact, small_net(), [patterns(8)])
        assert "openvino_telemetry" not in sys.modules
        print("DONE", threading.active_count())
    """
    home = tmp_path / "home"
    home.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert result.stdout.split() == ["DONE", "1"], result.stdout + result.stderr
    assert result.stderr == ""  # no bars, no log lines, no warnings
    assert not (home / "intel").exists()  # where the telemetry package keeps its client id


def test_nothing_is_sent_for_a_program_that_imported_openvino_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own messages go on to be sent; those that a conversion by bnas makes are dropped."""
    sent: list[str] = []

    class TelemetrySender:
        def send(self, message: str) -> None:
            sent.append(message)

    module = ModuleType("openvino_telemetry.utils.sender")
    module.TelemetrySender = TelemetrySender  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openvino_telemetry", ModuleType("openvino_telemetry"))
    monkeypatch.setitem(sys.modules, "openvino_telemetry.utils.sender", module)
    with openvino_runtime.without_telemetry():
        TelemetrySender().send("a conversion")
    TelemetrySender().send("the program's own")
    assert sent == ["the program's own"]
