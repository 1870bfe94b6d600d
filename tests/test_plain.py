from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnas.errors import ConfigError
from bnas.plain import digest, flat, from_plain, to_plain


@dataclass(frozen=True, kw_only=True)
class Point:
    x: float
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """A base whose subclasses are told apart by their kind."""


@dataclass(frozen=True, kw_only=True)
class Ptq(Quantizer):
    kind: Literal["ptq"] = "ptq"
    samples: int = 300


@dataclass(frozen=True, kw_only=True)
class Float(Quantizer):
    kind: Literal["float"] = "float"


@dataclass(frozen=True)
class Values:
    """Stored otherwise than it is written."""

    items: tuple[tuple[str, int], ...]

    def to_plain(self) -> dict[str, int]:
        return dict(self.items)

    @classmethod
    def from_plain(cls, data: Any, where: str) -> Values:
        return cls(tuple(from_plain(dict[str, int], data, where).items()))


@dataclass(frozen=True, kw_only=True)
class Everything:
    whole: int
    number: float
    text: str
    flag: bool
    mode: Literal["mixed", "performance", 3]
    maybe: int | None
    mixed: float | int | str | None
    folder: Path
    many: tuple[Point, ...]
    pair: tuple[int, str]
    listed: list[float]
    names: frozenset[str]
    by_name: Mapping[str, Point]
    by_number: dict[int, tuple[int, ...]]
    point: Point | None
    quantizer: Quantizer
    quantizers: tuple[Quantizer, ...]
    values: Values
    anything: Any


floats = st.floats(allow_nan=False)
points = st.builds(Point, x=floats, label=st.none() | st.text())
quantizers = st.builds(Ptq, samples=st.integers()) | st.builds(Float)
everything = st.builds(
    Everything,
    whole=st.integers(),
    number=floats,
    text=st.text(),
    flag=st.booleans(),
    mode=st.sampled_from(["mixed", "performance", 3]),
    maybe=st.none() | st.integers(),
    mixed=st.none() | st.integers() | floats | st.text(),
    folder=st.sampled_from([Path("a/b c"), Path("."), Path("/x")]),
    many=st.lists(points, max_size=2).map(tuple),
    pair=st.tuples(st.integers(), st.text()),
    listed=st.lists(floats, max_size=3),
    names=st.frozensets(st.text(), max_size=3),
    by_name=st.dictionaries(st.text(), points, max_size=2),
    by_number=st.dictionaries(st.integers(), st.just((1, 2)), max_size=2),
    point=st.none() | points,
    quantizer=quantizers,
    quantizers=st.lists(quantizers, max_size=2).map(tuple),
    values=st.dictionaries(st.text(), st.integers(), max_size=2).map(lambda d: Values(tuple(d.items()))),
    anything=st.none() | st.integers() | st.lists(st.text(), max_size=2),
)


@given(everything)
def test_what_was_plain_comes_back_equal_also_through_json(x: Everything) -> None:
    plain = to_plain(x)
    back = from_plain(Everything, json.loads(json.dumps(plain)))
    assert back == x
    assert [type(value) for value in vars(back).values()] == [type(value) for value in vars(x).values()]
    assert type(back.mixed) is type(x.mixed)
    assert digest(back) == digest(x)


def test_the_plain_form_is_json_and_nothing_else() -> None:
    x = {"a": (1, np.int64(2), np.float32(0.5)), 3: Path("p"), "s": {"b", "a"}, "flag": np.bool_(True)}
    assert to_plain(x) == {"a": [1, 2, 0.5], "3": "p", "s": ["a", "b"], "flag": True}
    assert to_plain(Ptq()) == {"kind": "ptq", "samples": 300}
    for strange in (object(), {True: 1}, np.zeros(2), lambda: 1, Point):
        with pytest.raises(TypeError):
            to_plain(strange)


@dataclass(frozen=True, kw_only=True)
class Sparse:
    name: str
    pattern: str = field(default="first", metadata={"plain": "unless default"})


def test_a_field_may_be_left_out_at_its_default() -> None:
    assert to_plain(Sparse(name="a")) == {"name": "a"}
    assert to_plain(Sparse(name="a", pattern="last")) == {"name": "a", "pattern": "last"}
    for x in (Sparse(name="a"), Sparse(name="a", pattern="last")):
        assert from_plain(Sparse, to_plain(x)) == x


