"""Every example of docs/formats.md is read as the type it is an example of, and every field is explained."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml  # type: ignore[import-untyped]

from bnas.cluster import RayConfig
from bnas.commands.bench import Bench
from bnas.commands.build import PATHS as BUILT
from bnas.commands.decision import Decision
from bnas.commands.extract import SubnetFile
from bnas.commands.verify import Verification
from bnas.config import RunConfig, SpaceOptions
from bnas.errors import ConfigError
from bnas.export import Artefact
from bnas.graph import ChannelGraph
from bnas.measure import HwConfig, LatencyModel, MeasureConfig, Measurement
from bnas.measure.predictors import BASELINES, PREDICTORS, Fitted
from bnas.models import ModelConfig
from bnas.plain import from_plain
from bnas.report import LatencyReport, Report
from bnas.report.card import ModelCard
from bnas.run_folder import StageRecord
from bnas.search.evaluation_log import Evaluated, LogLine, SearchBegun
from bnas.space import SearchSpace

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
TYPES: dict[str, Any] = {
    "config.yaml": RunConfig,
    "stages.json": tuple[StageRecord, ...],
    "begun.json": dict[str, str],
    "graph.json": ChannelGraph,
    "space.json": SearchSpace,
    "latency/cpu/measurements.jsonl": Measurement,
    "latency/cpu/model.json": LatencyModel,
    "latency/cpu/latency.json": LatencyReport,
    "search/cpu/evaluations.jsonl": LogLine,
    "search/cpu/front.json": Decision,
    "subnets/A/subnet.json": SubnetFile,
    "subnets/int8.json": dict[str, Artefact],
    "subnets/artefacts.json": dict[str, dict[str, Artefact]],
    "subnets/A/card.json": ModelCard,
    "verified.json": Verification,
    "bench.json": Bench,
    "report.json": Report,
}
EXAMPLES = re.findall(r"^```(?:json|yaml) file=(\S+)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("name", "text"), EXAMPLES)
def test_example_is_read(name: str, text: str) -> None:
    data = yaml.safe_load(text) if name.endswith(".yaml") else json.loads(text)
    from_plain(TYPES[name], data)


def test_every_file_has_an_example() -> None:
    assert {name for name, _ in EXAMPLES} == set(TYPES)


def test_a_wrong_example_would_be_found() -> None:
    text = next(text for name, text in EXAMPLES if name == "space.json")
    with pytest.raises(ConfigError, match="targts: no such option"):
        from_plain(SearchSpace, json.loads(text.replace("targets", "targts")))


def test_every_field_is_explained() -> None:
    explained = set(re.findall(r"`(\w+)`", PAGE))
    kinds = [kind for kind in TYPES.values() if kind is not RunConfig]
    top = {field.name for field in fields(RunConfig)}
    kinds += [SearchBegun, Evaluated, ModelConfig, SpaceOptions]
    kinds += [kind for kind in Fitted.__subclasses__() if kind.__module__.startswith("bnas.")]
    wanted = top.union(*(field_names(kind, set()) for kind in kinds))
    assert sorted(wanted - explained) == []


def test_every_kind_of_predictor_is_explained() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \| ", PAGE, re.MULTILINE))
    assert set(PREDICTORS) | set(BASELINES) <= rows


@pytest.mark.parametrize(
    ("section", "kind"), [("hw", HwConfig), ("measure", MeasureConfig), ("ray", RayConfig)]
)
def test_the_defaults_are_those_of_the_code(section: str, kind: Any) -> None:
    told: dict[str, str] = {}
    for names, default in re.findall(rf"^\| (`{section}\.[^|]+) \|[^|]+\| (.+) \|$", PAGE, re.MULTILINE):
        options = re.findall(rf"`{section}\.(\w+)`", names)
        values = re.split(", ", re.sub(r"[:;].*", "", default))
        told.update(zip(options, values * (len(options) if len(values) == 1 else 1), strict=True))
    assert told == {field.name: as_told(field.default) for field in fields(kind)}


def as_told(default: object) -> str:
    """How the page writes a default."""
    assert default is not MISSING
    if default in ("", ()):
        return "empty"
    if isinstance(default, str):
        return f"`{default}`"
    return f"{default:g}" if isinstance(default, float) else json.dumps(default)


def field_names(hint: Any, seen: set[Any]) -> Iterator[str]:
    """The names of all fields of a type, and of the types in it."""
    if is_dataclass(hint) and hint not in seen:
        seen.add(hint)
        for name, inner in get_type_hints(hint).items():
            if name in {field.name for field in fields(hint)}:
                yield name
                yield from field_names(inner, seen)
    for inner in get_args(hint):
        yield from field_names(inner, seen)


def test_every_file_of_build_is_listed() -> None:
    listed = PAGE[: PAGE.index("## How they are written")].split()
    assert set(BUILT) <= set(listed)
