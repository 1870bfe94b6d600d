"""The stage `export` on a run folder made by hand, of one small network on real images."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from oracles import randomize_norms
from small_detectors import small_detector
from small_networks import SmallNet
from tiny_detector import rectangles
from torch import nn

from bnas import quantize
from bnas.commands import export as stage
from bnas.commands import export_formats as formats
from bnas.config import RunConfig
from bnas.data import DataConfig, ImageSplits, load_data
from bnas.errors import ConfigError, ExportError
from bnas.export import (
    AimetEncodings,
    Artefact,
    ExportConfig,
    Onnx,
    OpenVinoIR,
    Preprocess,
    TorchExport,
    TorchScript,
    check_digest,
    export,
    load,
)
from bnas.export.artefact import files_of
from bnas.files import read_json, write_json
from bnas.plain import from_plain
from bnas.quantize import NncfPTQ, QuantizeConfig
from bnas.quantize.nncf_qat import NncfQAT
from bnas.run_folder import RunFolder

NORMALISED = Preprocess(mean_values=(72.93,), scale_values=(90.015,))  # .2860 and .3530 of Fashion-MNIST
# INT8 as a torch graph has a test of its own.
ALL = OpenVinoIR(
    preprocess="from_data",
    also=(Onnx(batch=None), TorchExport(batch=None, int8=False), "torchscript"),
)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SmallNet()
        net.stem[0], net.head[3] = nn.Conv2d(1, 16, 3, padding=1), nn.Linear(16, 10)
        return randomize_norms(net, 0).eval()


def run_of(
    net: nn.Module, data: ImageSplits, samples: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """What the stage needs of a run whose only network is the original one, quantized already."""
    calibration = [data.train.batch([i])[0] for i in range(samples)]
    run = SimpleNamespace(
        folder=RunFolder(folder),
        config=RunConfig(name="run", quantize=NncfPTQ(samples=samples)),
        data=data,
        example=calibration[0],
    )
    for name, made in (
        ("subnet_names", lambda project: ("reference",)),
        ("load_subnet", lambda project, name: net),
        ("resolution", lambda project, name: None),
        ("precisions", lambda project, name: {}),
        ("quantization_images", lambda project: calibration),
    ):
        monkeypatch.setattr(stage, name, made)
    monkeypatch.setattr(stage, "resized", lambda images, size: images)
    int8 = quantize(net, run.config.quantize, calibration, run.example)
    made = export(int8, OpenVinoIR(), run.folder.path("subnets", "reference", "int8.xml"), run.example)
    write_json(
        run.folder.path("subnets", "int8.json"),
        {"reference": replace(made, path="subnets/reference/int8.xml")},
    )
    return run


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return run_of(network(), load_data(DataConfig(val_images=60)), 24, tmp_path / "run", monkeypatch)


@pytest.fixture
def detection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    return run_of(small_detector(), rectangles(train=12, val=7), 12, tmp_path / "run", monkeypatch)


def exported(project: Any, config: ExportConfig) -> dict[str, Artefact]:
    project.config = replace(project.config, export=config)
    made = stage.export(project)
    found = read_json(project.folder.path("subnets", "artefacts.json"), dict[str, dict[str, Artefact]])
    assert all(project.folder.path(path).is_file() for path in made.paths)
    return found["reference"]


def test_every_format_asked_for_is_written_beside_the_usual_ones_and_checked(project: Any) -> None:
    found = exported(project, ALL)
    names = ["fp32", "int8", "fp32_u8.xml", "int8_u8.xml", "fp32.onnx", "int8.onnx", "fp32.pt2", "fp32.ts"]
    assert list(found) == names
    for name, artefact in found.items():
        path = project.folder.path(artefact.path)
        check_digest(replace(artefact, path=str(path)))
        assert path.name == (name if "." in name else f"{name}.xml")
        assert artefact.precision == ("int8" if name.startswith("int8") else "f32")
        assert artefact.preprocess == (NORMALISED if "u8" in name else None)
        assert artefact.agreement_percent is not None
        assert artefact.agreement_percent == 100 or artefact.precision == "int8"
    folder = project.folder.path("subnets", "reference")
    kept = {file.name for artefact in found.values() for file in files_of(artefact)}
    assert {file.name for file in folder.iterdir()} == kept
    assert len(onnx.load(folder / "int8.onnx").graph.node) > len(onnx.load(folder / "fp32.onnx").graph.node)

    pixels = torch.from_numpy(np.arange(32 * 32, dtype=np.float32).reshape(1, 1, 32, 32) % 256)
    plain, stored = load(folder / "fp32.xml"), load(folder / "fp32_u8.xml")
    torch.testing.assert_close(stored(pixels), plain((pixels / 255 - 0.2860) / 0.3530), atol=1e-4, rtol=1e-4)

    again = exported(project, OpenVinoIR())
    assert list(again) == ["fp32", "int8"]
    assert {file.name for file in folder.iterdir()} == {"fp32.xml", "fp32.bin", "int8.xml", "int8.bin"}


def test_a_wrong_file_is_not_written_and_the_stage_is_not_done(
    project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = stage.exporting.export

    def wrong(model: Any, config: ExportConfig, path: Path, example: torch.Tensor) -> Artefact:
        if isinstance(config, Onnx):
            with torch.no_grad():
                model.head[3].bias += 1
        try:
            return right(model, config, path, example)
        finally:
            if isinstance(config, Onnx):
                with torch.no_grad():
                    model.head[3].bias -= 1

    monkeypatch.setattr(sys.modules["bnas.export.verify"], "export", wrong)  # the name is a function's
    with pytest.raises(ExportError, match=r"reference/fp32\.onnx: its outputs differ"):
        exported(project, Onnx())
    left = {file.name for file in project.folder.path("subnets", "reference").iterdir()}
    assert left == {"fp32.xml", "fp32.bin", "int8.xml", "int8.bin"}
    assert not project.folder.path("subnets", "artefacts.json").exists()


def test_what_is_asked_for() -> None:
    data = load_data(DataConfig(val_images=10))

    def of(**options: Any) -> tuple[OpenVinoIR, list[ExportConfig]]:
        config = from_plain(ExportConfig, options, "export")
        return formats.formats_of(config, data.train)

    assert of(kind="openvino_ir", batch=2) == (OpenVinoIR(batch=2), [])
    plain, further = of(kind="onnx", batch=None, tolerance=0.01, also=["torch_export"])
    assert plain == OpenVinoIR(batch=None, tolerance=0.01)
    assert further == [Onnx(batch=None, tolerance=0.01), TorchExport(batch=None, tolerance=0.01)]
    plain, further = of(kind="openvino_ir", preprocess={"layout": "NHWC", "mean_values": [1.0]})
    assert plain == OpenVinoIR()
    mixed = Preprocess(layout="NHWC", mean_values=(1.0,), scale_values=(90.015,))
    assert further == [OpenVinoIR(preprocess=mixed)]
    with pytest.raises(
        ConfigError, match=r"export\.also: two formats would be written to the same file \(fp32\.onnx\)"
    ):
        of(kind="onnx", also=["onnx"])


def test_the_normalisation_is_that_of_the_data() -> None:
    grey = load_data(DataConfig(val_images=10))
    assert formats.normalisation_of(grey.val) == ((0.2860,), (0.3530,))
    assert formats.normalisation_of(SimpleNamespace()) is None
    with pytest.raises(ConfigError, match="these images do not say how they are normalised"):
        formats._preprocess("from_data", SimpleNamespace())


def test_quantizers_take_the_options_of_the_run_that_they_have() -> None:
    asked = NncfPTQ(samples=7, preset="performance")
    found = formats.quantizer_for(asked, Onnx(opset=19))
    assert (found.kind, found.samples, found.preset, found.opset) == ("onnx_qdq", 7, "performance", 19)
    assert formats.quantizer_for(asked, TorchExport()).kind == "nncf_ptq_fx"
    conf = yaml.safe_load((Path(__file__).parents[2] / "conf" / "quantize" / "aimet.yaml").read_text())
    assert formats.quantizer_for(asked, AimetEncodings()) == from_plain(
        QuantizeConfig, {**conf, "samples": 7}
    )
    with pytest.raises(ConfigError, match="there is no quantizer for torchscript"):
        formats.quantizer_for(asked, TorchScript())
    with pytest.raises(ConfigError, match="what quantize=nncf_qat trains is written as OpenVINO IR only"):
        formats.quantizer_for(NncfQAT(), Onnx())


def test_formats_that_cannot_be_written_are_refused_before_anything_is_done(detection: Any) -> None:
    def check(quantize: QuantizeConfig, *also: ExportConfig | str) -> None:
        detection.config = replace(detection.config, quantize=quantize, export=OpenVinoIR(also=also))
        formats.check_export(detection)

    check(NncfPTQ(), Onnx(), TorchExport(), "torchscript", AimetEncodings(), OpenVinoIR(nms=True))
    check(NncfQAT(), Onnx(int8=False))
    with pytest.raises(ConfigError, match=r"nncf_qat .*; set int8=false for torch_export$"):
        check(NncfQAT(), Onnx(int8=False), TorchExport())
    mixed = NncfPTQ(precisions=("int8_channel", "fp32"))
    check(mixed, Onnx(int8=False), OpenVinoIR(nms=True))
    with pytest.raises(ConfigError, match=r"written as OpenVINO IR only; set int8=false for onnx$"):
        check(mixed, Onnx())
    with pytest.raises(ConfigError, match=r"two formats would be written to the same file \(fp32\.ts\)"):
        check(NncfPTQ(), "torchscript", "torchscript")


def test_what_equalization_did_is_told_of_all_networks_together() -> None:
    one = {
        "folded": 3, "scaled": 2, "absorbed": 1, "differences": {"scale": 1e-7, "absorb": 0.02},
        "skipped": {"scale": {"a": "…", "b": "…"}, "absorb": {"b": "…"}},
    }  # fmt: skip
    none = {"folded": 4, "scaled": 0, "absorbed": 0, "differences": {}, "skipped": {}}
    assert formats.equalization_line([one, none]) == (
        "; encodings: batch norms folded: 7, pairs of layers equalized: 2, high biases moved: 1, which changed outputs "
        "by up to 2 %; layers left alone: 2 (`bnas show params` says why)"
    )
    assert formats.equalization_line([]) == ""


def test_a_detector_is_written_in_every_format_and_checked_in_boxes(detection: Any) -> None:
    also = (OpenVinoIR(nms=True), Onnx(), TorchExport(), "torchscript")
    found = exported(detection, OpenVinoIR(nms=True, preprocess=NORMALISED, also=also))
    names = ["fp32", "int8", "fp32_u8_nms.xml", "int8_u8_nms.xml", "fp32_nms.xml", "int8_nms.xml"]
    assert list(found) == [*names, "fp32.onnx", "int8.onnx", "fp32.pt2", "int8.pt2", "fp32.ts"]
    for name, artefact in found.items():
        check_digest(replace(artefact, path=str(detection.folder.path(artefact.path))))
        assert artefact.nms == ("nms" in name)
        assert (artefact.largest_difference is None) == artefact.nms
        assert artefact.agreement_percent is not None
        assert artefact.agreement_percent >= (80 if name.startswith("int8") else 99)
    exported(detection, OpenVinoIR())
    assert sorted(path.name for path in detection.folder.path("subnets", "reference").iterdir()) == [
        "fp32.bin", "fp32.xml", "int8.bin", "int8.xml",
    ]  # fmt: skip


def test_the_line_about_detectors_is_about_boxes(detection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(
        r"2 networks; FP32 within \S+ of the torch modules, INT8 finds the same boxes for at least \d+\.\d % of them in "
        "7 images",
        stage.export(detection).line,
    )
    monkeypatch.setattr("bnas.export.boxes.agreeing", lambda wanted, got, **limits: (0, 0))
    assert (
        "INT8 was not judged: fewer than 20 boxes with a score of 0.1 or more in 7 images"
        in stage.export(detection).line
    )


def test_of_large_images_fewer_are_checked(detection: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = lambda images: [len(batch) for batch in stage._checked_images(images)]  # noqa: E731
    assert sizes(detection.data.val) == [7]
    monkeypatch.setattr(stage, "MOST_VALUES", 5 * 3 * 64 * 64)
    assert sizes(detection.data.val) == [1] * 5
    monkeypatch.setattr(stage, "MOST_VALUES", 1)
    assert sizes(detection.data.val) == [1]
