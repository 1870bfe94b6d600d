"""Images to train, search and report on."""

from __future__ import annotations

from bnas.data.checks import check_images
from bnas.data.datasets import DATASETS, load_data
from bnas.data.splits import Batch, DataConfig, Images, ImageSplits, batches, epoch_order

__all__ = [
    "DATASETS",
    "Batch",
    "DataConfig",
    "ImageSplits",
    "Images",
    "batches",
    "check_images",
    "epoch_order",
    "load_data",
]
