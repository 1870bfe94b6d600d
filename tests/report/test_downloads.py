from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape

from bnas.report import FileReport, Report
from bnas.report.downloads import downloads_section

Make = Callable[..., Report]


def test_each_file_has_a_relative_link_with_its_size(make_report: Make) -> None:
    html = downloads_section(make_report())
    links = re.findall(r'<a href="([^"]+)" download="([^"]+)">([^<]+) <small>([^<]+)</small>', html)
    assert len(links) == 4 * 6
    assert ("subnets/A/int8.xml", "quickstart-A-int8.xml", "int8.xml", "720 kB") in links
    assert html.index("subnets/C/") < html.index("subnets/reference/")


def test_names_are_quoted(make_report: Make) -> None:
    report = make_report()
    odd = 'a b&"<x>?.bin'
    subnet = replace(report.subnets[0], files=(FileReport(path=f"subnets/A/{odd}", size_bytes=5),))
    html = downloads_section(make_report(subnets=(subnet,), reference=replace(report.reference, files=())))
    assert 'href="subnets/A/a%20b%26%22%3Cx%3E%3F.bin"' in html
    assert odd in unescape(html)
    assert "<x>" not in html


def test_without_files_there_is_no_section(make_report: Make) -> None:
    report = make_report()
    assert downloads_section(make_report(subnets=(), reference=replace(report.reference, files=()))) == ""
