from __future__ import annotations

from dataclasses import replace

import pytest

from bnas.report import headline
from bnas.report.words import faster, points, short, significant, size, times


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04123, "0.0412"), (0.9999, "1.00"), (4.126, "4.13"), (412.6, "413"), (41234.0, "41200"), (0, "0")],
)
def test_three_digits_without_exponents(value, text):
    assert significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (612, "612"),
        (999, "999"),
        (999_960, "1.00 M"),
        (41_230, "41.2 k"),
        (4_089_000_000, "4.09 G"),
    ],
)
def test_counts_have_decimal_prefixes(value, text):
    assert short(value) == text


def test_file_sizes():
    assert (size(612), size(41_230), size(3_860_000)) == ("612 B", "41.2 kB", "3.86 MB")


def test_ratios_and_what_they_mean():
    assert (times(0.871), times(9.994), times(9.996), times(12.12)) == ("0.87×", "9.99×", "10.0×", "12.1×")
    assert faster(3.4249) == "3.42× faster than"
    assert faster(0.8) == "1.25× slower than"
    assert faster(1.001) == "as fast as"


def test_signed_differences():
    assert (points(0.306), points(-1.2), points(-0.001)) == ("+0.31", "−1.20", "±0.00")


def test_the_headline_is_about_b(make_report):
    report = make_report()
    b = report.subnets[1]
    loss = 92.1 - b.metric_int8_percent
    assert headline(report) == (
        f"Subnet B is 1.92× faster than the INT8 original and 5.78× faster than the FP32 original, "
        f"at {loss:.2f} points less top-1."
    )
    better = replace(b, metric_int8_percent=92.4, speedup_vs_int8=0.5)
    text = headline(make_report(subnets=(better,)))
    assert "2.00× slower than the INT8 original" in text
    assert text.endswith("at 0.30 points more top-1.")
    assert headline(make_report(subnets=(replace(b, metric_int8_percent=92.1),))).endswith(
        "at the same top-1."
    )


def test_without_b_the_first_subnet_speaks_and_without_subnets_nobody(make_report):
    report = make_report()
    assert headline(make_report(subnets=report.subnets[:1])).startswith("Subnet A is 1.39× faster")
    assert headline(make_report(subnets=())) == "This run chose no subnets."
