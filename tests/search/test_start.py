from __future__ import annotations

import json

import numpy as np
import pytest

from bnas.errors import ConfigError
from bnas.files import write_json
from bnas.search import SEARCHES, SearchConfig, parse_constraints, search
from bnas.search.start import evenly, starts


@pytest.fixture
def problem(make_problem):
    return make_problem(*[4] * 6)


@pytest.fixture
def drawn():
    def draw(names, problem, population=10):
        return starts(names, problem, population, np.random.default_rng(0))

    return draw


def total(space):
    return lambda config: {"macs": float(sum(space.encode(config)) ** 3)}


def test_ends_by_name(problem, drawn):
    space = problem.space
    assert drawn(("largest",), problem) == (space.largest,)
    assert drawn(("smallest", "largest", "smallest"), problem) == (space.smallest, space.largest)
    assert drawn((), problem) == ()


def test_spread_is_at_equal_steps_from_end_to_end(problem, drawn):
    sums = [sum(problem.space.encode(config)) for config in drawn(("spread",), problem, 14)]
    assert sums == [0, 3, 6, 9, 12, 15, 18]


def test_spread_goes_by_macs_where_they_are_told(make_problem, drawn):
    space = make_problem(*[4] * 6).space
    problem = make_problem(*[4] * 6, cheap=total(space))
    macs = np.array([problem.cheaply(config)["macs"] for config in drawn(("spread",), problem, 14)])
    wanted = np.linspace(0, 18**3, 7)
    reachable = np.arange(19.0) ** 3
    nearest = reachable[np.abs(reachable[None] - wanted[:, None]).argmin(axis=1)]
    assert macs.tolist() == nearest.tolist()


def test_spread_covers_more_than_chance_does(make_problem, drawn):
    problem = make_problem(*[5] * 30)
    chance = [sum(problem.space.encode(problem.space.sample(np.random.default_rng(i)))) for i in range(10)]
    spread = [sum(problem.space.encode(config)) for config in drawn(("spread",), problem, 20)]
    assert np.ptp(chance) < 50
    assert np.ptp(spread) == 120
    assert np.diff(spread).max() <= 16


def test_spread_keeps_to_what_is_allowed(make_problem, drawn):
    space = make_problem(*[4] * 6).space
    bounds = parse_constraints({"macs": "<= 1000"})
    problem = make_problem(*[4] * 6, cheap=total(space), constraints=bounds)
    found = drawn(("spread",), problem, 12)
    assert all(map(problem.allowed, found))
    sums = [sum(space.encode(config)) for config in found]
    assert (min(sums), max(sums)) == (0, 10)
    assert len(set(sums)) == 6


def test_spread_in_a_space_of_one_subnet(make_problem, drawn):
    for counts in ((), (1,)):
        problem = make_problem(*counts)
        assert drawn(("spread",), problem) == (problem.space.largest,)


