"""The files of AIMET's users: a network in FP32 as .onnx and .pth, and the encodings of its tensors."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor, nn

from bnas.errors import ConfigError, ExportError, require
from bnas.export.artefact import AIMET_FILES, Artefact, ExportConfig, Quantized, digest_of, exporter
from bnas.export.batching import Asked, Takes
from bnas.export.encodings.encoding import Encoded
from bnas.export.encodings.formats import Version, read, written, written_by_module
from bnas.export.encodings.simulate import simulated
from bnas.export.onnx import load_onnx, with_batch
from bnas.files import write_bytes
from bnas.version import __version__


@dataclass(frozen=True, kw_only=True)
class AimetEncodings(ExportConfig):
    """Encodings in the version `version`: 0.6.1 (AIMET 1.24 to 2.1), 1.0.0 (today's) or 2.0.0 (ONNX's words)."""

    kind: Literal["aimet"] = "aimet"
    version: Version = "0.6.1"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.int8:
            raise ConfigError(
                "int8: encodings are of quantized networks; leave aimet out instead of int8=false"
            )


@exporter(AimetEncodings)
def export_aimet(
    model: nn.Module | Quantized, config: AimetEncodings, path: Path, example: Tensor
) -> Artefact:
    """Write `<name>.encodings`, .onnx, .pth, .encodings.yaml, `<name>_torch.encodings` and `<name>_params.json`.

    `path` is that of the first, whose suffix is added where missing. The .pth is the state dict alone.

    Raises:
        ExportError: `model` is not what quantize.kind=aimet made, or onnx refuses it.
    """
    path = path if path.suffix == ".encodings" else path.with_name(f"{path.name}.encodings")
    if not isinstance(model, Quantized) or not isinstance(model.model, Encoded):
        raise ExportError("export: aimet takes what is quantized by quantize.kind=aimet only")
    encoded, onnx = model.model, require("onnx", "onnxruntime")
    data = written(encoded, config.version)
    network, state = with_batch(encoded.network, config.batch), io.BytesIO()
    onnx.checker.check_model(network, full_check=True)
    torch.save({name: value.detach().cpu().clone() for name, value in encoded.state.items()}, state)
    contents = {
        ".encodings": _json(data),
        ".onnx": network.SerializeToString(deterministic=True),
        ".pth": state.getvalue(),
        ".encodings.yaml": yaml.safe_dump(data, allow_unicode=True).encode(),
        "_torch.encodings": _json(written_by_module(encoded)),
    }
    contents["_params.json"] = _json(_parameters(encoded, config, contents))
    files = {end: path.with_name(f"{path.stem}{end}") for end in AIMET_FILES}
    for end in reversed(AIMET_FILES):  # the encodings last: where they are, the others are
        write_bytes(files[end], contents[end])
    return Artefact(
        path=str(path),
        format="aimet",
        precision=model.precision,
        digest=digest_of(*(contents[end] for end in AIMET_FILES)),
        size_bytes=sum(map(len, contents.values())),
    )


def load_encodings(path: Path, asked: Asked) -> tuple[Takes, Callable[[Tensor], Any]]:
    """The .onnx beside the file `path` with fake quantization as this says, for `bnas.export.run.load`."""
    onnx = require("onnx", "onnxruntime")
    beside = path.with_suffix(".onnx")
    if not beside.is_file():
        raise ExportError(f"{path}: the network it is about, {beside.name}, is not beside it")
    try:
        network = onnx.load(str(beside))
    except Exception as error:  # of protobuf
        raise ExportError(f"{beside}: it is cut off, damaged, or no ONNX file; export it again") from error
    try:
        encodings = read(json.loads(path.read_bytes()), channel_axes(network))
        content = simulated(network, encodings).SerializeToString()
    except (ValueError, RecursionError, ExportError) as error:
        raise ExportError(f"{path}: {error}") from error
    return load_onnx(path, asked, content)


def channel_axes(network: Any) -> Mapping[str, int]:
    """The axis of the output channels of each weight of an `onnx.ModelProto`, by name; of biases it is 0."""
    ranks = {value.name: len(value.dims) for value in network.graph.initializer}
    axes = dict.fromkeys(ranks, 0)
    for node in network.graph.node:
        weight = node.input[1] if len(node.input) > 1 else ""
        if weight not in ranks:
            continue
        if node.op_type == "ConvTranspose":
            axes[weight] = 1
        elif node.op_type == "MatMul":
            axes[weight] = ranks[weight] - 1
        elif node.op_type == "Gemm":
            axes[weight] = 0 if any(x.name == "transB" and x.i for x in node.attribute) else 1
    return axes


def _parameters(encoded: Encoded, config: AimetEncodings, contents: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "options": encoded.options,
        "encodings_version": config.version,
        "calibration_images": encoded.images,
        "encodings": {"activations": len(encoded.activations), "parameters": len(encoded.parameters)},
        "equalization": dict(encoded.equalization),
        "versions": {
            "bnas": __version__,
            "torch": str(torch.__version__),
            **{name: require(name, "onnxruntime").__version__ for name in ("onnx", "onnxruntime")},
        },
        "sha256": {end: digest_of(content) for end, content in contents.items()},
    }


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=4, sort_keys=True) + "\n").encode()
