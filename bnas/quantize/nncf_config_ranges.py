"""What NNCF 2's configuration says on how ranges are found (compression.initializer.range), for the NNCF of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bnas.errors import ConfigError
from bnas.quantize.nncf_config_rules import Reading, Rule, check, one_of, refused, section, typed

NOT_BY_SCOPE = (
    "leave out what is to stay in FP32 by compression.ignored_scopes, weights and activations together"
)


def read_range(reading: Reading, where: str, value: Any) -> None:
    """How ranges are found: one rule for all tensors, or a list of rules for weights or activations."""
    if not isinstance(value, (list, tuple)):
        return _range_of(reading, where, value, ("weights", "activations"))
    counts = []
    for index, rule in enumerate(value):
        path = f"{where}[{index}]"
        check(isinstance(rule, Mapping), path, "a mapping", rule)
        group = rule.get("target_quantizer_group")
        check(
            group in (None, "weights", "activations"),
            f"{path}.target_quantizer_group",
            "weights or activations",
            group,
        )
        found = Reading()
        _range_of(found, path, rule, ("weights", "activations") if group is None else (group,))
        samples = found.options.pop("samples", 256)
        if group != "weights":  # these are there once
            counts.append(samples)
        reading.notes += found.notes
        for option, estimator in found.options.items():
            reading.set(option, estimator, path)
    if counts:
        reading.set("samples", max(counts), where)
    return None


def _range_of(reading: Reading, where: str, value: Any, groups: tuple[str, ...]) -> None:
    found = Reading()
    section(_RANGE)(found, where, value)
    reading.notes += found.notes
    if "samples" in found.options:
        check(
            found.options["samples"] > 0, f"{where}.num_init_samples", "1 or more", found.options["samples"]
        )
        reading.set("samples", found.options["samples"], where)
    by = found.options.get("by")
    estimator: dict[str, Any] | None = None if by is None else {"by": by}
    if estimator is not None and by == "mean_percentile":
        estimator["low_percent"] = found.options.get("low_percent", 0.1)
        estimator["high_percent"] = found.options.get("high_percent", 99.9)
    for group in groups:
        reading.set(f"{group}.range", estimator, f"{where}.type")


def _range_type(reading: Reading, where: str, value: Any) -> None:
    if value == "threesigma":
        raise ConfigError(f"{where}: has no counterpart in NNCF 3; use 'mean_percentile', or 'mean_min_max'")
    if value == "percentile":
        reading.notes.append(
            f"{where}: NNCF 3 takes percentiles image by image, here their mean (mean_percentile)"
        )
    one_of("by", _RANGE_TYPES)(reading, where, value)


def _percent(path: str) -> Rule:
    def read(reading: Reading, where: str, value: Any) -> None:
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100
        check(right, where, "0 to 100", value)
        reading.set(path, float(value), where)

    return read


# "mixed_min_max" is what NNCF 3 does where nothing is asked for.
_RANGE_TYPES = {
    "mixed_min_max": None,
    "min_max": "minmax",
    "mean_min_max": "mean_minmax",
    "percentile": "mean_percentile",
    "mean_percentile": "mean_percentile",
}

_RANGE: dict[str, Rule] = {
    "num_init_samples": typed("samples", int),
    "num_init_steps": refused("it counted batches; give num_init_samples, which counts images"),
    "type": _range_type,
    "params": section(
        {"min_percentile": _percent("low_percent"), "max_percentile": _percent("high_percent")}
    ),
    "target_quantizer_group": lambda reading, where, value: None,  # read by `read_range`
    "target_scopes": refused(NOT_BY_SCOPE, unless=([], "{re}.*", ["{re}.*"])),
    "ignored_scopes": refused(NOT_BY_SCOPE, unless=([],)),
}
