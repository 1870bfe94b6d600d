"""`torch.export`: a torch module, or a network quantized as a torch graph, as a .pt2 file; its run in PyTorch."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnas.errors import ExportError, MissingPackageError, require
from bnas.export.artefact import Artefact, ExportConfig, Quantized, digest_of, exporter
from bnas.export.batching import Asked, Takes
from bnas.export.pt2_archive import checked, weights_only
from bnas.export.texts import said
from bnas.export.traceable import traceable
from bnas.files import write_bytes

# Modules that make libraries of operations known to torch; networks quantized as graphs call the first.
_LIBRARIES = {
    "quantized_decomposed": "torch.ao.quantization.fx._decomposed",
    "torchao": "torchao",
    "torchvision": "torchvision",
}


@dataclass(frozen=True, kw_only=True)
class TorchExport(ExportConfig):
    """A .pt2 file, which PyTorch loads without the network's code."""

    kind: Literal["torch_export"] = "torch_export"


def to_program(model: nn.Module, example: Tensor, batch: int | None = 1) -> torch.export.ExportedProgram:
    """`model`, in eval mode or a graph, as a program that takes `batch` images (None: any number).

    `example` is one input [n, C, H, W]; of it the shape alone is used, so that no image gets into the file.

    Raises:
        ExportError: torch cannot export the network as a graph, or not for any number of images.
    """
    if not isinstance(model, torch.fx.GraphModule) and any(layer.training for layer in model.modules()):
        raise ExportError("export: the network is in training mode; call .eval() on it first")
    model = traceable(model)
    images = torch.zeros(2 if batch is None else batch, *example.shape[1:])  # torch takes 1 for a constant
    dynamic = ({0: torch.export.Dim("batch")},) if batch is None else None
    with torch.no_grad(), _quiet():
        try:
            program = torch.export.export(model, (images,), dynamic_shapes=dynamic, strict=False)
        except Exception as error:  # whatever the module's own forward raises, besides the exporter's errors
            raise ExportError(f"export: torch cannot export the network as a graph: {said(error)}") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names files of the machine that it was made on
    return program


@exporter(TorchExport)
def export_torch(model: nn.Module | Quantized, config: TorchExport, path: Path, example: Tensor) -> Artefact:
    """Write the network to `path`, whose suffix is .pt2 (added where missing)."""
    path = path if path.suffix == ".pt2" else path.with_name(f"{path.name}.pt2")
    if isinstance(model, Quantized) and model.runtime != "torch":
        raise ExportError(
            "export: torch_export takes torch modules and networks quantized as torch graphs, this one was quantized "
            f"for {model.runtime}"
        )
    module = model.model if isinstance(model, Quantized) else model
    program = to_program(module, example, config.batch)
    with _quiet():
        file = io.BytesIO()  # by a path, its name would get into the file
        torch.export.save(program, file)
    data = file.getvalue()
    write_bytes(path, data)
    return Artefact(
        path=str(path),
        format="torch_export",
        precision=model.precision if isinstance(model, Quantized) else "f32",
        digest=digest_of(data),
        size_bytes=len(data),
    )


def load_program(path: Path, *, trusted: bool = False) -> torch.export.ExportedProgram:
    """The program in a .pt2 file.

    Raises:
        ExportError: the file is damaged, of another version, or runs code when it is loaded (unless `trusted`).
    """
    file, libraries = checked(path, trusted=trusted)
    with _quiet(), weights_only(not trusted):
        for name in sorted(libraries & _LIBRARIES.keys()):
            with suppress(ImportError):
                import_module(_LIBRARIES[name])
        try:
            program = torch.export.load(file)
        except Exception as error:  # torch has no common class of errors
            raise ExportError(f"{path}: torch {torch.__version__} cannot load it: {said(error)}") from error
    if hasattr(program, "_guards_code"):
        program._guards_code = []
    return program


def load_torch_export(path: Path, asked: Asked) -> tuple[Takes, Callable[[Tensor], Any]]:
    """The network in PyTorch, operation by operation or compiled by inductor, for `bnas.export.run.load`."""
    program = load_program(path, trusted=asked.trusted)
    names = program.graph_signature.user_inputs
    inputs = [
        node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name in names
    ]
    if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        raise ExportError(f"{path}: expected a network with one input, it has {len(inputs)}")
    shape = tuple(size if isinstance(size, int) else None for size in inputs[0].shape)
    module: Any = program.module()
    frozen: AbstractContextManager[object] = nullcontext()
    if asked.compiled:
        with suppress(MissingPackageError):
            int8_kernels()
        module = torch.compile(module)
        options: Any = import_module("torch._inductor.config")
        frozen = options.patch(freezing=True)  # weights that could change make inductor take FP32 kernels

    def step(images: Tensor) -> Any:
        with torch.no_grad(), frozen:
            return module(images)

    return Takes(shape=shape, u8=inputs[0].dtype == torch.uint8), step


def int8_kernels() -> None:
    """Let inductor use oneDNN's INT8 kernels for quantized graphs, in this process from now on; to be called before
    `torch.compile`, which has to freeze weights (`torch._inductor.config.freezing`). Without, it computes in FP32.

    Raises:
        MissingPackageError: `torchao` is not installed.
    """
    with _quiet():  # they are entered when this is imported
        require("torchao", "torchao")
        import_module("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch remarks on its own ways: deprecated parts that it uses itself, and logs of what it tries."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            for category in (DeprecationWarning, FutureWarning, UserWarning):
                warnings.filterwarnings("ignore", category=category, module=r"(torch|torchao)(\.|$)")
            yield
    finally:
        logging.disable(before)
