from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bnas import progress
from bnas.accuracy.accuracy import Batch, TopK, ask, read_batches
from bnas.accuracy.annotations import Samples
from bnas.accuracy.preprocess import read_as_rgb
from bnas.errors import ConfigError, DataError, ModelError


def in_parts(scores: Tensor, labels: Tensor, size: int) -> Iterator[Batch]:
    """Batches whose images are the scores themselves, as [n, classes, 1, 1]."""
    for start in range(0, len(scores), size):
        yield scores[start : start + size, :, None, None], labels[start : start + size]


def as_scores(x: Tensor) -> Tensor:
    return x.flatten(1)


def test_top_k_is_what_sorting_says() -> None:
    rng = np.random.default_rng(5)
    scores, labels = rng.integers(0, 6, (200, 9)), rng.integers(0, 9, 200)  # with many equal scores
    answers = ask(as_scores, in_parts(torch.tensor(scores).float(), torch.tensor(labels), 33), images=200)
    order = np.argsort(-scores, axis=1, kind="stable")  # equal ones in the order of the classes
    for k in range(1, 10):
        expected = int((order[:, :k] == labels[:, None]).any(1).sum())
        score = answers.score(TopK(k=k))
        assert (score.correct, score.percent) == (expected, expected / 2)
        assert score.low_percent <= score.percent <= score.high_percent
    assert answers.score(TopK()).correct == int((torch.tensor(scores).argmax(1).numpy() == labels).sum())
    assert answers.classes == 9
    assert answers.score(TopK(k=1, name="accuracy@top1", reference=0.25)).reference_percent == 25.0
    assert (TopK(k=5).title, TopK(name="accuracy@top1").title) == ("top-5", "accuracy@top1")


def test_networks_of_frameworks_with_maps_of_one_pixel_count_as_well() -> None:
    scores = torch.eye(4)
    answers = ask(lambda x: x, in_parts(scores, torch.arange(4), 2), images=4)  # [n, 4, 1, 1]
    assert answers.score(TopK()).correct == 4


@pytest.mark.parametrize(
    ("predict", "text"),
    [
        (lambda x: x.flatten(1)[:1], r"an output of shape \[1, 5\] for 3 images"),
        (
            lambda x: x.flatten(1).argmax(1),
            r"an output of shape \[3\] for 3 images; expected scores \[3, classes\]",
        ),
        (lambda x: torch.tensor(1.0), "an output of shape"),
        (lambda x: x.flatten(1) / 0 * 0, "scores that are no numbers for file 0"),
        (lambda x: torch.where(torch.arange(len(x))[:, None] == 2, torch.nan, x.flatten(1)), "for file 2"),
    ],
)
def test_outputs_that_are_no_scores_are_refused(predict: object, text: str) -> None:
    batches = in_parts(torch.ones(3, 5), torch.tensor([0, 1, 2]), 3)
    with pytest.raises(ModelError, match=text):
        ask(predict, batches, images=3, name_of="file {}".format)  # type: ignore[arg-type]


def test_labels_that_are_no_class_of_the_network_are_named() -> None:
    with pytest.raises(
        DataError, match="file 3 is of class 5, but the network has 5 classes, 0 to 4; leave has_back"
    ):
        ask(
            as_scores,
            in_parts(torch.ones(4, 5), torch.tensor([0, 1, 2, 5]), 2),
            images=4,
            name_of="file {}".format,
        )
    with pytest.raises(DataError, match=r"image 0 is of class 9, but the network has 5 classes, 0 to 4$"):
        ask(as_scores, in_parts(torch.ones(1, 5), torch.tensor([9]), 1), images=1)


def test_no_image_and_no_such_k() -> None:
    with pytest.raises(DataError, match="there is no image to check the network on"):
        ask(as_scores, iter(()), images=0)
    answers = ask(as_scores, in_parts(torch.ones(1, 3), torch.tensor([0]), 1), images=1)
    with pytest.raises(ConfigError, match="top_k: 5, but the network has 3 classes"):
        answers.score(TopK(k=5))
    with pytest.raises(ConfigError, match="k: expected at least 1, got 0"):
        TopK(k=0)


def test_the_bar_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, str]] = []

    class Bar:
        def __enter__(self) -> object:
            return lambda n, note: steps.append((n, note))

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(progress, "bar", lambda title, total: steps.append((total, title)) or Bar())
    ask(as_scores, in_parts(torch.eye(3), torch.tensor([0, 1, 0]), 2), images=3, title="check A")
    assert steps == [(3, "check A"), (2, "top-1 100.00 %"), (1, "top-1 66.67 %")]


def test_images_come_in_order_whatever_the_threads(tmp_path: Path) -> None:
    for index in range(23):
        Image.new("RGB", (4, 3), (index, 2 * index, 200)).save(tmp_path / f"{index}.png")
    samples = Samples(paths=tuple(tmp_path / f"{i}.png" for i in range(23)), labels=tuple(range(23)))
    read = list(read_batches(samples, read_as_rgb, 5, threads=4))
    assert [len(x) for x, _ in read] == [5, 5, 5, 5, 3]
    images, labels = (torch.cat(parts) for parts in zip(*read, strict=True))
    assert images.shape == (23, 3, 3, 4)
    assert images.dtype == torch.float32
    assert images[:, 0, 0, 0].tolist() == list(range(23)) == labels.tolist()
    assert images[:, 1, 2, 3].tolist() == list(range(0, 46, 2))


def test_a_damaged_image_or_one_of_another_size_stops_it(tmp_path: Path) -> None:
    for index in range(6):
        Image.new("RGB", (4, 3)).save(tmp_path / f"{index}.png")
    samples = Samples(paths=tuple(tmp_path / f"{i}.png" for i in range(6)), labels=(0,) * 6)
    Image.new("RGB", (5, 3)).save(tmp_path / "4.png")
    with pytest.raises(DataError, match=r"4.png: 5 x 3 pixels when prepared, .*0.png 4 x 3; .*add a crop"):
        list(read_batches(samples, read_as_rgb, 2, threads=2))
    (tmp_path / "1.png").write_bytes((tmp_path / "1.png").read_bytes()[:30])
    with pytest.raises(DataError, match=r"1.png: cannot be read as an image"):
        list(read_batches(samples, read_as_rgb, 2, threads=2))
