"""`bnas build`: trace the model, derive its search space, prove by running what holds, show what is elastic."""

from __future__ import annotations

from math import log10

from bnas import progress
from bnas.commands.project import MEND_SPACE, Made, Project
from bnas.errors import SpaceError
from bnas.files import read_json, write_json, write_text
from bnas.graph import at_resolutions, trace
from bnas.graph.facts import ChannelGraph
from bnas.report.build_page import build_page
from bnas.report.outline import Refusal
from bnas.report.tree import build_tree
from bnas.report.words import short
from bnas.space import SearchSpace, check_fits, costs, derive_space
from bnas.supernet import Supernet, prove

PATHS = ("graph.json", "space.json", "build.html")


def build(project: Project) -> Made:
    """Write graph.json, space.json and build.html."""
    options, name = project.config.space, project.config.model.name
    model, inputs = project.fresh_model()
    given = None if options.file is None else read_json(options.file, SearchSpace, mend=MEND_SPACE)
    graph = trace(model, inputs)
    if sizes := options.resolutions if given is None else _resolutions(given):
        graph = at_resolutions(model, inputs, graph, sizes)
    wanted = derive_space(graph, options) if given is None else _checked(graph, given, str(options.file))
    with progress.bar("prove", total=1) as step:
        proof = prove(
            Supernet(model, graph, wanted),
            inputs,
            seed=project.config.seed,
            random_subnets=options.random_subnets,
        )
        step()
    refused = [Refusal(choice=wanted.choice_by_name[one.choice], reason=one.reason) for one in proof.refused]
    if not proof.space.choices:
        raise SpaceError(
            f"nothing is elastic in this model: it runs with none of its {len(refused)} choices; "
            f"{refused[0].choice.name}: {refused[0].reason}"
        )
    for line in build_tree(graph, proof.space, refused, name).splitlines():
        progress.say(line)
    for refusal in refused:
        progress.say(f"left out: {refusal.choice.name}, the model does not run with it: {refusal.reason}")
    write_json(project.folder.path("graph.json"), graph)
    write_json(project.folder.path("space.json"), proof.space)
    write_text(project.folder.path("build.html"), build_page(graph, proof.space, refused, name))
    return Made(paths=PATHS, line=_line(project, graph, proof.space, proof.ran))


def _checked(graph: ChannelGraph, space: SearchSpace, path: str) -> SearchSpace:
    """The space of a file. Raises SpaceError, with all its problems, where it does not fit the model."""
    try:
        check_fits(graph, space)
    except SpaceError as error:
        raise SpaceError(f"{path}: {error}") from error
    return space


def _resolutions(space: SearchSpace) -> tuple[int, ...]:
    return tuple(size for choice in space.choices if choice.dim == "resolution" for size in choice.values)


def _line(project: Project, graph: ChannelGraph, space: SearchSpace, ran: int) -> str:
    large, small = (costs(graph, space, config) for config in (space.largest, space.smallest))
    return (
        f"{len(space.choices)} choices, 10^{log10(space.size):.1f} subnets of {short(small.macs)} to "
        f"{short(large.macs)} MACs and {short(small.parameters)} to {short(large.parameters)} parameters, "
        f"proved by {ran} runs → {project.folder.path('build.html')}"
    )
