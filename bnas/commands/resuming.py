"""Going on with a stage though options have changed: those that leave what it has done so far as it would be anyway."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from bnas.commands.project import Project
from bnas.config import RunConfig
from bnas.errors import BnasError
from bnas.plain import from_plain


def as_before(project: Project, options: Iterable[str]) -> Project:
    """The project with the values that these options, `section.option`, had when a command last worked on the run."""
    try:
        former = from_plain(RunConfig, project.folder.config())
    except BnasError:  # there is no run yet, or it has options that are no more
        return project
    config: Any = project.config
    for path in options:
        config = _with(config, path.split("."), option_of(former, path))
    return replace(project, config=config)


def option_of(config: Any, path: str) -> Any:
    """The value of `section.option`, or of a whole section."""
    for name in path.split("."):
        config = getattr(config, name)
    return config


def _with(config: Any, path: list[str], value: Any) -> Any:
    name, *rest = path
    return replace(config, **{name: _with(getattr(config, name), rest, value) if rest else value})
