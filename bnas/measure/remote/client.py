"""The other end of `bnas measure worker`: networks are sent to it over HTTP, and timings come back."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from torch import Tensor

from bnas import progress
from bnas.errors import ConfigError, MeasureError
from bnas.measure.backends import Network
from bnas.measure.device import Timed
from bnas.measure.hardware import Hardware, HwConfig
from bnas.measure.remote.job import Answer, Job, decode, encode, refuse_other
from bnas.measure.remote.package import Package, pack
from bnas.measure.remote.worker import DAMAGED, TOKEN, UNKNOWN, VERSION, Welcome
from bnas.measure.timing import MeasureConfig
from bnas.version import __version__

TRIES = 5  # to reach a worker; it is waited for 1, 2, 4, … seconds
SENDINGS = 3  # of a network's files to a worker that has lost them again
_JOB_S = 1800.0  # to wait for an answer


class WorkerDevice:
    """The device behind `hw.address`. A worker that was started anew gets the files again, and goes on.

    Raises:
        ConfigError: the address is none, or the token is wrong.
        MeasureError: no worker answers there, it has another version of bnas, or cannot do what `hw` asks for.
    """

    capacity = 2  # one is timed while the next is made

    def __init__(self, hw: HwConfig, config: MeasureConfig, reference: Network, example: Tensor) -> None:
        self._worker = _Worker(hw.address)
        self._worker.welcome()
        self._job = Job(version=__version__, hw=hw, config=config)
        self.hardware: Hardware = self._hardware()
        self._folder = tempfile.TemporaryDirectory(prefix="bnas-sent-")
        self._networks = 0
        package, self._files = self._pack(reference, example)
        self._job = replace(self._job, reference=package)
        self._thread = ThreadPoolExecutor(1)
        self._pending: dict[Future[Timed], int] = {}

    def submit(self, key: int, network: Network, example: Tensor) -> None:
        """Send `network` when the one before is done; returns at once.

        Raises:
            MeasureError: it cannot be sent.
        """
        package, files = self._pack(network, example)
        self._pending[self._thread.submit(self._time, package, files)] = key

    def results(self) -> Iterator[tuple[int, Timed]]:
        """What is finished, in order; waits for one at least.

        Raises:
            MeasureError: a network cannot be timed, or the worker does not answer any more.
        """
        for done in list(wait(self._pending, return_when=FIRST_COMPLETED).done if self._pending else ()):
            key = self._pending.pop(done)
            timed = done.result()
            refuse_other(self.hardware, timed.hardware)
            yield key, timed

    def close(self) -> None:
        """Give up what is not finished."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._worker.close()
        self._pending.clear()
        self._folder.cleanup()

    def _hardware(self) -> Hardware:
        answer = self._worker.ask(self._job)
        if answer.hardware is None:
            raise MeasureError(answer.error)
        return answer.hardware

    def _pack(self, network: Network, example: Tensor) -> tuple[Package, dict[str, Path]]:
        self._networks += 1
        folder = Path(self._folder.name) / str(self._networks)
        return pack(network, self._job.hw, example, folder)

    def _time(self, package: Package, files: dict[str, Path]) -> Timed:
        """In the other thread: ask, send what is missing, ask again."""
        job, known = replace(self._job, network=package), {**self._files, **files}
        try:
            for _ in range(SENDINGS + 1):
                answer = self._worker.ask(job)
                if answer.timed is not None:
                    return answer.timed
                if answer.error:
                    raise MeasureError(answer.error)
                for sha256 in answer.missing:
                    self._worker.send(sha256, known[sha256])
            raise MeasureError(f"hw.address: the worker at {self._worker.address} loses the files it is sent")
        finally:
            for path in files.values():
                if path not in self._files.values() and Path(self._folder.name) in path.parents:
                    path.unlink(missing_ok=True)


class _Worker:
    """Requests to a worker, one after the other; those that do not get through are made again."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ConfigError(f"hw.address: expected http://host:port, got '{address}'")
        self.address = f"{parts.scheme}://{parts.netloc}"
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._place = parts.hostname, parts.port
        self._headers = {VERSION: __version__}
        if token := os.environ.get(TOKEN):
            self._headers["Authorization"] = f"Bearer {token}"
        self._largest = 0
        self._connection: HTTPConnection | None = None
        self._closed = False

    def welcome(self) -> None:
        """Find out that there is a worker, and that it is one that will do."""
        self._largest = decode(Welcome, self._request("GET", "/", tries=1)).max_file_bytes

    def ask(self, job: Job) -> Answer:
        """Have a job done."""
        return decode(Answer, self._request("POST", "/jobs", encode(job)))

    def send(self, sha256: str, path: Path) -> None:
        """Send a file."""
        if (size := path.stat().st_size) > self._largest:
            raise MeasureError(f"{path.name} is too large for the worker at {self.address}: {size} bytes")
        self._request("PUT", f"/files/{sha256}", path)

    def close(self) -> None:
        """Have the request that another thread makes end now."""
        self._closed = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def _request(self, method: str, place: str, body: bytes | Path = b"", *, tries: int = TRIES) -> bytes:
        for tried in range(1, tries + 1):
            try:
                status, data = self._exchange(method, place, body)
            except (OSError, HTTPException) as error:
                if self._closed or tried == tries:
                    raise MeasureError(
                        f"hw.address: no worker answers at {self.address} ({error or type(error).__name__}); start "
                        "one there with `bnas measure worker`, then the same command goes on from here"
                    ) from error
                progress.say(f"the worker at {self.address} does not answer; trying again")
                time.sleep(2.0 ** (tried - 1))
                continue
            if status == 200:
                return data
            if status != DAMAGED or tried == tries:
                raise self._refusal(status, data)
        raise AssertionError("tries is 1 or more")

    def _exchange(self, method: str, place: str, body: bytes | Path) -> tuple[int, bytes]:
        self._connection = connection = self._kind(*self._place, timeout=_JOB_S)
        with closing(connection), ExitStack() as opened:
            sent = opened.enter_context(open(body, "rb")) if isinstance(body, Path) else body
            length = str(body.stat().st_size if isinstance(body, Path) else len(body))
            connection.request(method, place, sent, {**self._headers, "Content-Length": length})
            response = connection.getresponse()
            return response.status, response.read()

    def _refusal(self, status: int, data: bytes) -> ConfigError | MeasureError:
        try:
            why = str(json.loads(data)["error"])
        except (ValueError, KeyError, TypeError):
            why = f"answers {status}, as no worker of bnas does"
        kind = ConfigError if status == UNKNOWN else MeasureError
        return kind(f"hw.address: the worker at {self.address}: {why}")
