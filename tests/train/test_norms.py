from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bnas.errors import DataError
from bnas.train import recalibrate


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
