from __future__ import annotations

import pytest
import torch
import torchvision

from bnas.models import FAMILIES, ModelConfig, load_model, weights_for
from bnas.models.detectors import detector_names


def test_every_detection_network_of_torchvision_is_a_family() -> None:
    assert {"retinanet_resnet50_fpn", "ssd300_vgg16", "maskrcnn_resnet50_fpn_v2"} <= set(detector_names())
    assert all(FAMILIES[name].task == "detection" for name in detector_names())
    assert FAMILIES["keypointrcnn_resnet50_fpn"].num_classes == 2


def test_images_come_in_a_list_and_keep_their_size() -> None:
    model, inputs = load_model("fasterrcnn_mobilenet_v3_large_320_fpn", shape=(3, 64, 96))
    assert isinstance(inputs, tuple)
    ((image,),) = inputs
    assert image.shape == (3, 64, 96)
    assert 0 <= image.min() < image.max() <= 1
    assert type(model) is torchvision.models.detection.FasterRCNN
    resized, _ = model.transform([image])
    assert resized.image_sizes == [(64, 96)]
    with torch.no_grad():
        assert set(model(*inputs)[0]) == {"boxes", "labels", "scores"}


def test_options_win_over_the_size_of_the_example() -> None:
    config = ModelConfig(
        name="retinanet_resnet50_fpn", options={"min_size": 32, "trainable_backbone_layers": 5}
    )
    with pytest.warns(UserWarning, match="trainable_backbone_layers"):
        model, _ = load_model(config, shape=(3, 64, 64), num_classes=7)
    assert model.transform.min_size == (32,)
    assert model.head.classification_head.num_classes == 7


def test_ssd_takes_images_of_any_size() -> None:
    model, inputs = load_model("ssdlite320_mobilenet_v3_large", shape=(3, 64, 64))
    with torch.no_grad():
        assert len(model(*inputs)) == 1


def test_fresh_weights_let_boxes_through_to_the_mask_head() -> None:
    config = ModelConfig(name="maskrcnn_resnet50_fpn", options={"box_detections_per_img": 3})
    model, inputs = load_model(config, shape=(3, 64, 64))
    with torch.no_grad():
        assert model(*inputs)[0]["masks"].shape == (3, 1, 64, 64)


def test_no_weights_are_fetched() -> None:
    assert weights_for(ModelConfig(name="retinanet_resnet50_fpn")) is None
