"""Runtimes that can run a network: one table, one entry each.

To add a runtime: a module with `prepare` and `deploy` (and `save`, where networks can be sent to other
machines), and one line in `BACKENDS`. A plugin enters its own: `BACKENDS["mine"] = Backend(...)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Protocol

from torch import Tensor, nn

from bnas.errors import ConfigError, MeasureError, did_you_mean
from bnas.export import Quantized
from bnas.measure import timing
from bnas.measure.backends import onnxruntime, openvino, torch_compile, torch_cuda, torch_eager
from bnas.space import Precisions

if TYPE_CHECKING:
    from bnas.measure.hardware import HwConfig
    from bnas.quantize import QuantizeConfig

WINDOWS = 5  # of which the median is the throughput

Network = nn.Module | Quantized | Path
"""A module in eval mode, a network in its runtime's own form, or the path of an artefact."""

Deploy = Callable[[nn.Module, Tensor], Network]
"""A module, and an example input [n, C, H, W] of it, to what is timed."""

MixedDeploy = Callable[[nn.Module, Tensor, Precisions], Network]
"""The same, with the precision of each part of the module."""


class Runner(Protocol):
    """A network ready to run. Called, it does `inferences` inferences of `hw.batch` images, and waits for them.

    It is 1 in the latency scenario, and a few for each request that runs at once in the throughput scenario.
    The input is fixed and in place; outputs are not copied.
    """

    inferences: int

    def __call__(self) -> None: ...

    def predict(self, images: Tensor) -> Tensor:
        """The first output [n, ...] for any number of images [n, C, H, W]."""
        ...

    def predict_all(self, images: Tensor) -> tuple[Tensor, ...]:
        """All outputs, as `predict`; only asked of networks that have several, as detectors."""
        ...


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One runtime.

    `package`: the distribution whose version is recorded. `precisions` and `scenarios`: what `hw` may ask for.
    `prepare(network, hw, example)` compiles for `hw.precision`, `hw.scenario`, `hw.thread_count`, `hw.streams`
    and `hw.batch`; an artefact needs no example. `deploy(hw, quantizer)` gives the function by which a module
    becomes what is timed: converted, and for int8 quantized on made-up ranges, which change what a network
    answers, not how long it takes. `save(network, folder)` writes what `deploy` returned as files that
    `prepare` loads from the path returned, on another machine; None: the runtime's networks cannot be sent.
    `deploy_mixed`: `deploy` for int8 with parts that differ in precision; None: the runtime does not mix.
    All raise MeasureError of a network that the runtime does not take, naming the operation where it is known.
    """

    package: str
    precisions: tuple[str, ...]
    prepare: Callable[[Network, HwConfig, Tensor | None], Runner]
    deploy: Callable[[HwConfig, QuantizeConfig], Deploy]
    save: Callable[[Network, Path], Path] | None = None
    scenarios: tuple[str, ...] = ("latency", "throughput")
    deploy_mixed: Callable[[HwConfig, QuantizeConfig], MixedDeploy] | None = None


BACKENDS: dict[str, Backend] = {
    "openvino": Backend(
        package="openvino",
        precisions=("int8", "f32", "bf16"),
        prepare=openvino.prepare,
        deploy=openvino.deploy,
        save=openvino.save,
        deploy_mixed=openvino.deploy_mixed,
    ),
    "onnxruntime": Backend(
        package="onnxruntime",
        precisions=("int8", "f32"),
        prepare=onnxruntime.prepare,
        deploy=onnxruntime.deploy,
        save=onnxruntime.save,
    ),
    "torch_eager": Backend(
        package="torch",
        precisions=("f32", "bf16"),
        prepare=torch_eager.prepare,
        deploy=torch_eager.deploy,
        scenarios=("latency",),
    ),
    "torch_compile": Backend(
        package="torch",
        precisions=("f32", "bf16"),
        prepare=torch_compile.prepare,
        deploy=torch_compile.deploy,
        scenarios=("latency",),
    ),
    "torch_cuda": Backend(
        package="torch",
        precisions=("f32", "bf16"),
        prepare=torch_cuda.prepare,
        deploy=torch_cuda.deploy,
    ),
}


def prepare(network: Network, hw: HwConfig, example: Tensor | None = None) -> Runner:
    """`network` compiled for `hw`; `example` [n, C, H, W] is needed for a module.

    Raises:
        MeasureError: there is no such backend, or the network does not run in it.
    """
    return backend_of(hw).prepare(network, hw, example)


def throughput_per_s(
    network: Network, hw: HwConfig, seconds: float = 3.0, example: Tensor | None = None
) -> float:
    """Images per second when many inferences run at once: the median of several windows, `seconds` in all.

    Raises:
        MeasureError: the network does not run, or the backend has no throughput scenario.
    """
    backend = backend_of(hw)
    if "throughput" not in backend.scenarios:
        raise MeasureError(_not_offered("scenario", hw.backend, backend.scenarios, "throughput"))
    run = backend.prepare(network, replace(hw, scenario="throughput"), example)

    def window() -> float:
        begin, count = timing.now(), 0
        while (end := timing.now()) - begin < seconds / WINDOWS or count == 0:
            run()
            count += run.inferences * hw.batch
        return count / (end - begin)

    window()  # warms up
    return median(window() for _ in range(WINDOWS))


def check_offered(backend: str, precision: str, scenario: str) -> None:
    """Raise ConfigError when there is no such backend, or it has not this precision or scenario."""
    if backend not in BACKENDS:
        raise ConfigError(f"backend: no such backend '{backend}'{did_you_mean(backend, BACKENDS)}")
    entry = BACKENDS[backend]
    for option, got, offered in (
        ("precision", precision, entry.precisions),
        ("scenario", scenario, entry.scenarios),
    ):
        if got not in offered:
            raise ConfigError(_not_offered(option, backend, offered, got))


def backend_of(hw: HwConfig) -> Backend:
    """The backend that `hw` names. Raises MeasureError when there is none of this name (any more)."""
    if hw.backend not in BACKENDS:
        raise MeasureError(f"hw.backend: no such backend '{hw.backend}'{did_you_mean(hw.backend, BACKENDS)}")
    return BACKENDS[hw.backend]


def deploy_mixed(hw: HwConfig, quantizer: QuantizeConfig) -> MixedDeploy:
    """What makes networks whose parts differ in precision, for `hw`.

    Raises:
        ConfigError: `hw` is not asked for INT8, or its runtime does not mix precisions.
    """
    made = backend_of(hw).deploy_mixed
    if made is None:
        others = ", ".join(name for name, entry in BACKENDS.items() if entry.deploy_mixed is not None)
        raise ConfigError(
            f"hw.backend: {hw.backend} runs a whole network in one precision; precisions of blocks can be chosen for "
            f"{others}"
        )
    if hw.precision != "int8":
        raise ConfigError(
            "hw.precision: precisions of blocks are chosen for int8 (what is not quantized runs as FP32), got "
            f"{hw.precision}"
        )
    return made(hw, quantizer)


def _not_offered(option: str, backend: str, offered: tuple[str, ...], got: str) -> str:
    """`precision: the backend torch_eager takes f32 or bf16, got int8; int8 runs in openvino, onnxruntime`."""
    field = {"precision": "precisions", "scenario": "scenarios"}[option]
    others = [name for name, entry in BACKENDS.items() if got in getattr(entry, field)]
    elsewhere = f"; {got} runs in {', '.join(others)} (backend)" if others else ""
    return f"{option}: the backend {backend} takes {' or '.join(offered)}, got {got}{elsewhere}"
