"""How well latency is measured and predicted: `OMP_WAIT_POLICY=PASSIVE python -m benchmarks.latency [--quick]`.

For each case (benchmarks/latency_cases.py) a campaign times 300 subnets to fit predictors to and 200 random ones
to judge them by, beside a reference in the middle of the space; the learning curve says how far predictors fitted
to the first 10, 30, 100 and 300 are off on the 200, beside a line through the MACs and a table of layers. Then
some of the subnets are timed again, in a campaign of their own. It is resumable: what is timed lies in --folder,
and a command with the same folder goes on. `--cases NAME …` does some of the cases, `--samples`, `--held-out` and
`--passes` set the numbers, `--patience` the time to wait for calm, `--show` times nothing
more. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.latency_cases import CASES, Case
from benchmarks.outcome import Bar, print_outcome
from bnas import progress
from bnas.measure import MeasureConfig, Measurement, campaign, detect, fit_latency, transfer
from bnas.measure.latency import Figures
from bnas.measure.predictors import BASELINES
from bnas.measure.record import measured_set, timings
from bnas.plain import to_plain
from bnas.quantize import NncfPTQ
from bnas.rank import kendall_tau
from bnas.space import SubnetConfig

SIZES = (10, 30, 100, 300)
TRANSFERS = (
    ("resnet50_64", "two_threads"),
    ("fp32", "resnet50_64"),
    ("resnet50_64", "fp32"),
    ("resnet50_64", "batch_8"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--samples", type=int, default=300, help="subnets to fit to")
    parser.add_argument("--held-out", type=int, default=200, help="random subnets to judge by")
    parser.add_argument("--passes", type=int, default=1, help="how often each is timed, minutes apart")
    parser.add_argument("--again", type=int, default=40, help="subnets that are timed a second time")
    parser.add_argument(
        "--patience", type=float, default=20.0, help="seconds to wait for calm, for each subnet"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark_latency"))
    parser.add_argument("--show", action="store_true", help="time nothing, show what there is")
    parser.add_argument("--quick", action="store_true", help="few subnets of two cases, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.cases, options.samples, options.held_out, options.again = (
            ["resnet50_64", "mobilenet_v3_large"], 24, 12, 8,
        )  # fmt: skip
    progress.enable(True)
    torch.set_num_threads(1)
    timing = MeasureConfig(target_ratio_error_percent=0.5, patience_s=options.patience)
    figures: dict[str, object] = {}
    bars: dict[str, Bar] = {}
    for name in options.cases:
        case, folder = CASES[name], options.folder / name
        if not options.show:
            count = options.samples + options.held_out
            config = replace(timing, samples=count, holdout=options.held_out, passes=options.passes)
            _time(case, folder / "first.jsonl", config)
        lines = _known(case, folder / "first.jsonl")
        if not options.show and options.again:
            _time(case, folder / "again.jsonl", timing, [line.config for line in lines[: options.again]])
        figures[name] = {
            **_show(name, case, lines, _known(case, folder / "again.jsonl"), bars),
            **_repeats(case, folder / "first.jsonl"),
        }
    figures["transfer"] = _transfers(options.cases, options.folder)
    print_outcome("latency", figures, bars)


def _transfers(names: Sequence[str], folder: Path) -> dict[str, object]:
    """One hardware's predictor carried over to another with 20 measurements, where both were timed."""
    found: dict[str, object] = {}
    for source, target in TRANSFERS:
        if source not in names or target not in names:
            continue
        case = CASES[target]
        model = fit_latency(
            _known(CASES[source], folder / source / "first.jsonl"), CASES[source].family.costs
        )
        lines = _first(_known(case, folder / target / "first.jsonl"), 20)
        carried = transfer(model, lines, case.family.costs)
        own, afresh = carried.figures, carried.held_out["afresh"]
        print(
            f"\n{source} → {target}, 20 subnets timed: {carried.kind}: MAPE {own.mape_percent:.2f} %, "
            f"{own.within_5_percent:.0f} % within 5 %, tau {own.kendall_tau:.3f}, {own.covered_percent:.0f} % in "
            f"their bars; fitted afresh: {afresh.mape_percent:.2f} %, {afresh.within_5_percent:.0f} %, "
            f"{afresh.kendall_tau:.3f}"
        )
        found[f"{source} → {target}"] = {"kind": carried.kind, **to_plain(carried.held_out)}
    return found


def _time(
    case: Case, path: Path, config: MeasureConfig, subnets: Sequence[SubnetConfig] = ()
) -> tuple[Measurement, ...]:
    family = case.family
    config = replace(config, min_rounds=min(case.rounds, 20), max_rounds=case.rounds)
    return campaign(
        family.space,
        family.make,
        case.hw,
        config,
        costs=family.costs,
        quantizer=NncfPTQ(bias_correction="none"),
        example=family.example,
        path=path,
        seed=0,
        subnets=subnets,
    )


def _known(case: Case, path: Path) -> list[Measurement]:
    if not path.exists():
        return []
    return list(measured_set(path, case.family.space.digest, case.hw, detect(case.hw))[0].values())


