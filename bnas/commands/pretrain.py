"""`bnas pretrain`: the original network, from published weights, trained on from them, or trained here."""

from __future__ import annotations

from bnas import progress
from bnas.commands.project import FOLLOWED, PRETRAINED, Made, Project
from bnas.train import TASKS, evaluate
from bnas.train import pretrain as train_network
from bnas.train.distributed import world


def pretrain(project: Project) -> Made:
    """Leave the original network's weights in the run folder."""
    config, data, source = project.config, project.data, project.weights_source
    leads = world().leads
    if source is not None and config.model.head == "same":
        if not leads:
            return FOLLOWED
        model, _ = project.fresh_model(weights=True)
    else:
        if source is None and config.model.weights == "auto":
            progress.say(
                f"{config.model.name} has no published weights for the {len(data.train.classes)} classes of "
                f"data={data.name} ({len(data.train)} images at {config.data.size}×{config.data.size}): training "
                "it here; for ImageNet: data=imagenet data.root=/path/to/imagenet"
            )
        model, _ = project.fresh_model(weights=source is not None)
        train_network(
            model,
            data,
            config.pretrain,
            seed=config.seed,
            checkpoint=project.folder.path("checkpoints", "pretrain"),
            tensorboard=project.folder.path("tensorboard", "pretrain"),
        )
    if not leads:
        return FOLLOWED
    task = TASKS[config.pretrain.task]
    value = evaluate(model, data.val, task=task.name)
    project.write_weights(model, PRETRAINED)
    how = "trained here" if source is None else f"with the weights {source}"
    if source is not None and config.model.head == "new":
        how = f"trained on from {source}, with a new last layer"
    return Made(
        paths=(PRETRAINED,),
        line=f"{config.model.name} {how}, {task.label} {value:.2f} % on {len(data.val)} validation "
        f"images → {project.folder.path(PRETRAINED)}",
    )
