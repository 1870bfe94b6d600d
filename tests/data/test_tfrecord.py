"""The reader of TFRecord files against protobuf's own encoder and a CRC computed bit by bit."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tf_examples import Example, crc32c_by_bits, write_records

from bnas.data.tfrecord import crc32c, example, masked, record, records
from bnas.errors import DataError


def test_crc32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert crc32c(bytes([0xFF] * 32)) == 0x62A8AB43
    rng = np.random.default_rng(0)
    for length in (0, 1, 3, 4, 5, 511, 512, 513, 1023, 1025, 3000):
        data = rng.bytes(length)
        assert crc32c(data) == crc32c_by_bits(data), length


def test_masked() -> None:
    """As TensorFlow's crc32c.h unmasks."""
    for crc in (0, 1, 0xFFFFFFFF, 0x12345678):
        rotated = (masked(crc) - 0xA282EAD8) & 0xFFFFFFFF
        assert (rotated >> 17 | rotated << 15) & 0xFFFFFFFF == crc


def test_records_are_found_and_checked(tmp_path: Path) -> None:
    data = [b"", b"a", bytes(range(256)) * 9]
    write_records(tmp_path / "a.record", data)
    found = list(records(tmp_path / "a.record"))
    assert [content for _, content in found] == data
    assert [record(tmp_path / "a.record", start, len(content)) for start, content in found] == data


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.record"
    write_records(path, [b"first", b"second" * 300])
    whole = path.read_bytes()
    (first, _), (second, content) = records(path)
    for place, text in ((0, "damaged at byte 0"), (first + 9, r"damaged at byte 21 \(record 1\)")):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=text):
            list(records(path))
    place = second + 700
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    assert len(list(records(path))) == 2
    with pytest.raises(DataError, match=rf"a.record: the record at byte {second} is damaged"):
        record(path, second, len(content))
    for cut in (5, 14, len(whole) - 2):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"a.record: (ends in a record|no TFRecord file)"):
            list(records(path))
    path.unlink()
    for read in (lambda: list(records(path)), lambda: record(path, 0, 1)):
        with pytest.raises(DataError, match=r"a.record: cannot be read"):
            read()


FEATURES: dict[str, Sequence[Any]] = {
    "bytes": [b"\x00\xff", b""],
    "floats": [0.5, -3.25, 1e30],
    "integers": [0, 1, -1, 2**62, -(2**63), 300],
    "none": [],
    "gr\u00fcn": [7],
}


@pytest.mark.parametrize("packed", [True, False])
def test_features_are_those_that_protobuf_encoded(packed: bool) -> None:
    found = example(Example(FEATURES, packed=packed).SerializeToString())
    assert set(found) == set(FEATURES)
    assert found["bytes"] == FEATURES["bytes"]
    for key, kind in (("floats", np.float32), ("integers", np.int64)):
        value = found[key]
        assert isinstance(value, np.ndarray)
        assert value.dtype == kind
        assert value.tolist() == np.array(FEATURES[key], kind).tolist()
    assert len(found["none"]) == 0


def test_fields_of_other_versions_are_passed_over() -> None:
    data = Example({"a": [1]}, packed=True).SerializeToString()
    others = b"\x10\x05" + b"\x1d" + struct.pack("<f", 1) + b"\x21" + bytes(8) + b"\x2a\x02hi"
    assert example(others + data).keys() == {"a"}


@pytest.mark.parametrize(
    "data", [b"\x0a\x09abc", b"\x0a", b"\x80" * 11, b"\x0b", b"\x0a\x04\x0a\x02\x08\x01"]
)
def test_bytes_that_are_no_example_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="no "):
        example(data)
