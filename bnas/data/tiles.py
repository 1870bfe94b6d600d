"""Large photographs cut into tiles, whose boxes are cut with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bnas.data.box_table import BoxTable, starts_of
from bnas.data.box_transforms import Window
from bnas.data.boxed_images import StoredScenes, Tile
from bnas.data.splits import DataConfig
from bnas.errors import DataError

_LEAST = 0.5  # share of a box that a tile must show; boxes of which it shows less are crowds: not judged


def tiled(
    scenes: StoredScenes, side: int, step: int, wanted: Callable[[int, Window], bool] = lambda _, __: True
) -> StoredScenes:
    """The photographs as tiles of `side` x `side` pixels (less where a photograph is smaller), one every `step`.

    The last tiles of a row or column end where the photograph does. A box that a tile shows in part is cut
    to it; where less than half of its area is shown it is kept as a crowd, so that finding it, or not, is
    neither right nor wrong. `wanted(photograph, tile)` says which tiles are made.
    """
    sources: list[Tile] = []
    photographs: list[int] = []
    for number, (source, (width, height)) in enumerate(
        zip(scenes.sources, scenes.table.sizes.tolist(), strict=True)
    ):
        for top in _starts(height, side, step):
            for left in _starts(width, side, step):
                part = Window(left, top, min(side, width), min(side, height))
                if wanted(number, part):
                    sources.append(Tile(source, (width, height), part))
                    photographs.append(number)
    whole = scenes.table.take(photographs)
    parts = np.array([source.part for source in sources], np.float64).reshape(-1, 4)
    return StoredScenes(sources=tuple(sources), table=_cut(whole, parts))


def apart(scenes: StoredScenes, config: DataConfig) -> tuple[StoredScenes, StoredScenes]:
    """Training tiles, and `config.val_images` tiles of the photographs' lower ends, of which they show nothing.

    Tiles that overlap see the same objects, so that val images drawn at random would be known from training.

    Raises:
        DataError: no training tile is left.
    """
    side = config.tile or 0
    everything = tiled(scenes, side, side)
    if config.val_images >= len(everything):
        raise DataError(
            f"data.val_images: at most {len(everything) - 1} tiles of {side} pixels in data.name={config.name}, "
            f"got {config.val_images}"
        )
    tiles = [source for source in everything.sources if isinstance(source, Tile)]
    # From the bottom up, as shares of the photographs' heights, so that all give some.
    ends = [(tile.part.top + tile.part.height) / tile.size[1] for tile in tiles]
    starts = [tile.part.top / tile.size[1] for tile in tiles]
    order = sorted(range(len(tiles)), key=lambda i: (-ends[i], -starts[i], i))
    chosen = sorted(order[: config.val_images])
    val = everything.take(chosen)
    lowest: dict[object, list[Window]] = {}
    for i in chosen:
        lowest.setdefault(tiles[i].photograph, []).append(tiles[i].part)

    def free(number: int, part: Window) -> bool:
        return not any(_overlap(part, other) for other in lowest.get(scenes.sources[number], ()))

    train = tiled(scenes, side, config.tile_step or max(side // 2, 1), free)
    if not len(train):
        raise DataError(f"data.val_images={config.val_images}: no tile is left to train on; take fewer")
    return train, val


def _starts(length: int, side: int, step: int) -> list[int]:
    last = max(length - side, 0)
    return [*range(0, last, step), last]


def _overlap(a: Window, b: Window) -> bool:
    return (
        a.left < b.left + b.width
        and b.left < a.left + a.width
        and a.top < b.top + b.height
        and b.top < a.top + a.height
    )


def _cut(whole: BoxTable, parts: np.ndarray) -> BoxTable:
    """The boxes of photographs, one for each of `parts` [n, 4] (left, top, width, height), cut to the parts."""
    image = np.repeat(np.arange(len(whole)), np.diff(whole.starts))
    corners = whole.boxes.astype(np.float64) * whole.sizes[image][:, [0, 1, 0, 1]]
    origin, spans = parts[image][:, [0, 1, 0, 1]], parts[image][:, [2, 3, 2, 3]]
    cut = np.clip(corners - origin, 0, spans)
    before, after = ((c[:, 2:] - c[:, :2]).prod(1) for c in (corners, cut))
    # Less than a pixel a side is a rounding of the photograph's box.
    shown = np.flatnonzero((cut[:, 2:] - cut[:, :2] > 1 - 1e-3).all(1))
    share = after[shown] / before[shown]
    return BoxTable(
        starts=starts_of(image[shown], len(parts)),
        sizes=parts[:, 2:].astype(np.int64),
        boxes=(cut[shown] / spans[shown]).astype(np.float32),
        labels=whole.labels[shown],
        crowd=whole.crowd[shown] | (share < _LEAST - 1e-6),
        areas=(whole.areas[shown] * share).astype(np.float32),
    )
