"""Where networks run: a device takes a network, and answers how long it took beside the reference."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from torch import Tensor

from bnas.measure.backends import BACKENDS, Network, Runner, prepare
from bnas.measure.disturbance import Calm
from bnas.measure.energy import energy_of
from bnas.measure.fingerprint import fingerprint
from bnas.measure.hardware import Hardware, HwConfig, detect, pinned
from bnas.measure.memory import Memory, MemoryGauge
from bnas.measure.timing import MeasureConfig, Timing, time_interleaved

REFERENCE, SUBNET = "reference", "subnet"
INSTANCES = 5  # of the reference, of which the one in the middle is taken
_PREPARING_S = 3.0  # for which they may be prepared; where that takes longer, there are fewer
_SMALL_S = 0.05  # what a call of a network takes at most of which instances differ: it lives off caches
_ROUNDS = 10  # of timing them


@dataclass(frozen=True, kw_only=True)
class Timed:
    """What a device says of one network, timed in turn with the reference.

    `artefact` is the SHA-256 of the network's weights and operations, `size_bytes` the size of its weights;
    `seconds` what compiling and timing took; `memory_bytes` is peak resident memory, `energy_mj` millijoules of
    one inference; where one is None that should not be, `unreadable` says which and why.
    """

    subnet: Timing
    reference: Timing
    hardware: Hardware
    threads: int
    artefact: str
    size_bytes: int
    seconds: dict[str, float]
    memory_bytes: int | None = None
    energy_mj: float | None = None
    unreadable: dict[str, str] = field(default_factory=dict)


class Device(Protocol):
    """Networks go in by `submit`, at most `capacity` that are not answered, and come out by `results`."""

    @property
    def capacity(self) -> int:
        """How many networks it can have at once."""
        ...

    @property
    def hardware(self) -> Hardware:
        """The machine that the networks run on."""
        ...

    def submit(self, key: int, network: Network, example: Tensor) -> None:
        """Have `network` timed; `key` is its name in the results."""
        ...

    def results(self) -> Iterator[tuple[int, Timed]]:
        """What is finished, by key, in any order; waits for one at least.

        Raises:
            MeasureError: a network cannot be run or timed.
        """
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


def _typical(network: Network, hw: HwConfig, config: MeasureConfig, example: Tensor) -> Runner:
    """`network` prepared several times, and of these the one that takes as long as most.

    Where its weights come to lie in memory may slow a small network by some per cent for as long as it lives, and all
    ratios are to the reference.
    """
    began, instances = time.perf_counter(), [prepare(network, hw, example)]
    if _seconds(instances[0]) > _SMALL_S:
        return instances[0]
    while len(instances) < INSTANCES and time.perf_counter() - began < _PREPARING_S:
        instances.append(prepare(network, hw, example))
    if len(instances) == 1:
        return instances[0]
    named = {str(place): own for place, own in enumerate(instances)}
    timings = time_interleaved(named, replace(config, min_rounds=_ROUNDS, max_rounds=_ROUNDS))
    return named[sorted(named, key=lambda name: timings[name].ratio)[len(named) // 2]]


def _seconds(run: Runner) -> float:
    run()  # the first call is slower than any other
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


class Here:
    """This machine: one network at a time, in this process."""

    capacity = 1

    def __init__(self, hw: HwConfig, config: MeasureConfig, reference: Network, example: Tensor) -> None:
        self.hardware = detect(hw)
        self._hw, self._config = hw, config
        self._waiting: deque[tuple[int, Network, Tensor]] = deque()
        self._ends = ExitStack()
        self._gauge = self._ends.enter_context(MemoryGauge(hw)) if config.memory else None
        with pinned(hw):
            self._reference = _typical(reference, hw, config, example)
        # Several inferences at once scatter by more than a calm machine may be off: rounds tell nothing, timings do.
        self._calm = Calm() if hw.scenario == "latency" else None

    def submit(self, key: int, network: Network, example: Tensor) -> None:
        self._waiting.append((key, network, example))

    def results(self) -> Iterator[tuple[int, Timed]]:
        while self._waiting:
            key, network, example = self._waiting.popleft()
            yield key, self._time(network, example)

    def close(self) -> None:
        self._waiting.clear()
        self._ends.close()

    def _time(self, network: Network, example: Tensor) -> Timed:
        artefact, size_bytes = fingerprint(network)
        with pinned(self._hw):
            began = time.perf_counter()
            runner = prepare(network, self._hw, example)
            compiled = time.perf_counter()
            timings = time_interleaved({REFERENCE: self._reference, SUBNET: runner}, self._config, self._calm)
            timed = time.perf_counter()
            energy = energy_of(runner)
        memory = self._peak(network)
        return Timed(
            subnet=timings[SUBNET],
            reference=timings[REFERENCE],
            hardware=self.hardware,
            threads=self._hw.thread_count,
            artefact=artefact,
            size_bytes=size_bytes,
            seconds={"compile": compiled - began, "time": timed - compiled},
            memory_bytes=memory.peak_bytes,
            energy_mj=energy.mj,
            unreadable={
                name: own.why_not for name, own in (("energy", energy), ("memory", memory)) if own.why_not
            },
        )

    def _peak(self, network: Network) -> Memory:
        """Peak memory of the network, where that is asked for: of its files, loaded by a process of its own."""
        if self._gauge is None:
            return Memory(peak_bytes=None)
        if isinstance(network, Path):
            return self._gauge.peak(network)
        save = BACKENDS[self._hw.backend].save
        if save is None:
            return Memory(peak_bytes=None, why_not=f"{self._hw.backend} has no files to load a network from")
        with TemporaryDirectory(prefix="bnas-memory-") as folder:
            return self._gauge.peak(save(network, Path(folder)))
