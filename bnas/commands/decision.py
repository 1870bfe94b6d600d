"""Deciding by measuring: the front's members are measured as they would be deployed, and three of them are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnas.commands.evaluation import Evaluation
from bnas.commands.members import REFERENCE, Member, measured_members
from bnas.commands.objectives import ANYWHERE, Foreknown, base_of
from bnas.commands.project import Project
from bnas.report import Verified, choice_notes, choose
from bnas.search import Candidate, Constraint, ParetoFront
from bnas.search.constraints import violation
from bnas.space import SubnetConfig, costs
from bnas.train.task import TASKS


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`search/<hw>/front.json`: what the search found, and what was chosen by measuring it.

    The metric is on the validation images. `members` are those of the front that were measured; `chosen`
    maps A, B and C to configs; `notes` say what is unusual about the choice.
    """

    front: ParetoFront
    reference: Verified
    members: tuple[Verified, ...]
    chosen: dict[str, SubnetConfig]
    notes: tuple[str, ...]


def decide(project: Project, evaluation: Evaluation, front: ParetoFront, foreknown: Foreknown) -> Decision:
    """Measure up to `front_size` members of the front beside the original network, and choose among them.

    Chosen are members that keep the search's constraints as measured, where there are such.
    """
    config, task = project.config, TASKS[project.config.train.task]
    metric = task.metric_name
    searched = {own.config.digest: own for own in spread(front.members, config.front_size)}
    names = tuple(
        dict.fromkeys(
            (metric, *(goal.name for goal in front.objectives), *(c.name for c in front.constraints))
        )
    )
    found, notes = measured_members(
        project, evaluation, {name: own.config for name, own in searched.items()}, names, foreknown
    )
    verified = {}
    for name, member in found.items():
        predicted = foreknown(member.config or project.original_config, speed=member.speed)
        if name in searched:
            predicted[metric] = searched[name].values[metric]
        verified[name] = _verified(project, member, metric, predicted, names)
    reference = verified.pop(REFERENCE)
    members = tuple(verified.values())
    goal = (reference.metric_fp32_percent, config.loss_points - config.loss_margin_points)
    kept, broken = keeping(front.constraints, members, [own.values for own in searched.values()])
    chosen = choose(kept, *goal)
    return Decision(
        front=front,
        reference=reference,
        members=members,
        chosen={name: own.config for name, own in chosen.items()},
        notes=(*choice_notes(chosen, *goal, metric_label=task.label), *broken, *notes),
    )


def spread(members: Sequence[Candidate], count: int) -> tuple[Candidate, ...]:
    """`count` members at equal steps along the front, its two ends among them."""
    if len(members) <= count:
        return tuple(members)
    return tuple(members[round(i * (len(members) - 1) / (count - 1))] for i in range(count))


def keeping(
    constraints: Sequence[Constraint], members: Sequence[Verified], searched: Sequence[Mapping[str, float]]
) -> tuple[tuple[Verified, ...], tuple[str, ...]]:
    """The members that keep the constraints as measured, all where none does; and what there is to say about that.

    `searched`: of each member the values that it was found by, which count where nothing was measured.
    """
    values = [{**before, **own.measured} for own, before in zip(members, searched, strict=True)]
    kept = tuple(
        own for own, known in zip(members, values, strict=True) if violation(constraints, known) == 0
    )
    if len(kept) == len(members):
        return kept, ()
    bounds = " and ".join(map(str, constraints))
    if not kept:
        return tuple(members), (
            f"As measured, no member of the front has {bounds}; the choice is among all of them.",
        )
    out = len(members) - len(kept)
    were = "1 member of the front was" if out == 1 else f"{out} members of the front were"
    return kept, (f"{were} not chosen from: as measured, without {bounds}.",)


def off(members: Sequence[Verified], metric: str) -> tuple[str, ...]:
    """How far what the search went by is from what was measured, a sentence about each value."""
    told = []
    for name in dict.fromkeys(name for own in members for name in own.measured):
        pairs = np.array([(own.predicted[name], own.measured[name]) for own in members if _both(own, name)])
        if not len(pairs) or base_of(name) in ANYWHERE:
            continue
        predicted, measured = pairs.T
        if name == metric:
            points = np.abs(predicted - measured)
            told.append(
                f"{name} of the INT8 network differs from what the search saw by {points.mean():.2f} points on average "
                f"over {len(pairs)} members of the front, {points.max():.2f} at most."
            )
        else:
            percent = 100 * np.abs(predicted / measured - 1)
            told.append(
                f"Predictions of {name} were off by {percent.mean():.1f} % on average over {len(pairs)} members of the "
                f"front, by {percent.max():.1f} % at most."
            )
    return tuple(told)


def _both(own: Verified, name: str) -> bool:
    return name in own.predicted and own.measured.get(name, 0.0) > 0


def _verified(
    project: Project, member: Member, metric: str, predicted: Mapping[str, float], names: Sequence[str]
) -> Verified:
    """`names`: of the values that are kept as predicted and as measured."""
    config = member.config or project.original_config
    total = costs(project.graph, project.space, config)
    return Verified(
        config=config,
        metric_fp32_percent=member.fp32_percent,
        metric_int8_percent=member.int8_percent,
        latency_ms=member.timing.time_ms,
        latency_p10_ms=member.timing.p10_ms,
        latency_p90_ms=member.timing.p90_ms,
        predicted_latency_ms=predicted["latency_ms"],
        macs=total.macs,
        parameters=total.parameters,
        predicted={name: predicted[name] for name in names if name in predicted},
        measured={metric: member.int8_percent, **member.measured},
    )
