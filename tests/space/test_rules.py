from __future__ import annotations

from typing import Any

import pytest

from bnas.errors import ConfigError
from bnas.plain import from_plain, to_plain
from bnas.space import SpaceRules


def test_rules_come_from_plain_data() -> None:
    plain = {
        "dims": ["depth", "width", "kernel"],
        "depth_mode": "free",
        "width_step": 16,
        "values": {"layer1.*": [32, 48]},
        "min": {"*.kernel": 5},
        "tie": [["a", "b"], ["c.*"]],
    }
    rules = from_plain(SpaceRules, plain, "space")
    assert rules == SpaceRules(
        dims=("depth", "width", "kernel"),
        depth_mode="free",
        width_step=16,
        values={"layer1.*": (32, 48)},
        min={"*.kernel": 5},
        tie=(("a", "b"), ("c.*",)),
    )
    assert from_plain(SpaceRules, to_plain(rules), "space") == rules


@pytest.mark.parametrize(
    ("plain", "text"),
    [
        ({"dims": ["widht"]}, r"^space\.dims: no elastic dimension 'widht'; did you mean 'width'\?"),
        ({"width_ratios": [1.5]}, r"^space\.width_ratios: expected numbers above 0 and up to 1, got 1\.5"),
        ({"width_step": 0}, r"^space\.width_step: expected at least 1, got 0"),
        ({"width_multiple": 0}, r"^space\.width_multiple: expected at least 1, got 0"),
        ({"depth_min": -1}, r"^space\.depth_min: expected at least 0, got -1"),
        ({"depth_mode": "last"}, r"^space\.depth_mode: expected 'first' or 'spread' or 'free', got 'last'"),
        ({"kernel_values": [3, 0]}, r"^space\.kernel_values\[1\]: expected at least 1, got 0"),
        ({"resolutions": [-2]}, r"^space\.resolutions\[0\]: expected at least 1, got -2"),
        ({"values": {"a": 3}}, r"^space\.values\.a: expected a list, got 3"),
        ({"tie": ["a", "b"]}, r"^space\.tie\[0\]: expected a list, got 'a'"),
    ],
)
def test_a_refusal_starts_with_the_path(plain: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        from_plain(SpaceRules, plain, "space")


def test_made_in_python_a_mode_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="depth_mode: expected first or spread or free, got last"):
        SpaceRules(depth_mode="last")  # type: ignore[arg-type]
