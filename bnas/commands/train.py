"""`bnas train`: the super-network, by progressive shrinking."""

from __future__ import annotations

from bnas.commands.project import FOLLOWED, SUPERNET, Made, Project
from bnas.supernet import extract_subnet
from bnas.train import TASKS, evaluate_subnet, recalibration_batches
from bnas.train import train as train_supernet
from bnas.train.distributed import world


def train(project: Project) -> Made:
    """Leave the trained super-network's weights in the run folder."""
    config, data = project.config, project.data
    task = TASKS[config.train.task]
    supernet = project.supernet(trained=False)
    original = project.original()
    supernet.model.load_state_dict(original.state_dict())
    train_supernet(
        supernet,
        data,
        config.train,
        seed=config.seed,
        checkpoint=project.folder.path("checkpoints", "train"),
        tensorboard=project.folder.path("tensorboard", "train"),
        teacher=original,
    )
    if not world().leads:
        return FOLLOWED
    project.write_weights(supernet.trained, SUPERNET)
    batches = recalibration_batches(data.train, config.train.recalibrate_images, seed=config.seed)
    largest, smallest = (
        evaluate_subnet(lambda c: extract_subnet(supernet, c), subnet, batches, data.val, task=task.name)
        for subnet in (supernet.space.largest, supernet.space.smallest)
    )
    return Made(
        paths=(SUPERNET,),
        line=f"super-network trained in {len(config.train.stages)} stages, {task.label} of its "
        f"largest subnet {largest:.2f} %, of its smallest {smallest:.2f} % → {project.folder.path(SUPERNET)}",
    )
