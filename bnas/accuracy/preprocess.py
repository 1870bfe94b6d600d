"""From a file to what a network is given: the accuracy checker's readers, and its steps by their names.

Facts of the tool's own: `pillow_imread` gives RGB, `opencv_imread` BGR, and `bgr_to_rgb` and `rgb_to_bgr` both just
reverse whatever order the channels have. So an image read by Pillow is BGR after `bgr_to_rgb`, which a network
with `reverse_input_channels` turns back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ImageOps

from bnas.accuracy.steps import Crop, Normalize, Pixels, Resize, ReverseChannels
from bnas.data.crops import read_rgb
from bnas.errors import ConfigError, did_you_mean
from bnas.plain import from_plain

Step = Callable[[Pixels], Pixels]

RGB, BGR = "RGB", "BGR"

STEPS: dict[str, type[Any]] = {
    "resize": Resize,
    "crop": Crop,
    "bgr_to_rgb": ReverseChannels,
    "rgb_to_bgr": ReverseChannels,
    "normalization": Normalize,
}


def read_steps(entries: Any, where: str) -> tuple[Step, ...]:
    """The steps that a `preprocessing` list asks for, in its order.

    Raises:
        ConfigError: a step or an option that there is none of, or a value that it cannot take.
    """
    if not isinstance(entries, (list, tuple)):
        raise ConfigError(f"{where}: expected a list of steps, each with a type, got {entries!r}")
    steps = []
    for index, entry in enumerate(entries):
        place = f"{where}[{index}]"
        if not isinstance(entry, Mapping) or "type" not in entry:
            raise ConfigError(f"{place}: expected a step with a type, as in {{type: crop, size: 224}}")
        kind = str(entry["type"])
        if kind not in STEPS:
            raise ConfigError(
                f"{place}.type: {kind!r} is not done here{did_you_mean(kind, STEPS)}; prepare the images with it "
                "beforehand, or use the steps that there are"
            )
        options = {key: value for key, value in entry.items() if key != "type"}
        steps.append(from_plain(STEPS[kind], options, place))
    return tuple(steps)


def read_as_rgb(path: Path) -> Pixels:
    """`pillow_imread`: RGB, as stored (a camera's rotation mark is not followed)."""
    return np.asarray(read_rgb(path))


def read_as_bgr(path: Path) -> Pixels:
    """`opencv_imread`: BGR, turned upright as its rotation mark says; decoded by Pillow here."""
    image = read_rgb(path)
    return np.asarray(ImageOps.exif_transpose(image))[..., ::-1]


READERS: dict[str, tuple[Callable[[Path], Pixels], str]] = {
    "pillow_imread": (read_as_rgb, RGB),
    "opencv_imread": (read_as_bgr, BGR),
}


def channel_order(order: str, steps: Sequence[Step], *, reverse: bool = False) -> str:
    """The order of the channels that a network's own first layer gets, from a reader's `order` on."""
    swaps = sum(isinstance(step, ReverseChannels) for step in steps) + reverse
    return order if swaps % 2 == 0 else order[::-1]
