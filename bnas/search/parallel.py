"""Evaluations on many processes and machines, through Ray.

A worker is an actor of Ray's: a process with cores of its own, which makes the evaluation once and then evaluates one
subnet after the other. What travels is JSON. As each subnet is evaluated with the same number of threads whoever does
it, and outcomes are given back in the order of the jobs, results do not depend on how many workers there are.
"""

from __future__ import annotations

import json
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from bnas import errors, progress
from bnas.cluster import Absence, RayConfig, connected, last_line
from bnas.errors import BnasError, ConfigError, MeasureError, RunError
from bnas.plain import to_plain
from bnas.search.pool import Failure, Job, Outcome
from bnas.search.worker import Answer, Place, Worker, decode, encode
from bnas.version import __version__

LOSSES = 3  # of the worker that evaluates a subnet, or that begins, before this counts as its own fault
_LOOK_S = 2.0  # between two looks at whether there is a worker at all
_SLOW_START_S = 60.0  # that a process may take to start where there is a core for it


@contextmanager
def ray_pool(
    factory: str, arguments: Mapping[str, Any], workers: int, ray: RayConfig, *, threads: int = 1
) -> Iterator[RayPool]:
    """`workers` processes that evaluate, on the nodes of the cluster `ray`, for as long as this lasts.

    Without an address, here or in $RAY_ADDRESS, they are processes of this machine. Each has `threads` cores to
    itself. Those for which there is no core (yet) wait for one, as of a node that joins, while the others work.

    Args:
        factory: `package.module:function`, which each worker calls once, with `arguments` (plain JSON) by name; it
            returns the `Evaluate` function for all jobs of this worker. The module has to be importable there, and
            files that it reads have to be under the same paths on all machines (relative ones: to this process's
            folder).

    Raises:
        ConfigError: less than one worker.
        MissingPackageError: Ray is not installed.
        RunError: there is no cluster at that address.
    """
    if workers < 1:
        raise ConfigError(f"search.workers: expected 1 or more to evaluate with Ray, got {workers}")
    with connected(ray, otherwise="local", cores=workers * threads) as module:
        pool = RayPool(module, factory, json.dumps(to_plain(arguments)), workers, ray.wait_s, threads)
        try:
            yield pool
        finally:
            pool.close()


class _Does(Enum):
    """What a worker was asked last."""

    START = auto()  # where it is, which it says when it has a process
    BEGIN = auto()
    EVALUATE = auto()
    ANSWER = auto()  # anything, to show that it is there still
    NOTHING = auto()


@dataclass(eq=False)
class _Actor:
    handle: Any
    task: Any
    does: _Does = _Does.START
    job: int = -1  # its place among those of the round
    lost_before: int = 0  # workers in its stead that were lost before they evaluated anything
    host: str = ""


@dataclass
class _Round:
    """The jobs of one `map`."""

    jobs: Sequence[Job]
    waiting: deque[int] = field(default_factory=deque)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    losses: Counter[int] = field(default_factory=Counter)


