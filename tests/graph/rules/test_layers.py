"""Layers with weights: what they read, what they make, and the labels of their tensors."""

from __future__ import annotations

import pytest
import torch
from nets import attributes, checked, conv, facts, free, groups, layers, parameter, weights, why
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torchvision.ops import FrozenBatchNorm2d

from bnas.graph import ChannelGraph


def test_chain() -> None:
    graph = facts(
        lambda m, x: m.b(F.relu(m.norm(m.a(x)))), a=conv(3, 8), norm=nn.BatchNorm2d(8), b=conv(8, 4)
    )
    assert groups(graph) == {"a": "8", "b": "4 ! is an output of the model"}
    assert layers(graph) == {"a": "3 → a:8", "norm": "a:8 → a:8", "b": "a:8 → b:4"}
    assert weights(graph) == {
        "a.weight": ["a:8", "3", "3", "3"],
        "a.bias": ["a:8"],
        "norm.weight": ["a:8"],
        "norm.bias": ["a:8"],
        "norm.running_mean": ["a:8"],
        "norm.running_var": ["a:8"],
        "b.weight": ["b:4", "a:8", "3", "3"],
        "b.bias": ["b:4"],
    }
    assert attributes(graph) == {"a.out_channels": "a:8", "norm.num_features": "a:8", "b.in_channels": "a:8"}
    assert [(layer.kind, layer.type, layer.bias) for layer in graph.layers] == [
        ("conv2d", "Conv2d", True),
        ("batch_norm", "BatchNorm2d", True),
        ("conv2d", "Conv2d", True),
    ]
    assert (graph.layer_by_name["a"].positions, graph.layer_by_name["a"].kernel) == (64, (3, 3))


@pytest.mark.parametrize(
    ("layer", "shape", "sides"),
    [
        (nn.Conv1d, (2, 3, 9), (3,)),
        (nn.Conv2d, (2, 3, 9, 9), (3, 3)),
        (nn.Conv3d, (2, 3, 9, 9, 9), (3, 3, 3)),
    ],
)
def test_convolutions(layer: type[nn.Module], shape: tuple[int, ...], sides: tuple[int, ...]) -> None:
    graph = facts(lambda m, x: m.b(m.a(x)), *shape, a=layer(3, 8, 3), b=layer(8, 4, 3, bias=False))
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}
    assert weights(graph)["b.weight"] == ["b:4", "a:8", *map(str, sides)]
    first, second = graph.layers
    assert (first.positions, second.positions) == (7 ** len(sides), 5 ** len(sides))
    assert (first.kernel, first.bias, second.bias) == (sides, True, False)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_transposed_convolutions(dims: int) -> None:
    """The weight is [inputs, outputs, …]; each of the 8^dims input positions meets the whole kernel."""
    layer = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dims - 1]
    graph = facts(
        lambda m, x: m.b(m.a(x)), 2, 3, *[8] * dims, a=layer(3, 8, 2, stride=2), b=layer(8, 4, 2, stride=2)
    )
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}
    assert weights(graph) == {
        "a.weight": ["3", "a:8", *["2"] * dims],
        "a.bias": ["a:8"],
        "b.weight": ["a:8", "b:4", *["2"] * dims],
        "b.bias": ["b:4"],
    }
    assert graph.layers[0].positions == 8**dims


def test_unbatched_convolution() -> None:
    graph = facts(lambda m, x: m.b(m.a(x[0])), a=conv(3, 8), b=conv(8, 4))
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}


def test_depthwise_hands_channels_on() -> None:
    graph = facts(lambda m, x: m.c(m.dw(m.a(x))), a=conv(3, 8), dw=conv(8, 16, groups=8), c=conv(16, 4))
    assert layers(graph) == {"a": "3 → a:8", "dw": "a:8 → a:8x2", "c": "a:8x2 → c:4"}
    assert weights(graph, "dw.weight", "dw.bias") == {
        "dw.weight": ["a:8x2", "1", "3", "3"],
        "dw.bias": ["a:8x2"],
    }
    assert attributes(graph)["dw.groups"] == "a:8"


