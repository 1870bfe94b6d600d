"""What NNCF's quantizers compute with on torch tensors: its extension, or torch's own operations.

NNCF compiles an extension when a quantizer runs for the first time on a machine: most of a minute of a free core,
more on a small or busy machine, where NNCF gives up after 60 seconds. On the CPU the extension is the same chain of
torch operations, called from C++ instead of Python, and no faster; on CUDA it has kernels of its own. So nothing is
compiled but for trainings on CUDA, or where it is asked for, and nothing needs it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch

from bnas import progress
from bnas.quantize.nncf_backend import nncf_torch, part_of_nncf, quiet

Extension = Literal["auto", "always", "never"]

LIMIT_VARIABLE = "NNCF_EXTENSION_LOAD_TIMEOUT"  # seconds; NNCF's default is 60
LIMIT_SECONDS = 1800
_INSTALL = {
    "c++": "apt-get install g++",
    "ninja": "pip install ninja",
    "nvcc": "the CUDA toolkit of torch's version",
}


@contextmanager
def arithmetic(device: torch.device | str, extension: Extension = "auto") -> Iterator[None]:
    """Inside, the quantizers of modules on such a device can run; afterwards all is as it was.

    "never": by torch's own operations, and nothing is compiled. "always": by NNCF's extension, which is compiled now
    if it was never before; where it cannot be, by torch's own operations, and a line says why and how to mend it.
    "auto": "always" on CUDA, "never" elsewhere. The values are the same, up to rounding.
    """
    kind = torch.device(device).type
    functions, wanted = _functions(kind), extension == "always" or (extension == "auto" and kind == "cuda")
    why_not = _load(functions, kind) if wanted else ""
    if why_not:
        progress.say(
            f"note: NNCF's extension for {kind} is not used: {why_not}; quantizers compute by torch's own operations"
        )
    if wanted and not why_not:
        yield
        return
    before, functions._loaded_namespace = functions._loaded_namespace, _torch_operations()
    try:
        yield
    finally:
        functions._loaded_namespace = before


def _load(functions: Any, kind: str) -> str:
    """Load the extension, compiled first where it was not yet; why that is not possible, or nothing."""
    if functions._loaded_namespace is not None:
        return ""
    name, folder = functions._loader.name(), Path(functions._loader.get_build_dir())
    if not (folder / f"{name}.so").exists():
        if missing := _missing(kind):
            tools = ", ".join(f"{tool} ({_INSTALL.get(tool, 'named by CXX')})" for tool in missing)
            return f"what compiles it is missing: {tools}"
        progress.say(
            f"NNCF compiles its extension for {kind}, once on this machine: a minute, or ten on a small one "
            f"(quantize.extension=never does without it) → {folder}"
        )
    if (folder / "lock").exists():
        progress.say(
            f"waiting for a process that compiles it; if it was killed, stop this and: rm -r {folder}"
        )
    why_not = ""
    with quiet("nncf"), _long_limit():
        try:
            functions.get("Quantize_forward")
        except Exception as error:  # a time limit, a lock that a killed process left, a broken file
            why_not = str(error).strip().splitlines()[0].rstrip(".")
    if not why_not and not hasattr(functions._loaded_namespace, "__file__"):
        # NNCF could not compile it, has told its log, and has taken its reference
        functions._loaded_namespace, why_not = None, "it could not be compiled"
    return why_not and f"{why_not} (to try again: rm -r {folder})"


@contextmanager
def _long_limit() -> Iterator[None]:
    """Inside, NNCF waits longer for the compiler, unless the user has said how long."""
    own = LIMIT_VARIABLE in os.environ
    os.environ.setdefault(LIMIT_VARIABLE, str(LIMIT_SECONDS))
    try:
        yield
    finally:
        if not own:
            del os.environ[LIMIT_VARIABLE]


def _missing(kind: str) -> list[str]:
    """The programs that compile the extension and are not there."""
    needed = [os.environ.get("CXX", "c++"), "ninja", *(["nvcc"] if kind == "cuda" else [])]
    return [tool for tool in needed if shutil.which(tool) is None]


def _functions(kind: str) -> Any:
    """NNCF's place for the functions of a kind of device; they are there once the first was asked for."""
    nncf_torch()
    extensions = part_of_nncf("torch.quantization.extensions")
    return extensions.QuantizedFunctionsCUDA if kind == "cuda" else extensions.QuantizedFunctionsCPU


def _torch_operations() -> SimpleNamespace:
    """NNCF's reference, without the torch.compile that it goes through, which needs a compiler, too."""
    reference = part_of_nncf("torch.quantization.reference").torch_executor
    return SimpleNamespace(Quantize_forward=reference.forward, Quantize_backward=reference.backward)
