"""`bnas report RUN RUN …`: several runs on one page. Without words it is the stage that makes a run's own report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bnas import progress
from bnas.commands import stages
from bnas.commands.followers import follows
from bnas.commands.invocation import Invocation
from bnas.errors import ConfigError, RunError, did_you_mean
from bnas.files import read_json
from bnas.plain import flat
from bnas.report import Report
from bnas.report.compare import Compared, write_comparison
from bnas.run_folder import RunFolder

PAGE = "compare.html"
JSON, HTML = "report.json", "report.html"


def command(invocation: Invocation) -> None:
    """Compare the runs that are named, or, where none is, make the report of one."""
    if not invocation.arguments:
        stages.command(invocation)
    elif not follows():
        compare(invocation)


def compare(invocation: Invocation) -> None:
    """Write the page of the runs in the folders that the words name.

    A run that was reported for several machines is there once for each: `search/<hw>/report.json`.

    Raises:
        ConfigError: an option besides `out=PAGE`; one report only.
        RunError: a folder holds no report; says which command makes it.
    """
    _refuse_options(invocation)
    out = Path(_out(invocation.overrides))
    found = [own for word in invocation.arguments for own in _reports(Path(word))]
    if len(found) < 2:
        raise ConfigError(
            f"report: {invocation.arguments[0]} alone has nothing to be compared with; name a second run, as in: "
            "python -m bnas report runs/a runs/b"
        )
    runs = [
        Compared(
            name=name,
            report=report,
            options=flat(folder.config()) if folder.exists() else {},
            page=_way(folder.path(HTML), out) if folder.path(HTML).exists() else "",
        )
        for name, (folder, report) in zip(_names(found), found, strict=True)
    ]
    write_comparison(runs, out)
    progress.say(f"report: {len(runs)} reports compared: {', '.join(run.name for run in runs)} → {out}")


def _refuse_options(invocation: Invocation) -> None:
    for option, asked in (
        ("conf=", invocation.conf is not None),
        ("--hw", invocation.hw is not None),
        ("--force", invocation.force),
        ("--check", invocation.check),
        ("--listen", invocation.listen is not None),
    ):
        if asked:
            raise ConfigError(f"{option}: goes with the report of one run, not with a comparison of runs")


def _out(overrides: Sequence[str]) -> str:
    """The page to write."""
    out = PAGE
    for override in overrides:
        name, _, value = override.partition("=")
        if name != "out":
            raise ConfigError(
                f"{name}: no option of a comparison{did_you_mean(name, ['out'])}, as in out={PAGE}"
            )
        if not value.endswith((".html", ".htm")):
            raise ConfigError(f"out: expected the name of a page, as in out={PAGE}, got '{value}'")
        out = value
    return out


def _reports(path: Path) -> list[tuple[RunFolder, Report]]:
    """The reports of a run: of each machine that it was reported for, else the one that there is."""
    if path.name == JSON:
        path = path.parent
    folder = RunFolder(path)
    make = f"make it with: python -m bnas report conf={folder.path('config.yaml')}"
    if not folder.path(JSON).exists():
        if not path.is_dir():
            raise RunError(
                f"{path} does not exist; name the folder of a run, as in: python -m bnas report runs/a runs/b"
            )
        if not folder.exists():
            raise RunError(f"{path} is not the folder of a run: it has no config.yaml")
        raise RunError(f"{path} has no {JSON} yet; {make}")
    places = sorted(path.glob(f"search/*/{JSON}"))
    mend = f"{make} --force"
    return [
        (folder, read_json(place, Report, mend=mend))
        for place in (places if len(places) > 1 else [folder.path(JSON)])
    ]


def _names(found: Sequence[tuple[RunFolder, Report]]) -> list[str]:
    """A name for each report that no other has: the run's, with its hardware or its folder where that is needed."""
    for name in (
        lambda folder, report: report.run,
        lambda folder, report: f"{report.run} on {report.protocol.get('hw')}",
        lambda folder, report: f"{folder} on {report.protocol.get('hw')}",
    ):
        names = [name(folder, report) for folder, report in found]
        if max(Counter(names).values()) == 1:
            return names
    return [f"{name} ({number})" for number, name in enumerate(names, start=1)]


def _way(page: Path, out: Path) -> str:
    """From the folder of `out` to `page`."""
    return Path(os.path.relpath(page.resolve(), out.resolve().parent)).as_posix()
