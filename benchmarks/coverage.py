"""What the builder makes of every network it knows: `python -m benchmarks.coverage [--write] [--only NAME …]`.

Each network is built and held against the oracles in a process of its own, one after the other, with a limit
of time; what it gives is a row. `--rows FILE` keeps rows (JSON lines) and goes on where a run was stopped:
only networks without a row there are examined, and those of `--only` anew. `--write` writes the table of all
rows to docs/coverage.md. `--sample K --seed N` takes K random networks that are quick, on small inputs.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import torch

from benchmarks.coverage_table import page, table
from benchmarks.examine import SLOW, Row, examine, names
from benchmarks.outcome import Bar, print_outcome
from bnas.errors import BnasError
from bnas.files import append_jsonl, read_json, read_jsonl, write_json, write_text
from bnas.models import FAMILIES

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=names(), help="these networks")
    parser.add_argument("--sample", type=int, metavar="K", help="K random quick networks, on small inputs")
    parser.add_argument("--seed", type=int, default=0, help="of the sample and of the weights")
    parser.add_argument("--small", action="store_true", help="smaller inputs where a network allows them")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="keep rows here, and go on from them")
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    parser.add_argument("--jobs", type=int, default=1, help="networks at a time")
    parser.add_argument("--threads", type=int, default=2, help="of each network")
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="of each network")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(options.threads)
        write_json(options.to, examine(options.one, small=options.small, seed=options.seed))
        return
    options.small |= options.sample is not None
    rows = {row.name: row for row in read_jsonl(options.rows, Row)} if options.rows else {}
    if options.sample is not None:
        chosen = quick_sample(options.sample, options.seed)
    else:
        chosen = options.only or [name for name in names() if name not in rows]
    with ThreadPoolExecutor(options.jobs) as pool:
        for row in pool.map(lambda name: _in_a_process(name, options), chosen):
            rows[row.name] = row
            print(_line(row), flush=True)
            if options.rows:
                append_jsonl(options.rows, row)
    ordered = [rows[name] for name in names() if name in rows]
    if options.write:
        write_text(PAGE, page(ordered, date.today(), torch.__version__, options.threads, small=options.small))
        print(f"→ {PAGE}")
    else:
        print("\n" + table(ordered))
    print_outcome("coverage", {"rows": ordered}, bars(ordered))


def quick_sample(count: int, seed: int) -> list[str]:
    """`count` different networks that a quick check has time for; the same for the same seed."""
    return random.Random(seed).sample([name for name in names() if not re.match(SLOW, name)], count)


def bars(rows: list[Row]) -> dict[str, Bar]:
    """Everything converts and holds its oracles, and every CNN has almost all of its channels free."""
    known = [row for row in rows if row.name in FAMILIES]
    cnns = [row.conv_free_percent for row in known if row.is_cnn and row.conv_free_percent is not None]
    bars = {
        "networks that do not convert": Bar(value=sum(row.error is not None for row in rows), goal="<= 0"),
        "networks that fail an oracle": Bar(value=sum(bool(row.failed) for row in rows), goal="<= 0"),
    }
    if cnns:
        bars["least share of a CNN's convolution channels that is free, %"] = Bar(
            value=min(cnns), goal=">= 95"
        )
    return bars


def _in_a_process(name: str, options: argparse.Namespace) -> Row:
    """The row of `name`, made by a process of its own: its memory is given back, whatever happens."""
    with tempfile.TemporaryDirectory() as folder:
        to = Path(folder) / "row.json"
        command = [sys.executable, "-m", "benchmarks.coverage", "--one", name, "--to", str(to)]
        command += ["--threads", str(options.threads), "--seed", str(options.seed)]
        command += ["--small"] if options.small else []
        task = FAMILIES[name].task if name in FAMILIES else "own"
        try:
            done = subprocess.run(command, timeout=options.timeout, stderr=subprocess.PIPE, text=True)
        except subprocess.TimeoutExpired:
            return Row(name=name, task=task, error=f"took more than {options.timeout:.0f} s")
        try:
            return read_json(to, Row)
        except BnasError as error:
            last = next(reversed(done.stderr.strip().splitlines()), str(error))
            return Row(name=name, task=task, error=f"ended with {done.returncode}: {last}"[:200])


def _line(row: Row) -> str:
    if row.error is not None:
        return f"{row.name:<36} ERROR {row.error}"
    outcome = "; ".join(f"{key}: {row.oracles[key]}" for key in row.failed) or f"{len(row.oracles)} oracles"
    return (
        f"{row.name:<36} {row.build_s:6.2f} s  {row.free}/{row.groups} groups  10^{row.log10_size:.0f}  "
        f"{row.total_s:5.0f} s and {row.peak_mib:.0f} MiB in all  {outcome}"
    )


if __name__ == "__main__":
    main()
