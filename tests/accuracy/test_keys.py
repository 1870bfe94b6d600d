from __future__ import annotations

from typing import Any

import pytest

from bnas.accuracy.keys import Keys, items_of, text_of, truth_of, whole_of
from bnas.errors import ConfigError

KEYS = Keys(used=("size", "name"), noted={"tags": "a name alone"}, refused={"match": "leave it out"})


def test_every_key_is_used_or_noted() -> None:
    used, notes = KEYS.check({"size": 3, "name": None, "tags": ["a"], "match": False}, "here")
    assert used == {"size": 3}
    assert notes == ("here.tags: ['a']: a name alone",)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"match": True}, "here.match: True cannot be done here: leave it out"),
        ({"sise": 3}, "here.sise: no such option; did you mean 'size'"),
        ({"tag": 3}, "here.tag: no such option; did you mean 'tags'"),
        ([3], "here: expected a mapping of options, got"),
        (None, "here: expected a mapping of options, got nothing"),
    ],
)
def test_or_refused_by_name(entry: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        KEYS.check(entry, "here")


def test_values_are_of_the_type_asked_for() -> None:
    entry = {"text": "a", "whole": 3, "truth": True, "list": [1], "empty": []}
    assert (text_of(entry, "text", "x"), text_of(entry, "other", "x")) == ("a", None)
    assert (whole_of(entry, "whole", "x"), whole_of(entry, "other", "x")) == (3, None)
    assert (truth_of(entry, "truth", "x"), truth_of(entry, "other", "x")) == (True, False)
    assert items_of(entry, "list", "x") == [1]
    for read, key in (
        (text_of, "whole"), (whole_of, "text"), (whole_of, "truth"), (truth_of, "whole"), (items_of, "text"),
        (items_of, "empty"), (items_of, "other"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"x.{key}: expected"):
            read(entry, key, "x")
