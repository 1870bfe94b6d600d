"""The commands of `python -m bnas`, in the order of the work; each stage's is one file, named like it."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from bnas.commands.invocation import Command, Invocation


def _later(module: str, function: str) -> Callable[[Invocation], None]:
    """A command whose module is imported when it runs: `--help` must not wait for torch."""

    def run(invocation: Invocation) -> None:
        getattr(importlib.import_module(f"bnas.commands.{module}"), function)(invocation)

    return run


_STAGES = {
    "build": "trace the model and derive its search space; says what is elastic, what is frozen and why",
    "pretrain": "get the original network: its published weights, or train it when there are none",
    "train": "train the super-network stage by stage (does build and pretrain first where needed)",
    "measure": "time sample subnets on a machine and fit the latency predictor; measure --check, measure worker",
    "search": "search the space for the best trade-offs, then verify the front on this machine",
    "extract": "take the chosen subnets A, B and C out as plain modules",
    "finetune": "train them on, each on its own, where finetune.epochs or train=finetune asks for it",
    "quantize": "quantize them, and the original network, to INT8",
    "export": "write their FP32 networks too, and check every file against the torch module",
    "verify": "accuracy on the held-out test images and interleaved latency of every exported file",
    "report": "the table, report.json and report.html; of several runs, compare.html: report runs/a runs/b",
}

COMMANDS: dict[str, Command] = {
    **{
        name: Command(name=name, help=help, run=_later("stages", "command"), together=True)
        for name, help in _STAGES.items()
    },
    "measure": Command(
        name="measure", help=_STAGES["measure"], run=_later("measure", "command"), together=True
    ),
    "report": Command(
        name="report", help=_STAGES["report"], run=_later("compare", "command"), together=True
    ),
    "run": Command(
        name="run", help="all of the above, skipping what is done", run=_later("stages", "command"),
        together=True,
    ),
    "check": Command(
        name="check", help="top-1 and top-5 of networks in any format: check FILE …, or check --yaml FILE",
        run=_later("check", "command"),
    ),
    "bench": Command(
        name="bench", help="the exported networks under load, in the scenarios of MLCommons LoadGen",
        run=_later("bench", "command"),
    ),
    "data": Command(
        name="data", help="prepare images with boxes from files you have: data openimages-mlperf …; downloads nothing",
        run=_later("data", "command"),
    ),
    "show": Command(
        name="show", help="a run, or a part: show space, latency, front, subnet A, diff A B, report, params FILE",
        run=_later("show", "command"),
    ),
}  # fmt: skip

__all__ = ["COMMANDS", "Command", "Invocation"]
