from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bnas.errors import RunError
from bnas.files import (
    append_jsonl,
    read_json,
    read_jsonl,
    write_bytes,
    write_json,
    write_text,
    write_with,
)


@dataclass(frozen=True, kw_only=True)
class Row:
    number: int
    text: str = "x"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_makes_the_folder_and_leaves_only_the_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", (Row(number=1), Row(number=2)))
    assert json.loads((tmp_path / "a" / "b.json").read_text()) == [
        {"number": 1, "text": "x"},
        {"number": 2, "text": "x"},
    ]
    assert names(tmp_path / "a") == ["b.json"]
    assert read_json(tmp_path / "a" / "b.json", tuple[Row, ...]) == (Row(number=1), Row(number=2))


def test_a_writer_gets_a_name_with_the_suffix_and_a_failing_one_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_bytes(path, b"old")
    seen: list[Path] = []

    def fail(aside: Path) -> None:
        seen.append(aside)
        aside.write_bytes(b"half")
        raise KeyError("defect")

    with pytest.raises(KeyError):
        write_with(path, fail)
    assert path.read_bytes() == b"old"
    assert seen[0].suffix == ".safetensors"
    assert seen[0].parent == tmp_path
    assert names(tmp_path) == ["w.safetensors"]


def test_a_process_killed_while_writing_leaves_the_old_file_and_its_rest_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "1")
    code = f"""
import os, signal
from pathlib import Path
from bnas.files import write_with
def writer(aside):
    aside.write_text("[1, 2")
    os.kill(os.getpid(), signal.SIGKILL)
write_with(Path({str(path)!r}), writer)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    assert read_json(path, int) == 1
    write_text(path, "2")
    assert names(tmp_path) == ["a.json"]
    assert read_json(path, int) == 2


def test_ctrl_c_waits_for_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def writer(aside: Path) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)  # where the interrupt would come
        aside.write_text("whole")

    with pytest.raises(KeyboardInterrupt):
        write_with(path, writer)
    assert path.read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_full_disk_is_told_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    with pytest.raises(RunError, match=r"cannot write .*full\.jsonl: No space left on device; free some"):
        append_jsonl(tmp_path / "full.jsonl", 1)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*a\.txt: No space left on device"):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["a.txt", "full.jsonl"]


def test_what_a_library_says_of_a_full_or_read_only_disk_is_told_the_same(tmp_path: Path) -> None:
    def fail(aside: Path) -> None:
        raise RuntimeError("Error while serializing: I/O error: Read-only file system (os error 30)")

    with pytest.raises(RunError, match=r"cannot write .*a\.bin: Read-only file system$"):
        write_with(tmp_path / "a.bin", fail)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*a\.json: (Not a directory|File exists)$"):
        write_json(tmp_path / "file" / "a.json", 1)
    with pytest.raises(RunError, match=r"cannot write .*a\.jsonl: (Not a directory|File exists)$"):
        append_jsonl(tmp_path / "file" / "a.jsonl", 1)


@pytest.mark.parametrize(
    "content", [b"{", b"", b"\xff\xfe", b'{"number": "x"}', b'{"nubmer": 1}', b"[" * 10**5]
)
def test_a_damaged_file_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"a\.json is damaged: .*; delete it and run the command that made it"):
        read_json(path, Row)
    with pytest.raises(RunError, match=r"a\.json is damaged: .*; draw it again$"):
        read_json(path, Row, mend="draw it again")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"a\.json does not exist$"):
        read_json(tmp_path / "a.json", Row)
    assert read_jsonl(tmp_path / "a.jsonl", Row) == []


def test_lines_are_added_and_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "a.jsonl"
    rows = [Row(number=number, text="line\nbreak") for number in range(3)]
    for row in rows:
        append_jsonl(path, row)
    assert path.read_bytes().count(b"\n") == 3
    assert read_jsonl(path, Row) == rows


@pytest.mark.parametrize("torn", [b'{"number":', b'{"number":7}', b"\0" * 70000, b"\0\0\n", b'{"number"\n'])
def test_a_torn_end_is_dropped_by_readers_and_cut_off_by_the_next_append(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    append_jsonl(path, Row(number=1))
    with open(path, "ab") as file:
        file.write(torn)
    assert read_jsonl(path, Row) == [Row(number=1)]
    append_jsonl(path, Row(number=2))
    assert path.read_bytes() == b'{"number":1,"text":"x"}\n{"number":2,"text":"x"}\n'


def test_a_torn_only_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"num')
    append_jsonl(path, Row(number=2))
    assert read_jsonl(path, Row) == [Row(number=2)]


@pytest.mark.parametrize(
    ("content", "line"),
    [(b'{"number":1}\n{"numb\n{"number":3}\n', 2), (b'{"number":1}\n{"number":"x"}\n', 2), (b"5\n", 1)],
)
def test_damage_before_the_end_names_the_line(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunError, match=rf"a\.jsonl is damaged in line {line}: "):
        read_jsonl(path, Row)
    assert path.read_bytes() == content


def test_every_prefix_of_a_log_reads_as_its_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    for number in range(3):
        append_jsonl(path, Row(number=number))
    whole: Any = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert [row.number for row in read_jsonl(path, Row)] == list(range(whole[:cut].count(b"\n")))
