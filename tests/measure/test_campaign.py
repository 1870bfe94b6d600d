from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from small_networks import small_net
from torch import Tensor, nn

from bnas import progress
from bnas.errors import ConfigError, MeasureError, RunError
from bnas.export import Quantized
from bnas.files import append_jsonl, read_jsonl
from bnas.measure import (
    BACKENDS,
    Backend,
    Hardware,
    HwConfig,
    MeasureConfig,
    Measurement,
    Timed,
    campaign,
    detect,
    device,
    timing,
)
from bnas.measure.device import Here
from bnas.measure.disturbance import Witness
from bnas.plain import from_plain, to_plain
from bnas.quantize import NncfPTQ
from bnas.space import PRECISION, PRECISIONS, Choice, LayerCost, SearchSpace, SubnetConfig

campaigning = import_module("bnas.measure.campaign")  # the module, which the function hides
SPACE = SearchSpace(
    choices=(
        Choice(name="a.width", dim="width", values=tuple(range(8, 72, 8))),
        Choice(name="b.width", dim="width", values=tuple(range(4, 68, 4))),
    )
)
REFERENCE = 40 + 36  # the middle value of each choice
UNIT_MS = 1000 / 1024  # of a second a power of two: its sums are exact, whatever was timed before
EXAMPLE = torch.zeros(1, 3, 16, 16)
CONFIG = MeasureConfig(
    samples=12, holdout=3, retries=0, min_rounds=2, max_rounds=2, block_ms=1.0, warmup_ms=0
)
HW = {"name": "pretend", "backend": "pretend", "precision": "f32", "threads": 1}


class Sized(nn.Module):
    """A subnet that is only its size."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def __repr__(self) -> str:
        return f"Sized({self.size})"


def size_of(config: SubnetConfig) -> int:
    return config["a.width"] + config["b.width"]


def make(config: SubnetConfig) -> nn.Module:
    return Sized(size_of(config))


def costs(config: SubnetConfig) -> Sequence[LayerCost]:
    return [
        LayerCost(
            name=name, kind="linear", macs=100 * config[name], parameters=config[name], weights=config[name],
            inputs=100, outputs=config[name], positions=1, kernel=1, groups=1,
        )
        for name in ("a.width", "b.width")
    ]  # fmt: skip


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A backend whose networks take UNIT_MS per unit of size, by a clock that only they move; lists what it prepared."""
    prepared: list[int] = []
    seconds = [0.0]

    def prepare(network: Any, hw: HwConfig, example: Tensor | None) -> Callable[[], None]:
        prepared.append(network.size)

        def run() -> None:
            seconds[0] += network.size * UNIT_MS / 1000

        return run

    monkeypatch.setattr(device, "INSTANCES", 1)
    monkeypatch.setattr(timing, "now", lambda: seconds[0])
    monkeypatch.setattr(Witness, "disturbed", lambda self: False)
    monkeypatch.setitem(BACKENDS, "pretend", backend(prepare))
    return prepared


def backend(prepare: Callable[..., Any]) -> Backend:
    return Backend(
        package="torch",
        precisions=("f32", "int8"),
        prepare=prepare,
        deploy=lambda hw, quantizer: lambda module, example: module,
    )


def measure(path: Path, config: MeasureConfig = CONFIG, **options: Any) -> tuple[Measurement, ...]:
    given: dict[str, Any] = {
        "costs": costs,
        "quantizer": NncfPTQ(),
        "example": EXAMPLE,
        "path": path,
        "seed": 7,
    }
    hw = options.pop("hw", None) or HwConfig(**HW)  # type: ignore[arg-type]
    return campaign(options.pop("space", SPACE), options.pop("make", make), hw, config, **given | options)


def test_each_subnet_is_timed_beside_the_reference(tmp_path: Path, pretend: list[int]) -> None:
    lines = measure(tmp_path / "hw" / "measurements.jsonl")
    assert len(lines) == len({line.config for line in lines}) == 12
    assert [line.config for line in lines[:2]] == [SPACE.largest, SPACE.smallest]
    for line in lines:
        size = size_of(line.config)
        assert line.time_ms == pytest.approx(size * UNIT_MS)
        assert line.throughput_per_s == pytest.approx(1000 / (size * UNIT_MS))
        assert line.ratio == pytest.approx(size / REFERENCE)
        assert line.reference_ms == pytest.approx(REFERENCE * UNIT_MS)
        assert (line.batch, line.threads, line.streams) == (1, 1, 0)
        assert (line.precision, line.scenario, line.space) == ("f32", "latency", SPACE.digest)
        assert line.hardware.runtime == "pretend"
        assert line.hardware.runtime_version == detect(HwConfig(**HW)).runtime_version != ""  # type: ignore[arg-type]
        assert set(line.seconds) == {"extract", "deploy", "compile", "time"}
        assert from_plain(Measurement, to_plain(line)) == line
    assert pretend == [REFERENCE, *(size_of(line.config) for line in lines)]
    # what was timed is told from others by its digest
    assert len({line.artefact for line in lines}) == len({size_of(line.config) for line in lines})


