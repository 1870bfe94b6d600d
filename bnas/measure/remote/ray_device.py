"""The nodes of a Ray cluster that carry a label, as one device."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from bnas import progress
from bnas.cluster import Absence, RayConfig, connected, last_line
from bnas.errors import ConfigError, MeasureError, did_you_mean, require
from bnas.measure.backends import Network
from bnas.measure.device import Timed
from bnas.measure.hardware import Hardware, HwConfig
from bnas.measure.remote.job import Answer, Bench, Job, decode, encode, refuse_other
from bnas.measure.remote.package import Package, Store, contents, pack
from bnas.measure.timing import MeasureConfig
from bnas.version import __version__

LABEL = "bnas_device:"  # before a device's name: a resource of its nodes in Ray, of which a job takes one
LOSSES = 5  # of the node under a network, after which the network itself is to blame
_LOOK_S = 2.0  # between two looks at which nodes there are
_FOLDER = re.compile(r"bnas-device-(\d+)-\w+")


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """A network, and its files in Ray's object store; on which resource it waits, how often that was lost."""

    key: int
    package: Package
    files: Any
    resource: str
    losses: int = 0


class RayDevice:
    """Networks are timed on the nodes with the resource `bnas_device:<hw.device>`, one at a time on each.

    Start a node with `ray start --address=HEAD:PORT --num-cpus=0 --resources='{"bnas_device:NAME": 1}'`; it needs
    bnas and the runtime. With `hw.device` empty, nodes of any name are taken. All have to be of one kind. A node
    that is lost gives its network back, which then goes to another one, or to one that joins the cluster.

    Raises:
        MissingPackageError: Ray is not installed.
        RunError: there is no cluster.
        ConfigError: no node has the resource.
        MeasureError: the nodes are of different kinds, or one cannot do what `hw` asks for.
    """

    def __init__(
        self, hw: HwConfig, config: MeasureConfig, reference: Network, example: Tensor, *, ray: RayConfig
    ) -> None:
        self._wait_s = ray.wait_s
        self._ends = ExitStack()
        with self._ends:  # closed when something fails before its end
            self._ray = self._ends.enter_context(connected(ray))
            folder = self._ends.enter_context(tempfile.TemporaryDirectory(prefix="bnas-sent-"))
            self._folder = Path(folder)
            self._job = Job(version=__version__, hw=hw, config=config)
            self._pending: dict[Any, _Sent] = {}
            self._absence = Absence()
            self.hardware = self._probe()
            package, self._reference = self._put(reference, example)
            self._job = replace(self._job, reference=package)
            self._ends = self._ends.pop_all()

    @property
    def capacity(self) -> int:
        """Two for each node: one is timed while the next is on its way."""
        return 2 * max(1, sum(self._resources().values()))

    def submit(self, key: int, network: Network, example: Tensor) -> None:
        """Send `network`; returns at once.

        Raises:
            MeasureError: it cannot be sent.
        """
        package, files = self._put(network, example)
        self._send(_Sent(key=key, package=package, files=files, resource=self._resource()))

    def results(self) -> Iterator[tuple[int, Timed]]:
        """What is finished, in any order; waits for one at least.

        Raises:
            MeasureError: a network cannot be timed, or there was no node for `ray.wait_s`.
        """
        answered = False
        while self._pending and not answered:
            for task in self._finished():
                sent = self._pending.pop(task)
                answer = self._answer(task, sent)
                if answer is None:
                    continue
                if answer.timed is None:
                    raise MeasureError(answer.error)
                refuse_other(self.hardware, answer.timed.hardware)
                answered = True
                yield sent.key, answer.timed

    def close(self) -> None:
        """Give up what is not finished, and leave the cluster."""
        for task in self._pending:
            self._ray.cancel(task, force=True)
        self._pending.clear()
        self._reference = None
        self._ends.close()

    def _put(self, network: Network, example: Tensor) -> tuple[Package, Any]:
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            package, paths = pack(network, self._job.hw, example, Path(folder))
            return package, self._ray.put(contents(paths))

    def _send(self, sent: _Sent) -> None:
        request = encode(replace(self._job, network=sent.package))
        task = self._task(resources={sent.resource: 1})
        self._pending[task.remote(request, [self._reference, sent.files])] = sent

    def _task(self, **options: Any) -> Any:
        """`_do` on a node. No CPUs are asked for: nodes that are devices should offer none to others."""
        return self._ray.remote(_do).options(num_cpus=0, max_retries=0, **options)

    def _finished(self) -> list[Any]:
        """The tasks that have ended; looks after the nodes while there are none."""
        while True:
            tasks = list(self._pending)
            done, _ = self._ray.wait(tasks, num_returns=1, timeout=_LOOK_S)
            if done:
                self._absence.ends()
                return list(self._ray.wait(tasks, num_returns=len(tasks), timeout=0)[0])
            self._look()

    def _answer(self, task: Any, sent: _Sent) -> Answer | None:
        """What a finished task says; None when its node was lost, and the network is on its way again."""
        try:
            return decode(Answer, self._ray.get(task))
        except self._ray.exceptions.RayTaskError as error:  # raised before the job began
            raise _cannot(error) from error
        except self._ray.exceptions.RayError as error:
            losses = sent.losses + 1
            if losses >= LOSSES:
                raise MeasureError(
                    f"network {sent.key}: {losses} times the process that timed it was lost "
                    f"({type(error).__name__}); its runtime may crash on it"
                ) from error
            progress.say(f"a {sent.resource} was lost while it timed network {sent.key}, which is sent again")
            self._send(replace(sent, losses=losses, resource=self._resource()))
            return None

    def _look(self) -> None:
        """Tell of missing nodes; send on what waits for a name that is gone, where another one will do."""
        nodes = self._resources()
        if not nodes:
            if self._absence.is_news():
                progress.say(f"no node of the cluster is a {self._wanted} any more; waiting for one")
            if self._absence.seconds() > self._wait_s:
                raise MeasureError(
                    f"no node of the cluster was a {self._wanted} for {self._wait_s:g} s (ray.wait_s); start one, "
                    "then the same command goes on from here"
                )
            return
        self._absence.ends()
        for task, sent in list(self._pending.items()):
            if sent.resource not in nodes and not self._job.hw.device:
                self._ray.cancel(task)
                del self._pending[task]
                self._send(replace(sent, resource=self._resource()))

    @property
    def _wanted(self) -> str:
        return LABEL + (self._job.hw.device or "*")

    def _resources(self) -> dict[str, int]:
        """How many living nodes there are, by resource, of those that will do."""
        return dict(Counter(name for _, name in self._nodes()))

    def _nodes(self) -> list[tuple[str, str]]:
        """(id, resource) of the living nodes that will do."""
        return [
            (node["NodeID"], name)
            for node in self._ray.nodes()
            if node["Alive"]
            for name in node["Resources"]
            if name.startswith(LABEL) and self._job.hw.device in ("", name.removeprefix(LABEL))
        ]

    def _resource(self) -> str:
        """The resource whose nodes have the least to do."""
        waiting = Counter(sent.resource for sent in self._pending.values())
        nodes = self._resources() or {LABEL + self._job.hw.device: 1}
        return min(nodes, key=lambda name: (waiting[name] / nodes[name], name))

    def _probe(self) -> Hardware:
        """What the nodes are; all of them are asked."""
        if not (nodes := self._nodes()):
            raise self._no_node()
        affinity = require("ray.util.scheduling_strategies", "ray").NodeAffinitySchedulingStrategy
        tasks = [
            self._task(resources={name: 1}, scheduling_strategy=affinity(node, soft=False)).remote(
                encode(self._job), []
            )
            for node, name in nodes
        ]
        found: list[Hardware] = []
        for task in tasks:
            try:
                answer = decode(Answer, self._ray.get(task, timeout=self._wait_s or None))
            except self._ray.exceptions.RayTaskError as error:
                raise _cannot(error) from error
            except self._ray.exceptions.GetTimeoutError as error:
                raise MeasureError(
                    f"a {self._wanted} was busy for {self._wait_s:g} s (ray.wait_s)"
                ) from error
            except self._ray.exceptions.RayError:
                continue  # lost meanwhile
            if answer.hardware is None:
                raise MeasureError(answer.error)
            found.append(answer.hardware)
            refuse_other(found[0], answer.hardware)
        if not found:
            raise self._no_node()
        return found[0]

    def _no_node(self) -> ConfigError:
        device = self._job.hw.device
        known = {name for node in self._ray.nodes() if node["Alive"] for name in node["Resources"]}
        names = [name.removeprefix(LABEL) for name in known if name.startswith(LABEL)]
        meant = did_you_mean(device, names) if device else ""
        resource = f'{{"{LABEL}{device or "NAME"}": 1}}'
        return ConfigError(
            f"hw.device: no node of the Ray cluster has the resource {self._wanted}{meant}; start one with "
            f"`ray start --address=HEAD:PORT --num-cpus=0 --resources='{resource}'`"
        )


def _cannot(error: Exception) -> MeasureError:
    return MeasureError(
        f"a node of the Ray cluster cannot do the job: {last_line(error)}; is bnas installed there?"
    )


def _do(request: bytes, files: list[Any]) -> bytes:
    """On a node: fetch the files that are not there yet from those in Ray's object store, and do the job."""
    bench = _bench()
    job = decode(Job, request)
    for package, stored in zip((job.reference, job.network), files, strict=False):
        if package is not None and bench.store.missing(package):
            for sha256, content in require("ray", "ray").get(stored).items():
                bench.store.add(sha256, [content])
    return bench.answer(request)


@cache
def _bench() -> Bench:
    """The one of this process, which Ray uses for one job after the other."""
    for path in Path(tempfile.gettempdir()).glob("bnas-device-*"):  # of processes that were killed
        match = _FOLDER.fullmatch(path.name)
        if match and not Path(f"/proc/{match[1]}").exists() and Path("/proc/self").exists():
            shutil.rmtree(path, ignore_errors=True)
    return Bench(Store(Path(tempfile.mkdtemp(prefix=f"bnas-device-{os.getpid()}-"))))