def test_grouped_convolution_keeps_whole_groups() -> None:
    """12 → 6 in 3 groups: 4 input channels and 2 output channels go together."""
    graph = facts(
        lambda m, x: m.c(m.grouped(m.a(x))), a=conv(3, 12), grouped=conv(12, 6, groups=3), c=conv(6, 4)
    )
    assert free(graph) == {"a": "3x4"}
    assert graph.group_by_name["a"].channels == 12
    assert layers(graph) == {"a": "3 → a:3x4", "grouped": "a:3x4 → a:3x2", "c": "a:3x2 → c:4"}
    assert weights(graph, "grouped.weight") == {"grouped.weight": ["a:3x2", "4", "3", "3"]}
    assert attributes(graph) == {
        "a.out_channels": "a:3x4",
        "grouped.in_channels": "a:3x4",
        "grouped.out_channels": "a:3x2",
        "grouped.groups": "a:3x4 / 4",
        "c.in_channels": "a:3x2",
    }


def test_grouped_transposed_convolution() -> None:
    """As above; the weight is [12, 6 ÷ 3, …]."""
    grouped = nn.ConvTranspose2d(12, 6, 3, padding=1, groups=3)
    graph = facts(lambda m, x: m.c(m.grouped(m.a(x))), a=conv(3, 12), grouped=grouped, c=conv(6, 4))
    assert layers(graph) == {"a": "3 → a:3x4", "grouped": "a:3x4 → a:3x2", "c": "a:3x2 → c:4"}
    assert weights(graph, "grouped.weight", "grouped.bias") == {
        "grouped.weight": ["a:3x4", "2", "3", "3"],
        "grouped.bias": ["a:3x2"],
    }
    assert attributes(graph)["grouped.groups"] == "a:3x4 / 4"


@pytest.mark.parametrize(
    "grouped", [conv(12, 6, groups=3), nn.ConvTranspose2d(12, 6, 3, padding=1, groups=3), nn.GroupNorm(3, 12)]
)
def test_groups_that_do_not_divide_a_cat(grouped: nn.Module) -> None:
    """Groups of 4 over 5 + 7 channels: the second group has channels of both."""
    graph = facts(
        lambda m, x: m.grouped(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 5), b=conv(3, 7), grouped=grouped
    )
    assert free(graph) == {}
    assert "its channels do not divide into the groups of grouped" in why(graph, "a")
    assert "its channels do not divide into the groups of grouped" in why(graph, "b")


def test_groups_that_no_attribute_holds_are_frozen() -> None:
    graph = facts(
        lambda m, x: m.b(F.conv2d(m.a(x), m.w, padding=1, groups=4)),
        a=conv(3, 8), w=parameter(8, 2, 3, 3), b=conv(8, 4),
    )  # fmt: skip
    assert why(graph, "a") == "is read in 4 groups by the model, which has no attribute `groups`"


