"""The images that come with bnas: 12 000 + 2 000 of Fashion-MNIST, see fashion_mnist/ORIGIN.md."""

from __future__ import annotations

from pathlib import Path

from bnas.data.idx import CLASSES, MEAN, STD, read_split
from bnas.data.in_memory import grey_splits
from bnas.data.splits import DataConfig, ImageSplits

FOLDER = Path(__file__).parent / "fashion_mnist"


def load_embedded(config: DataConfig) -> ImageSplits:
    """A stratified subset of Fashion-MNIST; needs no download and no `config.root`.

    Raises:
        DataError: more images are asked for than there are.
    """
    return grey_splits(
        read_split(FOLDER, "train"), read_split(FOLDER, "t10k"), CLASSES, config, mean=MEAN, std=STD
    )
