"""`bnas build`: trace the model, derive its search space, prove by running that both hold."""

from __future__ import annotations

from collections import Counter
from math import log10

from bnas import progress
from bnas.commands.project import Made, Project
from bnas.files import write_json
from bnas.graph import ChannelGraph, trace
from bnas.space import SearchSpace, costs, derive_space
from bnas.supernet import Supernet, prove


def build(project: Project) -> Made:
    """Write graph.json and space.json."""
    model, (example,) = project.fresh_model()
    inputs = (example.expand(2, *example.shape[1:]),)  # two images: no axis but the channels' can be 1
    graph = trace(model, inputs)
    space = derive_space(graph, project.config.space)
    with progress.bar("prove", total=1) as step:
        prove(Supernet(model, graph, space), inputs, seed=project.config.seed)
        step()
    for line in describe(graph, space):
        progress.say(line)
    write_json(project.folder.path("graph.json"), graph)
    write_json(project.folder.path("space.json"), space)
    large, small = (costs(graph, space, config) for config in (space.largest, space.smallest))
    return Made(
        paths=("graph.json", "space.json"),
        line=f"{len(space.choices)} choices, 10^{log10(space.size):.1f} subnets of {large.macs / 1e6:.1f} to "
        f"{small.macs / 1e6:.1f} MMACs, {large.parameters / 1e6:.2f} to {small.parameters / 1e6:.2f} M parameters "
        f"→ {project.folder.path('space.json')}",
    )


def describe(graph: ChannelGraph, space: SearchSpace) -> list[str]:
    """What is elastic, what is frozen and why, for a person."""
    lines = []
    for choice in space.choices:
        values = " ".join(map(str, choice.values))
        what = f"of {', '.join(choice.targets)}" if choice.dim == "depth" else "channels"
        lines.append(f"  {choice.name:<32} {values}  {what}")
    reasons = Counter(reason for group in graph.groups for reason in group.why)
    for reason, count in reasons.most_common():
        names = [group.name for group in graph.groups if reason in group.why]
        lines.append(f"  frozen: {', '.join(names[:4])}{' …' if len(names) > 4 else ''} — {reason} ({count})")
    return lines
