from __future__ import annotations

import math

import numpy as np
import pytest

from bnas.errors import ConfigError, MeasureError, SpaceError
from bnas.search import SEARCHES, AskTell, Candidate, Failed, SearchConfig, search


@pytest.fixture
def space(make_space):
    return make_space(4, 3, 4, 3)


@pytest.fixture
def truth(space, make_truth):
    return make_truth(space, 5)


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_asked_and_told_it_is_the_search(space, truth, goals, settings, algorithm):
    config = settings(algorithm, evaluations=40, population=8)
    asked = AskTell(space, goals, config, seed=2)
    told = 0
    while told < 40:
        for subnet in asked.ask():
            if told < 40:
                asked.tell(subnet, truth(subnet))
                told += 1
    front = search(space, goals, truth, config, seed=2)
    assert asked.front.evaluations == front.evaluations
    assert asked.front.members == front.members
    assert asked.front.hypervolume == front.hypervolume
    assert asked.front.hypervolume_box == front.hypervolume_box


def test_the_ends_are_asked_for_first_then_generations(space, truth, goals):
    search = AskTell(space, goals, SearchConfig(population=8), seed=0)
    assert search.ask() == (space.largest, space.smallest)
    search.tell(space.largest, truth(space.largest))
    assert search.ask() == (space.smallest,)
    search.tell(space.smallest, truth(space.smallest))
    first = search.ask()
    assert len(first) == 6  # the ends are the other two of the generation
    assert search.ask() == first
    for place, subnet in enumerate(reversed(first)):  # in any order
        search.tell(subnet, truth(subnet))
        if place < 5:
            assert search.ask() == first[: 5 - place]
    second = search.ask()
    assert len(second) > 0
    assert not set(second) & set(first)


def test_a_foreign_optimizer_may_tell_without_asking(space, truth, goals, every_subnet):
    search = AskTell(space, goals, seed=0)
    everything = [*every_subnet(space)]
    for i in np.random.default_rng(0).permutation(len(everything)):
        search.tell(everything[i], truth(everything[i]))
    points = {config: truth(config) for config in everything}
    wanted = {
        config
        for config, own in points.items()
        if not any(
            other["top1_percent"] >= own["top1_percent"]
            and other["latency_ms"] <= own["latency_ms"]
            and other != own
            for other in points.values()
        )
    }
    front = search.front
    assert {member.config for member in front.members} == wanted
    assert len(front.hypervolume) == len(front.evaluations) == space.size
    assert list(front.hypervolume) == sorted(front.hypervolume)
    assert search.ask() == ()


def test_what_a_foreigner_told_is_not_asked_for(space, truth, goals):
    config = SearchConfig(population=8, start=("largest", "smallest", "spread"))
    alone = AskTell(space, goals, config, seed=0)
    helped = AskTell(space, goals, config, seed=0)
    for end in (space.largest, space.smallest):
        alone.tell(end, truth(end))
        helped.tell(end, truth(end))
    first = alone.ask()
    helped.tell(first[2], truth(first[2]))
    assert helped.ask() == (*first[:2], *first[3:])
    for subnet in first:
        alone.tell(subnet, truth(subnet))
        helped.tell(subnet, truth(subnet))
    assert helped.ask() == alone.ask()


def test_the_first_word_counts(space, truth, goals):
    search = AskTell(space, goals, seed=0)
    assert search.told(space.largest) is None
    search.tell(space.largest, {"top1_percent": 90.0, "latency_ms": 2.0})
    search.tell(space.largest, {"top1_percent": 10.0, "latency_ms": 9.0})
    known = search.told(space.largest)
    assert isinstance(known, Candidate)
    assert known.values == {"top1_percent": 90.0, "latency_ms": 2.0}


def test_configs_that_are_one_network_are_known_together(space, truth, goals):
    def canonical(config):
        return space.decode((*space.encode(config)[:3], 2))

    search = AskTell(space, goals, seed=0, canonical=canonical)
    one, two = space.decode((1, 1, 1, 0)), space.decode((1, 1, 1, 1))
    search.tell(one, truth(one))
    assert search.told(two) == search.told(one) is not None
    assert search.ask() == (canonical(space.largest), canonical(space.smallest))


