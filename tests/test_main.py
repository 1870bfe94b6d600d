from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from bnas import __main__ as command_line
from bnas import progress
from bnas.__main__ import main
from bnas.commands.invocation import Command, Invocation
from bnas.errors import BnasError, RunError

Run = Callable[[Invocation], None]
Use = Callable[[Run], None]


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Make `run` the function of both commands."""

    def put(run: Run) -> None:
        table = {
            "train": Command(name="train", help="train the supernet", run=run),
            "search": Command(name="search", help="search it", run=run),
        }
        monkeypatch.setattr(command_line, "_commands", lambda: table)

    return put


@pytest.fixture
def asked(use: Use) -> list[Invocation]:
    invocations: list[Invocation] = []
    use(invocations.append)
    return invocations


def raising(error: BaseException) -> Run:
    def run(invocation: Invocation) -> None:
        raise error

    return run


def test_the_words_are_taken_apart(asked: list[Invocation]) -> None:
    words = [
        "train",
        "report",
        "conf=resnet50",
        "model=big",
        "data.root=a=b",
        "~hw",
        "--hw",
        "cpu",
        "--force",
    ]
    assert main(words) == 0
    assert main(["--debug", "conf=x", "--hw=box.yaml", "search"]) == 0
    assert main(["train", "--check"]) == 0
    assert main(["train", "worker", "--listen", "0.0.0.0:1"]) == 0
    assert asked == [
        Invocation(
            command="train",
            arguments=("report",),
            conf="resnet50",
            overrides=("model=big", "data.root=a=b", "~hw"),
            hw="cpu",
            force=True,
        ),
        Invocation(command="search", conf="x", hw="box.yaml"),
        Invocation(command="train", check=True),
        Invocation(command="train", arguments=("worker",), listen="0.0.0.0:1"),
    ]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["zzz"], "unknown command 'zzz'; known: search, train"),
        (["train", "--forse"], "unknown option '--forse'; did you mean '--force'?"),
        (
            ["train", "--epochs=3"],
            "unknown option '--epochs'; known: --annotations, --check, --debug, --definitions, --force, --help, --hw, --listen, --models, --source, --version, --yaml",
        ),
        (["train", "--hw"], "--hw: give the name of a machine, as in --hw cpu"),
        (["train", "--hw", "--force"], "--hw: give the name of a machine, as in --hw cpu"),
        (["train", "--listen"], "--listen: give an address, as in --listen 127.0.0.1:8765"),
        (["conf=quickstart"], "which command? as in: python -m bnas run conf=quickstart"),
        (["--force"], "which command? as in: python -m bnas run conf=quickstart"),
    ],
)
def test_wrong_words_are_one_line_and_status_2(
    words: list[str], text: str, asked: list[Invocation], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr() == ("", f"bnas: error: {text}\n")
    assert asked == []


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands_in_their_order(
    words: list[str], asked: list[Invocation], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m bnas COMMAND [conf=NAME] [key=value ...] [--hw NAME]")
    text = " ".join(text.split())  # without its columns
    assert text.index("train the supernet") < text.index("search it") < text.index("--hw NAME the machine")
    assert text.count("python -m bnas ") == 4  # the usage and three examples
    assert asked == []


def test_help_for_one_command(asked: list[Invocation], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m bnas train [conf=NAME]")
    assert "search it" not in text
    assert asked == []


class OutOfMemoryError(RuntimeError):
    """Stands for torch's, of the same name."""


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (RunError("runs/x has no space.json"), 2, "bnas: error: runs/x has no space.json\n"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on from here\n"),
        (
            MemoryError(),
            2,
            "bnas: error: out of memory; a smaller batch (train.batch_size=...) or data.size=",
        ),
        (OutOfMemoryError("CUDA"), 2, "bnas: error: out of memory; "),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            2,
            "bnas: error: out of mem",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            2,
            "bnas: error: a/b: No space left on device\n",
        ),
        (OSError(errno.EROFS, "Read-only file system"), 2, "bnas: error: Read-only file system\n"),
        (PermissionError(errno.EACCES, "Permission denied", "a"), 2, "bnas: error: a: Permission denied\n"),
        (KeyError("x"), 1, "bnas: KeyError: 'x'\nThis is a defect of bnas, not of your input; add --debug"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), 1, "bnas: FileNotFoundError: "),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, "bnas: BrokenPipeError: "),  # not that of stdout
    ],
)
def test_an_error_is_told_without_a_traceback(
    error: BaseException, status: int, text: str, use: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    use(raising(error))
    assert main(["train"]) == status
    told = capsys.readouterr().err
    assert told.startswith(text)
    assert "Traceback" not in told
    assert main(["train", "--debug"]) == status
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert text in told


def test_an_error_has_its_own_exit_status(use: Use) -> None:
    class Seven(BnasError):
        exit_code = 7

    use(raising(Seven("x")))
    assert main(["train"]) == 7


def test_bars_and_lines_are_shown_only_while_a_command_runs(
    use: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    use(lambda invocation: progress.say("made it"))
    assert main(["train"]) == 0
    progress.say("quiet again")
    assert capsys.readouterr().out == "made it\n"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)


def test_python_m_bnas_is_the_command_line() -> None:
    done = python("-m", "bnas", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bnas 0.")


def test_a_closed_pipe_is_quiet() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "bnas", "--version"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_help_is_quick_it_imports_nothing_heavy() -> None:
    heavy = {"torch", "torchvision", "numpy", "hydra", "openvino", "nncf", "pymoo", "plotly", "sklearn"}
    done = python(
        "-c",
        f"import sys; from bnas.__main__ import main; status = main(['--help'])\n"
        f"print(sorted({heavy!r} & set(sys.modules)), status)",
    )
    assert done.stdout.splitlines()[-1:] == ["[] 0"], done.stderr
