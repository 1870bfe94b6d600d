from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bnas.errors import RunError
from bnas.train.state_file import (
    Position,
    call_best,
    is_intact,
    position_of,
    read_state,
    remove,
    state_files,
    write_state,
)

AT = Position(stage=1, step=20)
STATE = {"model": {"weight": torch.arange(6.0)}, "settings": {"lr": 0.1}, "best": None}


def test_the_name_holds_the_position_and_the_digest_of_the_bytes(tmp_path: Path) -> None:
    path = write_state(tmp_path, AT, STATE)
    assert path.name == f"01-00000020-{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}.pt"
    assert position_of(path) == AT
    assert list(tmp_path.iterdir()) == [path]
    found = read_state(path)
    assert found is not None
    assert torch.equal(found["model"].pop("weight"), torch.arange(6.0))
    assert found == {"model": {}, "settings": {"lr": 0.1}, "best": None}


def test_equal_states_are_equal_files(tmp_path: Path) -> None:
    assert write_state(tmp_path / "a", AT, STATE).name == write_state(tmp_path / "b", AT, STATE).name


def test_every_altered_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    path = write_state(tmp_path, AT, STATE)
    data = path.read_bytes()
    for place in range(0, len(data), 97):
        for altered in (data[:place], bytearray(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])):
            path.write_bytes(altered)
            assert not is_intact(path)
            assert read_state(path) is None
    path.write_bytes(data)
    assert is_intact(path)


def test_files_are_in_the_order_of_their_positions_then_of_their_times(tmp_path: Path) -> None:
    later = write_state(tmp_path, Position(stage=1, step=3), STATE)
    first = write_state(tmp_path, Position(stage=0, step=100), STATE)
    again = write_state(tmp_path, Position(stage=0, step=100), {**STATE, "best": 1})
    os.utime(first, ns=(0, 5))
    os.utime(again, ns=(0, 6))
    best = call_best(first)
    (tmp_path / "note.txt").write_text("")
    assert state_files(tmp_path, best=False) == [first, again, later]
    assert state_files(tmp_path, best=True) == [best]
    remove([first, tmp_path / "never was"])
    assert state_files(tmp_path, best=False) == [again, later]
    assert state_files(tmp_path / "none", best=False) == state_files(None, best=True) == []


@pytest.mark.parametrize("links", [True, False])
def test_the_best_outlives_the_file_it_was_made_of(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise PermissionError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    path = write_state(tmp_path, AT, STATE)
    best = call_best(path)
    best.write_bytes(b"of an older process")
    best = call_best(write_state(tmp_path, AT, STATE))
    assert best.samefile(path) == links
    path.unlink()
    assert is_intact(best)
    assert position_of(best) == AT


def test_a_state_is_saved_without_a_copy_of_it_in_memory(tmp_path: Path) -> None:
    """What a process of its own holds at most while it saves 64 MiB more than once."""
    program = f"""
import resource, torch
from pathlib import Path
from bnas.train.state_file import Position, write_state
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_state(Path({str(tmp_path)!r}), Position(step=1), {{"model": {{"small": torch.ones(9)}}}})
state = {{"model": {{str(i): torch.ones(1 << 18) for i in range(64)}}}}
before = peak()
write_state(Path({str(tmp_path)!r}), Position(step=2), state)
print((peak() - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 32


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    before = write_state(tmp_path, AT, STATE)
    usual = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
        with pytest.raises(RunError, match=r"cannot write .*File too large"):
            write_state(tmp_path, Position(stage=2), {"model": {"weight": torch.ones(100_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, usual)
    assert list(tmp_path.iterdir()) == [before]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_state(tmp_path / "file" / "below", AT, STATE)


def test_an_intact_file_that_torch_cannot_read_is_one_clear_error(tmp_path: Path) -> None:
    data = b"of another program"
    path = tmp_path / f"01-00000001-{hashlib.sha256(data).hexdigest()[:16]}.pt"
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"cannot read .*; delete it") as caught:
        read_state(path)
    assert "\n" not in str(caught.value)


def test_pickled_code_is_never_run(tmp_path: Path) -> None:
    path = write_state(tmp_path, AT, {"model": {}, "settings": Path("x")})
    with pytest.raises(RunError, match="cannot read"):
        read_state(path)
