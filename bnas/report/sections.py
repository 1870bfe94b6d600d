"""A page of sections with plots: one HTML file that asks the network for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from string import Template

from bnas.errors import require
from bnas.report.figure import Figure
from bnas.report.html import script_json


def sections_page(
    *,
    title: str,
    eyebrow: str,
    headline: str,
    lead: str,
    sections: Sequence[str],
    figures: Mapping[str, Figure],
) -> str:
    """The page's HTML. `sections` are HTML already, all other texts are escaped here.

    figures: by the id of their place, an empty element in one of the sections.

    Raises:
        MissingPackageError: plotly is not installed.
    """
    plotly = require("plotly.offline", "report").get_plotlyjs()
    here = files("bnas.report")
    return Template((here / "sections.html").read_text(encoding="utf-8")).substitute(
        title=escape(title),
        css=(here / "page.css").read_text(encoding="utf-8").rstrip(),
        js=(here / "page.js").read_text(encoding="utf-8").rstrip(),
        plotly=plotly,
        figures=script_json(figures),
        eyebrow=escape(eyebrow),
        headline=escape(headline).replace(" %", "\u00a0%"),
        lead=escape(lead),
        sections="\n".join(sections),
    )


def plot_section(place: str, title: str, caption: str, size: str, *, level: int = 3) -> str:
    """A plot with its title and caption; `size` is tall or small, `place` the figure's id."""
    return (
        f'<section><h{level}>{escape(title)}</h{level}><p class="caption">{escape(caption)}</p>'
        f'<div class="plot {size}"><div id="{escape(place)}"></div></div></section>'
    )


def rows_table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, marked: Sequence[int] = ()) -> str:
    """A table whose first column names its rows; the rows numbered in `marked` stand back, as references do."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = ""
    for number, (first, *cells) in enumerate(rows):
        row = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        kind = ' class="reference"' if number in marked else ""
        body += f'<tr{kind}><th scope="row">{escape(first)}</th>{row}</tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
