from __future__ import annotations

import pytest
import torch
import torchvision

from bnas.errors import ModelError
from bnas.models import FAMILIES, ModelConfig, load_model
from bnas.models.segmenters import segmenter_names


def test_every_segmentation_network_of_torchvision_is_a_family() -> None:
    assert {"fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"} <= set(
        segmenter_names()
    )
    assert all(FAMILIES[name].task == "segmentation" for name in segmenter_names())


def test_a_network_is_torchvisions_own_with_one_output() -> None:
    config = ModelConfig(name="lraspp_mobilenet_v3_large", weights="none", num_classes=4)
    model, (images,) = load_model(config, shape=(3, 32, 48))
    assert type(model) is torchvision.models.segmentation.LRASPP
    assert images.shape == (1, 3, 32, 48)
    output = model(images)
    assert {key: tuple(value.shape) for key, value in output.items()} == {"out": (1, 4, 32, 48)}


def test_weights_with_an_auxiliary_output_fit_without_it(
    tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in torch's cache stands for the download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "deeplabv3_mobilenet_v3_large"
    published = torchvision.models.get_model(
        name, weights=None, weights_backbone=None, aux_loss=True, num_classes=21
    )
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(published.state_dict(), folder / FAMILIES[name].weights()[0].file)
    model, _ = load_model(name, shape=(3, 32, 32))
    assert torch.equal(model.get_parameter("classifier.4.weight"), published.classifier[4].weight)
    assert model.aux_classifier is None


def test_grey_images_are_refused() -> None:
    with pytest.raises(ModelError, match="fcn_resnet50 takes colour images"):
        load_model(ModelConfig(name="fcn_resnet50", weights="none"), shape=(1, 32, 32))
