from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from bnas.data.draw_subset import draw, idx_gz
from bnas.data.embedded import FOLDER
from bnas.data.idx import read_idx

FULL_SET = os.environ.get("BNAS_FASHION_MNIST")


def test_idx_gz_is_read_back_and_holds_no_time(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    packed = idx_gz(array)
    assert packed[4:8] == b"\0\0\0\0"
    (tmp_path / "a.gz").write_bytes(packed)
    assert np.array_equal(read_idx(tmp_path / "a.gz", axes=3), array)


@pytest.mark.skipif(FULL_SET is None, reason="BNAS_FASHION_MNIST is not set to the full Fashion-MNIST folder")
def test_the_embedded_files_are_drawn_again_bit_for_bit(tmp_path: Path) -> None:
    assert FULL_SET is not None
    draw(Path(FULL_SET), tmp_path)
    drawn = sorted(tmp_path.iterdir())
    assert [path.name for path in drawn] == sorted(path.name for path in FOLDER.glob("*.gz"))
    for path in drawn:  # compared unpacked: another zlib may pack the same bytes in another way
        assert gzip.decompress(path.read_bytes()) == gzip.decompress((FOLDER / path.name).read_bytes())
