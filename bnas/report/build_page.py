"""build.html: the layers of a model, its groups of channels and its blocks, and what is elastic in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from math import log2, log10
from string import Template

from bnas.graph.facts import ChannelGraph, Group, is_inside
from bnas.report.outline import Outline, Refusal, Row, listed, outline
from bnas.report.words import short
from bnas.space import Choice, SearchSpace, costs

_ROW = 24  # pixels; the height of a row in build_page.css
_EDGES = 170  # pixels; the widest curve


def build_page(
    graph: ChannelGraph, space: SearchSpace, refused: Sequence[Refusal] = (), name: str = "model"
) -> str:
    """The page's HTML, one file without a request; every name in it is escaped."""
    outlined, here = outline(graph, space, refused), files("bnas.report")
    read = {part: (here / part).read_text(encoding="utf-8").rstrip() for part in _PARTS}
    free = sum(group.name in _widths(space) for group in graph.groups)
    blocks = [row for row in outlined.blocks.values() if row.elastic]
    return Template(read["build_page.html"]).substitute(
        title=escape(f"{name} · bnas build"),
        css=f"{read['page.css']}\n{read['build_page.css']}",
        js=read["build_page.js"],
        eyebrow=escape(f"{name} · what is elastic"),
        headline=f"10<sup>{log10(space.size):.1f}</sup> subnets: {free} of {len(graph.groups)} groups of channels "
        f"have a choice of width, {len(blocks)} of {len(outlined.blocks)} blocks may be skipped.",
        lead=escape(_lead(graph, outlined)),
        notes=_notes(refused),
        totals=_totals(graph, space),
        map=_map(graph, outlined),
        groups_summary=f"{len(graph.groups)} groups, {len(graph.groups) - free} of them frozen",
        groups="\n".join(_groups(graph, space, refused)),
    )


_PARTS = ("build_page.html", "build_page.css", "build_page.js", "page.css")


def _lead(graph: ChannelGraph, outlined: Outline) -> str:
    shapes = ", ".join("×".join(map(str, shape)) for shape in graph.input_shapes)
    also = "".join(f" Of the inputs: {text}." for text in outlined.inputs)
    also += "".join(f" Of {row.path}: {'; '.join(row.notes)}." for row in outlined.pyramids if row.elastic)
    return f"Traced on inputs of {shapes or 'no tensors'}; MACs are those of one such example.{also}"


def _notes(refused: Sequence[Refusal]) -> str:
    """The choices that a run of the model refuted."""
    if not refused:
        return ""
    texts = [
        f"{refusal.choice.name} is left out, the model does not run with it: {refusal.reason}"
        for refusal in refused
    ]
    return f'<div class="notes">{"".join(f"<p>{escape(text)}</p>" for text in texts)}</div>'


