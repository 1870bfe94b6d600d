from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torchvision
from nets import Net, conv
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from bnas.errors import ModelError
from bnas.graph import trace
from bnas.graph.flow import Flow, Link, flow


def checked(net: nn.Module, *shape: int) -> Flow:
    """The flow of a net on a random image, by default [1, 3, 8, 8]; every link holds by two witnesses."""
    net = net.double().eval()
    x = torch.randn(*(shape or (1, 3, 8, 8)), dtype=torch.float64)
    facts = flow(net, x)
    for link in facts.links:
        check_channels(net, x, link)
        if "norm" not in (facts.kinds[link.writer], facts.kinds[link.reader]):
            check_scales(net, x, link)
    return facts


def check_channels(net: nn.Module, x: Tensor, link: Link) -> None:
    """What the reader gets in an input channel changes exactly if the output channel that it is said to be does."""
    seen: list[Tensor] = []
    hook = net.get_submodule(link.reader).register_forward_pre_hook(
        lambda _, args: seen.append(args[0].clone())
    )
    axis = -1 if isinstance(net.get_submodule(link.reader), nn.Linear) else 1
    net(x)
    unchanged = seen[-1]
    for channel in sorted({*link.channels} - {-1}):
        changing = net.get_submodule(link.writer).register_forward_hook(
            lambda module, _, out, channel=channel: _raised(module, out, channel)
        )
        net(x)
        changing.remove()
        changed = (seen[-1] != unchanged).movedim(axis, 0).flatten(1).any(1)
        assert changed.tolist() == [own == channel for own in link.channels]
    hook.remove()


def _raised(module: nn.Module, out: Tensor, channel: int) -> Tensor:
    raised = out.clone()
    raised.movedim(-1 if isinstance(module, nn.Linear) else 1, 0)[channel] += 100  # far beyond every kink
    return raised


def check_scales(net: nn.Module, x: Tensor, link: Link) -> None:
    """A factor on each output channel is undone by its inverse on the input channels: the net computes the same."""
    expected = _flat(net(x))
    factors = torch.rand(max(link.channels) + 1, dtype=torch.float64) + 0.5
    writer, reader = (net.get_submodule(name) for name in (link.writer, link.reader))

    def before(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        undo = torch.tensor(
            [1 / factors[own] if own >= 0 else 1.0 for own in link.channels], dtype=torch.float64
        )
        return (_times(module, args[0], undo),)

    def after(module: nn.Module, _: object, out: Tensor) -> Tensor:
        size = out.shape[-1 if isinstance(module, nn.Linear) else 1]
        every = torch.ones(size, dtype=torch.float64)
        every[: len(factors)] = factors
        every[[own for own in range(size) if own not in link.channels]] = 1
        return _times(module, out, every)

    hooks = [reader.register_forward_pre_hook(before), writer.register_forward_hook(after)]
    torch.testing.assert_close(_flat(net(x)), expected, rtol=1e-9, atol=1e-9)
    for hook in hooks:
        hook.remove()


def _times(module: nn.Module, x: Tensor, factors: Tensor) -> Tensor:
    return x * (factors if isinstance(module, nn.Linear) else factors.view(-1, *[1] * (x.ndim - 2)))


def _flat(output: object) -> Tensor:
    return torch.cat([item.flatten() for item in output]) if isinstance(output, tuple) else output  # type: ignore[return-value]


def between(function: Callable[..., Tensor], inputs: int = 8, **parts: nn.Module) -> Flow:
    """The flow of a convolution with 8 outputs, a function, and a convolution with so many inputs."""
    net = Net(
        lambda self, x: self.two(function(self, self.one(x))), one=conv(3, 8), two=conv(inputs, 4), **parts
    )
    return checked(net)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("relu", lambda _, x: F.relu(x)),
        ("relu", lambda _, x: x.relu_()),
        ("leaky_relu", lambda _, x: F.leaky_relu(x, 0.2)),
        ("max_pool2d", lambda _, x: F.max_pool2d(x, 3, 2, 1)),
        ("max_pool2d_with_indices", lambda _, x: F.max_pool2d(x, 2, return_indices=True)[0]),
        ("avg_pool2d", lambda _, x: F.avg_pool2d(x, 3, 1, 1)),
        ("adaptive_avg_pool2d", lambda _, x: F.adaptive_avg_pool2d(x, 4)),
        ("adaptive_max_pool2d", lambda _, x: F.adaptive_max_pool2d(x, 4)),
        ("lp_pool2d", lambda _, x: F.lp_pool2d(x.relu(), 2, 2)),
        ("interpolate", lambda _, x: F.interpolate(x, scale_factor=2, mode="bilinear")),
        ("interpolate", lambda _, x: F.interpolate(x, scale_factor=2.0)),
        ("mean", lambda _, x: x.mean((2, 3), keepdim=True)),
        ("amax", lambda _, x: x.amax((2, 3), keepdim=True)),
        ("max", lambda _, x: x.max(3, keepdim=True)[0]),
        ("mul", lambda _, x: 0.5 * x),
        ("div", lambda _, x: x / 3),
        ("neg", lambda _, x: -x),
    ],
)
def test_equivariant_functions_are_passed_and_named(name: str, function: Callable[..., Tensor]) -> None:
    (link,) = between(function).links
    assert (link.writer, link.reader, link.channels) == ("one", "two", tuple(range(8)))
    assert link.between[-1] == name
    assert link.whole
    assert link.padded