@pytest.mark.parametrize("values", [{"top1_percent": math.nan, "latency_ms": 1.0}, None])
def test_what_has_no_numbers_has_failed(space, truth, goals, values):
    search = AskTell(space, goals, SearchConfig(population=8), seed=0)
    for end in search.ask():
        search.tell(end, truth(end))
    sick, *others = search.ask()
    search.tell(sick, values)
    for own in others:
        search.tell(own, truth(own))
    assert isinstance(search.told(sick), Failed)
    assert [failed.config for failed in search.front.failed] == [sick]
    assert sick not in {c.config for c in search.front.evaluations}
    assert search.ask()
    search.tell(sick, truth(sick))  # the first word counts
    assert len(search.front.failed) == 1


def test_without_both_ends_there_is_no_front(space, truth, goals):
    search = AskTell(space, goals, seed=0)
    with pytest.raises(SpaceError, match=f"{space.largest.digest} is not among the 0 .* span the box"):
        search.front  # noqa: B018
    search.tell(space.largest, truth(space.largest))
    search.tell(space.decode((1, 1, 1, 1)), truth(space.decode((1, 1, 1, 1))))
    with pytest.raises(SpaceError, match=f"{space.smallest.digest} is not among the 2"):
        search.front  # noqa: B018
    search.tell(space.smallest, None)
    with pytest.raises(
        MeasureError, match="the largest and the smallest subnet cannot be evaluated: it was told"
    ):
        search.front  # noqa: B018


def test_what_is_told_is_checked(space, make_space, goals):
    search = AskTell(space, goals, seed=0)
    with pytest.raises(SpaceError, match=r"layer4\.width: no such choice"):
        search.tell(make_space(4, 3, 4, 3, 2).largest, {})
    with pytest.raises(MeasureError, match="gave no latency_ms; it gave: top1_percent"):
        search.tell(space.largest, {"top1_percent": 1.0})
    with pytest.raises(MeasureError, match=r"gave 3\.0; expected values by name, as {'top1_percent': 1.0}"):
        search.tell(space.largest, 3.0)
    assert search.told(space.largest) is None


def test_the_settings_are_checked(space, goals):
    with pytest.raises(ConfigError, match="two or more objectives"):
        AskTell(space, goals[:1], seed=0)
    with pytest.raises(ConfigError, match="no search 'nsga'"):
        AskTell(space, goals, SearchConfig(algorithm="nsga"), seed=0)
    config = SearchConfig(constraints={"macs": "<= 1"})
    with pytest.raises(ConfigError, match="no subnet found with macs <= 1"):
        AskTell(space, goals, config, seed=0, cheap=lambda subnet: {"macs": 5.0})


def test_cheap_values_and_constraints(space, truth, goals):
    def cheap(config):
        return {"latency_ms": truth(config)["latency_ms"], "macs": float(sum(space.encode(config)))}

    config = SearchConfig(population=6, constraints={"macs": "<= 5"})
    search = AskTell(space, goals, config, seed=0, cheap=cheap)
    for end in search.ask():
        search.tell(end, {"top1_percent": truth(end)["top1_percent"]})
    for _ in range(4):
        for subnet in search.ask():
            assert sum(space.encode(subnet)) <= 5
            search.tell(subnet, {"top1_percent": truth(subnet)["top1_percent"]})
    assert all(member.values["macs"] <= 5 for member in search.front.members)
    assert space.largest in {c.config for c in search.front.evaluations}


@pytest.mark.parametrize("counts", [(), (1,)])
def test_a_space_of_one_subnet(make_space, goals, counts):
    space = make_space(*counts)
    search = AskTell(space, goals, seed=0)
    assert search.ask() == (space.largest,)
    search.tell(space.largest, {"top1_percent": 1.0, "latency_ms": 1.0})
    assert search.ask() == ()
    assert [member.config for member in search.front.members] == [space.largest]