JOINT = SearchSpace(
    choices=(
        *SPACE.choices,
        *(
            Choice(name=f"{part}.precision", dim=PRECISION, values=(0, 1, 2), targets=(part,))
            for part in "ab"
        ),
    )
)


def precisions_in(config: SubnetConfig) -> dict[str, Any]:
    return {part: PRECISIONS[config[f"{part}.precision"]] for part in "ab"}


def test_precisions_go_to_what_deploys(
    tmp_path: Path, pretend: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make` gets the architecture; each FP32 part makes the network 1000 larger."""
    asked: list[dict[str, Any]] = []

    def deploy(hw: HwConfig, quantizer: Any) -> Callable[..., nn.Module]:
        def deployed(module: Any, example: Tensor, precisions: dict[str, Any]) -> nn.Module:
            asked.append(precisions)
            return Sized(module.size + 1000 * sum(own == "fp32" for own in precisions.values()))

        return deployed

    monkeypatch.setitem(BACKENDS, "pretend", replace(BACKENDS["pretend"], deploy_mixed=deploy))

    def made(config: SubnetConfig) -> nn.Module:
        SPACE.validate(config)
        return make(config)

    hw = HwConfig(**{**HW, "precision": "int8"})  # type: ignore[arg-type]
    lines = measure(tmp_path / "a.jsonl", space=JOINT, make=made, hw=hw, precisions=precisions_in)
    assert asked[0] == {"a": "int8_channel", "b": "int8_channel"}  # the reference
    assert pretend[0] == REFERENCE
    for line in lines:
        whole = sum(own == "fp32" for own in precisions_in(line.config).values())
        assert line.time_ms == pytest.approx((size_of(line.config) + 1000 * whole) * UNIT_MS)
        assert line.space == JOINT.digest
    assert {line.config["a.precision"] for line in lines} == {0, 1, 2}


def test_the_reference_is_int8_where_precisions_are_chosen() -> None:
    for values, wanted in (((0, 1, 2), 1), ((1, 2), 1), ((0, 2), 0), ((0, 1), 0)):
        space = SearchSpace(choices=(Choice(name="precision", dim=PRECISION, values=values, targets=("",)),))
        assert campaigning.reference_of(space)["precision"] == wanted


def test_hardware_that_does_not_mix_precisions_is_said(tmp_path: Path, pretend: list[int]) -> None:
    options: dict[str, Any] = {"space": JOINT, "precisions": precisions_in}
    with pytest.raises(ConfigError, match=r"hw\.backend: pretend runs .* can be chosen for openvino"):
        measure(tmp_path / "a.jsonl", **options)
    with pytest.raises(ConfigError, match=r"hw\.precision: .* chosen for int8 .*, got f32"):
        measure(tmp_path / "a.jsonl", hw=HwConfig(backend="openvino", precision="f32", threads=1), **options)
    with pytest.raises(MeasureError, match="`precisions` must tell them"):
        measure(tmp_path / "a.jsonl", space=JOINT)
    assert pretend == []


def test_some_are_random_and_held_out(tmp_path: Path, pretend: list[int]) -> None:
    lines = measure(tmp_path / "a.jsonl")
    assert [line.role for line in lines].count("held_out") == 3
    few = measure(tmp_path / "b.jsonl", replace(CONFIG, samples=10, holdout=8))
    assert [line.role for line in few].count("held_out") == 6  # two thirds at most
    held_out = [line.config for line in lines if line.role == "held_out"]
    assert SPACE.largest not in held_out
    assert SPACE.smallest not in held_out


def test_those_held_out_are_timed_among_the_others(
    tmp_path: Path, pretend: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that changes in the course of a campaign changes for both alike."""
    monkeypatch.setattr(campaigning, "FIRST", 4)
    monkeypatch.setattr(campaigning, "AT_ONCE", 3)
    measure(tmp_path / "a.jsonl", replace(CONFIG, samples=20, holdout=10))
    roles = [line.role for line in read_jsonl(tmp_path / "a.jsonl", Measurement)]
    assert len(roles) == 20
    for end in range(2, 21):
        assert abs(roles[:end].count("held_out") - end / 2) <= 1


def test_a_campaign_that_was_killed_goes_on(
    tmp_path: Path, pretend: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the midst of the subnets that a predictor has chosen."""
    monkeypatch.setattr(campaigning, "FIRST", 4)
    monkeypatch.setattr(campaigning, "AT_ONCE", 3)
    config = replace(CONFIG, samples=14, holdout=2)
    whole = [(line.config, line.role) for line in measure(tmp_path / "whole.jsonl", config)]
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    for kept in (0, 3, 5, 8, 11):
        path = tmp_path / f"killed{kept}.jsonl"
        path.write_text("".join(lines[:kept]) + lines[kept][:40])  # killed in the middle of a line
        pretend.clear()
        assert [(line.config, line.role) for line in measure(path, config)] == whole
        assert len(pretend) == 1 + 14 - kept  # the reference and those that were missing
        assert [line.config for line in read_jsonl(path, Measurement)] == [subnet for subnet, _ in whole]
    pretend.clear()
    again = measure(tmp_path / "whole.jsonl", config)
    assert [(line.config, line.role) for line in again] == whole
    assert len(pretend) <= 1  # nothing is left to time


def test_several_passes_over_the_same_subnets(
    tmp_path: Path, pretend: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed anywhere, it goes on: what was chosen by the first pass is not chosen anew by the means."""
    monkeypatch.setattr(campaigning, "FIRST", 4)
    monkeypatch.setattr(campaigning, "AT_ONCE", 3)
    config = replace(CONFIG, samples=14, holdout=2, passes=3)
    path = tmp_path / "measurements.jsonl"
    whole = measure(path, config)
    assert len(pretend) == 1 + 3 * 14
    stored = read_jsonl(path, Measurement)
    order = [line.config for line in stored]
    assert order[:14] == order[14:28] == order[28:] == [line.config for line in whole]
    for line in whole:
        own = [other for other in stored if other.config == line.config]
        assert line.passes == len(own) == 3
        assert line.ratio == pytest.approx(statistics.geometric_mean(other.ratio for other in own))
        assert line.rounds == sum(other.rounds for other in own)
    lines = path.read_text().splitlines(keepends=True)
    for kept in (11, 14, 20, 33):
        killed = tmp_path / f"killed{kept}.jsonl"
        killed.write_text("".join(lines[:kept]))
        measure(killed, config)
        assert [line.config for line in read_jsonl(killed, Measurement)] == order
    pretend.clear()
    assert [line.passes for line in measure(path, replace(config, passes=1))] == [3] * 14  # none too many
    assert len(pretend) <= 1


class Shared(Here):
    """A machine on which others work now and then: all takes longer, the reference the least."""

    slow: Callable[[int, int], bool] = staticmethod(lambda size, turn: size % 3 == 0 and turn <= 14)
    said: ClassVar[list[int]] = []

    def _time(self, network: Any, example: Tensor) -> Timed:
        timed = super()._time(network, example)
        self.said.append(network.size)
        if not self.slow(network.size, len(self.said)):
            return timed
        reference = replace(timed.reference, time_ms=1.3 * timed.reference.time_ms)
        subnet = replace(timed.subnet, time_ms=2.6 * timed.subnet.time_ms, ratio=2 * timed.subnet.ratio)
        return replace(timed, reference=reference, subnet=subnet)


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Shared]]:
    monkeypatch.setattr(Shared, "said", [])
    progress.enable(True)
    yield Shared
    progress.enable(False)


def test_what_was_timed_while_the_reference_was_slow_is_timed_again(
    tmp_path: Path, pretend: list[int], shared: type[Shared], capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed anywhere, it goes on with what is missing."""
    config, path = replace(CONFIG, samples=14, holdout=2, retries=2), tmp_path / "measurements.jsonl"
    lines = measure(path, config, connect=shared)
    slowed = [line.config for line in lines if size_of(line.config) % 3 == 0]
    assert 0 < len(slowed) < 14
    for line in lines:
        assert (line.ratio, line.passes) == (pytest.approx(size_of(line.config) / REFERENCE), 1)
    order = [line.config for line in read_jsonl(path, Measurement)]
    assert order[14:] == slowed
    assert (
        f"{len(slowed)} of 14 subnets were timed while other work slowed the reference by over 5 %; timed again"
        in (said := capsys.readouterr().out)
    )
    assert "each time" not in said
    text = path.read_text().splitlines(keepends=True)
    for kept in (9, 14, 15, len(text)):
        shared.said[:] = [size_of(config) for config in order[:kept]]
        killed = tmp_path / f"killed{kept}.jsonl"
        killed.write_text("".join(text[:kept]))
        assert [line.ratio for line in measure(killed, config, connect=shared)] == [
            line.ratio for line in lines
        ]
        assert [line.config for line in read_jsonl(killed, Measurement)] == order


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_retries_end_and_the_calmest_timing_counts(
    tmp_path: Path, pretend: list[int], shared: type[Shared], retries: int,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(shared, "slow", staticmethod(lambda size, turn: size % 3 == 0))
    path = tmp_path / "measurements.jsonl"
    lines = measure(path, replace(CONFIG, retries=retries), connect=shared)
    slowed = [line.config for line in lines if line.ratio > 1.5 * size_of(line.config) / REFERENCE]
    assert slowed == [line.config for line in lines if size_of(line.config) % 3 == 0]
    assert len(read_jsonl(path, Measurement)) == 12 + retries * len(slowed)
    assert f"{len(slowed)} of 12 subnets were timed while other work" in (said := capsys.readouterr().out)
    assert "by over 5 %, each time" in said
    assert ("timed again" in said) == (retries > 0)


def test_more_samples_go_on_with_the_same_ones(tmp_path: Path, pretend: list[int]) -> None:
    path = tmp_path / "measurements.jsonl"
    few = measure(path)
    pretend.clear()
    more = measure(path, replace(CONFIG, samples=18))
    assert {line.config for line in few} < {line.config for line in more}
    assert len(more) == 18
    assert len(pretend) == 1 + 6


def test_a_subnet_is_timed_at_its_resolution(
    tmp_path: Path, pretend: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = SearchSpace(
        choices=(Choice(name="resolution", dim="resolution", values=(8, 12, 16)), *SPACE.choices)
    )
    seen: list[tuple[int, ...]] = []

    def prepare(network: Any, hw: HwConfig, example: Tensor | None) -> Any:
        assert example is not None
        seen.append(tuple(example.shape))
        return pretended.prepare(network, hw, example)

    pretended = BACKENDS["pretend"]
    monkeypatch.setitem(BACKENDS, "pretend", replace(pretended, prepare=prepare))
    lines = measure(tmp_path / "measurements.jsonl", space=space)
    sizes = [12, *(line.config["resolution"] for line in lines)]
    assert seen == [(1, 3, size, size) for size in sizes]
    assert len(set(sizes)) > 1


def test_a_small_space_is_measured_whole(tmp_path: Path, pretend: list[int]) -> None:
    tiny = SearchSpace(choices=(Choice(name="a.width", dim="width", values=(1, 2, 3)),))
    lines = measure(
        tmp_path / "m.jsonl",
        space=tiny,
        make=lambda config: Sized(config["a.width"]),
        costs=lambda config: costs(SubnetConfig(values={"a.width": config["a.width"], "b.width": 4})),
    )
    assert sorted(line.config["a.width"] for line in lines) == [1, 2, 3]
    assert [line.role for line in lines] == ["fit"] * 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 2}, "threads was 2, is 1"),
        ({"batch": 8}, "batch was 8, is 1"),
        ({"precision": "int8"}, "precision was int8, is f32"),
        (
            {"scenario": "throughput", "streams": 2},
            "streams was 2, is 0; scenario was throughput, is latency",
        ),
        ({"space": "0" * 16}, f"space was {'0' * 16}, is {SPACE.digest}"),
        ({"hardware": {"cpu": "Z80"}}, "cpu was Z80, is "),
        ({"hardware": {"physical_cores": 77}}, "physical_cores was 77, is "),
        ({"hardware": {"runtime_version": "2019.R2"}}, "runtime_version was 2019.R2, is "),
        ({"hardware": {"flags": ["mmx"]}}, "flags was mmx, is "),
    ],
)
def test_measurements_made_otherwise_are_kept_and_not_used(
    tmp_path: Path, pretend: list[int], change: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "measurements.jsonl"
    first = measure(path)
    change = dict(change)
    hardware = to_plain(first[0].hardware) | change.pop("hardware", {})
    others = [
        from_plain(Measurement, to_plain(line) | change | {"hardware": hardware, "ratio": 9.0})
        for line in first
    ]
    path.unlink()
    for line in others:
        append_jsonl(path, line)
    progress.enable(True)
    try:
        now = measure(path)
    finally:
        progress.enable(False)
    assert [line.config for line in now] == [line.config for line in first]
    assert all(line.ratio < 9.0 for line in now)
    assert len(list(read_jsonl(path, Measurement))) == 2 * len(first)
    assert f"measure: {said}" in capsys.readouterr().out


def test_memory_and_kernel_may_change(tmp_path: Path, pretend: list[int]) -> None:
    path = tmp_path / "measurements.jsonl"
    whole = measure(path)
    path.write_text(
        path.read_text().replace('"memory_gib":', '"memory_gib":1').replace('"os":"', '"os":"New ')
    )
    pretend.clear()
    assert [line.config for line in measure(path)] == [line.config for line in whole]
    assert len(pretend) <= 1


def test_a_damaged_line_is_named(tmp_path: Path, pretend: list[int]) -> None:
    path = tmp_path / "measurements.jsonl"
    measure(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "{}\n" + "".join(lines[2:]))
    with pytest.raises(RunError, match=r"line 2"):
        measure(path)


class Backwards:
    """A device that takes three networks at once, and answers the last one first."""

    capacity = 3

    def __init__(self, hw: HwConfig, config: MeasureConfig, reference: Any, example: Tensor) -> None:
        self._here = Here(hw, config, reference, example)
        self.hardware: Hardware = self._here.hardware
        self._waiting: list[tuple[int, Any, Tensor]] = []

    def submit(self, key: int, network: Any, example: Tensor) -> None:
        self._waiting.append((key, network, example))
        assert len(self._waiting) <= self.capacity

    def results(self) -> Iterator[tuple[int, Timed]]:
        self._here.submit(*self._waiting.pop())
        yield from self._here.results()

    def close(self) -> None:
        assert not self._waiting


def test_a_device_may_answer_in_any_order(tmp_path: Path, pretend: list[int]) -> None:
    here = measure(tmp_path / "here.jsonl")
    there = measure(tmp_path / "there.jsonl", connect=Backwards)
    assert [(line.config, line.role) for line in there] == [(line.config, line.role) for line in here]
    assert [line.time_ms for line in there] == pytest.approx([line.time_ms for line in here])
    written = [line.config for line in read_jsonl(tmp_path / "there.jsonl", Measurement)]
    assert written != [line.config for line in here]
    assert set(written) == {line.config for line in here}


def test_a_network_that_cannot_be_timed_stops_it_with_what_is_done_kept(
    tmp_path: Path, pretend: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(network: Any, hw: HwConfig, example: Tensor | None) -> Any:
        if network.size == 8 + 4:
            raise MeasureError("Pretend cannot run the operation Sized")
        return pretended.prepare(network, hw, example)

    pretended = BACKENDS["pretend"]
    monkeypatch.setitem(BACKENDS, "pretend", replace(pretended, prepare=prepare))
    with pytest.raises(MeasureError, match="operation Sized"):
        measure(tmp_path / "m.jsonl")
    assert [line.config for line in read_jsonl(tmp_path / "m.jsonl", Measurement)] == [SPACE.largest]


def test_a_real_campaign_in_int8(tmp_path: Path) -> None:
    """OpenVINO and NNCF on networks whose sizes are far apart."""
    space = SearchSpace(choices=(Choice(name="width", dim="width", values=(8, 96)),))
    lines = measure(
        tmp_path / "measurements.jsonl",
        replace(CONFIG, min_rounds=20, max_rounds=40, warmup_ms=5),
        space=space,
        make=lambda config: small_net(config["width"]),
        costs=lambda config: costs(SubnetConfig(values={"a.width": config["width"], "b.width": 4})),
        hw=HwConfig(threads=1),
    )
    assert [line.config["width"] for line in lines] == [96, 8]
    assert lines[1].ratio < 1
    assert lines[1].size_bytes < lines[0].size_bytes
    assert lines[0].precision == "int8"
    assert lines[0].hardware.runtime == "openvino"


def test_for_int8_networks_are_quantized_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[type] = []

    def prepare(network: Any, hw: HwConfig, example: Tensor | None) -> Callable[[], None]:
        kinds.append(type(network))
        return lambda: None

    ticks = iter(range(10**6))
    monkeypatch.setattr(timing, "now", lambda: float(next(ticks)))
    monkeypatch.setitem(BACKENDS, "openvino", replace(BACKENDS["openvino"], prepare=prepare))
    space = SearchSpace(choices=(Choice(name="width", dim="width", values=(8, 16)),))
    measure(
        tmp_path / "measurements.jsonl",
        space=space,
        make=lambda config: small_net(config["width"]),
        hw=HwConfig(threads=1),
        quantizer=NncfPTQ(bias_correction="none"),
    )
    assert kinds == [Quantized] * (2 + device.INSTANCES)
