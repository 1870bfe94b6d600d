"""Numbers and sentences as a person reads them."""

from __future__ import annotations

from math import floor, log10

from bnas.report.types import Curve, Report, SubnetReport

_SPELLINGS = {"top1": "top-1", "map": "mAP", "macs": "MACs"}
_UNITS = {"ms": "ms", "mj": "mJ", "bytes": "bytes", "percent": "%"}
_THROUGHPUT = "throughput, 1/s"


def significant(value: float, digits: int = 3) -> str:
    """`value` with that many significant digits, never in exponent form: 0.0412, 4.12, 412, 41200."""
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}")  # rounded first, so that 0.9999 counts as 1.00
    return f"{value:.{max(0, digits - 1 - floor(log10(abs(value))))}f}"


def short(value: float) -> str:
    """A count with a decimal prefix: 612, 41.2 k, 3.86 M, 4.09 G."""
    for limit, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 0.9995 * limit:
            return f"{significant(value / limit)} {prefix}"
    return f"{value:.0f}"


def number(value: float) -> str:
    """Any number in few characters: 93.25, 0.4127, 0.0005, 1,482, 3.2e-07."""
    if value == 0 or 1e-4 <= abs(value) < 1000:
        return f"{value:.4g}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def curve_cells(curve: Curve) -> tuple[str, str, str, str, str]:
    """Number of points, first value, last value, best value, and the step of that one."""
    best = curve.best
    return (
        f"{len(curve.values):,}",
        number(curve.values[0]),
        number(curve.values[-1]),
        "–" if best is None else number(best[1]),
        "–" if best is None else f"{best[0]:,}",
    )


def size(size_bytes: int) -> str:
    """A file size: 612 B, 41.2 kB, 3.86 MB."""
    text = short(size_bytes)
    return f"{text}B" if " " in text else f"{text} B"


def times(ratio: float) -> str:
    """A ratio: 0.87×, 3.42×, 12.1×."""
    return f"{ratio:.2f}×" if ratio < 9.995 else f"{ratio:.1f}×"


def faster(speedup: float) -> str:
    """`3.42× faster than`, or `1.25× slower than` for a speed-up below 1."""
    if times(speedup) == times(1):
        return "as fast as"
    return f"{times(speedup)} faster than" if speedup > 1 else f"{times(1 / speedup)} slower than"


def points(difference: float) -> str:
    """A difference of two percentages with its sign: +0.31, −1.20."""
    text = f"{abs(difference):.2f}"
    return f"±{text}" if float(text) == 0 else f"{'+' if difference > 0 else '−'}{text}"


def quantity_name(name: str) -> str:
    """A value as a reader calls it: `latency, ms` of latency_ms; what follows @ is the hardware that it is on."""
    base, _, hw = name.partition("@")
    stem, _, unit = base.rpartition("_")
    words = _THROUGHPUT if base == "throughput_per_s" else _spelled(base)
    if stem and unit in _UNITS:
        words = f"{_spelled(stem)}, {_UNITS[unit]}"
    return f"{words} on {hw}" if hw else words


def in_points(value: str) -> bool:
    """Whether differences of this value are told in points, as it is a percentage itself."""
    return value.partition("@")[0].endswith("_percent")


def label_of(metric: str) -> str:
    """A metric where its unit stands elsewhere: `mAP` of map_percent, `mAP small` of map_small_percent."""
    return quantity_name(metric).partition(",")[0]


def first_word(label: str) -> str:
    """`label` at the beginning of a sentence: `Top-1`; one with capitals of its own, as `mAP`, stays."""
    return label[:1].upper() + label[1:] if label == label.lower() else label


def _spelled(name: str) -> str:
    return " ".join(_SPELLINGS.get(word, word) for word in name.split("_"))


def headliner(report: Report) -> SubnetReport | None:
    """The subnet that the headline is about: B, else the first."""
    return next((s for s in report.subnets if s.name == "B"), next(iter(report.subnets), None))


def headline(report: Report) -> str:
    """The result of a run in one sentence."""
    subnet = headliner(report)
    if subnet is None:
        return "This run chose no subnets."
    gain = subnet.metric_int8_percent - report.reference.metric_fp32_percent
    size, more = f"{abs(gain):.2f}", "more" if gain > 0 else "less"
    label = report.metric_label
    accuracy = f"the same {label}" if float(size) == 0 else f"{size} points {more} {label}"
    return (
        f"Subnet {subnet.name} is {faster(subnet.speedup_vs_int8)} the INT8 original and "
        f"{faster(subnet.speedup_vs_fp32)} the FP32 original, at {accuracy}."
    )
