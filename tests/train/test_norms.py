from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from elastic_networks import Cat, build
from torch import Tensor, nn

from bnas.errors import DataError
from bnas.train import recalibrate
from bnas.train.norms import still_statistics


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    rng = np.random.default_rng(0)
    return [
        (torch.from_numpy(rng.normal(3, 2, size=(n, 2, 4, 4))).float(), torch.zeros(n, dtype=torch.int64))
        for n in sizes
    ]


def test_statistics_are_those_of_the_data() -> None:
    norm = nn.BatchNorm2d(2)
    norm.running_mean = torch.tensor([9.0, 9.0])  # must be forgotten
    norm.num_batches_tracked = torch.tensor(7)
    data = batches(10, 10, 5)
    recalibrate(norm, data)
    arrays = [x.numpy().transpose(1, 0, 2, 3).reshape(2, -1) for x, _ in data]
    means, variances = zip(*((a.mean(axis=1), a.var(axis=1, ddof=1)) for a in arrays), strict=True)
    np.testing.assert_allclose(norm.running_mean.numpy(), np.mean(means, axis=0), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), np.mean(variances, axis=0), rtol=1e-5)


def test_a_norm_behind_a_norm_sees_batch_statistics() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2))
    model[0].running_mean = torch.full((2,), 100.0)
    recalibrate(model, batches(16))
    np.testing.assert_allclose(model[1].running_mean.numpy(), [0, 0], atol=1e-5)
    np.testing.assert_allclose(model[1].running_var.numpy(), [1, 1], rtol=0.02)


def test_nothing_else_changes() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3, momentum=0.3), nn.Dropout(0.5), nn.BatchNorm2d(3)
    )
    model[1].eval()
    model[3] = nn.BatchNorm2d(3, track_running_stats=False)
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    seen: list[bool] = []
    model[2].register_forward_hook(lambda module, *_: seen.append(module.training))
    recalibrate(model, batches(8, 8))
    assert seen == [False, False]  # no dropout
    assert [module.training for module in model.modules()] == modes
    assert [model[1].momentum, model[3].momentum] == [0.3, 0.1]
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_modes_and_momenta_are_restored_after_an_error() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3), nn.Conv2d(5, 1, 1)).train()
    with pytest.raises(RuntimeError):
        recalibrate(model, batches(4))
    assert model[0].momentum == 0.3
    assert all(module.training for module in model.modules())


def test_no_batches_is_an_error_and_changes_nothing() -> None:
    norm = nn.BatchNorm2d(2)
    norm.running_mean = torch.tensor([9.0, 9.0])
    with pytest.raises(DataError, match="no images"):
        recalibrate(norm, [])
    assert norm.running_mean.tolist() == [9.0, 9.0]
    recalibrate(nn.Conv2d(2, 2, 1), [])  # has nothing to recalibrate


# still_statistics


def net_with_norms() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 1),
        nn.BatchNorm2d(4),
        nn.BatchNorm2d(4, momentum=None),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.BatchNorm2d(4, track_running_stats=False),
    ).train()


def test_statistics_stand_still_inside_only() -> None:
    model, x = net_with_norms(), torch.randn(5, 2, 3, 3)
    model(x)
    before = copy.deepcopy(model.state_dict())
    objects = [id(buffer) for buffer in model.buffers()]
    with still_statistics(model), torch.no_grad():
        inside = [model(x), model(x + 1)]
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [id(buffer) for buffer in model.buffers()] == objects
    assert torch.equal(inside[0], model(x))  # as in training mode: with the batch's own statistics
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked", "3.running_var"} <= changed


def test_statistics_stand_still_also_after_an_error() -> None:
    model = net_with_norms()
    before = copy.deepcopy(model.state_dict())

    def change_and_fail() -> None:
        model(torch.randn(5, 2, 3, 3))
        model[1].reset_running_stats()
        model[2].running_mean = torch.ones(4)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), still_statistics(model):
        change_and_fail()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_backward_pass_may_follow() -> None:
    x, gradients = torch.randn(5, 2, 3, 3), []
    for still in (True, False):
        model = net_with_norms()
        if still:
            with still_statistics(model):
                loss = model(x).pow(3).sum()
        else:
            loss = model(x).pow(3).sum()
        loss.backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(map(torch.equal, *gradients))


def test_statistics_of_elastic_norms_stand_still() -> None:
    inputs = (torch.randn(3, 1, 6, 6),)
    supernet = build(Cat(), inputs)  # its norm's active channels are gathered and written back
    supernet.model.train()
    before = copy.deepcopy(supernet.model.state_dict())
    with still_statistics(supernet.model):
        for subnet in (supernet.space.smallest, supernet.space.largest):
            supernet.activate(subnet)
            supernet(*inputs)
    assert all(torch.equal(value, before[name]) for name, value in supernet.model.state_dict().items())
