"""What a reader can explore on the page: every subnet with its choices and values, as data for explore.js."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bnas.report.choices import label_of, ordered_stages, shares_of, stages_of, value_words, without_effect
from bnas.report.importance import ranked
from bnas.report.types import EvaluationPoint, FrontPoint, Report, SubnetReport
from bnas.report.words import first_word, headliner, quantity_name

AXES = 12  # choices that parallel coordinates show, at most
LINES = 1500  # subnets that they show, at most

Shown = dict[str, Any]


@dataclass(frozen=True)
class Explored:
    """The subnets of a report by number: first the evaluations, then members of the front that are not among these,
    last the original network."""

    report: Report

    @cached_property
    def subnets(self) -> tuple[Shown, ...]:
        """What is known of each, by short names: see explore.js."""
        report = self.report
        chosen = {subnet.name: subnet for subnet in report.subnets}
        front = {point.config_digest: point for point in report.front}
        shown = [
            _evaluated(point) | _measured(front.get(point.config_digest)) for point in report.evaluations
        ]
        known = {point.config_digest for point in report.evaluations}
        shown += [
            _foretold(point) | _measured(point) for point in report.front if point.config_digest not in known
        ]
        for own in shown:
            self._complete(own, chosen)
        return (*shown, self._original())

    @property
    def original(self) -> int:
        """The number of the original network."""
        return len(self.subnets) - 1

    @cached_property
    def number(self) -> Mapping[str, int]:
        """The number of the subnet with a digest."""
        return {own["digest"]: place for place, own in enumerate(self.subnets) if own["digest"]}

    def data(self) -> dict[str, Any]:
        """All of it, for the page."""
        choices, stages = self.report.choices, ordered_stages(self.report.choices)
        order = (
            ranked(self.report.importance, choices)[:AXES]
            if len(choices) > AXES
            else [c.name for c in choices]
        )
        first = headliner(self.report)
        chosen = (place for place, own in enumerate(self.subnets) if first and first.name in own["names"])
        return {
            "subnets": self.subnets,
            "original": self.original,
            "stages": stages,
            "choices": [
                {
                    "name": choice.name,
                    "label": label_of(choice, stage),
                    "stage": stages.index(stage),
                    "dim": choice.dim,
                    "values": value_words(choice),
                    "numbers": choice.values,
                    "shares": shares_of(choice),
                }
                for choice, stage in zip(choices, stages_of(choices), strict=True)
            ],
            "gone": without_effect(choices),
            "axes": [place for place, choice in enumerate(choices) if choice.name in order],
            "lines": LINES,
            "pinned": next(chosen, self.original),
            "metric": self.report.metric_label,
            "metric_first": first_word(self.report.metric_label),
            "names": {name: quantity_name(name) for own in self.subnets for name in own["values"]},
        }

    def _complete(self, own: Shown, chosen: Mapping[str, SubnetReport]) -> None:
        """What a chosen subnet's own row knows, where the search did not say."""
        for subnet in (chosen[name] for name in own["names"] if name in chosen):
            own["macs"] = own["macs"] or subnet.macs
            if not own["indices"]:
                own["indices"] = self._indices(subnet)

    def _original(self) -> Shown:
        report = self.report
        own = report.reference
        return {
            "digest": "",
            "indices": self._indices(own),
            "metric": report.reference_val_fp32_percent,
            "int8": report.reference_val_int8_percent,
            "latency": own.predicted_latency_ms,
            "low": None,
            "high": None,
            "measured": own.latency_ms,
            "p10": own.latency_p10_ms,
            "p90": own.latency_p90_ms,
            "macs": own.macs,
            "share": 1.0,
            "values": {},
            "names": (),
            "front": False,
        }

    def _indices(self, subnet: SubnetReport) -> tuple[int, ...]:
        """The subnet's indices; empty where it is not of the report's choices."""
        values = [(choice.values, subnet.config.get(choice.name)) for choice in self.report.choices]
        if any(value not in known for known, value in values):
            return ()
        return tuple(known.index(value) for known, value in values if value is not None)


def _evaluated(point: EvaluationPoint) -> Shown:
    return {
        "digest": point.config_digest,
        "indices": point.indices,
        "metric": point.metric_percent,
        "latency": point.latency_ms,
        "low": point.latency_low_ms,
        "high": point.latency_high_ms,
        "macs": point.macs,
        "share": point.share,
        "values": dict(point.values),
    }


def _foretold(point: FrontPoint) -> Shown:
    return {
        "digest": point.config_digest,
        "indices": (),
        "metric": point.metric_percent,
        "latency": point.predicted_latency_ms,
        "low": None,
        "high": None,
        "macs": None,
        "share": 1.0,
        "values": {},
    }


def _measured(point: FrontPoint | None) -> Shown:
    """What is known of a member of the front besides."""
    return {
        "int8": point.metric_int8_percent if point else None,
        "measured": point.latency_ms if point else None,
        "p10": point.latency_p10_ms if point else None,
        "p90": point.latency_p90_ms if point else None,
        "names": point.names if point else (),
        "front": point is not None,
    }
