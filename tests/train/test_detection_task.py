"""Detectors are trained, shrunk, distilled and judged as classifiers are."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_detector import TinyDetector, rectangles, some_boxes, tiny_detector
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from bnas.compose import compose
from bnas.config import RunConfig
from bnas.data import ImageSplits
from bnas.detection import RawDetections, RawTensors, completing, packed
from bnas.detection.coco import average_precision
from bnas.detection.losses import detection_losses
from bnas.errors import ConfigError, DataError, ModelError
from bnas.graph import trace
from bnas.plain import from_plain
from bnas.space import SpaceRules, SubnetConfig, derive_space
from bnas.supernet import Supernet, extract_subnet
from bnas.train import (
    TASKS,
    FeatureMatch,
    FinetuneConfig,
    PretrainConfig,
    Stage,
    Task,
    TrainConfig,
    evaluate,
    evaluate_details,
    evaluate_subnet,
    finetune,
    pretrain,
    recalibrate,
    recalibration_batches,
    train,
)
from bnas.train.criterion import criteria

TASK = TASKS["detection"]
PRETRAIN = PretrainConfig(
    task="detection",
    epochs=60,
    lr=0.05,
    warmup_epochs=3,
    batch_size=8,
    weight_decay=0,
    clip_norm=10,
    augment=False,
    precision="float32",
    evaluate_epochs=0,
)
FINETUNE = FinetuneConfig(
    task="detection",
    epochs=2,
    lr=0.01,
    batch_size=4,
    distill=0,
    clip_norm=10,
    augment=False,
    precision="float32",
)


@cache
def learnt(kind: Any) -> TinyDetector:
    detector = tiny_detector(kind)
    pretrain(detector, rectangles(), PRETRAIN, seed=0)
    return detector


@pytest.mark.parametrize("kind", ["sigmoid", "softmax"])
def test_a_detector_learns_images_by_heart(kind: Any) -> None:
    data, detector = rectangles(), learnt(kind)
    before = evaluate(tiny_detector(kind), data.val, task="detection")
    after = evaluate(detector, data.val, task="detection")
    assert before < 2
    assert after > 40


def test_a_training_goes_on_where_it_was(tmp_path: Path) -> None:
    data = rectangles()
    config = replace(
        PRETRAIN, epochs=6, warmup_epochs=0, batch_size=4, checkpoint_seconds=0, keep_checkpoints=99
    )
    whole, resumed = tiny_detector(), tiny_detector()
    pretrain(whole, data, config, seed=0, checkpoint=tmp_path)
    newest = sorted(tmp_path.iterdir())
    for path in newest[len(newest) // 2 :]:
        path.unlink()
    pretrain(resumed, data, config, seed=0, checkpoint=tmp_path)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_loss_is_the_sum_of_both() -> None:
    data, detector = rectangles(), tiny_detector()
    images, labels = data.train.batch(range(4))
    parts = detection_losses(detector(images), labels)
    total = TASK.loss(detector(images), labels, 0.0)
    torch.testing.assert_close(total, parts["classification"] + parts["bbox_regression"])
    assert min(parts.values()) > 0


def test_evaluation_of_a_network_and_of_what_a_runtime_returns() -> None:
    data, detector = rectangles(), learnt("sigmoid")
    images, labels = data.val.batch(range(8))
    with torch.no_grad():
        expected = average_precision([(detector(images), labels)])
    assert expected.map_percent > 1
    for size in (3, 8, None):
        found = evaluate(detector, data.val, task="detection", batch_size=size)
        assert found == pytest.approx(expected.map_percent)
    deployed, complete = RawTensors(detector), completing(detector, images[:1])

    def predict(x: Tensor) -> RawDetections:
        with torch.no_grad():
            return complete([own.numpy() for own in deployed(x)])

    assert evaluate(predict, data.val, task="detection") == pytest.approx(expected.map_percent)
    details = evaluate_details(detector, data.val, task="detection")
    assert details["map_percent"] == pytest.approx(expected.map_percent)
    assert details["map_50_percent"] == pytest.approx(expected.map_50_percent)
    assert details.keys() == {"map_percent", "map_50_percent", "map_75_percent", "map_small_percent"}


class Large:
    """Images of 4000 × 4000 pixels, of which nothing is kept."""

    classes, shape = ("a",), (3, 4000, 4000)

    def __len__(self) -> int:
        return 5

    def batch(self, indices: Any, *, augment: int | None = None, first: int = 0) -> tuple[Tensor, Tensor]:
        return torch.zeros(1).expand(len(indices), *self.shape), packed([some_boxes([], []) for _ in indices])


def test_few_images_at_a_time() -> None:
    sizes: list[int] = []
    detector = tiny_detector().eval()

    def predict(x: Tensor) -> RawDetections:
        sizes.append(len(x))
        with torch.no_grad():
            return detector(x)

    evaluate(predict, rectangles(val=40).val, task="detection")
    assert sizes == [16, 16, 8]
    (first, second) = recalibration_batches(Large(), 2, seed=0)
    assert len(first[0]) == len(second[0]) == 1


def test_other_networks_and_labels_are_refused() -> None:
    images, labels = rectangles().train.batch(range(2))
    with pytest.raises(ModelError, match=r"needs a network that puts out .*RawDetections.*got Tensor"):
        TASK.loss(torch.zeros(2, 3), labels, 0.0)
    with pytest.raises(ModelError, match="RawDetections"):
        TASK.metric([(torch.zeros(2, 3), labels)])
    with pytest.raises(DataError, match="detectors need images with boxes"):
        TASK.loss(tiny_detector()(images), torch.tensor([0, 1]), 0.0)
    with pytest.raises(ConfigError, match=r"label_smoothing: must be 0 with task 'detection', got 0.1"):
        TASK.loss(tiny_detector()(images), labels, 0.1)
    with pytest.raises(DataError, match=r"labels: these are boxes; .* task: detection"):
        TASKS["classification"].loss(torch.zeros(2, 3), labels, 0.0)


def test_what_reports_are_told() -> None:
    assert (TASK.metric_name, TASK.label, TASK.higher_is_better) == ("map_percent", "mAP", True)
    assert not TASK.counts_images
    top1 = TASKS["classification"]
    assert (top1.label, top1.counts_images, top1.details) == ("top-1", True, None)
    own = Task(
        name="own", loss=top1.loss, distill=top1.distill, metric=top1.metric, metric_name="own_percent"
    )
    assert own.label == "own_percent"


@pytest.mark.parametrize("kind", [PretrainConfig, TrainConfig, FinetuneConfig])
@pytest.mark.parametrize("option", ["label_smoothing", "mixup", "cutmix"])
def test_options_about_classes_are_refused(kind: type, option: str) -> None:
    plain = {"task": "detection", option: 0.1} | ({} if kind is PretrainConfig else {"distill": 0})
    with pytest.raises(
        ConfigError, match=rf"^{option}: must be 0 with task 'detection', whose labels .*, got 0.1"
    ):
        from_plain(kind, plain)
    assert from_plain(kind, plain | {option: 0}).task == "detection"


@pytest.mark.parametrize("kind", [TrainConfig, FinetuneConfig])
@pytest.mark.parametrize("teacher", ["original", "largest"])
def test_distillation_of_outputs_is_refused(kind: type, teacher: str) -> None:
    expected = r"^distill: must be 0 with task 'detection' \(.*with features\), got 0.5"
    with pytest.raises(ConfigError, match=expected):
        from_plain(kind, {"task": "detection", "distill": 0.5, "teacher": teacher})
    with pytest.raises(ConfigError, match=expected):
        kind(task="detection")  # the default
    stages = (
        {}
        if kind is FinetuneConfig
        else {"stages": (Stage(name="all", sampling="sandwich", subnets_per_step=2),)}
    )
    features = (FeatureMatch(modules="stem"),)
    assert kind(task="detection", distill=0, features=features, teacher=teacher, **stages).features


def labels_alone(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with criteria(FINETUNE, model=model, teacher=None, in_place=False, largest=None) as make:
        return make(images, labels)(None, model(images))


def test_inner_maps_are_learnt_from_a_teacher_at_another_resolution() -> None:
    images, labels = rectangles().train.batch(range(4))
    student, teacher = tiny_detector().eval(), tiny_detector().eval()
    with torch.no_grad():
        teacher.stem[0].weight.add_(torch.randn(teacher.stem[0].weight.shape) * 0.3)
    config = replace(FINETUNE, features=(FeatureMatch(modules="stem", weight=2.0),))
    small = nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    with criteria(config, model=student, teacher=teacher, in_place=False, largest=None) as make:
        loss = make(images, labels)(None, student(small))
    maps = [own.square().mean(1) for own in (student.stem(small), teacher.stem(images))]
    maps[1] = nn.functional.adaptive_avg_pool2d(maps[1], maps[0].shape[1:])
    flat = [own.flatten(1) / own.flatten(1).norm(dim=1, keepdim=True) for own in maps]
    distance = (flat[0] - flat[1]).square().sum(1).mean()
    assert distance > 0.01
    torch.testing.assert_close(
        loss, labels_alone(student, small, labels) + 2 * distance, rtol=1e-4, atol=1e-5
    )


def test_a_detector_is_fine_tuned_with_its_teachers_maps() -> None:
    data, detector = rectangles(), tiny_detector()
    config = replace(FINETUNE, features=(FeatureMatch(modules="stem"),))
    finetune(detector, data, config, seed=0, teacher=tiny_detector(), resolution=32)
    assert not torch.equal(detector.stem[0].weight, tiny_detector().stem[0].weight)


def supernet_of(detector: nn.Module) -> Supernet:
    graph = trace(detector.eval(), (torch.zeros(2, 3, 64, 64),))
    rules = SpaceRules(width_ratios=(0.5, 1.0), width_multiple=2, width_min=2)
    return Supernet(detector, graph, derive_space(graph, rules))


@pytest.mark.parametrize(("teacher", "sampling"), [("original", "random"), ("largest", "best_up")])
def test_subnets_of_a_detector_are_trained(teacher: Any, sampling: str) -> None:
    """With inner maps of a teacher, channels sorted by the loss, and of candidates the best chosen by it."""
    data, detector = rectangles(), learnt("sigmoid")
    supernet = supernet_of(copy.deepcopy(detector))
    config = TrainConfig(
        task="detection",
        distill=0,
        features=(FeatureMatch(modules="coarse", weight=0.1),),
        teacher=teacher,
        batch_size=8,
        clip_norm=10,
        augment=False,
        precision="float32",
        recalibrate_images=8,
        importance="taylor",
        stages=(
            Stage(
                name="width",
                dims={"width": 0},
                epochs=20,
                lr=0.03,
                warmup_epochs=3,
                reorder=True,
                sampling=sampling,
                subnets_per_step=3,
            ),
        ),
    )
    batches = recalibration_batches(data.train, 8, seed=0)

    def smallest() -> float:
        extract = partial(extract_subnet, supernet)
        return evaluate_subnet(extract, supernet.space.smallest, batches, data.val, task="detection")

    before = smallest()
    train(supernet, data, config, seed=0, teacher=detector)
    assert smallest() > before + 10


def test_norms_are_recalibrated_but_for_frozen_ones() -> None:
    data, detector = rectangles(), tiny_detector()
    frozen = FrozenBatchNorm2d(16)
    frozen.running_mean.fill_(0.25)
    detector.stem[4] = frozen
    before = detector.stem[1].running_mean.clone()
    metric = evaluate_subnet(
        lambda config: detector,
        SubnetConfig({}),
        recalibration_batches(data.train, 8, seed=0),
        data.val,
        task="detection",
    )
    assert 0 <= metric <= 100
    assert not torch.equal(detector.stem[1].running_mean, before)
    assert torch.equal(frozen.running_mean, torch.full((16,), 0.25))
    images, _ = data.train.batch(range(8))
    recalibrate(detector, [(images, torch.zeros(8))])
    expected = detector.stem[0](images).mean((0, 2, 3))
    torch.testing.assert_close(detector.stem[1].running_mean, expected, rtol=1e-4, atol=1e-5)


class NoBoxes:
    """Images in which there is nothing."""

    classes, shape = ("a",), (3, 64, 64)

    def __len__(self) -> int:
        return 4

    def batch(self, indices: Any, *, augment: int | None = None, first: int = 0) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(indices), 3, 64, 64), packed([some_boxes([], []) for _ in indices])


def test_images_without_boxes_are_learnt_from_but_not_judged_by() -> None:
    data = ImageSplits(name="none", train=NoBoxes(), val=rectangles().val, test=NoBoxes())
    detector: TinyDetector = tiny_detector()
    pretrain(detector, data, replace(PRETRAIN, epochs=2, batch_size=4, warmup_epochs=0), seed=0)
    with pytest.raises(DataError, match="no boxes in the 4 images"):
        evaluate(detector, data.test, task="detection")


def test_the_recipe_is_for_detection_in_every_stage() -> None:
    config = from_plain(RunConfig, compose("resnet50", ["train=detection"]))
    for options in (config.pretrain, config.train, config.finetune):
        assert options.task == "detection"
        assert options.clip_norm == 10
    assert config.train.distill == config.finetune.distill == 0
    data, detector = rectangles(), tiny_detector()
    pretrain(detector, data, replace(config.pretrain, epochs=2, batch_size=4, precision="float32"), seed=0)
    assert all(torch.isfinite(tensor).all() for tensor in detector.state_dict().values())
