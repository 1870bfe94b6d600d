from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from bnas.detection import RawTensors
from bnas.errors import ConfigError, ModelError
from bnas.models import ModelConfig, load_model, load_weights
from bnas.models.prior_boxes import RATIOS, SCALES, prior_boxes
from bnas.models.ssd_resnet34 import Body, SSDResNet34, make_ssd_resnet34

FOR_300 = (1, 1, 2, 2, 2, 1)
MAPS_1200 = [50, 25, 13, 7, 3, 3]
MAPS_300 = [38, 19, 10, 5, 3, 1]


def small(classes: int = 3, size: int = 96, **options: object) -> SSDResNet34:
    torch.manual_seed(0)
    return make_ssd_resnet34(
        classes, (size, size), **{"body": "resnet18", "strides": FOR_300, "maps": 3, **options}
    ).eval()


def test_as_many_boxes_as_published() -> None:
    """15 130 boxes of six maps at 1200×1200 in MLCommons' network, 8 732 at 300×300 in the paper's."""
    with torch.device("meta"):
        model = make_ssd_resnet34(80, (1200, 1200)).eval()
        raw = model(torch.empty(1, 3, 1200, 1200))
        assert raw.levels == tuple(n * n * d for n, d in zip(MAPS_1200, (4, 6, 6, 6, 4, 4), strict=True))
        assert raw.logits.shape == (1, 15130, 81)
        assert raw.boxes.shape == (1, 15130, 4)
        for_300 = make_ssd_resnet34(20, (300, 300), strides=FOR_300).eval()
        assert sum(for_300(torch.empty(1, 3, 300, 300)).levels) == 8732


def test_prior_boxes_are_those_of_mlcommons() -> None:
    """In pixels of a 1200×1200 image, one by one: scales 84, 180, …; no side longer than the image."""
    expected = []
    pixels = [4 * x for x in (21, 45, 99, 153, 207, 261, 315)]
    for cells, side, following, ratios in zip(MAPS_1200, pixels[:-1], pixels[1:], RATIOS, strict=True):
        sides = [(side, side), ((side * following) ** 0.5,) * 2]
        for ratio in ratios:
            sides += [(side * ratio**0.5, side / ratio**0.5), (side / ratio**0.5, side * ratio**0.5)]
        for (width, height), row, column in product(sides, range(cells), range(cells)):
            x, y = (column + 0.5) * 1200 / cells, (row + 0.5) * 1200 / cells
            w, h = min(width, 1200), min(height, 1200)
            expected.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    found = prior_boxes([(n, n) for n in MAPS_1200], SCALES) * 1200
    assert len(found) == 15130
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-3)
    torch.testing.assert_close(found[0], torch.tensor([-30.0, -30.0, 54.0, 54.0]), rtol=0, atol=1e-3)


def test_prior_boxes_are_those_of_torchvision_in_another_order() -> None:
    sizes = [(n, n + 1) for n in MAPS_300]  # heights and widths differ
    generator = DefaultBoxGenerator([list(own) for own in RATIOS], scales=list(SCALES))
    images = torch.zeros(1, 3, 300, 300)
    (known,) = generator(ImageList(images, [(300, 300)]), [torch.zeros(1, 1, *own) for own in sizes])
    own, start = prior_boxes(sizes, SCALES) * 300, 0
    for (rows, columns), ratios in zip(sizes, RATIOS, strict=True):
        count = 2 + 2 * len(ratios)
        end = start + rows * columns * count
        level = known[start:end].reshape(rows * columns, count, 4).transpose(0, 1).reshape(-1, 4)
        torch.testing.assert_close(own[start:end], level, rtol=0, atol=1e-2)
        start = end
    assert start == len(own) == len(known)


