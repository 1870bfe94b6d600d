"""The course of an algorithm: from generation to generation, past what is known already."""

from __future__ import annotations

from bnas.search.config import SearchConfig
from bnas.search.evaluations import Evaluations
from bnas.search.proposals import Algorithm, Generation
from bnas.space import SubnetConfig

IDLE_GENERATIONS = 100  # without a single new subnet: the algorithm has nothing more to propose


class Course:
    """Asks an algorithm for generations and sends back what has become known of them.

    Raises:
        ConfigError, MissingPackageError: what the algorithm refuses, before anything is evaluated.
    """

    def __init__(self, algorithm: Algorithm, config: SearchConfig, done: Evaluations, *, seed: int) -> None:
        self._done = done
        self._proposals = algorithm(done.problem, config, seed)
        self._generation: Generation | None = next(self._proposals, None)
        self._open: Generation | None = None  # begun, not judged

    def wanted(self) -> tuple[SubnetConfig, ...]:
        """The subnets of the present generation that are not known yet; the next one's where all are.

        Empty: the algorithm has nothing more to propose.
        """
        for _ in range(IDLE_GENERATIONS + 1):
            if self._generation is None or not self._generation.subnets:
                return ()
            subnets = dict.fromkeys(self._generation.subnets)
            if new := tuple(subnet for subnet in subnets if subnet not in self._done.known):
                self._open = self._generation
                return new
            self._advance(self._generation)
        return ()

    def end(self) -> None:
        """Judge a generation that was begun, of which perhaps only a part has been evaluated."""
        if self._open is not None:
            self._done.judge(self._open)
        self._open = None

    def _advance(self, generation: Generation) -> None:
        self._done.judge(generation)
        self._open = None
        try:
            self._generation = self._proposals.send(tuple(map(self._done.values, generation.subnets)))
        except StopIteration:
            self._generation = None
