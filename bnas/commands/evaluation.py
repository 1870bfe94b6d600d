"""What a subnet of a run is worth: the task's metric on the validation images, or on a share of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt
from pathlib import Path
from platform import node
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bnas.accuracy import wilson
from bnas.commands.project import SUPERNET, Project, open_run
from bnas.data import Batch, Images, batches, epoch_order
from bnas.detection import completing, decoding_of
from bnas.errors import RunError, require
from bnas.export.artefact import digest_of
from bnas.measure import Runner, prepare
from bnas.plain import digest
from bnas.quantize import quantize
from bnas.quantize.calibration import MOST_IN_MEMORY, calibration_count
from bnas.quantize.in_openvino import for_openvino
from bnas.search.parallel import RayPool, ray_pool
from bnas.search.pool import Job, Outcome
from bnas.search.proposals import SEARCH
from bnas.space import SubnetConfig, architecture, has_precisions, precisions_of, resized, resolution_of
from bnas.supernet import Supernet, extract_subnet
from bnas.train import evaluate, recalibrate, recalibration_batches
from bnas.train.norms import device_of
from bnas.train.precision import autocast
from bnas.train.task import TASKS, Task

_SHARES = 7  # the place of this file among the search's users of the run's seed
# Subnets whose batch norms are kept: for all images after a share of them, for other precisions.
_REMEMBERED = 64
WORKER = "bnas.commands.evaluation:worker"


@dataclass(frozen=True)
class Part:
    """Some of the images of a split, as `Images`: those at `indices`, in that order."""

    images: Images
    indices: Sequence[int]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Sequence[int], *, augment: int | None = None, first: int = 0) -> Batch:
        """As `Images.batch`."""
        own = [self.indices[index] for index in indices]
        return self.images.batch(own, augment=augment, **({"first": first} if first else {}))


class Evaluation:
    """Evaluates subnets of a run, each extracted as a plain module, its batch norms recalibrated.

    Where precisions of blocks are chosen, what is evaluated is the network quantized to these, in the run's runtime.
    The super-network and the images to recalibrate on are loaded when the first subnet is evaluated, once for all.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._task = TASKS[project.config.train.task]
        self._mixed = has_precisions(project.space)
        self._norms: dict[SubnetConfig, dict[str, Tensor]] = {}

    def __call__(self, config: SubnetConfig, share: float = 1.0) -> dict[str, float]:
        """The metric by its name; of a share of the images below 1 also its standard error, as `NAME_error`."""
        images, size, name = self.images(share), resolution_of(config), self._task.metric_name
        subnet = extract_subnet(self.supernet, architecture(config))
        if self._mixed:
            # Made to the bit as the stage `extract` makes it: what is judged is what will be exported.
            self._recalibrate(subnet, architecture(config), size, keep=True)
            value = evaluate(self._quantized(subnet, config), images, task=self._task.name, resolution=size)
        else:
            subnet = subnet.to(memory_format=torch.channels_last)
            with autocast(self._project.config.train.precision, device_of(subnet)):
                self._recalibrate(subnet, architecture(config), size, keep=share < 1)
                value = evaluate(subnet, images, task=self._task.name, resolution=size)
        if share == 1:
            return {name: value}
        return {name: value, f"{name}_error": standard_error(value, len(images), share)}

    def _recalibrate(self, subnet: nn.Module, of: SubnetConfig, size: int | None, *, keep: bool) -> None:
        """Give the batch norms of `subnet` their statistics, those that they were given before where they are kept."""
        known = self._norms.get(of)
        if known is not None:
            subnet.load_state_dict(known, strict=False)
            return
        recalibrate(subnet, self.calibration, resolution=size)
        if keep:
            if len(self._norms) == _REMEMBERED:
                del self._norms[next(iter(self._norms))]
            self._norms[of] = {name: buffer.clone() for name, buffer in subnet.named_buffers()}

    def _quantized(self, subnet: nn.Module, config: SubnetConfig) -> Callable[[Tensor], Any]:
        """What the quantized network answers to images, in the run's runtime."""
        project, size = self._project, resolution_of(config)
        example = resized(project.example, size)
        images = (resized(image, size) for image in self.quantization_images)
        own = precisions_of(project.graph, project.space, config)
        quantized = quantize(subnet, for_openvino(project.config.quantize), images, example, precisions=own)
        return answers(prepare(quantized, project.config.hw, example), subnet, example)

    def images(self, share: float = 1.0) -> Images:
        """A share of the validation images: the first of a random order that the run's seed fixes."""
        images = self._project.data.val
        if share == 1:
            return images
        return Part(images, self._order[: max(1, round(share * len(images)))])

    @cached_property
    def supernet(self) -> Supernet:
        return self._project.supernet(trained=True)

    @cached_property
    def calibration(self) -> tuple[Batch, ...]:
        """The training images that batch norms are recalibrated on."""
        config = self._project.config
        return recalibration_batches(
            self._project.data.train, config.train.recalibrate_images, seed=config.seed
        )

    @cached_property
    def quantization_images(self) -> Sequence[Tensor]:
        return quantization_images(self._project)

    @cached_property
    def _order(self) -> list[int]:
        rng = np.random.default_rng([self._project.config.seed, SEARCH, _SHARES])
        order: list[int] = rng.permutation(len(self._project.data.val)).tolist()
        return order


