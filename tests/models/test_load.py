from __future__ import annotations

import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import nn

from bnas.errors import ModelError
from bnas.models import FAMILIES, ModelConfig, ModelFamily, TinyResNet, load_model, weights_for

OWN = """
from torch import nn

def make(num_classes, shape, width=4):
    channels, height, _ = shape
    return nn.Sequential(nn.Conv2d(channels, width, height), nn.Flatten(), nn.Linear(width, num_classes))

class Net(nn.Sequential):
    def __init__(self, width=4):
        super().__init__(nn.Flatten(), nn.Linear(64, width))

def broken():
    raise KeyError("weights")

def no_module(num_classes):
    return 3

constant = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets_for_test.py").write_text(OWN)
    (tmp_path / "own_broken_for_test.py").write_text("def make(:")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_nets_for_test", "own_broken_for_test"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_a_name_is_enough() -> None:
    model, (images,) = load_model("tiny_resnet", num_classes=10, shape=(1, 32, 32))
    assert type(model) is TinyResNet
    assert not model.training
    assert images.shape == (1, 1, 32, 32)
    assert model(images).shape == (1, 10)


def test_lists_from_yaml_are_options_too() -> None:
    config = ModelConfig(options={"widths": [4, 8], "depths": [1, 1]})
    model, _ = load_model(config, num_classes=3, shape=(3, 16, 16))
    assert model.get_submodule("fc").in_features == 8


def test_fresh_weights_are_fixed_by_the_seed_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    weights = [
        load_model("tiny_resnet", num_classes=10, shape=(1, 8, 8), seed=seed)[0].get_parameter("conv1.weight")
        for seed in (0, 0, 1)
    ]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("config", "classes", "expected"),
    [
        (ModelConfig(), 10, None),
        (ModelConfig(name="resnet50"), 10, None),
        (ModelConfig(name="resnet50"), 1000, "IMAGENET1K_V2"),
        (ModelConfig(name="resnet50", weights="none"), 1000, None),
        (ModelConfig(name="resnet50", weights=None), 1000, None),
        (ModelConfig(name="resnet50", weights="IMAGENET1K_V1"), 10, "IMAGENET1K_V1"),
        (ModelConfig(name="resnet50", head="new"), 10, "IMAGENET1K_V2"),
        (ModelConfig(name="resnet50", head="new", weights="none"), 10, None),
    ],
)
def test_where_the_weights_come_from(config: ModelConfig, classes: int, expected: str | None) -> None:
    assert weights_for(config, classes) == expected


def test_a_weights_file_is_taken_as_given(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(TinyResNet(10).state_dict(), path)
    assert weights_for(ModelConfig(weights=str(path)), 10) == str(path)
    model, _ = load_model(ModelConfig(weights=str(path)), num_classes=10, shape=(1, 8, 8))
    assert torch.equal(model.get_parameter("fc.bias"), torch.load(path, weights_only=True)["fc.bias"])


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ("nowhere/w.pth", "model.weights: no such file: nowhere/w.pth"),
        ("w.safetensors", "model.weights: no such file: w.safetensors"),
        (
            "IMAGENET1K_V3",
            "'IMAGENET1K_V3' is no file and no weights of resnet50; did you mean 'IMAGENET1K_V",
        ),
    ],
)
def test_weights_that_there_are_not(weights: str, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        weights_for(ModelConfig(name="resnet50", weights=weights), 10)


def test_a_download_that_fails_says_which_file_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(ModelError) as caught:
        load_model(ModelConfig(name="resnet18", weights="IMAGENET1K_V1"), shape=(3, 32, 32))
    assert str(caught.value) == (
        "weights IMAGENET1K_V1 of resnet18 could not be fetched (Name or service not known); "
        "give a file: model.weights=/path/resnet18-f37072fd.pth"
    )


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "torch before 1.6"])
def test_resnet_50_from_a_file_of_torchvisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    """The file in torch's cache stands for the download; it is taken by its path as well. Both formats are in use."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    published = torchvision.models.resnet50().eval()
    file = folder / "resnet50-0676ba61.pth"
    torch.save(published.state_dict(), file, _use_new_zipfile_serialization=zipped)
    for weights in ("IMAGENET1K_V1", str(file)):
        model, _ = load_model(ModelConfig(name="resnet50", weights=weights), shape=(3, 32, 32), seed=1)
        own, theirs = model.state_dict(), published.state_dict()
        assert own.keys() == theirs.keys()
        assert all(torch.equal(own[key], theirs[key]) for key in own)


