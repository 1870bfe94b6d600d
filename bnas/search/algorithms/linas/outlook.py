"""What is known, and what is thought, of the values of subnets that are not evaluated yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bnas.search.algorithms.linas.candidates import Candidates
from bnas.search.algorithms.linas.surrogates import Array, Features, Rows, Surrogate
from bnas.search.problem import Problem
from bnas.search.proposals import Expected

_TINY = 1e-12
_ROUNDING = 1e-3  # share of the noise that makes a covariance positive definite
_EVEN = 0.5  # the chance of failing, beyond which a subnet is as one that breaks a constraint


@dataclass(frozen=True, eq=False, kw_only=True)
class Outlook:
    """Cheap values as they are, and surrogates for the others, by name.

    `sized`: names of the values whose surrogates learn from what is cheaply known. `evaluated`: rows of all subnets
    that were proposed. `failure` predicts 1 for what cannot be evaluated and 0 for what can; None where everything
    could.
    """

    candidates: Candidates
    surrogates: Mapping[str, Surrogate]
    sized: Collection[str]
    evaluated: Rows
    failure: Surrogate | None = None

    @property
    def problem(self) -> Problem:
        return self.candidates.problem

    @property
    def axis(self) -> int:
        """The place of the first objective that needs a surrogate; 0 where none does."""
        return next((i for i, goal in enumerate(self.problem.objectives) if goal.name in self.surrogates), 0)

    def hopeful(self, rows: Rows, errors: float) -> tuple[Array, Array]:
        """Costs [m, M] and broken constraints [m], were every value so many standard errors better than expected."""
        low, high = {}, {}
        for name, (value, error) in self._predict(rows).items():
            low[name], high[name] = value - errors * error, value + errors * error
        better = {
            goal.name: (low if goal.direction == "min" else high)[goal.name]
            for goal in self.problem.objectives
            if goal.name in low
        }
        failing = np.maximum(self._failing(rows) - _EVEN, 0.0)
        return self._costs(rows, better), self._broken(rows, low, high) + failing

    def marginals(self, rows: Rows, quantiles: Array) -> tuple[Array, Array]:
        """Costs [S, m, M] at standard normal quantiles [S], the same for all values.

        And the chances [S, m] that a subnet can be evaluated and keeps the constraints.
        """
        told = self._predict(rows)
        return self._drawn(
            rows, {name: value + quantiles[:, None] * error for name, (value, error) in told.items()}
        )

    def samples(self, rows: Rows, normal: Array) -> tuple[Array, Array, dict[str, Array]]:
        """As `marginals`, of values drawn together by standard normal numbers [targets, S, m].

        The third are the covariances [m, m] of the values that need a surrogate.
        """
        features = self.candidates.features(rows)
        drawn, covariances = {}, {}
        for (name, own), numbers in zip(self.surrogates.items(), normal, strict=True):
            value, covariance = own.joint(self._of(name, features))
            rounded = covariance + _ROUNDING * own.noise**2 * np.eye(len(rows))
            drawn[name] = value + numbers @ np.linalg.cholesky(rounded).T
            covariances[name] = covariance
        return (*self._drawn(rows, drawn), covariances)

    def expected(self, rows: Sequence[int]) -> tuple[Mapping[str, Expected], ...]:
        """What the objectives of each subnet are expected to be, as far as they need a surrogate; empty: none does."""
        goals = {goal.name for goal in self.problem.objectives} & self.surrogates.keys()
        if not goals or not rows:
            return ()
        told = {name: own for name, own in self._predict(np.array(rows), noisy=True).items() if name in goals}
        return tuple(
            {name: Expected(float(value[i]), float(error[i])) for name, (value, error) in told.items()}
            for i in range(len(rows))
        )

    def _predict(self, rows: Rows, *, noisy: bool = False) -> dict[str, tuple[Array, Array]]:
        if not self.surrogates:
            return {}
        features = self.candidates.features(rows)
        return {
            name: own.predict(self._of(name, features), noisy=noisy) for name, own in self.surrogates.items()
        }

    def _of(self, name: str, features: Features) -> Features:
        return features if name in self.sized else features.without_known()

    def _drawn(self, rows: Rows, drawn: Mapping[str, Array]) -> tuple[Array, Array]:
        costs, kept = self._costs(rows, drawn), self._broken(rows, drawn, drawn) == 0
        shape = np.broadcast_shapes(costs.shape[:-1], kept.shape, (1, len(rows)))
        possible = np.broadcast_to(kept, shape) * (1 - self._failing(rows))
        return np.broadcast_to(costs, (*shape, costs.shape[-1])), possible

    def _costs(self, rows: Rows, thought: Mapping[str, Array]) -> Array:
        """[…, m, M] costs from values [… , m]; the cheap ones are added."""
        values = [
            goal.cost(1.0) * (thought[goal.name] if goal.name in thought else self._cheap(goal.name, rows))
            for goal in self.problem.objectives
        ]
        return np.stack(np.broadcast_arrays(*values), axis=-1)

    def _broken(self, rows: Rows, low: Mapping[str, Array], high: Mapping[str, Array]) -> Array:
        """[…, m] the sum of all violations, as `constraints.violation`, of the better of two bounds of each value."""
        broken = self.candidates.broken(rows)
        for own in self.problem.constraints:
            if own.name in low and own.name not in self.candidates.encoding.names:
                over = low[own.name] - own.limit if own.bound == "<=" else own.limit - high[own.name]
                broken = broken + np.maximum(over, 0.0) / max(abs(own.limit), _TINY)
        return broken

    def _failing(self, rows: Rows) -> Array:
        """[m] the chance that a subnet cannot be evaluated; never quite 1, as nobody knows."""
        if self.failure is None:
            return np.zeros(len(rows))
        value, _ = self.failure.predict(self.candidates.features(rows).without_known())
        return np.clip(value, 0.0, 0.99)

    def _cheap(self, name: str, rows: Rows) -> Array:
        return self.candidates.cheap(rows)[:, self.candidates.encoding.names.index(name)]
