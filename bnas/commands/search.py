"""`bnas search`: search on predictions, then decide by measuring the front on this machine."""

from __future__ import annotations

from contextlib import nullcontext

from bnas import progress
from bnas import search as searching
from bnas.commands.decision import decide, off
from bnas.commands.evaluation import Evaluation, Workers
from bnas.commands.objectives import Foreknown, objectives_of
from bnas.commands.project import Made, Project
from bnas.files import write_json
from bnas.plain import digest
from bnas.space import canonical
from bnas.train import TASKS


def search(project: Project) -> Made:
    """Search, verify the front, choose A, B and C."""
    config, folder = project.config, project.folder
    place = ("search", project.hw_folder)
    foreknown, evaluation = Foreknown(project), Evaluation(project)
    for note in foreknown.notes():
        progress.say(f"search: {note}")
    with Workers(project) if config.search.workers else nullcontext(evaluation) as evaluating:
        front = searching.search(
            project.space,
            objectives_of(config.search),
            evaluating,
            config.search,
            seed=config.seed,
            cheap=foreknown,
            canonical=canonical(project.graph, project.space),
            log=folder.path(*place, "evaluations.jsonl"),
            evaluator=digest({"train": folder.require("train").inputs, "values": foreknown.digest}),
            predicted=foreknown.predicted,
        )
    decision = decide(project, evaluation, front, foreknown)
    path = folder.path(*place, "front.json")
    write_json(path, decision)
    for line in off(decision.members, TASKS[config.train.task].metric_name):
        progress.say(f"search: {line}")
    for note in decision.notes:
        progress.say(f"note: {note}")
    return Made(
        paths=("/".join((*place, "front.json")), "/".join((*place, "evaluations.jsonl"))),
        line=f"{len(front.evaluations)} subnets evaluated, {len(front.members)} on the front, "
        f"{len(decision.members)} of them measured; chose {', '.join(decision.chosen)} → {path}",
    )