class OwnConv(nn.Module):
    """A module of the user's own, with bare weights."""

    def __init__(self, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        self.kernel, self.shift = parameter(outputs, inputs // groups, 3, 3), parameter(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, self.shift, padding=1, groups=self.groups)


def test_own_module_with_bare_weights() -> None:
    graph = facts(lambda m, x: m.c(m.b(m.a(x))), a=OwnConv(3, 8), b=OwnConv(8, 8, groups=4), c=conv(8, 4))
    assert layers(graph) == {
        "a.kernel": "3 → a.kernel:4x2",
        "b.kernel": "a.kernel:4x2 → a.kernel:4x2",
        "c": "a.kernel:4x2 → c:4",
    }
    assert weights(graph, "b.kernel", "b.shift") == {
        "b.kernel": ["a.kernel:4x2", "2", "3", "3"],
        "b.shift": ["a.kernel:4x2"],
    }
    assert attributes(graph)["b.groups"] == "a.kernel:4x2 / 2"


class Standardised(nn.Conv2d):
    """Weight standardisation (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.std((1, 2, 3), keepdim=True) + 1e-5
        return F.conv2d(x, (self.weight - mean) / spread, self.bias, self.stride, self.padding)


def expect_one_hidden(graph: ChannelGraph, *names: str) -> None:
    """a and b, of 8 and 4 channels; the weights of a called so all have their first axis along group a."""
    assert layers(graph) == {"a": "3 → a:8", "b": "a:8 → b:4"}
    shown = weights(graph)
    assert {name: axes[0] for name, axes in shown.items() if name.startswith("a.")} == dict.fromkeys(
        names, "a:8"
    )
    assert shown["b.weight"][1] == "a:8"
    assert {"a.out_channels": "a:8", "b.in_channels": "a:8"}.items() <= attributes(graph).items()


def test_weight_standardisation_in_a_subclass() -> None:
    graph = facts(lambda m, x: m.b(m.a(x)), a=Standardised(3, 8, 3, padding=1), b=conv(8, 4))
    expect_one_hidden(graph, "a.weight", "a.bias")
    assert graph.layer_by_name["a"].type == "Standardised"


def test_weight_norm_as_a_parametrization() -> None:
    graph = facts(lambda m, x: m.b(m.a(x)), a=parametrizations.weight_norm(conv(3, 8)), b=conv(8, 4))
    path = "a.parametrizations.weight"
    expect_one_hidden(graph, "a.bias", f"{path}.original0", f"{path}.original1")
    assert weights(graph)[f"{path}.original0"] == ["a:8", "1", "1", "1"]


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_weight_norm_by_a_hook() -> None:
    """torch's older form recomputes `weight` in a forward pre-hook."""
    model = nn.Sequential()
    model.a, model.b = torch.nn.utils.weight_norm(conv(3, 8)), conv(8, 4)
    expect_one_hidden(checked_twice(model), "a.bias", "a.weight_g", "a.weight_v")


def test_spectral_norm() -> None:
    graph = facts(lambda m, x: m.b(m.a(x)), a=parametrizations.spectral_norm(conv(3, 8)), b=conv(8, 4))
    path = "a.parametrizations.weight"
    expect_one_hidden(graph, "a.bias", f"{path}.original", f"{path}.0._u")
    older = nn.Sequential()
    older.a, older.b = torch.nn.utils.spectral_norm(conv(3, 8)), conv(8, 4)
    expect_one_hidden(checked_twice(older), "a.bias", "a.weight_orig", "a.weight_u")


def checked_twice(model: nn.Module) -> ChannelGraph:
    """The facts of a second trace, which what the first computed must not change."""
    inputs = (torch.randn(1, 3, 8, 8),)
    checked(model, inputs)
    assert not any(hasattr(value, "_bnas_mark") for m in model.modules() for value in vars(m).values())
    return checked(model, inputs)


def test_linear_over_tokens() -> None:
    graph = facts(lambda m, x: m.b(F.gelu(m.a(x))), 2, 5, 6, a=nn.Linear(6, 8), b=nn.Linear(8, 4, bias=False))
    assert layers(graph) == {"a": "6 → a:8", "b": "a:8 → b:4"}
    assert weights(graph) == {"a.weight": ["a:8", "6"], "a.bias": ["a:8"], "b.weight": ["b:4", "a:8"]}
    assert attributes(graph) == {"a.out_features": "a:8", "b.in_features": "a:8"}
    assert [layer.positions for layer in graph.layers] == [5, 5]


def test_linear_with_a_vector() -> None:
    graph = facts(lambda m, x: F.linear(m.a(x), m.w), 2, 5, 6, a=nn.Linear(6, 8), w=parameter(8))
    assert groups(graph) == {"a": "8"}
    assert weights(graph, "w") == {"w": ["a:8"]}


def test_embedding() -> None:
    graph = checked(nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4)), (torch.randint(0, 10, (2, 5)),))
    assert groups(graph) == {"0": "8", "1": "4 ! is an output of the model"}
    assert weights(graph, "0.weight", "1.weight") == {"0.weight": ["10", "0:8"], "1.weight": ["1:4", "0:8"]}
    assert attributes(graph) == {"0.embedding_dim": "0:8", "1.in_features": "0:8"}


def test_embedding_bag() -> None:
    model = nn.Sequential(nn.EmbeddingBag(10, 8), nn.Linear(8, 4))
    graph = checked(model, (torch.randint(0, 10, (2, 5)),))
    assert layers(graph) == {"0": "1 → 0:8", "1": "0:8 → 1:4"}


def test_embedding_that_is_also_the_last_weight() -> None:
    head = nn.Linear(8, 10, bias=False)
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8), head)
    head.weight = model[0].weight
    graph = checked(model, (torch.randint(0, 10, (2, 5)),))
    assert free(graph) == {"0": "8"}
    assert layers(graph) == {"0": "1 → 0:8", "1": "0:8 → 0:8", "2": "0:8 → 2:10"}
    (tied,) = [weight for weight in graph.weights if weight.name == "0.weight"]
    assert tied.aliases == ("2.weight",)
    assert "is an output of the model" in why(graph, "2")


