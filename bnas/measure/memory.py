"""Memory that a deployed network takes: the peak of a fresh process that loads and runs it.

What is read is resident memory at its peak (Linux: VmHWM) from loading the artefact to the end of some
inferences, minus what the process held when the runtime had run a tiny network: the runtime's own. It holds the
weights, what compiling needs, and activations; where it cannot be read, the answer is None and why, never 0.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from bnas.errors import BnasError
from bnas.measure.backends import BACKENDS
from bnas.measure.hardware import HwConfig
from bnas.plain import from_plain, to_plain
from bnas.quantize import NncfPTQ

_PATIENCE_S = 120.0  # for one answer; a large network may be compiled for a minute


@dataclass(frozen=True, kw_only=True)
class Memory:
    """`peak_bytes`: of loading and running one network, without what the runtime itself takes; None where it
    cannot be read, and then `why_not` says why. `runtime_bytes` is what the process held before.
    """

    peak_bytes: int | None
    runtime_bytes: int | None = None
    why_not: str = ""


class MemoryGauge:
    """Peak memory of one artefact after another, each in a process of its own.

    A context manager. One process imports torch and the runtime once, without using them, and is forked for
    each artefact (bnas/measure/memory_process.py): a fresh process at the price of a fork.
    """

    def __init__(self, hw: HwConfig) -> None:
        self._hw = replace(hw, where="here", device="", address="")
        self._process: subprocess.Popen[str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="bnas_memory_", ignore_cleanup_errors=True)
        self._tiny: Path | None = None
        self._why_not = _why_not(hw)

    def __enter__(self) -> MemoryGauge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process. A later `peak` begins another one."""
        process, self._process, self._tiny = self._process, None, None
        if process is not None:
            process.kill()
            process.communicate()
        self._folder.cleanup()

    def peak(self, artefact: Path) -> Memory:
        """Of loading `artefact`, a path that the backend's `prepare` takes, and some inferences with it.

        That the network cannot be loaded, or its process is killed, is said in `why_not`.
        """
        if self._why_not:
            return Memory(peak_bytes=None, why_not=self._why_not)
        try:
            process = self._process or self._started()
            request = {"hw": to_plain(self._hw), "tiny": str(self._tiny), "artefact": str(artefact)}
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], _PATIENCE_S)[0]:
                raise TimeoutError
            return from_plain(Memory, json.loads(process.stdout.readline()))
        except (OSError, ValueError, BnasError) as error:
            self.close()
            said = f"no answer after {_PATIENCE_S:.0f} s" if isinstance(error, TimeoutError) else str(error)
            return Memory(peak_bytes=None, why_not=f"the process that runs it failed: {said}")

    def _started(self) -> subprocess.Popen[str]:
        Path(self._folder.name).mkdir(exist_ok=True)
        self._tiny = _tiny_artefact(self._hw, Path(self._folder.name))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bnas.measure.memory_process", BACKENDS[self._hw.backend].package],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "OPENBLAS_NUM_THREADS": "1",  # NumPy's; no threads before the fork
            },
        )
        return self._process


def peak_memory(artefact: Path, hw: HwConfig) -> Memory:
    """`MemoryGauge.peak` of a single artefact."""
    with MemoryGauge(hw) as gauge:
        return gauge.peak(artefact)


def _why_not(hw: HwConfig) -> str:
    if BACKENDS[hw.backend].save is None:
        return f"{hw.backend} has no file from which a fresh process could load a network"
    if not Path("/proc/self/status").exists():
        return "the peak of a process is read from /proc, which this system does not have"
    return ""


def _tiny_artefact(hw: HwConfig, folder: Path) -> Path:
    """A network with next to no weights and activations, with the usual kinds of layers."""
    backend = BACKENDS[hw.backend]
    with torch.random.fork_rng(devices=()):
        network = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 8)
        ).eval()
    if "f32" in backend.precisions:  # its memory is not the question, and quantizing takes seconds
        hw = replace(hw, precision="f32")
    deployed = backend.deploy(hw, NncfPTQ())(network, torch.zeros(hw.batch, 3, 8, 8))
    assert backend.save is not None
    return backend.save(deployed, folder)
