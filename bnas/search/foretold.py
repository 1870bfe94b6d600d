"""How well an algorithm foretells: its predictions held against what was then evaluated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bnas import progress
from bnas.rank import kendall_tau
from bnas.search.front import Round
from bnas.search.objectives import Objective
from bnas.search.proposals import Generation, Values


class Foretold:
    """Every subnet is foretold before it is evaluated, by predictors that had not seen it."""

    def __init__(self, objectives: Sequence[Objective]) -> None:
        self._names = [goal.name for goal in objectives]
        self._pairs: dict[str, list[tuple[float, float]]] = {}
        self.rounds: list[Round] = []

    def add(self, generation: Generation, values: Sequence[Values | None], evaluations: int) -> None:
        """Take a generation that was foretold into account, and say how good that was."""
        if not generation.expected:
            return
        for expected, found in zip(generation.expected, values, strict=True):
            for name in self._names:
                if found is not None and name in expected:
                    self._pairs.setdefault(name, []).append((expected[name].value, found[name]))
        if not self._pairs:  # nothing that was foretold has been evaluated yet
            return
        pairs = {name: np.array(own) for name, own in self._pairs.items()}
        self.rounds.append(
            Round(
                evaluations=evaluations,
                kendall_tau={name: kendall_tau(own[:, 0], own[:, 1]) for name, own in pairs.items()},
                mean_error={name: float(np.abs(own[:, 0] - own[:, 1]).mean()) for name, own in pairs.items()},
            )
        )
        told = _words(self.rounds[-1])
        progress.say(f"search: {evaluations} evaluated; foretold: {told}")


def _words(own: Round) -> str:
    return ", ".join(
        f"{name} tau {tau:.2f}, off by {own.mean_error[name]:.3g}" for name, tau in own.kendall_tau.items()
    )
