from __future__ import annotations

from dataclasses import replace

import pytest
from residual_graph import SPACE, WIDTHS, residual

from bnas.graph.facts import Block, ChannelGraph
from bnas.report.outline import Refusal
from bnas.report.tree import LEGEND, build_tree
from bnas.space import Choice, SearchSpace


def squeezed(tree: str) -> list[str]:
    """The lines with runs of blanks made one, except where the tree is drawn."""
    return [" ".join(line.split()) for line in tree.splitlines()]


def test_blocks_that_are_alike_are_shown_once() -> None:
    assert squeezed(build_tree(residual(), SPACE, name="net")) == [
        "net",
        "├─ ● stem Conv2d width 8 16 · kernel 3 5",
        "├─ stage",
        "│ └─ ◆ 0, 1 ×2 Basic may be skipped: stage.depth 0 1 2",
        "│ ├─ ● a Conv2d width 4 8",
        "│ └─ ● b Conv2d width as stem",
        "└─ ○ head.fc Linear frozen: is an output of the model (+1)",
        "",
        " ".join(LEGEND.split()),
    ]


def test_blocks_that_differ_inside_are_shown_each() -> None:
    other = Choice(name="stage.1.a.width", dim="width", values=(2, 4, 8), targets=("stage.1.a",))
    lines = squeezed(build_tree(residual(), SearchSpace(choices=(*SPACE.choices[:-1], other))))
    assert "│ ├─ ◆ 0 Basic may be skipped: stage.depth 0 1 2" in lines
    assert "│ └─ ◆ 1 Basic may be skipped: stage.depth 0 1 2" in lines
    assert "│ ├─ ● a Conv2d width 2 4 8" in lines


def test_blocks_with_a_choice_each_are_alike_too() -> None:
    free = [
        Choice(name=f"{b}.depth", dim="depth", values=(0, 1), targets=(b,)) for b in ("stage.0", "stage.1")
    ]
    lines = squeezed(build_tree(residual(), SearchSpace(choices=(*free, *WIDTHS))))
    assert "│ └─ ◆ 0, 1 ×2 Basic may be skipped" in lines


def test_one_that_is_refused_stands_out() -> None:
    refused = Refusal(choice=WIDTHS[1], reason="RuntimeError: shape '[4, 8]' is invalid")
    lines = squeezed(build_tree(residual(), SearchSpace(choices=SPACE.choices[:3]), [refused]))
    assert (
        "│ │ ├─ ○ a Conv2d frozen: another width does not run: RuntimeError: shape '[4, 8]' is invalid"
        in lines
    )
    assert "│ ├─ ○ a Conv2d frozen: no other value is offered by the rules in space" in lines


@pytest.mark.parametrize(
    ("names", "label"),
    [
        (("0", "1"), "0, 1  ×2"),
        (("0", "1", "2"), "0 … 2  ×3"),
        (("query", "key", "value"), "query, key, value  ×3"),
        (tuple(f"encoder_layer_{i}" for i in range(3)), "encoder_layer_0 … encoder_layer_2  ×3"),
    ],
)
def test_how_neighbours_are_called_together(names: tuple[str, ...], label: str) -> None:
    graph = residual()
    layer = graph.layer_by_name["head.fc"]
    graph = replace(graph, layers=tuple(replace(layer, name=f"net.{name}") for name in names), blocks=())
    tree = build_tree(graph, SearchSpace(choices=()))
    assert f"└─ ○ {label} " in tree


def test_a_block_with_one_choice_of_another_name_says_it() -> None:
    graph: ChannelGraph = replace(residual(), blocks=(Block(name="stage.1", stage="stage"),))
    depth = Choice(name="stage.depth", dim="depth", values=(0, 1), targets=("stage.1",))
    assert "may be skipped: stage.depth 0 1" in build_tree(graph, SearchSpace(choices=(depth,)))
    graph = replace(residual(), blocks=(Block(name="stage.1", stage="stage.1"),))
    depth = replace(depth, name="stage.1.depth")
    assert "may be skipped\n" in build_tree(graph, SearchSpace(choices=(depth,)))
