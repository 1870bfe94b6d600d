"""`bnas measure worker`: an HTTP server that times networks on a device that has only bnas and a runtime.

    GET  /              what this is: the worker's version of bnas, its hardware, the largest file it takes
    PUT  /files/SHA256  a file of a network; refused when it is not what its SHA-256 says
    POST /jobs          a job; the answer is a `Timed`, or which files are missing

Jobs are done in the main thread, one at a time, and no file is taken in meanwhile, so nothing disturbs a
measurement. A token keeps others out; it travels as plain text, so beyond loopback use a network you trust, or
a tunnel (`ssh -L 8765:127.0.0.1:8765 device`), for which loopback is enough.
"""

from __future__ import annotations

import hmac
import json
import os
import queue
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socketserver import TCPServer
from threading import Lock, Thread
from typing import Any, cast

from bnas import progress
from bnas.errors import BnasError, ConfigError, MeasureError
from bnas.measure.hardware import Hardware, HwConfig, detect
from bnas.measure.remote.job import Bench
from bnas.measure.remote.package import Store
from bnas.plain import to_plain
from bnas.version import __version__

LISTEN = "127.0.0.1:8765"
TOKEN = "BNAS_TOKEN"  # the environment variable
VERSION = "Bnas-Version"  # a header that every request has; no page in a browser can send it unasked
UNKNOWN, DAMAGED = 401, 422  # statuses: who asks has not the token; what came is not what was announced
MAX_FILE_BYTES = 2 << 30
MAX_JOB_BYTES = 1 << 20
_TIMEOUT_S = 60.0  # of a client that is silent in the middle of its request
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """What a worker says of itself."""

    version: str
    hardware: Hardware
    max_file_bytes: int


def serve(listen: str | None = None, *, token: str | None = None, limit_bytes: int = 8 << 30) -> None:
    """Time networks for whoever has the `token` (None: $BNAS_TOKEN), until Ctrl-C, at `HOST:PORT`.

    Files take `limit_bytes` of disk at most.

    Raises:
        ConfigError: the address is not one, is taken, or is open to others and there is no token.
    """
    listen = listen or LISTEN
    token = os.environ.get(TOKEN, "") if token is None else token
    host, port = parse_listen(listen)
    if not token and not _is_loopback(host):
        raise ConfigError(
            f"--listen: {listen} can be reached from other machines; set {TOKEN} to a secret, here and where the "
            "campaign runs, or listen on 127.0.0.1"
        )
    with tempfile.TemporaryDirectory(prefix="bnas-worker-") as folder:
        bench = Bench(Store(Path(folder), limit_bytes))
        try:
            server = _Server((host, port), bench, token)
        except OSError as error:
            raise ConfigError(f"--listen: cannot listen on {listen}: {error.strerror}") from error
        with server:
            Thread(target=server.serve_forever, kwargs={"poll_interval": 10}, daemon=True).start()
            progress.say(
                f"worker of bnas {__version__} at http://{host}:{server.server_port}; Ctrl-C ends it"
            )
            try:
                server.work()
            finally:
                bench.close()


def parse_listen(listen: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`; port 0 is any free one. Raises ConfigError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"--listen: expected HOST:PORT, as in {LISTEN}, got '{listen}'")
    return host.strip("[]"), int(port)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], bench: Bench, token: str) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Conversation)
        self.bench, self.token = bench, token
        self.busy = Lock()
        self.jobs: queue.Queue[tuple[bytes, Future[bytes]]] = queue.Queue()

    def server_bind(self) -> None:
        """Without looking up this machine's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def work(self) -> None:
        """Do jobs as they come, in this thread."""
        while True:
            request, answer = self.jobs.get()
            if answer.set_running_or_notify_cancel():
                with self.busy:
                    answer.set_result(self.bench.answer(request))

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is none of ours; nothing is printed."""


class _Refused(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Conversation(BaseHTTPRequestHandler):
    server_version = "bnas"
    sys_version = ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        self._speak({"/": self._welcome})

    def do_PUT(self) -> None:
        sha256 = self.path.removeprefix("/files/")
        self._speak({f"/files/{sha256}": lambda: self._take_in(sha256)})

    def do_POST(self) -> None:
        self._speak({"/jobs": self._job})

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the worker says itself what it does."""

    def _speak(self, places: dict[str, Callable[[], bytes]]) -> None:
        try:
            self._check()
            if self.path not in places:
                raise _Refused(404, f"there is nothing at {self.path}")
            self._send(200, places[self.path]())
        except _Refused as refused:
            self._send(refused.status, _told(str(refused)))
        except BnasError as error:
            self._send(DAMAGED, _told(str(error)))

    def _check(self) -> None:
        """Who does not know the token learns nothing, and nothing of theirs is read."""
        given = self.headers.get("Authorization", "")
        if self._worker.token and not hmac.compare_digest(
            given.encode(), f"Bearer {self._worker.token}".encode()
        ):
            raise _Refused(
                UNKNOWN, f"wrong token, or none; {TOKEN} has to be the same here and where the campaign runs"
            )
        version = self.headers.get(VERSION)
        if version != __version__:
            raise _Refused(
                400, f"this worker has bnas {__version__}, the campaign {version}; install the same on both"
            )

    def _welcome(self) -> bytes:
        hardware = detect(HwConfig())
        return _json(Welcome(version=__version__, hardware=hardware, max_file_bytes=MAX_FILE_BYTES))

    def _take_in(self, sha256: str) -> bytes:
        chunks = self._body(MAX_FILE_BYTES)
        with self._worker.busy:
            self._worker.bench.store.add(sha256, chunks)
        return _json({})

    def _job(self) -> bytes:
        answer: Future[bytes] = Future()
        self._worker.jobs.put((b"".join(self._body(MAX_JOB_BYTES)), answer))
        return answer.result()

    def _body(self, limit: int) -> Iterator[bytes]:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            raise _Refused(411, "a Content-Length is needed")
        if int(length) > limit:
            raise _Refused(413, f"{int(length)} bytes are too many; at most {limit} are taken")
        return self._chunks(int(length))

    def _chunks(self, left: int) -> Iterator[bytes]:
        while left:
            chunk = self.rfile.read(min(left, _CHUNK))
            if not chunk:
                raise MeasureError("a file ended too early")
            left -= len(chunk)
            yield chunk

    def _send(self, status: int, body: bytes) -> None:
        with suppress(OSError):  # the client is gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    @property
    def _worker(self) -> _Server:
        return cast(_Server, self.server)


def _told(why: str) -> bytes:
    return _json({"error": why})


def _json(x: Any) -> bytes:
    return json.dumps(to_plain(x)).encode()
