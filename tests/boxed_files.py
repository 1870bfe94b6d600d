"""Small data sets with boxes, in files of each kind, for tests: noise with rectangles of one colour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

RED = (250, 10, 10)


def photograph(width: int, height: int, boxes: Sequence[Sequence[int]] = (), seed: int = 0) -> Image.Image:
    """Dark blue noise, with the rectangles (x, y, width, height) in red."""
    pixels = np.random.default_rng(seed).integers(0, 60, (height, width, 3), dtype=np.uint8)
    pixels[..., 2] += 100
    for x, y, w, h in boxes:
        pixels[y : y + h, x : x + w] = RED
    return Image.fromarray(pixels)


def write_coco(
    file: Path,
    folder: Path,
    images: Sequence[tuple[str, int, int, Sequence[Sequence[int]]]],
    categories: dict[int, str],
    **content: Any,
) -> None:
    """Images (name, width, height, boxes) as PNG files in `folder`, and `file`; box k is of the k-th category."""
    folder.mkdir(parents=True, exist_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    ids, annotations = list(categories), []
    for number, (name, width, height, boxes) in enumerate(images):
        photograph(width, height, boxes, seed=number).save(folder / name)
        for k, box in enumerate(boxes):
            annotations.append(
                {
                    "id": len(annotations) + 1, "image_id": 100 + number, "bbox": list(box),
                    "category_id": ids[k % len(ids)], "iscrowd": 0, "area": box[2] * box[3],
                }
            )  # fmt: skip
    made = {
        "images": [
            {"id": 100 + number, "file_name": name, "width": width, "height": height}
            for number, (name, width, height, _) in enumerate(images)
        ],
        "categories": [{"id": i, "name": name} for i, name in categories.items()],
        "annotations": annotations,
    }
    file.write_text(json.dumps(made | content))


def coco_root(root: Path, n: int = 6) -> Path:
    """COCO's layout: n training and 3 val images of 60 x 40 and 40 x 60 pixels, categories 7 and 3."""
    for split, count in (("train2017", n), ("val2017", 3)):
        images = [
            (
                f"{split}_{i}.png",
                *((60, 40) if i % 2 else (40, 60)),
                [(4 + i, 5, 12, 9), (22, 20, 8, 15)][: i % 3],
            )
            for i in range(count)
        ]  # 0, 1 and 2 boxes in turn
        write_coco(
            root / "annotations" / f"instances_{split}.json", root / split, images, {7: "dog", 3: "cat"}
        )
    return root