def test_fetched_weights_are_loaded_and_must_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in torch's cache stands for the download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "shufflenet_v2_x0_5"
    published = torchvision.models.get_model(name)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(published.state_dict(), folder / FAMILIES[name].weights()[0].file)
    model, _ = load_model(name, shape=(3, 32, 32))
    assert torch.equal(model.get_parameter("fc.weight"), published.fc.weight)
    with pytest.raises(
        ModelError, match="IMAGENET1K_V1 of shufflenet_v2_x0_5: weights for another number of"
    ):
        load_model(ModelConfig(name=name, weights="IMAGENET1K_V1"), num_classes=10, shape=(3, 32, 32))


def test_an_unknown_model_gets_a_suggestion() -> None:
    with pytest.raises(ModelError, match=r"model.name: no model 'resnet51'; did you mean 'resnet50'\?"):
        load_model("resnet51")


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("tiny_resnet", {"width": 3}, r"options={'width': 3} cannot be made: TypeError: .* argument 'width'"),
        ("tiny_resnet", {"widths": (3,)}, "cannot be made: ValueError: widths and depths must hold one"),
        ("resnet18", {"groups": 2}, "cannot be made: ValueError: BasicBlock only supports groups=1"),
        (
            "resnet18",
            {"num_classes": 3},
            "model.options.num_classes: not an option: the data and model.weights",
        ),
    ],
)
def test_options_that_the_network_does_not_take(name: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        load_model(ModelConfig(name=name, options=options), num_classes=10, shape=(3, 32, 32))


def test_images_that_the_network_cannot_run_on() -> None:
    with pytest.raises(
        ModelError, match=r"squeezenet1_1 does not run on images of 3×8×8: .*try another data.size"
    ):
        load_model("squeezenet1_1", num_classes=10, shape=(3, 8, 8))


def test_a_family_joins_by_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(config: ModelConfig, num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

    monkeypatch.setitem(FAMILIES, "mine", ModelFamily(name="mine", make=make))
    assert load_model("mine", num_classes=2, shape=(1, 8, 8))[0](torch.zeros(3, 1, 8, 8)).shape == (3, 2)


@pytest.mark.usefixtures("own")
def test_a_callable_of_ones_own() -> None:
    config = ModelConfig(name="own_nets_for_test:make", options={"width": 6})
    model, (images,) = load_model(config, num_classes=10, shape=(3, 8, 8))
    assert model.get_parameter("0.weight").shape == (6, 3, 8, 8)
    assert model(images).shape == (1, 10)
    model, _ = load_model(
        ModelConfig(name="own_nets_for_test:Net", options={"width": 5}), num_classes=5, shape=(1, 8, 8)
    )
    assert type(model).__name__ == "Net"


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_module_for_test:make", "cannot import .*: ModuleNotFoundError: No module named"),
        ("own_broken_for_test:make", "cannot import .*: SyntaxError: "),
        ("own_nets_for_test:mak", "cannot import .*: AttributeError: .* has no attribute 'mak'"),
        ("own_nets_for_test:constant", "'own_nets_for_test:constant' is no callable but int"),
        ("own_nets_for_test:broken", "own_nets_for_test:broken cannot be made: KeyError: 'weights'"),
        ("own_nets_for_test:no_module", "must return a torch.nn.Module, got int"),
        ("own_nets_for_test:Net", r"must return a tensor \[1, 10\] .*, got shape \[1, 4\]"),
        (":make", "cannot import ':make': ValueError"),
    ],
)
def test_a_callable_that_is_none_or_fails(name: str, text: str) -> None:
    with pytest.raises(ModelError, match=text):
        load_model(name, num_classes=10, shape=(1, 8, 8))
