from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.detection import retinanet_resnet50_fpn
from toy import toy_net, toy_supernet

from bnas.errors import ConfigError
from bnas.graph import trace
from bnas.space import SpaceRules, derive_space
from bnas.supernet import Supernet, extract_subnet
from bnas.train.config import FeatureMatch
from bnas.train.distill import attention_transfer, relative_error
from bnas.train.features import Features, check_features, feature_loss


class Nested(nn.Module):
    """Inner modules that put out mappings, tuples and lists, one of which is called twice."""

    class Maps(nn.Module):
        def forward(self, x: Tensor) -> OrderedDict[str, Any]:
            return OrderedDict(fine=x, more=[x + 1, (x + 2, x.long())], name="x")

    def __init__(self) -> None:
        super().__init__()
        self.maps = self.Maps()
        self.twice = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.maps(x)
        result: Tensor = self.twice(self.twice(maps["fine"]))
        return result


def match(modules: str, loss: str = "attention", weight: float = 1.0) -> FeatureMatch:
    return FeatureMatch(modules=modules, loss=loss, weight=weight)


def test_every_tensor_of_nested_outputs_and_of_every_call_is_kept() -> None:
    model, x = Nested(), torch.randn(2, 3)
    with Features(model, [match("maps"), match("tw*")]) as features:
        model(torch.zeros(2, 3))
        output = model(x)
        captured = features.take()
    once = model.twice(x)
    assert list(captured) == ["maps", "twice"]
    assert list(captured["maps"]) == ["['fine']", "['more'][0]", "['more'][1][0]"]
    assert torch.equal(captured["maps"]["['more'][1][0]"], x + 2)
    assert list(captured["twice"]) == ["", "#2"]
    assert torch.equal(captured["twice"][""], once)
    assert captured["twice"]["#2"] is output
    assert features.take() == {}


def test_hooks_are_closed_and_nothing_is_kept() -> None:
    model = Nested()
    with Features(model, [match("maps")]) as features:
        model(torch.zeros(2, 3))
    model(torch.zeros(2, 3))
    assert features.take() == {}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_only_the_models_own_passes_count() -> None:
    """Not those of a copy, not a module that is run by itself; after an error the next pass is a new one."""
    model, x = toy_net(), torch.randn(4, 1, 6, 6)
    with Features(model, [match("stem"), match("blocks.*")]) as features:
        model(x)
        first = features.take()
        made = [f"blocks.{block}{part}" for block in (0, 1) for part in (".conv1", ".bn1", ".conv2", "")]
        assert list(first) == ["stem", *made]
        copy.deepcopy(model)(x)
        model.stem(x)
        assert features.take() == {}
        with pytest.raises(RuntimeError):
            model(torch.zeros(4, 2, 6, 6))
        model.stem(x)
        assert features.take() == {}


class Recomputed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = checkpoint(self.inner, x, use_reentrant=False)
        return result


def test_with_gradient_checkpointing_the_gradients_are_the_same() -> None:
    """What runs again in the backward pass is not kept, and a kept output inside has the right gradient."""
    torch.manual_seed(0)
    model, x = Recomputed(), torch.randn(5, 3)
    with Features(model, [match("inner.1")]) as features:
        loss = model(x).square().sum() + 3 * features.take()["inner.1"][""].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        assert features.take() == {}
    found = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    inner = torch.tanh(model.inner[0](x))
    (model.inner[2](inner).square().sum() + 3 * inner.square().sum()).backward()
    for own, parameter in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(own, parameter.grad)


def test_a_pattern_without_modules_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"features\[1\].*no module of the student is called 'back\*'.*stem"
    ):
        Features(toy_net(), [match("stem"), match("back*")], who="the student")


def maps(seed: int, channels: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"[{i}]": torch.randn(2, channels, 3, 3, generator=generator) for i in range(3)}


def test_the_loss_is_the_weighted_sum_of_means_over_tensors() -> None:
    own, teacher = {"a": maps(0, 3), "b": maps(1)}, {"a": maps(2), "b": maps(3)}
    for tensors in (*own.values(), *teacher.values()):
        for tensor in tensors.values():
            tensor.requires_grad_()
    loss = feature_loss(own, teacher, [match("a", weight=2.0), match("b", "mse", 5.0)])
    attention = [attention_transfer(own["a"][k], teacher["a"][k]) for k in own["a"]]
    squares = [relative_error(own["b"][k], teacher["b"][k]) for k in own["b"]]
    assert loss.item() == pytest.approx((2 * sum(attention) / 3 + 5 * sum(squares) / 3).item(), rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(tensor.grad is not None for tensors in own.values() for tensor in tensors.values())
    assert all(tensor.grad is None for tensors in teacher.values() for tensor in tensors.values())


def test_what_a_subnet_has_dropped_does_not_count() -> None:
    own, teacher = {"a": maps(0), "b": maps(1)}, {"a": maps(2), "b": maps(3)}
    del own["a"]["[1]"]
    loss = feature_loss(own, teacher, [match("a")])
    pairs = [attention_transfer(own["a"][k], teacher["a"][k]) for k in ("[0]", "[2]")]
    assert loss.item() == pytest.approx(sum(pairs).item() / 2, rel=1e-5)  # type: ignore[union-attr]
    assert feature_loss({"b": own["b"]}, teacher, [match("a")]).item() == 0


def test_what_has_no_counterpart_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"features\[0\].*'a' matches modules of the teacher that do not run"
    ):
        feature_loss({"a": maps(0)}, {"b": maps(0)}, [match("a")])
    with pytest.raises(ConfigError, match=r"puts out a\['x'\] where the teacher puts out a\[0\], a\[1\]"):
        feature_loss({"a": {"['x']": torch.zeros(1)}}, {"a": maps(0)}, [match("a")])
    with pytest.raises(ConfigError, match=r"features\[1\]\.loss: 'mse' needs .*\(output b\[0\]\)"):
        feature_loss(
            {"a": maps(0), "b": maps(0, 3)}, {"a": maps(0), "b": maps(1)}, [match("a"), match("b", "mse")]
        )


