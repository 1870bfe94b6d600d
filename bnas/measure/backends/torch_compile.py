"""PyTorch on the CPU, compiled by torch.compile with inductor, weights frozen. Needs a C++ compiler."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from bnas.errors import MeasureError
from bnas.export import Quantized
from bnas.measure.backends.torch_eager import TorchRunner, deploy, first_line, module_of, placed

if TYPE_CHECKING:
    from bnas.measure.hardware import HwConfig

__all__ = ["deploy", "prepare"]

COMPILER = "inductor"


def prepare(network: nn.Module | Quantized | Path, hw: HwConfig, example: Tensor | None) -> TorchRunner:
    """`network`, a module, compiled as one graph for the very shape of its input and `hw.thread_count` threads.

    Raises:
        MeasureError: it is no module, it is not one graph (which line), or there is no C++ compiler.
    """
    module, example = module_of(network, example, "torch_compile")
    if any(layer.training for layer in module.modules()):
        raise MeasureError("the network is in training mode; call .eval() on it first")
    module, image = placed(module, hw, example)
    compiled = torch.compile(_function_of(module), fullgraph=True, dynamic=False, backend=COMPILER)
    with _frozen():
        try:
            return TorchRunner(compiled, image, hw.thread_count)
        except Exception as error:  # torch.compile's errors, and whatever the module's own forward raises
            raise MeasureError(_why_not(error)) from error


def _function_of(module: nn.Module) -> Callable[[Tensor], Any]:
    """A function with code of its own that calls `module`.

    What is compiled is kept by code: subnets of one class would share it, look through each other's versions
    at each call, and be refused after the eighth.
    """
    own: dict[str, Any] = {"module": module}
    exec("def run(x):\n    return module(x)\n", own)
    run: Callable[[Tensor], Any] = own["run"]
    return run


@contextmanager
def _frozen() -> Iterator[None]:
    """Weights are constants, laid out for the kernels; no process of the compiler stays to disturb the timing."""
    from torch._inductor import config

    # That there is no CUDA, and what is raised as an error besides, need not be logged.
    loggers = [
        logging.getLogger(name) for name in ("torch.utils.cpp_extension", "torch._subclasses.fake_tensor")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with config.patch(freezing=True, compile_threads=1):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _why_not(error: Exception) -> str:
    text = str(error)
    if "C++ compiler" in text or "CppCompileError" in text:
        return (
            "torch.compile needs a C++ compiler that works (g++, or the one named by the variable CXX); "
            "install it with: apt-get install g++, or take hw.backend=torch_eager"
        )
    lines = re.findall(
        r'^\s*File ".+", line \d+, in .+\n(?!\s*File )\s*(.+)$', text.partition("from user code:")[2], re.M
    )
    where = f" (at: {lines[-1].strip()})" if lines else ""
    explanation = re.search(r"Explanation: (.+)", text)
    why = f": {shorten(explanation[1], 300)}" if explanation else ""
    return f"torch.compile cannot compile this network: {first_line(error)}{why}{where}"
