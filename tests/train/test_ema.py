from __future__ import annotations

import copy
import io
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from elastic_networks import IMAGES, build, tiny_resnet
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bnas.errors import ModelError
from bnas.train.ema import Ema


class Net(nn.Module):
    """Weights, statistics, a counter, and one weight with two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.two(self.one(self.norm(self.conv(x)).mean((2, 3))))
        return y


def trained(model: nn.Module, steps: int) -> Iterator[None]:
    """Steps of a training that changes weights, statistics and counters."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(5)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(3, 2, 5, 5, generator=generator)).square().mean().backward()
        optimizer.step()
        yield


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def values(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def averaged(ema: Ema, model: nn.Module) -> dict[str, Tensor]:
    with ema.applied(model):
        return values(model)


@pytest.mark.parametrize("decay", [0.9, 0.3])
def test_the_average_is_that_of_its_definition(decay: float) -> None:
    model = net()
    ema = Ema(model, decay)
    expected = {name: value.numpy().astype(np.float64) for name, value in values(model).items()}
    for t, _ in enumerate(trained(model, 30)):
        ema.update(model)
        kept = min(decay, (1 + t) / (10 + t))
        for name, value in values(model).items():
            now = value.numpy().astype(np.float64)
            expected[name] = kept * expected[name] + (1 - kept) * now
    found = averaged(ema, model)
    counter = found.pop("norm.num_batches_tracked")
    assert counter == 30  # not an average
    assert not torch.equal(found["norm.running_mean"], model.norm.running_mean)
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=2e-5, atol=1e-6)


def test_long_after_the_start_it_is_torchs_own() -> None:
    model, decay = net(), 0.8
    ema = Ema(model, decay)
    ema.load_state_dict({**ema.state_dict(), "updates": 1000})
    theirs = AveragedModel(
        model, avg_fn=lambda own, new, count: own * decay + new * (1 - decay), use_buffers=True
    )
    theirs.n_averaged.fill_(1)
    for _ in trained(model, 10):
        ema.update(model)
        theirs.update_parameters(model)
    expected = theirs.module.state_dict()
    for name, value in averaged(ema, model).items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_weights_come_back_bit_by_bit_whatever_happened() -> None:
    model = net()
    ema = Ema(model, 0.9)
    for _ in trained(model, 5):
        ema.update(model)
    own, average = values(model), averaged(ema, model)
    assert not equal(own, average)

    def change_and_fail() -> None:
        assert equal(values(model), average)
        list(trained(model, 3))
        model.norm.reset_running_stats()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), ema.applied(model):
        change_and_fail()
    assert equal(values(model), own)
    assert equal(averaged(ema, model), average)


def test_tensors_stay_the_same_objects() -> None:
    model = net().to(memory_format=torch.channels_last)
    ema = Ema(model, 0.9)

    def places() -> list[tuple[int, int, tuple[int, ...]]]:
        tensors = model.state_dict(keep_vars=True).values()
        return [(id(tensor), tensor.data_ptr(), tensor.stride()) for tensor in tensors]

    before = places()
    for _ in trained(model, 2):
        ema.update(model)
    with ema.applied(model):
        assert places() == before
    average = averaged(ema, model)
    ema.copy_to(model)
    assert places() == before
    assert equal(values(model), average)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_going_on_from_a_file_is_bit_identical(memory_format: torch.memory_format) -> None:
    undisturbed = net().to(memory_format=memory_format)
    ema = Ema(undisturbed, 0.99)
    saved = io.BytesIO()
    for step, _ in enumerate(trained(undisturbed, 8)):
        ema.update(undisturbed)
        if step == 3:
            torch.save(ema.state_dict(), saved)
    model = net()  # laid out plainly when the average is made, as it may be when a training goes on
    resumed = Ema(model, 0.99)
    model.to(memory_format=memory_format)
    for step, _ in enumerate(trained(model, 8)):
        if step == 3:
            saved.seek(0)
            resumed.load_state_dict(torch.load(saved, weights_only=True))
        elif step > 3:
            resumed.update(model)
    assert resumed.updates == ema.updates == 8
    assert equal(averaged(resumed, model), averaged(ema, undisturbed))
    torch.testing.assert_close(resumed.state_dict()["average"], ema.state_dict()["average"], rtol=0, atol=0)


