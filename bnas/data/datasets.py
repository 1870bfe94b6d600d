"""The table of data sets by name."""

from __future__ import annotations

from collections.abc import Callable

from bnas.data.coco import load_coco
from bnas.data.coco_tfrecord import load_coco_tfrecord
from bnas.data.composed_scenes import load_composed_scenes
from bnas.data.embedded import load_embedded
from bnas.data.folder import load_imagenet
from bnas.data.idx import load_fashion_mnist
from bnas.data.openimages import load_openimages_mlperf
from bnas.data.splits import DataConfig, ImageSplits
from bnas.data.voc import load_voc
from bnas.errors import ConfigError, did_you_mean

DATASETS: dict[str, Callable[[DataConfig], ImageSplits]] = {
    "embedded": load_embedded,
    "fashion_mnist": load_fashion_mnist,
    "imagenet": load_imagenet,
    # with boxes
    "coco": load_coco,
    "coco_tfrecord": load_coco_tfrecord,
    "composed_scenes": load_composed_scenes,
    "openimages_mlperf": load_openimages_mlperf,
    "voc": load_voc,
}


def load_data(config: DataConfig) -> ImageSplits:
    """The three splits that `config` names.

    Raises:
        ConfigError: there is no data set of that name, or it has no use for `config.calibration`.
        DataError: its files are missing or damaged, or hold fewer images than asked for.
    """
    if config.name not in DATASETS:
        raise ConfigError(f"data.name: no data set {config.name!r}{did_you_mean(config.name, DATASETS)}")
    splits = DATASETS[config.name](config)
    if config.calibration is not None and splits.calibration is None:
        raise ConfigError(
            f"data.calibration: data.name={config.name} has no list of images for calibration; leave it out"
        )
    return splits
