from __future__ import annotations

import socket

import pytest

from bnas.cluster import RayConfig, connected
from bnas.errors import ConfigError, RunError


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
    with pytest.raises(RunError, match=f"no Ray cluster at 127.0.0.1:{port} .*ray start --head"):
        connected(RayConfig(address=f"127.0.0.1:{port}")).__enter__()
