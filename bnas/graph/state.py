"""The state of one trace: what the rules read and write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from bnas.graph.channels import Parts, fixed, freeze, is_fixed, size, variable
from bnas.graph.unify import unite

if TYPE_CHECKING:
    from bnas.graph.pyramids import OpenPyramid

Levels = frozenset[tuple[str, str]]  # levels of pyramids: (pyramid, level)


@dataclass(frozen=True)
class Value:
    """The identity of a tensor's value: one that was computed, then only rearranged by `moves`."""

    token: int
    moves: tuple[Callable[[Tensor], Tensor], ...] = ()


@dataclass
class Mark:
    """What a tensor carries: a label per axis, its value, and the values that were added into it.

    `levels`: those levels of pyramids that it was computed from.
    """

    labels: tuple[Parts, ...]
    value: Value
    sums: frozenset[Value] = frozenset()
    trace: object = None  # the key of the trace that it is of
    levels: Levels = frozenset()


@dataclass
class OpenLayer:
    """A layer while tracing; becomes a `Layer` when all variables are known. `makes`: channels of its own."""

    name: str
    kind: str
    reads: Parts
    writes: Parts
    positions: int = 0
    kernel: tuple[int, ...] = ()
    groups: int = 1
    bias: bool = False
    type: str = ""
    axes: tuple[Parts, ...] = ()
    kernels: tuple[int, ...] = ()
    makes: bool = False
    stride: int = 1
    input_positions: int = 0
    then: list[str] = field(default_factory=list)
    shares: Counter[Levels] = field(default_factory=Counter)  # of the positions, by the levels they are of


@dataclass
class OpenAttribute:
    """A number of a module that follows labels; becomes an `Attribute`."""

    labels: tuple[Parts, ...]
    per: int = 1
    many: bool = False


