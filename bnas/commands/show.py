"""`bnas show [WHAT]`: a run, or any of its parts, readable on the terminal."""

from __future__ import annotations

from collections.abc import Callable
from math import log10

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnas.commands.build import describe
from bnas.commands.extract import SubnetFile
from bnas.commands.invocation import Invocation
from bnas.commands.project import Project, open_project
from bnas.errors import RunError, did_you_mean
from bnas.files import read_json
from bnas.measure import LatencyModel
from bnas.report import Report, print_table
from bnas.space import costs


def command(invocation: Invocation) -> None:
    """Show what the words after `show` name; without any, what the run has done so far."""
    project = open_project(invocation)
    if not project.folder.exists():
        raise RunError(f"{project.folder} does not exist; start it with: python -m bnas run conf=…")
    what = invocation.arguments[0] if invocation.arguments else "run"
    subnets = sorted(path.parent.name for path in project.folder.path("subnets").glob("*/subnet.json"))
    if what in SHOWN:
        SHOWN[what](project)
    elif what in subnets:
        _subnet(project, what)
    else:
        raise RunError(
            f"show: nothing called '{what}' in {project.folder}{did_you_mean(what, [*SHOWN, *subnets])}"
        )


def _run(project: Project) -> None:
    table = Table(title=Text(str(project.folder)))
    for column in ("stage", "seconds", "made"):
        table.add_column(column, overflow="fold")
    for record in project.folder.records():
        table.add_row(record.stage, f"{record.seconds:.1f}", Text(record.line))
    Console().print(table)


def _space(project: Project) -> None:
    project.folder.require("build")
    print(f"{len(project.space.choices)} choices, 10^{log10(project.space.size):.1f} subnets")
    print("\n".join(describe(project.graph, project.space)))


def _latency(project: Project) -> None:
    if not project.folder.done(f"measure@{project.hw_folder}"):
        project.folder.require("measure")
    model = read_json(project.folder.path("latency", project.hw_folder, "model.json"), LatencyModel)
    print(
        f"fitted to {model.samples} subnets; held-out error: mean {model.mape_percent:.2f} %, "
        f"{model.within_5_percent:.0f} % within 5 %, {model.within_10_percent:.0f} % within 10 %, Kendall tau "
        f"{model.kendall_tau:.3f}; a line through MACs: {model.macs_line_mape_percent:.2f} %"
    )


def _report(project: Project) -> None:
    project.folder.require("report")
    print_table(read_json(project.folder.path("report.json"), Report))


def _subnet(project: Project, name: str) -> None:
    file = read_json(project.folder.path("subnets", name, "subnet.json"), SubnetFile)
    config = file.config or project.space.largest
    total = costs(project.graph, project.space, config)
    print(f"{name}: {total.macs / 1e6:.2f} MMACs, {total.parameters / 1e6:.3f} M parameters")
    width = max(map(len, config))
    for choice in project.space.choices:
        print(f"  {choice.name:<{width}}  {config[choice.name]:>5} of {choice.values[-1]}")


SHOWN: dict[str, Callable[[Project], None]] = {
    "run": _run,
    "space": _space,
    "latency": _latency,
    "report": _report,
}
