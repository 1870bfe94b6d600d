from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from toy import TRAIN, toy_data, toy_net, toy_supernet

from bnas.errors import ConfigError
from bnas.space import SubnetConfig
from bnas.supernet import Supernet
from bnas.train.config import FeatureMatch, TrainConfig
from bnas.train.criterion import Criterion, criteria, frozen
from bnas.train.distill import SoftLabelled, attention_transfer

LABELS_ALONE = -math.log(math.e / (math.e + 3))  # of OUTPUTS
OUTPUTS, LABELS = torch.tensor([[0.0, 1.0, 0.0, 0.0]]), torch.tensor([1])
IMAGES = torch.zeros(1, 1, 6, 6)
CONFIG = TrainConfig(distill=0.25, temperature=2.0, label_smoothing=0.0)
TEMPERATURE, SHARE = 2.0, 0.25


class Fixed(nn.Module):
    """A teacher that always says the same, and keeps (training mode, gradients, shape) of each run in RUNS."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.0, -1.0, 2.0]]))

    def forward(self, x: Tensor) -> Tensor:
        RUNS.append((self.training, torch.is_grad_enabled(), tuple(x.shape)))
        return self.weight.expand(len(x), -1)


RUNS: list[tuple[bool, bool, tuple[int, ...]]] = []


def soft_by_hand(own: list[float], teacher: list[float]) -> float:
    def softmax(row: list[float]) -> list[float]:
        powers = [math.exp(z / TEMPERATURE) for z in row]
        return [power / sum(powers) for power in powers]

    return TEMPERATURE**2 * sum(
        q * math.log(q / p) for p, q in zip(softmax(own), softmax(teacher), strict=True)
    )


def test_labels_and_a_teacher_that_runs_once_for_all_subnets() -> None:
    RUNS.clear()
    soft = soft_by_hand(OUTPUTS[0].tolist(), [1.0, 0.0, -1.0, 2.0])
    with criteria(CONFIG, model=toy_net(), teacher=Fixed(), in_place=False, largest=None) as make:
        criterion = make(IMAGES, LABELS)
        for subnet in (None, SubnetConfig({"a": 1}), SubnetConfig({"a": 2})):
            loss = criterion(subnet, OUTPUTS)
            assert loss.item() == pytest.approx((1 - SHARE) * LABELS_ALONE + SHARE * soft, rel=1e-5)
    assert RUNS == [(False, False, (1, 1, 6, 6))]


@pytest.mark.parametrize("distill", [0.0, 0.5])
def test_without_a_teacher_or_its_share_only_the_labels_count(distill: float) -> None:
    RUNS.clear()
    config, teacher = replace(CONFIG, distill=distill), Fixed() if distill == 0 else None
    with criteria(config, model=toy_net(), teacher=teacher, in_place=False, largest=None) as make:
        assert make(IMAGES, LABELS)(None, OUTPUTS).item() == pytest.approx(LABELS_ALONE, rel=1e-5)
    assert not RUNS


def test_the_teacher_is_not_touched_and_its_copy_only_runs() -> None:
    teacher, seen = toy_net().train(), []

    def look(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        assert module is not teacher
        norm = module.get_submodule("norm")
        seen.append((module.training, norm.training, norm.running_mean.clone(), output))

    teacher.register_forward_hook(look)
    student = toy_net()
    data = toy_data().train
    with criteria(TRAIN, model=student, teacher=teacher, in_place=False, largest=None) as make:
        for indices in ([0, 1, 2], [3, 4, 5]):
            images, labels = data.batch(indices)
            make(images, labels)(None, student(images)).backward()  # type: ignore[no-untyped-call]
    assert len(seen) == 2
    for training, norm_training, mean, output in seen:
        assert not training
        assert not norm_training
        assert not output.requires_grad
        assert torch.equal(mean, torch.zeros(8))
    assert teacher.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert torch.equal(teacher.norm.running_mean, torch.zeros(8))  # type: ignore[arg-type]
    assert not any(parameter.requires_grad for parameter in frozen(teacher).parameters())


def test_cached_soft_labels_give_the_loss_of_a_teacher_that_does_not_run() -> None:
    data, teacher, config = toy_data().train, toy_net().eval(), TrainConfig(distill=0.5, augment=False)
    cached, runs = SoftLabelled(data, teacher, "float32"), []
    teacher.register_forward_hook(lambda *args: runs.append(1))
    outputs, indices = torch.randn(3, len(data.classes)), [7, 0, 3]
    with criteria(config, model=toy_net(), teacher=teacher, in_place=False, largest=None) as make:
        expected = make(*data.batch(indices))(None, outputs)
        assert len(runs) == 1
        loss = make(*cached.batch(indices))(None, outputs)
        assert len(runs) == 1
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_labels_of_mixed_images_are_no_cached_soft_labels() -> None:
    RUNS.clear()
    mixed = torch.tensor([[0.0, 0.5, 0.5, 0.0]])
    logs = torch.log_softmax(OUTPUTS, dim=1)
    soft = soft_by_hand(OUTPUTS[0].tolist(), [1.0, 0.0, -1.0, 2.0])
    expected = (1 - SHARE) * -(logs[0, 1] + logs[0, 2]).item() / 2 + SHARE * soft
    config = replace(CONFIG, mixup=0.2)
    with criteria(config, model=toy_net(), teacher=Fixed(), in_place=False, largest=None) as make:
        assert make(IMAGES, mixed)(None, OUTPUTS).item() == pytest.approx(expected, rel=1e-5)
    assert len(RUNS) == 1


def batch() -> tuple[Tensor, Tensor]:
    return toy_data().train.batch(list(range(16)))


def gradients(supernet: Supernet) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in supernet.parameters()]


def two_subnet_step(config: TrainConfig, **options: object) -> tuple[list[Tensor], list[float], int]:
    """Gradients and losses of a step of the largest and the smallest subnet, and how often the model ran."""
    supernet, runs, losses = toy_supernet(), [], []
    model = supernet.model.train()
    model.register_forward_hook(lambda *args: runs.append(1))
    images, labels = batch()
    largest = supernet.space.largest
    given = {"teacher": None, "in_place": True, **options}
    with criteria(config, model=model, largest=largest, **given) as make:  # type: ignore[arg-type]
        criterion: Criterion = make(images, labels)
        for seed, subnet in enumerate((largest, supernet.space.smallest)):
            supernet.activate(subnet)
            torch.manual_seed(seed)  # dropout
            loss = criterion(subnet, supernet(images))
            (loss / 2).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
    return gradients(supernet), losses, len(runs)


def by_autograd(student: Callable[..., Tensor]) -> tuple[list[Tensor], list[float]]:
    """The same step in one backward pass; `student` makes the smallest subnet's loss of both's outputs and maps."""
    supernet = toy_supernet()
    model = supernet.model.train()
    images, labels = batch()
    outputs, maps = [], []
    for seed, subnet in enumerate((supernet.space.largest, supernet.space.smallest)):
        supernet.activate(subnet)
        torch.manual_seed(seed)
        x = torch.relu(model.norm(model.stem(images)))  # type: ignore[operator]
        first = model.blocks[0](x)  # type: ignore[index, operator]
        second = model.blocks[1](first)  # type: ignore[index, operator]
        outputs.append(model.head(model.dropout(model.pool(second).flatten(1))))  # type: ignore[operator]
        maps.append((first, second))
    logs = [torch.log_softmax(own, dim=1) for own in outputs]
    hard = [-own[torch.arange(len(labels)), labels].mean() for own in logs]
    losses = [hard[0], student(hard[1], outputs, maps)]
    (sum(losses) / 2).backward()  # type: ignore[no-untyped-call, union-attr]
    return gradients(supernet), [loss.item() for loss in losses]


def soft(own: Tensor, teacher: Tensor) -> Tensor:
    p = torch.softmax(teacher / TEMPERATURE, dim=1)
    logs = torch.log_softmax(own / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * (p * (p.log() - logs)).sum(dim=1).mean()


def assert_same(one: list[Tensor], other: list[Tensor], *, same: bool = True) -> None:
    close = [torch.allclose(a, b, rtol=1e-4, atol=1e-7) for a, b in zip(one, other, strict=True)]
    assert all(close) if same else not all(close)


def test_in_place_the_largest_learns_from_labels_and_teaches_the_rest() -> None:
    """Gradients of the step are those of a hand-written one; no gradient of the others reaches the teacher."""
    found, losses, runs = two_subnet_step(CONFIG)
    assert runs == 2

    def student(hard: Tensor, outputs: list[Tensor], maps: object) -> Tensor:
        return (1 - SHARE) * hard + SHARE * soft(outputs[1], outputs[0].detach())

    expected, values = by_autograd(student)
    assert losses == pytest.approx(values, rel=1e-5)
    assert_same(found, expected)

    def leaky(hard: Tensor, outputs: list[Tensor], maps: object) -> Tensor:
        return (1 - SHARE) * hard + SHARE * soft(outputs[1], outputs[0])

    assert_same(found, by_autograd(leaky)[0], same=False)


def test_in_place_features_come_from_the_same_two_passes() -> None:
    config = replace(CONFIG, distill=0.0, features=(FeatureMatch(modules="blocks.?", weight=3.0),))
    found, losses, runs = two_subnet_step(config)
    assert runs == 2

    def student(hard: Tensor, outputs: object, maps: list[tuple[Tensor, Tensor]]) -> Tensor:
        terms = [attention_transfer(own, full.detach()) for full, own in zip(*maps, strict=True)]
        return hard + 3.0 * (terms[0] + terms[1]) / 2

    expected, values = by_autograd(student)
    assert losses == pytest.approx(values, rel=1e-5)
    assert_same(found, expected)


def test_an_original_teacher_gives_soft_labels_and_features_at_once() -> None:
    """The teacher runs once, the student once for each subnet, hooks are gone afterwards."""
    config = replace(CONFIG, features=(FeatureMatch(modules="blocks.?", weight=3.0),))
    teacher, runs = toy_net(), []
    teacher.register_forward_hook(lambda *args: runs.append(1))
    _, losses, student_runs = two_subnet_step(config, teacher=teacher, in_place=False)
    assert (len(runs), student_runs) == (1, 2)

    images, _ = batch()
    fixed = toy_net().eval()
    with torch.no_grad():
        x = torch.relu(fixed.norm(fixed.stem(images)))
        maps = [x := block(x) for block in fixed.blocks]
        logits = fixed(images)

    def student(hard: Tensor, outputs: list[Tensor], own: list[tuple[Tensor, Tensor]]) -> Tensor:
        terms = [attention_transfer(a, b) for a, b in zip(own[1], maps, strict=True)]
        return (1 - SHARE) * hard + SHARE * soft(outputs[1], logits) + 3.0 * (terms[0] + terms[1]) / 2

    _, values = by_autograd(student)
    assert losses[1] == pytest.approx(values[1], rel=1e-4)


def test_hooks_are_taken_off_also_after_an_error() -> None:
    model = toy_net()
    config = replace(CONFIG, features=(FeatureMatch(modules="*"),))
    context = criteria(config, model=model, teacher=toy_net(), in_place=False, largest=None)
    context.__enter__()
    assert model.stem._forward_hooks
    error = ZeroDivisionError()
    assert not context.__exit__(type(error), error, None)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


LARGEST = SubnetConfig({"width": 8, "resolution": 6})


def test_in_place_the_largest_is_the_teacher_at_any_resolution_and_as_often_as_it_comes() -> None:
    teacher = torch.tensor([[1.0, 0.0, -1.0, 2.0]])
    at_4 = SubnetConfig({"width": 8, "resolution": 4})
    narrow = SubnetConfig({"width": 4, "resolution": 4})
    expected = (1 - SHARE) * LABELS_ALONE + SHARE * soft_by_hand(OUTPUTS[0].tolist(), teacher[0].tolist())
    with criteria(CONFIG, model=toy_net(), teacher=Fixed(), in_place=True, largest=LARGEST) as make:
        criterion = make(IMAGES, LABELS)
        criterion(at_4, teacher)
        assert criterion(narrow, OUTPUTS).item() == pytest.approx(expected, rel=1e-5)
        assert criterion(at_4, OUTPUTS).item() == pytest.approx(LABELS_ALONE, rel=1e-5)
        assert criterion(narrow, OUTPUTS).item() == pytest.approx((1 - SHARE) * LABELS_ALONE, rel=1e-5)
        with pytest.raises(ConfigError, match="largest subnet must be the first"):
            make(IMAGES, LABELS)(narrow, OUTPUTS)


def test_the_student_may_see_smaller_images_than_the_teacher() -> None:
    RUNS.clear()
    config = replace(CONFIG, distill=0.0, features=(FeatureMatch(modules="blocks"),))
    model, teacher = toy_net(), toy_net()
    images, labels = batch()
    with criteria(config, model=model, teacher=teacher, in_place=False, largest=None) as make:
        loss = make(images, labels)(None, model(torch.nn.functional.avg_pool2d(images, 2)))
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(loss.item())
    with criteria(CONFIG, model=model, teacher=Fixed(), in_place=False, largest=None) as make:
        make(images, labels)
    assert RUNS[0] == (False, False, tuple(images.shape))


def test_features_that_there_are_not_are_refused_at_once() -> None:
    config = replace(CONFIG, features=(FeatureMatch(modules="stem"), FeatureMatch(modules="backbone")))
    with (
        pytest.raises(ConfigError, match=r"features\[1\]\.modules: no module of the network .*'backbone'"),
        criteria(config, model=toy_net(), teacher=toy_net(), in_place=False, largest=None),
    ):
        pass
    config = replace(CONFIG, features=(FeatureMatch(modules="stem"),))
    with (
        pytest.raises(ConfigError, match=r"features\[0\]\.modules: no module of the teacher .*'stem'"),
        criteria(config, model=toy_net(), teacher=Fixed(), in_place=False, largest=None),
    ):
        pass
