from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bnas.errors import ExportError
from bnas.export.batching import Takes, all_in_batches, in_batches, tensors_in


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, None])
def test_batches_are_whole_and_outputs_are_those_of_the_images(batch: int | None) -> None:
    seen: list[int] = []

    def run(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images * 2

    images = torch.arange(10.0).reshape(5, 2)
    assert torch.equal(in_batches(run, images, batch), images * 2)
    assert set(seen) == {batch or 5}


def test_images_are_brought_into_the_networks_layout() -> None:
    images = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    taken = Takes(shape=(None, 3, 4, 5), channels_last=True, u8=True).of(images, "net")
    assert (taken.dtype, taken.shape) == (torch.uint8, (2, 4, 5, 3))
    assert torch.equal(taken.permute(0, 3, 1, 2).float(), images)


@pytest.mark.parametrize(
    ("shape", "images", "said"),
    [
        (
            (1, 3, 4, None),
            torch.zeros(2, 1, 4, 9),
            r"net takes images of shape \[n, 3, 4, any\], got \[2, 1, 4, 9\]",
        ),
        ((1, 3, 4, 4), torch.zeros(2, 48), r"net takes images of shape \[n, 3, 4, 4\], got \[2, 48\]"),
    ],
)
def test_another_shape_is_refused(shape: tuple[int | None, ...], images: Tensor, said: str) -> None:
    with pytest.raises(ExportError, match=said):
        Takes(shape=shape).of(images, "net")


@pytest.mark.parametrize("value", [-1.0, 0.5, 256.0, float("nan")])
def test_what_is_no_byte_is_refused(value: float) -> None:
    images = torch.tensor([[0.0, 255.0, value]])
    with pytest.raises(ExportError, match="net takes whole pixel values from 0 to 255"):
        Takes(u8=True).of(images, "net")
    assert Takes(u8=True).of(images[:, :2], "net").tolist() == [[0, 255]]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8, None])
def test_every_output_is_put_together(batch: int | None) -> None:
    images = torch.arange(5.0).reshape(5, 1)
    taken: list[int] = []

    def run(chunk: Tensor) -> tuple[Tensor, ...]:
        taken.append(len(chunk))
        return chunk * 2, chunk.reshape(-1, 1, 1) + 1

    twice, more = all_in_batches(run, images, batch)
    assert torch.equal(twice, images * 2)
    assert torch.equal(more, images.reshape(5, 1, 1) + 1)
    assert set(taken) == {batch or 5}


def test_outputs_that_are_no_batches_stay_whole() -> None:
    (found,) = all_in_batches(lambda chunk: (torch.arange(7),), torch.zeros(1, 1), 1)
    assert found.tolist() == list(range(7))


def test_tensors_are_found_in_whatever_holds_them() -> None:
    one, two = torch.ones(2, dtype=torch.float16), np.arange(3)
    found = tensors_in({"a": one, "b": [two, (one, None)], "c": "text", "d": np.array(["x"])})
    assert [own.tolist() for own in found] == [[1, 1], [0, 1, 2], [1, 1]]
    assert all(own.dtype == torch.float32 for own in found)
    assert tensors_in(None) == ()
