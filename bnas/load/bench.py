"""All networks under load in one interleaved run: in each scenario each network has its test, round after round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path

from bnas import progress
from bnas.files import append_jsonl, read_jsonl
from bnas.load.config import SCENARIOS, LoadConfig
from bnas.load.loadgen import LoadTest, Samples, run_test
from bnas.load.openvino_queue import OpenVinoQueue
from bnas.load.rows import LoadRow, Slice, load_row
from bnas.load.search import HEADROOM, highest_valid
from bnas.load.summary import LoadResult, read_answers, read_result, top1_percent
from bnas.plain import digest, to_plain

FOLDER = "bench"
SLICES = "slices.jsonl"
ACCURACY = "accuracy.jsonl"
_FASTER = (
    1.2  # than measured a moment ago: LoadGen makes queries for so much more, and does not run out of them
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network that takes part: `name` as "A/int8", its file, SHA-256 of it, and images of its size."""

    name: str
    path: Path
    digest: str
    samples: Samples


@dataclass(frozen=True, kw_only=True)
class Where:
    """The machine: how many threads a network gets, and a text that differs from machine to machine."""

    threads: int
    machine: str = ""


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """What LoadGen's accuracy mode found of one network in one scenario; `inputs`, `folder` as in `Slice`."""

    scenario: str
    network: str
    inputs: str
    folder: str
    top1_percent: float
    images: int


def run_bench(entries: Sequence[Entry], config: LoadConfig, root: Path, where: Where) -> tuple[LoadRow, ...]:
    """Run what `config` asks for and return a row for each scenario and network.

    LoadGen's logs go to `root`/bench/<scenario>/<network>/performance/run_<round> and …/accuracy, as in MLPerf's
    submissions, those of Server's search to …/search. Each test is noted in bench/slices.jsonl when it is done: the
    same call goes on after the last one.

    Raises:
        MissingPackageError: LoadGen or OpenVINO is not installed.
        MeasureError: a network cannot be run as asked.
        RunError: logs cannot be written or read.
    """
    total = len(config.scenarios) * len(entries) * (config.round_count + 1 + config.accuracy)
    rows: list[LoadRow] = []
    with progress.bar("bench", total=total) as step:
        for scenario in config.scenarios:
            runs = [_Run(entry, scenario, config, root, where) for entry in entries]
            for run in runs:
                run.prepare()
                step(note=f"{scenario} {run.entry.name}")
            for number in range(1, config.round_count + 1):
                for run in _rotated(runs, number - 1):
                    result = run.slice(number).result
                    verdict = "" if result.valid else " INVALID"
                    step(note=f"{scenario} {run.entry.name} {result.samples_per_s:.0f} samples/s{verdict}")
            for run in runs:
                top1 = run.accuracy() if config.accuracy else None
                rows.append(load_row(run.slices, top1))
                step(1 if config.accuracy else 0, note=f"{scenario} {run.entry.name}")
    return tuple(rows)


