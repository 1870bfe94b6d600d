"""TorchScript, where torch still has it: a traced module as one file for libtorch and older PyTorch."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from bnas.errors import ConfigError, ExportError
from bnas.export.artefact import Artefact, ExportConfig, Quantized, digest_of, exporter
from bnas.export.batching import Asked, Takes
from bnas.export.texts import said
from bnas.export.traceable import traceable
from bnas.files import write_bytes

_SHAPE = "bnas.json"  # in the file: the shape of its input, which TorchScript itself forgets


@dataclass(frozen=True, kw_only=True)
class TorchScript(ExportConfig):
    """A .ts file; FP32 only. torch calls the format deprecated: prefer torch_export."""

    kind: Literal["torchscript"] = "torchscript"
    int8: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.int8:
            raise ConfigError(
                "int8: torchscript has no INT8 networks; take torch_export, onnx or openvino_ir"
            )


@exporter(TorchScript)
def export_torchscript(
    model: nn.Module | Quantized, config: TorchScript, path: Path, example: Tensor
) -> Artefact:
    """Write the network to `path`, whose suffix is .ts or .pt (.ts is added where neither is there)."""
    path = path if path.suffix in (".ts", ".pt") else path.with_name(f"{path.name}.ts")
    if isinstance(model, Quantized):
        raise ExportError(
            "export: torchscript takes FP32 modules; INT8 goes to torch_export, onnx or openvino_ir"
        )
    if not hasattr(torch.jit, "trace"):
        raise ExportError(f"export: torch {torch.__version__} has no TorchScript any more; take torch_export")
    if any(layer.training for layer in model.modules()):
        raise ExportError("export: the network is in training mode; call .eval() on it first")
    images = torch.zeros(config.batch or 2, *example.shape[1:])
    shape = [config.batch, *example.shape[1:]]
    with torch.no_grad(), _accepted():
        try:
            traced: Any = torch.jit.trace(traceable(model), images, strict=False, check_trace=False)  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever the module's own forward raises
            raise ExportError(f"export: the network cannot be traced: {said(error)}") from error
        file = io.BytesIO()  # by a path, its name would get into the file
        torch.jit.save(traced, file, _extra_files={_SHAPE: json.dumps({"shape": shape})})
    data = file.getvalue()
    write_bytes(path, data)
    return Artefact(
        path=str(path), format="torchscript", precision="f32", digest=digest_of(data), size_bytes=len(data)
    )


def load_torchscript(path: Path, asked: Asked) -> tuple[Takes, Callable[[Tensor], Any]]:
    """The network in PyTorch, for `bnas.export.run.load`; of a file not of bnas's the input's shape is unknown."""
    extra = {_SHAPE: ""}
    with _accepted():
        try:
            module: Any = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
            shape = json.loads(extra[_SHAPE])["shape"] if extra[_SHAPE] else None
            takes = Takes(shape=None if shape is None else tuple(shape))
        except Exception as error:  # RuntimeError for a damaged file or another version
            why = said(error).partition(". ")[0]
            raise ExportError(
                f"{path}: torch {torch.__version__} cannot load it as TorchScript: {why}"
            ) from error
    module.eval()

    def step(images: Tensor) -> Any:
        with torch.no_grad():
            return module(images)

    return takes, step


@contextmanager
def _accepted() -> Iterator[None]:
    """TorchScript is asked for: without torch's warning that it is deprecated, and its tracer's about constants."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", category)
        warnings.simplefilter("ignore", TracerWarning)
        yield
