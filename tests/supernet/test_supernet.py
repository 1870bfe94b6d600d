from __future__ import annotations

import numpy as np
import oracles
import pytest
import torch
from elastic_networks import IMAGES, Tied, build, tiny_resnet
from torch import Tensor, nn

from bnas.errors import ModelError, SpaceError
from bnas.graph import trace
from bnas.space import Choice, SearchSpace, SubnetConfig, derive_space
from bnas.supernet import Elastic, Supernet, extract_subnet
from bnas.supernet.slots import KEPT_PLANS


def test_release_gives_the_very_model_back() -> None:
    original = tiny_resnet()
    before = [{name: id(value) for name, value in vars(m).items()} for m in original.modules()]
    classes = [type(module) for module in original.modules()]
    expected, text = oracles.run(original, IMAGES), repr(original)
    supernet = build(original)
    supernet.activate(supernet.space.smallest)
    assert repr(original) != text
    model = supernet.release()
    assert model is original
    assert [type(module) for module in model.modules()] == classes
    assert repr(model) == text
    assert [{name: id(value) for name, value in vars(m).items()} for m in model.modules()] == before
    assert torch.equal(oracles.run(model, IMAGES), expected)
    Supernet(model, supernet.graph, supernet.space)  # and it can be made elastic again


def test_only_what_can_change_is_swapped() -> None:
    supernet = build(tiny_resnet(), dims=("depth",))
    assert not any(isinstance(module, Elastic) for module in supernet.model.modules())
    supernet = build(tiny_resnet(), dims=("width",), freeze=("layer2*", "conv1", "layer1.0.conv1"))
    swapped = {name for name, m in supernet.model.named_modules() if isinstance(m, Elastic)}
    assert swapped == {"layer1.1.conv1", "layer1.1.bn1", "layer1.1.conv2"}


def test_nothing_is_copied() -> None:
    model = tiny_resnet()
    pointers = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    supernet = build(model)
    rng = np.random.default_rng(0)
    for _ in range(5):
        supernet.activate(supernet.space.sample(rng))
        supernet(*IMAGES)
    assert {name: t.data_ptr() for name, t in model.state_dict().items()} == pointers


def test_a_model_belongs_to_one_supernet() -> None:
    supernet = build(tiny_resnet())
    with pytest.raises(ModelError, match="already belongs to a super-network"):
        Supernet(supernet.model, supernet.graph, supernet.space)
    part = supernet.model.layer1
    part.load_state_dict(part.state_dict())
    with pytest.raises(ModelError, match="already belongs to a super-network"):
        Supernet(nn.Sequential(supernet.model), _prefixed(supernet), supernet.space)


def _prefixed(supernet: Supernet) -> object:
    """The graph of the same model one level down, of which only the weights' names matter here."""
    from dataclasses import replace

    graph = supernet.graph
    weights = tuple(replace(weight, name=f"0.{weight.name}") for weight in graph.weights)
    return replace(graph, weights=weights)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_what_cannot_be_elastic_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.Conv2d(16, 4, 1))
    graph = trace(model, IMAGES)
    space = derive_space(graph)
    scripted = torch.jit.trace(model, IMAGES)
    with pytest.raises(ModelError, match="compiled TorchScript"):
        Supernet(nn.Sequential(*scripted.children()), graph, space)
    with pytest.raises(ModelError, match=r"compiled by torch.compile"):
        Supernet(torch.compile(model), graph, space)
    with pytest.raises(ModelError, match="no module '1'"):
        Supernet(nn.Sequential(model[0]), graph, space)
    with pytest.raises(ModelError, match=r"0.weight: .* shape \[16, 1, 3, 3\], .* \[16, 1, 5, 5\]"):
        Supernet(nn.Sequential(nn.Conv2d(1, 16, 5), model[1]), graph, space)
    with pytest.raises(ModelError, match=r"0.bias: .* has none"):
        Supernet(nn.Sequential(nn.Conv2d(1, 16, 3, bias=False), model[1]), graph, space)
    assert type(model[0]) is nn.Conv2d


