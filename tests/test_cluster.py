from __future__ import annotations

import socket

import pytest

from bnas import cluster
from bnas.cluster import Absence, RayConfig, connected, last_line
from bnas.errors import ConfigError


def test_addresses() -> None:
    for address in ("", "auto", "local", "head:6379", "ray://10.0.0.1:10001", "[::1]:6379"):
        assert RayConfig(address=address).address == address
    for address in ("head", "http://head:6379", "head:99999", "head:", "a b:1"):
        with pytest.raises(ConfigError, match=r"address: expected host:port, ray://host:port or local, got"):
            RayConfig(address=address)
    with pytest.raises(ConfigError, match="wait_s: expected 0 or more, got -1"):
        RayConfig(wait_s=-1)


def test_where_no_cluster_is() -> None:
    """Ray itself would try for minutes."""
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(
        ConfigError, match=f"ray.address: no Ray cluster at 127.0.0.1:{port} .*ray start --head"
    ):
        connected(RayConfig(address=f"127.0.0.1:{port}")).__enter__()


def test_an_absence_is_news_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    absence = Absence()
    for start in (100.0, 200.0):
        now[0] = start
        assert (absence.seconds(), absence.is_news()) == (0, True)
        now[0] += 7
        assert (absence.seconds(), absence.is_news()) == (7, False)
        absence.ends()


def test_the_last_line_of_an_error_of_rays() -> None:
    assert last_line(RuntimeError("a task failed\n  File x\n\nKeyError: 'y'\n\n")) == "KeyError: 'y'"
    assert last_line(RuntimeError()) == "RuntimeError"