def test_mse_on_elastic_channels_is_refused_before_a_training() -> None:
    supernet, x = toy_supernet(), torch.randn(2, 1, 6, 6)
    supernet.model.train()
    supernet.activate(supernet.space.smallest)
    before = {name: value.clone() for name, value in supernet.model.state_dict().items()}
    check_features(supernet, [match("*.conv?"), match("head", "mse"), match("stem")], x)
    for modules in ("stem", "blocks", "blocks.?.conv1"):
        with pytest.raises(ConfigError, match=r"features\[1\]\.loss: 'mse' needs outputs of equal shape"):
            check_features(supernet, [match("stem"), match(modules, "mse")], x)
    assert supernet.active == supernet.space.smallest
    assert all(module.training for module in supernet.model.modules())
    assert all(torch.equal(value, before[name]) for name, value in supernet.model.state_dict().items())


SIZE = 64
MATCHES = (match("backbone"), match("head", "mse", 0.5))


@pytest.fixture(scope="module")
def detectors() -> Iterator[tuple[Supernet, nn.Module]]:
    """A supernet of torchvision's RetinaNet, and the network before it became one."""
    torch.manual_seed(0)
    model = retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4, min_size=SIZE, max_size=SIZE
    ).eval()
    for module in model.modules():  # fresh weights of the pyramid and the head say next to nothing
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    teacher = copy.deepcopy(model)
    graph = trace(model, ([torch.rand(3, SIZE, SIZE)],))
    space = derive_space(graph, SpaceRules(width_ratios=(0.5, 1.0)))
    supernet = Supernet(model, graph, space)
    yield supernet, teacher
    supernet.release()


def detections() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    torch.manual_seed(1)
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 40.0, 50.0]]), "labels": torch.tensor([1 + image])}
        for image in range(2)
    ]
    return [torch.rand(3, SIZE, SIZE) for _ in targets], targets


def test_a_detector_in_training_is_drawn_to_its_teachers_maps_and_head(
    detectors: tuple[Supernet, nn.Module],
) -> None:
    """The student trains with targets, the teacher is in eval mode; each runs once."""
    supernet, teacher = detectors
    (images, targets), model, runs = detections(), supernet.model, []
    supernet.activate(supernet.space.smallest)
    counted = [net.backbone.register_forward_hook(lambda *args: runs.append(1)) for net in (model, teacher)]
    model.train()
    with Features(model, MATCHES) as own, Features(teacher, MATCHES) as theirs:
        with torch.no_grad():
            teacher(images)
        losses = supernet(images, targets)
        captured, taught = own.take(), theirs.take()
    for hook in counted:
        hook.remove()
    assert len(runs) == 2
    assert list(taught["backbone"]) == [f"[{level!r}]" for level in ("0", "1", "2", "p6", "p7")]
    assert list(taught["head"]) == ["['cls_logits']", "['bbox_regression']"]
    loss = feature_loss(captured, taught, MATCHES)
    # By a way of its own: backbone and head called as RetinaNet's forward does.
    with torch.no_grad():
        inputs, _ = teacher.transform(images)  # type: ignore[operator]
        full = teacher.backbone(inputs.tensors)  # type: ignore[operator]
        heads = teacher.head(list(full.values()))  # type: ignore[operator]
        own_maps = model.backbone(inputs.tensors)  # type: ignore[operator]
        own_heads = model.head(list(own_maps.values()))  # type: ignore[operator]
    assert {len(maps[0]) for maps in full.values()} == {256}
    assert {len(maps[0]) for maps in own_maps.values()} == {128}
    expected = sum(attention_transfer(own_maps[k], full[k]) for k in full) / 5
    expected = expected + 0.5 * sum(relative_error(own_heads[k], heads[k]) for k in heads) / 2
    assert expected > 0.01
    assert loss.item() == pytest.approx(float(expected), rel=1e-4)
    total = losses["classification"] + losses["bbox_regression"] + loss
    total.backward()
    stem = dict(model.named_parameters())["backbone.body.conv1.weight"].grad
    assert stem is not None
    assert stem.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())
    model.zero_grad()
    model.eval()
    supernet.activate(supernet.space.largest)


def test_the_largest_subnet_of_a_detector_starts_at_its_teacher(
    detectors: tuple[Supernet, nn.Module],
) -> None:
    supernet, teacher = detectors
    supernet.model.load_state_dict(teacher.state_dict())  # whatever was trained before
    images, _ = detections()
    largest = extract_subnet(supernet, supernet.space.largest)
    with torch.no_grad(), Features(largest, MATCHES) as own, Features(teacher, MATCHES) as theirs:
        largest(images)
        teacher(images)
        assert feature_loss(own.take(), theirs.take(), MATCHES).item() < 1e-3


def test_a_detectors_backbone_cannot_be_compared_channel_by_channel(
    detectors: tuple[Supernet, nn.Module],
) -> None:
    supernet, _ = detectors
    images, _ = detections()
    check_features(supernet, MATCHES, images)
    with pytest.raises(
        ConfigError, match=r"'mse' needs .*\[2, 128, .*\[2, 256, .*\(output backbone\['0'\]\)"
    ):
        check_features(supernet, [match("backbone", "mse")], images)