def test_a_refused_config_changes_nothing() -> None:
    supernet = build(tiny_resnet())
    config = supernet.space.smallest
    supernet.activate(config)
    before = oracles.run(supernet, IMAGES)
    name = supernet.space.choices[-1].name
    with pytest.raises(SpaceError, match="7 is not one of"):
        supernet.activate(SubnetConfig({**config.values, name: 7}))
    assert supernet.active == config
    assert torch.equal(oracles.run(supernet, IMAGES), before)


def test_activated_goes_back_even_after_an_error() -> None:
    supernet = build(tiny_resnet())
    whole = oracles.run(supernet, IMAGES)

    def fail() -> None:
        with supernet.activated(supernet.space.smallest):
            assert supernet.active == supernet.space.smallest
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.equal(oracles.run(supernet, IMAGES), whole)


def test_a_space_that_does_not_fit_leaves_the_model_plain() -> None:
    model = tiny_resnet()
    graph = trace(model, IMAGES)
    choice = Choice(name="n.width", dim="width", values=(4,), targets=("nowhere",))
    with pytest.raises(SpaceError, match="no group 'nowhere'"):
        Supernet(model, graph, SearchSpace(choices=(choice,)))
    assert type(model.get_submodule("layer1.0.conv1")) is nn.Conv2d


def test_the_order_of_activation_does_not_matter() -> None:
    supernet, fresh = build(tiny_resnet()), build(tiny_resnet())
    rng = np.random.default_rng(1)
    configs = [supernet.space.sample(rng) for _ in range(6)]
    for config in configs:
        supernet.activate(config)
    for config in reversed(configs):
        fresh.activate(config)
        supernet.activate(config)
        assert torch.equal(oracles.run(supernet, IMAGES), oracles.run(fresh, IMAGES))


def test_kept_plans_stay_few_and_right() -> None:
    """Dense connections: a slot that follows many choices forgets plans, and makes them again."""

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleList(nn.Conv2d(1, 16, 1) for _ in range(5))
            self.out = nn.Conv2d(80, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(torch.cat([part(x) for part in self.parts], 1))
            return y

    supernet = build(Dense())
    assert supernet.space.size == 3**5 > KEPT_PLANS
    rng = np.random.default_rng(0)
    first = supernet.space.sample(rng)
    supernet.activate(first)
    expected = oracles.run(supernet, IMAGES)
    for _ in range(200):
        supernet.activate(supernet.space.sample(rng))
        assert all(len(slot.plans) <= KEPT_PLANS for slot in supernet._slots)
    supernet.activate(first)
    assert torch.equal(oracles.run(supernet, IMAGES), expected)


def test_keyword_arguments_reach_the_model() -> None:
    supernet = build(Tied(), (torch.randn(2, 8),))
    x = torch.randn(3, 8)
    assert torch.equal(supernet(x=x), supernet(x))


def test_an_own_forward_of_a_block_comes_back() -> None:
    model = tiny_resnet()
    block = model.layer1[1]
    calls = []
    forward = block.forward

    def own(x: Tensor) -> Tensor:
        calls.append(1)
        return forward(x)

    graph = trace(model, IMAGES)
    block.forward = own
    supernet = Supernet(model, graph, derive_space(graph))
    supernet.activate(supernet.space.smallest)
    supernet(*IMAGES)
    assert not calls
    supernet.activate(supernet.space.largest)
    supernet(*IMAGES)
    assert calls == [1]
    assert supernet.release().layer1[1].forward is own


def test_training_the_extracted_and_the_activated_agree() -> None:
    """One SGD step on a subnet moves the shared weights as it moves the extracted module's."""
    supernet = build(tiny_resnet())
    config = supernet.space.sample(np.random.default_rng(3))
    subnet = extract_subnet(supernet, config).train()
    supernet.model.train()
    supernet.activate(config)
    for model, run in ((supernet.model, supernet), (subnet, subnet)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run(*IMAGES).square().mean().backward()
        optimizer.step()
    supernet.model.eval()
    oracles.assert_close(
        oracles.run(extract_subnet(supernet, config), IMAGES), oracles.run(subnet.eval(), IMAGES), 1e-4
    )
