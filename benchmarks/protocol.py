"""What the timing protocol is worth: `OMP_WAIT_POLICY=PASSIVE python -m benchmarks.protocol [--blocks | --int8]`.

In INT8, one thread. Nothing else should run meanwhile. Four questions, on ResNet-50 at 64² and 224² and
MobileNetV3, each answered by timing the same subnet again and again:

- how long is a network disturbed by another one that ran before it (its calls one after the other)?
- which reference: how far do ratios spread beside the largest network, and beside the middle of the space?
- which blocks: how far beside the middle, with blocks of one call and of about 3 to 50 ms, fewer of longer ones,
  so that a timing takes about as long?
- INT8: is a network with made-up ranges, with quantizers put where NNCF put them in another subnet, as fast as
  one that NNCF has calibrated on images? And what of the time is saved by ranges that begin at zero
  (docs/decisions/0021)? `--mobilenet-v2 FILE` adds a network with published weights.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from unittest.mock import patch

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

import bnas
from benchmarks.latency_cases import CASES, Case
from benchmarks.outcome import Bar, print_outcome
from bnas.measure import HwConfig, MeasureConfig, Runner, prepare, time_interleaved
from bnas.measure.campaign import reference_of
from bnas.measure.hardware import pinned
from bnas.quantize import NncfPTQ, nncf_ptq, quantize
from bnas.quantize.placement import Placement

NETWORKS = ("resnet50_64", "mobilenet_v3_large", "resnet50_224")
PTQ = NncfPTQ(samples=64, bias_correction="none")
ROUNDS = 50
BLOCKS = (  # beside which reference, milliseconds, rounds
    ("largest", 3.0, ROUNDS),
    ("middle", 0.01, 65),
    ("middle", 3.0, ROUNDS),
    ("middle", 10.0, 32),
    ("middle", 20.0, 21),
    ("middle", 50.0, 11),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mobilenet-v2", type=Path, help="torchvision's published weights")
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="few repeats of the first network")
    part = parser.add_mutually_exclusive_group()
    part.add_argument("--int8", action="store_true", help="the last question alone")
    part.add_argument("--blocks", action="store_true", help="all but the last question")
    options = parser.parse_args()
    repeats = 3 if options.quick else options.repeats
    names = () if options.int8 else NETWORKS[:1] if options.quick else NETWORKS
    torch.set_num_threads(1)
    figures: dict[str, object] = {}
    bars: dict[str, Bar] = {}
    for name in names:
        with pinned(CASES[name].hw):
            figures[name] = _protocol(name, CASES[name], repeats)
    if not options.blocks:
        with pinned(HwConfig(threads=1)):
            figures["int8"] = _int8(options.mobilenet_v2, repeats, bars, quick=options.quick)
    print_outcome("protocol", figures, bars)


def _protocol(name: str, case: Case, repeats: int) -> dict[str, object]:
    family, rng = case.family, np.random.default_rng(3)
    placement = Placement(PTQ)
    runners = {
        which: prepare(placement.quantize(family.make(subnet), family.example), case.hw, family.example)
        for which, subnet in (
            ("largest", family.space.largest),
            ("middle", reference_of(family.space)),
            ("subnet", family.space.sample(rng)),
        )
    }
    after = {which: _after(runners[which], runners["subnet"]) for which in ("largest", "middle")}
    print(f"\n{name}: calls of a subnet, milliseconds, medians of 30 rounds")
    for which, calls in after.items():
        print(f"  after the {which:7}: {'  '.join(f'{call:.3f}' for call in calls)}")
    timings: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(repeats):  # in turn, so that a machine that changes changes for all
        for which, block_ms, rounds in BLOCKS:
            config = MeasureConfig(min_rounds=rounds, max_rounds=rounds, block_ms=block_ms)
            pair = {"reference": runners[which], "subnet": runners["subnet"]}
            key = f"{which}, {rounds} blocks of {block_ms:g} ms"
            timings.setdefault(key, []).append(_timing(pair, config))
    spreads = {key: _spread(own) for key, own in timings.items()}
    for key, (ratio, claimed, seconds) in spreads.items():
        print(
            f"  beside the {key:28}: ratios of {repeats} timings spread by {ratio:.2f} % (standard deviation); "
            f"each said ±{claimed:.2f} % (95 %), took {seconds:.2f} s"
        )
    return {"after": after, "spread_percent": spreads}


def _after(other: Runner, run: Runner) -> list[float]:
    rows = []
    for _ in range(30):
        for _ in range(4):
            other()
        row = []
        for _ in range(10):
            begin = time.perf_counter()
            run()
            row.append((time.perf_counter() - begin) * 1000)
        rows.append(row)
    return [median(column) for column in zip(*rows, strict=True)]


def _timing(pair: Mapping[str, Callable[[], object]], config: MeasureConfig) -> tuple[float, float, float]:
    """The ratio, what its timing says of itself in per cent, and seconds."""
    begin = time.perf_counter()
    timing = time_interleaved(pair, config)["subnet"]
    return timing.ratio, timing.ratio_error_percent, time.perf_counter() - begin


def _spread(timings: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Standard deviation of the ratio, what each says of itself, both in per cent; and seconds."""
    ratios, claimed, seconds = zip(*timings, strict=True)
    return 100 * float(np.std(ratios, ddof=1) / np.mean(ratios)), median(claimed), median(seconds)


