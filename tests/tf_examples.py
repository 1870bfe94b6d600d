"""TFRecord files of `tf.train.Example` written another way than bnas reads them: by Google's protobuf."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _message(packed: bool) -> Any:
    """The message class of tensorflow/core/example/{example,feature}.proto, its lists packed or not."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name=f"example_{packed}.proto", package=f"p{packed}", syntax="proto2"
    )
    lists = {"BytesList": field.TYPE_BYTES, "FloatList": field.TYPE_FLOAT, "Int64List": field.TYPE_INT64}
    for name, kind in lists.items():
        own = file.message_type.add(name=name).field.add(
            name="value", number=1, type=kind, label=field.LABEL_REPEATED
        )
        if kind != field.TYPE_BYTES:
            own.options.packed = packed
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(lists, start=1):
        feature.field.add(
            name=name.lower(), number=number, type=field.TYPE_MESSAGE, type_name=f".p{packed}.{name}",
            label=field.LABEL_OPTIONAL, oneof_index=0,
        )  # fmt: skip
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=field.TYPE_MESSAGE,
        type_name=f".p{packed}.Feature",
        label=field.LABEL_OPTIONAL,
    )
    features.field.add(
        name="feature", number=1, type=field.TYPE_MESSAGE, type_name=f".p{packed}.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )  # fmt: skip
    file.message_type.add(name="Example").field.add(
        name="features", number=1, type=field.TYPE_MESSAGE, type_name=f".p{packed}.Features",
        label=field.LABEL_OPTIONAL,
    )  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"p{packed}.Example"))


_MESSAGES = {packed: _message(packed) for packed in (True, False)}


def Example(features: Mapping[str, Sequence[Any]], *, packed: bool = True) -> Any:
    made = _MESSAGES[packed]()
    for key, values in features.items():
        feature = made.features.feature[key]
        kind = {bytes: "byteslist", float: "floatlist", int: "int64list"}[
            type(values[0]) if values else bytes
        ]
        getattr(feature, kind).value.extend(values)
    return made


def crc32c_by_bits(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def write_records(path: Path, contents: Sequence[bytes]) -> None:
    def check(data: bytes) -> bytes:
        crc = crc32c_by_bits(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32)

    with open(path, "wb") as file:
        for content in contents:
            length = struct.pack("<Q", len(content))
            file.write(length + check(length) + content + check(content))
