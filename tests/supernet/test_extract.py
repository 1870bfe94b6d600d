from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
import torchvision
from elastic_networks import IMAGES, Gate, Tied, build, tiny_resnet
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from bnas.graph import trace
from bnas.plain import from_plain, to_plain
from bnas.space import Choice, SearchSpace, SpaceRules, SubnetConfig, derive_space
from bnas.supernet import Reshaping, Supernet, extract_subnet, reshape, reshaping


def test_extracted_is_plain_small_and_independent() -> None:
    supernet = build(tiny_resnet())
    config = supernet.space.smallest
    before = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    subnet = extract_subnet(supernet, config)
    assert supernet.active == supernet.space.largest
    assert not any(type(module).__module__.startswith("bnas.supernet") for module in subnet.modules())
    assert not any("_cuts" in vars(m) or "forward" in vars(m) for m in subnet.modules())
    own = {tensor.untyped_storage().data_ptr() for tensor in subnet.state_dict().values()}
    whole = supernet.model.state_dict().values()
    assert own.isdisjoint(tensor.untyped_storage().data_ptr() for tensor in whole)
    for tensor in subnet.state_dict().values():
        assert tensor.is_contiguous()
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    assert not subnet.training
    conv = subnet.get_submodule("layer2.0.conv1")
    assert isinstance(conv, nn.Conv2d)
    assert (conv.in_channels, conv.out_channels) == tuple(reversed(conv.weight.shape[:2]))
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in supernet.model.state_dict().items())


def test_extraction_while_another_subnet_is_active() -> None:
    supernet = build(tiny_resnet())
    whole = oracles.run(supernet, IMAGES)
    small = oracles.run(extract_subnet(supernet, supernet.space.smallest), IMAGES)
    supernet.activate(supernet.space.smallest)
    assert torch.equal(oracles.run(extract_subnet(supernet, supernet.space.largest), IMAGES), whole)
    assert torch.equal(oracles.run(extract_subnet(supernet, supernet.space.smallest), IMAGES), small)
    assert supernet.active == supernet.space.smallest
    oracles.assert_close(oracles.run(supernet, IMAGES), small, 1e-5)


def test_a_subnet_can_be_pickled_copied_and_exported() -> None:
    supernet = build(tiny_resnet())
    subnet = extract_subnet(supernet, supernet.space.sample(np.random.default_rng(0)))
    expected = oracles.run(subnet, IMAGES)
    assert torch.equal(oracles.run(copy.deepcopy(subnet), IMAGES), expected)
    assert pickle.dumps(subnet)  # a class that pickle cannot name would be refused
    exported = torch.export.export(subnet, IMAGES).module()
    oracles.assert_close(oracles.run(exported, IMAGES), expected, 1e-5)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_subnet_of_a_scriptable_model_is_scriptable() -> None:
    inputs = (torch.randn(2, 3, 64, 64),)
    supernet = build(torchvision.models.resnet18().eval(), inputs)
    subnet = extract_subnet(supernet, supernet.space.smallest)
    assert isinstance(subnet.layer3[1], nn.Identity)
    oracles.assert_close(oracles.run(torch.jit.script(subnet), inputs), oracles.run(subnet, inputs), 1e-5)


def test_memory_layout_is_the_plain_one() -> None:
    supernet = build(tiny_resnet().to(memory_format=torch.channels_last))
    subnet = extract_subnet(supernet, supernet.space.smallest)
    assert all(tensor.is_contiguous() for tensor in subnet.state_dict().values())


def test_frozen_parameters_stay_frozen() -> None:
    model = tiny_resnet()
    model.get_submodule("layer1.0.conv1").weight.requires_grad_(False)
    supernet = build(model)
    subnet = extract_subnet(supernet, supernet.space.smallest)
    frozen = [name for name, own in subnet.named_parameters() if not own.requires_grad]
    expected = {"layer1.0.conv1.weight"} & set(dict(subnet.named_parameters()))
    assert set(frozen) == expected


def test_gradient_history_stays_behind() -> None:
    supernet = build(tiny_resnet())
    supernet(*IMAGES).sum().backward()
    subnet = extract_subnet(supernet, supernet.space.smallest)
    assert all(own.is_leaf and own.grad is None for own in subnet.parameters())


def test_tensors_that_a_hook_computes_are_no_obstacle() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 2, 1)
            self.halve(None, None)
            self.register_forward_pre_hook(type(self).halve)

        def halve(self, *_: object) -> None:
            self.half = self.out.weight / 2  # not a leaf: deepcopy refuses such tensors

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(self.conv(x), self.half, self.out.bias)

    supernet = build(Halved())
    config = supernet.space.smallest
    subnet = extract_subnet(supernet, config)
    with supernet.activated(config):
        oracles.assert_close(oracles.run(supernet, IMAGES), oracles.run(subnet, IMAGES), 1e-5)


