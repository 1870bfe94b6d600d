"""Facts and a space of a small residual network, written by hand: one stem, one stage of two blocks, a head."""

from __future__ import annotations

from bnas.graph.facts import Block, ChannelGraph, Group, Layer, Segment, Weight
from bnas.space import Choice, SearchSpace

RGB = (Segment(group=None, units=3),)


def group(name: str, units: int) -> tuple[Segment, ...]:
    return (Segment(group=name, units=units),)


def conv(name: str, reads: tuple[Segment, ...], writes: tuple[Segment, ...], **more: object) -> Layer:
    return Layer(
        name=name,
        kind="conv2d",
        type="Conv2d",
        reads=reads,
        writes=writes,
        positions=16,
        kernel=(5, 5),
        **more,
    )


STEM, INNER = group("stem", 16), [group(f"stage.{i}.a", 8) for i in range(2)]


def residual(stem: str = "stem") -> ChannelGraph:
    """`stem` is the name of the first layer."""
    trunk = group(stem, 16)
    layers = [conv(stem, RGB, trunk, kernels=(3, 5))]
    layers.append(
        Layer(name="bn", kind="batch_norm", type="BatchNorm2d", reads=trunk, writes=trunk, positions=16)
    )
    for i in range(2):
        layers += [conv(f"stage.{i}.a", trunk, INNER[i]), conv(f"stage.{i}.b", INNER[i], trunk)]
    layers.append(
        Layer(name="scores", kind="matmul", type="", reads=trunk, writes=RGB, positions=1)
    )  # a product of two activations has no line of its own
    layers.append(
        Layer(
            name="head.fc",
            kind="linear",
            type="Linear",
            reads=trunk,
            writes=group("head.fc", 10),
            positions=1,
        )
    )
    return ChannelGraph(
        groups=(
            Group(name=stem, units=16, type="Conv2d"),
            Group(name="stage.0.a", units=8, type="Conv2d"),
            Group(name="stage.1.a", units=8, type="Conv2d"),
            Group(
                name="head.fc", units=10, type="Linear", why=("is an output of the model", "is read <twice>")
            ),
        ),
        layers=tuple(layers),
        blocks=tuple(Block(name=f"stage.{i}", stage="stage", type="Basic") for i in range(2)),
        weights=tuple(
            Weight(
                name=f"{layer.name}.weight",
                axes=(
                    layer.writes,
                    layer.reads,
                    *((Segment(group=None, units=side),) for side in layer.kernel),
                ),
            )
            for layer in layers
            if layer.kind in ("conv2d", "linear")
        ),
        input_shapes=((1, 3, 4, 4),),
    )


def width(name: str, *values: int) -> Choice:
    return Choice(name=f"{name}.width", dim="width", values=values, targets=(name,))


DEPTH = Choice(name="stage.depth", dim="depth", values=(0, 1, 2), targets=("stage.0", "stage.1"))
KERNEL = Choice(name="stem.kernel", dim="kernel", values=(3, 5), targets=("stem",))
WIDTHS = (width("stem", 8, 16), width("stage.0.a", 4, 8), width("stage.1.a", 4, 8))
SPACE = SearchSpace(choices=(DEPTH, KERNEL, *WIDTHS))
