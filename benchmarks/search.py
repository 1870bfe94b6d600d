"""How many true evaluations searches need: `python -m benchmarks.search [--quick] [--run runs/quickstart]`.

Hypervolume of what was evaluated, as a share of that of the true front, against the number of evaluations: means of
several seeds and their standard errors. On a ResNet-50 space whose truth is known (benchmarks/search_truth.py), with
latency predicted, as in bnas, and with both objectives unknown until evaluated; with `--run`, also on the space of a
finished run (`python -m bnas run conf=quickstart`), where subnets are truly evaluated, each once for all searches: the
values are kept in --folder, at most `--budget-evaluations` new ones in one command, and the same command goes on. Its
reference is the front of everything that was ever evaluated.

Searches are judged by the true accuracy of what they had evaluated. What they are told is that, or has a fixed noise of
its own for each subnet (`--noise`); `--as-evaluated` judges by that instead, against the front of the luckiest of
millions. linas was made with the assumptions of that truth at hand; `--truth N` draws them anew, to judge it by others.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from benchmarks.outcome import Bar, print_outcome
from benchmarks.search_cases import BudgetSpent, Case, resnet50_cases, run_case
from benchmarks.search_curves import Array, Searched, ceiling, curve, run_search
from benchmarks.search_truth import NOISE, RESNET50, Law, Truth, redrawn
from bnas import progress
from bnas.search import SEARCHES, hypervolume

COUNTS = (50, 100, 150, 200, 300, 500)
WARM_UP = 30  # evaluations
Curves = Mapping[str, Sequence[Array]]  # by algorithm, of each seed


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Mean and standard error of `seeds` searches."""

    mean: float
    standard_error: float
    seeds: int

    def __str__(self) -> str:
        return f"{self.mean:.4f} ±{self.standard_error:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--algorithms", nargs="+", choices=list(SEARCHES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--evaluations", type=int, default=COUNTS[-1], help="of each search")
    parser.add_argument(
        "--noise", type=float, nargs="+", default=[0.0, NOISE], help="of an evaluation, in points of top-1"
    )
    parser.add_argument(
        "--truth",
        type=int,
        default=0,
        metavar="N",
        help="draw the assumptions anew, by the number; 0: as written",
    )
    parser.add_argument(
        "--as-evaluated", action="store_true", help="judge by the accuracies that evaluations find"
    )
    parser.add_argument(
        "--run", type=Path, help="a finished run, as runs/quickstart, to search in its space too"
    )
    parser.add_argument("--only-run", action="store_true", help="leave the ResNet-50 space out")
    parser.add_argument("--budget-evaluations", type=int, default=1500, help="new ones in the space of --run")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark_search"))
    parser.add_argument(
        "--quick", action="store_true", help="two seeds, 100 evaluations, to see that it works"
    )
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.evaluations = 2, 100
    if options.only_run and options.run is None:
        parser.error("--only-run: name the run, as in --run runs/quickstart")
    progress.enable(False)
    names = options.algorithms or ("linas", "nsga2", "random")
    chosen = {name: SEARCHES[name] for name in names}
    bars: dict[str, Bar] = {}
    figures = {}
    cases = []
    if not options.only_run:
        stages, law = redrawn(options.truth, RESNET50) if options.truth else (RESNET50, Law())
        for noise in options.noise:
            name = f"resnet50{f' {options.truth}' if options.truth else ''}, evaluations ±{noise:g}"
            cases += resnet50_cases(
                Truth(stages, noise=noise, law=law), name=name, as_evaluated=options.as_evaluated
            )
    if options.run is not None:
        path = options.folder / f"{options.run.name}.jsonl"
        with suppress(BudgetSpent):  # its two ends are the first to be evaluated
            cases.append(run_case(options.run, path, options.budget_evaluations))
    for case in cases:
        for algorithm in chosen.values():  # once unwatched, so that imports are nobody's cost
            run_search(case, algorithm, 0, WARM_UP)
        found: dict[str, list[Searched]] = {name: [] for name in chosen}
        for seed in range(options.seeds):  # all algorithms of a seed, so that a budget is spent fairly
            for name, algorithm in chosen.items():
                found[name].append(run_search(case, algorithm, seed, options.evaluations))
        figures[case.name] = judge(case, found, bars)
    print_outcome("search", figures, bars)


def judge(case: Case, found: Mapping[str, Sequence[Searched]], bars: dict[str, Bar]) -> dict[str, Any]:
    """Print what the searches of a case reached and took; returns it, and adds its bars to `bars`."""
    front = case.reference()
    whole = hypervolume(front, case.box)
    curves = {name: [_shares(case, own, whole) for own in searches] for name, searches in found.items()}
    longest = max((len(own) for searches in curves.values() for own in searches), default=0)
    counts = [count for count in COUNTS if count <= longest]
    best = ceiling(front, case.box, max(counts, default=1)) / whole
    print(
        f"\n{case.name}: {case.space.size:.3g} configs; reference: {len(front)} points; "
        f"hypervolume as a share of its"
    )
    print(f"  {'evaluations':<12}" + "".join(f"{count:>16}" for count in counts))
    table: dict[str, dict[int, Figure]] = {}
    for name in curves:
        table[name] = {count: own for count in counts if (own := at(curves, name, count)) is not None}
        cells = (str(table[name].get(count, "")) for count in counts)
        print(f"  {name:<12}" + "".join(f"{cell:>16}" for cell in cells))
    cut = sum(len(own) < longest for searches in curves.values() for own in searches)
    if cut:
        print(f"  {cut} searches were cut short by the budget; the same command goes on")
    print(f"  {'any, at most':<12}" + "".join(f"{best[count - 1]:>16.4f}" for count in counts))
    result: dict[str, Any] = {
        "reference_points": len(front),
        "hypervolume": {
            name: {str(count): asdict(own) for count, own in row.items()} for name, row in table.items()
        },
        "ceiling": {str(count): float(best[count - 1]) for count in counts},
        "needed": needed(curves, table),
        "cost": cost(found),
    }
    add_bars(case.name, table, result["cost"], bars)
    return result


def _shares(case: Case, searched: Searched, whole: float) -> Array:
    if not searched.evaluated:
        return np.empty(0)
    return curve(case.points(searched.evaluated), case.box) / whole


def at(curves: Curves, name: str, count: int) -> Figure | None:
    """An algorithm's figure after `count` evaluations, of the seeds with which all came so far; None: with no seed."""
    seeds = [
        place for place, row in enumerate(zip(*curves.values(), strict=True)) if min(map(len, row)) >= count
    ]
    values = [float(curves[name][place][count - 1]) for place in seeds]
    if not values:
        return None
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return Figure(mean=mean(values), standard_error=error, seeds=len(values))


def needed(curves: Curves, table: Mapping[str, Mapping[int, Figure]]) -> dict[str, int | None]:
    """After how many evaluations each algorithm's mean reaches what NSGA-II's reaches at its end; prints it."""
    if not table.get("nsga2"):
        return {}
    last = max(table["nsga2"])
    goal = table["nsga2"][last].mean
    found: dict[str, int | None] = {}
    for name, own in curves.items():
        whole = [one[:last] for one in own if len(one) >= last]
        means = np.array(whole).mean(axis=0)
        reached = np.flatnonzero(means >= goal - 1e-12)
        found[name] = int(reached[0]) + 1 if len(reached) else None
    told = ", ".join(f"{name} after {count or 'more'}" for name, count in found.items())
    print(f"  nsga2's hypervolume at {last} is reached by {told}")
    return found


def cost(found: Mapping[str, Sequence[Searched]]) -> dict[str, dict[str, float]]:
    """What the algorithms themselves take of the processor, without evaluating and predicting latency; prints it."""
    costs = {}
    for name, searches in found.items():
        seconds = sum(own.own_seconds for own in searches)
        looked_at = sum(own.looked_at for own in searches)
        evaluated = sum(len(own.evaluated) for own in searches)
        costs[name] = {
            "ms_per_candidate": 1000 * seconds / max(1, looked_at),
            "candidates_per_evaluation": looked_at / max(1, evaluated),
            "seconds_per_evaluation": seconds / max(1, evaluated),
        }
        print(
            f"  {name} itself takes {costs[name]['ms_per_candidate']:.3g} ms per candidate, of "
            f"{costs[name]['candidates_per_evaluation']:.0f} per evaluation: "
            f"{costs[name]['seconds_per_evaluation']:.3g} s per evaluation"
        )
    return costs


def add_bars(
    case: str,
    table: Mapping[str, Mapping[int, Figure]],
    costs: Mapping[str, Mapping[str, float]],
    bars: dict[str, Bar],
) -> None:
    """The bars that a case decides: where latency is predicted, as bnas does."""
    if not case.endswith("predicted") or "linas" not in table:
        return
    linas, others = table["linas"], {name: table.get(name, {}) for name in ("nsga2", "random")}
    if 150 in linas and 500 in others["nsga2"]:
        ahead = linas[150].mean - others["nsga2"][500].mean
        bars[f"{case}: linas at 150 − nsga2 at 500"] = Bar(value=ahead, goal=">= 0")
    if 200 in linas:
        if case.startswith("resnet50"):
            bars[f"{case}: linas at 200"] = Bar(value=linas[200].mean, goal=">= 0.995")
        for name, own in others.items():
            if 200 in own:
                behind = own[200].mean - linas[200].mean
                bars[f"{case}: {name} − linas at 200"] = Bar(value=behind, goal="<= 0")
    bars[f"{case}: linas's own ms per candidate"] = Bar(value=costs["linas"]["ms_per_candidate"], goal="<= 1")


if __name__ == "__main__":
    main()
