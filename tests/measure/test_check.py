from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from torch import nn

from bnas.errors import MeasureError
from bnas.measure import timing
from bnas.measure.backends import BACKENDS, Backend
from bnas.measure.check import NoiseReport, check, print_check
from bnas.measure.hardware import HwConfig
from bnas.measure.machine import Activity
from bnas.measure.timing import MeasureConfig
from bnas.plain import from_plain, to_plain

checking = importlib.import_module("bnas.measure.check")  # the package has a function of this name
QUICK = MeasureConfig(min_rounds=4, warmup_ms=0, settle_ms=0, block_ms=1.0)


class Clock:
    """Moves only when a network runs, by what its work and the noise of the machine make it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.draw = torch.Generator().manual_seed(0)

    def normal(self) -> float:
        return float(torch.randn((), generator=self.draw))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets a backend whose networks take 1 ms for each million weights, with noise of these per cents."""

    def set_noise(*, rounds: float = 0.0, preparing: float = 0.0) -> None:
        clock = Clock()
        monkeypatch.setattr(timing, "now", lambda: clock.seconds)
        # what really disturbs this machine has no part in the simulated one
        monkeypatch.setattr(timing.Witness, "disturbed", lambda self: False)

        def prepare(network: object, hw: HwConfig, example: object) -> Callable[[], None]:
            assert isinstance(network, nn.Module)
            work = sum(weights.numel() for weights in network.parameters()) / 1e6 / 1000
            work *= 1 + preparing / 100 * clock.normal()

            def run() -> None:
                clock.seconds += work * (1 + rounds / 100 * clock.normal())

            return run

        backend = Backend(
            package="torch",
            precisions=("f32",),
            prepare=prepare,  # type: ignore[arg-type]
            deploy=lambda hw, quantizer: lambda module, example: module,
        )
        monkeypatch.setitem(BACKENDS, "simulated", backend)

    return set_noise


def simulated(config: MeasureConfig = QUICK, seconds: float = 0.4) -> NoiseReport:
    return check(HwConfig(backend="simulated", precision="f32", threads=1), config, seconds=seconds)


def test_a_machine_without_noise_is_quiet(machine: Callable[..., None]) -> None:
    machine()
    report = simulated()
    assert report.verdict == "quiet"
    assert report.error_percent == pytest.approx(0, abs=1e-6)
    assert report.needed_rounds == 1
    assert report.equal_percent == pytest.approx(0, abs=1e-6)
    same, half, eighth = report.noise.networks
    assert (same.name, half.name) == ("the same network", "half the work")
    assert same.ratio == pytest.approx(1)
    assert half.ratio == pytest.approx(0.48, abs=0.04)
    assert eighth.ratio == pytest.approx(0.125, abs=0.02)


def test_noise_from_round_to_round_needs_more_rounds(machine: Callable[..., None]) -> None:
    machine(rounds=3.0)
    report = simulated(replace(QUICK, block_ms=0.01), seconds=2.0)  # a call a block
    # the ratio of two blocks: √2 · 3 %; the median of 4 of them: √(π/2/4) of that; 95 %: 1.96
    assert report.noise.error_percent == pytest.approx(1.96 * 3 * 2**0.5 * 0.63, rel=0.25)
    assert report.noise.floor_percent < 0.6 * report.noise.error_percent
    assert report.rounds > report.noise.rounds == 4
    assert report.error_percent < report.noise.error_percent


def test_noise_from_preparing_anew_is_told_apart_and_no_rounds_help(machine: Callable[..., None]) -> None:
    machine(preparing=4.0)
    report = simulated(seconds=2.0)
    # of 4 % standard deviation; some tens of preparations tell it roughly
    assert 0.6 * 1.96 * 4 <= report.noise.error_percent <= 2 * 1.96 * 4
    assert report.noise.floor_percent == pytest.approx(report.noise.error_percent, rel=0.05)
    assert report.needed_rounds is None
    assert report.verdict == "too noisy"
    assert any("preparing the same network anew" in text for text in report.advice)
    assert "no number of rounds" in printed(report)


def test_between_quiet_and_too_noisy_is_usable(machine: Callable[..., None]) -> None:
    machine(preparing=1.5)
    assert simulated(seconds=2.0).verdict == "usable"


def test_it_ends_in_time_whatever_the_rounds_asked_for(machine: Callable[..., None]) -> None:
    machine(rounds=30.0)
    report = simulated(replace(QUICK, max_rounds=100_000), seconds=0.1)
    assert report.noise.rounds == QUICK.min_rounds
    assert report.noise.preparations == checking._LEAST * 3


def test_another_machine_is_checked_there() -> None:
    with pytest.raises(MeasureError, match=r"cpu is another machine \(where=ray\); run .* on it itself"):
        check(HwConfig(where="ray", device="x"), QUICK)


def printed(report: NoiseReport, width: int = 80) -> str:
    console = Console(width=width, record=True, file=None, quiet=False, force_terminal=False)
    with console.capture() as capture:
        print_check(report, console)
    return capture.get()


@pytest.mark.parametrize("width", [80, 200])
def test_the_table_says_what_was_found(machine: Callable[..., None], width: int) -> None:
    machine(rounds=1.0)
    report = replace(simulated(), advice=("stop [bold]that[/bold]",))
    text = printed(report, width)
    assert text.startswith(f"cpu (simulated, f32, 1 thread) is {report.verdict}: expect an error of ±")
    for network in report.noise.networks:
        assert f"{network.name} " in text
        assert f"{network.ratio:.4f}" in text
    assert f"±{report.noise.error_percent:.2f} %" in text
    assert "- stop [bold]that[/bold]" in text
    assert all(len(line) <= width for line in text.splitlines()[2:-1])


def test_what_cannot_be_read_is_said_so(machine: Callable[..., None]) -> None:
    machine()
    report = simulated()
    unknown = Activity(seconds=1.0)
    text = printed(replace(report, activity=unknown, hardware=replace(report.hardware, cpus=())), 200)
    assert text.count("not readable") == 7
    assert "not pinned" in text


def test_a_report_is_plain_data(machine: Callable[..., None]) -> None:
    machine(rounds=1.0)
    report = simulated()
    assert from_plain(NoiseReport, to_plain(report)) == report


def test_openvino_runs_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARM_BLOCKS", 3)
    monkeypatch.setattr(checking, "_LEAST", 2)
    begin = time.perf_counter()
    report = check(HwConfig(precision="f32", threads=1), QUICK, seconds=0.1)
    assert report.noise.preparations >= 6
    assert report.activity.seconds <= time.perf_counter() - begin
    ratios = [network.ratio for network in report.noise.networks]
    assert ratios[2] < ratios[1] < ratios[0]  # twice the work is slower, on any machine
    assert report.hardware.runtime == "openvino"
