"""What `bnas measure --check` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from bnas.measure.check import NoiseReport


def print_check(report: NoiseReport, console: Console | None = None) -> None:
    """Print the verdict, the figures of the noise, the state of the machine, and what to do."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = console or Console()
    console.print(_headline(report), style="bold", markup=False, highlight=False, soft_wrap=True)
    console.print()
    networks = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for index, head in enumerate(
        ("network", "ms", "ratio", "twice\nthe same", "prepared\nanew", "error\n95 %", "as it\nsays")
    ):
        networks.add_column(head, justify="right" if index else "left", no_wrap=True)
    for network in report.noise.networks:
        percents = (
            network.halves_percent,
            network.preparations_percent,
            network.error_percent,
            network.claimed_percent,
        )
        networks.add_row(
            network.name,
            f"{network.time_ms:.3g}",
            f"{network.ratio:.4f}",
            *(f"{percent:.2f} %" for percent in percents),
        )
    console.print(networks)
    console.print()
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in (*_figures(report), *_machine(report)):
        facts.add_row(name, text)
    console.print(facts, markup=False, highlight=False)
    if report.advice:
        console.print("\nWhat to do:", style="bold")
        for text in report.advice:
            console.print(f"- {text}", markup=False, highlight=False, soft_wrap=True)


def _headline(report: NoiseReport) -> str:
    hw = report.hw
    machine = f"{hw.name} ({hw.backend}, {hw.precision}, {_count(hw.thread_count, 'thread')})"
    return (
        f"{machine} is {report.verdict}: expect an error of ±{report.error_percent:.1f} % (95 %) of a "
        f"measurement, in {_count(report.rounds, 'round')}"
    )


def _figures(report: NoiseReport) -> tuple[tuple[str, str], ...]:
    noise = report.noise
    if report.needed_rounds is None:
        needed = f"no number of rounds: preparing a network anew makes ±{noise.floor_percent:.1f} % by itself"
    else:
        needed = _count(report.needed_rounds, "round")
    return (
        (
            "trials",
            f"{noise.trials}, of {_count(noise.rounds, 'round')}, of {noise.preparations} preparations",
        ),
        (
            "error of a trial",
            f"±{noise.error_percent:.2f} %; it says ±{noise.claimed_percent:.2f} % of itself",
        ),
        ("±1 % needs", needed),
        (
            "equal networks",
            f"differ by {report.equal_percent:.2f} %, and ±{noise.floor_percent:.2f} % by chance",
        ),
        ("reference", f"{noise.reference_ms:.3g} ms, drifts by {noise.drift_percent:.1f} % (p10 to p90)"),
        ("repeated blocks", f"{noise.disturbed_percent:.1f} %, as other work had disturbed them"),
    )


def _machine(report: NoiseReport) -> tuple[tuple[str, str], ...]:
    hardware, activity = report.hardware, report.activity
    busiest = ", ".join(f"{p.name} {p.cpus:.2f}" for p in activity.busiest)
    others = _known(activity.other_cpus, "{:.2f} CPUs") + (f" ({busiest})" if busiest else "")
    frequency = "not readable"
    if activity.mhz is not None:
        low, high = activity.mhz
        frequency = f"{low:.0f} MHz" if round(low) == round(high) else f"{low:.0f} to {high:.0f} MHz"
    turbo = {True: "on", False: "off", None: "not readable"}[activity.turbo]
    cpus = ", ".join(str(cpu) for cpu in hardware.cpus)
    return (
        ("CPU", hardware.cpu),
        (
            "threads",
            f"{report.hw.thread_count} on {_count(hardware.physical_cores, 'core')}, "
            + (f"pinned to CPU {cpus}" if cpus else "not pinned: this system does not offer it"),
        ),
        ("frequency", f"{frequency}; governor {activity.governor or 'not readable'}; turbo {turbo}"),
        ("load before", _known(activity.load, "{:.2f}")),
        ("other work", others),
        ("stolen time", _known(activity.steal_percent, "{:.1f} %")),
        ("stopped by quota", _known(activity.throttled, "{} times")),
    )


def _known(value: float | None, form: str) -> str:
    return "not readable" if value is None else form.format(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
