from __future__ import annotations

import copy
import pickle

import oracles
import pytest
import torch
from elastic_networks import IMAGES, Cat, Gate, Tied, build
from torch import Tensor, nn

from bnas.graph import trace
from bnas.space import SpaceRules, SubnetConfig, derive_space
from bnas.supernet import ELASTIC, Elastic, Supernet, extract_subnet
from bnas.supernet.elastic import elastic_class, make_cut


def elastic_linear(cuts: dict[str, tuple[slice, ...]]) -> nn.Linear:
    module = nn.Linear(3, 4)
    module.__dict__["_cuts"] = cuts
    module.__class__ = elastic_class(nn.Linear, ("weight", "bias"))
    return module


def test_a_tensor_that_is_cut_reads_as_its_part() -> None:
    module = elastic_linear({"weight": (slice(0, 2), slice(1, 3))})
    assert type(module).__name__ == "ElasticLinear"
    assert type(module).__module__ == nn.Linear.__module__
    assert isinstance(module, nn.Linear)
    assert module.weight.shape == (2, 2)
    assert torch.equal(module.weight, module._parameters["weight"][:2, 1:])
    assert module.bias is module._parameters["bias"]


def test_module_functions_see_whole_tensors() -> None:
    module = elastic_linear({"weight": (slice(0, 2),)})
    assert [tuple(p.shape) for p in module.parameters()] == [(4, 3), (4,)]
    assert module.state_dict()["weight"].shape == (4, 3)
    module.load_state_dict({"weight": torch.ones(4, 3), "bias": torch.zeros(4)})
    assert torch.equal(module.weight, torch.ones(2, 3))
    module.weight = nn.Parameter(torch.zeros(4, 3))
    assert torch.equal(module.weight, torch.zeros(2, 3))
    module.double()
    assert module.weight.dtype == torch.float64
    again = copy.deepcopy(module)
    assert again.weight.shape == (2, 3)
    assert again.weight.data_ptr() != module.weight.data_ptr()


def test_parameters_can_be_removed_and_come_back_as_something_else() -> None:
    module = elastic_linear({"bias": (slice(0, 2),)})
    del module.bias
    assert not hasattr(module, "bias")
    with pytest.raises(AttributeError):
        del module.bias
    module.register_buffer("bias", torch.arange(4.0))
    assert torch.equal(module.bias, torch.tensor([0.0, 1.0]))
    del module.bias
    module.bias = torch.ones(1)  # a plain attribute: nobody cuts it
    assert torch.equal(module.bias, torch.ones(1))
    module.bias = None
    assert module.bias is None


def test_one_class_for_equal_modules() -> None:
    assert elastic_class(nn.Linear, ("weight",)) is elastic_class(nn.Linear, ("weight",))
    assert elastic_class(nn.Linear, ("weight",)) is not elastic_class(nn.Linear, ("bias",))


def test_positions_follow_the_tensor() -> None:
    tensor = torch.arange(12.0).reshape(3, 4)
    cut = make_cut((slice(0, 2), torch.tensor([0, 3])))
    assert callable(cut)
    assert cut(tensor).tolist() == [[0.0, 3.0], [4.0, 7.0]]
    assert cut(tensor.to("meta")).shape == (2, 2)
    assert make_cut((None, None)) is None
    assert make_cut((slice(0, 2), None)) == (slice(0, 2),)


def norm_net(norm: nn.Module) -> Cat:
    model = Cat()
    model.norm = norm
    return model


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.BatchNorm2d(32),
        lambda: nn.BatchNorm2d(32, momentum=None),
        lambda: nn.InstanceNorm2d(32, affine=True, track_running_stats=True),
    ],
)
@pytest.mark.parametrize("widths", [(8, 16), (16, 8), (8, 12)])
def test_statistics_of_inactive_channels_rest(norm: object, widths: tuple[int, int]) -> None:
    """With one range (slices) and with two (gathered): only active channels' statistics move."""
    model = norm_net(norm())  # type: ignore[operator]
    supernet = build(model)
    config = SubnetConfig({"a.width": widths[0], "b.width": widths[1]})
    subnet = extract_subnet(supernet, config).train()
    supernet.activate(config)
    model.train()
    for _ in range(2):
        assert torch.allclose(supernet(*IMAGES), subnet(*IMAGES), atol=1e-6)
    kept = [*range(widths[0]), *range(16, 16 + widths[1])]
    rest = [channel for channel in range(32) if channel not in kept]
    state, own = model.state_dict(), subnet.state_dict()
    for name, start in (("norm.running_mean", 0.0), ("norm.running_var", 1.0)):
        assert torch.allclose(state[name][kept], own[name])
        assert not torch.equal(own[name], torch.full((len(kept),), start))
        assert torch.equal(state[name][rest], torch.full((len(rest),), start))
    counted = isinstance(model.norm, nn.BatchNorm2d)
    assert state["norm.num_batches_tracked"] == own["norm.num_batches_tracked"] == 2 * counted