def test_a_slope_for_each_channel_is_equivariant() -> None:
    slope = nn.PReLU(8)
    nn.init.uniform_(slope.weight)
    (link,) = between(lambda self, x: self.act(x), act=slope).links
    assert link.between == ("prelu",)


@pytest.mark.parametrize(
    "function",
    [
        lambda _, x: F.dropout(x, training=False),
        lambda _, x: x.clone().contiguous().to(torch.float64),
        lambda _, x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        lambda _, x: x.flatten(2).unflatten(2, (8, 8)),
        lambda _, x: x.view(1, 2, 4, 8, 8).view(1, 8, 8, 8),
        lambda _, x: x.unsqueeze(0).squeeze_(0),
        lambda _, x: torch.cat(x.chunk(2, 1), 1),
        lambda _, x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda _, x: x.roll(1, 3).flip(2),
        lambda _, x: x[..., ::2],
    ],
)  # fmt: skip
def test_moving_elements_is_no_computing(function: Callable[..., Tensor]) -> None:
    (link,) = between(function).links
    assert link.between == ()
    assert link.channels == tuple(range(8))


@pytest.mark.parametrize(
    ("inputs", "function", "channels"),
    [
        (8, lambda _, x: F.channel_shuffle(x, 2), (0, 4, 1, 5, 2, 6, 3, 7)),
        (8, lambda _, x: x.unflatten(1, (4, 2)).transpose(1, 2).reshape(x.shape), (0, 2, 4, 6, 1, 3, 5, 7)),
        (8, lambda _, x: x.flip(1), (7, 6, 5, 4, 3, 2, 1, 0)),
        (3, lambda _, x: x[:, 2:5], (2, 3, 4)),
        (3, lambda _, x: x[:, [1, 1, 7]], (1, 1, 7)),
        (3, lambda _, x: x.index_select(1, torch.tensor([5, 0, 6])), (5, 0, 6)),
        (16, lambda _, x: torch.cat([x, x], 1), (*range(8), *range(8))),
        (10, lambda _, x: torch.cat([torch.ones_like(x[:, :2]), x], 1), (-1, -1, *range(8))),
        (10, lambda _, x: F.pad(x, (0, 0, 0, 0, 1, 1)), (-1, *range(8), -1)),
        (32, lambda _, x: F.pixel_unshuffle(x, 2), tuple(own for own in range(8) for _ in range(4))),
    ],
)  # fmt: skip
def test_channels_are_followed_one_by_one(
    inputs: int, function: Callable[..., Tensor], channels: tuple[int, ...]
) -> None:
    (link,) = between(function, inputs).links
    assert link.channels == channels


@pytest.mark.parametrize(
    "function",
    [
        F.relu6, F.hardswish, F.silu, F.sigmoid, F.gelu, F.elu, torch.tanh,
        lambda x: x.clamp(0, 6),
        lambda x: x + 1,
        lambda x: x * x,
        lambda x: 1 / (x.abs() + 1),
        lambda x: 2.0 / x,
        lambda x: x.softmax(1),
        lambda x: F.dropout(x, 0.5),  # at random, in eval mode too
        lambda x: x.mean(1, keepdim=True).expand(x.shape),  # channels meet
        lambda x: F.pixel_shuffle(x, 2).repeat(1, 4, 1, 1),
        lambda x: F.pad(x, (1, 1), value=3.0).add(0),
        lambda x: F.group_norm(x, 2),
        lambda x: torch.where(x > 0, x, 0.1 * x),
    ],
)  # fmt: skip
def test_everything_else_ends_a_flow(function: Callable[[Tensor], Tensor]) -> None:
    facts = flow(
        Net(lambda self, x: self.two(function(self.one(x))), one=conv(3, 8), two=conv(8, 4)),
        torch.randn(1, 3, 8, 8),
    )
    assert facts.links == ()
    assert facts.ends["two"] == "is an output of the model"
    assert facts.ends["one"]


