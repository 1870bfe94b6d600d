from __future__ import annotations

import numpy as np
import pytest

from bnas.report.importance import importance_of, needed, ranked
from bnas.report.types import Importance
from bnas.space import Choice

CHOICES = tuple(
    Choice(name=name, dim="width", values=tuple(range(8, 8 * count + 1, 8)), targets=(name,))
    for name, count in (("strong", 4), ("weak", 4), ("idle", 4), ("other", 3), ("fixed", 1))
)


def drawn(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, len(choice.values), count) for choice in CHOICES], axis=1)


def test_scores_are_the_shares_of_the_variance_that_a_formula_gives() -> None:
    rows = drawn(3000)
    y = 3.0 * rows[:, 0] + 1.0 * rows[:, 1]
    found = importance_of("top1_percent", CHOICES, rows.tolist(), y.tolist())
    # Shuffling an independent additive term of variance v makes an exact model's squared error 2 v.
    shares = [2 * 9 / 10, 2 * 1 / 10, 0, 0, 0]
    assert list(found.scores.values()) == pytest.approx(shares, abs=0.05)
    assert list(found.scores) == [choice.name for choice in CHOICES]
    assert found.r2 == pytest.approx(1, abs=1e-3)
    assert found.samples == 3000


def test_a_bend_is_seen_and_noise_is_told_from_what_matters() -> None:
    rows = drawn(200)
    noise = np.random.default_rng(1).normal(size=200)
    found = importance_of("x", CHOICES, rows.tolist(), ((rows[:, 3] - 1.0) ** 2 + 0.2 * noise).tolist())
    assert max(found.scores, key=found.scores.__getitem__) == "other"
    assert found.r2 is not None
    assert 0.5 < found.r2 < 0.95
    nothing = importance_of("x", CHOICES, rows.tolist(), noise.tolist())
    assert nothing.r2 is not None
    assert nothing.r2 < 0.1
    assert max(nothing.scores.values()) < 0.2


def test_with_too_few_subnets_nothing_is_said() -> None:
    rows = drawn(19)
    assert importance_of("x", CHOICES, rows.tolist(), rows[:, 0].tolist()) == Importance(
        value="x", samples=19
    )
    assert needed(5) == 20
    assert needed(61) == 61
    same = importance_of("x", CHOICES, drawn(50).tolist(), [1.0] * 50)
    assert same == Importance(value="x", samples=50)
    assert importance_of("x", CHOICES, [], []).samples == 0


def test_values_that_are_no_numbers_do_not_count_and_equal_input_gives_equal_scores() -> None:
    rows = drawn(60)
    y = [float("nan"), *rows[1:, 0].tolist()]
    one, two = (importance_of("x", CHOICES, rows.tolist(), y) for _ in range(2))
    assert one.samples == 59
    assert (one.scores, one.r2) == (two.scores, two.r2)


def test_those_that_matter_for_any_value_come_first() -> None:
    told = (
        Importance(value="a", samples=99, scores={"strong": 1.8, "weak": 0.2, "idle": 0.0}),
        Importance(value="b", samples=99, scores={"idle": 0.01, "weak": 0.005}),
        Importance(value="c", samples=3),
    )
    assert ranked(told, CHOICES) == ["strong", "idle", "weak", "other", "fixed"]
    assert ranked((), CHOICES) == [choice.name for choice in CHOICES]
