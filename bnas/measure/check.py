"""`bnas measure --check`: how noisy this machine is, what error to expect of a measurement, and what to do.

Small built-in networks are timed against one another by the protocol of a campaign, again and again: the very
network that is the reference, one of about half the work and one of about an eighth, each prepared anew every
time and timed twice. As nothing but the machine changes, all that differs is noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Literal

import torch
from torch import Tensor, nn

from bnas import progress
from bnas.errors import MeasureError
from bnas.measure import timing
from bnas.measure.advice import Findings, advice_for
from bnas.measure.backends import Network, backend_of, prepare
from bnas.measure.check_table import print_check
from bnas.measure.hardware import Hardware, HwConfig, detect, pinned
from bnas.measure.machine import Activity, Watch
from bnas.measure.noise import Noise, Trial, noise_of
from bnas.measure.timing import MeasureConfig, time_interleaved
from bnas.quantize import NncfPTQ, QuantizeConfig

__all__ = ["NoiseReport", "check", "print_check"]

SIZES = {
    "the same network": 64,
    "half the work": 44,
    "an eighth": 22,
}  # name: channels; the first is the reference
QUIET_PERCENT = 1.5  # the protocol's ±1 % and what preparing a network adds to it
QUIET_DISTURBED_PERCENT = 10.0  # of the blocks
_LEAST = 3  # preparations of each network, however long that takes
_REFERENCE, _NETWORK = "reference", "network"


Verdict = Literal["quiet", "usable", "too noisy"]


@dataclass(frozen=True, kw_only=True)
class NoiseReport:
    """What `check` found: the machine, what it did meanwhile, the figures, and what to do about them.

    A campaign's measurement will take about `rounds` rounds and be off by `error_percent` (95 %).
    `equal_percent` is by how much the reference seemed to differ from itself: the median of its ratios to
    networks that were prepared from the same file, off 1. `needed_rounds` make a measurement good to ±1 %; None
    where no number does.
    """

    hw: HwConfig
    hardware: Hardware
    activity: Activity
    noise: Noise
    rounds: int
    error_percent: float
    needed_rounds: int | None
    equal_percent: float
    verdict: Verdict
    advice: tuple[str, ...]


def check(
    hw: HwConfig,
    config: MeasureConfig,
    *,
    seconds: float = 15.0,
    quantizer: QuantizeConfig | None = None,
) -> NoiseReport:
    """Time the built-in networks on `hw` for about `seconds`, beyond what converting and quantizing them takes.

    Quiet: a measurement of a campaign will be as exact as `config` asks for, and little disturbs it. Too
    noisy: its error will be above what `config` allows for, and no predictor would be fitted.

    Raises:
        MeasureError: `hw` is another machine, or its runtime does not run the networks.
        MissingPackageError: the runtime is not installed.
    """
    if hw.where != "here":
        raise MeasureError(
            f"hw.where: {hw.name} is another machine (where={hw.where}); run `bnas measure --check` on it itself"
        )
    networks, example = _deployed(hw, quantizer or NncfPTQ())
    watch = Watch(hw.cpu_list)
    trials = list(_trials(networks, example, hw, config, seconds, watch))
    noise, activity, hardware = noise_of(trials), watch.activity(), detect(hw)
    rounds = noise.rounds_until(config.target_ratio_error_percent, config)
    error = noise.error_at(rounds)
    verdict: Verdict = "usable" if error <= config.max_ratio_error_percent else "too noisy"
    exact = error <= max(config.target_ratio_error_percent, QUIET_PERCENT)
    if exact and noise.disturbed_percent <= QUIET_DISTURBED_PERCENT:
        verdict = "quiet"
    findings = Findings(
        hw=hw, hardware=hardware, activity=activity, noise=noise, config=config, quiet=verdict == "quiet"
    )
    return NoiseReport(
        hw=hw,
        hardware=hardware,
        activity=activity,
        noise=noise,
        rounds=rounds,
        error_percent=error,
        needed_rounds=noise.rounds_for(1.0),
        equal_percent=100 * abs(noise.networks[0].ratio - 1),
        verdict=verdict,
        advice=advice_for(findings),
    )


def _trials(
    networks: dict[str, Network],
    example: Tensor,
    hw: HwConfig,
    config: MeasureConfig,
    seconds: float,
    watch: Watch,
) -> Iterator[Trial]:
    # No more rounds where it is noisy: what more of them would give can be told, and noise costs time enough.
    config = replace(config, max_rounds=config.min_rounds)
    begin = timing.now()
    with pinned(hw), progress.bar("check", round(seconds)) as step:
        reference = prepare(next(iter(networks.values())), hw, example)
        shown = 0
        for preparation in count():
            for name, network in networks.items():
                runner = prepare(network, hw, example)
                for _ in range(2):
                    timed = time_interleaved({_REFERENCE: reference, _NETWORK: runner}, config)
                    yield Trial(
                        network=name,
                        preparation=preparation,
                        timing=timed[_NETWORK],
                        reference=timed[_REFERENCE],
                    )
                    watch.glance()
            spent = timing.now() - begin
            step(min(round(spent), round(seconds)) - shown)
            shown = min(round(spent), round(seconds))
            if preparation + 1 >= _LEAST and spent >= seconds:
                return


def _deployed(hw: HwConfig, quantizer: QuantizeConfig) -> tuple[dict[str, Network], Tensor]:
    deploy = backend_of(hw).deploy(hw, quantizer)
    example = torch.zeros(hw.batch, 3, 64, 64)
    return {name: deploy(_network(width), example) for name, width in SIZES.items()}, example


def _network(width: int) -> nn.Module:
    """Convolutions, a few hundred million multiply-accumulates at 64 channels, whatever the weights."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, stride=2, padding=1), nn.ReLU()]
        for _ in range(6):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
        return nn.Sequential(*layers).eval()
