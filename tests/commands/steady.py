"""A plugin for tests of resumption: a clock that only networks move, no other work, and a kill at a chosen write.

Everything else is real: the networks are quantized, compiled and run by OpenVINO. With this clock a latency
depends on the network alone, so that two runs can be compared to the byte.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from math import prod

from torch import Tensor

from bnas.measure import hardware, timing
from bnas.measure.backends import BACKENDS, Network, Runner
from bnas.measure.disturbance import Witness
from bnas.measure.hardware import HwConfig

real = BACKENDS["openvino"]
seconds = 0.0
TICK = (
    2.0**-27
)  # a power of two: sums of ticks are exact, so a difference does not depend on when it is taken


class SteadyRunner:
    def __init__(self, runner: Runner) -> None:
        self.runner, self.inferences = runner, runner.inferences
        compiled = runner._request.get_compiled_model()
        operations = compiled.get_runtime_model().get_ordered_ops()
        elements = sum(prod(o.get_output_shape(0)) for o in operations if o.get_output_size())
        self.seconds = elements * TICK * runner.inferences

    def __call__(self) -> None:
        global seconds
        self.runner()
        seconds += self.seconds

    def predict(self, images: Tensor) -> Tensor:
        return self.runner.predict(images)


def prepare(network: Network, hw: HwConfig, example: Tensor | None) -> SteadyRunner:
    return SteadyRunner(real.prepare(network, hw, example))


BACKENDS["openvino"] = replace(real, prepare=prepare)
timing.now = lambda: seconds
Witness.disturbed = lambda self: False
hardware.frequency_mhz = lambda cpu: None  # it is that of the moment

remaining = int(os.environ.get("KILL_AT_WRITE", "0"))
real_fsync = os.fsync


def fsync(descriptor: int) -> None:
    """Counts what is written; SIGKILL in the middle of the chosen write, as a power cut would."""
    global remaining
    remaining -= 1
    if remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real_fsync(descriptor)


if remaining:
    os.fsync = fsync
