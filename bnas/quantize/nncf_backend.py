"""NNCF as bnas uses it: quietly, telling nobody, with torchao, which its torch backends need beside it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import islice
from types import ModuleType
from typing import Any

import rich
import torch
from torch import Tensor

from bnas.errors import ExportError, require
from bnas.export.openvino_runtime import without_telemetry
from bnas.quantize.calibration import calibration_images

_CHATTY = (
    "torch.utils.cpp_extension",
    "torch.utils._pytree",
    "torchao",
)  # there is no CUDA; what is deprecated


def nncf_torch() -> ModuleType:
    """The package `nncf` with its torch backends loaded.

    Raises:
        MissingPackageError: NNCF is not installed, or torchao, which NNCF imports here and does not declare.
    """
    with quiet(), without_telemetry():
        nncf = require("nncf", "openvino")
        require("torchao", "torchao")
        require("nncf.torch", "openvino")
        require("nncf.torch.function_hook.strip", "openvino")
    return nncf


def part_of_nncf(name: str) -> Any:
    """A module inside of NNCF, "torch.strip"."""
    with quiet(), without_telemetry():
        return import_module(f"nncf.{name}")


def images_of(calibration: Iterable[Tensor], count: int, example: Tensor | None = None) -> list[Tensor]:
    """The first `count` images of the batches, on the CPU, each [1, C, H, W].

    Raises:
        ExportError: there is none; or one has another shape than those of `example`, or holds NaN.
    """
    if example is not None:
        return [torch.from_numpy(image) for image in calibration_images(calibration, count, example)]
    singles = (image[None].detach().float().cpu().contiguous() for batch in calibration for image in batch)
    images = list(islice(singles, count))
    if not images:
        raise ExportError("quantize: no calibration images were given")
    return images


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Without NNCF's bars, which it draws on rich's own console, what these loggers warn of, and deprecations."""
    console, names = rich.get_console(), (*loggers, *_CHATTY)
    levels = {name: logging.getLogger(name).level for name in names}
    before, console.quiet = console.quiet, True
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter(
                "ignore", ResourceWarning
            )  # NNCF waits for a compiler in a pool it never closes
            yield
    finally:
        console.quiet = before
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
