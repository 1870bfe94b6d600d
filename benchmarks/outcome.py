"""The last line of every benchmark: what was measured where, and which bars hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bnas.measure import HwConfig, detect
from bnas.plain import to_plain


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A goal for one figure: at least, or at most."""

    value: float
    goal: str  # as ">= 2"

    @property
    def holds(self) -> bool:
        comparison, _, bound = self.goal.partition(" ")
        return self.value >= float(bound) if comparison == ">=" else self.value <= float(bound)


def print_outcome(name: str, figures: Mapping[str, Any], bars: Mapping[str, Bar]) -> None:
    """Print each bar readably, then everything as one line of JSON."""
    for bar_name, bar in bars.items():
        print(f"{'holds ' if bar.holds else 'MISSED'}  {bar_name}: {bar.value:.3g}, goal {bar.goal}")
    print(
        json.dumps(
            {
                "name": name,
                "machine": to_plain(detect(HwConfig())),
                "figures": to_plain(figures),
                "bars": {
                    bar_name: {"value": bar.value, "goal": bar.goal, "holds": bar.holds}
                    for bar_name, bar in bars.items()
                },
            }
        )
    )
