"""A few networks of the zoo in every run, others with every commit: the whole builder and its oracles on each.

Which ones is decided by the commit; `BNAS_ZOO_SEED=N` takes those of a seed again, and
`python -m benchmarks.coverage` examines all networks there are.
"""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import pytest

from benchmarks.coverage import quick_sample
from benchmarks.examine import examine, names

NETWORKS = 6


def zoo_seed() -> int:
    """`BNAS_ZOO_SEED`, else the commit that is checked out, else (no git here) the day."""
    if given := os.environ.get("BNAS_ZOO_SEED"):
        return int(given)
    try:
        command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=7", "HEAD"]
        return int(subprocess.run(command, capture_output=True, check=True, text=True).stdout, 16)
    except (OSError, subprocess.CalledProcessError):
        return datetime.now(timezone.utc).toordinal()


SEED = zoo_seed()


@pytest.mark.parametrize("name", quick_sample(NETWORKS, SEED))
def test_network_converts_and_holds_the_oracles(name: str) -> None:
    row = examine(name, small=True, seed=SEED)
    again = f"again: BNAS_ZOO_SEED={SEED} python -m pytest {__file__}"
    assert row.error is None, f"{name}: {row.error}; {again}"
    assert set(row.oracles.values()) == {"passed"}, f"{name}: {row.oracles}; {again}"
    assert not row.refused, f"{name}: {row.refused}; {again}"


def test_a_seed_gives_the_same_networks_again() -> None:
    assert quick_sample(NETWORKS, 7) == quick_sample(NETWORKS, 7)
    drawn = {name for seed in range(200) for name in quick_sample(NETWORKS, seed)}
    assert len(drawn) > 60  # not always the same few
    assert drawn <= set(names())