class _Run:
    """One network in one scenario: its tests, and those that were done before."""

    def __init__(self, entry: Entry, scenario: str, config: LoadConfig, root: Path, where: Where) -> None:
        self.entry, self._scenario, self._config, self._root = entry, scenario, config, root
        self._threads = where.threads
        self.slices: list[Slice] = []
        self._inputs = _inputs(entry, scenario, config, where)
        # The last line of a folder is that of the logs which are there.
        done = {own.folder: own for own in read_jsonl(root / FOLDER / SLICES, Slice) if self._is_there(own)}
        self._done = {own.round: own for own in done.values() if own.inputs == self._inputs}
        found = [own for own in read_jsonl(root / FOLDER / ACCURACY, Accuracy) if self._is_there(own)]
        known = bool(found) and found[-1].inputs == self._inputs
        self._accuracy = found[-1].top1_percent if known else None

    def prepare(self) -> None:
        """Compile the network and find its rate, unless there is nothing left to do."""
        rounds = set(range(1, self._config.round_count + 1))
        if rounds - self._done.keys() or (self._config.accuracy and self._accuracy is None):
            _ = self._rate

    def slice(self, number: int) -> Slice:
        """The test of round `number`; the one that was done before, if it was."""
        if number not in self._done:
            folder = self._folder("performance", f"run_{number}")
            result = self._result(self._test(self._rate), folder)
            self._done[number] = Slice(
                scenario=self._scenario,
                network=self.entry.name,
                round=number,
                inputs=self._inputs,
                folder=folder,
                queries_per_s=self._rate,
                result=result,
            )
            append_jsonl(self._root / FOLDER / SLICES, self._done[number])
        self.slices.append(self._done[number])
        return self._done[number]

    def accuracy(self) -> float:
        """Top-1 in per cent of all images, from LoadGen's accuracy log."""
        if self._accuracy is None:
            folder = self._root / self._folder("accuracy")
            test = replace(self._test(self._rate), accuracy=True)
            labels = run_test(self._queue, self.entry.samples, test, folder)
            self._accuracy = top1_percent(read_answers(folder), labels)
            found = Accuracy(
                scenario=self._scenario,
                network=self.entry.name,
                inputs=self._inputs,
                folder=self._folder("accuracy"),
                top1_percent=self._accuracy,
                images=len(labels),
            )
            append_jsonl(self._root / FOLDER / ACCURACY, found)
        return self._accuracy

    @cached_property
    def _queue(self) -> OpenVinoQueue:
        return OpenVinoQueue(
            self.entry.path,
            hint=SCENARIOS[self._scenario].hint,
            threads=self._threads,
            batch=self._config.images_per_inference(self._scenario),
            streams=self._config.streams,
        )

    @cached_property
    def _rate(self) -> float:
        """Queries per second that LoadGen is told: in Server how fast to ask, else how fast the network may be."""
        config, image = self._config, self.entry.samples.image()
        self._queue.check_takes(image)
        if self._done:
            return next(iter(self._done.values())).queries_per_s
        images_per_s = self._queue.images_per_s(image)
        if self._scenario != "Server":
            per_query = config.samples_per_query if self._scenario == "MultiStream" else 1
            return _FASTER * images_per_s / per_query
        if config.target_qps is not None:
            return config.target_qps
        return HEADROOM * highest_valid(self._search(), images_per_s, config.search_steps)

    def _search(self) -> Callable[[float], bool]:
        """Whether LoadGen calls a short test at a rate valid; the logs of each are kept."""
        numbers = count(1)

        def holds(rate: float) -> bool:
            test = replace(self._test(rate), seconds=self._config.search_seconds)
            return self._result(test, self._folder("search", f"run_{next(numbers)}")).valid

        return holds

    def _test(self, queries_per_s: float) -> LoadTest:
        config = self._config
        return LoadTest(
            scenario=self._scenario,
            seconds=config.test_seconds,
            queries=config.queries(self._scenario),
            queries_per_s=queries_per_s,
            samples=config.samples,
            samples_per_query=config.samples_per_query,
            server_latency_ms=config.server_latency_ms,
        )

    def _result(self, test: LoadTest, folder: str) -> LoadResult:
        run_test(self._queue, self.entry.samples, test, self._root / folder)
        return read_result(self._root / folder)

    def _folder(self, *parts: str) -> str:
        """Relative to the run's folder."""
        return "/".join((FOLDER, self._scenario, self.entry.name, *parts))

    def _is_there(self, own: Slice | Accuracy) -> bool:
        """Of this network in this scenario, and its logs are there."""
        mine = (own.scenario, own.network) == (self._scenario, self.entry.name)
        return mine and (self._root / own.folder).is_dir()


def _inputs(entry: Entry, scenario: str, config: LoadConfig, where: Where) -> str:
    """Digest of all that decides the result of a test, whatever else is run beside it."""
    beside = ("scenarios", "networks", "rounds", "accuracy")
    options = {name: value for name, value in to_plain(config).items() if name not in beside}
    return digest({"artefact": entry.digest, "scenario": scenario, "options": options, "where": where})


def _rotated(runs: Sequence[_Run], by: int) -> list[_Run]:
    """Another one begins each round."""
    first = by % len(runs)
    return [*runs[first:], *runs[:first]]
