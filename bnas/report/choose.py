"""Three subnets for a person to choose from, out of a measured front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bnas.errors import RunError
from bnas.report.types import Verified


def choose(
    candidates: Sequence[Verified], reference_metric: float, loss_points: float = 1.0
) -> dict[str, Verified]:
    """A: largest accuracy; B: fastest that loses less than `loss_points`; C: smallest latency.

    Accuracy is the metric of the INT8 network, loss is against `reference_metric`, the original's in percent on the
    same images. Where no candidate loses so little, B is the one that loses least. One subnet may get several
    names; `choice_notes` says so. Ties go to the better other value, then to the smaller digest.

    Raises:
        RunError: there are no candidates.
    """
    if not candidates:
        raise RunError("the front has no measured subnets to choose from; run `bnas search` again")
    within = [c for c in candidates if reference_metric - c.metric_int8_percent < loss_points]
    most_accurate = min(candidates, key=_by_accuracy)
    return {
        "A": most_accurate,
        "B": min(within, key=_by_latency) if within else most_accurate,
        "C": min(candidates, key=_by_latency),
    }


def choice_notes(
    chosen: Mapping[str, Verified],
    reference_metric: float,
    loss_points: float = 1.0,
    *,
    metric_label: str = "top-1",
) -> tuple[str, ...]:
    """What a reader has to know about the choice: B loses too much, names that mean the same subnet."""
    notes = []
    loss = reference_metric - chosen["B"].metric_int8_percent
    if loss >= loss_points:
        notes.append(
            f"No subnet of the front loses less than {loss_points:g} point{'s' * (loss_points != 1)} of"
            f" {metric_label} on the validation images; B is the one that loses least, {loss:.2f} points."
        )
    named: dict[str, list[str]] = {}
    for name, verified in chosen.items():
        named.setdefault(verified.config.digest, []).append(name)
    for names in named.values():
        if len(names) > 1:
            notes.append(f"{', '.join(names[:-1])} and {names[-1]} are the same subnet.")
    return tuple(notes)


def _by_accuracy(candidate: Verified) -> tuple[float, float, str]:
    return (-candidate.metric_int8_percent, candidate.latency_ms, candidate.config.digest)


def _by_latency(candidate: Verified) -> tuple[float, float, str]:
    return (candidate.latency_ms, -candidate.metric_int8_percent, candidate.config.digest)
