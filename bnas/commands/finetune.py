"""`bnas finetune`: extracted subnets trained on, each on its own, and kept as they become where they gain by it."""

from __future__ import annotations

from torch import nn

from bnas import progress
from bnas.commands.extract import FINETUNED, REFERENCE, rebuild, resolution
from bnas.commands.project import FOLLOWED, Made, Project
from bnas.commands.quantize import subnet_names
from bnas.errors import ConfigError, did_you_mean
from bnas.files import write_json
from bnas.report import Finetuned
from bnas.space import resolution_of
from bnas.supernet import extract_subnet
from bnas.train import TASKS, evaluate, recalibrate, recalibration_batches
from bnas.train import finetune as train_subnet
from bnas.train.distributed import world
from bnas.train.specialize import is_better

GAIN = "finetuned.json"  # beside weights.safetensors: what the training gained


def finetune(project: Project) -> Made:
    """Write subnets/<name>/finetuned.json of each subnet, before and after on the validation images, and
    finetuned.safetensors where it became better.

    Raises:
        ConfigError: `finetune.subnets` names one that the run has not.
    """
    config, data, leads = project.config.finetune, project.data, world().leads
    task = TASKS[config.task]
    if leads:
        for file in (FINETUNED, GAIN):
            for path in project.folder.path("subnets").glob(f"*/{file}"):
                path.unlink()
    place = project.folder.path("subnets")
    if not config.epochs:
        return Made(
            paths=(), line=f"none was asked for (finetune.epochs=0), subnets stay as extracted → {place}"
        )
    teacher = _teacher(project) if config.distill or config.features else None
    made: list[str] = []
    told: list[str] = []
    for name in _names(project):
        size = resolution(project, name)
        module = rebuild(project.folder.path("subnets", name), tuned=False)
        before = evaluate(module, data.val, task=config.task, resolution=size) if leads else 0.0
        train_subnet(
            module,
            data,
            config,
            seed=project.config.seed,
            checkpoint=project.folder.path("checkpoints", "finetune", name),
            tensorboard=project.folder.path("tensorboard", "finetune", name),
            teacher=teacher,
            resolution=size,
        )
        if not leads:
            continue
        after = evaluate(module, data.val, task=config.task, resolution=size)
        better = is_better(config.task, before, after)
        gain = Finetuned(
            metric=task.metric_name, before=before, after=after, kept=better, images=len(data.val)
        )
        made.append(f"subnets/{name}/{GAIN}")
        write_json(project.folder.path(made[-1]), gain)
        if better:
            made.append(f"subnets/{name}/{FINETUNED}")
            project.write_weights(module, made[-1])
        told.append(f"{name} {before:.2f} → {after:.2f} %{'' if better else ' (left as it was)'}")
        progress.say(f"{name}: {task.label} {before:.2f} % as extracted, {after:.2f} % fine-tuned")
    if not leads:
        return FOLLOWED
    return Made(
        paths=tuple(made),
        line=f"{task.label} on {len(data.val)} validation images: {', '.join(told)} → {place}",
    )


def _names(project: Project) -> tuple[str, ...]:
    """The subnets to train; the original network only where it is named."""
    known, asked = subnet_names(project), project.config.finetune.subnets
    for name in asked:
        if name not in known:
            raise ConfigError(
                f"finetune.subnets: {project.folder} has no subnet '{name}'{did_you_mean(name, known)}"
            )
    return asked or tuple(name for name in known if name != REFERENCE)


def _teacher(project: Project) -> nn.Module:
    """The network that `finetune.teacher` names."""
    if project.config.finetune.teacher == "original":
        return project.original()
    supernet = project.supernet(trained=True)
    largest = extract_subnet(supernet, supernet.space.largest)
    count, seed = project.config.train.recalibrate_images, project.config.seed
    batches = recalibration_batches(project.data.train, count, seed=seed)
    recalibrate(largest, batches, resolution=resolution_of(supernet.space.largest))
    return largest
