"""Networks as files that travel: each file is known by its SHA-256, so that what arrives is what was sent."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bnas.errors import ConfigError, MeasureError
from bnas.measure.backends import BACKENDS, Network, backend_of
from bnas.measure.hardware import HwConfig

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")  # of a file in a folder: no way out of it
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class SentFile:
    """One file: its name beside the others, the SHA-256 of what is in it in hex, and how much that is."""

    name: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"name: expected a plain file name, got {self.name!r}")
        check_sha256(self.sha256)
        if self.size_bytes < 0:
            raise ConfigError(f"size_bytes: expected 0 or more, got {self.size_bytes}")


@dataclass(frozen=True, kw_only=True)
class Package:
    """A network's files, the first of which is the one to load, and the shape of one input [n, C, H, W]."""

    files: tuple[SentFile, ...]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        names = [file.name for file in self.files]
        if not names or len(set(names)) != len(names):
            raise ConfigError(f"files: expected one or more of different names, got {names}")
        if not self.shape or min(self.shape) < 1:
            raise ConfigError(f"shape: expected sizes of 1 or more, got {self.shape}")

    @property
    def sums(self) -> set[str]:
        """The SHA-256 of its files."""
        return {file.sha256 for file in self.files}


def pack(network: Network, hw: HwConfig, example: Tensor, folder: Path) -> tuple[Package, dict[str, Path]]:
    """`network` (as `deploy` returned it, or an artefact) as files in `folder`, and where they lie, by SHA-256.

    Raises:
        MeasureError: networks of this backend cannot be sent, or this one cannot be written.
    """
    paths = _written(network, hw, folder)
    sums = [sha256_of(path) for path in paths]
    files = tuple(
        SentFile(name=path.name, sha256=own, size_bytes=path.stat().st_size)
        for path, own in zip(paths, sums, strict=True)
    )
    return Package(files=files, shape=tuple(example.shape)), dict(zip(sums, paths, strict=True))


def _written(network: Network, hw: HwConfig, folder: Path) -> list[Path]:
    """The network's files, the one to load first."""
    if isinstance(network, Path):
        if not network.exists():
            raise MeasureError(f"{network} does not exist")
        return [network, *sorted(network.parent.glob(f"{network.stem}.bin"))]
    save = backend_of(hw).save
    if save is None:
        able = ", ".join(name for name, backend in BACKENDS.items() if backend.save)
        raise MeasureError(
            f"hw.backend: networks of {hw.backend} cannot be sent to another machine; expected one of {able}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    main = save(network, folder)
    return [main, *sorted(path for path in folder.iterdir() if path != main)]


class Store:
    """Files by their SHA-256 in a folder, at most `limit_bytes` of them: the oldest make room for new ones."""

    def __init__(self, folder: Path, limit_bytes: int = 8 << 30) -> None:
        self._files = folder / "files"
        self._networks = folder / "networks"
        self._limit_bytes = limit_bytes
        for made in (self._files, self._networks):
            made.mkdir(parents=True, exist_ok=True)

    def missing(self, *packages: Package) -> tuple[str, ...]:
        """The SHA-256 of files that are not here."""
        wanted = set[str]().union(*(package.sums for package in packages))
        return tuple(sorted(own for own in wanted if not (self._files / own).exists()))

    def add(self, sha256: str, chunks: Iterable[bytes]) -> None:
        """Take in a file.

        Raises:
            MeasureError: it is not the file that was announced.
        """
        check_sha256(sha256)
        aside, found = self._files / f".{sha256}.partial", hashlib.sha256()
        try:
            with open(aside, "wb") as file:
                for chunk in chunks:
                    found.update(chunk)
                    file.write(chunk)
            if found.hexdigest() != sha256:
                raise MeasureError(
                    f"a file was damaged on its way (SHA-256 {found.hexdigest()[:16]}… instead of "
                    f"{sha256[:16]}…); send it again"
                )
            self._make_room(aside.stat().st_size)
            aside.replace(self._files / sha256)
        finally:
            aside.unlink(missing_ok=True)

    def place(self, package: Package, name: str) -> Path:
        """Its files under their own names in a folder `name`; returns the one to load."""
        folder = self._networks / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file in package.files:
            (folder / file.name).hardlink_to(self._files / file.sha256)
        return folder / package.files[0].name

    def drop(self, package: Package, *, keep: Package) -> None:
        """Forget the files of `package` that are not of `keep` too."""
        for own in package.sums - keep.sums:
            (self._files / own).unlink(missing_ok=True)

    def _make_room(self, size_bytes: int) -> None:
        there = [path for path in self._files.iterdir() if not path.name.startswith(".")]
        used = sum(path.stat().st_size for path in there) + size_bytes
        for path in sorted(there, key=lambda path: path.stat().st_mtime_ns):
            if used <= self._limit_bytes:
                return
            used -= path.stat().st_size
            path.unlink()


def contents(paths: Mapping[str, Path]) -> dict[str, bytes]:
    """What is in the files, by SHA-256."""
    return {own: path.read_bytes() for own, path in paths.items()}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hex."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def check_sha256(text: str) -> None:
    """Raise ConfigError when `text` is no SHA-256 in hex."""
    if not _SHA256.fullmatch(text):
        raise ConfigError(f"sha256: expected 64 hex digits, got {text!r}")