def test_names_and_shapes_of_the_published_checkpoint() -> None:
    with torch.device("meta"):
        state = make_ssd_resnet34(80, (1200, 1200)).state_dict()
    assert len(state) == 6 + 13 * 12 + 2 * 6 + 5 * 4 + 6 * 2 + 6 * 2
    shapes = {
        "model.layer1.0.weight": (64, 3, 7, 7),
        "model.layer1.1.running_mean": (64,),
        "model.layer1.4.2.conv2.weight": (64, 64, 3, 3),
        "model.layer1.5.0.downsample.0.weight": (128, 64, 1, 1),
        "model.layer1.5.3.bn1.weight": (128,),
        "model.layer2.0.0.downsample.1.bias": (256,),
        "model.layer2.0.5.bn2.running_var": (256,),
        "additional_blocks.0.2.weight": (512, 256, 3, 3),
        "additional_blocks.1.0.weight": (256, 512, 1, 1),
        "additional_blocks.2.0.weight": (128, 512, 1, 1),
        "additional_blocks.4.2.bias": (256,),
        "loc.0.weight": (16, 256, 3, 3),
        "loc.5.bias": (16,),
        "conf.0.weight": (324, 256, 3, 3),
        "conf.1.weight": (486, 512, 3, 3),
        "conf.5.bias": (324,),
    }
    assert {key: tuple(state[key].shape) for key in shapes} == shapes


