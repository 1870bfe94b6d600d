from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import ToyImages, toy_data, toy_images, toy_supernet

from bnas.errors import DataError
from bnas.space import SubnetConfig
from bnas.supernet import extract_subnet
from bnas.train import evaluate, evaluate_subnet, recalibrate, recalibration_batches


class Marked(nn.Module):
    """Says the class that is written into the first pixel."""

    def forward(self, x: Tensor) -> Tensor:
        assert not self.training
        assert not torch.is_grad_enabled()
        return nn.functional.one_hot(x[:, 0, 0, 0].long(), 4).float()


def marked(said: list[int], true: list[int]) -> ToyImages:
    x = torch.zeros(len(said), 1, 6, 6)
    x[:, 0, 0, 0] = torch.tensor(said)
    return ToyImages(x, torch.tensor(true))


def test_counts_right_answers_whatever_the_batch_size() -> None:
    images = marked([0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 0, 0, 3, 1])  # 4 of 7 right
    model = Marked()
    for batch_size in (1, 3, 7, 250):
        assert evaluate(model, images, batch_size=batch_size) == pytest.approx(400 / 7)
    assert model.training


def test_a_runtime_may_return_arrays() -> None:
    images = marked([0, 1, 2, 3], [0, 1, 0, 0])
    assert evaluate(lambda x: np.eye(4)[x[:, 0, 0, 0].int().numpy()], images, batch_size=1) == 50.0


class Sized(nn.Module):
    """Notes the images that it sees; has a batch norm, so that it is recalibrated."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        return self.norm(x).mean((2, 3)).expand(-1, 4)


def test_images_have_the_resolution_of_the_subnet() -> None:
    images = toy_images(5, 1)
    model = Sized()
    calibration = recalibration_batches(images, 4, seed=0)
    evaluate_subnet(lambda config: model, SubnetConfig({"resolution": 4}), calibration, images, batch_size=3)
    assert model.seen == [(4, 1, 4, 4), (3, 1, 4, 4), (2, 1, 4, 4)]
    model.seen.clear()
    evaluate_subnet(lambda config: model, SubnetConfig({"a.width": 4}), calibration, images)
    assert {seen[2:] for seen in model.seen} == {images.shape[1:]}
    sizes = []
    evaluate(lambda x: sizes.append(x.shape[2:]) or torch.zeros(len(x), 4), images, resolution=3)
    assert sizes == [(3, 3)]


def test_an_empty_split_is_an_error() -> None:
    with pytest.raises(DataError, match="no images"):
        evaluate(Marked(), toy_images(0, 1))


def test_recalibration_images_are_drawn_once_by_seed() -> None:
    images = toy_images(30, 1)
    first = recalibration_batches(images, 20, seed=3, batch_size=8)
    assert [len(y) for _, y in first] == [8, 8, 4]
    again = recalibration_batches(images, 20, seed=3, batch_size=8)
    other = recalibration_batches(images, 20, seed=4, batch_size=8)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])
    drawn = {tuple(image.flatten().tolist()) for x, _ in first for image in x}
    assert len(drawn) == 20  # all different
    assert drawn <= {tuple(image.flatten().tolist()) for image in images.x}  # and not augmented


def test_a_subnet_is_recalibrated_and_the_supernet_left_bit_identical() -> None:
    supernet, data = toy_supernet(), toy_data()
    config = supernet.space.smallest
    state = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    calibration = recalibration_batches(data.train, 64, seed=0)
    got = evaluate_subnet(lambda c: extract_subnet(supernet, c), config, calibration, data.val)
    assert supernet.active == supernet.space.largest
    assert all(torch.equal(value, state[name]) for name, value in supernet.model.state_dict().items())

    subnet = extract_subnet(supernet, config)
    recalibrate(subnet, calibration)
    with torch.no_grad():
        said = subnet(data.val.x).argmax(1)  # type: ignore[attr-defined]
    assert got == 100 * int((said == data.val.y).sum()) / 200  # type: ignore[attr-defined]
