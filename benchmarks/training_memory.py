"""Peak memory of training steps, each kind in a process of its own.

Linux tells a process's peak as VmHWM, from when the process began to run this program; ru_maxrss would begin
with that of the process that started it. On a GPU it is the most that torch's allocator had given out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.training_steps import Case, bnas_step, elastic_resnet50, plain_step, resnet50

STEPS = 5
KINDS = ("plain", "largest", "random")


def peak_mib(kind: str, case: Case, threads: int) -> dict[str, float]:
    """MiB of the process before the first step, and at most in STEPS steps; NaN where the system does not tell."""
    command = [sys.executable, "-m", "benchmarks.training_memory", kind]
    command += [str(case.batch), str(case.size), case.precision, case.device, str(threads)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("batch", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("precision", choices=("float32", "bfloat16"))
    parser.add_argument("device")
    parser.add_argument("threads", type=int)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    case = Case(batch=options.batch, size=options.size, precision=options.precision, device=options.device)
    if options.kind == "plain":
        step = plain_step(resnet50(), case)
        found = _run(step, case)
    else:
        supernet = elastic_resnet50(case)
        config = supernet.space.largest if options.kind == "largest" else None
        with bnas_step(supernet, case, config) as step:
            found = _run(step, case)
    print(json.dumps(found))


def _run(step: Callable[[], float], case: Case) -> dict[str, float]:
    before = _memory_mib(case, "VmRSS")
    for _ in range(STEPS):
        step()
    return {"before": before, "peak": _memory_mib(case, "VmHWM")}


def _memory_mib(case: Case, what: str) -> float:
    if torch.device(case.device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 2**10 for line in status.splitlines() if line.startswith(what))


if __name__ == "__main__":
    main()
