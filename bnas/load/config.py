"""What to run under load and for how long: LoadGen's scenarios, the presets, and the options of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bnas.errors import ConfigError, did_you_mean

PresetName = Literal["seconds", "mlperf"]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One of LoadGen's scenarios, and how a network is compiled for it.

    `hint`: LATENCY, one stream with all threads; THROUGHPUT, as many inferences at once as OpenVINO thinks best.
    `early_stopping_queries`: how many queries a test must have had, at least, for LoadGen to call it valid: as many
    as prove the percentile that MLPerf judges with a confidence of 99 % (LoadGen's early_stopping.cc).
    `mlperf_queries`: the least number for ResNet-50 in LoadGen's mlperf.conf; of Offline it counts samples.
    """

    hint: Literal["LATENCY", "THROUGHPUT"]
    early_stopping_queries: int
    mlperf_queries: int


SCENARIOS = {
    "SingleStream": Scenario(hint="LATENCY", early_stopping_queries=64, mlperf_queries=100),
    "MultiStream": Scenario(hint="LATENCY", early_stopping_queries=662, mlperf_queries=662),
    "Server": Scenario(hint="THROUGHPUT", early_stopping_queries=459, mlperf_queries=100),
    "Offline": Scenario(hint="THROUGHPUT", early_stopping_queries=1, mlperf_queries=24576),
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """How long the test of one network is, and in how many rounds all networks take turns."""

    seconds: float
    rounds: int


PRESETS: dict[PresetName, Preset] = {
    "seconds": Preset(seconds=2.0, rounds=3),
    "mlperf": Preset(seconds=600.0, rounds=1),
}


@dataclass(frozen=True, kw_only=True)
class LoadConfig:
    """The networks of a run under load, by MLCommons LoadGen.

    `networks` as "A/int8" or "reference/fp32"; empty: the original network in FP32 and INT8, and every subnet in
    INT8. `preset` says what `seconds`, `rounds` and `min_queries` are where they are None: "mlperf" takes LoadGen's
    own numbers for ResNet-50 (600 s, one round), "seconds" 2 s in 3 rounds and no more queries than LoadGen needs for
    a valid result.

    `seconds`: the least duration of one test of one network. `samples`: images in memory at once, of which LoadGen
    draws (MLPerf: 1024). `server_latency_ms`: the 99th percentile that Server allows (MLPerf, ResNet-50: 15).
    `target_qps`: queries per second of Server, for every network; None: the most that each one bears, found in
    `search_steps` tests of `search_seconds`. `streams`: inferences at once in Server and Offline (0: as many as
    OpenVINO thinks best). `batch`: images per inference in Offline. `samples_per_query`: images of a query in
    MultiStream, which go into one inference. `accuracy`: also LoadGen's accuracy mode, on all test images.
    """

    preset: PresetName = "seconds"
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    networks: tuple[str, ...] = ()
    seconds: float | None = None
    rounds: int | None = None
    min_queries: int | None = None
    samples: int = 1024
    server_latency_ms: float = 15.0
    target_qps: float | None = None
    search_seconds: float = 2.0
    search_steps: int = 6
    streams: int = 0
    batch: int = 8
    samples_per_query: int = 8
    accuracy: bool = True

    def __post_init__(self) -> None:
        if not self.scenarios:
            raise ConfigError(f"scenarios: expected at least one of {', '.join(SCENARIOS)}")
        for name in self.scenarios:
            if name not in SCENARIOS:
                raise ConfigError(f"scenarios: no such scenario '{name}'{did_you_mean(name, SCENARIOS)}")
        for name in ("scenarios", "networks"):
            words: tuple[str, ...] = getattr(self, name)
            for word in words:
                if words.count(word) > 1:
                    raise ConfigError(f"{name}: '{word}' is named twice")
        counts = ("rounds", "min_queries", "samples", "search_steps", "streams", "batch", "samples_per_query")
        for name in counts:
            minimum = 0 if name == "streams" else 1
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigError(f"{name}: expected {minimum} or more, got {value}")
        for name in ("seconds", "server_latency_ms", "target_qps", "search_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}: expected more than 0, got {value}")

    @property
    def test_seconds(self) -> float:
        """The least duration of one test of one network."""
        return PRESETS[self.preset].seconds if self.seconds is None else self.seconds

    @property
    def round_count(self) -> int:
        """How often each network has its turn."""
        return PRESETS[self.preset].rounds if self.rounds is None else self.rounds

    def queries(self, scenario: str) -> int:
        """The least number of queries (Offline: samples) of one test."""
        if self.min_queries is not None:
            return self.min_queries
        own = SCENARIOS[scenario]
        return own.mlperf_queries if self.preset == "mlperf" else own.early_stopping_queries

    def images_per_inference(self, scenario: str) -> int:
        """How many images go into one inference."""
        return {"Offline": self.batch, "MultiStream": self.samples_per_query}.get(scenario, 1)
