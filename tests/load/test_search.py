from __future__ import annotations

import pytest

from bnas.load.search import highest_valid


@pytest.mark.parametrize("bound", [3.0, 47.0, 99.9])
def test_finds_the_highest_rate_that_holds(bound: float) -> None:
    asked: list[float] = []

    def holds(rate: float) -> bool:
        asked.append(rate)
        return rate <= bound

    found = highest_valid(holds, 100.0, 6)
    assert found <= bound < found + 100 / 2**6
    assert found in asked
    assert len(asked) == 6


def test_where_none_holds_the_lowest_that_was_tried() -> None:
    asked: list[float] = []
    assert highest_valid(lambda rate: bool(asked.append(rate)), 64.0, 5) == min(asked) == 2.0
