"""What a subnet is worth, witnessed by `bnas.train`'s own evaluation of a subnet."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import randomize_norms
from tiny_detector import Rectangles, some_boxes, tiny_detector
from torch import Tensor, nn

from bnas.commands import evaluation as evaluating
from bnas.commands.evaluation import (
    Evaluation,
    Part,
    Workers,
    answers,
    calibration_split,
    interval,
    quantization_images,
    standard_error,
    weights_digest,
    worker,
)
from bnas.commands.project import Project, open_run
from bnas.detection import RawDetections, packed
from bnas.detection.postprocess import detections
from bnas.errors import ConfigError, RunError
from bnas.export import OpenVinoIR, export
from bnas.measure import HwConfig, Runner, prepare
from bnas.search.pool import Job
from bnas.space import SubnetConfig
from bnas.supernet import extract_subnet
from bnas.train import TASKS, evaluate, evaluate_details, evaluate_subnet, recalibration_batches


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


@dataclass(frozen=True)
class AsFound:
    """Images whose boxes are the likeliest that a detector finds in them: its own precision is all of it."""

    detector: nn.Module
    images: Rectangles

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    @torch.no_grad()
    def batch(self, indices: list[int], **_: object) -> tuple[Tensor, Tensor]:
        images, _ = self.images.batch(indices)
        found = detections(self.detector(images))
        likeliest = [(own["boxes"][:3].tolist(), own["labels"][:3].tolist()) for own in found]
        boxes = [some_boxes(*own, number=index) for index, own in zip(indices, likeliest, strict=True)]
        return images, packed(boxes)


@pytest.mark.parametrize("scores", ["sigmoid", "softmax"])
def test_a_detector_in_a_runtime_answers_as_in_torch(scores: str, tmp_path: Path) -> None:
    detector = randomize_norms(tiny_detector(scores)).eval()
    with torch.no_grad():
        for head in detector.scores:
            head.weight.mul_(4)
            head.bias.zero_()
    split = AsFound(detector, Rectangles(6, 3))
    images, _ = split.batch([0, 1, 2])
    artefact = export(detector, OpenVinoIR(batch=1), tmp_path / "fp32.xml", images)
    runner = prepare(Path(artefact.path), HwConfig(precision="f32", threads=1))
    answered = answers(runner, detector, images[:1])
    with torch.no_grad():
        wanted, got = detector(images), answered(images)
    assert isinstance(got, RawDetections)
    assert torch.equal(got.anchors, wanted.anchors)
    assert (got.levels, got.decoding) == (wanted.levels, wanted.decoding)
    torch.testing.assert_close(got.boxes, wanted.boxes, rtol=1e-3, atol=1e-3)
    if scores == "softmax":  # the deployed network gives probabilities
        assert (got.logits.softmax(-1) - wanted.logits.softmax(-1)).abs().max() < 1e-3
    else:
        torch.testing.assert_close(got.logits, wanted.logits, rtol=1e-3, atol=1e-3)
    told = evaluate_details(answered, split, task="detection")
    assert told["map_percent"] == evaluate(detector, split, task="detection") > 70
    moved = replace_anchors(answered)
    assert evaluate(moved, split, task="detection") < 50  # it is the anchors that make boxes of it


def replace_anchors(answered):
    return lambda images: (raw := answered(images))._replace(anchors=raw.anchors.flip(0))


def test_a_classifier_in_a_runtime_answers_by_its_first_output() -> None:
    class Fixed(Runner):
        inferences = 1

        def __call__(self) -> None: ...

        def predict(self, images: Tensor) -> Tensor:
            return images + 1

        def predict_all(self, images: Tensor) -> tuple[Tensor, ...]:
            raise AssertionError("of a classifier no more is read")

    images = torch.zeros(1, 3, 8, 8)
    assert torch.equal(answers(Fixed(), nn.Identity(), images)(images), images + 1)


def test_quantizers_see_the_data_sets_own_list_where_it_has_one(project: Project) -> None:
    assert calibration_split(project)[0] == "training"
    train = quantization_images(project)
    own = Part(project.data.val, range(7, 27))
    project.__dict__["data"] = replace(project.data, calibration=own)  # as `cached_property` keeps it
    name, split = calibration_split(project)
    found = quantization_images(project)
    assert (name, split, len(found)) == ("calibration", own, 20)
    there = torch.stack(sorted(found, key=lambda image: float(image.sum())))
    wanted = torch.stack(sorted(own.batch(range(20))[0][:, None], key=lambda image: float(image.sum())))
    assert torch.equal(there, wanted)
    assert len(train) == project.config.quantize.samples == 20
    project.__dict__["data"] = replace(project.data, calibration=Part(own, range(5)))
    with pytest.raises(ConfigError, match=r"quantize.samples: 20 images .* the calibration set has 5; set"):
        quantization_images(project)


def test_an_interval_only_of_what_counts_images() -> None:
    low, high = interval(TASKS["classification"], 82.0, 2000)
    assert (low, high) == (pytest.approx(80.26, abs=0.01), pytest.approx(83.62, abs=0.01))
    assert interval(TASKS["detection"], 82.0, 2000) == (None, None)


def test_images_for_which_memory_has_no_room_are_read_one_by_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = list(quantization_images(project))
    assert isinstance(quantization_images(project), list)
    monkeypatch.setattr(evaluating, "MOST_IN_MEMORY", 1)
    found = quantization_images(project)
    assert not isinstance(found, list)
    assert len(found) == len(wanted) > 2
    for image, own in zip(found, wanted, strict=True):
        assert torch.equal(image, own)
    assert torch.equal(found[1], wanted[1])
    assert [torch.equal(*pair) for pair in zip(found[:2], wanted[:2], strict=True)] == [True, True]