@dataclass
class Call:
    """One call of a torch function, as a rule sees it."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def get(self, position: int, keyword: str, default: Any = None) -> Any:
        """An argument by position or keyword."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(keyword, default)

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments, in order."""
        return list(tensors_in((self.args, self.kwargs)))

    @property
    def results(self) -> list[Tensor]:
        return list(tensors_in(self.out))


@dataclass
class Trace:
    """The state of one trace; the rules read and mark tensors through it."""

    model: nn.Module
    layers: dict[str, OpenLayer] = field(default_factory=dict)
    attributes: dict[tuple[str, str], list[OpenAttribute]] = field(default_factory=dict)
    running: list[tuple[str, nn.Module]] = field(default_factory=list)
    decided: set[str] = field(default_factory=set)  # paths of those whose Python has looked at values
    tokens: int = 0
    maps: dict[str, dict[str, Value]] = field(default_factory=dict)  # that a pyramid may take, by their maker
    pyramids: dict[str, OpenPyramid] = field(default_factory=dict)
    levels: Levels = frozenset()  # of the arguments of the call that a rule is about
    training: bool = False  # the second run, in train mode: finds what meets, counts nothing
    latest: OpenLayer | None = None  # the layer that ran last, norms aside, where it was its first call

    def __post_init__(self) -> None:
        self.key = object()
        self.names: dict[int, list[str]] = {}  # of every parameter and buffer
        self.tensors: dict[int, Tensor] = {}
        self.origins: dict[int, Tensor] = {}  # by the token of their value
        for path, module in self.model.named_modules(remove_duplicate=False):
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None:
                    self.names.setdefault(id(tensor), []).append(f"{path}.{name}" if path else name)
                    self.tensors[id(tensor)] = tensor

    @property
    def path(self) -> str:
        """The path of the module whose `forward` is running."""
        return self.running[-1][0] if self.running else ""

    @property
    def module(self) -> nn.Module:
        """The module whose `forward` is running."""
        return self.running[-1][1] if self.running else self.model

    @property
    def where(self) -> str:
        return self.path or "the model"

    def labels(self, tensor: Tensor) -> tuple[Parts, ...]:
        """The label of each axis. The axes of a parameter or buffer begin as variables of their own; a tensor
        never seen (an input, a constant) is fixed."""
        mark = self.mark_of(tensor)
        if mark is None and id(tensor) in self.names:
            self.mark(tensor, [variable(n) if n > 1 else fixed(n) for n in tensor.shape])
            self.comes_from(tensor, frozenset())
            self.origins[self.tokens] = tensor
            mark = self.mark_of(tensor)
        return mark.labels if mark else tuple(fixed(size) for size in tensor.shape)

    def mark(
        self,
        tensor: Tensor,
        labels: Sequence[Parts],
        sums: frozenset[Value] = frozenset(),
        value: Value | None = None,
    ) -> None:
        """Set the labels of a result. `sums`: the values added into it; `value`: where it is not a new one."""
        if value is None:
            self.tokens += 1
            value = Value(self.tokens)
        tensor._bnas_mark = Mark(tuple(labels), value, sums, self.key, self.levels)  # type: ignore[attr-defined]

    def mark_of(self, tensor: Tensor) -> Mark | None:
        """What this trace has marked; a tensor that was kept since an earlier trace has the mark of that."""
        mark: Mark | None = getattr(tensor, "_bnas_mark", None)
        return mark if mark is not None and mark.trace is self.key else None

    def value(self, tensor: Tensor) -> Value:
        """The identity of a tensor's present value (an in-place change gives it a new one)."""
        mark = self.mark_of(tensor)
        if mark is None:
            self.mark(tensor, self.labels(tensor))
            self.comes_from(tensor, frozenset())
            mark = self.mark_of(tensor)
        assert mark is not None
        return mark.value

    def comes_from(self, tensor: Tensor, levels: Levels) -> None:
        """Note that `tensor`, which is marked, is of these levels."""
        mark = self.mark_of(tensor)
        if mark is not None:
            mark.levels = levels

    def begins(self, arguments: Any) -> None:
        """A call begins: what it makes is of the levels that its arguments are of."""
        if self.pyramids:
            marks = [self.mark_of(tensor) for tensor in tensors_in(arguments)]
            self.levels = frozenset().union(*(mark.levels for mark in marks if mark is not None))

    def sums(self, tensor: Tensor) -> frozenset[Value]:
        mark = self.mark_of(tensor)
        return mark.sums if mark else frozenset()

    def freeze_all(self, tensors: Sequence[Tensor], reason: str) -> None:
        for tensor in tensors:
            for label in self.labels(tensor):
                freeze(label, reason)

    def name(self, tensor: Tensor) -> str | None:
        """The `state_dict` name of a parameter or buffer; None for a computed tensor."""
        names = self.names.get(id(tensor))
        return names[0] if names else None

    def origin(self, tensor: Tensor) -> Tensor | None:
        """The parameter or buffer that `tensor` is, perhaps rearranged; None for a computed tensor."""
        self.labels(tensor)
        mark = self.mark_of(tensor)
        return self.origins.get(mark.value.token) if mark is not None else None

    def is_own(self, weight: Tensor, *kinds: type[nn.Module]) -> bool:
        """Whether the running module is one of `kinds`, and `weight` its own or computed by it."""
        if not isinstance(self.module, kinds):
            return False
        return self.module._parameters.get("weight") is weight or self.name(weight) is None

    def layer_name(self, weight: Tensor, kind: str) -> str:
        """What the layer with this weight is called: its module's path, where the weight is `weight`."""
        names = self.names.get(id(self.origin(weight)))
        if not names:  # computed: normalised, shared out, parametrized
            free = self.path not in self.layers and hasattr(self.module, "weight")
            return self.path if self.path and free else self.unique(self.path, kind)
        paths = [name.rpartition(".") for name in names]
        # A tied weight is a layer of its own in each module that computes with it.
        path, _, own = next((found for found in paths if found[0] == self.path), paths[0])
        return path if own == "weight" and path else (f"{path}.{own}" if path else own)

    def unique(self, path: str, kind: str) -> str:
        """A name for what the module at `path` computes without a weight of its own."""
        name = count = f"{path}.{kind}" if path else kind
        number = 1
        while name in self.layers:
            number += 1
            name = f"{count}_{number}"
        return name

    def layer(self, layer: OpenLayer) -> Parts:
        """Enter a call of a layer; returns the label of its output channels.

        A layer that is called again reads and writes the same channels as the first time.
        """
        if self.training:
            layer.positions = layer.input_positions = 0
            if not layer.makes and layer.name not in self.layers:
                return layer.writes
        known = self.layers.setdefault(layer.name, layer)
        if known.kind != layer.kind or size(known.reads) != size(layer.reads):  # another use of a tied weight
            layer.name = self.unique(layer.name, layer.kind)
            known = self.layers.setdefault(layer.name, layer)
        if known is not layer:
            unite(known.reads, layer.reads, f"the shared layer {layer.name}")
            unite(known.writes, layer.writes, f"the shared layer {layer.name}")
            known.positions += layer.positions
            known.input_positions += layer.input_positions
            known.kernels = tuple(size for size in known.kernels if size in layer.kernels)
        known.shares[self.levels] += layer.positions
        if not known.kind.endswith("norm"):
            self.latest = known if known is layer and not self.training else None
        return known.writes

    def follows_layer(self, function: str) -> None:
        """A pointwise function runs: it belongs to the layer before it."""
        if self.latest is not None and not self.training:
            self.latest.then.append(function)

    def follows(
        self, name: str, *labels: Parts, per: int = 1, many: bool = False, path: str | None = None
    ) -> None:
        """The attribute `name` of the running module (or the one at `path`) is the size of `labels` ÷ `per`."""
        key = (self.path if path is None else path, name)
        self.attributes.setdefault(key, []).append(OpenAttribute(labels, per, many))

    def follows_number(self, name: str, number: int, label: Parts, per: int) -> None:
        """As `follows`, for a number that the call was given: without an attribute that holds it, it stays."""
        if per == size(label) or is_fixed(label):
            return
        if getattr(self.module, name, None) == number:
            self.follows(name, label, per=per)
        else:
            freeze(label, f"is read in {number} groups by {self.where}, which has no attribute `{name}`")


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors_in(item)


def tensors_within(value: Any, seen: set[int] | None = None) -> Iterator[Tensor]:
    """All tensors in whatever a model may return, objects of any class too."""
    seen = set() if seen is None else seen
    if isinstance(value, Tensor):
        yield value
    elif not isinstance(value, (str, bytes, type, nn.Module)) and id(value) not in seen:
        seen.add(id(value))
        items = (
            value.values() if isinstance(value, Mapping) else value if isinstance(value, Collection) else ()
        )
        for item in (*items, *getattr(value, "__dict__", {}).values()):
            yield from tensors_within(item, seen)
