"""The table of data sets by name."""

from __future__ import annotations

from collections.abc import Callable

from bnas.data.embedded import load_embedded
from bnas.data.folder import load_imagenet
from bnas.data.idx import load_fashion_mnist
from bnas.data.splits import DataConfig, ImageSplits
from bnas.errors import ConfigError, did_you_mean

DATASETS: dict[str, Callable[[DataConfig], ImageSplits]] = {
    "embedded": load_embedded,
    "fashion_mnist": load_fashion_mnist,
    "imagenet": load_imagenet,
}


def load_data(config: DataConfig) -> ImageSplits:
    """The three splits that `config` names.

    Raises:
        ConfigError: there is no data set of that name.
        DataError: its files are missing or damaged, or hold fewer images than asked for.
    """
    if config.name not in DATASETS:
        raise ConfigError(f"data.name: no data set {config.name!r}{did_you_mean(config.name, DATASETS)}")
    return DATASETS[config.name](config)