def test_the_functions_of_all_ways_lie_between() -> None:
    (link,) = between(lambda _, x: torch.cat([x, x.relu(), F.max_pool2d(-x, 3, 1, 1)], 1), inputs=24).links
    assert link.between == ("relu", "neg", "max_pool2d")
    (link,) = between(lambda _, x: torch.cat([F.max_pool2d(x, 3, 1, 1), x.relu()], 1), inputs=16).links
    assert link.between == ("max_pool2d", "relu")


def test_channels_that_meet_in_one_end_a_flow() -> None:
    facts = between(lambda _, x: F.pixel_shuffle(x, 2), inputs=2)
    assert facts.ends["one"] == "several of its channels meet in one of two"


def test_a_padding_with_a_number_is_foreign() -> None:
    facts = between(lambda _, x: F.pad(x, (1, 1), value=3.0))
    assert facts.ends["one"] == "several of its channels meet in one of two"


def test_the_reason_names_the_module_that_ends_a_flow() -> None:
    block = nn.Sequential(conv(3, 8), nn.ReLU6(), conv(8, 4))
    assert checked(nn.Sequential(block, nn.ReLU())).ends == {
        "0.0": "breaks at 0.1 (ReLU6)", "0.2": "is an output of the model"
    }  # fmt: skip
    net = Net(lambda self, x: self.two(F.silu(self.one(x))), one=conv(3, 8), two=conv(8, 4))
    assert checked(net).ends["one"] == "breaks at the model (Net): silu"


def test_a_branch_ends_a_flow() -> None:
    net = Net(
        lambda self, x: (y := self.one(x).relu(), self.two(y), self.three(y))[1:],
        one=conv(3, 8), two=conv(8, 4), three=conv(8, 4),
    )  # fmt: skip
    assert checked(net).ends["one"] == "is read by two, three"
    net = Net(lambda self, x: (y := self.one(x), self.two(y) + y)[1], one=conv(3, 8), two=conv(8, 8))
    assert checked(net).ends["one"] == "is read by two; breaks at the model (Net): add"
    net = Net(lambda self, x: (y := self.one(x), self.two(y)), one=conv(3, 8), two=conv(8, 8))
    assert checked(net).ends["one"] == "is read by two; is an output of the model"


def test_a_look_at_values_ends_a_flow() -> None:
    net = Net(lambda self, x: (y := self.one(x), y.tolist(), self.two(y))[2], one=conv(3, 8), two=conv(8, 8))
    assert checked(net).ends["one"] == "is read by two; breaks at the model (Net): tolist"


def test_both_sides_of_a_concatenation() -> None:
    net = Net(
        lambda self, x: self.three(torch.cat([self.one(x), self.two(x).relu()], 1)),
        one=conv(3, 2), two=conv(3, 3), three=conv(5, 4),
    )  # fmt: skip
    first, second = checked(net).links
    assert (first.writer, first.channels, first.between) == ("one", (0, 1, -1, -1, -1), ())
    assert (second.writer, second.channels, second.between) == ("two", (-1, -1, 0, 1, 2), ("relu",))
    assert not first.whole
    assert not second.whole


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ((nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Conv1d(8, 4, 3)), (2, 3, 8)),
        ((nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 3)), (2, 3, 8, 8)),
        ((nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.Conv3d(8, 4, 3)), (1, 3, 8, 8, 8)),
        ((nn.ConvTranspose1d(3, 8, 3), nn.BatchNorm1d(8), nn.ConvTranspose1d(8, 4, 3)), (2, 3, 8)),
        ((nn.ConvTranspose2d(3, 8, 3), nn.SyncBatchNorm(8), nn.ConvTranspose2d(8, 4, 3)), (2, 3, 8, 8)),
        ((nn.ConvTranspose3d(3, 8, 3), nn.BatchNorm3d(8, affine=False), nn.Conv3d(8, 4, 3)), (1, 3, 4, 4, 4)),
        ((nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)), (2, 3)),
        ((nn.Conv2d(3, 8, 3, groups=1), FrozenBatchNorm2d(8), nn.Conv2d(8, 4, 3)), (2, 3, 8, 8)),
    ],
)  # fmt: skip
def test_all_kinds_of_layers(layers: tuple[nn.Module, ...], shape: tuple[int, ...]) -> None:
    facts = checked(nn.Sequential(*layers), *shape)
    assert [(link.writer, link.reader) for link in facts.links] == [("0", "1"), ("1", "2")]
    assert facts.kinds["1"] == "norm"
    assert all(link.whole and not link.padded for link in facts.links)


