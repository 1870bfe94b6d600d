"""What every search algorithm has to do, whichever it is (oracle 8, and the contract of `proposals`)."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from statistics import median

import numpy as np
import pytest

from bnas.search import SEARCHES, Generation, Objective, SearchConfig, parse_constraints, search

# Evaluations of 192 subnets after which an algorithm has to have the true front of them: random has none before all.
ENOUGH = {"random": 192, "rnsga2": 192}
# What else these do better than random is tested in their own files: one part of the front, and more than NSGA-II.
ELSEWHERE = {"rnsga2", "linas"}
# What an algorithm may look at (decode) for each subnet that it proposes; one with a search inside looks at more.
LOOKS = {"linas": 10_000}

every_algorithm = pytest.mark.parametrize("algorithm", SEARCHES)


def drive(problem, config, seed, answer, enough=None) -> list[Generation]:
    """What an algorithm proposes when it is answered so, to its end or until that are enough subnets."""
    proposals = SEARCHES[config.algorithm](problem, config, seed)
    found: list[Generation] = []
    try:
        generation = next(proposals)
        while True:
            assert generation.subnets
            assert len(generation.expected) in (0, len(generation.subnets))
            found.append(generation)
            if enough is not None and len(subnets_of(found)) >= enough:
                break
            generation = proposals.send(tuple(answer(subnet) for subnet in generation.subnets))
    except StopIteration:
        pass
    return found


def subnets_of(generations):
    return [subnet for generation in generations for subnet in generation.subnets]


@pytest.fixture
def truth_of(make_truth):
    """Values of any problem's subnets by the formula; of a space without choices, always the same."""

    def make(problem):
        if not problem.space.bounds:
            return lambda subnet: {"top1_percent": 70.0, "latency_ms": 1.0}
        return make_truth(problem.space, 3)

    return make


def true_front(points):
    return {
        config
        for config, own in points.items()
        if not any(
            all(a <= b for a, b in zip(other, own, strict=True)) and other != own for other in points.values()
        )
    }


@every_algorithm
def test_finds_the_true_front_of_an_enumerable_space(
    make_space, make_truth, every_subnet, goals, settings, algorithm
):
    space = make_space(4, 4, 4, 3)  # 192 subnets
    truth = make_truth(space, 1)
    values = {config: truth(config) for config in every_subnet(space)}
    wanted = true_front({config: (-v["top1_percent"], v["latency_ms"]) for config, v in values.items()})
    assert 10 < len(wanted) < 60
    budget = ENOUGH.get(algorithm, 150)
    front = search(space, goals, truth, settings(algorithm, evaluations=budget, population=16), seed=3)
    assert len(front.evaluations) == budget
    assert {member.config for member in front.members} == wanted


@pytest.fixture(scope="module")
def reached():
    """The hypervolume that an algorithm reaches, the median of five seeds, once for each."""
    memory: dict[str, float] = {}

    def reach(algorithm, space, goals, truth):
        if algorithm not in memory:
            config = SearchConfig(algorithm=algorithm, evaluations=100, population=16)
            memory[algorithm] = median(
                search(space, goals, truth, config, seed=seed).hypervolume[-1] for seed in range(5)
            )
        return memory[algorithm]

    return reach


@pytest.mark.parametrize("algorithm", sorted(SEARCHES.keys() - ELSEWHERE - {"random"}))
def test_dominates_more_than_random_at_equal_budget(make_space, make_truth, goals, reached, algorithm):
    space = make_space(*[5] * 10)  # 10 million subnets
    truth = make_truth(space, 7)
    least = reached("random", space, goals, truth)
    assert reached(algorithm, space, goals, truth) > least + 0.01


@every_algorithm
@pytest.mark.parametrize("counts", [(), (1,), (2,), (3,), (1, 2), (2, 2, 3), (3, 4, 5, 1)])
@pytest.mark.parametrize("population", [2, 9])
def test_proposes_nothing_twice_until_the_space_is_exhausted(
    make_problem, truth_of, settings, algorithm, counts, population
):
    problem = make_problem(*counts)
    config = settings(algorithm, population=population)
    generations = drive(problem, config, 5, truth_of(problem))
    assert all(len(generation.subnets) <= population for generation in generations)
    proposed = subnets_of(generations)
    assert len(proposed) == len(set(proposed)) == problem.space.size


