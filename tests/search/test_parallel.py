"""On a Ray cluster on loopback: a head that does no work, and nodes with cores. What there is to find is a formula."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluation_by_formula import FACTORY, formula
from ray_cluster import LOOPBACK_ALONE, NODE, TESTS, loopback_cluster, search_path, until
from search_in_parallel import CONFIG, GOALS, SPACE

from bnas import progress
from bnas.cluster import RayConfig, connected
from bnas.errors import ConfigError, MeasureError, MissingPackageError, RunError
from bnas.search import Failure, Job, SearchConfig, parallel, search
from bnas.search.parallel import ray_pool
from bnas.space import SubnetConfig

CONFIGS = [
    SubnetConfig({choice.name: 8 * (1 + (k + i) % 8) for i, choice in enumerate(SPACE.choices)})
    for k in range(8)
]
JOBS = [Job(config) for config in CONFIGS]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with loopback_cluster() as made:
        made.add_node(**{**NODE, "num_cpus": 3})
        with connected(RayConfig(address=made.address)):  # once for all tests
            yield made


@pytest.fixture
def pool_of(cluster: Any, tmp_path: Path) -> Any:
    def made(workers: int, **arguments: Any) -> Any:
        folder = tmp_path / f"of{workers}"
        folder.mkdir(exist_ok=True)
        arguments = {"folder": str(folder), **arguments}
        return ray_pool(FACTORY, arguments, workers, RayConfig(address=cluster.address))

    return made


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(progress, "say", lines.append)
    return lines


def values(config: SubnetConfig, share: float = 1.0) -> dict[str, float]:
    return {**formula(config, share), "threads": 1.0}


def asked(folder: Path) -> list[tuple[int, str]]:
    """(process, digest of the subnet) in the order of what was asked."""
    lines = (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else []
    return [(int(process), digest) for process, digest in (line.split() for line in lines)]


def test_outcomes_in_the_order_of_the_jobs(pool_of: Any, tmp_path: Path) -> None:
    digests = [config.digest for config in CONFIGS]
    odd = {digests[2]: "fails", digests[3]: "nan"}
    with pool_of(2, together=2, backwards=True, odd=odd) as pool:
        outcomes = list(pool.map([*JOBS[:5], Job(CONFIGS[5], 0.25)]))
        assert list(pool.map([])) == []
        again = list(pool.map(JOBS[6:]))
    assert outcomes[:2] == [values(config) for config in CONFIGS[:2]]
    assert outcomes[2] == Failure("this network cannot be converted")
    assert math.isnan(outcomes[3]["top1_percent"])
    assert outcomes[4:] == [values(CONFIGS[4]), values(CONFIGS[5], 0.25)]
    assert again == [values(config) for config in CONFIGS[6:]]
    done = asked(tmp_path / "of2")
    assert sorted(digest for _, digest in done) == sorted(digests)
    processes = {process for process, _ in done}  # both were at work at once, or it would never have ended
    assert len(processes) == 2
    until(lambda: not any(map(alive, processes)))


@pytest.mark.parametrize("screen", [1.0, 0.25])
def test_a_search_is_the_same_with_any_number_of_workers(pool_of: Any, tmp_path: Path, screen: float) -> None:
    config = SearchConfig(algorithm="nsga2", evaluations=24, population=8, screen=screen)
    front = search(SPACE, GOALS, values, config, seed=3, log=tmp_path / "alone.jsonl")
    for workers in (1, 2, 3) if screen == 1 else (3,):
        log = tmp_path / f"{workers}.jsonl"
        with pool_of(workers, together=min(workers, 2)) as pool:  # it begins with two: the ends of the space
            assert search(SPACE, GOALS, pool, config, seed=3, log=log) == front
        assert log.read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
        assert len({process for process, _ in asked(tmp_path / f"of{workers}")}) >= min(workers, 2)


def test_a_lost_workers_subnet_is_queued_again(pool_of: Any, tmp_path: Path, said: list[str]) -> None:
    digests, folder = [config.digest for config in CONFIGS], tmp_path / "of3"
    with pool_of(3, lose={digests[1]: 2, digests[4]: 1, digests[7]: 3}, together=3) as pool:
        assert list(pool.map(JOBS[:5])) == [values(config) for config in CONFIGS[:5]]
        assert len(said) == 3
        assert (
            sum(
                f"a worker was lost while it evaluated subnet {digests[1]}, which is queued" in x
                for x in said
            )
            == 2
        )
        done = asked(folder)
        assert [sum(own == digest for _, own in done) for digest in digests[:5]] == [1, 3, 1, 1, 2]

        for process in {process for process, _ in done}:  # all, while none has anything to do
            if alive(process):
                os.kill(process, signal.SIGKILL)
        assert list(pool.map(JOBS[5:7])) == [values(config) for config in CONFIGS[5:7]]

        with pytest.raises(
            MeasureError, match=rf"subnet {digests[7]}: 3 times the worker .* was lost \(\w+\)"
        ):
            list(pool.map(JOBS[7:]))


def test_a_lost_node(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker's subnet goes to another node's; when no node is left, to one that joins."""
    said: list[str] = []
    node = {**NODE, "num_cpus": 4}
    joined: list[Any] = []

    def say(line: str) -> None:
        said.append(line)
        (tmp_path / "go_on").touch()
        if "waiting for one" in line and not joined:
            joined.append(cluster.add_node(**node))

    monkeypatch.setattr(progress, "say", say)
    nodes = {raylet(own): own for own in (cluster.add_node(**node), cluster.add_node(**node))}
    arguments = {"folder": str(tmp_path), "hold": CONFIGS[1].digest}
    with ray_pool(FACTORY, arguments, 2, RayConfig(address=cluster.address), threads=4) as pool:
        outcomes = pool.map(JOBS[:4])
        assert next(outcomes)["threads"] == 4
        until(lambda: CONFIGS[1].digest in dict(map(reversed, asked(tmp_path))))
        (process,) = (process for process, digest in asked(tmp_path) if digest == CONFIGS[1].digest)
        cluster.remove_node(nodes.pop(parent(process)), allow_graceful=False)
        assert [own["latency_ms"] for own in outcomes] == [values(own)["latency_ms"] for own in CONFIGS[1:4]]
        assert [process for process, digest in asked(tmp_path) if digest == CONFIGS[1].digest][1] != process
        assert ["queued again" in line for line in said] == [True]

        ((_, left),) = nodes.items()
        cluster.remove_node(left, allow_graceful=False)
        until(lambda: not any(alive(process) for process, _ in asked(tmp_path)))
        (last,) = pool.map(JOBS[4:5])
        assert last["latency_ms"] == values(CONFIGS[4])["latency_ms"]
        assert sum("no node of the cluster has 4 cores free for a worker; waiting" in x for x in said) == 1

        monkeypatch.setattr(pool, "_wait_s", 1.0)  # only now: to start takes longer
        cluster.remove_node(joined[0], allow_graceful=False)
        until(lambda: not any(alive(process) for process, _ in asked(tmp_path)))
        with pytest.raises(RunError, match=r"had 4 cores free for a worker for 1 s \(ray.wait_s\)"):
            list(pool.map(JOBS[5:6]))


