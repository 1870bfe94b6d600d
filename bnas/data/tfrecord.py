"""TFRecord files and the `tf.train.Example` in each record, read without TensorFlow.

A record is its length (uint64), a masked CRC-32C of these eight bytes, the bytes, and their masked CRC-32C;
all little-endian (https://www.tensorflow.org/tutorials/load_data/tfrecord). The bytes are a protocol buffer:
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bnas.errors import DataError

Feature = list[bytes] | np.ndarray  # texts and images; float32 or int64

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, reversed (RFC 3720, appendix B.4)
_LANE = 512  # bytes whose checks are computed beside those of the other lanes
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def records(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each record's place in the file (that of its bytes) and its bytes; of these the check is left to `record`.

    Raises:
        DataError: the file cannot be read, is no TFRecord file, or ends in a record.
    """
    try:
        with open(path, "rb") as file:
            number = 0
            while True:
                start = file.tell()
                header = file.read(12)
                if not header:
                    return
                if len(header) < 12 or masked(crc32c(header[:8])) != struct.unpack("<I", header[8:])[0]:
                    raise DataError(f"{path}: no TFRecord file, or damaged at byte {start} (record {number})")
                (length,) = struct.unpack("<Q", header[:8])
                yield start + 12, _exactly(file, length, path, number)
                _exactly(file, 4, path, number)
                number += 1
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def record(path: Path, start: int, length: int) -> bytes:
    """The bytes of one record, checked.

    Raises:
        DataError: the file cannot be read, or the bytes are not those that were written.
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            data = _exactly(file, length, path, start)
            (check,) = struct.unpack("<I", _exactly(file, 4, path, start))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if masked(crc32c(data)) != check:
        raise DataError(
            f"{path}: the record at byte {start} is damaged (its CRC-32C differs): copy the file again"
        )
    return data


def masked(crc: int) -> int:
    """The CRC as TFRecord files hold it: rotated, plus a constant."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """The CRC-32C (Castagnoli) of the bytes.

    Lanes of 512 bytes are gone through side by side, then put together: going over zero bytes is linear.
    """
    if len(data) < 4:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = int(_table()[(crc ^ byte) & 0xFF]) ^ crc >> 8
        return crc ^ 0xFFFFFFFF
    # Zeros before the data change nothing when the CRC starts from 0, as it may with the first bytes inverted.
    lanes = -(-len(data) // _LANE)
    padded = np.zeros(lanes * _LANE, np.uint8)
    padded[-len(data) :] = np.frombuffer(data, np.uint8)
    padded[len(padded) - len(data) :][:4] ^= 0xFF
    crcs = _over(np.zeros(lanes, np.uint32), padded.reshape(lanes, _LANE))
    tables, total = _past_a_lane(), 0
    for crc in crcs.tolist():
        total = (
            tables[0][total & 0xFF] ^ tables[1][total >> 8 & 0xFF] ^ tables[2][total >> 16 & 0xFF]
            ^ tables[3][total >> 24] ^ crc
        )  # fmt: skip
    return total ^ 0xFFFFFFFF


def example(data: bytes) -> dict[str, Feature]:
    """The features of a `tf.train.Example`.

    Raises:
        ValueError: these bytes are none.
    """
    found: dict[str, Feature] = {}
    for features in _of(data, 1):  # Example.features
        for entry in _of(features, 1):  # Features.feature, a map
            parts = dict(_fields(entry))
            key, value = parts.get(1, b""), parts.get(2, b"")
            if not isinstance(key, bytes) or not isinstance(value, bytes):
                raise ValueError("no tf.train.Example")
            found[key.decode()] = _feature(value)
    return found


def _feature(data: bytes) -> Feature:
    kinds = dict(_fields(data))
    if not kinds:
        return []
    ((kind, inner),) = kinds.items()
    if not isinstance(inner, bytes):
        raise ValueError("no tf.train.Feature")
    values = [value for number, value in _fields(inner) if number == 1]
    if kind == 1:
        return [value for value in values if isinstance(value, bytes)]
    numbers: list[np.ndarray] = [np.empty(0, np.float32 if kind == 2 else np.int64)]
    for value in values:  # packed in one, or each on its own
        if kind == 2 and isinstance(value, bytes):
            numbers.append(np.frombuffer(value, "<f4"))
        elif kind == 3:
            own = list(_varints(value)) if isinstance(value, bytes) else [value]
            numbers.append(np.array(own, np.uint64).astype(np.int64))
        else:
            raise ValueError("no tf.train.Feature")
    return np.concatenate(numbers)


def _of(data: bytes, wanted: int) -> Iterator[bytes]:
    for number, value in _fields(data):
        if number == wanted and isinstance(value, bytes):
            yield value


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a message: number, and an integer or bytes (also those of fixed length)."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        if kind == _VARINT:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if kind == _BYTES:
            length, place = _varint(data, place)
        elif kind in (_FIXED32, _FIXED64):
            length = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"no protocol buffer: wire type {kind}")
        if place + length > len(data):
            raise ValueError("no protocol buffer: it ends in a field")
        yield tag >> 3, data[place : place + length]
        place += length


def _varints(data: bytes) -> Iterator[int]:
    place = 0
    while place < len(data):
        value, place = _varint(data, place)
        yield value


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 64:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise ValueError("no protocol buffer: a number has no end")


def _exactly(file: BinaryIO, length: int, path: Path, where: int) -> bytes:
    data = file.read(length)
    if len(data) < length:
        raise DataError(f"{path}: ends in a record ({where}): copy it again")
    return data


def _over(crcs: np.ndarray, data: np.ndarray) -> np.ndarray:
    """CRCs [n] after the bytes [n, length]."""
    table = _table()
    for column in data.T:
        crcs = table[(crcs ^ column) & 0xFF] ^ crcs >> 8
    return crcs


@cache
def _table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ _POLYNOMIAL, table >> 1).astype(np.uint32)
    return table


@cache
def _past_a_lane() -> list[list[int]]:
    """What each of the four bytes of a CRC becomes after a lane of zeros."""
    bytes_ = np.arange(256, dtype=np.uint32)
    zeros = np.zeros((256, _LANE), np.uint8)
    return [_over(bytes_ << np.uint32(8 * place), zeros).tolist() for place in range(4)]
