from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from benchmarks.search_truth import RESNET50, Stage, Truth, normal, redrawn
from bnas.search.front import non_dominated
from bnas.space import SubnetConfig

SMALL = (
    Stage(width=256, side=56, depths=(1, 2), points=0.7),
    Stage(width=512, side=28, depths=(1,), points=1.0),
    Stage(width=1024, side=14, depths=(1, 2), points=1.5),
    Stage(width=2048, side=7, depths=(1,), points=1.2),
)


@pytest.fixture(scope="module")
def small() -> Truth:
    return Truth(SMALL, shares=(0.65, 1.0))


@pytest.fixture(scope="module")
def resnet50() -> Truth:
    return Truth()


def every(truth: Truth) -> list[SubnetConfig]:
    choices = truth.space.choices
    names = [choice.name for choice in choices]
    return [
        SubnetConfig(dict(zip(names, values, strict=True)))
        for values in product(*(choice.values for choice in choices))
    ]


def random_subnets(truth: Truth, count: int) -> list[SubnetConfig]:
    rng = np.random.default_rng(0)
    return [truth.canonical(truth.space.sample(rng)) for _ in range(count)]


@pytest.mark.parametrize("evaluated", [False, True])
def test_the_front_is_that_of_all_configs_looked_at_one_by_one(small, evaluated):
    configs = every(small)
    costs = np.array(
        [
            (
                -small.evaluated_percent(own)
                if evaluated
                else -small.top1_percent(small.settings(own)).item(),
                small.latency_ms(small.settings(own)).item(),
            )
            for own in configs
        ]
    )
    expected = sorted(map(tuple, costs[non_dominated(costs)].tolist()))
    assert small.front(evaluated=evaluated).tolist() == [pytest.approx(own, rel=1e-12) for own in expected]
    assert len(expected) > 10


def test_points_are_of_each_config_by_itself(small):
    configs = random_subnets(small, 20)
    together = small.points(configs, evaluated=True)
    alone = np.concatenate([small.points([own], evaluated=True) for own in configs])
    assert together.tolist() == alone.tolist()
    assert together[:, 0].tolist() == [-small.evaluated_percent(own) for own in configs]


def test_canonical_configs_stand_for_all_that_are_one_network(small):
    configs = every(small)
    standing = {small.canonical(own) for own in configs}
    assert len(standing) == np.prod(small.counts) < len(configs)
    assert {small.settings(own) for own in standing} == {small.settings(own) for own in configs}
    assert len({small.settings(own) for own in standing}) == len(standing)
    for own in configs[::7]:
        first = small.canonical(own)
        assert small.settings(first) == small.settings(own)
        assert small.canonical(first) == first
        assert small.evaluated_percent(first) == small.evaluated_percent(own)


def test_the_inner_width_of_a_block_that_is_left_out_is_idle(resnet50):
    smallest = resnet50.canonical(resnet50.space.smallest)
    assert smallest["layer2.2.expand"] == smallest["layer2.3.expand"] == 25
    assert smallest["layer2.1.expand"] == 20
    assert resnet50.canonical(resnet50.space.largest) == resnet50.space.largest


def test_the_truth_is_the_same_every_time(resnet50):
    other = Truth(RESNET50)
    for own in random_subnets(resnet50, 10):
        assert other.evaluated_percent(own) == resnet50.evaluated_percent(own)
        assert other.latency_ms(other.settings(own)) == resnet50.latency_ms(resnet50.settings(own))


def test_noise_is_of_the_size_asked_for_and_left_out_of_the_truth(resnet50):
    configs = random_subnets(resnet50, 400)
    true = np.array([resnet50.top1_percent(resnet50.settings(own)).item() for own in configs])
    off = np.array([resnet50.evaluated_percent(own) for own in configs]) - true
    assert off.std() == pytest.approx(0.1, rel=0.15)
    assert abs(off.mean()) < 0.02
    exact = Truth(noise=0.0)
    assert [exact.evaluated_percent(own) for own in configs[:20]] == true[:20].tolist()