@pytest.fixture
def configs(problem):
    return tuple(problem.decode([i % 4, 1, 2, i // 4, 0, 3]) for i in range(12))


def test_configs_of_a_file(problem, drawn, configs, tmp_path):
    write_json(tmp_path / "one.json", configs[0])
    write_json(tmp_path / "some.json", configs[:4])
    one, some = str(tmp_path / "one.json"), str(tmp_path / "some.json")
    assert drawn((one,), problem) == configs[:1]
    assert drawn((some,), problem) == configs[:4]
    assert drawn(("largest", some, one), problem) == (problem.space.largest, *configs[:4])


def test_the_front_of_another_search(make_space, make_truth, goals, problem, drawn, tmp_path):
    """As a ParetoFront, and as a file that has it as its `front`, with members of its own."""
    space = problem.space
    front = search(
        space, goals, make_truth(space, 1), SearchConfig(evaluations=60, algorithm="random"), seed=0
    )
    members = [member.config for member in front.members]
    assert 2 < len(members) < 30
    write_json(tmp_path / "bare.json", front)
    write_json(tmp_path / "decision.json", {"front": front, "members": [{"config": None}], "chosen": {}})
    for name in ("bare.json", "decision.json"):
        assert list(drawn((str(tmp_path / name),), problem, 30)) == members
    begun = search(
        space,
        goals,
        make_truth(space, 1),
        SearchConfig(evaluations=40, population=30, start=(str(tmp_path / "bare.json"),)),
        seed=0,
    )
    assert {c.config for c in begun.evaluations[: len(members) + 2]} >= set(members)


def test_a_subnet_file(problem, drawn, configs, tmp_path):
    write_json(tmp_path / "subnet.json", {"name": "A", "config": configs[3], "plugins": []})
    assert drawn((str(tmp_path / "subnet.json"),), problem) == (configs[3],)


def test_what_there_is_no_room_for_is_thinned_out(problem, drawn, configs, tmp_path):
    write_json(tmp_path / "some.json", configs)
    found = drawn((str(tmp_path / "some.json"), "largest"), problem, 5)
    assert found == (problem.space.largest, *evenly(configs, 4))
    assert evenly(configs, 4) == (configs[0], configs[4], configs[7], configs[11])
    assert evenly(configs, 1) == (configs[0],)
    assert evenly(configs, 0) == ()
    assert drawn(("largest", "smallest", str(tmp_path / "some.json")), problem, 2) == (
        problem.space.largest,
        problem.space.smallest,
    )


def test_configs_that_are_one_network_are_taken_once(make_problem, drawn, tmp_path):
    space = make_problem(2, 3).space
    problem = make_problem(2, 3, canonical=lambda config: space.decode((space.encode(config)[0], 2)))
    write_json(tmp_path / "all.json", [space.decode((i, j)) for i in range(2) for j in range(3)])
    assert drawn((str(tmp_path / "all.json"), "smallest"), problem) == (
        space.decode((0, 2)),
        space.decode((1, 2)),
    )


OTHER = {"values": {f"layer{i}.width": 8 for i in range(6)} | {"layer2.width": 9}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{not json", r"start\[1\]: cannot read .*own.json: Expecting"),
        (
            json.dumps(OTHER),
            r"start\[1\]: .*own.json does not belong .* layer2.width: 9 is not one of 8, 16, 24, 32",
        ),
        (json.dumps([OTHER]), r"start\[1\]: .*own.json: \[0\] does not belong .* layer2.width: 9"),
        (
            json.dumps({"front": {"members": [{"config": OTHER}]}}),
            r"own.json: front.members\[0\].config does not belong",
        ),
        (
            json.dumps({"values": {"layer0.width": 8}}),
            r"layer1.width: the subnet gives no value \(5 of 6 missing\)",
        ),
        (json.dumps({"volumes": {}}), r"own.json does not belong .* volumes: no such option"),
        ("[]", r"start\[1\]: .*own.json holds no subnets; expected a config"),
        ("3", r"start\[1\]: .*own.json does not belong to this space: .* expected a mapping"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(problem, drawn, tmp_path, text, said):
    (tmp_path / "own.json").write_text(text)
    with pytest.raises(ConfigError, match=said):
        drawn(("largest", str(tmp_path / "own.json")), problem)


def test_what_is_no_name_and_no_file_is_refused(problem, drawn, tmp_path):
    with pytest.raises(ConfigError, match=r"start\[0\]: cannot read .*gone.json: No such file"):
        drawn((str(tmp_path / "gone.json"),), problem)
    with pytest.raises(
        ConfigError, match=r"start\[1\]: expected .* a name; did you mean 'largest'\?; got 'largets'"
    ):
        drawn(("smallest", "largets"), problem)


def test_configs_given_in_python_are_checked_as_well(make_space, make_truth, goals):
    space = make_space(3, 3)
    with pytest.raises(
        ConfigError, match=r"start\[1\]: the subnet does not belong to this space: layer2.width: no such"
    ):
        search(
            space,
            goals,
            make_truth(space, 0),
            seed=0,
            start=(space.largest, make_space(3, 3, 3).largest),
        )


@pytest.mark.parametrize("algorithm", SEARCHES)
def test_a_start_may_have_one_network_twice(make_space, make_truth, goals, settings, algorithm):
    space = make_space(3, 3, 3)
    front = search(
        space,
        goals,
        make_truth(space, 0),
        settings(algorithm, evaluations=9, population=6),
        seed=0,
        canonical=lambda config: space.decode((*space.encode(config)[:2], 2)),
        start=[space.decode((1, 1, i)) for i in range(3)],
    )
    assert all(space.encode(candidate.config)[2] == 2 for candidate in front.evaluations)
    assert space.decode((1, 1, 2)) in {candidate.config for candidate in front.evaluations[:3]}
