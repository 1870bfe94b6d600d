"""One test by MLCommons LoadGen (`mlperf_loadgen`): it asks, the network answers, LoadGen writes its logs.

LoadGen keeps state and threads of its own, global to the process: one test at a time. Its C++ calls back into
Python, where nothing may be raised: an error is kept, all that is still asked for is answered with nothing, so that
LoadGen comes to its end, and then the error is raised.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from bnas.errors import MeasureError, require
from bnas.files import cannot_write

EXTRA = "load"  # bnas[load]
LOGS = "mlperf_log_"
_MODEL = "resnet50"  # whose seeds and percentiles of LoadGen's built-in mlperf.conf are taken
_LOADED_AT_ONCE = 256  # images decoded in one go
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The images to ask about: how many, and what gives those of some indices: [n, C, H, W] and their labels [n]."""

    count: int
    load: Callable[[Sequence[int]], tuple[Tensor, Tensor]]

    def image(self, index: int = 0) -> np.ndarray:
        """One image, float32 [1, C, H, W]."""
        images, _ = self.load([index])
        return _array(images)


class Queue(Protocol):
    """What answers; as `OpenVinoQueue`."""

    batch: int

    def start(self, images: Sequence[np.ndarray], done: Callable[[np.ndarray], None]) -> None: ...

    def wait(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class LoadTest:
    """One test. `accuracy`: every image once, and the answers are logged; else performance mode.

    queries_per_s: in Server those that are sent; else what the network is expected to do at most: LoadGen makes its
    queries beforehand and ends early when they run out. seconds, queries: the least duration and number of queries
    (Offline: of samples). samples: how many images LoadGen draws from.
    """

    scenario: str
    seconds: float
    queries: int
    queries_per_s: float
    samples: int = 1024
    samples_per_query: int = 8
    server_latency_ms: float = 15.0
    accuracy: bool = False


def run_test(network: Queue, samples: Samples, test: LoadTest, folder: Path) -> dict[int, int]:
    """Run one test and leave LoadGen's logs in `folder`, whole or not at all; what was there before is replaced.

    Returns the labels of all images that were loaded, by their index. A Ctrl-C ends the test as soon as LoadGen's
    last query is due; a second one ends the program at once.

    Raises:
        MissingPackageError: LoadGen is not installed.
        MeasureError: LoadGen refuses the settings.
        RunError: the logs cannot be written.
        Exception: whatever the network or the images raised.
    """
    loadgen = require("mlperf_loadgen", EXTRA)
    settings, count = _settings(loadgen, test), min(test.samples, samples.count)
    aside = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    except OSError as error:
        cannot_write(aside, error.strerror or str(error), error)
    system = _System(loadgen, network, samples)
    try:
        with _one_at_a_time, _interrupt_kept(system):
            sut = loadgen.ConstructSUT(system.issue, system.flush)
            qsl = loadgen.ConstructQSL(samples.count, count, system.load, system.unload)
            try:  # without an audit.config, which LoadGen would look for in the current folder
                loadgen.StartTestWithLogSettings(sut, qsl, settings, _logs(loadgen, aside), "")
            finally:
                loadgen.DestroyQSL(qsl)
                loadgen.DestroySUT(sut)
        if system.error is not None:
            raise system.error
        _put_in_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return system.labels


class _System:
    """LoadGen's system under test and its library of samples. LoadGen calls its methods, the runtime `_done`."""

    def __init__(self, loadgen: ModuleType, network: Queue, samples: Samples) -> None:
        self._loadgen, self._network, self._samples = loadgen, network, samples
        self._images: dict[int, np.ndarray] = {}
        self._open: set[int] = set()  # asked and not yet answered
        self.labels: dict[int, int] = {}
        self.error: BaseException | None = None

    def keep(self, error: BaseException) -> None:
        """The first error is the one that is raised when LoadGen has come to its end."""
        self.error = self.error or error

    def load(self, indices: list[int]) -> None:
        try:
            for first in range(0, len(indices), _LOADED_AT_ONCE):
                chunk = indices[first : first + _LOADED_AT_ONCE]
                images, labels = self._samples.load(chunk)
                self._images |= {own: _array(image[None]) for own, image in zip(chunk, images, strict=True)}
                self.labels |= dict(zip(chunk, (int(label) for label in labels), strict=True))
        except BaseException as error:
            self.keep(error)

    def unload(self, indices: list[int]) -> None:
        self._images.clear()

    def issue(self, queries: list[Any]) -> None:
        """Start the inferences of one query; in Offline that is all of the test."""
        self._open.update(query.id for query in queries)
        try:
            for first in range(0, len(queries), self._network.batch):
                if self.error is not None:
                    break
                chunk = queries[first : first + self._network.batch]
                ids = [query.id for query in chunk]
                self._network.start([self._images[query.index] for query in chunk], partial(self._done, ids))
        except BaseException as error:
            self.keep(error)
        if self.error is not None:
            self._give_up()

    def flush(self) -> None:
        try:
            self._network.wait()
        except BaseException as error:
            self.keep(error)
        if self._open:  # inferences that failed in the runtime never told
            self.keep(MeasureError(f"{len(self._open)} inferences failed in the runtime"))
            self._give_up()

    def _done(self, ids: list[int], outputs: np.ndarray) -> None:
        """Answer with the class of each image, an int64, or with the whole output where it is no [n, classes]."""
        try:
            answers = (
                outputs.argmax(1).astype(np.int64) if outputs.ndim == 2 else np.ascontiguousarray(outputs)
            )
            size = answers.nbytes // len(ids)
            address = answers.ctypes.data  # LoadGen copies what is there before it returns
            self._answer([(own, address + size * place, size) for place, own in enumerate(ids)])
        except BaseException as error:
            self.keep(error)
            self._answer([(own, 0, 0) for own in ids if own in self._open])

    def _answer(self, answers: list[tuple[int, int, int]]) -> None:
        """Tell LoadGen of the answers: id of the question, address and number of bytes."""
        if not answers:
            return
        self._open.difference_update([own for own, _, _ in answers])
        responses = [self._loadgen.QuerySampleResponse(*answer) for answer in answers]
        self._loadgen.QuerySamplesComplete(responses)

    def _give_up(self) -> None:
        """Answer with nothing what was not answered, after what is under way has ended."""
        try:
            self._network.wait()
        except BaseException as error:
            self.keep(error)
        self._answer([(own, 0, 0) for own in self._open.copy()])


def _settings(loadgen: ModuleType, test: LoadTest) -> Any:
    settings = loadgen.TestSettings()
    # Its built-in mlperf.conf has the seeds and percentiles of the present round of MLPerf.
    if settings.FromConfig("", _MODEL, test.scenario, 0) != 0:
        raise MeasureError("LoadGen cannot read its own mlperf.conf; install mlcommons-loadgen 5 or newer")
    mode = loadgen.TestMode.AccuracyOnly if test.accuracy else loadgen.TestMode.PerformanceOnly
    rate = test.queries_per_s
    wanted = {
        "scenario": getattr(loadgen.TestScenario, test.scenario),
        "mode": mode,
        "min_duration_ms": max(1, round(1000 * test.seconds)),
        "min_query_count": test.queries,
        "performance_sample_count_override": 0,  # what the library of samples says
        "single_stream_expected_latency_ns": max(1, int(1e9 / rate)),
        "multi_stream_expected_latency_ns": max(1, int(1e9 / rate)),
        "multi_stream_samples_per_query": test.samples_per_query,
        "server_target_qps": rate,
        "server_target_latency_ns": round(1e6 * test.server_latency_ms),
        "offline_expected_qps": rate,
    }
    for name, value in wanted.items():
        setattr(settings, name, value)
    return settings


def _logs(loadgen: ModuleType, folder: Path) -> Any:
    logs = loadgen.LogSettings()
    logs.log_output.outdir = str(folder)
    logs.log_output.prefix = LOGS
    logs.log_output.copy_summary_to_stdout = False
    logs.enable_trace = False
    return logs


def _put_in_place(aside: Path, folder: Path) -> None:
    """Rename the finished logs; LoadGen writes through streams whose errors it does not look at."""
    summary = aside / f"{LOGS}summary.txt"
    if not summary.is_file() or "encountered" not in summary.read_text(errors="replace"):
        cannot_write(folder, "LoadGen's logs are incomplete; is the disk full?", OSError(str(summary)))
    (aside / f"{LOGS}trace.json").unlink(missing_ok=True)  # empty: tracing is off
    try:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)
    except OSError as error:
        cannot_write(folder, error.strerror or str(error), error)


@contextmanager
def _interrupt_kept(system: _System) -> Iterator[None]:
    """A Ctrl-C ends the test in order, because it must not be raised inside LoadGen; the next one ends the program."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        system.keep(KeyboardInterrupt())
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def _array(images: Tensor) -> np.ndarray:
    array: np.ndarray = images.detach().float().contiguous().cpu().numpy()
    return array
