"""What training costs: `python -m benchmarks.training [--quick] [--cases 8x224,64x64] [--device cpu|cuda]`.

ResNet-50 with random weights, channels-last, 2 threads, in float32 and bfloat16 (autocast), by batch and size of
the images. bnas's step is that of `bnas.train` on images that are ready (learning rate, drawing, activating,
`train_step`), without a teacher; the plain one is zero_grad, forward, cross entropy, backward, SGD's step and
`loss.item()`. Compared steps take turns (A B A B …, the order rotated); a ratio is the median over the rounds of
(one's time ÷ the other's in the same round). Peak memory is that of processes of their own.

Nothing else should run meanwhile. OMP_WAIT_POLICY=PASSIVE, so that threads that wait leave the processor to others,
is set by the program, which starts itself anew. About twenty minutes on two cores; --quick takes a few, and
its figures show only that it runs.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.outcome import Bar, print_outcome
from benchmarks.training_loops import loading, whole
from benchmarks.training_memory import KINDS, STEPS, peak_mib
from benchmarks.training_steps import (
    Case,
    Precision,
    Spent,
    bnas_step,
    elastic_resnet50,
    half_width,
    plain_step,
    resnet50,
    seconds,
)
from bnas.measure.timing import MeasureConfig, Timing, time_interleaved
from bnas.supernet import Supernet, extract_subnet
from bnas.train.precision import resolve_precision

CASES = {"cpu": "8x224,64x64", "cuda": "8x224,64x64,128x224"}
LOADED_SIZES, LOADED_BATCH = (32, 64), 64
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """How often each thing is done.

    rounds: of compared steps, at most. drawn: steps of random subnets. processes: that each peak of memory is
    measured in. loops: rounds of whole trainings, of `loop_steps` steps each; loads: rounds of data loading.
    """

    rounds: int = 40
    drawn: int = 40
    processes: int = 3
    loops: int = 3
    loop_steps: int = 10
    loads: int = 15

    @property
    def timing(self) -> MeasureConfig:
        return MeasureConfig(
            min_rounds=max(2, self.rounds // 2),
            max_rounds=self.rounds,
            block_ms=1.0,
            target_ratio_error_percent=0.2,
        )


QUICK = Repeats(rounds=2, drawn=3, processes=1, loops=1, loop_steps=2, loads=2)
ON_GPU = Repeats(rounds=300, drawn=300, processes=3, loops=5, loop_steps=150, loads=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few repeats")
    parser.add_argument("--cases", help="batch x pixels along a side, as 8x224,64x64")
    parser.add_argument("--precisions", default=",".join(get_args(Precision)))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    on_gpu = torch.device(options.device).type == "cuda"
    repeats = QUICK if options.quick else ON_GPU if on_gpu else Repeats()
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    name = torch.cuda.get_device_name(options.device) if on_gpu else "CPU"
    print(
        f"ResNet-50 on {name}, {options.threads} threads, torch {torch.__version__}, "
        f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY')}, load before: {load:.2f}\n{repeats}\n\n"
        "median (p10 … p90; repeats)"
    )
    cases = [
        Case(batch=batch, size=size, precision=precision, device=options.device)
        for batch, size in _shapes(options.cases or CASES["cuda" if on_gpu else "cpu"])
        for precision in options.precisions.split(",")
    ]
    figures: Figures = {
        "device": name,
        "threads": options.threads,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "load_before": load,
        "cases": {str(case): _measured(case, repeats, options.threads) for case in cases},
        "loading": {str(size): _loading(size, options.device, repeats) for size in LOADED_SIZES},
    }
    print()
    print_outcome("training", figures, _bars(figures, on_gpu=on_gpu))


def _shapes(cases: str) -> list[tuple[int, int]]:
    return [(int(batch), int(size)) for batch, size in (case.split("x") for case in cases.split(","))]


def _measured(case: Case, repeats: Repeats, threads: int) -> Figures:
    """All figures of one case; each is printed when it is known."""
    print(f"{case}", flush=True)
    memory = _memory(case, repeats, threads)
    supernet = elastic_resnet50(case)
    found = {
        "memory": memory,
        "largest": _largest(supernet, case, repeats),
        "half": _half(supernet, case, repeats),
        "random": _random(supernet, case, repeats),
    }
    del supernet
    _free()
    found["whole"] = _whole(case, repeats)
    _free()
    return found


def _largest(supernet: Supernet, case: Case, repeats: Repeats) -> dict[str, Timing]:
    with bnas_step(supernet, case, supernet.space.largest) as step:
        compared = {"plain": plain_step(resnet50(), case), "bnas": step}
        timings = time_interleaved(_finished(compared), repeats.timing)
    _line("  the largest's step ÷ the plain network's", timings["bnas"], timings["plain"])
    return timings


def _half(supernet: Supernet, case: Case, repeats: Repeats) -> dict[str, dict[str, Timing]]:
    """Whole steps, and steps without the optimizer's, which updates the whole of each weight."""
    config, found = half_width(supernet), {}
    for key, updates in (("step", True), ("forward_backward", False)):
        extracted = extract_subnet(supernet, config)
        with bnas_step(supernet, case, config, updates=updates) as step:
            compared = {"extracted": plain_step(extracted, case, updates=updates), "active": step}
            timings = time_interleaved(_finished(compared), repeats.timing)
        what = "step" if updates else "forward and backward"
        _line(f"  half width's {what} ÷ its extracted module's", timings["active"], timings["extracted"])
        found[key] = timings
    return found