def test_flattened_positions_are_one_channel() -> None:
    net = nn.Sequential(conv(3, 4), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16, 5))
    (link,) = checked(net).links
    assert link.channels == tuple(own for own in range(4) for _ in range(4))
    assert not link.whole


@pytest.mark.parametrize(
    ("options", "padded"),
    [
        ({}, False), ({"padding": 1}, True), ({"padding": (0, 1)}, True), ({"padding": "same"}, True),
        ({"padding": "valid"}, False), ({"padding": 1, "padding_mode": "reflect"}, False),
        ({"padding": "same", "kernel_size": 1}, False),
    ],
)  # fmt: skip
def test_zeros_are_noticed(options: dict[str, object], padded: bool) -> None:
    reader = nn.Conv2d(8, 4, **{"kernel_size": 3, **options})  # type: ignore[arg-type]
    (link,) = checked(nn.Sequential(conv(3, 8), reader)).links
    assert link.padded is padded
    (link,) = checked(nn.Sequential(conv(3, 8), nn.ZeroPad2d(1), nn.Conv2d(8, 4, 3))).links
    assert link.padded
    assert link.channels == tuple(range(8))


def test_a_layer_that_is_not_alone_with_its_weights() -> None:
    shared = conv(3, 3)
    net = Net(lambda self, x: self.two(self.one(self.one(x))), one=shared, two=conv(3, 3))
    assert checked(net).ends["one"] == "is read by one, two"
    net = Net(lambda self, x: self.two(self.two(self.one(x))), one=conv(3, 3), two=conv(3, 3))
    assert checked(net).ends["one"] == "is read by two, which runs 2 times and reads others too"
    net = Net(lambda self, x: self.two(self.one(x)), one=conv(3, 3), two=conv(3, 3))
    net.two.weight = net.one.weight
    assert checked(net).ends["one"] == "shares its weights with two"
    net = Net(lambda self, x: self.two(self.one(x)) + self.one.weight.sum(), one=conv(3, 3), two=conv(3, 3))
    assert checked(net).ends["one"] == "its weights are also used by sum in the model (Net)"


def test_layers_that_run_on_several_levels() -> None:
    net = Net(
        lambda self, x: tuple(self.two(self.one(level).relu()) for level in (x, x[..., ::2], x[..., :3])),
        one=conv(3, 4),
        two=conv(4, 5),
    )
    (link,) = checked(net).links
    assert (link.writer, link.reader, link.between) == ("one", "two", ("relu",))
    net = Net(
        lambda self, x: self.two(self.one(x).relu()) + self.two(self.one(x)), one=conv(3, 4), two=conv(4, 5)
    )
    assert checked(net).ends["one"] == "is read by two in several ways"


def test_computed_weights_are_no_ones() -> None:
    net = nn.Sequential(conv(3, 4), nn.utils.parametrizations.weight_norm(conv(4, 4)), conv(4, 4))
    facts = checked(net)
    assert list(facts.kinds) == ["0", "2"]
    assert facts.links == ()


def test_a_batch_norm_without_statistics_ends_a_flow() -> None:
    net = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, track_running_stats=False), conv(4, 4))
    assert checked(net, 2, 3, 8, 8).ends["0"] == "breaks at 1 (BatchNorm2d)"


def test_the_model_is_left_as_it_was() -> None:
    net = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(inplace=True), conv(4, 4)).train()
    before = copy.deepcopy(net.state_dict())
    x = torch.randn(1, 3, 8, 8)
    flow(net, x)
    assert net.training
    assert not net[0]._forward_hooks
    assert not vars(x)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_a_model_that_does_not_run_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Sequential does not run on an input of shape \[1, 4, 8, 8\]"):
        flow(nn.Sequential(conv(3, 4)), torch.randn(1, 4, 8, 8))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_links_agree_with_the_channel_graph(name: str) -> None:
    """Whatever a link's reader reads, the trace says too that it is the channels that the writer writes."""
    model = torchvision.models.get_model(name, weights=None).eval()
    x = torch.randn(1, 3, 32, 32)
    layers = trace(model, [x]).layer_by_name
    links = [link for link in flow(model, x).links if {link.writer, link.reader} <= layers.keys()]
    assert len(links) > 20
    for link in links:
        assert layers[link.reader].reads == layers[link.writer].writes