def _show(
    name: str, case: Case, lines: Sequence[Measurement], again: Sequence[Measurement], bars: dict[str, Bar]
) -> dict[str, object]:
    """Print what was found in a case; returns it, and adds its bars to `bars`."""
    fit, held_out = (sum(line.role == role for line in lines) for role in ("fit", "held_out"))
    steps = {step: median(line.seconds[step] / line.passes for line in lines) for step in lines[0].seconds}
    errors = [line.ratio_error_percent for line in lines]
    passes = sorted({line.passes for line in lines})
    print(
        f"\n{name}: {fit} subnets to fit to, {held_out} held out, each timed {' or '.join(map(str, passes))} times; "
        f"{lines[0].threads} threads, "
        f"{lines[0].precision}, {lines[0].scenario}, batch {lines[0].batch}; "
        f"{min(line.time_ms for line in lines):.3g} to {max(line.time_ms for line in lines):.3g} ms"
    )
    print(
        f"  ratio known to ±{median(errors):.2f} % (median), ±{np.percentile(errors, 95):.2f} % (95 %), "
        f"{median(line.rounds for line in lines):.0f} rounds in all; "
        f"reference {_range([line.reference_ms for line in lines])} ms"
    )
    print(
        "  a subnet takes "
        + ", ".join(f"{step} {seconds:.2f} s" for step, seconds in steps.items())
        + f"; {sum(steps.values()) - steps['time']:.2f} s besides the timing"
    )
    print(
        f"  {'samples':>9} {'predictor':>18} {'MAPE %':>7} {'±2 %':>6} {'±5 %':>6} {'tau':>6} {'in bar %':>9}"
        f" {'MACs %':>7} {'table %':>8}"
    )
    curve = {}
    for size in sorted({size for size in SIZES if size < fit} | {fit}):
        began = time.perf_counter()
        model = fit_latency(_first(lines, size), case.family.costs)
        seconds = time.perf_counter() - began
        own, macs, table = model.figures, *(model.held_out[name] for name in BASELINES)
        curve[size] = model.held_out | {"kept": own}
        print(
            f"  {size:9d} {model.kind:>18} {own.mape_percent:7.2f} {own.within_2_percent:6.1f} "
            f"{own.within_5_percent:6.1f} {own.kendall_tau:6.3f} {own.covered_percent:9.1f} "
            f"{macs.mape_percent:7.2f} {table.mape_percent:8.2f}   fitted in {seconds:.1f} s"
        )
    _add_bars(bars, name, case, curve)
    per_subnet = sum(steps.values()) - steps["time"]
    bars[f"{name}: seconds for a subnet besides its timing"] = Bar(value=per_subnet, goal="<= 3")
    found = {"curve": to_plain(curve), "seconds": steps, "error_percent": median(errors)}
    return found | (_agreement(name, lines, again, bars) if again else {})


def _first(lines: Sequence[Measurement], size: int) -> list[Measurement]:
    """The first `size` subnets that were chosen to fit to, and all that were held out."""
    chosen = [line for line in lines if line.role == "fit"]
    return chosen[:size] + [line for line in lines if line.role == "held_out"]


def _add_bars(
    bars: dict[str, Bar], name: str, case: Case, curve: Mapping[int, Mapping[str, Figures]]
) -> None:
    if 100 in curve:
        own, macs = curve[100]["kept"], curve[100]["macs_line"]
        goals = ("<= 2", ">= 95", ">= 0.95") if case.hard else ("<= 0.7", ">= 100", ">= 0.97")
        bars[f"{name}: MAPE % from 100"] = Bar(value=own.mape_percent, goal=goals[0])
        bars[f"{name}: % within 5 % from 100"] = Bar(value=own.within_5_percent, goal=goals[1])
        bars[f"{name}: tau from 100"] = Bar(value=own.kendall_tau, goal=goals[2])
        if case.hard:
            ratio = own.mape_percent / macs.mape_percent
            bars[f"{name}: error ÷ that of the MACs line, from 100"] = Bar(value=ratio, goal="<= 0.5")
        else:
            bars[f"{name}: % within 2 % from 100"] = Bar(value=own.within_2_percent, goal=">= 95")
    if 30 in curve and not case.hard:
        own = curve[30]["kept"]
        bars[f"{name}: % within 5 % from 30"] = Bar(value=own.within_5_percent, goal=">= 99")
        bars[f"{name}: tau from 30"] = Bar(value=own.kendall_tau, goal=">= 0.93")


def _agreement(
    name: str, lines: Sequence[Measurement], again: Sequence[Measurement], bars: dict[str, Bar]
) -> dict[str, object]:
    """How far two campaigns agree on the subnets that both timed."""
    first = {line.config: line for line in lines}
    pairs = [(first[line.config].ratio, line.ratio) for line in again if line.config in first]
    off, tau = _apart(pairs)
    hours = (median(line.began for line in again) - median(line.began for line in lines)) / 3600
    print(
        f"  {len(pairs)} timed again, {hours:.1f} h later: ratios differ by {off:.2f} % (median), tau {tau:.3f}"
    )
    bars[f"{name}: median difference % of a second campaign"] = Bar(value=off, goal="<= 1.5")
    bars[f"{name}: tau of a second campaign"] = Bar(value=tau, goal=">= 0.98")
    return {"again": {"count": len(pairs), "hours": hours, "off_percent": off, "tau": tau}}


def _repeats(case: Case, path: Path) -> dict[str, object]:
    """How far the first two timings agree of those subnets that a campaign timed again, as they were not calm."""
    known, _ = timings(path, case.family.space.digest, case.hw, detect(case.hw))
    pairs = [(own[0].ratio, own[1].ratio) for own in known.values() if len(own) > 1]
    if len(pairs) < 2:
        return {}
    off, tau = _apart(pairs)
    print(
        f"  {len(pairs)} timed twice in the campaign: ratios differ by {off:.2f} % (median), tau {tau:.3f}; "
        f"{sum(len(own) > 2 for own in known.values())} three times"
    )
    return {"repeats": {"count": len(pairs), "off_percent": off, "tau": tau}}


def _apart(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of pairs of ratios the median difference in per cent, and Kendall's tau."""
    before, after = (np.array(own) for own in zip(*pairs, strict=True))
    return 100 * median(abs(after / before - 1).tolist()), kendall_tau(before, after)


def _range(values: Sequence[float]) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
