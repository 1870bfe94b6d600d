"""How to search: every option of a search, whichever algorithm."""

from __future__ import annotations

from dataclasses import dataclass, field

from bnas.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How to search.

    `algorithm` is a name in `SEARCHES`. `evaluations`: how many different subnets are truly evaluated; a search may be
    continued by raising it. `population`: subnets per generation.
    `objectives`: two or more names of `OBJECTIVES`; of metrics that of the run's task (detection: `map_percent`);
    `name@hw` is on other hardware than the run's.
    `constraints` bound any value by name: `{latency_ms: "<= 5", top1_percent: ">= 90, <= 93"}`.
    `preference`: a point of interest, a value for each objective, near which `rnsga2` searches.
    `start`: what the first generation holds besides random subnets: `largest`, `smallest`, `spread` (equal steps of
    MACs) or paths of JSON files with configs (a front.json of another search, as one for MACs alone).
    `screen`: subnets are evaluated on this share of the images first, and on all of them where they may belong to the
    front, by two standard errors; 1 evaluates all on all.
    `workers`: processes that evaluate; with `ray.address` they may be on other machines. 0: this process alone.
    `crossover_eta`, `mutation_eta`: how near children stay to their parents (simulated binary crossover, Deb and
    Agrawal 1995; polynomial mutation, Deb and Goyal 1996). `mutation_probability`: per choice; 0 stands for
    1 / number of choices.
    """

    algorithm: str = "linas"
    evaluations: int = 200
    population: int = 20
    objectives: tuple[str, ...] = ("top1_percent", "latency_ms")
    constraints: dict[str, str] = field(default_factory=dict, hash=False)
    preference: dict[str, float] = field(default_factory=dict, hash=False)
    start: tuple[str, ...] = ("largest", "smallest")
    screen: float = 1.0
    workers: int = 0
    crossover_probability: float = 0.9
    crossover_eta: float = 3.0
    mutation_probability: float = 0.0
    mutation_eta: float = 3.0

    def __post_init__(self) -> None:
        for name in ("evaluations", "population"):
            if getattr(self, name) < 2:
                raise ConfigError(f"{name}: expected 2 or more, got {getattr(self, name)}")
        for name in ("crossover_probability", "mutation_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        for name in ("crossover_eta", "mutation_eta"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name}: expected more than 0, got {getattr(self, name)}")
        if not 0 < self.screen <= 1:
            raise ConfigError(f"screen: expected more than 0 and 1 at most, got {self.screen:g}")
        if self.workers < 0:
            raise ConfigError(f"workers: expected 0 (this process alone) or more, got {self.workers}")
