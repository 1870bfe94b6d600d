"""What a subnet is worth, witnessed by `bnas.train`'s own evaluation of a subnet."""

from __future__ import annotations

import shutil
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from bnas.commands.evaluation import Evaluation, Part, Workers, standard_error, weights_digest, worker
from bnas.commands.project import Project, open_run
from bnas.errors import RunError
from bnas.search.pool import Job
from bnas.space import SubnetConfig
from bnas.supernet import extract_subnet
from bnas.train import evaluate_subnet, recalibration_batches


@pytest.fixture
def project(run: Path) -> Project:
    return open_run(run)


@pytest.fixture
def evaluation(project: Project) -> Evaluation:
    return Evaluation(project)


def witness(project: Project, config: SubnetConfig, images) -> float:
    supernet, train = project.supernet(trained=True), project.config.train
    batches = recalibration_batches(project.data.train, train.recalibrate_images, seed=project.config.seed)
    return evaluate_subnet(
        lambda own: extract_subnet(supernet, own), config, batches, images, precision=train.precision
    )


def some(project: Project, count: int) -> list[SubnetConfig]:
    rng = np.random.default_rng(5)
    return [project.space.largest, *(project.space.sample(rng) for _ in range(count - 1))]


def test_it_is_the_metric_on_the_validation_images(project: Project, evaluation: Evaluation) -> None:
    for config in some(project, 3):
        assert evaluation(config) == {"top1_percent": witness(project, config, project.data.val)}


def test_a_share_is_of_the_same_images_for_all_and_tells_its_error(
    project: Project, evaluation: Evaluation
) -> None:
    images = evaluation.images(0.25)
    assert isinstance(images, Part)
    assert len(images) == 50
    assert list(images.indices) == list(Evaluation(project).images(0.25).indices)  # of any process
    assert len(set(images.indices)) == 50
    assert list(evaluation.images(0.5).indices)[:50] == list(images.indices)
    for config in some(project, 2):
        told = evaluation(config, 0.25)
        assert told["top1_percent"] == witness(project, config, images)
        p = told["top1_percent"] / 100
        assert told["top1_percent_error"] == pytest.approx(100 * sqrt(p * (1 - p) / 50) * sqrt(0.75))


def test_after_a_share_all_images_give_what_they_give_at_once(
    project: Project, evaluation: Evaluation
) -> None:
    config = some(project, 2)[1]
    at_once = evaluation(config)
    assert not evaluation._norms
    evaluation(config, 0.25)
    assert evaluation(config) == at_once
    evaluation._norms[config]["bn1.running_var"].mul_(1e-6)  # they are used, not computed again
    assert evaluation(config) != at_once


def test_the_standard_error_is_how_far_shares_are_off(project: Project) -> None:
    """Of made-up right answers: the deviation of shares drawn without replacement."""
    rng, right = np.random.default_rng(0), np.arange(400) < 300
    shares = [100 * rng.permutation(right)[:100].mean() for _ in range(4000)]
    assert standard_error(75.0, 100, 0.25) == pytest.approx(np.std(shares), rel=0.05)


def test_another_process_evaluates_alike(project: Project, run: Path) -> None:
    there = worker(str(run), weights_digest(project))
    config = some(project, 2)[1]
    assert there(config) == {"top1_percent": witness(project, config, project.data.val)}


def test_a_worker_with_other_weights_is_refused(project: Project, run: Path, tmp_path: Path) -> None:
    right = weights_digest(project)
    other = tmp_path / "other"
    shutil.copytree(run, other)
    assert worker(str(other), right)
    with open(other / "weights/supernet.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x00\x00")
    with pytest.raises(RunError, match="holds other weights, or another search space"):
        worker(str(other), right)
    with pytest.raises(RunError, match="the run's folder has to be the same on all machines"):
        worker(str(tmp_path / "nowhere"), right)


def test_workers_give_what_this_process_gives(project: Project, evaluation: Evaluation) -> None:
    pytest.importorskip("ray")
    from dataclasses import replace

    config = project.config
    asked = replace(
        config, search=replace(config.search, workers=1), ray=replace(config.ray, address="local")
    )
    jobs = [Job(some(project, 2)[1]), Job(some(project, 1)[0], 0.5)]
    torch.set_num_threads(1)
    with Workers(replace(project, config=asked)) as workers:
        assert list(workers.map(jobs)) == [evaluation(job.config, job.share) for job in jobs]
