"""The files of each subnet as links, which lead from the page to the files beside it."""

from __future__ import annotations

from html import escape
from pathlib import PurePosixPath
from urllib.parse import quote

from bnas.report.types import Report, SubnetReport
from bnas.report.words import size


def downloads_section(report: Report) -> str:
    """A row of links for each network that has files; nothing where none has."""
    rows = "".join(_row(report, subnet) for subnet in (*report.subnets, report.reference) if subnet.files)
    if not rows:
        return ""
    return (
        '<section aria-labelledby="downloads-title"><h2 id="downloads-title">Downloads</h2>'
        '<p class="caption">Files of the run folder, as long as this page lies in it. An .xml file of OpenVINO needs '
        "the .bin file of the same name; bnas.rebuild makes the network of subnet.json and weights.safetensors.</p>"
        f"{rows}</section>"
    )


def _row(report: Report, subnet: SubnetReport) -> str:
    kind = subnet.name if subnet.name in ("A", "B", "C") else ""
    links = "".join(
        f'<a href="{escape(quote(file.path))}" download="{escape(_saved_as(report, subnet, file.path))}">'
        f"{escape(PurePosixPath(file.path).name)} <small>{size(file.size_bytes)}</small></a>"
        for file in subnet.files
    )
    return (
        f'<div class="files {kind}"><span class="badge">{escape(subnet.name)}</span><div>{links}</div></div>'
    )


def _saved_as(report: Report, subnet: SubnetReport, path: str) -> str:
    """A name that tells the files of several subnets apart, with one stem for both parts of a network."""
    return f"{report.run}-{subnet.name}-{PurePosixPath(path).name}"
