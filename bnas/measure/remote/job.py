"""What is asked of a device and what it answers, whichever way the two travel: JSON, and files beside it.

A device is asked to time one network beside a reference network. It keeps the reference, compiled, for the
next job. Nothing that arrives is run but by the runtime that was asked for, and nothing is unpickled.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from bnas.errors import BnasError, ConfigError, MeasureError
from bnas.measure.device import Here, Timed
from bnas.measure.hardware import Hardware, HwConfig, detect
from bnas.measure.remote.package import Package, Store
from bnas.measure.timing import MeasureConfig
from bnas.plain import digest, from_plain, to_plain
from bnas.version import __version__

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Job:
    """Time `network` beside `reference`; without them, say what the device is. `version` is that of bnas."""

    version: str
    hw: HwConfig
    config: MeasureConfig
    reference: Package | None = None
    network: Package | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`timed`, or the SHA-256 of files that are `missing` and have to be sent, or an `error`; the `hardware`."""

    timed: Timed | None = None
    hardware: Hardware | None = None
    missing: tuple[str, ...] = ()
    error: str = ""


class Bench:
    """What a device does jobs with, one at a time: its files, and the reference of the last job, compiled."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._here: Here | None = None
        self._set_up = ""

    def answer(self, request: bytes) -> bytes:
        """The answer, as JSON, to a job as JSON; whatever goes wrong is told in it."""
        try:
            return encode(self.run(decode(Job, request)))
        except BnasError as error:
            return encode(Answer(error=f"{platform.node()}: {error}"))
        except Exception as error:  # of the runtime, as running out of memory: the campaign is elsewhere
            return encode(Answer(error=f"{platform.node()}: {type(error).__name__}: {error}"))

    def run(self, job: Job) -> Answer:
        """Do a job.

        Raises:
            MeasureError: the network cannot be timed, or was sent by another version of bnas.
            ConfigError: this machine has not what `hw` asks for.
        """
        if job.version != __version__:
            raise MeasureError(
                f"this device has bnas {__version__}, the campaign {job.version}; install the same on both"
            )
        hw = replace(job.hw, where="here", device="", address="")
        if job.network is None or job.reference is None:
            return Answer(hardware=detect(hw))
        if missing := self.store.missing(job.reference, job.network):
            return Answer(missing=missing)
        here = self._beside(job.reference, hw, job.config)
        path = self.store.place(job.network, "network")
        try:
            here.submit(0, path, torch.zeros(job.network.shape))
            ((_, timed),) = here.results()
        finally:
            self.store.drop(job.network, keep=job.reference)
        return Answer(timed=timed, hardware=timed.hardware)

    def close(self) -> None:
        """Let go of the compiled reference."""
        if self._here is not None:
            self._here.close()
        self._here, self._set_up = None, ""

    def _beside(self, reference: Package, hw: HwConfig, config: MeasureConfig) -> Here:
        wanted = digest([hw, config, reference])
        if self._here is None or self._set_up != wanted:
            self.close()
            path = self.store.place(reference, "reference")
            self._here = Here(hw, config, path, torch.zeros(reference.shape))
            self._set_up = wanted
        return self._here


def encode(x: Job | Answer) -> bytes:
    """As JSON."""
    return json.dumps(to_plain(x), separators=(",", ":")).encode()


def decode(cls: type[T], data: bytes) -> T:
    """A job or an answer from JSON.

    Raises:
        MeasureError: it is no such JSON.
    """
    try:
        return from_plain(cls, json.loads(data))
    except (ValueError, RecursionError, ConfigError) as error:
        raise MeasureError(f"not the {cls.__name__.lower()} of bnas {__version__}: {error}") from error


def different(first: Hardware, second: Hardware) -> str:
    """In what two devices differ so that their measurements do not belong together; empty: in nothing."""
    sides = [(_kind_of(first)[name], _kind_of(second)[name], name) for name in _kind_of(first)]
    return "; ".join(f"{name} {one} and {other}" for one, other, name in sides if one != other)


def refuse_other(first: Hardware, second: Hardware) -> None:
    """Raise MeasureError when the second device is not of the same kind as the first."""
    if differences := different(first, second):
        raise MeasureError(
            f"the devices {first.host} and {second.host} are not of one kind: {differences}; a predictor is of "
            "one kind of hardware: give each kind a label of its own, and choose one with hw.device=…"
        )


def _kind_of(hardware: Hardware) -> dict[str, str]:
    return {
        "cpu": hardware.cpu,
        "physical_cores": str(hardware.physical_cores),
        "flags": " ".join(hardware.flags),
        "runtime": hardware.runtime,
        "runtime_version": hardware.runtime_version,
        "cpus": str(len(hardware.cpus)),
    }
