"""Many machines: the Ray cluster that a stage spreads its work over.

Ray's own protocol is pickle, so whoever can reach a cluster's ports can run code on it: a cluster belongs on a
network of its own, or behind a firewall. What bnas itself sends through it is JSON and files.
"""

from __future__ import annotations

import importlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from bnas.errors import ConfigError, require

START = "ray start --head"  # said to a person who has no cluster yet
_REACH_S = 5.0  # to wait for a connection to an address


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """Which Ray cluster.

    `address`: `host:port` of its head (this machine has to be one of its nodes then), `ray://host:port` of its
    server for clients, `local` for a new cluster of this machine alone, which ends with the command; empty:
    $RAY_ADDRESS, or else, to time, the cluster that this machine is a node of (`auto`), and to search, `local`.
    Work waits `wait_s` seconds for a node that can do it, when there is none (any more).
    """

    address: str = ""
    wait_s: float = 600.0

    def __post_init__(self) -> None:
        if self.address not in ("", "auto", "local") and _host_and_port(self.address) is None:
            raise ConfigError(f"address: expected host:port, ray://host:port or local, got '{self.address}'")
        if self.wait_s < 0:
            raise ConfigError(f"wait_s: expected 0 or more, got {self.wait_s:g}")


@contextmanager
def connected(config: RayConfig, *, otherwise: str = "auto", cores: int | None = None) -> Iterator[Any]:
    """The module `ray`, connected to the cluster for as long as this lasts; a connection there is stays.

    `otherwise` is the address where neither `config` nor $RAY_ADDRESS has one. A new cluster offers `cores`
    (None: those of the machine), and can be reached from this machine alone.

    Raises:
        MissingPackageError: Ray is not installed.
        ConfigError: there is no cluster at that address.
    """
    ray = require("ray", "ray")
    if ray.is_initialized():
        yield ray
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of a cluster that is started here: tells nobody
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as Ray will do by itself, or it warns
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # likewise: its processes are not to stand back for others
    address = config.address or os.environ.get("RAY_ADDRESS") or otherwise
    _refuse_if_unreachable(address)
    own = {"include_dashboard": False, "num_cpus": cores} if address == "local" else {}
    with _on_loopback() if own else nullcontext():
        try:
            ray.init(address=address, logging_level="ERROR", log_to_driver=False, **own)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _unreachable(address, str(error).strip().splitlines()[0]) from error
        try:
            with _quiet():
                yield ray
        finally:
            ray.shutdown()


class Absence:
    """The time in which there is no node to work on."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._told = False

    def seconds(self) -> float:
        """Since it began; it begins now, if it has not."""
        if self._since is None:
            self._since = time.monotonic()
        return time.monotonic() - self._since

    def is_news(self) -> bool:
        """Whether this is asked for the first time in this absence."""
        told, self._told = self._told, True
        return not told

    def ends(self) -> None:
        self._since, self._told = None, False


def last_line(error: Exception) -> str:
    """Of an error of Ray's, which may hold a traceback: the line that says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Ray's processes take 127.0.0.1 for the address of this machine, and listen there alone.

    Ray has a switch for this, for systems whose firewall would ask; it is read when Ray is imported.
    """
    constants: Any = importlib.import_module("ray._private.ray_constants")
    usual, switch = getattr(constants, "ENABLE_RAY_CLUSTER", True), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    before = os.environ.get(switch)
    constants.ENABLE_RAY_CLUSTER, os.environ[switch] = False, "0"
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = usual
        del os.environ[switch]
        if before is not None:
            os.environ[switch] = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray fills stdout with its log when a node is lost; what that means is said by those whose work it did."""
    ray_worker: Any = importlib.import_module("ray._private.worker")
    usual = getattr(ray_worker, "print_to_stdstream", None)
    if usual is None:  # another version of Ray: it prints
        yield
        return
    ray_worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        ray_worker.print_to_stdstream = usual


def _refuse_if_unreachable(address: str) -> None:
    """Ray itself tries for minutes."""
    place = _host_and_port(address)
    if place is None:
        return
    try:
        socket.create_connection(place, timeout=_REACH_S).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from error


def _unreachable(address: str, why: str) -> ConfigError:
    where = "on this machine" if address == "auto" else f"at {address}"
    return ConfigError(
        f"ray.address: no Ray cluster {where} ({why}); start one with `{START}`, or give the address of its "
        "head as ray.address=host:port"
    )


def _host_and_port(address: str) -> tuple[str, int] | None:
    match = re.fullmatch(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):(\d{1,5})", address)
    return (match[1].strip("[]"), int(match[2])) if match and int(match[2]) < 65536 else None