def _totals(graph: ChannelGraph, space: SearchSpace) -> str:
    dims = [f"{sum(choice.dim == dim for choice in space.choices)} of {dim}" for dim in space.dims]
    rows = []
    for title, config in (
        ("Largest subnet (the original)", space.largest),
        ("Smallest subnet", space.smallest),
    ):
        cost = costs(graph, space, config)
        rows.append(f"<tr><th>{title}</th><td>{short(cost.macs)}</td><td>{short(cost.parameters)}</td></tr>")
    return (
        f"<table><thead><tr><th>{escape(', '.join(dims))}: {len(space.choices)} choices</th><th>MACs</th>"
        f"<th>Parameters</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _map(graph: ChannelGraph, outlined: Outline) -> str:
    numbers = {group.name: str(number) for number, group in enumerate(graph.groups)}
    rows = "\n".join(_row(row, numbers) for row in outlined.layers)
    height = _ROW * len(outlined.layers)
    return (
        f'<svg class="blocks" width="44" height="{height}" aria-hidden="true">{"".join(_brackets(outlined))}</svg>\n'
        f'<ol class="rows">\n{rows}\n</ol>\n'
        f'<svg class="edges" width="{_EDGES}" height="{height}" aria-hidden="true">'
        f"{''.join(_edges(outlined, numbers))}</svg>"
    )


def _row(row: Row, numbers: dict[str, str]) -> str:
    said = " · ".join(row.notes) or (f"frozen: {row.why[0]}" if row.why else "")
    lines = [row.path, row.type, *row.notes, *(f"frozen: {reason}" for reason in row.why)]
    parent, dot, leaf = row.path.rpartition(".")
    return (
        f'<li class="{"on" if row.elastic else "off"}" title="{escape(chr(10).join(lines))}" '
        f'data-makes="{" ".join(numbers[group] for group in row.groups)}" '
        f'data-reads="{" ".join(numbers[group] for group in row.reads)}">'
        f"<i></i><code><small>{escape(parent + dot)}</small>{escape(leaf)}</code>"
        f"<span>{escape(row.type)}</span><em>{escape(said)}</em></li>"
    )


def _brackets(outlined: Outline) -> Iterator[str]:
    """A bracket beside the layers of each block, and a dashed one beside each stage of several blocks."""
    for row in outlined.blocks.values():
        text = "\n".join(
            (row.path, row.type, *row.notes, *(f"never skipped: {reason}" for reason in row.why))
        )
        yield _bracket(outlined, (row.path,), 24, "skip" if row.elastic else "kept", text)
    for stage, blocks in outlined.stages.items():
        if len(blocks) > 1:
            elastic = any(outlined.blocks[block].elastic for block in blocks)
            text = f"{stage}: a stage of {len(blocks)} blocks"
            yield _bracket(outlined, blocks, 8, f"stage{' skip' if elastic else ''}", text)


def _bracket(outlined: Outline, blocks: tuple[str, ...], x: int, kind: str, text: str) -> str:
    rows = [
        number
        for number, row in enumerate(outlined.layers)
        if any(is_inside(row.path, block) for block in blocks)
    ]
    if not rows:
        return ""
    top, bottom = rows[0] * _ROW + 4, (rows[-1] + 1) * _ROW - 4
    line = f"M{x + 10} {top}H{x}V{bottom}H{x + 10}"
    return f'<path class="{kind}" d="{line}"><title>{escape(text)}</title></path>'


def _edges(outlined: Outline, numbers: dict[str, str]) -> Iterator[str]:
    """A curve from the last layer that made a group's channels to each layer that reads them."""
    made: dict[str, int] = {}
    for number, row in enumerate(outlined.layers):
        for group in row.reads:
            if group in made:
                top, bottom = (round((end + 0.5) * _ROW) for end in (made[group], number))
                x = min(_EDGES, round(16 + 20 * log2(number - made[group])))
                on = "on" if outlined.layers[made[group]].elastic else "off"
                text = f"{outlined.layers[made[group]].path} → {row.path}: {group}"
                yield (
                    f'<path class="{on}" data-group="{numbers[group]}" d="M0 {top}C{x} {top} {x} {bottom} 0 {bottom}">'
                    f"<title>{escape(text)}</title></path>"
                )
        made |= dict.fromkeys(row.groups, number)


def _groups(graph: ChannelGraph, space: SearchSpace, refused: Sequence[Refusal]) -> Iterator[str]:
    offered = _widths(space)
    reasons = {target: refusal.reason for refusal in refused for target in refusal.choice.targets}
    yield (
        "<table><thead><tr><th>Group</th><th>Layer</th><th>Channels</th><th>Unit</th>"
        "<th>Widths, or why frozen</th></tr></thead><tbody>"
    )
    for group in graph.groups:
        yield (
            f"<tr><th>{escape(group.name)}</th><td>{escape(group.type)}</td><td>{group.channels}</td>"
            f'<td>{group.channels_per_unit}</td><td class="text">'
            f"{escape(_offer(group, offered.get(group.name), reasons.get(group.name)))}</td></tr>"
        )
    yield "</tbody></table>"


def _offer(group: Group, choice: Choice | None, refusal: str | None) -> str:
    if choice is not None:
        return listed(choice.values)
    if refusal is not None:
        return f"frozen: another width does not run: {refusal}"
    return f"frozen: {'; '.join(group.why)}" if group.why else "whole: no other width is offered by the rules"


def _widths(space: SearchSpace) -> dict[str, Choice]:
    """The width choice of each group that has one."""
    return {target: choice for choice in space.choices if choice.dim == "width" for target in choice.targets}
