from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from math import inf
from pathlib import Path

import pytest

from bnas.measure import disturbance
from bnas.measure.disturbance import Calm, Witness, calm_ms

linux = pytest.mark.skipif(
    not os.path.exists("/proc/self/schedstat"), reason="the system's scheduler does not tell"
)


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


OCCUPY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"


@contextmanager
def pinned_to(cpu: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@linux
def test_another_process_on_the_same_cpu_is_noticed() -> None:
    cpu = max(os.sched_getaffinity(0))
    with subprocess.Popen([sys.executable, "-c", OCCUPY, str(cpu)], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            with pinned_to(cpu), Witness() as witness:
                deadline = time.monotonic() + 30
                while True:
                    witness.begin()
                    spin(0.05)
                    if witness.disturbed():
                        break
                    assert time.monotonic() < deadline, "two processes share a CPU, and nothing was noticed"
        finally:
            other.kill()


@linux
def test_waiting_of_every_thread_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The witness reads the threads that there are when it is made, and each of them once."""
    ready, stop = threading.Event(), threading.Event()

    def wait() -> None:
        ready.set()
        stop.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait()
    try:
        with Witness() as witness:
            assert len(witness._files) == len(os.listdir("/proc/self/task"))
            own = sum(
                int(Path(f"/proc/self/task/{task}/schedstat").read_text().split()[1])
                for task in os.listdir("/proc/self/task")
            )
            assert witness._waiting() == pytest.approx(own / 1e9, abs=0.01)
        assert witness._files == []
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    ("waited_s", "stolen_s", "expected"),
    [(0.0, 0.0, False), (0.0001, 0.0, False), (0.5, 0.0, True), (0.0, 0.5, True)],
)
def test_waiting_or_stolen_time_disturb(
    monkeypatch: pytest.MonkeyPatch, waited_s: float, stolen_s: float, expected: bool
) -> None:
    """Two of a hundred parts of the time are the limit; a block here takes 0.01 s at least."""
    with Witness() as witness:
        monkeypatch.setattr(witness, "_files", witness._files or [os.open("/dev/null", os.O_RDONLY)])
        waits, steals = iter([3.0, 3.0 + waited_s]), iter([7.0, 7.0 + stolen_s])
        monkeypatch.setattr(witness, "_waiting", lambda: next(waits))
        monkeypatch.setattr(witness, "_stealing", lambda: next(steals))
        witness.begin()
        spin(0.01)
        assert witness.disturbed() is expected


@pytest.mark.parametrize(("stolen_s", "expected"), [(0.0, False), (0.5, True)])
def test_where_threads_wait_for_each_other_only_stolen_time_tells(
    monkeypatch: pytest.MonkeyPatch, stolen_s: float, expected: bool
) -> None:
    switches = count()
    monkeypatch.setattr(disturbance, "_switched", lambda: next(switches))  # more at each look
    with Witness(waiting=False) as witness:
        assert witness._files == []
        steals = iter([7.0, 7.0 + stolen_s])
        monkeypatch.setattr(witness, "_stealing", lambda: next(steals))
        witness.begin()
        assert witness.disturbed() is expected


def test_without_the_scheduler_switches_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(disturbance, "_TASKS", disturbance.Path(str(tmp_path)) / "nothing")
    switches = iter([5, 5, 5, 6])
    monkeypatch.setattr(disturbance, "_switched", lambda: next(switches))
    with Witness() as witness:
        witness.begin()
        assert not witness.disturbed()
        witness.begin()
        assert witness.disturbed()


def test_calm_is_known_once_enough_was_heard_and_lasts_through_long_noise() -> None:
    calm = Calm()
    assert calm.now
    for _ in range(29):
        calm.tell(4.0)
    assert calm.limit_ms == inf
    calm.tell(4.0)
    assert calm.limit_ms == pytest.approx(4.2)
    for _ in range(200):
        calm.tell(6.0)
    assert (calm.now, calm.limit_ms) == (False, pytest.approx(4.2))
    calm.tell(4.1)
    assert calm.now


def test_the_limit_is_five_per_cent_above_the_tenth_percentile() -> None:
    assert calm_ms(range(100, 201)) == pytest.approx(1.05 * 110)
    assert calm_ms([]) == 0
