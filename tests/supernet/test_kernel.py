from __future__ import annotations

import copy

import oracles
import pytest
import torch
from elastic_networks import IMAGES, build
from torch import Tensor, nn

from bnas.graph import trace
from bnas.space import SpaceRules, SubnetConfig, derive_space
from bnas.supernet import Supernet, extract_subnet, reorder_channels
from bnas.supernet.kernel import crop


class Kernels(nn.Module):
    """A 7×7 convolution, a wide depthwise one, and one of 1×7; all keep the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.large = nn.Conv2d(1, 16, 7, padding=3, stride=2)
        self.depthwise = nn.Conv2d(16, 16, 5, padding=4, dilation=2, groups=16)
        self.wide = nn.Conv2d(16, 16, (1, 7), padding=(0, 3), bias=False)
        self.norm, self.out = nn.BatchNorm2d(16), nn.Conv2d(16, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.norm(self.wide(self.depthwise(torch.relu(self.large(x))))))
        return y


def supernet_of(
    model: nn.Module, *, kernel_transform: bool = False, dims: tuple[str, ...] = ("kernel",)
) -> Supernet:
    graph = trace(model, IMAGES)
    rules = SpaceRules(dims=dims, width_multiple=4, width_min=4)
    return Supernet(model, graph, derive_space(graph, rules), kernel_transform=kernel_transform)


def test_the_centre() -> None:
    assert crop((7, 7), 3) == (slice(2, 5), slice(2, 5))
    assert crop((1, 7), 5) == (slice(0, 1), slice(1, 6))
    assert crop((5,), 5) == (slice(0, 5),)


def test_a_kernel_is_its_centre_with_less_padding() -> None:
    supernet = supernet_of(Kernels())
    subnet = extract_subnet(supernet, supernet.space.smallest)
    found = {
        name: (m.kernel_size, m.padding) for name, m in subnet.named_modules() if isinstance(m, nn.Conv2d)
    }
    assert found == {
        "large": ((3, 3), (1, 1)),
        "depthwise": ((3, 3), (2, 2)),
        "wide": ((1, 3), (0, 1)),
        "out": ((3, 3), (0, 0)),
    }
    assert torch.equal(subnet.large.weight, supernet.model.state_dict()["large.weight"][:, :, 2:5, 2:5])
    assert torch.equal(subnet.wide.weight, supernet.model.state_dict()["wide.weight"][:, :, :, 2:5])


@pytest.mark.parametrize("dims", [("kernel",), ("kernel", "width")])
def test_kernels_hold_the_oracles(dims: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    original = oracles.randomize_norms(Kernels()).eval()
    supernet = supernet_of(copy.deepcopy(original), dims=dims)
    oracles.check_largest(original, supernet, IMAGES)
    values = supernet.space.smallest.values
    middle = {c.name: c.values[len(c.values) // 2] for c in supernet.space.choices}
    for config in (supernet.space.largest, SubnetConfig(values), SubnetConfig(middle)):
        oracles.check_extraction(original, supernet, config, IMAGES)
        oracles.check_costs(supernet, config, IMAGES)
        oracles.check_gradients(supernet, config, IMAGES)
    supernet.release()
    assert repr(supernet.model) == repr(original)


def test_kernels_after_a_cat() -> None:
    """The channels are gathered by positions, the kernel by a range."""

    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 16, 1), nn.Conv2d(1, 16, 1)
            self.out = nn.Conv2d(32, 2, 5, padding=2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(torch.cat([self.a(x), self.b(x)], 1))
            return y

    original = Joined().eval()
    for transform in (False, True):
        supernet = supernet_of(copy.deepcopy(original), dims=("kernel", "width"), kernel_transform=transform)
        oracles.check_extraction(original, supernet, supernet.space.smallest, IMAGES)


def test_other_paddings() -> None:
    conv = nn.Conv2d(1, 16, 5, padding="same")
    model = nn.Sequential(conv, nn.Conv2d(16, 2, 1))
    assert trace(model, IMAGES).layer_by_name["0"].kernels in ((), (3, 5))


def test_transforms_begin_as_the_plain_centre() -> None:
    torch.manual_seed(0)
    original = Kernels().eval()
    plain, learned = (supernet_of(copy.deepcopy(original), kernel_transform=own) for own in (False, True))
    assert {name: tuple(own.shape) for name, own in learned.transforms.items()} == {
        "large/7to5": (25, 25),
        "large/5to3": (9, 9),
        "depthwise/5to3": (9, 9),
        "wide/7to5": (5, 5),
        "wide/5to3": (3, 3),
    }
    assert not plain.transforms
    for config in oracles.all_configs(plain.space):
        plain.activate(config)
        learned.activate(config)
        oracles.assert_close(oracles.run(plain, IMAGES), oracles.run(learned, IMAGES), 1e-6)
    assert list(learned.model.state_dict()) == list(original.state_dict())
    assert len(list(learned.parameters())) == len(list(original.parameters())) + 5
    assert set(map(id, learned.trained.parameters())) == set(map(id, learned.parameters()))
    assert plain.trained is plain.model


def test_transforms_are_applied_step_by_step_and_learn() -> None:
    torch.manual_seed(0)
    supernet = supernet_of(Kernels().eval(), kernel_transform=True)
    first, second = torch.randn(25, 25), torch.randn(9, 9)
    with torch.no_grad():
        supernet.transforms["large/7to5"].copy_(first)
        supernet.transforms["large/5to3"].copy_(second)
    weight = supernet.model.state_dict()["large.weight"]
    expected = torch.empty(16, 1, 3, 3)
    for channel in range(16):  # by hand: 5×5 centre, matrix, 3×3 centre, matrix
        five = (first @ weight[channel, 0, 1:6, 1:6].flatten()).reshape(5, 5)
        expected[channel, 0] = (second @ five[1:4, 1:4].flatten()).reshape(3, 3)
    config = supernet.space.smallest
    subnet = extract_subnet(supernet, config)
    assert torch.allclose(subnet.large.weight, expected, atol=1e-5)
    assert isinstance(subnet.large.weight, nn.Parameter)
    with supernet.activated(config):
        oracles.assert_close(oracles.run(supernet, IMAGES), oracles.run(subnet, IMAGES), 1e-5)
        supernet(*IMAGES).square().mean().backward()
    assert all(float(own.grad.abs().max()) > 0 for own in supernet.transforms.values())
    assert not any("transform" in name for name in subnet.state_dict())


def test_transforms_survive_reordering() -> None:
    """They are shared over channels, so that the order of channels does not matter."""
    supernet = supernet_of(Kernels().eval(), dims=("kernel", "width"), kernel_transform=True)
    with torch.no_grad():
        for own in supernet.transforms.values():
            own.add_(torch.randn_like(own) / 10)
    config = SubnetConfig(
        {c.name: c.values[0] if c.dim == "kernel" else c.values[-1] for c in supernet.space.choices}
    )
    with supernet.activated(config):
        before = oracles.run(supernet, IMAGES)
    reorder_channels(supernet)
    with supernet.activated(config):
        oracles.assert_close(oracles.run(supernet, IMAGES), before)


def test_without_kernels_there_is_nothing_to_transform() -> None:
    assert not build(nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 2, 3))).transforms
