"""The process behind `MemoryGauge`: `python -m bnas.measure.memory_process PACKAGE`.

It reads requests from stdin and writes answers to stdout, a line of JSON each. It imports what is needed but
starts no threads, so that it can be forked: each request is done by a child, which then ends.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from bnas.export.openvino_runtime import without_telemetry
from bnas.measure.backends import prepare
from bnas.measure.hardware import HwConfig, pinned
from bnas.plain import from_plain

CALLS = 3  # inferences; a runtime may take its working memory in the first ones
_STATUS = Path("/proc/self/status")


def main() -> None:
    """Answer requests until stdin ends."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what runtimes print must not come among the answers
    with suppress(ImportError), without_telemetry():  # whose thread could hold a lock at a fork
        importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        os.write(answers, (json.dumps(_in_child(json.loads(line))) + "\n").encode())


def _in_child(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.write(writing, json.dumps(_answer(request)).encode())
            status = 0
        finally:
            os._exit(status)  # without what others registered for the end of their process
    os.close(writing)
    with open(reading, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    if answer:
        return dict(json.loads(answer))
    ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"with status {status}"
    return {"peak_bytes": None, "why_not": f"the process that ran it was ended: {ended}"}


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        hw = from_plain(HwConfig, request["hw"])
        with pinned(hw):
            tiny = prepare(Path(request["tiny"]), hw)
            tiny()
            runtime = _resident("VmRSS")
            before = _reset_peak()
            runner = prepare(Path(request["artefact"]), hw)
            for _ in range(CALLS):
                runner()
            # A peak that was there before, and that may not be reset, says nothing of this network.
            peak = _resident("VmHWM")
            peak = peak if peak > before else _resident("VmRSS")
        return {"peak_bytes": max(peak - runtime, 0), "runtime_bytes": runtime}
    except Exception as error:
        return {"peak_bytes": None, "why_not": f"{type(error).__name__}: {error}"}


def _resident(name: str) -> int:
    """Bytes: VmRSS now, VmHWM at its peak."""
    match = re.search(rf"^{name}:\s*(\d+) kB", _STATUS.read_text(), re.M)
    if match is None:
        raise OSError(f"{_STATUS} does not tell {name}")
    return int(match[1]) * 1024


def _reset_peak() -> int:
    """Let the peak begin anew, where the system allows that; the peak from now on is above what is returned."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _resident("VmHWM")


if __name__ == "__main__":
    main()
