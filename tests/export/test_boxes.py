from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bnas.export.boxes import agreeing, agreement


def found(boxes: list[list[float]], scores: list[float], labels: list[int]) -> dict[str, Tensor]:
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "scores": torch.tensor(scores),
        "labels": torch.tensor(labels),
    }


def some(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = int(torch.randint(0, 12, (1,), generator=generator))
    corners, sides = torch.rand(count, 2, generator=generator), torch.rand(count, 2, generator=generator)
    return {
        "boxes": torch.cat([corners, corners + sides], 1),
        "scores": torch.rand(count, generator=generator),
        "labels": torch.randint(0, 2, (count,), generator=generator),
    }


def overlap(a: list[float], b: list[float]) -> float:
    inner = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return inner / (sum(areas) - inner)


def found_again(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> list[bool]:
    """Whether each box with a score of .3 is found again, the surest first."""
    left = [own for own in rows(theirs) if own[0] >= 0.15]
    again = []
    for score, label, box in sorted(rows(ours), reverse=True):
        if score < 0.3:
            continue
        alike = [own for own in left if own[1] == label and overlap(own[2], box) >= 0.5]
        if alike:
            left.remove(max(alike, key=lambda own: overlap(own[2], box)))
        again.append(bool(alike))
    return again


def rows(of: dict[str, Tensor]) -> list[tuple[float, int, list[float]]]:
    return list(zip(of["scores"].tolist(), of["labels"].tolist(), of["boxes"].tolist(), strict=True))


def test_random_boxes_as_counted_one_by_one() -> None:
    wanted, got = [some(seed) for seed in range(40)], [some(100 + seed) for seed in range(40)]
    pairs = [*zip(wanted, got, strict=True), *zip(got, wanted, strict=True)]
    every = [own for ours, theirs in pairs for own in found_again(ours, theirs)]
    again, count = sum(every), len(every)
    assert 0 < again < count
    assert agreeing(wanted, got) == (again, count)
    assert agreeing(got, wanted) == (again, count)


def test_a_detector_agrees_with_itself() -> None:
    wanted = [some(seed) for seed in range(20)]
    again, count = agreeing(wanted, wanted)
    assert again == count > 50


BOX, OTHER = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]


@pytest.mark.parametrize(
    ("got", "result"),
    [
        (found([BOX], [0.9], [1]), (2, 2)),
        (found([BOX], [0.9], [0]), (0, 2)),  # another class
        (found([OTHER], [0.9], [1]), (0, 2)),
        (found([], [], []), (0, 1)),
        (found([BOX], [0.2], [1]), (1, 1)),  # less sure of it
        (found([BOX], [0.1], [1]), (0, 1)),  # not sure at all
        (found([BOX, OTHER], [0.9, 0.9], [1, 1]), (2, 3)),  # one too many counts too
        (found([BOX, OTHER], [0.9, 0.2], [1, 1]), (2, 2)),
        (found([BOX, BOX], [0.9, 0.8], [1, 1]), (2, 3)),  # the same box twice is one too many
        (found([BOX, [0.7, 0.7, 0.7, 0.9]], [0.9, 0.9], [1, 1]), (2, 2)),  # without an area
    ],
)
def test_what_counts(got: dict[str, Tensor], result: tuple[int, int]) -> None:
    assert agreeing([found([BOX], [0.8], [1])], [got]) == result


def test_images_are_not_mixed() -> None:
    one, other = found([BOX], [0.9], [0]), found([OTHER], [0.9], [0])
    assert agreeing([one, other], [one, other]) == (4, 4)
    assert agreeing([one, other], [other, one]) == (0, 4)


def test_closer_boxes_can_be_asked_for() -> None:
    shifted = found([[0.1, 0.1, 0.5, 0.45]], [0.9], [0])  # an IoU of .875
    assert agreeing([found([BOX], [0.9], [0])], [shifted], overlap=0.85) == (2, 2)
    assert agreeing([found([BOX], [0.9], [0])], [shifted], overlap=0.9) == (0, 2)


def test_each_box_takes_the_one_that_it_overlaps_most() -> None:
    wide, narrow = [0.1, 0.1, 0.9, 0.5], [0.1, 0.1, 0.7, 0.5]  # an IoU of .75
    sure, unsure = found([wide, narrow], [0.9, 0.8], [0, 0]), found([narrow, wide], [0.9, 0.8], [0, 0])
    assert agreeing([sure], [unsure]) == (4, 4)
    assert agreeing([sure], [found([narrow], [0.9], [0])]) == (2, 3)


def test_where_few_boxes_are_sure_less_sure_ones_count_too() -> None:
    sure, unsure, none = found([BOX], [0.9], [0]), found([BOX], [0.25], [0]), found([], [], [])
    assert agreement([sure] * 10 + [unsure] * 5, [sure] * 10 + [none] * 5) == (20, 20, 0.3)
    assert agreement([sure] * 9 + [unsure] * 5, [sure] * 9 + [none] * 5) == (18, 23, 0.2)
    assert agreement([sure] * 2 + [unsure] * 5, [sure] * 2 + [none] * 5) == (4, 9, 0.1)
