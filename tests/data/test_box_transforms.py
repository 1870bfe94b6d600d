"""What transforms do to boxes against what they do to the pixels in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from boxed_files import RED, photograph
from PIL import Image

from bnas.data import DataConfig
from bnas.data.box_transforms import (
    BoxTransforms,
    Window,
    iou_cropped,
    mirrored,
    recoloured,
    scale_jittered,
    shown,
    zoomed_out,
)
from bnas.detection import Boxes
from bnas.errors import ConfigError

SIZE = 120


def boxes_of(
    corners: Sequence[Sequence[float]], width: int, height: int, crowd: Sequence[bool] = ()
) -> Boxes:
    boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)
    n = len(boxes)
    return Boxes(
        boxes=boxes / torch.tensor([width, height, width, height]),
        labels=torch.arange(n),
        crowd=torch.tensor(list(crowd) or [False] * n, dtype=torch.bool),
        areas=(boxes[:, 2:] - boxes[:, :2]).prod(1),
        width=width,
        height=height,
        number=3,
    )


def red_box(image: Image.Image) -> list[int]:
    """x1, y1, x2, y2 of what is red."""
    pixels = np.asarray(image).astype(int)
    rows, columns = np.nonzero((pixels[..., 0] > 150) & (pixels[..., 1] < 80) & (pixels[..., 2] < 80))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    "steps", [(), ("zoom_out",), ("scale_jitter",), ("iou_crop",), ("iou_crop", "zoom_out")]
)
def test_boxes_stay_where_the_pixels_are(steps: tuple[str, ...]) -> None:
    """The one box left, if any, is the one that the red pixels have, within a pixel of blur."""
    image = photograph(90, 60, [(30, 20, 24, 25)])
    given = boxes_of([[30, 20, 54, 45]], 90, 60)
    seen = set()
    for seed in range(40):
        moved, boxes = BoxTransforms(steps=steps)(image, given, SIZE, np.random.default_rng(seed))
        assert moved.size == (SIZE, SIZE)
        assert (boxes.width, boxes.height, boxes.number) == (90, 60, 3)
        for box, area in zip(boxes.boxes, boxes.areas, strict=True):
            found = torch.tensor(red_box(moved))
            assert (box * SIZE - found).abs().max() < 2.0, (seed, box * SIZE, found)
            shares = (box[2:] - box[:2]).prod()
            assert float(area) == pytest.approx(float(shares) * 90 * 60, rel=1e-3)
            seen.add(tuple(found.tolist()))
    assert len(seen) >= (2 if steps == () else 15)  # whole and mirrored, at least


def test_a_window_beside_the_image_shows_none_of_it() -> None:
    """Zoomed out and then scaled up it may be anywhere on the canvas."""
    image, given = photograph(90, 60, [(30, 20, 24, 25)]), boxes_of([[30, 20, 54, 45]], 90, 60, [True])
    for window in (Window(95, 0, 40, 40), Window(0, -50, 40, 50)):
        moved, boxes = shown(image, given, window, SIZE)
        assert (moved.size, moved.getcolors(1)) == ((SIZE, SIZE), [(SIZE * SIZE, (124, 116, 104))])
        assert (len(boxes), boxes.width, boxes.areas.shape) == (0, 90, (0,))
    both, blank = BoxTransforms(steps=("zoom_out", "scale_jitter"), flip=False), 0
    for seed in range(300):
        moved, boxes = both(image, given, SIZE, np.random.default_rng(seed))
        blank += moved.getcolors(1) is not None
        assert len(boxes) <= (moved.getcolors(1) is None)
    assert blank  # it was among these


def test_the_same_seed_gives_the_same_image() -> None:
    image, boxes = photograph(50, 50, [(10, 10, 20, 20)]), boxes_of([[10, 10, 30, 30]], 50, 50)
    every = BoxTransforms(steps=("photometric", "iou_crop", "zoom_out", "scale_jitter"))
    first, second, other = (every(image, boxes, 40, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert first[0].tobytes() == second[0].tobytes() != other[0].tobytes()
    assert torch.equal(first[1].boxes, second[1].boxes)


def test_a_window_keeps_boxes_by_their_centres_and_crowds_by_their_area() -> None:
    corners = [[0, 0, 30, 40], [10, 10, 60, 60], [45, 45, 55, 55], [0, 0, 30, 60], [0, 0, 20, 20]]
    boxes = boxes_of(corners, 100, 100, crowd=(False, False, False, True, True))
    image = photograph(100, 100)
    _, kept = shown(image, boxes, Window(20, 20, 40, 40), 80)
    assert kept.labels.tolist() == [1, 2, 3]  # the last crowd ends where the window begins
    expected = torch.tensor([[0, 0, 1, 1], [25 / 40, 25 / 40, 35 / 40, 35 / 40], [0, 0, 0.25, 1]])
    torch.testing.assert_close(kept.boxes, expected)
    torch.testing.assert_close(kept.areas, torch.tensor([10000.0, 625, 2500]))


def test_the_whole_image_is_resized_without_keeping_its_ratio() -> None:
    image, boxes = photograph(90, 60), boxes_of([[9, 6, 18, 12]], 90, 60)
    small, same = shown(image, boxes, Window(0, 0, 90, 60), 30)
    assert small.tobytes() == image.resize((30, 30), Image.Resampling.BILINEAR).tobytes()
    assert same is boxes


def test_what_a_window_shows_beyond_the_image_has_the_mean_colour() -> None:
    wide, _ = shown(photograph(20, 20), boxes_of([], 20, 20), Window(-20, 0, 40, 20), 40)
    pixels = np.asarray(wide)
    assert (pixels[:, :20] == (124, 116, 104)).all()
    assert pixels[:, 20:, 0].max() < 61


def test_mirror() -> None:
    image = photograph(50, 40, [(5, 10, 10, 20)])
    moved, boxes = mirrored(image, boxes_of([[5, 10, 15, 30]], 50, 40))
    assert moved.getpixel((40, 15)) == RED
    torch.testing.assert_close(boxes.boxes, torch.tensor([[0.7, 0.25, 0.9, 0.75]]))
    off = BoxTransforms(flip=False)
    assert all(off(image, boxes, 40, np.random.default_rng(i))[1] is boxes for i in range(8))


def test_zoom_out_and_scale_jitter_choose_windows_of_their_ranges() -> None:
    whole = Window(0, 0, 100, 50)
    zoomed = [zoomed_out(whole, np.random.default_rng(i)) for i in range(200)]
    assert 70 < sum(window == whole for window in zoomed) < 130
    for left, top, width, height in zoomed:
        assert left <= 0 <= left + width - 100
        assert top <= 0 <= top + height - 50
        assert width / height == pytest.approx(2, rel=0.03)
    assert 380 < max(window.width for window in zoomed) <= 400
    jittered = [scale_jittered(whole, np.random.default_rng(i)) for i in range(200)]
    widths = [window.width for window in jittered]
    assert 50 <= min(widths) < 55
    assert 185 < max(widths) <= 200
    assert 60 < sum(width < 100 for width in widths) < 140
    for left, _, width, _ in jittered:
        assert min(0, 100 - width) <= left <= max(0, 100 - width)


def test_an_iou_crop_overlaps_a_box_whose_centre_is_in_it() -> None:
    boxes = np.array([[10.0, 10, 40, 50], [60, 20, 90, 40]])
    whole, found = Window(0, 0, 100, 80), set()
    for seed in range(60):
        window = iou_cropped(whole, boxes, np.random.default_rng(seed))
        found.add(window)
        left, top, width, height = window
        assert 0 <= left <= left + width <= 100
        assert 0 <= top <= top + height <= 80
        assert min(width / 100, height / 80) > 0.27
        assert 0.5 <= width / height <= 2
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert ((centres > [left, top]) & (centres < [left + width, top + height])).all(1).any()
    assert len(found) > 30
    assert whole in found
    assert iou_cropped(whole, np.empty((0, 4)), np.random.default_rng(0)) == whole


def test_colours_change_and_places_do_not() -> None:
    image = photograph(30, 30, [(5, 5, 10, 10)])
    changed = [recoloured(image, np.random.default_rng(i)) for i in range(10)]
    assert len({one.tobytes() for one in changed}) > 7
    for one in changed:
        pixels = np.asarray(one).astype(int)
        inside, outside = pixels[5:15, 5:15].reshape(-1, 3), pixels[16:].reshape(-1, 3)
        assert np.ptp(inside, 0).max() < 3  # one colour
        assert np.abs(inside.mean(0) - outside.mean(0)).max() > 40


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"box_augment: no transform 'iou_cut'; did you mean 'iou_crop'"):
        DataConfig(box_augment=("iou_cut",))
    with pytest.raises(ConfigError, match=r"box_augment: no transform 'mosaic'"):
        BoxTransforms(steps=("mosaic",))
