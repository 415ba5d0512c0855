"""TFRecord files and tf.train.Example messages, without TensorFlow or protobuf.

A record is a length (8 bytes), its checksum (4), the message, and a checksum of the message (4). The length's
checksum is verified, which finds truncation and foreign files; that of the message is not, for it would
cost more than decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from forerun.data.tables import need_file
from forerun.types import DataError

_LENGTH = struct.Struct("<QI")
_FOOTER = 4


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli, reflected
        table.append(byte)
    return table


_CRC = _crc_table()


def masked_crc(content: bytes) -> int:
    """The CRC-32C of ``content``, rotated and shifted as TFRecord stores it."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def record_offsets(path: Path) -> np.ndarray:
    """Where each message lies in the file: (N, 2) int64 of offset and length.

    Raises:
        DataError: if the file is missing, empty, truncated or no TFRecord.
    """
    need_file(path, "the data set's metadata lists this shard")
    size, position, found = path.stat().st_size, 0, []
    with path.open("rb") as file:
        while position < size:
            file.seek(position)
            header = file.read(_LENGTH.size)
            length, crc = _LENGTH.unpack(header) if len(header) == _LENGTH.size else (0, -1)
            if masked_crc(header[:8]) != crc or position + _LENGTH.size + length + _FOOTER > size:
                raise DataError(
                    f"{path.name} breaks off after {len(found)} whole records, at byte {position} of "
                    f"{size}: it is truncated or no TFRecord. Copy the shard again ({path})"
                )
            found.append((position + _LENGTH.size, length))
            position += _LENGTH.size + length + _FOOTER
    return np.asarray(found, dtype=np.int64).reshape(-1, 2)


def read_record(path: Path, offset: int, length: int) -> dict[str, Any]:
    """One tf.train.Example by feature name: a list of bytes, float32 (N,), or int64 (N,).

    Raises:
        DataError: if the bytes are no such message.
    """
    with path.open("rb") as file:
        file.seek(offset)
        content = memoryview(file.read(length))
    try:
        return parse_example(content)
    except (IndexError, ValueError, struct.error) as cause:
        raise DataError(
            f"the record at byte {offset} of {path.name} is no tf.train.Example: {cause}. The shard is "
            f"damaged; copy it again ({path})"
        ) from cause


def parse_example(content: memoryview) -> dict[str, Any]:
    """Parse Example { Features { map<string, Feature> } }."""
    values: dict[str, Any] = {}
    for _, features in _fields(content):
        for _, entry in _fields(features):
            parts = dict(_fields(entry))
            values[bytes(parts[1]).decode()] = _feature(parts[2]) if 2 in parts else []
    return values


def _feature(content: memoryview) -> Any:
    """Feature { bytes_list = 1 | float_list = 2 | int64_list = 3 }, lists packed or not."""
    for kind, listed in _fields(content):
        parts = [part for _, part in _fields(listed)]
        if kind == 1:
            return [bytes(part) for part in parts]
        if kind == 2:
            return np.frombuffer(b"".join(parts), dtype="<f4")
        return _varints(parts)
    return []


def _varints(parts: list[Any]) -> np.ndarray:
    if parts and isinstance(parts[0], int):
        return np.asarray(parts, dtype=np.uint64).view(np.int64)
    numbers = []
    for part in parts:
        position = 0
        while position < len(part):
            number, position = _varint(part, position)
            numbers.append(number)
    return np.asarray(numbers, dtype=np.uint64).view(np.int64)


def _fields(content: memoryview) -> Iterator[tuple[int, Any]]:
    """Fields of a message: (number, value); lengths and fixed widths as views, varints as int."""
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(content, position)
            yield number, value
            continue
        if wire == 2:
            width, position = _varint(content, position)
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position + width > len(content):
            raise ValueError(f"a field of {width} bytes ends beyond the message")
        yield number, content[position : position + width]
        position += width


def _varint(content: memoryview, position: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, position
        shift += 7
