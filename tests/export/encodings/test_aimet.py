"""The files for AIMET: what is in each, that they run, and that nothing is left of those that fail."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
import yaml
from oracles import randomize_norms
from small_networks import SmallNet
from torch import Tensor, nn

from bnas import export, quantize
from bnas.errors import ConfigError, ExportError, RunError
from bnas.export import AimetEncodings, Artefact, Quantized, check_digest, export_verified, load, verify
from bnas.export.artefact import AIMET_FILES, ExportConfig, files_of
from bnas.export.encodings import VERSIONS, Encoded
from bnas.export.encodings import aimet as exporter
from bnas.files import write_bytes
from bnas.plain import from_plain
from bnas.quantize import Aimet

IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Negative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return randomize_norms(SmallNet(), 0).eval()


@pytest.fixture(scope="module")
def quantized(net: nn.Module) -> Quantized:
    return quantize(net, Aimet(equalize=None, per_channel=True), [IMAGES], IMAGES[:1])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_files_run_and_are_close_to_the_module(
    net: nn.Module, quantized: Quantized, tmp_path: Path, version: str
) -> None:
    config = AimetEncodings(version=version)  # type: ignore[arg-type]
    artefact = verify(export(quantized, config, tmp_path / "a", IMAGES[:1]), net, [IMAGES], config)
    assert (artefact.format, artefact.precision, Path(artefact.path).name) == ("aimet", "int8", "a.encodings")
    assert artefact.largest_difference is not None
    assert 1e-4 < artefact.largest_difference < 0.1
    assert {path.name for path in tmp_path.iterdir()} == {f"a{end}" for end in AIMET_FILES}
    assert artefact.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_all_versions_compute_the_same(quantized: Quantized, tmp_path: Path) -> None:
    outputs = [
        load(export(quantized, AimetEncodings(version=version), tmp_path / version[0], IMAGES[:1]).path)(
            IMAGES
        )
        for version in VERSIONS
    ]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2])


def test_what_is_in_them(quantized: Quantized, tmp_path: Path) -> None:
    export(quantized, AimetEncodings(batch=2), tmp_path / "a.encodings", IMAGES[:1])
    data = json.loads((tmp_path / "a.encodings").read_text())
    network = onnx.load(str(tmp_path / "a.onnx"))
    tensors = {name for node in network.graph.node for name in (*node.input, *node.output)}
    parameters = {value.name for value in network.graph.initializer}
    assert set(data["activation_encodings"]) <= tensors - parameters
    assert set(data["param_encodings"]) <= parameters
    assert network.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert yaml.safe_load((tmp_path / "a.encodings.yaml").read_text()) == data
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    assert set(data["param_encodings"]) <= set(state)
    assert all(isinstance(value, Tensor) for value in state.values())
    own = json.loads((tmp_path / "a_torch.encodings").read_text())
    assert all(
        f"{path}.weight" in state or "output" in sides for path, sides in own["activation_encodings"].items()
    )


def test_the_parameters_tell_how(quantized: Quantized, tmp_path: Path) -> None:
    export(quantized, AimetEncodings(version="1.0.0"), tmp_path / "a", IMAGES[:1])
    told = json.loads((tmp_path / "a_params.json").read_text())
    assert isinstance(quantized.model, Encoded)
    assert told["equalization"] == quantized.model.equalization
    assert told["equalization"]["folded"] == 3
    assert (told["calibration_images"], told["encodings_version"]) == (6, "1.0.0")
    assert (told["options"]["scheme"], told["options"]["per_channel"]) == ("tf", True)
    assert set(told["versions"]) == {"bnas", "torch", "onnx", "onnxruntime"}
    for end, digest in told["sha256"].items():
        assert hashlib.sha256((tmp_path / f"a{end}").read_bytes()).hexdigest() == digest
    assert set(told["sha256"]) == set(AIMET_FILES) - {"_params.json"}


def test_the_same_again_is_the_same_bytes(quantized: Quantized, tmp_path: Path) -> None:
    first, second = (export(quantized, AimetEncodings(), tmp_path / name, IMAGES[:1]) for name in ("a", "b"))
    assert first.digest == second.digest


def test_every_file_counts_for_the_digest(quantized: Quantized, tmp_path: Path) -> None:
    artefact = export(quantized, AimetEncodings(), tmp_path / "a", IMAGES[:1])
    check_digest(artefact)
    for path in files_of(artefact):
        content = path.read_bytes()
        path.write_bytes(content + b" ")
        with pytest.raises(RunError, match="damaged"):
            check_digest(artefact)
        path.write_bytes(content)


def test_verified_files_have_their_names_and_unverified_ones_are_gone(
    net: nn.Module, quantized: Quantized, tmp_path: Path
) -> None:
    config, path = AimetEncodings(), tmp_path / "a.encodings"
    artefact = export_verified(quantized, config, path, IMAGES[:1], net, [IMAGES])
    assert {own.name for own in tmp_path.iterdir()} == {f"a{end}" for end in AIMET_FILES}
    check_digest(artefact)
    wrong = replace(config, min_agreement_percent=100)
    opposed = nn.Sequential(net, Negative()).eval()
    with pytest.raises(ExportError, match="INT8 agrees"):
        export_verified(quantized, wrong, tmp_path / "b.encodings", IMAGES[:1], opposed, [IMAGES])
    assert {own.name for own in tmp_path.iterdir()} == {f"a{end}" for end in AIMET_FILES}


def test_what_cannot_be_exported(net: nn.Module, tmp_path: Path) -> None:
    for model in (net, Quantized(model=object())):
        with pytest.raises(ExportError, match=r"quantized by quantize\.kind=aimet only"):
            export(model, AimetEncodings(), tmp_path / "a", IMAGES[:1])
    with pytest.raises(ConfigError, match="version"):
        from_plain(ExportConfig, {"kind": "aimet", "version": "0.5.0"})
    with pytest.raises(ConfigError, match="int8: encodings are of quantized networks"):
        AimetEncodings(int8=False)


def test_nothing_is_left_of_files_that_were_begun(
    net: nn.Module, quantized: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.suffix == ".onnx":
            raise RunError("no space")
        write_bytes(path, content)

    monkeypatch.setattr(exporter, "write_bytes", full)
    (tmp_path / "ab.encodings").write_text("another's")
    with pytest.raises(RunError, match="no space"):
        export_verified(quantized, AimetEncodings(), tmp_path / "a", IMAGES[:1], net, [IMAGES])
    assert [path.name for path in tmp_path.iterdir()] == ["ab.encodings"]


def test_the_precision_is_named_truly(net: nn.Module, tmp_path: Path) -> None:
    four = quantize(net, Aimet(equalize=None, weight_bits=4, activation_bits=16), [IMAGES], IMAGES[:1])
    config = AimetEncodings(min_agreement_percent=100)
    artefact = export(four, config, tmp_path / "a", IMAGES[:1])
    assert artefact.precision == "int4/int16"
    with pytest.raises(ExportError, match="INT4/INT16 agrees"):
        verify(artefact, nn.Sequential(net, Negative()).eval(), [IMAGES], config)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.onnx", None, "a.onnx, is not beside it"),
        ("a.encodings", b"{", "a.encodings: Expecting"),
        ("a.encodings", b"[]", "got None"),
        ("a.encodings", b'{"version": "9"}', "expected version 0.6.1"),
        ("a.encodings", b'{"version": "2.0.0", "encodings": [{"name": "q", "output_dtype": "uint8", "y_scale": 1}]}', "no tensor 'q'"),
        (
            "a.encodings",
            b'{"version": "2.0.0", "encodings": [{"name": "head.3.weight", "output_dtype": "int8", "y_scale": [1, 1], "axis": 7}]}',
            r"a\.encodings: encodings: 'head\.3\.weight' has 2 scales along axis 7, the tensor is 4×16",
        ),
        (
            "a.encodings",
            b'{"version": "2.0.0", "encodings": [{"name": "head.3.weight", "output_dtype": "int8", "y_scale": [1, 1], "axis": 0}]}',
            "has 2 scales along axis 0, the tensor is 4×16",
        ),
        ("a.encodings", b"[" * 100_000, r"a\.encodings: "),
        ("a.onnx", b"no network", "a.onnx: it is cut off"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_loaded(
    quantized: Quantized, tmp_path: Path, name: str, content: bytes | None, text: str
) -> None:
    artefact: Artefact = export(quantized, AimetEncodings(), tmp_path / "a", IMAGES[:1])
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=text):
        load(artefact.path)
