from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import patterns, small_net
from torch import Tensor, nn

from bnas.errors import MeasureError, RunError
from bnas.export import OpenVinoIR, export
from bnas.measure import (
    BACKENDS,
    Backend,
    HwConfig,
    MeasureConfig,
    Measurement,
    campaign,
    choose,
    time_artefacts,
    timing,
)
from bnas.plain import from_plain, to_plain
from bnas.quantize import NncfPTQ, Quantized, quantize
from bnas.space import Choice, SearchSpace, SubnetConfig

SPACE = SearchSpace(
    choices=(
        Choice(name="a.width", dim="width", values=(8, 16, 24, 32)),
        Choice(name="b.width", dim="width", values=(4, 8, 12, 16)),
    )
)
EXAMPLE = torch.zeros(1, 3, 16, 16)
CONFIG = MeasureConfig(samples=6, holdout=2, min_rounds=2, max_rounds=2, block_ms=1.0, warmup_ms=0)
HW = {"name": "pretend", "backend": "pretend", "precision": "f32", "threads": 1}


class Sized(nn.Module):
    """A subnet that is only its size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


def make(config: SubnetConfig) -> nn.Module:
    return Sized(config["a.width"] + config["b.width"])


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A backend whose networks take 1 ms per unit of size, by a clock that only they move; lists what it prepared."""
    prepared: list[int] = []
    seconds = [0.0]

    def prepare(network: Any, hw: HwConfig, example: Tensor | None) -> Callable[[], None]:
        prepared.append(network.size)

        def run() -> None:
            seconds[0] += network.size / 1000

        return run

    monkeypatch.setattr(timing, "now", lambda: seconds[0])
    monkeypatch.setitem(BACKENDS, "pretend", Backend(prepare=prepare, throughput_per_s=lambda *_: 0.0))  # type: ignore[arg-type]
    return prepared


def measure(path: Path, config: MeasureConfig = CONFIG) -> tuple[Measurement, ...]:
    return campaign(
        SPACE,
        make,
        HwConfig(**HW),
        config,
        quantizer=NncfPTQ(),
        reference=make(SPACE.largest),
        example=EXAMPLE,
        path=path,
        seed=7,
    )


def test_each_subnet_is_timed_beside_the_reference(tmp_path: Path, pretend: list[int]) -> None:
    lines = measure(tmp_path / "hw" / "measurements.jsonl")
    assert len(lines) == len({line.config for line in lines}) == 6
    assert [line.config for line in lines[:2]] == [SPACE.largest, SPACE.smallest]
    for line in lines:
        size = line.config["a.width"] + line.config["b.width"]
        assert line.latency_ms == pytest.approx(size)
        assert line.ratio == pytest.approx(size / 48)
        assert line.reference_ms == pytest.approx(48)
        assert (line.batch, line.threads, line.precision, line.space) == (1, 1, "f32", SPACE.digest)
        assert line.hardware.runtime == "pretend"
        assert from_plain(Measurement, to_plain(line)) == line
    assert pretend == [48, *(line.config["a.width"] + line.config["b.width"] for line in lines)]


def test_a_campaign_that_was_killed_goes_on(tmp_path: Path, pretend: list[int]) -> None:
    path = tmp_path / "measurements.jsonl"
    whole = measure(path)
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    path.write_text("".join(lines[:3]) + lines[3][:40])  # killed in the middle of the fourth line
    pretend.clear()
    assert measure(path) == whole
    assert len(pretend) == 1 + 3  # the reference and the three that were missing
    assert path.read_text() == text
    pretend.clear()
    assert measure(path) == whole
    assert pretend == []


def test_more_samples_go_on_with_the_same_ones(tmp_path: Path, pretend: list[int]) -> None:
    path = tmp_path / "measurements.jsonl"
    few = measure(path)
    more = measure(path, replace(CONFIG, samples=9))
    assert more[:6] == few
    assert len(more) == 9


