"""The runs of `python -m benchmarks.detection`: which data, which detector, and how the run is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bnas.commands.project import PRETRAINED

SIZE = 256  # pixels of a side, of all cases


def _stages(depth: int, width: int) -> str:
    """The option for a super-network that learns depth and then widths as well, for so many epochs."""
    return (
        f"train.stages=[{{name: depth, dims: {{depth: 0}}, epochs: {depth}, lr: 0.0005, warmup_epochs: 0.5}}, "
        f"{{name: depth-width, dims: {{depth: 0, width: 0}}, epochs: {width}, lr: 0.0005, warmup_epochs: 0.5, "
        "reorder: true, sampling: sandwich, subnets_per_step: 3}]"
    )


_HOUR = (
    f"data.size={SIZE}",
    "pretrain.epochs=8",
    _stages(1, 2),
)
_MINUTES = (
    "pretrain.epochs=1",
    "train.stages=[{name: all, dims: {depth: 0, width: 0}, lr: 0.0005, reorder: true, sampling: sandwich, "
    "subnets_per_step: 2}]",
    "search.evaluations=16",
    "search.population=8",
    "measure.samples=8",
    "measure.holdout=4",
    "finetune.epochs=0.5",
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """options: overrides of conf=detection. quick: further ones with --quick.

    photographs: it needs the folder of deepforest. starts_from: the case whose pretrained network it goes on from,
    where that case has run in the same folder; else it begins with fresh weights.
    """

    name: str
    title: str
    options: tuple[str, ...]
    quick: tuple[str, ...] = _MINUTES
    photographs: bool = False
    starts_from: str | None = None


_RETINANET = (*_HOUR, "model.options.anchor_scale=1.0")
_SCENES = ("data.train_images=4000", "data.val_images=400", "data.test_images=1000")
_FEW_SCENES = ("data.train_images=400", "data.val_images=100", "data.test_images=100")

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            name="composed_retinanet",
            title="RetinaNet, composed scenes",
            options=(*_RETINANET, *_SCENES),
            quick=(*_FEW_SCENES, *_MINUTES),
        ),
        Case(
            name="composed_ssd",
            title="SSD, composed scenes",
            options=(
                *_HOUR,
                "model=ssd_resnet34_small",
                "space=depth_width",
                *_SCENES,
            ),
            quick=(*_FEW_SCENES, *_MINUTES),
        ),
        Case(
            name="deepforest_retinanet",
            title="RetinaNet, tree crowns in photographs",
            options=(
                *_HOUR,  # with anchors for crowns, whose sides are of 40 pixels (median)
                "data=deepforest_tiles",
                "pretrain.epochs=30",
                _stages(4, 8),
                "finetune.epochs=20",
            ),
            photographs=True,
            starts_from="composed_retinanet",
        ),
    )
}


def arguments(
    case: Case, name: str, folder: Path, *, seed: int, quick: bool, photographs: Path | None, starts_from: str
) -> list[str]:
    """What follows `python -m bnas` for a run called `name` with its results under `folder`.

    `starts_from`: the name that the run of `case.starts_from` has, of equal seed.
    """
    found = ["run", "conf=detection", *case.options, f"seed={seed}", f"name={name}"]
    if case.photographs:
        found.append(f"data.root={photographs}")
    weights = folder / "runs" / starts_from / PRETRAINED
    if case.starts_from is not None and weights.is_file():
        found += [f"model.weights={weights}", "model.head=new"]
    return [*found, *(case.quick if quick else ())]


def chosen(names: Sequence[str] | None, photographs: Path | None) -> tuple[list[Case], list[str]]:
    """The cases to run, and lines that say which are left out and why."""
    wanted = [case for case in CASES.values() if names is None or case.name in names]
    left_out = [
        f"{case.name} is left out: it needs --deepforest FOLDER, the photographs of the PyPI package deepforest"
        for case in wanted
        if case.photographs and photographs is None
    ]
    return [case for case in wanted if not case.photographs or photographs is not None], left_out
