"""What is true of a model's channels: the frozen result of tracing.

A *group* is a set of channels that must keep or lose the same members everywhere: the output channels of a
convolution, united with everything added to them. A *label* says which group's channels lie along one axis
of a tensor: a tuple of segments, in order. `Segment(group="a", units=64, repeat=49)` is 64 units of group
a, each covering 49 consecutive positions (as after flattening 64×7×7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, kw_only=True)
class Segment:
    """`units` units of `group`, each `repeat` consecutive positions; `group=None` is of fixed size."""

    group: str | None
    units: int
    repeat: int = 1

    @property
    def size(self) -> int:
        return self.units * self.repeat


Label = tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Channels that share one width, named after the first layer that makes them.

    `units` is the number of indivisible units and `channels_per_unit` how many channels of the naming layer
    one unit is (more than 1 where a grouped convolution or an attention reads them: whole groups, whole
    heads). `type` is the class of the naming layer. `why` holds the reasons why the width must stay as it
    is; without any the group is free.
    """

    name: str
    units: int
    channels_per_unit: int = 1
    why: tuple[str, ...] = ()
    type: str = ""

    @property
    def channels(self) -> int:
        return self.units * self.channels_per_unit

    @property
    def free(self) -> bool:
        return not self.why


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One place that computes with weights, or one product of two activations (kind `matmul`).

    It reads the channels `reads` and makes the channels `writes`. Its multiply-accumulates are the product
    of both active sizes (for grouped convolutions: of the outputs and the inputs of one group), of the
    active sizes of `axes`, of `positions` (output positions of the example: height × width, tokens; all
    calls of a shared module added up) and of the `kernel`. `kernels` are the sizes that a centre crop of
    the kernel can have, ascending, the last the whole; empty where the kernel cannot be cropped.
    `stride` is the product of a convolution's strides, `input_positions` counts the positions that it reads (0: as
    many as it makes). `then` are the pointwise functions (activations, sums, products) that run after it and
    before the next layer, norms aside: what a runtime may fuse to it.
    """

    name: str
    kind: str
    reads: Label
    writes: Label
    positions: int
    kernel: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    type: str = ""
    axes: tuple[Label, ...] = ()
    kernels: tuple[int, ...] = ()
    stride: int = field(default=1, metadata={"plain": "unless default"})
    input_positions: int = field(default=0, metadata={"plain": "unless default"})
    then: tuple[str, ...] = field(default=(), metadata={"plain": "unless default"})


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A parameter or buffer: the label along each of its axes. `aliases` are further names of the tensor."""

    name: str
    axes: tuple[Label, ...]
    trainable: bool = True
    aliases: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.name.rpartition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """A number that a module keeps about its size, such as `groups`: the active sizes of `labels` ÷ `per`.

    `many` tells a tuple of numbers (as `normalized_shape`) from a single one.
    """

    module: str
    name: str
    labels: tuple[Label, ...]
    per: int = 1
    many: bool = False


@dataclass(frozen=True, kw_only=True)
class Block:
    """A module that may be skipped: without it its input stands in for its output.

    `kind` is `residual` where it adds its very input to its output, and `preserving` where the two only
    have the same shape; then the groups in each pair of `ties` must have one width. Blocks that follow one
    another directly form a `stage`, in order. `type` is the class of the module. A `listed` block takes
    more arguments than its input, so that no identity can stand in for it: it leaves its `nn.ModuleList`.
    """

    name: str
    stage: str
    kind: str = "residual"
    type: str = ""
    ties: tuple[tuple[str, str], ...] = ()
    listed: bool = False


@dataclass(frozen=True, kw_only=True)
class Level:
    """A level of a pyramid that may be dropped.

    `modules` run for it alone. Of the output positions of each layer in `positions`, by its name, so many are
    of this level.
    """

    name: str
    modules: tuple[str, ...] = ()
    positions: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pyramid:
    """A feature pyramid: a module that makes maps of an image, its `levels`, the finest first.

    The first so many of `droppable` may be dropped. `followers` are the modules that have to know which
    levels there are, itself among them. `why` holds the reasons why all levels must stay. `type` is its class.
    """

    name: str
    levels: tuple[str, ...]
    droppable: tuple[Level, ...] = ()
    followers: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    type: str = ""

    @property
    def possible(self) -> tuple[int, ...]:
        """How many levels can stay, ascending."""
        return tuple(range(len(self.levels) - len(self.droppable), len(self.levels) + 1))

    def dropped(self, kept: int) -> tuple[Level, ...]:
        """The levels that are dropped when `kept` of all stay."""
        return self.droppable[: len(self.levels) - kept]


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """Output positions of every layer, in order, when the input images have `size` × `size` pixels.

    `pyramids` are those of the graph, with the positions of their levels at this size.
    """

    size: int
    positions: tuple[int, ...]
    pyramids: tuple[Pyramid, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChannelGraph:
    """All facts about a traced model; tuples are in order of execution.

    `idle` are modules with parameters that did not run on the example; they stay as they are.
    """

    groups: tuple[Group, ...]
    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...]
    weights: tuple[Weight, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    input_shapes: tuple[tuple[int, ...], ...] = ()
    resolutions: tuple[Resolution, ...] = ()
    idle: tuple[str, ...] = ()
    pyramids: tuple[Pyramid, ...] = ()

    @cached_property
    def group_by_name(self) -> dict[str, Group]:
        return {group.name: group for group in self.groups}

    @cached_property
    def layer_by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def block_by_name(self) -> dict[str, Block]:
        return {block.name: block for block in self.blocks}

    @cached_property
    def weight_by_name(self) -> dict[str, Weight]:
        return {weight.name: weight for weight in self.weights}

    @cached_property
    def pyramid_by_name(self) -> dict[str, Pyramid]:
        return {pyramid.name: pyramid for pyramid in self.pyramids}

    @cached_property
    def stages(self) -> dict[str, tuple[str, ...]]:
        """Names of the residual blocks of every stage, in order of execution."""
        return self._stages("residual")

    @cached_property
    def preserving_stages(self) -> dict[str, tuple[str, ...]]:
        """Names of the blocks of every stage that only keep the shape, in order of execution."""
        return self._stages("preserving")

    def _stages(self, kind: str) -> dict[str, tuple[str, ...]]:
        stages: dict[str, tuple[str, ...]] = {}
        for block in self.blocks:
            if block.kind == kind:
                stages[block.stage] = (*stages.get(block.stage, ()), block.name)
        return stages


def is_inside(name: str, ancestor: str) -> bool:
    """Whether module path `name` is `ancestor` or lies below it."""
    return not ancestor or name == ancestor or name.startswith(ancestor + ".")