def test_normal_numbers_are_made_from_splitmix64():
    def splitmix(number: int) -> int:
        mask = 2**64 - 1
        z = (number * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    assert splitmix(0) == 0xE220A8397B1DCDAF  # the generator's published first output for seed 0
    numbers = [0, 1, 18_662_399]
    halves = [divmod(splitmix(own), 2**32) for own in numbers]
    expected = [
        np.sqrt(-2 * np.log((high + 0.5) / 2**32)) * np.cos(2 * np.pi * (low + 0.5) / 2**32)
        for high, low in halves
    ]
    assert normal(np.array(numbers)).tolist() == pytest.approx(expected, rel=1e-12)
    drawn = normal(np.arange(20_000))
    assert (drawn.mean(), drawn.std()) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03))


def test_the_scale_is_the_published_one(resnet50):
    space = resnet50.space
    assert (space.size, np.prod(resnet50.counts)) == (84_934_656, 18_662_400)
    largest, smallest = resnet50.settings(space.largest), resnet50.settings(space.smallest)
    assert resnet50.macs(largest).item() == 4_089_184_256  # of torchvision's ResNet-50
    assert resnet50.latency_ms(largest).item() == pytest.approx(1.08, abs=0.005)
    assert resnet50.top1_percent(largest).item() == pytest.approx(77.1)
    assert 72 < resnet50.top1_percent(smallest).item() < 74
    assert resnet50.macs(largest).item() / resnet50.macs(smallest).item() > 4


def test_the_work_is_that_of_the_layers_counted_one_by_one(resnet50):
    for own in random_subnets(resnet50, 20):
        work, before, side = 3 * 64 * 49 * 112**2, 64, 56
        for stage in range(1, 5):
            width = own[f"layer{stage}.width"]
            for block in range(own[f"layer{stage}.depth"]):
                inner = multiple_of_8(width * own[f"layer{stage}.{block}.expand"] / 100)
                work += (
                    before * inner * side**2
                )  # the first convolution reads the maps before their side is halved
                side = side // 2 if block == 0 and stage > 1 else side
                work += (9 * inner * inner + inner * width) * side**2
                work += before * width * side**2 if block == 0 else 0
                before = width
        assert resnet50.macs(resnet50.settings(own)).item() == work + before * 1000


def multiple_of_8(width: float) -> int:
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


@pytest.mark.parametrize("choice", ["layer1.width", "layer3.2.expand", "layer3.depth", "layer4.width"])
def test_more_is_better_and_by_how_much_depends_on_the_rest(resnet50, choice):
    space = resnet50.space
    values = space.choice_by_name[choice].values
    gains = []
    for own in random_subnets(resnet50, 30):
        if choice == "layer3.depth":  # blocks come with wide insides, or are not there
            own = SubnetConfig({**own.values, "layer3.4.expand": 25, "layer3.5.expand": 25})
        small, large = (SubnetConfig({**own.values, choice: value}) for value in (values[0], values[-1]))
        top1 = [resnet50.top1_percent(resnet50.settings(other)).item() for other in (small, large)]
        gains.append(top1[1] - top1[0])
    assert max(gains) > 1.2 * min(gains) + 0.01  # no sum of what the choices do by themselves
    assert np.median(gains) > 0


def test_redrawn_assumptions_keep_the_published_scale_and_change_what_is_best(resnet50):
    stages, law = redrawn(1, RESNET50)
    assert redrawn(1, RESNET50) == (stages, law) != redrawn(2, RESNET50)
    assert sum(stage.points for stage in stages) == pytest.approx(sum(stage.points for stage in RESNET50))
    other = Truth(stages, law=law)
    largest = other.settings(other.space.largest)
    assert other.top1_percent(largest).item() == pytest.approx(77.1)
    assert 70 < other.top1_percent(other.settings(other.space.smallest)).item() < 76
    configs = random_subnets(resnet50, 200)
    first, second = (
        np.array([own.top1_percent(own.settings(config)).item() for config in configs])
        for own in (resnet50, other)
    )
    assert 0.3 < np.corrcoef(first, second)[0, 1] < 0.98
    assert [other.latency_ms(other.settings(own)) for own in configs[:9]] == [
        resnet50.latency_ms(resnet50.settings(own)) for own in configs[:9]
    ]
