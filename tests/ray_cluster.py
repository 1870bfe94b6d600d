"""A Ray cluster of several nodes on loopback, as a stand-in for several machines."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
NODE = {"num_cpus": 0, "node_ip_address": "127.0.0.1"}
# A lost node is missed after 4 checks of 0.5 s, not after 5 of 3 s.
CHECKS = {"initial_delay_ms": 500, "period_ms": 500, "timeout_ms": 5000, "failure_threshold": 4}
HEAD = {
    "include_dashboard": False,
    "_system_config": {f"health_check_{name}": value for name, value in CHECKS.items()},
}
LOOPBACK_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's processes then take 127.0.0.1 for a node's address
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",  # not 15, with which they stand still where other tests are running
}


@contextmanager
def loopback_cluster() -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` whose head does no work; `add_node` adds more. They can import tests' modules."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in LOOPBACK_ALONE.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join(search_path()))
        pytest.importorskip("ray")
        from ray._private import ray_constants
        from ray.cluster_utils import Cluster

        patch.setattr(
            ray_constants, "ENABLE_RAY_CLUSTER", False
        )  # the same here, where Ray may be imported already
        made = Cluster(initialize_head=True, head_node_args={**NODE, **HEAD})
        try:
            yield made
        finally:
            made.shutdown()


def search_path() -> list[str]:
    """Where another process finds bnas and the modules of the tests."""
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [str(TESTS.parent), str(TESTS), *filter(None, given)]


def until(true: Any) -> None:
    """Wait until that is so; a test fails that waits for two minutes."""
    end = time.monotonic() + 120
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)