def test_the_body_is_torchvisions_without_the_last_stage() -> None:
    torch.manual_seed(0)
    known, own = torchvision.models.resnet34(), Body((3, 4, 6))
    for block in (known.layer3[0],):
        block.conv1.stride = block.downsample[0].stride = (1, 1)
    stages = nn.Sequential(*list(known.children())[:7]).eval()
    own.load_state_dict(dict(zip(own.state_dict(), stages.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(own.eval()(images), stages(images))


def test_an_output_stands_at_the_place_of_its_anchor() -> None:
    model = small()
    images = torch.randn(2, 3, 96, 128)
    with torch.no_grad():
        raw = model(images)
        maps = [model.model(images)]
        for block in model.additional_blocks:
            maps.append(block(maps[-1]))
        start = 0
        for level, own in enumerate(maps):
            loc, conf = model.loc[level](own), model.conf[level](own)
            count, (rows, columns) = loc.shape[1] // 4, loc.shape[2:]
            for shape, row, column in ((0, 0, 0), (count - 1, rows - 1, columns - 1), (1, 1, 2)):
                place = start + (shape * rows + row) * columns + column
                centre = raw.anchors[place].reshape(2, 2).mean(0)
                assert centre.tolist() == pytest.approx([(column + 0.5) / columns, (row + 0.5) / rows])
                assert torch.equal(raw.boxes[1, place], loc[1, shape::count, row, column])
                assert torch.equal(raw.logits[1, place], conf[1, shape::count, row, column])
            assert raw.levels[level] == count * rows * columns
            start += raw.levels[level]


def test_a_batch_gives_the_same_in_train_mode_but_for_batch_norms() -> None:
    model = small()
    for module in model.train().modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        raw, again = model(images), model.eval()(images)
    assert torch.equal(raw.logits, again.logits)
    assert torch.equal(raw.boxes, again.boxes)


def test_no_module_is_used_twice() -> None:
    model, calls = small(body="resnet34"), []
    leaves = [module for module in model.modules() if not list(module.children())]
    for module in leaves:
        module.register_forward_hook(lambda own, *_: calls.append(id(own)))
    with torch.no_grad():
        model(torch.randn(1, 3, 96, 96))
    assert sorted(calls) == sorted(map(id, leaves))
    assert len([own for own in leaves if isinstance(own, nn.ReLU)]) == 1 + 2 * 13 + 2 * 2


def test_boxes_of_listed_images_are_in_their_pixels() -> None:
    """Everything is the class of the output that is always 9, a prior box of the first map as it is."""
    model = small(classes=2, score_threshold=0.5, most_boxes=1)
    for parameter in (*model.loc.parameters(), *model.conf.parameters()):
        nn.init.zeros_(parameter)
    with torch.no_grad():
        for level, conf in enumerate(model.conf):
            conf.bias.view(3, -1)[0] = 9.0  # background
            if level == 1:
                conf.bias.view(3, -1)[:, 2] = torch.tensor([0.0, 0.0, 9.0])  # the box twice as wide as high
    with torch.no_grad():
        (first, second) = model([torch.rand(3, 60, 120), torch.rand(3, 96, 48)])
        raw = model(torch.zeros(1, 3, 96, 96))
    place = raw.levels[0] + 2 * raw.levels[1] // 6
    possible = raw.anchors[place : place + raw.levels[1] // 6].clamp(0, 1)
    for found, (height, width) in ((first, (60, 120)), (second, (96, 48))):
        assert found["labels"].tolist() == [1]
        assert found["scores"].item() == pytest.approx(torch.tensor([0.0, 0.0, 9.0]).softmax(0)[2].item())
        apart = (possible * torch.tensor([width, height, width, height]) - found["boxes"]).abs().amax(1)
        assert apart.min() < 1e-3


def test_listed_images_are_normalised_and_resized() -> None:
    """A grey image becomes the constant that ImageNet's numbers make of it."""
    model, seen = small(), []
    model.model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model([torch.full((3, 40, 30), 0.5)])
    assert seen[0].shape == (1, 3, 96, 96)
    expected = [(0.5 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert seen[0].mean((0, 2, 3)).tolist() == pytest.approx(expected, abs=1e-5)


def test_a_list_in_train_mode_and_grey_images_are_refused() -> None:
    model = small()
    with pytest.raises(ModelError, match=r"expected images \[3, H, W\], got \[1, 8, 8\]"):
        model([torch.zeros(1, 8, 8)])
    with pytest.raises(ModelError, match="in train mode takes batches"):
        model.train()([torch.zeros(3, 8, 8)])
    with pytest.raises(ModelError, match="takes colour images"):
        load_model("ssd_resnet34", shape=(1, 96, 96), num_classes=3)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"body": "resnet43"}, "model.options.body: no 'resnet43'; did you mean 'resnet34'"),
        ({"maps": 7}, "model.options.maps: expected 1 to 6, got 7"),
        ({"strides": [3, 3]}, "model.options.strides: expected 6 whole numbers"),
        ({"strides": [3, 1, 2, 2, 2, 2]}, "model.options.strides: the first two"),
        ({"scales": [0.5, 0.3, 0.1, 0.7]}, r"model.options.scales: expected 4 positive numbers, ascending"),
        ({"maps": 6}, "images of 96 pixels are too small for 6 maps .* model.options.maps=5"),
    ],
)
def test_options_that_are_not_possible(options: dict[str, object], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        small(**options)
    with pytest.raises(ConfigError, match="nms_threshold"):
        small(nms_threshold=2.0)


def test_the_smallest_image_for_so_many_maps_still_runs() -> None:
    refused, taken = [], []
    with torch.device("meta"):
        bare = small(size=1200, maps=6)
        for size in range(248, 272, 8):
            try:
                taken.append(small(size=size, maps=6).image_size[0])
            except ModelError:
                refused.append(size)
        assert len(bare(torch.empty(1, 3, taken[0], taken[0])).levels) == 6
        with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
            bare(torch.empty(1, 3, refused[-1], refused[-1]))


def test_a_checkpoint_as_published_and_one_for_other_classes(tmp_path: Path) -> None:
    options = {"body": "resnet18", "strides": list(FOR_300), "maps": 3}
    weights, path = small(3).state_dict(), tmp_path / "resnet34-ssd1200.pytorch"
    torch.save({"model": {f"module.{key}": value + 0.5 for key, value in weights.items()}}, path)
    config = ModelConfig(name="ssd_resnet34", options=options, weights=str(path))
    model, (example,) = load_model(config, num_classes=3, shape=(3, 96, 96))
    assert torch.equal(model.state_dict()["loc.1.bias"], weights["loc.1.bias"] + 0.5)
    assert example.shape == (1, 3, 96, 96)
    with pytest.raises(ModelError, match=r"weights for another number of classes \(4 instead of 6"):
        load_model(config, num_classes=5, shape=(3, 96, 96))
    other = small(5)
    fresh = other.conf[2].weight.clone()
    load_weights(other, path, new_head=True)
    assert torch.equal(other.conf[2].weight, fresh)
    assert torch.equal(other.loc[1].bias, weights["loc.1.bias"] + 0.5)


def test_what_is_exported_is_the_seeds_part() -> None:
    """Softmax scores, and boxes that are not decoded, from torch.export."""
    model, images = small(), torch.randn(2, 3, 96, 96)
    program = torch.export.export(RawTensors(model), (images,))
    with torch.no_grad():
        scores, boxes = program.module()(images)
        raw = model(images)
    torch.testing.assert_close(boxes, raw.boxes)
    torch.testing.assert_close(scores, raw.logits.softmax(-1))
    assert scores.sum(-1) == pytest.approx(torch.ones(2, scores.shape[1]))
