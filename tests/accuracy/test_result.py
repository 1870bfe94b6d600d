from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bnas.accuracy.accuracy import TopK
from bnas.accuracy.result import Checked, Task, check_all
from bnas.plain import from_plain, to_plain


def task(name: str, scores: Tensor, labels: Tensor, **options: Any) -> Task:
    return Task(
        name=name,
        network=Path(f"{name}.xml"),
        data="tiny",
        same="",
        predict=lambda x: scores,
        batches=[(torch.zeros(len(scores), 3, 2, 2), labels)],
        images=len(scores),
        **options,
    )


def test_later_networks_are_compared_with_the_first_on_the_same_images() -> None:
    labels = torch.arange(8)
    scores = torch.eye(8)
    shown: list[Checked] = []
    done = check_all(
        [
            task("fp32", scores, labels),
            task("int8", scores.roll(1, 0).where(labels[:, None] < 2, scores), labels),
        ],
        shown.append,
    )
    assert shown == done
    assert [score.name for score in done[0].scores] == ["top-1", "top-5"]
    assert done[0].difference is None
    assert [(each.scores[0].correct, each.images, each.classes) for each in done] == [(8, 8, 8), (6, 8, 8)]
    difference = done[1].difference
    assert difference is not None
    assert (done[1].compared_with, difference.points, difference.only_first) == ("fp32", -25.0, 2)
    text = "\n".join(done[1].lines())
    assert "75.00 %" in text
    assert "6 of 8" in text
    assert "top-1 against fp32: -25.00 points" in text
    assert from_plain(tuple[Checked, ...], to_plain(done)) == tuple(done)


def test_top_5_of_fewer_classes_is_left_out_and_a_reference_compared() -> None:
    scores = torch.eye(4)
    (few,) = check_all([task("few", scores, torch.arange(4))], lambda checked: None)
    assert [score.name for score in few.scores] == ["top-1"]
    metrics = (TopK(k=1, name="accuracy@top1", reference=0.9),)
    (referred,) = check_all([task("few", scores, torch.arange(4), metrics=metrics)], lambda checked: None)
    assert "+10.00 against the reference 90.00 %" in "\n".join(referred.lines())


def test_what_looks_like_a_wrong_question_is_said() -> None:
    labels = torch.arange(1000)
    always_0 = torch.zeros(1000, 1001)
    (doubtful,) = check_all([task("x", always_0, labels, largest_label=999)], lambda checked: None)
    guessing, background = doubtful.notes
    assert "0.10 % is what guessing among 1001 classes gives" in guessing
    assert "has_background: True" in background
    right = always_0.scatter(1, labels[:, None], 1)
    (sure,) = check_all([task("x", right[:, :1000], labels, largest_label=999)], lambda checked: None)
    assert sure.notes == ()