@pytest.mark.parametrize(
    ("make", "inputs"), [(tiny_resnet, IMAGES), (Gate, IMAGES), (Tied, (torch.randn(2, 8),))]
)
def test_a_fresh_model_takes_the_shape_and_the_weights(
    make: type[nn.Module], inputs: tuple[Tensor, ...], tmp_path: Path
) -> None:
    """Through files: the reshaping as plain data, the weights as safetensors (tied ones once)."""
    supernet = build(make().eval(), inputs)
    rng = np.random.default_rng(0)
    for config in (supernet.space.smallest, supernet.space.sample(rng)):
        subnet = extract_subnet(supernet, config)
        how = from_plain(Reshaping, to_plain(reshaping(supernet, config)))
        assert how == reshaping(supernet, config)
        path = f"{tmp_path}/weights.safetensors"
        save_model(subnet, path)
        fresh = make().eval()
        reshape(fresh, how, {name: tuple(own.shape) for name, own in subnet.state_dict().items()})
        assert load_model(fresh, path, strict=True) == (set(), [])
        assert repr(fresh) == repr(subnet)
        assert [type(m) for m in fresh.modules()] == [type(m) for m in subnet.modules()]
        assert torch.equal(oracles.run(fresh, inputs), oracles.run(subnet, inputs))


class Masked(nn.Module):
    """A residual layer that takes a mask, too: `nn.Identity` could not stand in for it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = x + self.two(torch.relu(self.one(x))) * mask
        return y


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(4, 8), nn.Linear(8, 2)
        self.layers = nn.ModuleList(Masked() for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = self.enter(x)
        for layer in self.layers:
            x = layer(x, mask)
        y: Tensor = self.leave(x)
        return y


def test_blocks_with_more_inputs_leave_their_list(tmp_path: Path) -> None:
    inputs = (torch.randn(2, 5, 4), torch.rand(2, 5, 1))
    model = Layers().eval()
    supernet = build(model, inputs)
    for config in (supernet.space.smallest, supernet.space.largest):
        subnet = extract_subnet(supernet, config)
        assert len(subnet.layers) == config["layers.depth"]
        with supernet.activated(config):
            oracles.assert_close(oracles.run(supernet, inputs), oracles.run(subnet, inputs), 1e-5)
        fresh = Layers().eval()
        reshape(
            fresh, reshaping(supernet, config), {n: tuple(t.shape) for n, t in subnet.state_dict().items()}
        )
        fresh.load_state_dict(subnet.state_dict())
        assert torch.equal(oracles.run(fresh, inputs), oracles.run(subnet, inputs))
        assert len(model.layers) == 3


def test_a_block_inside_of_a_skipped_one() -> None:
    inputs = (torch.randn(2, 8, 6, 6),)
    inner = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1))
    model = nn.Sequential(nn.Conv2d(8, 8, 1), inner, nn.Conv2d(8, 2, 1)).eval()
    graph = trace(model, inputs)
    names = [block.name for block in graph.blocks]
    choices = tuple(
        Choice(name=f"{name}.depth", dim="depth", values=(0, 1), targets=(name,)) for name in ("1", "1.0")
    )
    assert {"1", "1.0"} <= set(names)
    supernet = Supernet(model, graph, SearchSpace(choices=choices))
    for config in oracles.all_configs(supernet.space):
        subnet = extract_subnet(supernet, config)
        fresh = copy.deepcopy(extract_subnet(supernet, supernet.space.largest))
        reshape(
            fresh, reshaping(supernet, config), {n: tuple(t.shape) for n, t in subnet.state_dict().items()}
        )
        fresh.load_state_dict(subnet.state_dict())
        assert torch.equal(oracles.run(fresh, inputs), oracles.run(subnet, inputs))
        with supernet.activated(config):
            oracles.assert_close(oracles.run(supernet, inputs), oracles.run(subnet, inputs), 1e-5)


def test_nothing_is_said_of_the_largest() -> None:
    supernet = build(tiny_resnet())
    assert reshaping(supernet, supernet.space.largest) == Reshaping()


def test_a_block_that_takes_more_than_its_input_leaves_its_list() -> None:
    """torch's encoder hands masks to its layers: an identity could not stand in for one of them."""

    class Text(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 32)
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
            self.head = nn.Linear(32, 2)

        def forward(self, ids: Tensor) -> Tensor:
            y: Tensor = self.head(self.encoder(self.embed(ids)).mean(1))
            return y

    torch.manual_seed(0)
    model, ids = Text().eval(), torch.arange(14).reshape(2, 7)
    original = copy.deepcopy(model)
    graph = trace(model, (ids,))
    assert [(block.name, block.listed) for block in graph.blocks if block.kind == "residual"] == [
        ("encoder.layers.0", True),
        ("encoder.layers.1", True),
        ("encoder.layers.2", True),
    ]
    space = derive_space(graph, SpaceRules(dims=("depth",)))
    assert [choice.values for choice in space.choices] == [(1, 2, 3)]
    supernet = Supernet(model, graph, space)
    subnet = extract_subnet(supernet, SubnetConfig({"encoder.layers.depth": 1}))
    assert list(dict(subnet.get_submodule("encoder.layers").named_children())) == ["0"]
    original.encoder.layers = original.encoder.layers[:1]  # what a person would write
    assert torch.equal(oracles.run(subnet, (ids,)), oracles.run(original, (ids,)))
    assert list(subnet.state_dict()) == list(original.state_dict())