@pytest.mark.parametrize(
    ("norm", "shape", "tensors"),
    [
        (nn.BatchNorm1d(8), (2, 3, 9), ("weight", "bias", "running_mean", "running_var")),
        (nn.BatchNorm1d(8, affine=False), (2, 3, 9), ("running_mean", "running_var")),
        (nn.BatchNorm2d(8), (2, 3, 9, 9), ("weight", "bias", "running_mean", "running_var")),
        (nn.BatchNorm2d(8, track_running_stats=False), (2, 3, 9, 9), ("weight", "bias")),
        (nn.BatchNorm3d(8), (2, 3, 9, 9, 9), ("weight", "bias", "running_mean", "running_var")),
        (nn.SyncBatchNorm(8), (2, 3, 9, 9), ("weight", "bias", "running_mean", "running_var")),
        (FrozenBatchNorm2d(8), (2, 3, 9, 9), ("weight", "bias", "running_mean", "running_var")),
        (nn.InstanceNorm1d(8, affine=True), (2, 3, 9), ("weight", "bias")),
        (nn.InstanceNorm2d(8, affine=True, track_running_stats=True), (2, 3, 9, 9),
         ("weight", "bias", "running_mean", "running_var")),
        (nn.InstanceNorm3d(8), (2, 3, 9, 9, 9), ()),
        (nn.GroupNorm(1, 8), (2, 3, 9, 9), ("weight", "bias")),
        (nn.GroupNorm(8, 8), (2, 3, 9, 9), ("weight", "bias")),
        (nn.PReLU(8), (2, 3, 9, 9), ("weight",)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)  # fmt: skip
def test_norms_hand_channels_on(norm: nn.Module, shape: tuple[int, ...], tensors: tuple[str, ...]) -> None:
    layer = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(shape) - 3]
    graph = facts(lambda m, x: m.b(m.norm(m.a(x))), *shape, a=layer(3, 8, 3), norm=norm, b=layer(8, 4, 3))
    assert free(graph) == {"a": "8"}
    assert layers(graph)["b"] == "a:8 → b:4"
    found = {name: axes for name, axes in weights(graph).items() if name.startswith("norm.")}
    assert found == {f"norm.{name}": ["a:8"] for name in tensors}
    sizes = {name for name in attributes(graph) if name.startswith("norm.")}
    assert sizes == {
        f"norm.{name}" for name in ("num_features", "num_channels", "num_parameters") if hasattr(norm, name)
    } | ({"norm.num_groups"} if getattr(norm, "num_groups", 1) > 1 else set())


def test_batch_norm_of_rows() -> None:
    graph = facts(
        lambda m, x: m.b(m.norm(m.a(x))), 4, 6, a=nn.Linear(6, 8), norm=nn.BatchNorm1d(8), b=nn.Linear(8, 4)
    )
    assert layers(graph) == {"a": "6 → a:8", "norm": "a:8 → a:8", "b": "a:8 → b:4"}


def test_prelu_with_one_slope() -> None:
    graph = facts(lambda m, x: m.b(m.act(m.a(x))), a=conv(3, 8), act=nn.PReLU(), b=conv(8, 4))
    assert free(graph) == {"a": "8"}
    assert weights(graph, "act.weight") == {"act.weight": ["1"]}


def test_group_norm_keeps_whole_groups() -> None:
    graph = facts(lambda m, x: m.b(m.norm(m.a(x))), a=conv(3, 12), norm=nn.GroupNorm(4, 12), b=conv(12, 4))
    assert free(graph) == {"a": "4x3"}
    assert attributes(graph)["norm.num_groups"] == "a:4x3 / 3"
    assert attributes(graph)["norm.num_channels"] == "a:4x3"


def test_layer_norm_over_tokens() -> None:
    graph = facts(
        lambda m, x: m.b(m.norm(m.a(x))), 2, 5, 6, a=nn.Linear(6, 8), norm=nn.LayerNorm(8), b=nn.Linear(8, 4)
    )
    assert layers(graph) == {"a": "6 → a:8", "norm": "a:8 → a:8", "b": "a:8 → b:4"}
    assert weights(graph, "norm.weight", "norm.bias") == {"norm.weight": ["a:8"], "norm.bias": ["a:8"]}
    assert attributes(graph)["norm.normalized_shape"] == "a:8"
    (shape,) = [attribute for attribute in graph.attributes if attribute.name == "normalized_shape"]
    assert shape.many


def test_layer_norm_over_several_axes() -> None:
    """Over [C, H, W]: the weight has channels on its first axis."""
    graph = facts(lambda m, x: m.b(m.norm(m.a(x))), a=conv(3, 6), norm=nn.LayerNorm([6, 8, 8]), b=conv(6, 4))
    assert weights(graph, "norm.weight") == {"norm.weight": ["a:6", "8", "8"]}
    assert attributes(graph)["norm.normalized_shape"] == "a:6, 8, 8"


def test_rms_norm() -> None:
    graph = facts(
        lambda m, x: m.b(m.norm(m.a(x))), 2, 5, 6, a=nn.Linear(6, 8), norm=nn.RMSNorm(8), b=nn.Linear(8, 4)
    )
    assert free(graph) == {"a": "8"}
    assert weights(graph, "norm.weight") == {"norm.weight": ["a:8"]}


class ChannelsFirst(nn.LayerNorm):
    """As torchvision's LayerNorm2d: the norm of the channels of an image."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        x = F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class ByHand(nn.Module):
    """The same from means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = parameter(channels), parameter(channels)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + 1e-6) * self.weight[:, None, None] + self.bias[
            :, None, None
        ]


