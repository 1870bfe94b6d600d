"""The tree of a model's modules, with what is elastic and what is frozen, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bnas.graph.facts import ChannelGraph
from bnas.report.outline import Refusal, Row, outline
from bnas.space import SearchSpace

LEGEND = "● elastic   ○ frozen   ◆ may be skipped   ×3  three alike, the first is shown"
_NAME_COLUMNS = 46  # a longer name moves the rest of its line
_TYPE_COLUMNS = 20
_NAMES_COLUMNS = 32  # names of modules that are alike are listed up to this length


@dataclass
class _Node:
    """A module on the way to a layer."""

    path: str
    layer: Row | None = None
    block: Row | None = None
    children: dict[str, _Node] = field(default_factory=dict)


def build_tree(
    graph: ChannelGraph, space: SearchSpace, refused: Sequence[Refusal] = (), name: str = "model"
) -> str:
    """Every layer and skippable block of the model called `name`: its widths, or why it is frozen.

    Neighbours that are alike inside are shown once, with their number.
    """
    outlined = outline(graph, space, refused)
    root = _Node("")
    for row in (*outlined.layers, *outlined.pyramids):
        _insert(root, row.path).layer = row
    for path, row in outlined.blocks.items():
        _insert(root, path).block = row
    lines = [" · ".join((name, *outlined.inputs)), *_lines(root, ""), "", LEGEND]
    return "\n".join(lines)


def _insert(root: _Node, path: str) -> _Node:
    node = root
    for part in path.split(".") if path else ():
        below = f"{node.path}.{part}" if node.path else part
        node = node.children.setdefault(part, _Node(below))
    return node


def _lines(node: _Node, indent: str) -> Iterator[str]:
    runs = list(_runs(list(node.children.values())))
    for position, run in enumerate(runs):
        last = position == len(runs) - 1
        first, label = _shortened(run[0], node.path)
        if len(run) > 1:
            label = _together([_shortened(own, node.path)[1] for own in run])
        yield _line(f"{indent}{'└─' if last else '├─'} ", label, first)
        yield from _lines(first, f"{indent}{'   ' if last else '│  '}")


def _together(labels: list[str]) -> str:
    """The names of neighbours that are alike, or the first and the last of them, and their number."""
    every = ", ".join(labels)
    numbered = all(label.partition(".")[0].isdigit() for label in labels)
    short = (len(labels) > 2 and numbered) or len(every) > _NAMES_COLUMNS
    return f"{labels[0]} … {labels[-1]}  ×{len(labels)}" if short else f"{every}  ×{len(labels)}"


def _shortened(node: _Node, parent: str) -> tuple[_Node, str]:
    """The next module below that says something, with its name: `backbone.body` in one line."""
    while node.layer is None and node.block is None and len(node.children) == 1:
        node = next(iter(node.children.values()))
    return node, _below(node.path, parent)


def _below(path: str, parent: str) -> str:
    return path[len(parent) + 1 :] if parent else path


def _line(indent: str, label: str, node: _Node) -> str:
    block, layer = node.block, node.layer
    mark = "◆" if block and block.elastic else " "
    if layer is not None:
        mark += "●" if layer.elastic else "○"
    name = f"{indent}{mark.strip()}{' ' if mark.strip() else ''}{label}"
    rows = [row for row in (block, layer) if row is not None]
    kind = " ".join(dict.fromkeys(row.type for row in rows if row.type))
    said = " · ".join(text for row in rows for text in _said(row, row is block))
    if not kind and not said:
        return name
    return f"{name:<{_NAME_COLUMNS}} {kind:<{_TYPE_COLUMNS}} {said}".rstrip()


def _said(row: Row, is_block: bool) -> Iterator[str]:
    yield from row.notes
    if row.why:
        more = f" (+{len(row.why) - 1})" if len(row.why) > 1 else ""
        yield f"{'never skipped' if is_block else 'frozen'}: {row.why[0]}{more}"


def _runs(nodes: list[_Node]) -> Iterator[list[_Node]]:
    """Neighbours that are alike inside, together."""
    run: list[_Node] = []
    for node in nodes:
        if run and _inside(node) != _inside(run[0]):
            yield run
            run = []
        run.append(node)
    if run:
        yield run


def _inside(node: _Node) -> str:
    """Everything that is said about a module and below it, with its own path left out."""
    layer = _Node(node.path, layer=node.layer)
    own = "\n".join([_line("", "", layer), *_lines(node, "")]).replace(f"{node.path}.", "·")
    return "\n".join((own, _line("", "", _Node(node.path, block=node.block))))
