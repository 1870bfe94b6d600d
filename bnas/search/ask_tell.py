"""Ask and tell: a search whose evaluations are made elsewhere, at any time, in any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bnas.search.algorithms.table import SEARCHES
from bnas.search.config import SearchConfig
from bnas.search.course import Course
from bnas.search.evaluations import Evaluations
from bnas.search.front import Candidate, Failed, ParetoFront
from bnas.search.objectives import Objective
from bnas.search.pool import Failure, Job
from bnas.search.problem import Cheap
from bnas.search.search import pose
from bnas.space import SearchSpace, SubnetConfig


class AskTell:
    """A search that asks and is told.

    `ask` gives what the algorithm wants evaluated, `tell` takes the values of any subnet of the space, whoever wanted
    it: a foreign optimizer may tell without ever asking. `front` is what has come of it so far.

    `config.evaluations`, `screen` and `workers` do not count here: whoever evaluates decides when to stop.

    Args:
        cheap, canonical, start: as for `search`.

    Raises:
        ConfigError: as `search`.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        config: SearchConfig | None = None,
        *,
        seed: int,
        cheap: Cheap | None = None,
        canonical: Callable[[SubnetConfig], SubnetConfig] | None = None,
        start: Sequence[SubnetConfig] | None = None,
    ) -> None:
        config = config or SearchConfig()
        self._problem = pose(
            space, objectives, config, seed=seed, cheap=cheap, canonical=canonical, start=start
        )
        self._done = Evaluations(self._problem)
        self._course = Course(SEARCHES[config.algorithm], config, self._done, seed=seed)

    def ask(self) -> tuple[SubnetConfig, ...]:
        """What should be evaluated next: the largest and the smallest subnet, then generation by generation.

        The same as before, less what was told meanwhile, until all of it is told; then the next generation, without
        what is known already. Empty: the algorithm has nothing more to propose, as when the space is exhausted.
        """
        ends = tuple(end for end in self._done.ends if end not in self._done.known)
        return ends or self._course.wanted()

    def tell(self, config: SubnetConfig, values: Mapping[str, float] | None) -> None:
        """Take the values of a subnet: every objective, and whatever else is worth keeping.

        A value that is not finite, or None for all of them, says that it failed. The first word counts: what is told of
        a subnet that is known already is ignored, as foreign optimizers repeat themselves.

        Raises:
            SpaceError: the config does not belong to the space.
            MeasureError: an objective is missing.
        """
        self._problem.space.validate(config)
        job = Job(self._problem.canonical(config))
        if job.config in self._done.known:
            return
        outcome = Failure("it was told to have failed") if values is None else values
        self._done.take(job, self._done.checked(job, outcome))
        self._done.count(job.config)

    def told(self, config: SubnetConfig) -> Candidate | Failed | None:
        """What was told of a subnet, or of another config that is the same network; None: nothing."""
        return self._done.known.get(self._problem.canonical(config))

    @property
    def front(self) -> ParetoFront:
        """The Pareto front among what was told so far.

        Raises:
            SpaceError: the largest and the smallest subnet, which span the box of the hypervolume, were not told yet;
                or nothing that was told keeps the constraints.
            MeasureError: one of these two failed.
        """
        return self._done.front()
