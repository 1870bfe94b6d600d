"""A run's folder: the configuration it was started with, what each stage made, and a lock.

    runs/<name>/  config.yaml  stages.json  .lock  and the stages' own files

A stage is done when the ledger stages.json has it, made from the same inputs, and its files are there: so a
command that was killed goes on where it was, and one whose inputs changed works again.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from bnas.errors import RunError
from bnas.files import cannot_write, read_json, write_json, write_text
from bnas.plain import to_plain

STAGES = {  # stage, which is also the command that does it: what a run without it has not
    "pretrain": "been pretrained",
    "build": "been built",
    "train": "been trained",
    "measure": "been measured",
    "search": "been searched",
    "extract": "had its subnets extracted",
    "finetune": "had its subnets fine-tuned",
    "quantize": "been quantized",
    "export": "been exported",
    "verify": "been verified",
    "report": "been reported",
}

_held: set[Path] = set()  # the folders this process has locked: its stages may lock again inside


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """A stage that was done: the digest of its inputs, the files it made (relative to the run folder)."""

    stage: str
    inputs: str
    made: tuple[str, ...]
    line: str
    seconds: float


@dataclass(frozen=True)
class RunFolder:
    """The run in the folder `root`, which `write_config` makes."""

    root: Path

    def __str__(self) -> str:
        return str(self.root)

    def path(self, *parts: str) -> Path:
        """The path of a file or folder of the run."""
        return self.root.joinpath(*parts)

    def exists(self) -> bool:
        return self.path("config.yaml").is_file()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Keep the composed plain configuration, making the folder."""
        text = yaml.safe_dump(to_plain(config), sort_keys=False, allow_unicode=True)
        write_text(self.path("config.yaml"), f"# What this run was started with; written by bnas.\n{text}")

    def config(self) -> dict[str, Any]:
        """The configuration the run was started with.

        Raises:
            RunError: it is missing or damaged.
        """
        path = self.path("config.yaml")
        again = f"write it again with: python -m bnas COMMAND conf=... name={self.root.name}"
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"{path} does not exist; {again}") from error
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            place = f" in line {mark.line + 1}" if mark else ""
            what = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise RunError(f"{path} is damaged{place}: {what}; {again}") from error
        if not isinstance(config, dict):
            raise RunError(f"{path} is damaged: it holds no options; {again}")
        return config

    def records(self) -> tuple[StageRecord, ...]:
        """The ledger, in the order in which the stages were done."""
        path = self.path("stages.json")
        if not path.exists():
            return ()
        return read_json(
            path,
            tuple[StageRecord, ...],
            mend="delete it, then the same command does the stages again, each from its last checkpoint",
        )

    def done(self, stage: str) -> StageRecord | None:
        """The record of a stage whose files are all there, whatever it was made from."""
        record = self._record(stage)
        return record if record and not self._missing(record) else None

    def check(self, stage: str, inputs: str) -> StageRecord | None:
        """The record of a stage that need not be done again: done, and from these `inputs` (a digest)."""
        record = self.done(stage)
        return record if record and record.inputs == inputs else None

    def finish(self, stage: str, inputs: str, made: Sequence[str], line: str, seconds: float) -> StageRecord:
        """Record that a stage is done; `made` are paths relative to the folder, `line` what it told."""
        record = StageRecord(stage=stage, inputs=inputs, made=tuple(made), line=line, seconds=seconds)
        others = (other for other in self.records() if other.stage != stage)
        write_json(self.path("stages.json"), (*others, record))
        return record

    def forget(self, stage: str) -> None:
        """Take a stage out of the ledger, so that it is done again; its files stay."""
        records = self.records()
        kept = tuple(record for record in records if record.stage != stage)
        if kept != records:
            write_json(self.path("stages.json"), kept)

    def require(self, stage: str) -> StageRecord:
        """The record of a stage that must have been done.

        Raises:
            RunError: it has not been, or a file it made is gone; the text has the command that does it.
        """
        record = self._record(stage)
        first = f"first: python -m bnas {stage}"
        if record is None:
            raise RunError(f"{self} has not {STAGES.get(stage, f'done {stage}')} yet; {first}")
        missing = self._missing(record)
        if missing:
            raise RunError(f"{self.path(missing[0])} is gone; {first}")
        return record

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working on this run; the system lets go of it when the process is killed.

        Raises:
            RunError: another process works on it, or the folder cannot be written.
        """
        key = self.root.resolve()
        if key in _held:
            yield
            return
        path = self.path(".lock")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            cannot_write(path, error.strerror or str(error), error)
        with file:
            self._lock(file.fileno())
            with suppress(OSError):  # who holds it, and since when (`newest`); a full disk is told elsewhere
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), str(os.getpid()).encode())
            _held.add(key)
            try:
                yield
            finally:
                _held.discard(key)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise RunError(f"{self} is in use by process {holder}; wait until it ends, or stop it") from error
        except OSError:  # some network file systems have no locks; a run there is unguarded
            pass

    def _record(self, stage: str) -> StageRecord | None:
        return next((record for record in self.records() if record.stage == stage), None)

    def _missing(self, record: StageRecord) -> tuple[str, ...]:
        return tuple(part for part in record.made if not self.path(part).exists())


def newest(runs: Path) -> RunFolder:
    """The run that was last worked on.

    Raises:
        RunError: there is none.
    """
    folders = [RunFolder(path.parent) for path in sorted(runs.glob("*/config.yaml"))]
    if not folders:
        raise RunError(f"no run yet in {runs}/; start one with: python -m bnas run conf=quickstart")
    return max(folders, key=_last_use)


def _last_use(folder: RunFolder) -> int:
    marks = (folder.path(name) for name in (".lock", "stages.json", "config.yaml"))
    return max(mark.stat().st_mtime_ns for mark in marks if mark.exists())
