from __future__ import annotations

import pytest
import torch
import torchvision

from bnas.errors import ModelError
from bnas.models import FAMILIES, ModelConfig, load_model
from bnas.models.classifiers import classifier_names


def test_every_classification_network_of_torchvision_is_a_family() -> None:
    assert len(classifier_names()) >= 70
    assert {"resnet50", "mobilenet_v3_large", "efficientnet_b0", "vit_b_16", "regnet_y_400mf"} <= set(
        FAMILIES
    )
    assert not {"retinanet_resnet50_fpn", "fcn_resnet50"} & set(classifier_names())
    assert all(name == family.name for name, family in FAMILIES.items())
    assert {FAMILIES[name].task for name in classifier_names()} == {"classification"}


def test_the_published_weights_are_listed_the_best_first() -> None:
    weights = FAMILIES["resnet50"].weights()
    assert [(w.name, w.file, w.num_classes) for w in weights] == [
        ("IMAGENET1K_V2", "resnet50-11ad3fa6.pth", 1000),
        ("IMAGENET1K_V1", "resnet50-0676ba61.pth", 1000),
    ]


def test_a_network_is_torchvisions_own() -> None:
    model, (images,) = load_model("resnet18", num_classes=7, shape=(3, 64, 64))
    assert type(model) is torchvision.models.ResNet
    assert not model.training
    assert images.shape == (1, 3, 64, 64)
    assert model(images).shape == (1, 7)


def test_options_reach_the_network() -> None:
    config = ModelConfig(name="mobilenet_v2", options={"width_mult": 0.25, "dropout": 0.5})
    model, _ = load_model(config, num_classes=5, shape=(3, 32, 32))
    assert model.get_submodule("classifier.0").p == 0.5
    assert model.get_parameter("features.0.0.weight").shape[0] == 8


def test_a_vision_transformer_is_made_for_the_size_of_the_images() -> None:
    model = FAMILIES["vit_b_32"].make(ModelConfig(name="vit_b_32"), 5, (3, 64, 64))
    assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_grey_images_are_refused_with_the_way_out() -> None:
    with pytest.raises(ModelError, match=r"resnet18 takes colour images .* has 1: set data.channels=3"):
        load_model("resnet18", num_classes=10, shape=(1, 32, 32))


@pytest.mark.parametrize("weights", ["none", "IMAGENET1K_V1"])
def test_googlenet_has_no_auxiliary_outputs_and_warns_of_nothing(weights: str) -> None:
    model = FAMILIES["googlenet"].make(ModelConfig(name="googlenet", weights=weights), 1000, (3, 64, 64))
    assert not [key for key in model.state_dict() if key.startswith("aux")]
    assert bool(model.transform_input) == (weights != "none")
    assert isinstance(model.train()(torch.randn(2, 3, 64, 64)), torch.Tensor)
