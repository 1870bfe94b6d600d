from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from time import sleep
from typing import Any, Literal

import pytest
import torch
from small_networks import small_net

from bnas.measure import BACKENDS, HwConfig, MeasureConfig, device, timing
from bnas.measure.device import Here
from bnas.measure.disturbance import Calm, Witness

CONFIG = MeasureConfig(min_rounds=2, max_rounds=2, block_ms=1.0, warmup_ms=0, settle_ms=0)


@pytest.mark.parametrize(("milliseconds", "middle"), [([9, 4, 5, 4.5, 4.2], 4.5), ([4, 4, 7, 4, 4], 4)])
def test_of_several_instances_of_the_reference_the_one_in_the_middle_is_taken(
    monkeypatch: pytest.MonkeyPatch, milliseconds: list[float], middle: float
) -> None:
    """The same network, of which each instance takes its own time, as where its weights lie decides."""
    seconds, prepared = [0.0], count()

    def prepare(network: Any, hw: HwConfig, example: Any) -> Callable[[], None]:
        took = milliseconds[next(prepared) % len(milliseconds)]

        def run() -> None:
            seconds[0] += took / 1000

        return run

    monkeypatch.setattr(timing, "now", lambda: seconds[0])
    monkeypatch.setattr(Witness, "disturbed", lambda self: False)
    monkeypatch.setitem(BACKENDS, "torch_eager", replace(BACKENDS["torch_eager"], prepare=prepare))
    hw, example = HwConfig(backend="torch_eager", precision="f32", threads=1), torch.zeros(1, 3, 8, 8)
    here = Here(hw, CONFIG, small_net(8), example)
    assert next(prepared) == device.INSTANCES
    here.submit(0, small_net(8), example)
    ((_, timed),) = here.results()
    assert timed.reference.time_ms == pytest.approx(middle)


def test_a_large_network_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its instances are alike, and ten rounds of five would take minutes before anything is told."""
    prepared = count()
    monkeypatch.setattr(device, "_SMALL_S", 0.001)
    monkeypatch.setitem(
        BACKENDS, "torch_eager",
        replace(BACKENDS["torch_eager"], prepare=lambda *_: (next(prepared), lambda: sleep(0.01))[1]),
    )  # fmt: skip
    hw = HwConfig(backend="torch_eager", precision="f32", threads=1)
    Here(hw, CONFIG, small_net(8), torch.zeros(1, 3, 8, 8))
    assert next(prepared) == 1


def test_where_preparing_takes_long_one_instance_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = count()
    monkeypatch.setattr(device, "_PREPARING_S", 0.0)
    monkeypatch.setitem(
        BACKENDS, "torch_eager",
        replace(BACKENDS["torch_eager"], prepare=lambda *_: (next(prepared), lambda: None)[1]),
    )  # fmt: skip
    hw = HwConfig(backend="torch_eager", precision="f32", threads=1)
    Here(hw, CONFIG, small_net(8), torch.zeros(1, 3, 8, 8))
    assert next(prepared) == 1


@pytest.mark.parametrize("scenario", ["latency", "throughput"])
def test_only_single_inferences_wait_until_the_machine_is_calm(
    monkeypatch: pytest.MonkeyPatch, scenario: Literal["latency", "throughput"]
) -> None:
    told: list[Calm | None] = []
    inner = device.time_interleaved

    def timed(runners: Any, config: MeasureConfig, calm: Calm | None = None) -> Any:
        told.append(calm)
        return inner(runners, config, calm)

    hw = HwConfig(precision="f32", threads=1, scenario=scenario)
    here = Here(hw, CONFIG, small_net(8), torch.zeros(1, 3, 8, 8))
    monkeypatch.setattr(device, "time_interleaved", timed)
    here.submit(0, small_net(8), torch.zeros(1, 3, 8, 8))
    assert len(list(here.results())) == 1
    assert [calm is not None for calm in told] == [scenario == "latency"]
