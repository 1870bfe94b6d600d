"""Networks under load, by MLCommons LoadGen: its four scenarios, interleaved over all networks of a run."""

from __future__ import annotations

from bnas.load.bench import FOLDER, Entry, Where, run_bench
from bnas.load.config import PRESETS, SCENARIOS, LoadConfig
from bnas.load.loadgen import LoadTest, Samples, run_test
from bnas.load.openvino_queue import OpenVinoQueue
from bnas.load.rows import Comparison, LoadRow, Slice, compare
from bnas.load.summary import LoadResult, read_answers, read_result, top1_percent
from bnas.load.table import print_load

__all__ = [
    "FOLDER",
    "PRESETS",
    "SCENARIOS",
    "Comparison",
    "Entry",
    "LoadConfig",
    "LoadResult",
    "LoadRow",
    "LoadTest",
    "OpenVinoQueue",
    "Samples",
    "Slice",
    "Where",
    "compare",
    "print_load",
    "read_answers",
    "read_result",
    "run_bench",
    "run_test",
    "top1_percent",
]
