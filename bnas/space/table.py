"""Spaces and subnets as tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence, Set
from math import log10

from bnas.graph import costs as _costs
from bnas.graph.costs import Costs
from bnas.graph.facts import ChannelGraph, is_inside
from bnas.space.config import SubnetConfig
from bnas.space.precision import PRECISIONS
from bnas.space.shape import Shape, shape_of, skipped_blocks
from bnas.space.space import PRECISION, Choice, SearchSpace

SHOWN = 8  # values of a choice that are listed one by one
TARGETS = 3  # targets of a choice that are listed


def space_table(graph: ChannelGraph, space: SearchSpace) -> str:
    """Every choice with its values and what it is about; then the size of the space and of its ends."""
    rows = [["choice", "dim", "values", "about"]]
    for choice in space.choices:
        pattern = "" if choice.pattern == "first" else f", {choice.pattern}"
        rows.append([choice.name, choice.dim + pattern, _listed(choice.values), _targets(choice)])
    ends = [["", "MMACs", "M parameters"]]
    for name, config in (("largest", space.largest), ("smallest", space.smallest)):
        ends.append([name, *_numbers(_costs_of(graph, shape_of(graph, space, config)))])
    count = f"{len(space.choices)} choices, 10^{log10(space.size):.1f} subnets"
    return f"{_aligned(rows)}\n\n{count}\n{_aligned(ends, numbers=True)}"


def subnet_table(graph: ChannelGraph, space: SearchSpace, config: SubnetConfig) -> str:
    """The value of every choice beside that of the original network; then the costs of both."""
    shape = shape_of(graph, space, config)
    rows = [["choice", "value", "of", ""]]
    for choice in space.choices:
        value = config[choice.name]
        rows.append([choice.name, str(value), str(choice.values[-1]), _note(graph, choice, value, shape)])
    whole = _costs_of(graph, shape_of(graph, space, space.largest))
    return (
        f"{_aligned(rows)}\n\n{_compared({'subnet': _costs_of(graph, shape), 'original': whole}, 'original')}"
    )


def subnet_diff(
    graph: ChannelGraph,
    space: SearchSpace,
    a: SubnetConfig,
    b: SubnetConfig,
    names: tuple[str, str] = ("a", "b"),
) -> str:
    """The choices in which two subnets differ, and the costs of both; `names` head the columns."""
    shapes = shape_of(graph, space, a), shape_of(graph, space, b)
    rows = [["choice", *names, "of"]]
    for choice in space.choices:
        if a[choice.name] != b[choice.name]:
            rows.append([choice.name, *(str(c[choice.name]) for c in (a, b)), str(choice.values[-1])])
    costs = dict(zip(names, (_costs_of(graph, shape) for shape in shapes), strict=True))
    same = "the same subnet" if a == b else f"{len(rows) - 1} of {len(space.choices)} choices differ"
    table = "" if a == b else f"{_aligned(rows)}\n\n"
    return f"{table}{same}\n{_compared(costs, names[0])}"


def _costs_of(graph: ChannelGraph, shape: Shape) -> Costs:
    return _costs.costs(graph, shape.widths, shape.skipped, shape.kernels, shape.resolution, shape.levels)


def _listed(values: Sequence[int]) -> str:
    if len(values) <= SHOWN:
        return " ".join(map(str, values))
    return f"{values[0]} {values[1]} {values[2]} … {values[-1]} ({len(values)})"


def _targets(choice: Choice) -> str:
    if choice.dim == "resolution":
        return "the input images"
    if choice.dim == PRECISION and choice.targets == ("",):
        return "what has no other"
    more = len(choice.targets) - TARGETS
    return " ".join(choice.targets[:TARGETS]) + (f" … ({more} more)" if more > 0 else "")


def _note(graph: ChannelGraph, choice: Choice, value: int, shape: Shape) -> str:
    """What does not follow from the number: which blocks are left out, what is without effect."""
    if choice.dim == "depth":
        left_out = skipped_blocks(choice, value)
        return f"without {' '.join(left_out)}" if left_out else ""
    if choice.dim == "levels":
        left_out = [
            f"{name}:{level.name}"
            for name in choice.targets
            for level in graph.pyramid_by_name[name].dropped(value)
        ]
        return f"without {' '.join(left_out)}" if left_out else ""
    if choice.dim == PRECISION:
        return PRECISIONS[value]
    if choice.dim in ("width", "kernel") and not _is_used(graph, choice, shape.skipped):
        return "in a block that is left out"
    return ""


def _is_used(graph: ChannelGraph, choice: Choice, skipped: Set[str]) -> bool:
    for layer in graph.layers:
        named = (
            layer.name in choice.targets
            if choice.dim == "kernel"
            else any(segment.group in choice.targets for segment in (*layer.reads, *layer.writes))
        )
        if named and not any(is_inside(layer.name, block) for block in skipped):
            return True
    return False


def _numbers(costs: Costs) -> list[str]:
    return [_millions(costs.macs), _millions(costs.parameters)]


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}" if count >= 1e6 else f"{count / 1e6:.3g}"


def _compared(costs: dict[str, Costs], reference: str) -> str:
    """A line for each, with its share of the reference's."""
    rows = [["", "MMACs", "", "M parameters", ""]]
    base = costs[reference]
    for name, cost in costs.items():
        macs, parameters = _numbers(cost)
        shares = (_share(cost.macs, base.macs), _share(cost.parameters, base.parameters))
        rows.append(
            [name, macs, *shares[:1], parameters, *shares[1:]]
            if name != reference
            else [name, macs, "", parameters, ""]
        )
    return _aligned(rows, numbers=True)


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _aligned(rows: list[list[str]], *, numbers: bool = False) -> str:
    """Columns two spaces apart; with `numbers` all but the first are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
