"""OpenVINO IR: a torch module, or a quantized network, as .xml and .bin."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from bnas.detection import decoding_of
from bnas.errors import ConfigError, ExportError
from bnas.export.artefact import LATER, Artefact, ExportConfig, Quantized, digest_of, exporter
from bnas.export.nms import build_in_nms
from bnas.export.openvino_runtime import last_line, openvino, set_batch, without_telemetry
from bnas.export.preprocess import Preprocess, build_in
from bnas.export.traceable import traceable
from bnas.files import cannot_write, write_bytes


@dataclass(frozen=True, kw_only=True)
class OpenVinoIR(ExportConfig):
    """An .xml and a .bin that OpenVINO loads.

    `input_shape`: the network's input, [n, C, H, W], -1 for any number; null: that of the run's images, `batch` at a
    time. `preprocess`: pre-processing to build in, or "from_data": the normalisation of the run's images, on bytes. A
    run writes such networks beside the plain ones, as fp32_u8.xml and int8_u8.xml. `nms`: of a detector, decoding and
    non-maximum suppression are built in (fp32_nms.xml and int8_nms.xml; with pre-processing fp32_u8_nms.xml and so on).
    """

    kind: Literal["openvino_ir"] = "openvino_ir"
    input_shape: tuple[int, ...] | None = field(default=None, metadata=LATER)
    preprocess: Preprocess | Literal["from_data"] | None = field(default=None, metadata=LATER)
    nms: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        shape = self.input_shape
        if shape is not None and (len(shape) != 4 or any(size < 1 and size != -1 for size in shape)):
            raise ConfigError(
                f"input_shape: expected [n, C, H, W], each 1 or more, or -1 for any, got {list(shape)}"
            )
        if self.nms and self.batch != 1:
            raise ConfigError(f"nms: boxes are found in one image at a time, set batch=1; got {self.batch}")
        if self.nms and shape is not None:
            raise ConfigError("input_shape: expected null with nms, as anchors are for one size of images")


def convert(module: nn.Module, example: Tensor) -> Any:
    """`module`, in eval mode, as an `openvino.Model` in FP32 that takes one image of the example's shape.

    Raises:
        ExportError: OpenVINO has no rule for an operation, or the module cannot be traced.
    """
    return convert_with_modules(module, example)[0]


def convert_with_modules(module: nn.Module, example: Tensor) -> tuple[Any, dict[str, str]]:
    """As `convert`; and the paths of the modules that made the tensors, by the names that tensors have in the network.

    Raises:
        ExportError: as `convert`.
    """
    if any(layer.training for layer in module.modules()):
        raise ExportError("export: the network is in training mode; call .eval() on it first")
    module, image = traceable(module), example[:1]
    with torch.no_grad(), without_telemetry(), warnings.catch_warnings():
        # OpenVINO traces by torch.jit, which newer versions of torch call deprecated; what a tracer warns of
        # (Python branches on values) is settled by comparing the artefact with the module.
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", FutureWarning)
        warnings.simplefilter("ignore", TracerWarning)
        try:  # traced here, because OpenVINO would run the network three times to check the trace
            traced: Any = torch.jit.trace(module, image, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever the module's own forward raises
            why = " ".join(str(error).split())
            raise ExportError(f"export: the network cannot be traced: {why}") from error
        try:
            model = openvino().convert_model(traced, example_input=image, input=list(image.shape))
        except Exception as error:  # OpenVINO has no common class of errors
            raise ExportError(f"export: {_why_not(error)}") from error
    modules = {  # a scope is the path of modules that were entered: __module.a/__module.a.b
        output.debugName(): node.scopeName().rpartition("/")[2].partition(".")[2]
        for node in traced.inlined_graph.nodes()
        for output in node.outputs()
    }
    return model, modules


def save(model: Any, path: Path) -> tuple[str, int]:
    """Write an `openvino.Model` to `path` (.xml) and the .bin beside it; returns digest and total bytes.

    The .bin goes first: an .xml that is there has its weights. The same network gives the same bytes.

    Raises:
        RunError: the files cannot be written.
    """
    _name_plainly(model)
    try:
        with TemporaryDirectory() as folder:
            aside = Path(folder) / "network.xml"
            openvino().save_model(model, str(aside), compress_to_fp16=False)
            xml, weights = aside.read_bytes(), aside.with_suffix(".bin").read_bytes()
    except (OSError, RuntimeError) as error:  # no room in the folder for temporary files
        cannot_write(path, last_line(error), error)
    write_bytes(path.with_suffix(".bin"), weights)
    write_bytes(path, xml)
    return digest_of(xml, weights), len(xml) + len(weights)


@exporter(OpenVinoIR)
def export_openvino_ir(
    model: nn.Module | Quantized, config: OpenVinoIR, path: Path, example: Tensor
) -> Artefact:
    """Write the network to `path`, whose suffix is .xml (added where missing), and the .bin beside it."""
    path = path if path.suffix == ".xml" else path.with_name(f"{path.name}.xml")
    network, preprocess = _network(model, example), config.preprocess
    _set_shape(network, config)
    if isinstance(preprocess, str):
        raise ExportError(f"export.preprocess: '{preprocess}' is for runs; give mean_values and scale_values")
    if config.nms:
        network = build_in_nms(network, _detector(model), example)
    if preprocess is not None:
        network = build_in(network, preprocess)
    digest, size_bytes = save(network, path)
    return Artefact(
        path=str(path),
        format="openvino_ir",
        precision=model.precision if isinstance(model, Quantized) else "f32",
        digest=digest,
        size_bytes=size_bytes,
        preprocess=preprocess,
        nms=config.nms,
    )


def _detector(model: nn.Module | Quantized) -> nn.Module:
    detector = model.detector if isinstance(model, Quantized) else model
    if detector is None or decoding_of(detector) is None:
        raise ExportError("export.nms: the network is no detector; set nms=false")
    return detector


def _network(model: nn.Module | Quantized, example: Tensor) -> Any:
    """An `openvino.Model` of one's own."""
    if not isinstance(model, Quantized):
        return convert(model, example)
    if model.runtime == "openvino":
        return model.model.clone()
    raise ExportError(
        f"export: openvino_ir takes torch modules and networks quantized for OpenVINO, this one was quantized for "
        f"{model.runtime}"
    )


