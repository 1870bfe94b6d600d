"""`python -m bnas COMMAND ...`: read the words, do the command, tell an error in one line."""

from __future__ import annotations

import errno
import importlib
import os
import select
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO, cast

from bnas import progress
from bnas.commands.followers import follows
from bnas.commands.invocation import Command, Invocation
from bnas.errors import BnasError, ConfigError, did_you_mean

_OPTIONS = {
    "--hw": "the machine to measure on: a name in conf/hw/ or a YAML file; the same as hw=NAME",
    "--force": "do the stage again, also when it is done",
    "--check": "with measure: how noisy this machine is, and what error to expect",
    "--listen": "with measure worker: HOST:PORT to listen on (127.0.0.1:8765)",
    "--yaml": "with check: the accuracy checker's configuration; and what it is about, as there:",
    "-m, --models": "the folder of its networks, or the one network",
    "-s, --source": "the folder of its images",
    "-a, --annotations": "the list of images and labels, or its folder",
    "-d, --definitions": "its dataset_definitions.yml",
    "--debug": "show where an error came from",
    "--help": "this text",
    "--version": "the version of bnas",
}
_LONG = tuple(word for label in _OPTIONS for word in label.split(", ") if word.startswith("--"))
# With check; the same as yaml=FILE, models=PATH …
_SAME = {
    "--yaml": "yaml", "-m": "models", "--models": "models", "-s": "source", "--source": "source",
    "-a": "annotations", "--annotations": "annotations", "-d": "definitions", "--definitions": "definitions",
}  # fmt: skip
_VALUES = {
    "--hw": "the name of a machine, as in --hw cpu",
    "--listen": "an address, as in --listen 127.0.0.1:8765",
    **{option: f"a path, as in {option} {name}" for option, name in _SAME.items()},
}
_EXAMPLES = {
    "python -m bnas run conf=quickstart": "the whole way on small images, in minutes",
    "python -m bnas train conf=resnet50 train.batch_size=64": "any option of a conf can be set",
    "python -m bnas search --hw cpu": "goes on with the newest run",
}


@dataclass(frozen=True, kw_only=True)
class _Request:
    """The words of the command line; `invocation.command` is empty when none was given."""

    invocation: Invocation
    help: bool
    version: bool


def main(argv: Sequence[str] | None = None) -> int:
    """Do what `argv` asks for and return the exit status.

    0 done; 2 an error the person can mend, told in one line; 130 stopped by Ctrl-C; 1 a defect of bnas.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if follows():
        return _follow(words)
    progress.enable(True)
    try:
        _do(_read(words))
        sys.stdout.flush()
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141  # as a shell counts a program ended by SIGPIPE
        if "--debug" in words:
            traceback.print_exc()
        line, status = _explained(error)
        print(line, file=sys.stderr)
        return status
    finally:
        progress.enable(False)


def _follow(words: Sequence[str]) -> int:
    """What any but the first of torchrun's processes does with the same words; it speaks of its own errors only."""
    try:
        request = _read(words)
    except BnasError as error:
        return error.exit_code
    command = _commands().get(request.invocation.command)
    if command is None or not command.together or request.help or request.version:
        return 0
    try:
        command.run(request.invocation)
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        line, status = _explained(error)
        print(f"process {os.environ['RANK']}: {line}", file=sys.stderr)
        return status


def _read(words: Sequence[str]) -> _Request:
    arguments: list[str] = []
    overrides: list[str] = []
    flags: set[str] = set()
    conf = None
    values: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in _VALUES:
            values[option] = value if equals else next(rest, "")
            if not values[option] or values[option].startswith("-"):
                raise ConfigError(f"{option}: give {_VALUES[option]}")
            if option in _SAME:
                overrides.append(f"{_SAME[option]}={values[option]}")
        elif word in ("-h", *_OPTIONS):
            flags.add(word)
        elif word.startswith("-"):
            raise ConfigError(f"unknown option '{option}'{did_you_mean(option, _LONG)}")
        elif option == "conf" and equals:
            conf = value
        elif equals or word.startswith("~"):
            overrides.append(word)
        else:
            arguments.append(word)
    return _Request(
        invocation=Invocation(
            command=arguments[0] if arguments else "",
            arguments=tuple(arguments[1:]),
            conf=conf,
            overrides=tuple(overrides),
            hw=values.get("--hw"),
            force="--force" in flags,
            check="--check" in flags,
            listen=values.get("--listen"),
        ),
        help=bool(flags & {"-h", "--help"}),
        version="--version" in flags,
    )


def _do(request: _Request) -> None:
    invocation = request.invocation
    if request.version:
        from bnas import __version__

        print(f"bnas {__version__}")
        return
    commands = _commands()
    name = invocation.command
    if name and name not in commands:
        raise ConfigError(f"unknown command '{name}'{did_you_mean(name, commands)}")
    if request.help:
        print(_usage({name: commands[name]} if name else commands))
    elif name:
        commands[name].run(invocation)
    elif invocation == Invocation(command=""):
        print(_usage(commands))
    else:
        raise ConfigError("which command? as in: python -m bnas run conf=quickstart")


def _commands() -> Mapping[str, Command]:
    """The table of commands, imported only now: reading the words needs nothing heavy."""
    return cast(Mapping[str, Command], importlib.import_module("bnas.commands").COMMANDS)


def _usage(commands: Mapping[str, Command]) -> str:
    known = [(name, command.help) for name, command in commands.items()]
    shown = {"--hw": "--hw NAME", "--listen": "--listen ADDRESS"}
    options = [(shown.get(name, name), text) for name, text in _OPTIONS.items()]
    width = max(len(name) for name, _ in (*known, *options))
    command = known[0][0] if len(known) == 1 else "COMMAND"
    lines = [
        f"usage: python -m bnas {command} [conf=NAME] [key=value ...] [--hw NAME] [--force] [--debug]",
        "",
        *(f"  {name:{width}}  {text}" for name, text in known),
        "",
        *(f"  {name:{width}}  {text}" for name, text in options),
        "",
        "examples:",
        *(f"  {example}\n      {text}" for example, text in _EXAMPLES.items()),
    ]
    return "\n".join(lines)


def _explained(error: BaseException) -> tuple[str, int]:
    """The line to print for an error, and the exit status."""
    if isinstance(error, BnasError):
        return f"bnas: error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "stopped; the same command goes on from here", 130
    if _is_out_of_memory(error):
        return (
            "bnas: error: out of memory; a smaller batch (train.batch_size=...) or data.size=... needs less",
            2,
        )
    if isinstance(error, OSError) and error.errno in _MENDABLE:
        place = f"{error.filename}: " if error.filename else ""
        return f"bnas: error: {place}{error.strerror}", 2
    debug = "add --debug to see where"
    return f"bnas: {type(error).__name__}: {error}\nThis is a defect of bnas, not of your input; {debug}.", 1


_MENDABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError):
        return True
    names = {cls.__name__ for cls in type(error).__mro__}  # torch's class, without importing torch
    return "OutOfMemoryError" in names or "can't allocate memory" in str(error)


def _nobody_reads() -> bool:
    """Whether stdout or stderr is a pipe that was closed; what is left to print there then goes nowhere."""
    closed = [stream for stream in (sys.stdout, sys.stderr) if _reader_is_gone(stream)]
    for stream in closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return bool(closed)


def _reader_is_gone(stream: TextIO) -> bool:
    poll = select.poll()
    try:
        poll.register(stream, 0)  # errors are always reported
    except (OSError, ValueError):  # no file of the system's, as in a notebook
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
