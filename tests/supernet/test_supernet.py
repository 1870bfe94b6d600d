from __future__ import annotations

import copy
import pickle

import numpy as np
import oracles
import pytest
import torch
from torch import Tensor, nn

from bnas.errors import ConfigError, ModelError, SpaceError
from bnas.graph import trace
from bnas.models import ModelConfig, load_model
from bnas.space import Choice, SearchSpace, SubnetConfig, derive_space
from bnas.supernet import Supernet, extract_subnet, prove, reorder_channels

INPUTS = (torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)),)


def small() -> nn.Module:
    options = {"widths": (8, 16), "depths": (2, 2)}
    model, _ = load_model(ModelConfig(options=options), num_classes=10, shape=(1, 32, 32))
    return oracles.randomize_norms(model)


def build() -> Supernet:
    model = small()
    graph = trace(model, INPUTS)
    return Supernet(model, graph, derive_space(graph))


def test_release_gives_the_very_model_back() -> None:
    original = small()
    supernet = build()
    supernet.activate(supernet.space.smallest)
    model = supernet.release()
    assert [type(module) for module in model.modules()] == [type(module) for module in original.modules()]
    assert repr(model) == repr(original)
    assert torch.equal(oracles.run(model, INPUTS), oracles.run(original, INPUTS))
    assert not any(name.startswith("_plan") or name == "forward" for m in model.modules() for name in vars(m))


def test_a_model_belongs_to_one_supernet() -> None:
    supernet = build()
    with pytest.raises(ModelError, match="already belongs to a super-network"):
        Supernet(supernet.model, supernet.graph, supernet.space)


def test_a_refused_config_changes_nothing() -> None:
    supernet = build()
    config = supernet.space.smallest
    supernet.activate(config)
    before = oracles.run(supernet, INPUTS)
    name = supernet.space.choices[-1].name
    with pytest.raises(SpaceError, match="7 is not one of"):
        supernet.activate(SubnetConfig({**config.values, name: 7}))
    assert supernet.active == config
    assert torch.equal(oracles.run(supernet, INPUTS), before)


def test_a_space_that_does_not_fit_leaves_the_model_plain() -> None:
    model = small()
    graph = trace(model, INPUTS)
    with pytest.raises(SpaceError, match="no group 'nowhere'"):
        Supernet(
            model,
            graph,
            SearchSpace(choices=(Choice(name="n.width", dim="width", values=(4,), targets=("nowhere",)),)),
        )
    assert type(model.get_submodule("layer1.0.conv1")) is nn.Conv2d


def test_extracted_is_plain_small_and_independent() -> None:
    supernet = build()
    config = supernet.space.smallest
    before = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    subnet = extract_subnet(supernet, config)
    assert supernet.active == supernet.space.largest
    assert not any(type(module).__module__.startswith("bnas.supernet") for module in subnet.modules())
    own = {tensor.data_ptr() for tensor in subnet.state_dict().values()}
    assert own.isdisjoint(tensor.data_ptr() for tensor in supernet.model.state_dict().values())
    assert not subnet.training
    conv = subnet.get_submodule("layer2.0.conv1")
    assert isinstance(conv, nn.Conv2d)
    assert (conv.in_channels, conv.out_channels) == tuple(reversed(conv.weight.shape[:2]))
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in supernet.model.state_dict().items())
    expected = oracles.run(extract_subnet(supernet, config), INPUTS)
    assert pickle.dumps(extract_subnet(supernet, config))  # a class that pickle cannot name would be refused
    again = copy.deepcopy(extract_subnet(supernet, config))
    assert torch.equal(oracles.run(again, INPUTS), expected)


def test_extraction_while_a_block_is_skipped() -> None:
    supernet = build()
    whole = oracles.run(supernet, INPUTS)
    supernet.activate(supernet.space.smallest)
    assert torch.equal(oracles.run(extract_subnet(supernet, supernet.space.largest), INPUTS), whole)


def test_batch_norm_statistics_of_inactive_channels_rest() -> None:
    """With a prefix (slices) and after a cat (gathered): only active channels' statistics move."""

    class Cat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 16, 3), nn.Conv2d(1, 16, 3)
            self.norm, self.out = nn.BatchNorm2d(32), nn.Conv2d(32, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(self.norm(torch.cat([self.a(x), self.b(x)], 1)))
            return y

    model = Cat()
    graph = trace(model, INPUTS)
    supernet = Supernet(model, graph, derive_space(graph))
    config = SubnetConfig({"a.width": 8, "b.width": 12 if 12 in supernet.space.choices[1].values else 8})
    subnet = extract_subnet(supernet, config).train()
    supernet.activate(config)
    model.train()
    out = supernet(*INPUTS)
    assert torch.allclose(out, subnet(*INPUTS), atol=1e-6)
    kept = [*range(8), *range(16, 16 + config["b.width"])]
    assert torch.allclose(model.norm.running_mean[kept], subnet.norm.running_mean)
    rest = [channel for channel in range(32) if channel not in kept]
    assert torch.equal(model.norm.running_mean[rest], torch.zeros(len(rest)))
    assert torch.equal(model.norm.running_var[rest], torch.ones(len(rest)))


def test_training_the_extracted_and_the_activated_agree() -> None:
    """One SGD step on a subnet moves the shared weights as it moves the extracted module's."""
    supernet = build()
    config = supernet.space.sample(np.random.default_rng(3))
    subnet = extract_subnet(supernet, config).train()
    supernet.model.train()
    supernet.activate(config)
    for model, run in ((supernet.model, supernet), (subnet, subnet)):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        run(*INPUTS).square().mean().backward()
        optimizer.step()
    supernet.model.eval()
    oracles.assert_close(
        oracles.run(extract_subnet(supernet, config), INPUTS), oracles.run(subnet.eval(), INPUTS), 1e-4
    )


def test_reordering_puts_the_heaviest_first() -> None:
    supernet = build()
    reorder_channels(supernet, "l1")
    weight = supernet.model.get_submodule("layer2.0.conv1").weight
    norms = weight.detach().abs().sum((1, 2, 3))
    assert torch.all(norms[:-1] >= norms[1:] - 1e-6)
    with pytest.raises(ConfigError, match="no such measure 'bn_scal'; did you mean 'bn_scale'"):
        reorder_channels(supernet, "bn_scal")


@pytest.mark.parametrize("importance", ["l2", "bn_scale"])
def test_every_importance_keeps_the_output(importance: str) -> None:
    oracles.check_reordering(build(), INPUTS, importance)


def test_proof_finds_a_hard_coded_size() -> None:
    class HardCoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.fc = nn.Conv2d(1, 16, 3), nn.Linear(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(self.a(x).view(2, 16, -1).mean(-1))
            return y

    model = HardCoded()
    graph = trace(model, INPUTS)
    with pytest.raises(SpaceError, match=r"does not run \(.*\); freeze the layers concerned"):
        prove(Supernet(model, graph, derive_space(graph)), INPUTS)
    assert prove(build(), INPUTS) == 4