def test_a_norm_that_fails_is_whole_again() -> None:
    model = Cat()
    supernet = build(model)
    supernet.activate(supernet.space.smallest)
    model.norm.train()
    with pytest.raises(ValueError, match="expected 4D input"):
        model.norm(torch.zeros(3))
    assert model.state_dict()["norm.running_mean"].shape == (32,)
    assert model.norm.running_mean.shape == (16,)


@pytest.mark.parametrize("net", [Cat, Gate])
def test_any_forward_is_elastic(net: type[nn.Module]) -> None:
    original = net().eval()
    supernet = build(copy.deepcopy(original))
    assert supernet.space.size >= 3
    oracles.check_largest(original, supernet, IMAGES)
    for config in oracles.all_configs(supernet.space):
        oracles.check_extraction(original, supernet, config, IMAGES)
        oracles.check_costs(supernet, config, IMAGES)
        oracles.check_gradients(supernet, config, IMAGES)
    oracles.check_reordering(supernet, IMAGES)
    assert pickle.dumps(extract_subnet(supernet, supernet.space.smallest))


def test_bare_parameters_are_cut() -> None:
    supernet = build(Gate())
    subnet = extract_subnet(supernet, supernet.space.smallest)
    shapes = {name: tuple(tensor.shape) for name, tensor in subnet.state_dict().items()}
    assert shapes == {
        "scale": (8, 1, 1),
        "mean": (8,),
        "first.weight": (8, 1, 3, 3),
        "first.bias": (8,),
        "last.weight": (4, 8, 1, 1),
        "last.bias": (4,),
        "shifts.0": (8,),
        "shifts.1": (8,),
        "slopes.up": (8,),
    }


def test_tied_weights_stay_tied() -> None:
    torch.manual_seed(0)
    original, inputs = Tied(), (torch.randn(2, 8),)
    supernet = build(copy.deepcopy(original), inputs)
    config = supernet.space.smallest
    assert [choice.values for choice in supernet.space.choices] == [(8, 12, 16)]
    oracles.check_extraction(original, supernet, config, inputs)
    oracles.check_costs(supernet, config, inputs)
    subnet = extract_subnet(supernet, config)
    assert subnet.one.weight is subnet.two.weight
    assert subnet.one.weight.shape == (8, 8)
    supernet.activate(config)
    assert supernet.model.one.weight.shape == supernet.model.two.weight.shape == (8, 8)
    oracles.check_reordering(supernet, inputs)


def test_an_own_base_for_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubled(Elastic):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    monkeypatch.setitem(ELASTIC, nn.Linear, Doubled)
    module, x = nn.Linear(2, 2), torch.ones(1, 2)
    expected = 2 * module(x)
    module.__dict__["_cuts"] = {}
    module.__class__ = elastic_class(nn.Linear, ("weight",))
    assert torch.equal(module(x), expected)


class Counter(nn.Module):
    """Counts in a buffer, by assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(16))

    def forward(self, x: Tensor) -> Tensor:
        self.count = self.count + (x > 0).sum((0, 2, 3))
        return x * (1 + 0 * self.count[:, None, None])


def test_what_is_assigned_to_a_buffer_goes_into_its_active_part() -> None:
    model = nn.Sequential(nn.Conv2d(3, 16, 1), Counter(), nn.Conv2d(16, 4, 1))
    inputs = (torch.randn(2, 3, 4, 4),)
    graph = trace(model, inputs)
    model[1].count = torch.zeros(16)
    space = derive_space(graph, SpaceRules(width_ratios=(0.5, 1.0)))
    supernet = Supernet(model, graph, space)
    supernet.activate(space.smallest)
    supernet(*inputs)
    whole = model.state_dict()["1.count"]
    assert whole.shape == (16,)
    assert whole[:8].sum() > 0
    assert torch.equal(whole[8:], torch.zeros(8))
