from __future__ import annotations

from residual_graph import DEPTH, KERNEL, SPACE, WIDTHS, residual

from bnas.graph.facts import Block, ChannelGraph, Group, Layer, Level, Pyramid, Segment
from bnas.report.outline import Refusal, Row, listed, outline
from bnas.space import Choice, SearchSpace


def test_layers_with_their_choices_and_reasons() -> None:
    assert outline(residual(), SPACE).layers == (
        Row(
            path="stem", type="Conv2d", elastic=True, notes=("width 8 16", "kernel 3 5"), groups=("stem",)
        ),
        Row(
            path="stage.0.a", type="Conv2d", elastic=True, notes=("width 4 8",),
            groups=("stage.0.a",), reads=("stem",),
        ),
        Row(
            path="stage.0.b", type="Conv2d", elastic=True, notes=("width as stem",),
            groups=("stem",), reads=("stage.0.a",),
        ),
        Row(
            path="stage.1.a", type="Conv2d", elastic=True, notes=("width 4 8",),
            groups=("stage.1.a",), reads=("stem",),
        ),
        Row(
            path="stage.1.b", type="Conv2d", elastic=True, notes=("width as stem",),
            groups=("stem",), reads=("stage.1.a",),
        ),
        Row(
            path="head.fc", type="Linear", elastic=False, why=("is an output of the model", "is read <twice>"),
            groups=("head.fc",), reads=("stem",),
        ),
    )  # fmt: skip


def test_blocks_and_stages() -> None:
    outlined = outline(residual(), SPACE)
    assert outlined.stages == {"stage": ("stage.0", "stage.1")}
    assert outlined.blocks["stage.1"] == Row(
        path="stage.1", type="Basic", elastic=True, notes=("may be skipped: stage.depth 0 1 2",)
    )


def test_what_the_rules_leave_out_is_told_from_what_does_not_run() -> None:
    space = SearchSpace(choices=WIDTHS[1:2])
    refused = [Refusal(choice=WIDTHS[0], reason="a view"), Refusal(choice=DEPTH, reason="no such block")]
    outlined = outline(residual(), space, [*refused, Refusal(choice=KERNEL, reason="odd padding")])
    stem, elastic, _, unasked, *_ = outlined.layers
    assert stem.why == ("another width does not run: a view", "its kernel: odd padding")
    assert (stem.elastic, elastic.elastic, unasked.elastic) == (False, True, False)
    assert unasked.why == ("no other value is offered by the rules in space",)
    assert outlined.blocks["stage.0"].why == ("without it the model does not run: no such block",)
    assert outline(residual(), space).blocks["stage.0"].why == (
        "no other value is offered by the rules in space",
    )


def test_a_layer_of_several_groups_says_which_channels_each_is() -> None:
    writes = (Segment(group="qkv[0:8]", units=2, repeat=4), Segment(group="qkv[8:16]", units=8))
    graph = ChannelGraph(
        groups=(Group(name="qkv[0:8]", units=2, channels_per_unit=4), Group(name="qkv[8:16]", units=8, why=("is odd",))),
        layers=(Layer(name="qkv", kind="linear", reads=(), writes=writes, positions=1),),
        blocks=(Block(name="keeps", stage="keeps", kind="preserving"),),
    )  # fmt: skip
    choice = Choice(name="heads", dim="width", values=(4, 8), targets=("qkv[0:8]", "other"))
    size = Choice(name="resolution", dim="resolution", values=(128, 224))
    outlined = outline(graph, SearchSpace(choices=(choice, size)))
    (row,) = outlined.layers
    assert row.notes == ("width 4 8 of channels 0 to 8", "units of 4", "one with other")
    assert row.why == ("is odd",)
    assert row.type == "linear"
    assert outlined.inputs == ("resolution 128 224",)
    assert outlined.blocks == {}  # it only keeps the shape, and nobody asked for it to be skipped


def test_levels_of_pyramids() -> None:
    levels = Level(name="0"), Level(name="1")
    graph = ChannelGraph(
        groups=(),
        layers=(),
        blocks=(),
        pyramids=(
            Pyramid(name="fpn", type="Fpn", levels=("0", "1", "2"), droppable=levels),
            Pyramid(name="own", type="Own", levels=("0", "1"), why=("has a forward of its own",)),
        ),
    )
    choice = Choice(name="fpn.levels", dim="levels", values=(1, 2, 3), targets=("fpn",))
    outlined = outline(graph, SearchSpace(choices=(choice,)))
    assert outlined.inputs == ()
    assert outlined.pyramids == (
        Row(path="fpn", type="Fpn", elastic=True, notes=("levels 1 2 3, the last of 0 1 2",)),
        Row(path="own", type="Own", elastic=False, why=("has a forward of its own",)),
    )
    (row, _) = outline(graph, SearchSpace(choices=()), [Refusal(choice=choice, reason="no '0'")]).pyramids
    assert row.why == ("with fewer levels the model does not run: no '0'",)


def test_many_values_are_shortened() -> None:
    assert listed((1, 2, 3, 4, 5, 6)) == "1 2 3 4 5 6"
    assert listed(tuple(range(8, 80, 8))) == "8 16 24 … 72 (9)"
