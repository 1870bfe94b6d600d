from __future__ import annotations

from math import comb

import mlperf_loadgen
import pytest

from bnas.compose import conf_folder
from bnas.errors import ConfigError
from bnas.load import PRESETS, SCENARIOS, LoadConfig
from bnas.plain import from_plain, to_plain


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_mlperf_is_what_loadgen_itself_says_of_resnet50(scenario: str) -> None:
    settings = mlperf_loadgen.TestSettings()
    assert settings.FromConfig("", "resnet50", scenario, 0) == 0
    config = LoadConfig(preset="mlperf")
    assert config.test_seconds == settings.min_duration_ms / 1000
    assert config.queries(scenario) == settings.min_query_count
    assert config.samples == settings.performance_sample_count_override
    assert config.samples_per_query == settings.multi_stream_samples_per_query
    assert config.server_latency_ms == settings.server_target_latency_ns / 1e6


@pytest.mark.parametrize(
    ("scenario", "share", "slow"), [("SingleStream", 0.1, 1), ("MultiStream", 0.01, 1), ("Server", 0.01, 0)]
)
def test_early_stopping_needs_so_many_queries(scenario: str, share: float, slow: int) -> None:
    """The least n for which `slow` queries above the percentile prove it at 99 % (binomial distribution)."""

    def doubt(n: int) -> float:
        return sum(comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(slow + 1))

    needed = SCENARIOS[scenario].early_stopping_queries
    assert doubt(needed) <= 0.01 < doubt(needed - 1)


@pytest.mark.parametrize("preset", PRESETS)
def test_shipped_presets(preset: str) -> None:
    import yaml

    config = from_plain(LoadConfig, yaml.safe_load((conf_folder() / "load" / f"{preset}.yaml").read_text()))
    assert config == LoadConfig(preset=preset)  # type: ignore[arg-type]


def test_options_go_before_the_preset() -> None:
    config = LoadConfig(preset="mlperf", seconds=3, rounds=2, min_queries=7)
    assert (config.test_seconds, config.round_count, config.queries("Offline")) == (3, 2, 7)
    assert from_plain(LoadConfig, to_plain(config)) == config


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scenarios": ("Sever",)}, "scenarios: no such scenario 'Sever'; did you mean 'Server'?"),
        ({"scenarios": ()}, "scenarios: expected at least one of SingleStream, MultiStream, Server, Offline"),
        ({"networks": ("A/int8", "A/int8")}, "networks: 'A/int8' is named twice"),
        ({"seconds": 0.0}, "seconds: expected more than 0, got 0.0"),
        ({"target_qps": -1.0}, "target_qps: expected more than 0, got -1.0"),
        ({"target_qps": float("nan")}, "target_qps: expected more than 0, got nan"),
        ({"batch": 0}, "batch: expected 1 or more, got 0"),
        ({"streams": -1}, "streams: expected 0 or more, got -1"),
        ({"rounds": 0}, "rounds: expected 1 or more, got 0"),
    ],
)
def test_refused(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        LoadConfig(**options)  # type: ignore[arg-type]
    assert str(refused.value) == text