class RayPool:
    """A `Pool`: every worker has one job at a time. A job whose worker is lost goes to another one."""

    def __init__(
        self, ray: Any, factory: str, arguments: str, workers: int, wait_s: float, threads: int
    ) -> None:
        self._ray, self._begin = ray, (factory, arguments, threads, os.getcwd())
        self._wait_s, self._threads = wait_s, threads
        self._absence = Absence()
        # One call at a time in an actor; Ray gives it `num_cpus` cores of a node, and starts no other in its stead.
        self._class = ray.remote(Worker).options(num_cpus=threads, max_restarts=0, max_task_retries=0)
        self._actors = [self._started() for _ in range(workers)]

    def map(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """The outcome of each job, in their order, as soon as it and those before it are there.

        Raises:
            MeasureError: a subnet was lost with its worker three times.
            RunError: there was no worker for `ray.wait_s`, workers cannot begin, or an evaluation raised an error that
                is none of `bnas.errors`; such a one is raised as it is.
        """
        todo = _Round(jobs, deque(range(len(jobs))))
        self._ask_the_idle()
        try:
            for place in range(len(jobs)):
                while place not in todo.outcomes:
                    self._settle(todo)
                    self._hand_out(todo)
                yield todo.outcomes.pop(place)
        finally:
            for actor in self._actors:  # nobody asks any more what these find
                if actor.does is _Does.EVALUATE:
                    actor.does = _Does.ANSWER

    def close(self) -> None:
        """End all workers, whatever they are at."""
        for actor in self._actors:
            self._ray.kill(actor.handle)

    def _started(self, lost_before: int = 0) -> _Actor:
        handle = self._class.remote()
        return _Actor(handle, handle.where.remote(), lost_before=lost_before)

    def _hand_out(self, todo: _Round) -> None:
        for actor in self._actors:
            if actor.does is _Does.NOTHING and todo.waiting:
                actor.job, actor.does = todo.waiting.popleft(), _Does.EVALUATE
                actor.task = actor.handle.evaluate.remote(encode(todo.jobs[actor.job]))

    def _settle(self, todo: _Round) -> None:
        """Wait for a worker, and take what it says."""
        asked = {actor.task: actor for actor in self._actors if actor.does is not _Does.NOTHING}
        done, _ = self._ray.wait(list(asked), num_returns=1, timeout=_LOOK_S)
        if not done:
            self._look()
            return
        actor = asked[done[0]]
        try:
            answer = self._ray.get(actor.task)
        except self._ray.exceptions.RayError as error:
            if isinstance(error, self._ray.exceptions.RayTaskError) or getattr(
                error, "actor_init_failed", False
            ):  # raised before bnas had its turn
                raise RunError(
                    f"a node of the Ray cluster cannot evaluate: {last_line(error)}; is bnas installed there?"
                ) from error
            self._lost(actor, todo, error)
        else:
            self._absence.ends()
            self._take(actor, todo, answer)

    def _take(self, actor: _Actor, todo: _Round, answer: str) -> None:
        did, actor.does = actor.does, _Does.NOTHING
        if did is _Does.START:
            place = decode(Place, answer)
            if place.version != __version__:
                raise RunError(
                    f"{place.host} has bnas {place.version}, this is {__version__}; install the same there"
                )
            actor.host, actor.does = place.host, _Does.BEGIN
            actor.task = actor.handle.begin.remote(*self._begin)
        elif did is _Does.BEGIN:
            if (told := decode(Answer, answer)).error:
                raise _error(told, f"{actor.host}: a worker cannot begin: ")
            actor.lost_before = 0
        elif did is _Does.EVALUATE:
            told, job = decode(Answer, answer), todo.jobs[actor.job]
            if told.error:
                raise _error(
                    told, "" if told.raised else f"the evaluation of subnet {job.config.digest} raised "
                )
            values, failure = told.values or {}, told.failure
            todo.outcomes[actor.job] = values if failure is None else Failure(failure)

    def _lost(self, actor: _Actor, todo: _Round, error: Exception) -> None:
        """Start another worker in the stead of one that is gone; what it was about to evaluate is next again."""
        why, lost_before = type(error).__name__, actor.lost_before
        if actor.does is _Does.EVALUATE:
            subnet = todo.jobs[actor.job].config.digest
            todo.losses[actor.job] += 1
            if todo.losses[actor.job] == LOSSES:
                raise MeasureError(
                    f"subnet {subnet}: {LOSSES} times the worker that evaluated it was lost ({why}); if memory is "
                    "short, take fewer search.workers; then the same command goes on from here"
                ) from error
            todo.waiting.appendleft(actor.job)
            progress.say(f"a worker was lost while it evaluated subnet {subnet}, which is queued again")
        else:
            lost_before += 1
            if lost_before == LOSSES:
                raise RunError(
                    f"{LOSSES} times a worker was lost before it evaluated anything ({why}); if memory is short, "
                    "take fewer search.workers; then the same command goes on from here"
                ) from error
        self._ray.kill(actor.handle)  # where it only cannot be reached
        self._actors[self._actors.index(actor)] = self._started(lost_before)
        self._ask_the_idle()  # its node may have gone, and others with it

    def _ask_the_idle(self) -> None:
        """Whether they are there still; who does not answer gets no job, which would count as one that was lost."""
        for actor in self._actors:
            if actor.does is _Does.NOTHING:
                actor.does, actor.task = _Does.ANSWER, actor.handle.where.remote()

    def _look(self) -> None:
        """While nobody answers: is there anybody?"""
        if any(actor.does is not _Does.START for actor in self._actors):
            self._absence.ends()
            return
        patience = _SLOW_START_S if self._has_room() else 0.0
        lasts, cores = self._absence.seconds(), "1 core" if self._threads == 1 else f"{self._threads} cores"
        if lasts >= patience and self._absence.is_news():
            progress.say(f"no node of the cluster has {cores} free for a worker; waiting for one")
        if lasts > max(patience, self._wait_s):
            raise RunError(
                f"no node of the Ray cluster had {cores} free for a worker for {self._wait_s:g} s (ray.wait_s); "
                "start one with `ray start --address=HEAD:PORT`, then the same command goes on from here"
            )

    def _has_room(self) -> bool:
        """Whether a worker would find place on a node, if nothing else were there."""
        return any(
            node["Alive"] and node["Resources"].get("CPU", 0) >= self._threads for node in self._ray.nodes()
        )


class _WorkersTraceback(Exception):
    """Shown above an error that a worker raised."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _error(told: Answer, before: str) -> BnasError:
    """What a worker raised, to be raised here."""
    error = getattr(errors, told.raised, RunError)(before + told.error)
    assert isinstance(error, BnasError)
    if told.trace:
        error.__cause__ = _WorkersTraceback(told.trace)
    return error
