from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
import torch
from small_networks import small_net

from bnas import __version__, progress
from bnas.errors import ConfigError, MeasureError
from bnas.export import Quantized, convert
from bnas.measure import HwConfig, MeasureConfig, detect
from bnas.measure.remote import WorkerDevice, client, serve
from bnas.measure.remote.worker import MAX_FILE_BYTES, MAX_JOB_BYTES, parse_listen

TOKEN = "a secret"
EXAMPLE = torch.zeros(1, 3, 16, 16)
QUICK = MeasureConfig(min_rounds=2, max_rounds=2, block_ms=0.5, warmup_ms=1)
SERVE = "from bnas import progress; from bnas.measure.remote import serve; progress.enable(); serve('{}')"


@contextmanager
def worker(listen: str = "127.0.0.1:0") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A worker in a process of its own, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE.format(listen)], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "BNAS_TOKEN": TOKEN},
    )  # fmt: skip
    with process:
        try:
            assert process.stdout is not None
            match = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert match
            yield process, match[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with worker() as (_, address):
        yield address


def ask(
    address: str, method: str, place: str, body: bytes = b"", **headers: str
) -> tuple[int, dict[str, object]]:
    """One request, by hand."""
    connection = HTTPConnection(address.removeprefix("http://"), timeout=60)
    known = {"Authorization": f"Bearer {TOKEN}", "Bnas-Version": __version__}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, place, body, {**known, **given})
    response = connection.getresponse()
    data = json.loads(response.read())
    connection.close()
    return response.status, data


def network(width: int) -> Quantized:
    return Quantized(model=convert(small_net(width), EXAMPLE), precision="f32")


def connect(address: str) -> WorkerDevice:
    hw = HwConfig(precision="f32", threads=1, where="worker", address=address)
    return WorkerDevice(hw, QUICK, network(8), EXAMPLE)


def test_networks_are_timed_there_also_by_a_worker_that_was_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BNAS_TOKEN", TOKEN)
    said: list[str] = []
    monkeypatch.setattr(progress, "say", said.append)
    with worker() as (process, address):
        device = connect(address)
        assert device.hardware == detect(HwConfig(precision="f32", threads=1))
        for key in (0, 1):
            device.submit(key, network(16), EXAMPLE)
        found = dict(device.results())
        process.kill()
        process.wait()
        monkeypatch.setattr(
            client.time, "sleep", lambda seconds: restarted.append(start()) if not restarted else None
        )
        restarted: list[subprocess.Popen[str]] = []

        def start() -> subprocess.Popen[str]:
            listen = address.removeprefix("http://")
            own = subprocess.Popen(
                [sys.executable, "-c", SERVE.format(listen)], stdout=subprocess.PIPE, text=True
            )
            assert own.stdout is not None
            own.stdout.readline()
            return own

        device.submit(2, network(24), EXAMPLE)
        while len(found) < 3:
            found |= dict(device.results())
        device.close()
        for own in restarted:
            with own:
                own.kill()
    assert sorted(found) == [0, 1, 2]
    assert {timed.subnet.rounds for timed in found.values()} <= {2, 3, 4}
    assert found[0].artefact == found[1].artefact != found[2].artefact
    assert any("does not answer; trying again" in line for line in said)


def test_what_it_is_is_told_to_those_who_know_the_token(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, told = ask(address, "GET", "/")
    assert (status, told["version"]) == (200, __version__)
    assert told["hardware"]["cpu"] == detect(HwConfig()).cpu  # type: ignore[index]
    for authorization in ("", "Bearer another", TOKEN):
        for method, place in (("GET", "/"), ("PUT", f"/files/{'0' * 64}"), ("POST", "/jobs")):
            status, told = ask(address, method, place, Authorization=authorization)
            assert (status, list(told)) == (401, ["error"])
    monkeypatch.setenv("BNAS_TOKEN", "another")
    with pytest.raises(ConfigError, match="BNAS_TOKEN has to be the same"):
        connect(address)
    monkeypatch.delenv("BNAS_TOKEN")
    with pytest.raises(ConfigError, match="wrong token, or none"):
        connect(address)


def test_another_version_is_refused(address: str) -> None:
    status, told = ask(address, "GET", "/", Bnas_Version="0.0.1")
    assert status == 400
    assert "install the same" in str(told["error"])


def test_a_damaged_file_is_refused(address: str) -> None:
    sha256 = hashlib.sha256(b"whole").hexdigest()
    status, told = ask(address, "PUT", f"/files/{sha256}", b"whale")
    assert status == 422
    assert "damaged on its way" in str(told["error"])
    assert ask(address, "PUT", f"/files/{sha256}", b"whole")[0] == 200
    assert ask(address, "PUT", "/files/../../etc/passwd", b"whole")[0] == 422


def test_too_much_is_refused_unread(address: str) -> None:
    place = f"/files/{'0' * 64}"
    assert ask(address, "PUT", place, Content_Length=str(MAX_FILE_BYTES + 1))[0] == 413
    assert ask(address, "POST", "/jobs", Content_Length=str(MAX_JOB_BYTES + 1))[0] == 413
    for length in ("-1", "many", "²"):
        assert ask(address, "PUT", place, Content_Length=length.encode("utf-8").decode("latin-1"))[0] == 411
    assert ask(address, "GET", "/files")[0] == 404
    assert ask(address, "POST", "/", b"{}")[0] == 404


def test_what_is_no_job_is_told(address: str) -> None:
    for body in (b"", b"[]", b'{"hw": {"name": "../x"}}', b"\x80\x04\x95"):
        status, told = ask(address, "POST", "/jobs", body)
        assert status == 200
        assert "not the job of bnas" in str(told["error"])


def test_a_network_that_does_not_run_there_is_told(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BNAS_TOKEN", TOKEN)
    device = connect(address)
    (tmp_path / "net.xml").write_text("<net")
    device.submit(0, tmp_path / "net.xml", EXAMPLE)
    with pytest.raises(MeasureError, match="cannot be read"):
        list(device.results())
    device.close()
    too_many = HwConfig(precision="f32", threads=4096, where="worker", address=address)
    with pytest.raises(MeasureError, match="threads: expected 0"):
        WorkerDevice(too_many, QUICK, network(8), EXAMPLE)


def test_where_no_worker_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            serve(f"127.0.0.1:{port}")
    with pytest.raises(
        MeasureError, match=f"no worker answers at http://127.0.0.1:{port} .*bnas measure worker"
    ):
        connect(f"http://127.0.0.1:{port}")
    with pytest.raises(ConfigError, match="expected http://host:port"):
        WorkerDevice(replace(HwConfig(), where="worker", address="http://x/y"), QUICK, network(8), EXAMPLE)


def test_beyond_loopback_a_token_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BNAS_TOKEN", raising=False)
    for listen in ("0.0.0.0:8765", "[::]:8765", "device.example:8765"):
        with pytest.raises(ConfigError, match="set BNAS_TOKEN to a secret"):
            serve(listen)
    for wrong in ("8765", ":8765", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:x"):
        with pytest.raises(ConfigError, match="expected HOST:PORT"):
            serve(wrong)
    assert parse_listen("[::1]:0") == ("::1", 0)