def _random(supernet: Supernet, case: Case, repeats: Repeats) -> Figures:
    """What drawing and activating take of each step of a random subnet."""
    spent = Spent()
    with bnas_step(supernet, case, None, spent=spent) as step:
        for _ in range(3):
            step()
        spent.drawing.clear()
        spent.activating.clear()
        steps = [seconds(step) for _ in range(repeats.drawn)]
    both = [drawing + activating for drawing, activating in zip(spent.drawing, spent.activating, strict=True)]
    found = {
        "step_ms": _spread([1000 * each for each in steps]),
        "drawing_ms": _spread([1000 * each for each in spent.drawing]),
        "activating_ms": _spread([1000 * each for each in spent.activating]),
        "share_percent": _spread([100 * own / step for own, step in zip(both, steps, strict=True)]),
    }
    of_step = f"of {found['step_ms']['median']:.0f} ms"
    print(f"{'  drawing and activating, % of a random step':<64}{_text(found['share_percent'])}  {of_step}")
    return found


def _memory(case: Case, repeats: Repeats, threads: int) -> Figures:
    runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(repeats.processes):
        for kind in KINDS:
            runs[kind].append(peak_mib(kind, case, threads))
    peaks = {kind: [run["peak"] for run in own] for kind, own in runs.items()}
    found: Figures = {"peak_mib": {kind: _spread(own) for kind, own in peaks.items()}}
    found["before_mib"] = {kind: _spread([run["before"] for run in own]) for kind, own in runs.items()}
    for kind in KINDS[1:]:
        ratios = [own / plain for own, plain in zip(peaks[kind], peaks["plain"], strict=True)]
        found[kind] = _spread(ratios)
        what = f"  peak memory of {STEPS} steps, {kind} ÷ plain"
        print(
            f"{what:<64}{_text(found[kind])}  of {found['peak_mib']['plain']['median']:.0f} MiB", flush=True
        )
    return found


def _whole(case: Case, repeats: Repeats) -> Figures:
    speeds = whole(case, rounds=repeats.loops, steps=repeats.loop_steps, warm=2)
    found = {name: _spread(own) for name, own in speeds.items()}
    for peer in ("torchvision", "ready"):
        found[f"bnas ÷ {peer}"] = _spread(_ratios(speeds["bnas"], speeds[peer]))
    for peer, what in (("torchvision", "with torch's DataLoader"), ("ready", "without loading")):
        label = f"  images per second, bnas ÷ plain {what}"
        of_peer = f"of {found[peer]['median']:.1f}"
        print(f"{label:<64}{_text(found[f'bnas ÷ {peer}'])}  {of_peer}", flush=True)
    return found


def _loading(size: int, device: str, repeats: Repeats) -> Figures:
    kind = resolve_precision("auto", torch.device(device))
    assert kind != "float16"
    case = Case(batch=LOADED_BATCH, size=size, precision=kind, device=device)
    speeds = loading(case, rounds=repeats.loads, count=50)
    found = {name: _spread(own) for name, own in speeds.items()}
    for subnet in ("largest", "smallest"):
        found[f"loading ÷ {subnet}"] = _spread(_ratios(speeds["loading"], speeds[subnet]))
        label = f"loading ÷ the {subnet}'s step, images per second, {size}²"
        of_subnet = f"of {found[subnet]['median']:.0f}"
        print(f"{label:<64}{_text(found[f'loading ÷ {subnet}'])}  {of_subnet}", flush=True)
    _free()
    return found


def _finished(steps: Mapping[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """The steps, which return when the GPU is done with them."""
    return {name: lambda step=step: seconds(step) for name, step in steps.items()}  # type: ignore[misc]


def _ratios(ones: list[float], others: list[float]) -> list[float]:
    return [one / other for one, other in zip(ones, others, strict=True)]


def _spread(values: list[float]) -> dict[str, float]:
    p10, middle, p90 = (float(value) for value in np.percentile(values, [10, 50, 90]))
    return {"median": middle, "p10": p10, "p90": p90, "repeats": len(values)}


def _text(spread: dict[str, float]) -> str:
    low, high = f"{spread['p10']:.3f}", f"{spread['p90']:.3f}"
    return f"{spread['median']:.3f} ({low} … {high}; {spread['repeats']:.0f})"


def _line(what: str, timing: Timing, reference: Timing) -> None:
    text = f"{timing.ratio:.3f} ({timing.ratio_p10:.3f} … {timing.ratio_p90:.3f}; {timing.rounds})"
    print(f"{what:<64}{text}  of {reference.latency_ms:.0f} ms", flush=True)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _bars(figures: Figures, *, on_gpu: bool) -> dict[str, Bar]:
    bars: dict[str, Bar] = {}
    for case, found in figures["cases"].items():
        half = found["half"]["step"]["active"]
        share = found["random"]["share_percent"]["median"]
        bars |= {
            f"largest ÷ plain, {case}": Bar(value=found["largest"]["bnas"].ratio, goal="<= 1.01"),
            f"half width ÷ extracted, {case}": Bar(value=half.ratio, goal="<= 1.02"),
            f"drawing and activating, % of a step, {case}": Bar(value=share, goal="<= 1"),
        }
        for kind in KINDS[1:]:
            value = found["memory"][kind]["median"]
            bars[f"memory, {kind} ÷ plain, {case}"] = Bar(value=value, goal="<= 1.05")
        if on_gpu and "bfloat16" in case:
            value = found["whole"]["bnas ÷ torchvision"]["median"]
            bars[f"images per second ÷ plain training, {case}"] = Bar(value=value, goal=">= 0.9")
    for size, found in figures["loading"].items():
        value = found["loading ÷ smallest"]["median"]
        bars[f"loading ÷ the smallest's step, {size}²"] = Bar(value=value, goal=">= 1")
    return bars


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # read when OpenMP starts, which importing torch has done
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.training", *sys.argv[1:]])
    main()