def test_a_subnet_is_timed_at_its_resolution(
    tmp_path: Path, pretend: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = SearchSpace(
        choices=(Choice(name="resolution", dim="resolution", values=(8, 12, 16)), *SPACE.choices)
    )
    seen: list[tuple[int, ...]] = []

    def prepare(network: Any, hw: HwConfig, example: Tensor | None) -> Callable[[], None]:
        assert example is not None
        seen.append(tuple(example.shape))
        return pretended.prepare(network, hw, example)

    pretended = BACKENDS["pretend"]
    monkeypatch.setitem(BACKENDS, "pretend", replace(pretended, prepare=prepare))
    lines = campaign(
        space, make, HwConfig(**HW), CONFIG, quantizer=NncfPTQ(), reference=make(space.largest), example=EXAMPLE,
        path=tmp_path / "measurements.jsonl", seed=7,
    )  # fmt: skip
    sizes = [16, *(line.config["resolution"] for line in lines)]
    assert seen == [(1, 3, size, size) for size in sizes]
    assert len(set(sizes)) > 1


def test_a_small_space_is_measured_whole() -> None:
    tiny = SearchSpace(choices=(Choice(name="a", dim="width", values=(1, 2, 3)),))
    chosen = list(choose(tiny, 24, seed=0))
    assert chosen[:2] == [tiny.largest, tiny.smallest]
    assert {config["a"] for config in chosen} == {1, 2, 3}
    assert len(chosen) == 3


def test_the_choice_depends_on_the_seed_alone() -> None:
    assert list(choose(SPACE, 8, seed=1)) == list(choose(SPACE, 8, seed=1))
    assert list(choose(SPACE, 8, seed=1)) != list(choose(SPACE, 8, seed=2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 2}, "threads 2, now it is 1"),
        ({"batch": 8}, "batch 8, now it is 1"),
        ({"precision": "int8"}, "precision int8, now it is f32"),
        ({"space": "0" * 16}, f"space {'0' * 16}, now it is {SPACE.digest}"),
        ({"hardware": {"cpu": "Z80"}}, "cpu Z80, now it is "),
        ({"hardware": {"physical_cores": 77}}, "physical_cores 77, now it is "),
        ({"hardware": {"runtime_version": "2019.R2"}}, r"runtime_version 2019\.R2, now it is "),
        ({"hardware": {"flags": ["mmx"]}}, "flags mmx, now it is "),
    ],
)
def test_measurements_of_other_hardware_are_refused(
    tmp_path: Path, pretend: list[int], change: dict[str, Any], said: str
) -> None:
    path = tmp_path / "measurements.jsonl"
    measure(path)
    lines = path.read_text().splitlines()
    data = json.loads(lines[1])
    hardware = data["hardware"] | change.pop("hardware", {})
    lines[1] = json.dumps(data | change | {"hardware": hardware})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(
        MeasureError, match=rf"measurements\.jsonl, line 2: was measured with {said}.*--force"
    ):
        measure(path)


def test_memory_and_kernel_may_change(tmp_path: Path, pretend: list[int]) -> None:
    path = tmp_path / "measurements.jsonl"
    whole = measure(path)
    path.write_text(
        path.read_text().replace('"memory_gib":', '"memory_gib":1').replace('"os":"', '"os":"New ')
    )
    assert [line.config for line in measure(path)] == [line.config for line in whole]


def test_a_damaged_line_is_named(tmp_path: Path, pretend: list[int]) -> None:
    path = tmp_path / "measurements.jsonl"
    measure(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "{}\n" + "".join(lines[2:]))
    with pytest.raises(RunError, match=r"line 2"):
        measure(path)


def test_a_real_campaign_in_int8(tmp_path: Path) -> None:
    """OpenVINO and NNCF on networks whose sizes are far apart."""
    space = SearchSpace(choices=(Choice(name="width", dim="width", values=(8, 96)),))
    lines = campaign(
        space,
        lambda config: small_net(config["width"]),
        HwConfig(threads=1),
        replace(CONFIG, min_rounds=20, max_rounds=40, warmup_ms=5),
        quantizer=NncfPTQ(),
        reference=small_net(96),
        example=EXAMPLE,
        path=tmp_path / "measurements.jsonl",
        seed=0,
    )
    assert [line.config["width"] for line in lines] == [96, 8]
    assert lines[1].ratio < lines[0].ratio
    assert lines[0].precision == "int8"
    assert lines[0].hardware.runtime == "openvino"


def test_for_int8_networks_are_quantized_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[type] = []

    def prepare(network: Any, hw: HwConfig, example: Tensor | None) -> Callable[[], None]:
        kinds.append(type(network))
        return lambda: None

    ticks = iter(range(10**6))
    monkeypatch.setattr(timing, "now", lambda: float(next(ticks)))
    monkeypatch.setitem(BACKENDS, "pretend", Backend(prepare=prepare, throughput_per_s=lambda *_: 0.0))  # type: ignore[arg-type]
    space = SearchSpace(choices=(Choice(name="width", dim="width", values=(8, 16)),))
    campaign(
        space,
        lambda config: small_net(config["width"]),
        HwConfig(**HW | {"precision": "int8"}),
        CONFIG,
        quantizer=NncfPTQ(bias_correction="none"),
        reference=small_net(16),
        example=EXAMPLE,
        path=tmp_path / "measurements.jsonl",
        seed=0,
    )
    assert kinds == [Quantized] * 3


def test_artefacts_of_any_precision_are_compared(tmp_path: Path) -> None:
    net = small_net(64)
    quantized = quantize(net, NncfPTQ(samples=4), [patterns(4)], EXAMPLE)
    artefacts = {
        "FP32": export(net, OpenVinoIR(), tmp_path / "f32.xml", EXAMPLE),
        "INT8": export(quantized, OpenVinoIR(), tmp_path / "int8.xml", EXAMPLE),
    }
    times = time_artefacts(artefacts, HwConfig(threads=1), CONFIG)
    assert list(times) == ["FP32", "INT8"]
    assert times["FP32"].ratio == 1
    assert times["INT8"].latency_ms > 0
    (tmp_path / "int8.bin").write_bytes(b"")
    with pytest.raises(RunError, match=r"int8\.xml is damaged"):
        time_artefacts(artefacts, HwConfig(threads=1), CONFIG)
