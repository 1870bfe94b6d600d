"""`python search_in_parallel.py LOG FOLDER WORKERS ADDRESS HOLD`: a search that can be killed, and goes on."""

from __future__ import annotations

import sys
from pathlib import Path

from evaluation_by_formula import FACTORY

from bnas.cluster import RayConfig
from bnas.search import OBJECTIVES, SearchConfig, search
from bnas.search.parallel import ray_pool
from bnas.space import Choice, SearchSpace

SPACE = SearchSpace(
    choices=tuple(
        Choice(name=f"layer{i}.width", dim="width", values=tuple(range(8, 72, 8))) for i in range(5)
    )
)
GOALS = (OBJECTIVES["top1_percent"], OBJECTIVES["latency_ms"])
CONFIG = SearchConfig(algorithm="nsga2", evaluations=24, population=8)


if __name__ == "__main__":
    log, folder, workers, address, hold = sys.argv[1:]
    arguments = {"folder": folder, "hold": hold}
    with ray_pool(FACTORY, arguments, int(workers), RayConfig(address=address)) as pool:
        search(SPACE, GOALS, pool, CONFIG, seed=3, log=Path(log))
