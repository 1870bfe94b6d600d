"""One network checked on one data set: the result, and the lines that tell it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bnas.accuracy.accuracy import Answers, Batch, Score, TopK, ask
from bnas.accuracy.intervals import Difference, difference

TOP_1_AND_5 = (TopK(k=1), TopK(k=5))
_WITH_BACKGROUND = (
    11,
    101,
    1001,
)  # as many classes as a network may have that was trained with one for the background


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A network that is ready to run, and its images. `metrics`: none: top-1, and top-5 where there are 5 classes.

    `same`: what is equal for all that are checked on the same images; the first of them is what others are
    compared with.
    """

    name: str
    network: Path
    data: str
    same: str
    predict: Callable[[Tensor], Tensor]
    batches: Iterable[Batch]
    images: int
    name_of: Callable[[int], str] = "image {}".format
    metrics: tuple[TopK, ...] = ()
    notes: tuple[str, ...] = ()
    largest_label: int | None = None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What came out. `difference`: to the network called `compared_with`, on the same images."""

    name: str
    network: str
    data: str
    images: int
    classes: int
    scores: tuple[Score, ...]
    seconds: float
    network_seconds: float
    compared_with: str | None = None
    difference: Difference | None = None
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The result for a person, without the notes."""
        width = max(len(score.name) for score in self.scores)
        rows = [
            f"  {score.name:{width}}  {score.percent:6.2f} %  [{score.low_percent:.2f}, {score.high_percent:.2f}]  "
            f"{score.correct} of {self.images}{_reference(score)}"
            for score in self.scores
        ]
        if self.difference is not None:
            rows.append(f"  top-1 against {self.compared_with}: {self.difference}")
        speed = self.images / self.seconds if self.seconds else 0.0
        return [
            f"{self.name}: {self.network} on {self.data}, {self.classes} classes; intervals of 95 %",
            *rows,
            f"  {self.images} images in {self.seconds:.1f} s ({speed:.0f} images/s), {self.network_seconds:.1f} s of "
            "them in the network",
        ]


def check_all(tasks: Sequence[Task], show: Callable[[Checked], None]) -> list[Checked]:
    """All results in order, each shown as soon as it is there.

    Raises:
        ConfigError, DataError, ExportError, ModelError: as `ask` and the networks do.
    """
    first: dict[str, tuple[str, Answers]] = {}
    done = []
    for task in tasks:
        answers = ask(
            task.predict, task.batches, images=task.images, name_of=task.name_of, title=f"check {task.name}"
        )
        result = _result(task, answers, first.get(task.same))
        first.setdefault(task.same, (task.name, answers))
        show(result)
        done.append(result)
    return done


def _result(task: Task, answers: Answers, first: tuple[str, Answers] | None) -> Checked:
    metrics = task.metrics or tuple(metric for metric in TOP_1_AND_5 if metric.k <= answers.classes)
    return Checked(
        name=task.name,
        network=str(task.network),
        data=task.data,
        images=len(answers.ranks),
        classes=answers.classes,
        scores=tuple(answers.score(metric) for metric in metrics),
        seconds=answers.seconds,
        network_seconds=answers.network_seconds,
        compared_with=None if first is None else first[0],
        difference=None if first is None else difference(first[1].ranks == 0, answers.ranks == 0),
        notes=(*task.notes, *_doubts(task, answers)),
    )


def _doubts(task: Task, answers: Answers) -> Iterable[str]:
    """What may be wrong with the question rather than with the network."""
    top1, chance = answers.score(TopK()), 100 / answers.classes
    if top1.low_percent <= chance <= top1.high_percent:
        yield (
            f"{task.name}: {top1.percent:.2f} % is what guessing among {answers.classes} classes gives: do the "
            "pre-processing, the order of the channels and the labels fit this network?"
        )
    if answers.classes in _WITH_BACKGROUND and task.largest_label == answers.classes - 2:
        yield (
            f"{task.name}: the network has {answers.classes} classes, but no image is of class {answers.classes - 1}: "
            "if its class 0 is the background, set has_background: True"
        )


def _reference(score: Score) -> str:
    if score.reference_percent is None:
        return ""
    return f"; {score.percent - score.reference_percent:+.2f} against the reference {score.reference_percent:.2f} %"
