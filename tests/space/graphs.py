"""A graph written by hand, with every kind of fact that a space is made of."""

from __future__ import annotations

from bnas.graph import (
    Block,
    ChannelGraph,
    Group,
    Label,
    Layer,
    Level,
    Pyramid,
    Resolution,
    Segment,
    Weight,
)


def label(group: str | None, units: int, repeat: int = 1) -> Label:
    return (Segment(group=group, units=units, repeat=repeat),)


def conv(name: str, reads: Label, writes: Label, positions: int, side: int = 3, groups: int = 1) -> Layer:
    return Layer(
        name=name,
        kind="conv",
        type="Conv2d",
        reads=reads,
        writes=writes,
        positions=positions,
        kernel=(side, side),
        kernels=tuple(range(3, side + 1, 2)) if side > 3 else (),
        groups=groups,
    )


# 40 channels from a 3×3 convolution, 32 in 8 groups of 4, a head of 10; blocks s.0 and s.1 add to their input.
GRAPH = ChannelGraph(
    groups=(
        Group(name="a", units=40, type="Conv2d"),
        Group(name="g", units=8, channels_per_unit=4, type="Conv2d"),
        Group(name="out", units=10, why=("is an output of the model",), type="Linear"),
    ),
    layers=(
        conv("a", label(None, 3), label("a", 40), 16),
        conv("s.0.g", label("a", 40), label("g", 8, 4), 16, side=1),
        Layer(
            name="s.1.d", kind="conv", type="Conv2d", reads=label("g", 8, 4), writes=label("g", 8, 4), positions=4,
            kernel=(3, 3), groups=8, bias=True,
        ),
        Layer(
            name="out", kind="linear", type="Linear", reads=label("g", 8, 4), writes=label("out", 10), positions=1,
            bias=True,
        ),
    ),
    blocks=(
        Block(name="s.0", stage="s", type="Residual"),
        Block(name="s.1", stage="s", type="Residual"),
    ),
    weights=(
        Weight(name="a.weight", axes=(label("a", 40), label(None, 3), label(None, 3), label(None, 3))),
        Weight(name="s.0.g.weight", axes=(label("g", 8, 4), label("a", 40), label(None, 1), label(None, 1))),
        Weight(name="s.1.d.weight", axes=(label("g", 8, 4), label(None, 4), label(None, 3), label(None, 3))),
        Weight(name="s.1.d.bias", axes=(label("g", 8, 4),)),
        Weight(name="out.weight", axes=(label("out", 10), label("g", 8, 4))),
        Weight(name="out.bias", axes=(label("out", 10),)),
    ),
)  # fmt: skip

# A tower of four convolutions 32 → 32 with kernels of 7, 5, 5 and 3, each of which only keeps the shape; 48² images.
TOWER = ChannelGraph(
    groups=(
        *(Group(name=name, units=32, type="Conv2d") for name in ("stem", "t.0", "t.1", "t.2", "t.3")),
        Group(name="out", units=4, why=("is an output of the model",), type="Conv2d"),
    ),
    layers=(
        conv("stem", label(None, 3), label("stem", 32), 2304),
        conv("t.0", label("stem", 32), label("t.0", 32), 2304, side=7),
        conv("t.1", label("t.0", 32), label("t.1", 32), 2304, side=5),
        conv("t.2", label("t.1", 32), label("t.2", 32), 2304, side=5),
        conv("t.3", label("t.2", 32), label("t.3", 32), 2304),
        conv("out", label("t.3", 32), label("out", 4), 2304, side=1),
    ),
    blocks=tuple(
        Block(name=f"t.{i}", stage="t", kind="preserving", type="Conv2d", ties=((before, f"t.{i}"),))
        for i, before in enumerate(("stem", "t.0", "t.1", "t.2"))
    ),
    weights=tuple(
        Weight(name=f"{name}.weight", axes=(label(name, makes), reads, label(None, side), label(None, side)))
        for name, makes, reads, side in (
            ("stem", 32, label(None, 3), 3),
            ("t.0", 32, label("stem", 32), 7),
            ("t.1", 32, label("t.0", 32), 5),
            ("t.2", 32, label("t.1", 32), 5),
            ("t.3", 32, label("t.2", 32), 3),
            ("out", 4, label("t.3", 32), 1),
        )
    ),
    input_shapes=((1, 3, 48, 48),),
    resolutions=(
        Resolution(size=24, positions=(576,) * 6),
        Resolution(size=32, positions=(1024,) * 6),
    ),
)

# Seven residual blocks in a row, of classes A A A B B B B, on 64 channels.
STAGE = ChannelGraph(
    groups=(Group(name="c", units=64),),
    layers=(conv("c", label(None, 3), label("c", 64), 1),),
    blocks=tuple(Block(name=f"b.{i}", stage="b", type="A" if i < 3 else "B") for i in range(7)),
)

# A pyramid of four levels, of which the two finest may go, and one that must stay whole; a head reads 16² + 8² + 4² + 2².
PYRAMID = ChannelGraph(
    groups=(Group(name="head", units=4, why=("is an output of the model",)),),
    layers=(
        conv("fpn.layer_blocks.0", label(None, 8), label(None, 8), 256),
        conv("fpn.layer_blocks.1", label(None, 8), label(None, 8), 64),
        conv("head", label(None, 8), label("head", 4), 340),
    ),
    blocks=(),
    pyramids=(
        Pyramid(
            name="fpn",
            type="FeaturePyramidNetwork",
            levels=("0", "1", "2", "pool"),
            droppable=(
                Level(name="0", modules=("fpn.layer_blocks.0",), positions=(("head", 256),)),
                Level(name="1", modules=("fpn.layer_blocks.1",), positions=(("head", 64),)),
            ),
            followers=("fpn",),
        ),
        Pyramid(name="other", levels=("0", "1"), followers=("other",), why=("has a forward of its own",)),
    ),
    input_shapes=((1, 3, 32, 32),),
    resolutions=(
        Resolution(
            size=16,
            positions=(64, 16, 85),
            pyramids=(
                Pyramid(
                    name="fpn",
                    levels=("0", "1", "2", "pool"),
                    droppable=(
                        Level(name="0", modules=("fpn.layer_blocks.0",), positions=(("head", 64),)),
                        Level(name="1", modules=("fpn.layer_blocks.1",), positions=(("head", 16),)),
                    ),
                ),
            ),
        ),
    ),
)


def one_group(units: int, channels_per_unit: int = 1) -> ChannelGraph:
    """A model of a single free group."""
    return ChannelGraph(
        groups=(Group(name="x", units=units, channels_per_unit=channels_per_unit),), layers=(), blocks=()
    )