@every_algorithm
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_what_fails_does_not_stop_it(make_problem, truth_of, settings, algorithm, kept):
    """None, one in ten or three in ten can be evaluated."""
    problem = make_problem(3, 4, 5, 2)
    truth = truth_of(problem)
    places = {
        problem.decode(indices): place for place, indices in enumerate(np.ndindex(*problem.space.bounds))
    }

    def answer(subnet):
        return truth(subnet) if places[subnet] % 10 < kept else None

    proposed = subnets_of(drive(problem, settings(algorithm, population=8), 5, answer))
    assert len(proposed) == len(set(proposed)) == problem.space.size


@pytest.mark.parametrize("algorithm", sorted(SEARCHES.keys() - {"random"}))
def test_it_turns_away_from_what_fails(make_problem, truth_of, settings, algorithm):
    """Half of a space cannot be evaluated: less than half of what is proposed is there."""
    problem = make_problem(*[4] * 8)
    truth = truth_of(problem)

    def answer(subnet):
        if subnet["layer0.width"] > 16:
            return None
        return truth(subnet)

    proposed = subnets_of(drive(problem, settings(algorithm, population=10), 1, answer, enough=140))
    late = proposed[len(proposed) // 2 :]
    assert sum(answer(subnet) is None for subnet in late) < 0.35 * len(late)


def total(space):
    return lambda config: {"macs": float(sum(space.encode(config)))}


@every_algorithm
def test_what_breaks_a_cheap_constraint_is_never_proposed(make_problem, truth_of, settings, algorithm):
    space = make_problem(3, 4, 5, 2).space
    problem = make_problem(3, 4, 5, 2, cheap=total(space), constraints=parse_constraints({"macs": "<= 6"}))
    allowed = {problem.decode(indices) for indices in np.ndindex(*problem.space.bounds) if sum(indices) <= 6}
    assert 0 < len(allowed) < problem.space.size
    proposed = subnets_of(drive(problem, settings(algorithm, population=8), 0, truth_of(problem)))
    assert len(proposed) == len(set(proposed))
    assert set(proposed) == allowed


@every_algorithm
def test_it_searches_where_evaluated_constraints_are_kept(make_problem, truth_of, settings, algorithm):
    problem = make_problem(*[4] * 8, constraints=parse_constraints({"top1_percent": ">= 77", "heat": "<= 9"}))
    truth = truth_of(problem)

    def answer(subnet):
        return {**truth(subnet), "heat": float(sum(problem.space.encode(subnet)))}

    def kept(subnets):
        return sum(problem.violation(answer(subnet)) == 0 for subnet in subnets) / len(subnets)

    rng = np.random.default_rng(0)
    by_chance = kept([problem.space.sample(rng) for _ in range(2000)])
    assert 0.01 < by_chance < 0.2
    proposed = subnets_of(drive(problem, settings(algorithm, population=10), 1, answer, enough=120))
    late = kept(proposed[len(proposed) // 2 :])
    assert late > 2 * by_chance or algorithm == "random"


@every_algorithm
@pytest.mark.parametrize("objectives", [3, 4])
def test_more_objectives(make_space, make_truth, goals, settings, algorithm, objectives):
    space = make_space(4, 4, 4, 4)
    truth = make_truth(space, 2)
    more = (Objective(name="width", direction="min"), Objective(name="first", direction="max"))

    def evaluate(config):
        return {**truth(config), "width": sum(config.values.values()) * 1e9, "first": config["layer0.width"]}

    config = settings(algorithm, evaluations=60, population=10)
    own = (*goals, *more)[:objectives]
    if config.preference:
        point = {"top1_percent": 78.0, "latency_ms": 3.0, "width": 7e10, "first": 24.0}
        config = settings(
            algorithm,
            evaluations=60,
            population=10,
            preference={goal.name: point[goal.name] for goal in own},
        )
    front = search(space, own, evaluate, config, seed=0)
    assert len(front.hypervolume) == len({c.config for c in front.evaluations}) == 60
    assert list(front.hypervolume) == sorted(front.hypervolume)
    assert front.hypervolume[-1] > 0


@every_algorithm
@pytest.mark.parametrize("failing", ["048c", "0123456789abcdef"])  # a quarter of all, and all
def test_equal_answers_give_equal_proposals(make_problem, truth_of, settings, algorithm, failing):
    problem = make_problem(*[4] * 6)
    truth, config = truth_of(problem), settings(algorithm, population=8)

    def answer(subnet):
        np.random.random(3)  # the global state is no business of a search
        return None if subnet.digest[0] in failing else truth(subnet)

    np.random.seed(1)
    one = drive(problem, config, 4, answer, enough=50)
    np.random.seed(2)
    assert drive(make_problem(*[4] * 6), config, 4, answer, enough=50) == one
    assert subnets_of(drive(problem, config, 5, answer, enough=50)) != subnets_of(one)


@every_algorithm
def test_answers_matter(make_problem, truth_of, settings, algorithm):
    """Turn the objectives round and the proposals differ."""
    problem = make_problem(*[4] * 6)
    truth, config = truth_of(problem), settings(algorithm, population=8)

    def turned(subnet):
        return {name: -value for name, value in truth(subnet).items()}

    one, two = (subnets_of(drive(problem, config, 4, answer, enough=50)) for answer in (truth, turned))
    assert (one == two) == (algorithm == "random")


@every_algorithm
def test_configs_that_are_one_network_are_proposed_as_one(make_problem, truth_of, settings, algorithm):
    """The second choice counts only where the first is not the least, as the width of a block that may be skipped."""
    space = make_problem(3, 4, 3).space

    def canonical(config):
        first, second, third = space.encode(config)
        return space.decode((first, second if first else 0, third))

    problem = make_problem(3, 4, 3, canonical=canonical)
    proposed = subnets_of(drive(problem, settings(algorithm, population=6), 0, truth_of(problem)))
    assert all(canonical(subnet) == subnet for subnet in proposed)
    assert Counter(proposed) == dict.fromkeys(proposed, 1)
    assert len(proposed) == 3 + 2 * 4 * 3


@every_algorithm
def test_canonical_duplicates_are_evaluated_once(make_space, make_truth, goals, counted, settings, algorithm):
    space = make_space(3, 4, 3)

    def canonical(config):
        first, second, third = space.encode(config)
        return space.decode((first, second if first else 0, third))

    evaluate = counted(make_truth(space, 0))
    config = settings(algorithm, evaluations=500, population=6)
    search(space, goals, evaluate, config, seed=0, canonical=canonical)
    assert len(evaluate.asked) == len(set(map(canonical, evaluate.asked))) == 27


@every_algorithm
def test_its_own_work_is_little(make_problem, truth_of, settings, algorithm):
    """In subnets looked at for each that is proposed, as a count does not depend on the machine."""
    looked = Counter()

    def canonical(config):
        looked["at"] += 1
        return config

    problem = make_problem(*[5] * 20, canonical=canonical)
    truth = truth_of(problem)
    generations = drive(problem, settings(algorithm, population=16), 0, truth, enough=80)
    assert looked["at"] <= LOOKS.get(algorithm, 50) * len(subnets_of(generations))


@every_algorithm
def test_it_begins_with_the_start(make_problem, settings, algorithm):
    problem = make_problem(*[4] * 6)
    own = tuple(problem.decode([i] * 6) for i in (1, 2))
    problem = make_problem(*[4] * 6, start=own)
    (first,) = islice(SEARCHES[algorithm](problem, settings(algorithm, population=5), 0), 1)
    assert first.subnets[:2] == own
    assert len(first.subnets) == 5