def test_a_killed_search_goes_on(cluster: Any, tmp_path: Path) -> None:
    """Killed with three workers of a local Ray; goes on with two of a cluster."""
    front = search(SPACE, GOALS, values, CONFIG, seed=3, log=tmp_path / "alone.jsonl")
    order = [candidate.config.digest for candidate in front.evaluations]
    log, first, second = tmp_path / "log.jsonl", tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    script, python = str(TESTS / "search_in_parallel.py"), sys.executable
    path = os.pathsep.join(search_path())
    environment = {**os.environ, **LOOPBACK_ALONE, "PYTHONPATH": path}
    environment.pop("RAY_ADDRESS", None)
    hold = order[12]  # of the second generation, which ends with 15
    with subprocess.Popen(
        [python, script, log, first, "3", "", hold], env=environment, cwd=tmp_path
    ) as running:
        # The others of the generation are done before, and wait for it.
        until(lambda: {own for _, own in asked(first)} == set(order[:16]) or running.poll() is not None)
        until(lambda: len(log.read_bytes().splitlines()) == 1 + 12)
        running.kill()
    until(lambda: not any(alive(process) for process, _ in asked(first)))  # Ray has ended its workers

    subprocess.run(
        [python, script, log, second, "2", cluster.address, ""], env=environment, cwd=tmp_path, check=True
    )
    assert log.read_bytes() == (tmp_path / "alone.jsonl").read_bytes()
    assert sorted(digest for _, digest in asked(second)) == sorted(order[12:])


def test_errors_of_workers_are_raised(pool_of: Any, tmp_path: Path) -> None:
    odd = {CONFIGS[1].digest: "option", CONFIGS[2].digest: "bug"}
    with pool_of(1, odd=odd) as pool:
        outcomes = pool.map(JOBS)
        assert next(outcomes) == values(CONFIGS[0])
        with pytest.raises(ConfigError, match=r"^hw\.backend: no such backend$"):
            next(outcomes)
        with pytest.raises(RunError) as raised:
            list(pool.map(JOBS[2:3]))
        assert str(raised.value).startswith(
            f"the evaluation of subnet {CONFIGS[2].digest} raised KeyError: 'no such key' "
            "(evaluation_by_formula.py:"
        )
        assert len(str(raised.value).splitlines()) == 1
        assert '{}["no such key"]' in str(raised.value.__cause__)
        assert list(pool.map(JOBS[3:4])) == [values(CONFIGS[3])]  # the worker lives
    with (
        pool_of(1, begins=False) as pool,
        pytest.raises(RunError, match=r"a worker cannot begin: .*holds no run"),
    ):
        list(pool.map(JOBS))


def test_nodes_without_this_bnas(pool_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere:
        def __init__(self) -> None:
            raise ModuleNotFoundError("No module named 'bnas'")

        def where(self) -> str:
            raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(parallel, "__version__", "0.0.1")
        with pool_of(1) as pool, pytest.raises(RunError, match=r"has bnas [\d.]+, this is 0\.0\.1; install"):
            list(pool.map(JOBS))
    monkeypatch.setattr(parallel, "Worker", Elsewhere)
    with (
        pool_of(1) as pool,
        pytest.raises(RunError, match=r"No module named 'bnas'; is bnas installed there\?"),
    ):
        list(pool.map(JOBS))


def test_without_workers_or_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"search.workers: expected 1 or more .* got 0"):
        ray_pool(FACTORY, {}, 0, RayConfig()).__enter__()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"ray is not installed; .*'bnas\[ray\]'"):
        ray_pool(FACTORY, {}, 1, RayConfig()).__enter__()


def raylet(node: Any) -> int:
    """The process of a node that starts its workers."""
    process: int = node.all_processes["raylet"][0].process.pid
    return process


def alive(process: int) -> bool:
    return state_of(process)[0] != "Z"  # that one is killed, and not yet waited for


def parent(process: int) -> int:
    return int(state_of(process)[1])


def state_of(process: int) -> list[str]:
    """What Linux says of a process, from its state on."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["Z", "0"]
