"""The trainings of a run as the report draws them, from the curves that they left or are leaving."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Literal

from bnas.commands.project import Project
from bnas.errors import RunError
from bnas.report import Curve, Training
from bnas.train import TASKS
from bnas.train.curves import HISTORY, read_history

_STAGE = "stage"  # the curve that tells the number of the stage
_ORDER = ("pretrain", "train")


def trainings(project: Project) -> tuple[Training, ...]:
    """Those that have begun, in the order of the work; each is called like its folder in tensorboard/.

    Raises:
        RunError: none has, or a history is damaged.
    """
    root = project.folder.path("tensorboard")
    folders = {path.parent.relative_to(root).as_posix(): path.parent for path in root.rglob(HISTORY)}
    known = [name for name in _ORDER if name in folders]
    found = [_training(project, name, folders[name]) for name in [*known, *sorted({*folders} - {*known})]]
    begun = tuple(training for training in found if training.curves)
    if not begun:
        raise RunError(f"{project.folder} has no curves of a training yet; first: python -m bnas train")
    return begun


def _training(project: Project, name: str, folder: Path) -> Training:
    points = sorted(read_history(folder), key=lambda point: point.step)
    values: dict[str, list[tuple[int, float]]] = {}
    for point in points:
        for curve, value in point.values.items():
            if isfinite(value):
                values.setdefault(curve, []).append((point.step, value))
    stages = values.pop(_STAGE, [])
    return Training(
        name=name,
        curves=tuple(
            Curve(
                name=curve,
                steps=tuple(step for step, _ in told),
                values=tuple(value for _, value in told),
                better=_better(project, curve),
            )
            for curve, told in values.items()
        ),
        macs=tuple(value for point in points for value in point.drawn.get("macs", ())),
        ends=tuple(
            (_stage_name(project, name, number), step)
            for number, step in {int(number): step for step, number in stages}.items()
        ),
    )


def _better(project: Project, curve: str) -> Literal["higher", "lower"] | None:
    if curve == "loss":
        return "lower"
    task = TASKS[project.config.train.task]
    if curve.partition("/")[0] != task.metric_name:
        return None
    return "higher" if task.higher_is_better else "lower"


def _stage_name(project: Project, training: str, number: int) -> str:
    stages = project.config.train.stages
    return stages[number].name if training == "train" and number < len(stages) else f"stage {number}"