@pytest.mark.parametrize("norm", [ChannelsFirst(8), ByHand(8)], ids=["permuted", "by hand"])
def test_channels_first_layer_norm(norm: nn.Module) -> None:
    graph = facts(lambda m, x: m.b(m.norm(m.a(x))), a=conv(3, 8), norm=norm, b=conv(8, 4))
    assert free(graph) == {"a": "8"}
    assert weights(graph, "norm.weight", "norm.bias") == {"norm.weight": ["a:8"], "norm.bias": ["a:8"]}
    assert layers(graph)["b"] == "a:8 → b:4"


def test_shared_layer_reads_one_group_and_counts_its_calls() -> None:
    graph = facts(
        lambda m, x: (m.shared(m.a(x)), m.shared(m.b(x))[:, :, ::2]),
        a=conv(3, 8), b=conv(3, 8), shared=conv(8, 4),
    )  # fmt: skip
    assert layers(graph) == {"a": "3 → a:8", "shared": "a:8 → shared:4", "b": "3 → a:8"}
    assert graph.layer_by_name["shared"].positions == 128


def test_one_weight_of_two_layers_is_one_group() -> None:
    """a [8, 8] after itself: what it makes is what it reads."""
    a, b = conv(8, 8), conv(8, 8)
    b.weight = a.weight
    graph = facts(lambda m, x: m.last(m.b(m.a(m.first(x)))), first=conv(3, 8), a=a, b=b, last=conv(8, 4))
    assert free(graph) == {"first": "8"}
    assert layers(graph) == {
        "first": "3 → first:8",
        "a": "first:8 → first:8",
        "b": "first:8 → first:8",
        "last": "first:8 → last:4",
    }
    assert graph.weight_by_name["a.weight"].aliases == ("b.weight",)


def test_a_module_under_two_names_is_one_layer() -> None:
    shared = conv(8, 8)
    graph = facts(
        lambda m, x: m.last(m.y(F.relu(m.x(m.first(x))))),
        first=conv(3, 8),
        x=shared,
        y=shared,
        last=conv(8, 4),
    )
    assert layers(graph) == {"first": "3 → first:8", "x": "first:8 → first:8", "last": "first:8 → last:4"}
    assert graph.weight_by_name["x.bias"].aliases == ("y.bias",)
    assert graph.layer_by_name["x"].positions == 128


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"kernel_size": 7, "padding": 3}, (3, 5, 7)),
        ({"kernel_size": 5, "padding": 2}, (3, 5)),
        ({"kernel_size": 5, "padding": 4, "dilation": 2}, (3, 5)),
        ({"kernel_size": 7, "padding": 1}, (5, 7)),  # less padding than a smaller kernel can give up
        ({"kernel_size": (7, 1), "padding": (3, 0)}, (3, 5, 7)),
        ({"kernel_size": 3, "padding": 1}, ()),
        ({"kernel_size": 6, "padding": 3}, ()),  # no centre
        ({"kernel_size": 5, "padding": 0}, ()),
        ({"kernel_size": 5, "padding": "same"}, ()),
        ({"kernel_size": 5, "padding": 2, "padding_mode": "reflect"}, ()),
    ],
)
def test_kernels_that_can_be_cropped(options: dict[str, object], sizes: tuple[int, ...]) -> None:
    graph = facts(lambda m, x: m.a(x), a=nn.Conv2d(3, 4, **options))
    assert graph.layer_by_name["a"].kernels == sizes


def test_a_computed_kernel_is_not_cropped() -> None:
    graph = facts(lambda m, x: m.a(x), a=Standardised(3, 4, 5, padding=2))
    assert graph.layer_by_name["a"].kernels == ()


def test_recurrent_layers_keep_their_width() -> None:
    graph = facts(
        lambda m, x: m.b(m.lstm(m.a(x))[0]),
        2, 5, 6, a=nn.Linear(6, 8), lstm=nn.LSTM(8, 8, batch_first=True), b=nn.Linear(8, 4),
    )  # fmt: skip
    assert why(graph, "a") == "passes through lstm, which keeps its width, in lstm"
