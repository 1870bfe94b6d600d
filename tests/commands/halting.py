"""A plugin for tests under torchrun: ends the training at a chosen step of this process.

HALT=25:kill and HALT=25:interrupt: as a power cut and as Ctrl-C (which torchrun gets). HALT=25:fail: process 1 meets
an error of its own. Not when torchrun has restarted the processes.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from bnas.errors import DataError
from bnas.train import loop

restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
at, _, how = ("0", "", "") if restarted else os.environ.get("HALT", "0:").partition(":")
remaining = int(at)
real_step = loop.train_step


def train_step(*args: Any) -> Any:
    global remaining
    made = real_step(*args)
    remaining -= 1
    if remaining == 0 and how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if remaining == 0 and how == "interrupt" and os.environ["RANK"] == "0":
        os.kill(os.getppid(), signal.SIGINT)
    if remaining <= 0 and how == "interrupt":
        time.sleep(0.2)  # the signal takes its way through torchrun
    if remaining == 0 and how == "fail" and os.environ["RANK"] == "1":
        raise DataError("/images/7.png: not readable here")
    return made


if how:
    loop.train_step = train_step
