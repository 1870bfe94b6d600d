"""From a finished trace to facts: names of groups, weights, attributes, modules that did not run."""

from __future__ import annotations

import torch
from nets import Net, attributes, conv, facts, free, groups, layers, parameter, text, weights
from torch import Tensor, nn

from bnas.graph import Group, trace
from bnas.plain import from_plain, to_plain


def test_groups_are_named_after_the_first_layer_that_makes_them() -> None:
    graph = facts(lambda m, x: m.c(m.b(x) + m.a(x)), a=conv(3, 8), b=nn.Conv2d(3, 8, 1), c=conv(8, 4))
    assert graph.groups == (
        Group(name="b", units=8, type="Conv2d"),
        Group(name="c", units=4, why=("is an output of the model",), type="Conv2d"),
    )


def test_one_group_in_two_pieces_of_a_layer_has_the_layers_name() -> None:
    """c makes 6 channels of every 2 of b; beside each other they are added to a's 16."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        return m.d(m.a(x) + torch.cat([m.b(x), m.c(m.b(x))], 1))

    graph = facts(forward, a=conv(3, 16), b=conv(3, 4), c=conv(4, 12, groups=2), d=conv(16, 4))
    assert free(graph) == {"a": "2x2"}
    assert layers(graph)["a"] == "3 → a:2x2 + a:2x6"


def test_a_layer_that_several_groups_share_and_one_that_is_whole() -> None:
    graph = facts(
        lambda m, x: m.c(m.a(x) + torch.cat([m.b(x), x], 1)),
        2,
        4,
        8,
        8,
        a=conv(4, 12),
        b=conv(4, 8),
        c=conv(12, 4),
    )
    assert groups(graph) == {
        "a[0:8]": "8",
        "a[8:12]": "4 ! meets an axis of fixed size in add in the model",
        "c": "4 ! is an output of the model",
    }
    assert layers(graph)["a"] == "4 → a[0:8]:8 + a[8:12]:4"


def test_what_no_layer_makes_is_of_fixed_size() -> None:
    """A bank of 5 learned filters that are averaged: nothing says that some of the 5 may go."""
    graph = facts(lambda m, x: m.a(x * m.bank.mean(0)), bank=parameter(5, 1, 1, 8), a=conv(3, 4))
    assert weights(graph, "bank") == {"bank": ["5", "1", "1", "8"]}
    assert free(graph) == {}


def test_every_parameter_is_a_weight_and_buffers_where_they_follow_channels() -> None:
    graph = facts(
        lambda m, x: m.b(m.norm(m.a(x))), a=conv(3, 8, bias=False), norm=nn.BatchNorm2d(8), b=conv(8, 4)
    )
    assert [(weight.name, weight.trainable) for weight in graph.weights] == [
        ("a.weight", True),
        ("norm.weight", True),
        ("norm.bias", True),
        ("norm.running_mean", False),
        ("norm.running_var", False),
        ("b.weight", True),
        ("b.bias", True),
    ]


def test_weights_of_modules_that_do_not_run() -> None:
    graph = trace(Net(lambda m, x: m.a(x), a=conv(3, 4), unused=conv(3, 8)), (torch.randn(1, 3, 8, 8),))
    assert [text(axis) for axis in graph.weight_by_name["unused.weight"].axes] == ["8", "3", "3", "3"]
    assert graph.idle == ("unused",)


def test_attributes_of_fixed_axes_are_left_out() -> None:
    graph = facts(lambda m, x: m.norm(m.a(x)), a=conv(3, 8), norm=nn.GroupNorm(2, 8))
    assert attributes(graph) == {}


class TwoByOneNumber(nn.Module):
    """Two attentions, in turn, of one `num_heads`."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.first, self.second, self.last = nn.Linear(6, 12), nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        for layer, size in ((self.first, 3), (self.second, 2)):
            y = layer(x).view(*x.shape[:2], self.num_heads, size).transpose(1, 2)
            x = ((y @ y.mT).softmax(-1) @ y).transpose(1, 2).flatten(2)
        return self.last(x)


def test_what_one_attribute_is_the_size_of_is_one_width() -> None:
    graph = facts(lambda m, x: m.at(x), 2, 5, 6, at=TwoByOneNumber())
    assert free(graph) == {"at.first": "4x3"}
    assert layers(graph)["at.second"] == "at.first:4x3 → at.first:4x2"
    assert attributes(graph)["at.num_heads"] == "at.first:4"


def test_heads_are_an_axis_of_a_product() -> None:
    """Products are of each head; what is the same for every subnet counts as positions."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        q = m.q(x).unflatten(-1, (-1, 3)).transpose(1, 2)
        return m.out(((q @ q.mT) @ q).transpose(1, 2).flatten(2))

    first, second = (
        layer for layer in facts(forward, 1, 5, 8, q=nn.Linear(8, 12), out=nn.Linear(12, 4)).layers
        if layer.kind == "matmul"
    )  # fmt: skip
    assert (text(first.reads), text(first.writes), first.positions) == ("3", "5", 5)
    assert (text(second.reads), text(second.writes), second.positions) == ("5", "3", 5)
    assert [text(axis) for layer in (first, second) for axis in layer.axes] == ["q:4", "q:4"]


def test_shared_names() -> None:
    shared = nn.BatchNorm2d(8)
    graph = facts(lambda m, x: m.b(m.y(m.x(m.a(x)))), a=conv(3, 8), x=shared, y=shared, b=conv(8, 4))
    assert graph.weight_by_name["x.running_mean"].aliases == ("y.running_mean",)


class Fused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.second, self.head = nn.Conv2d(8, 8, 1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu_()
        x = torch.relu(self.second(x) + x)
        return self.head(x.mean((2, 3)))


def test_strides_positions_read_and_functions_that_follow() -> None:
    first, norm, second, head = trace(Fused(), (torch.randn(1, 3, 8, 12),)).layers
    assert (first.stride, first.positions, first.input_positions) == (4, 4 * 6, 8 * 12)
    assert first.then == ("relu",)
    assert (norm.then, head.then) == ((), ())
    assert (second.stride, second.input_positions, second.then) == (1, 4 * 6, ("add", "relu"))


def test_facts_of_before_read_as_facts() -> None:
    """What a layer has gained since is left out of the JSON where it says nothing."""
    graph = trace(Fused(), (torch.randn(1, 3, 8, 12),))
    assert from_plain(type(graph), to_plain(graph)) == graph
    plain = to_plain(graph.layers[1])
    assert not {"stride", "input_positions", "then"} & set(plain)