def test_the_average_is_laid_out_as_the_weights_are() -> None:
    model = net()
    ema = Ema(model, 0.9)
    model.to(memory_format=torch.channels_last)
    ema.update(model)
    average = ema.state_dict()["average"]["conv.weight"]
    assert average.stride() == model.conv.weight.stride() != net().conv.weight.stride()


def test_a_state_is_loaded_as_a_copy() -> None:
    model = net()
    ema, other = Ema(model, 0.5), Ema(model, 0.5)
    other.load_state_dict(ema.state_dict())
    before = averaged(ema, model)
    for _ in trained(model, 2):
        other.update(model)
    assert equal(averaged(ema, model), before)


def test_restart_forgets() -> None:
    model = net()
    ema = Ema(model, 0.999)
    for _ in trained(model, 5):
        ema.update(model)
    ema.restart(model)
    assert ema.updates == 0
    now = values(model)
    assert equal(averaged(ema, model), now)
    list(trained(model, 1))
    assert equal(averaged(ema, model), now)  # a copy
    fresh = Ema(copy.deepcopy(model), 0.999)
    ema.restart(model)
    list(trained(model, 1))
    ema.update(model)
    fresh.update(model)
    assert equal(averaged(ema, model), averaged(fresh, model))


def test_a_weight_with_two_names_is_averaged_once() -> None:
    model = net()
    ema = Ema(model, 0.9)
    assert "one.weight" in ema.state_dict()["average"]
    assert "two.weight" not in ema.state_dict()["average"]
    for _ in trained(model, 3):
        ema.update(model)
    ema.copy_to(model)
    assert model.two.weight is model.one.weight


def test_low_precision_weights_have_a_precise_average() -> None:
    model = nn.Linear(1, 1, bias=False).bfloat16()
    with torch.no_grad():
        model.weight.fill_(1.0)
    ema = Ema(model, 0.999)
    ema.load_state_dict({**ema.state_dict(), "updates": 10**6})
    with torch.no_grad():
        model.weight.fill_(2.0)
    for _ in range(1000):
        ema.update(model)  # in bfloat16, 1 + 0.001 is 1
    ema.copy_to(model)
    assert model.weight.dtype == torch.bfloat16
    assert model.weight.item() == pytest.approx(2 - 0.999**1000, rel=0.01)


def test_all_of_a_supernet_whatever_is_active() -> None:
    supernet = build(tiny_resnet())
    ema = Ema(supernet.model, 0.5)
    supernet.activate(supernet.space.smallest)
    with torch.no_grad():
        for parameter in supernet.model.parameters():
            parameter.add_(1)
    ema.update(supernet.model)  # keeps 1/10
    expected = {name: value.clone() - 0.1 for name, value in supernet.model.named_parameters()}
    before = supernet(*IMAGES)
    with ema.applied(supernet.model):
        for name, parameter in supernet.model.named_parameters():
            torch.testing.assert_close(parameter, expected[name])
        assert not torch.equal(supernet(*IMAGES), before)  # the active parts are of these very tensors
    assert torch.equal(supernet(*IMAGES), before)


def test_the_state_of_another_network_is_refused() -> None:
    state = Ema(nn.Linear(2, 3), 0.9).state_dict()
    ema = Ema(nn.Linear(2, 2), 0.9)
    with pytest.raises(ModelError, match=r"moving average is of another network: .*shape \[3"):
        ema.load_state_dict(state)
    with pytest.raises(ModelError, match="it has nothing for 'bias'"):
        Ema(nn.Linear(2, 3), 0.9).load_state_dict(Ema(nn.Linear(2, 3, bias=False), 0.9).state_dict())