@dataclass(frozen=True, kw_only=True)
class Search:
    population: int = 50
    lr: float = 0.1
    tags: tuple[str, ...] = ()
    on: bool = True

    def __post_init__(self) -> None:
        if self.lr < 0:
            raise ValueError(f"lr: must not be negative, got {self.lr}")
        if self.population > 1000:
            raise ConfigError("too much work")


@dataclass(frozen=True, kw_only=True)
class Run:
    name: str
    search: Search = field(default_factory=Search)
    quantize: Quantizer = field(default_factory=Ptq)
    stages: tuple[Search, ...] = ()
    data: Search | None = None
    size: int | Literal["auto"] = "auto"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"search": {"populaton": 1}}, "search.populaton: no such option; did you mean 'population'?"),
        ({"search": {"population": "ten"}}, "search.population: expected int, got 'ten'"),
        ({"search": {"population": True}}, "search.population: expected int, got True"),
        ({"search": {"population": 3.0}}, "search.population: expected int, got 3.0"),
        ({"search": {"on": 1}}, "search.on: expected bool, got 1"),
        ({"search": {"tags": "abc"}}, "search.tags: expected a list, got 'abc'"),
        ({"search": {"tags": ["a", None]}}, "search.tags[1]: expected str, got null"),
        ({"search": 5}, "search: expected a mapping of options, got 5"),
        ({"stages": [{}, {"lr": "x"}]}, "stages[1].lr: expected float, got 'x'"),
        ({"search": {"lr": -1}}, "search.lr: must not be negative, got -1.0"),
        ({"search": {"population": 2000}}, "search: too much work"),
        ({"data": {"lr": "x"}}, "data.lr: expected float, got 'x'"),
        ({"size": "big"}, "size: expected int or 'auto', got 'big'"),
        ({"quantize": {"kind": "ptqq"}}, "quantize.kind: no such kind 'ptqq'; did you mean 'ptq'?"),
        ({"quantize": {"kind": 7}}, "quantize.kind: no such kind 7; known: float, ptq"),
        ({"quantize": {"kind": "float", "samples": 3}}, "quantize.samples: no such option"),
        ({"name": 5}, "name: expected str, got 5"),
        ({"naem": "x"}, "naem: no such option; did you mean 'name'?"),
    ],
)
def test_a_refusal_starts_with_the_path(data: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        from_plain(Run, {"name": "run", **data})
    assert str(refusal.value).startswith(text)


def test_missing_keys_are_named() -> None:
    with pytest.raises(ConfigError, match=r"^name: missing; expected str$"):
        from_plain(Run, {})
    with pytest.raises(ConfigError, match=r"^here.name: missing"):
        from_plain(Run, {}, "here")
    with pytest.raises(ConfigError, match=r"^kind: missing; allowed: float, ptq$"):
        from_plain(Quantizer, {})


def test_a_kind_not_given_is_that_of_the_default() -> None:
    assert from_plain(Run, {"name": "a", "quantize": {"samples": 7}}).quantize == Ptq(samples=7)
    assert from_plain(Run, {"name": "a", "quantize": {"kind": "float"}}).quantize == Float()
    assert from_plain(Ptq, {"samples": 1}) == Ptq(samples=1)


def test_an_int_is_read_as_a_float_exactly_where_one_is_asked_for() -> None:
    lr = from_plain(Search, {"lr": 1}).lr
    assert (lr, type(lr)) == (1.0, float)


def test_a_type_that_cannot_be_read_is_a_defect_not_an_input_error() -> None:
    with pytest.raises(TypeError):
        from_plain(complex, "1j")


def test_the_digest_is_that_of_canonical_json() -> None:
    text = '{"kind":"ptq","samples":300}'
    assert digest(Ptq()) == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1}) != digest({"a": 2, "b": 2})


def test_nested_mappings_by_dotted_path() -> None:
    data = {"seed": 1, "train": {"lr": 0.1, "stages": [{"name": "a"}], "decay": {}}}
    assert flat(data) == {"seed": 1, "train.lr": 0.1, "train.stages": [{"name": "a"}]}