def _set_shape(network: Any, config: OpenVinoIR) -> None:
    if config.input_shape is None:
        set_batch(network, config.batch)
        return
    wanted = openvino().PartialShape(list(config.input_shape))
    try:
        network.reshape({network.inputs[0]: wanted})
    except RuntimeError as error:
        raise ExportError(
            f"export.input_shape: the network, made for {network.inputs[0].partial_shape}, does not take "
            f"{list(config.input_shape)}: {last_line(error)}"
        ) from error


def _name_plainly(model: Any) -> None:
    """Number the operations that OpenVINO named by a counter of this process: equal is written equal."""
    model.set_friendly_name("network")
    for index, operation in enumerate(model.get_ordered_ops()):
        kind = operation.get_type_name()
        name = re.sub(r"\b[A-Za-z]+_\d{2,}\b", "", operation.get_friendly_name())
        if name != operation.get_friendly_name():
            operation.set_friendly_name(f"{kind}.{index}{name}")


def _why_not(error: Exception) -> str:
    text = str(error)
    if match := re.search(r"No conversion rule found for operations: (.+)", text):
        return f"OpenVINO cannot convert the operation {match[1].strip()}"
    if match := re.search(r"-- (\S+) with a message:\s*(.+)", text):
        return f"OpenVINO cannot convert the operation {match[1]}: {match[2].strip()}"
    return f"OpenVINO cannot convert the network: {last_line(error)}"
