from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from bnas.errors import ModelError
from bnas.models import ModelConfig, TinyResNet, load_model, load_weights
from bnas.models.weights import copy_weights

MOBILENET = os.environ.get("BNAS_MOBILENET_V2_WEIGHTS")


def tiny(num_classes: int = 10) -> TinyResNet:
    return TinyResNet(num_classes, widths=(4, 8), depths=(2, 1))


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("nest", [None, "model", "state_dict", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_found_where_people_put_it(tmp_path: Path, nest: str | None, prefix: str) -> None:
    source, target = tiny(), tiny()
    weights = {prefix + key: value for key, value in source.state_dict().items()}
    path = tmp_path / "w.pth"
    torch.save(weights if nest is None else {nest: weights, "epoch": 3}, path)
    assert not same(source, target)
    load_weights(target, path)
    assert same(source, target)


def test_safetensors_and_pt(tmp_path: Path) -> None:
    source = tiny()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save(source.state_dict(), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        target = tiny()
        load_weights(target, tmp_path / name)
        assert same(source, target)


def saved(path: Path, weights: dict[str, Tensor]) -> Path:
    torch.save(weights, path / "w.pth")
    return path / "w.pth"


def test_keys_that_do_not_fit_are_named_three_each_with_counts(tmp_path: Path) -> None:
    weights = dict(tiny().state_dict())
    missing = [key for key in weights if key.startswith("layer2.0.conv") or key.startswith("bn1.")]
    for key in missing:
        if "num_batches" not in key:
            del weights[key]
    weights["extra.weight"] = torch.zeros(3)
    weights["conv1.weight"] = torch.zeros(4, 3, 3, 3)
    model, before = tiny(), tiny()
    before.load_state_dict(model.state_dict())
    with pytest.raises(ModelError) as caught:
        load_weights(model, saved(tmp_path, weights))
    assert str(caught.value) == (
        f"{tmp_path}/w.pth does not fit the model: 6 missing: bn1.weight, bn1.bias, bn1.running_mean, …; "
        "1 unexpected: extra.weight; 1 misshapen: conv1.weight 4×3×3×3 instead of 4×1×3×3"
    )
    assert same(model, before), "a model that refuses the weights is left as it was"


def test_a_head_for_other_classes_is_called_that(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"another number of classes \(fc.weight 7×8 instead of 10×8\)"):
        load_weights(tiny(10), saved(tmp_path, tiny(7).state_dict()))


@pytest.mark.parametrize("classes", [7, 10])
def test_a_new_head_keeps_its_own_weights_and_the_rest_is_the_files(tmp_path: Path, classes: int) -> None:
    source, target = tiny(classes), tiny(10)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    load_weights(target, saved(tmp_path, source.state_dict()), new_head=True)
    for key, value in target.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("fc.") else source.state_dict()[key]), key


def test_a_new_head_may_be_missing_in_the_file_and_nothing_else(tmp_path: Path) -> None:
    weights = {key: value for key, value in tiny().state_dict().items() if not key.startswith("fc.")}
    load_weights(tiny(), saved(tmp_path, weights), new_head=True)
    del weights["conv1.weight"]
    with pytest.raises(ModelError, match=r"does not fit the model: 1 missing: conv1.weight$"):
        load_weights(tiny(), saved(tmp_path, weights), new_head=True)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    weights = {key: value.clone() for key, value in tiny().state_dict().items()}
    weights["bn1.running_var"][1] = float("nan")
    with pytest.raises(
        ModelError, match=r"w.pth holds values that are not numbers \(NaN\), in bn1.running_var$"
    ):
        load_weights(tiny(), saved(tmp_path, weights))
    weights["bn1.running_var"][1] = float("inf")  # as masks may have
    load_weights(tiny(), saved(tmp_path, weights))


def test_counters_of_batches_may_be_missing(tmp_path: Path) -> None:
    weights = {k: v for k, v in tiny().state_dict().items() if not k.endswith("num_batches_tracked")}
    load_weights(tiny(), saved(tmp_path, weights))


class Custom:
    """Something that torch refuses to unpickle."""


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"a": Custom()}, "no weights that can be read safely"),
        ({"epoch": 3}, "holds no state dict"),
        (torch.zeros(3), "holds no state dict"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, text: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=f"w.pth: {text}"):
        load_weights(tiny(), tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", "cut"])
def test_damaged_files_are_named(tmp_path: Path, name: str, content: bytes | str) -> None:
    path = tmp_path / name
    if content == "cut":
        if path.suffix == ".safetensors":
            save_file(tiny().state_dict(), path)
        else:
            torch.save(tiny().state_dict(), path)
        content = path.read_bytes()[:-1000]
    assert isinstance(content, bytes)
    path.write_bytes(content)
    with pytest.raises(
        ModelError, match=f"{name}: (cannot be read as weights|no weights that can be read safely)"
    ):
        load_weights(tiny(), path)


def test_a_missing_file_and_a_strange_suffix(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"w.pth: no such weights file"):
        load_weights(tiny(), tmp_path / "w.pth")
    with pytest.raises(
        ModelError, match=r"w.onnx: weights must be a file named .pth, .pt, .pytorch, .safetensors"
    ):
        load_weights(tiny(), tmp_path / "w.onnx")


def test_auxiliary_outputs_of_a_published_googlenet_are_left_out() -> None:
    published = torchvision.models.googlenet(aux_logits=True, init_weights=False)
    model, _ = load_model(ModelConfig(name="googlenet", weights="none"), shape=(3, 64, 64))
    copy_weights(model, published.state_dict(), "googlenet")
    assert torch.equal(model.get_parameter("fc.weight"), published.get_parameter("fc.weight"))


def test_old_names_of_a_published_densenet_are_understood() -> None:
    source, _ = load_model("densenet121", num_classes=5, shape=(3, 32, 32), seed=0)
    target, _ = load_model("densenet121", num_classes=5, shape=(3, 32, 32), seed=1)
    old = OrderedDict(
        (key.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."), value)
        for key, value in source.state_dict().items()
    )
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    copy_weights(target, old, "densenet121")
    assert same(source, target)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_format_versions_survive(tmp_path: Path, suffix: str) -> None:
    """MNASNet's loading reads the version that a state dict carries beside its tensors, and fails without."""
    source = torchvision.models.mnasnet0_5(num_classes=5)
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(source.state_dict(), path)
    else:
        save_file(source.state_dict(), path)
    target = torchvision.models.mnasnet0_5(num_classes=5)
    load_weights(target, path)
    assert same(source, target)


@pytest.mark.skipif(
    MOBILENET is None, reason="BNAS_MOBILENET_V2_WEIGHTS is not set to the published .pth file"
)
def test_torchvisions_published_mobilenet_v2() -> None:
    assert MOBILENET is not None
    model, (images,) = load_model(ModelConfig(name="mobilenet_v2", weights=MOBILENET))
    own = torchvision.models.mobilenet_v2().eval()
    own.load_state_dict(torch.load(MOBILENET, weights_only=True))
    assert torch.equal(model(images), own(images))
    with pytest.raises(
        ModelError,
        match=r"another number of classes .*classifier.1.weight 1000×1280 instead of .*model.head=new",
    ):
        load_model(ModelConfig(name="mobilenet_v2", weights=MOBILENET), num_classes=10)
    other, _ = load_model(ModelConfig(name="mobilenet_v2", weights=MOBILENET, head="new"), num_classes=10)
    assert torch.equal(other.get_submodule("features")(images), own.features(images))