def answers(runner: Runner, module: nn.Module, example: Tensor) -> Callable[[Tensor], Any]:
    """What a network in a runtime answers to images [n, C, H, W], as its task's metric takes it.

    `module` is the same network in torch: of a detector it tells where the anchors are, for images of the size of
    `example` [n, C, H, W].
    """
    if decoding_of(module) is None:
        return runner.predict
    complete = completing(module, example)
    return lambda images: complete(runner.predict_all(images))


def check_metric(project: Project) -> None:
    """Raise MissingPackageError where the metric of the run's task cannot be computed, before anything slow is done."""
    requires = TASKS[project.config.train.task].requires
    if requires is not None:
        require(*requires)


def check_quantization(project: Project) -> None:
    """Raise ConfigError where the data have fewer images to calibrate on than are asked for, before anything slow is
    done."""
    split, images = calibration_split(project)
    calibration_count(project.config.quantize, len(images), split)


def quantization_images(project: Project) -> Sequence[Tensor]:
    """Images [1, C, H, W] on which quantizers see the ranges of activations: of the data set's own list, if it has one,
    else training images."""
    (split, images), config = calibration_split(project), project.config.quantize
    count = calibration_count(config, len(images), split)
    adapted = getattr(config, "bn_adaptation_samples", None) or 0  # batch norms may want more than ranges do
    count = min(max(count, adapted), len(images))
    chosen = epoch_order(len(images), project.config.seed, 0)[:count]
    if 4 * count * prod(images.shape) > MOST_IN_MEMORY:
        return OneByOne(images, chosen)
    batch, _ = images.batch(chosen)
    return [batch[i : i + 1] for i in range(len(batch))]


@dataclass(frozen=True)
class OneByOne(Sequence[Tensor]):
    """Images [1, C, H, W] of a split that are read each time they are asked for, as memory has no room for all."""

    images: Images
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return OneByOne(self.images, self.indices[place])
        return self.images.batch([self.indices[place]])[0]

    def __iter__(self) -> Iterator[Tensor]:
        for batch, _ in batches(self.images, 16, order=self.indices):
            yield from batch[:, None]


def calibration_split(project: Project) -> tuple[str, Images]:
    """The split that `quantization_images` are of, and its name."""
    own = project.data.calibration
    return ("training", project.data.train) if own is None else ("calibration", own)


def interval(task: Task, percent: float, images: int) -> tuple[float | None, float | None]:
    """The 95 % interval of the metric found on `images` images, which decided nothing; None where it is not known."""
    return wilson(round(percent * images / 100), images) if task.counts_images else (None, None)


def standard_error(percent: float, images: int, share: float) -> float:
    """Of a share of right answers found on `images` drawn without replacement, in points: how far the share of all
    images may be (Cochran 1977, Sampling Techniques, §3.2)."""
    p = percent / 100
    return 100 * sqrt(p * (1 - p) / images) * sqrt(1 - share)


class Workers:
    """A `Pool` of processes that evaluate as `Evaluation` does; they are started when the first subnet is evaluated.

    Each has `threads` threads (0: one), however many workers there are: sums are rounded by how they are divided.
    A context manager, which ends them.
    """

    def __init__(self, project: Project) -> None:
        self._project, self._ends = project, ExitStack()
        self._pool: RayPool | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def map(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """As `Pool.map`."""
        if self._pool is None:
            config = self._project.config
            arguments = {
                "run": str(self._project.folder.root.resolve()),
                "weights": weights_digest(self._project),
            }
            threads = max(1, config.threads)
            self._pool = self._ends.enter_context(
                ray_pool(WORKER, arguments, config.search.workers, config.ray, threads=threads)
            )
        yield from self._pool.map(jobs)


def worker(run: str, weights: str) -> Evaluation:
    """The evaluation of the run in the folder `run`, in another process, perhaps on another machine with that folder.

    Raises:
        RunError: there is no such run there, or it holds other weights (`weights`: their digest).
    """
    if not Path(run).is_dir():
        raise RunError(
            f"{run} does not exist on {node()}; the run's folder has to be the same on all machines"
        )
    project = open_run(run)
    if weights_digest(project) != weights:
        raise RunError(
            f"{run} holds other weights, or another search space, on {node()}; copy the folder anew"
        )
    return Evaluation(project)


def weights_digest(project: Project) -> str:
    """Digest of all in the run's folder that an evaluation depends on."""
    files = (SUPERNET, "graph.json", "space.json")
    shas = {name: digest_of(project.folder.path(name).read_bytes()) for name in files}
    return digest(shas)