def _int8(weights: Path | None, repeats: int, bars: dict[str, Bar], *, quick: bool) -> dict[str, object]:
    """Ratio of a network with made-up ranges to the same network calibrated, each made anew every time."""
    print("\nINT8: ÷ calibrated, in turn")
    found: dict[str, dict[str, list[float]]] = {}
    images = _images()
    for name in (
        ("resnet50",) if quick else ("resnet50", "regnet_y_400mf", "mobilenet_v3_large", "mobilenet_v2")
    ):
        if name == "mobilenet_v2" and weights is None:
            continue
        model = bnas.load_model(
            bnas.ModelConfig(name=name, weights="none" if name != "mobilenet_v2" else str(weights)),
            shape=(3, 224, 224),
            num_classes=1000,
        )[0].eval()
        ratios = [_calibrated_or_not(model, images) for _ in range(max(3, repeats // 2))]
        found[name] = {what: [own[what] for own in ratios] for what in ratios[0]}
        print(
            f"  {name:20} "
            + "; ".join(
                f"{what} {median(own):.4f} ({min(own):.4f} to {max(own):.4f})"
                for what, own in found[name].items()
            )
        )
        made_up = median(found[name]["made up"])
        bars[f"int8 {name}: made-up ÷ calibrated, off by"] = Bar(value=abs(made_up - 1), goal="<= 0.01")
    return dict(found)


def _calibrated_or_not(model: nn.Module, images: Sequence[Tensor]) -> dict[str, float]:
    example = images[0]
    placement = Placement(PTQ)
    placement.quantize(model, example)  # learnt here, used on the next line
    hw, config = HwConfig(threads=1), MeasureConfig(min_rounds=ROUNDS, max_rounds=ROUNDS)
    with patch.object(nncf_ptq, "begin_at_zero"):
        as_left = prepare(quantize(model, PTQ, images, example), hw, example)
    timings = time_interleaved(
        {
            "calibrated": prepare(quantize(model, PTQ, images, example), hw, example),
            "made up": prepare(placement.quantize(model, example), hw, example),
            "calibrated anew": prepare(quantize(model, PTQ, images, example), hw, example),
            "as NNCF leaves it": as_left,
        },
        config,
    )
    assert placement.by_nncf == 1
    return {what: own.ratio for what, own in timings.items() if what != "calibrated"}


def _images() -> list[Tensor]:
    """Photographs of clothes, three times grey, at 224²."""
    data = bnas.load_data(bnas.DataConfig())
    batch, _ = data.train.batch(range(PTQ.samples))
    batch = torchvision.transforms.functional.resize(batch, [224, 224], antialias=True)
    return [image[None].expand(1, 3, -1, -1).contiguous() for image in batch]


if __name__ == "__main__":
    main()
