"""`bnas show [WHAT]`: a run, or any of its parts, as `space`, `train`, `front` or `diff A B`, on the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bnas.commands.extract import SubnetFile
from bnas.commands.invocation import Invocation
from bnas.commands.latency_report import show_campaign
from bnas.commands.project import Project, open_project
from bnas.commands.show_front import Query, asked, show_front
from bnas.commands.show_params import show_params
from bnas.commands.training_curves import trainings
from bnas.errors import MissingPackageError, RunError, did_you_mean
from bnas.files import read_json
from bnas.report import Report, print_table, print_training, write_training
from bnas.space import SearchSpace, SubnetConfig, space_table, subnet_diff, subnet_table


def command(invocation: Invocation) -> None:
    """Show what the words after `show` name; without any, what the run has done so far."""
    if invocation.arguments[:1] == ("params",):  # of a file that may be of no run
        show_params(invocation.arguments[1:])
        return
    fronts = invocation.arguments[:1] == ("front",)
    query, invocation = asked(invocation) if fronts else (Query(), invocation)
    project = open_project(invocation)
    if not project.folder.exists():
        raise RunError(f"{project.folder} does not exist; start it with: python -m bnas run conf=…")
    what, *names = invocation.arguments or ("run",)
    if fronts:
        show_front(project, query)
    elif what in SHOWN and not names:
        SHOWN[what](project)
    elif what == "diff" and len(names) == 2:
        _diff(project, *names)
    elif what == "diff":
        raise RunError("show diff: which two subnets? as in: python -m bnas show diff A B")
    elif what == "subnet" and len(names) == 1:
        _subnet(project, names[0])
    elif what == "subnet":
        raise RunError("show subnet: which one? as in: python -m bnas show subnet A")
    elif names:
        raise RunError(f"show {what}: one word expected, got also '{' '.join(names)}'")
    elif what in _subnets(project):
        _subnet(project, what)
    else:
        known = [*SHOWN, "front", "diff", *_subnets(project)]
        raise RunError(f"show: nothing called '{what}' in {project.folder}{did_you_mean(what, known)}")


def _run(project: Project) -> None:
    table = Table(title=Text(str(project.folder)))
    for column in ("stage", "seconds", "made"):
        table.add_column(column, overflow="fold")
    for record in project.folder.records():
        table.add_row(record.stage, f"{record.seconds:.1f}", Text(record.line))
    Console().print(table)


def _space(project: Project) -> None:
    project.folder.require("build")
    print(space_table(project.graph, project.space))


def _train(project: Project) -> None:
    """The curves of the trainings so far, also while one goes on; as a page, too, where plotly is installed."""
    found = trainings(project)
    for training in found:
        print_training(training)
        print()
    try:
        print(f"all curves → {write_training(project.config.name, found, project.folder.root)}")
    except MissingPackageError as error:
        print(f"no page of them was written: {error}")


def _report(project: Project) -> None:
    project.folder.require("report")
    print_table(read_json(project.folder.path("report.json"), Report))


def _subnet(project: Project, name: str) -> None:
    print(subnet_table(project.graph, project.space, _config(project, name)))
    card = project.folder.path("subnets", name, "card.md")
    if card.exists():
        print(f"\nmodel card → {card}")


def _diff(project: Project, first: str, second: str) -> None:
    a, b = _config(project, first), _config(project, second)
    print(subnet_diff(project.graph, project.space, a, b, names=(first, second)))


def _subnets(project: Project) -> list[str]:
    """The names of the extracted subnets, and of the two ends that every space has."""
    extracted = sorted(path.parent.name for path in project.folder.path("subnets").glob("*/subnet.json"))
    return [*extracted, *ENDS]


def _config(project: Project, name: str) -> SubnetConfig:
    project.folder.require("build")
    known = _subnets(project)
    if name not in known:
        raise RunError(f"{project.folder} has no subnet '{name}'{did_you_mean(name, known)}")
    if name in ENDS:
        return ENDS[name](project.space)
    file = read_json(project.folder.path("subnets", name, "subnet.json"), SubnetFile)
    return file.config or project.space.largest


ENDS: dict[str, Callable[[SearchSpace], SubnetConfig]] = {
    "largest": lambda space: space.largest,
    "smallest": lambda space: space.smallest,
}
SHOWN: dict[str, Callable[[Project], None]] = {
    "run": _run,
    "space": _space,
    "train": _train,
    "latency": show_campaign,
    "report": _report,
}
