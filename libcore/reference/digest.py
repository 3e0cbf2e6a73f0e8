"""The row digest of include/libcore/digest.h in plain Python: the same bytes, the same words."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from libcore.reference.hashing import xxh64
from libcore.reference.values import plain

_SECOND_LANE = 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


def digest_rows(record: pa.RecordBatch, indexes: Sequence[int], unset: int, seed: int) -> list[bytes]:
    """See libcore.digest.digest_rows; `indexes` stand in the order of their names, `unset` is a column or -1."""
    bits = [b""] * record.num_rows if unset < 0 else record.column(unset).to_pylist()
    rows = [bytearray() for _ in range(record.num_rows)]
    for index in indexes:
        column = record.column(index)
        encode = _encoder(column.type)
        for row, value in enumerate(plain(column)):
            if unset >= 0 and bits[row][index // 8] >> index % 8 & 1:
                rows[row] += b"\x01"
            else:
                rows[row] += b"\x00" if value is None else encode(value)
    return [
        xxh64(row, seed).to_bytes(8, "little") + xxh64(row, seed ^ _SECOND_LANE).to_bytes(8, "little") for row in rows
    ]


def _number(value: int, scale: int) -> bytes:
    magnitude = abs(value)
    while scale and magnitude and magnitude % 10 == 0:
        magnitude, scale = magnitude // 10, scale - 1
    limbs = (magnitude.bit_length() + 63) // 64
    head = bytes([4, 128 * (value < 0) + limbs, scale if magnitude else 0])
    return head + magnitude.to_bytes(8 * limbs, "little")


def _float(value: float) -> bytes:
    if value != value:
        return b"\x05" + (0x7FF8000000000000).to_bytes(8, "little")
    return b"\x05" + struct.pack("<d", value if value else 0.0)


def _sized(tag: int) -> Callable[[bytes], bytes]:
    return lambda value: bytes([tag]) + len(value).to_bytes(4, "little") + value


def _timestamp(units: int, zoned: bool) -> Callable[[int], bytes]:
    def encode(value: int) -> bytes:
        seconds, rest = divmod(value, units)
        return bytes([11 if zoned else 10]) + struct.pack("<qi", seconds, rest * (10**9 // units))

    return encode


def _encoder(kind: pa.DataType) -> Callable[[Any], bytes]:
    types = pa.types
    if types.is_boolean(kind):
        return lambda value: b"\x03" if value else b"\x02"
    if types.is_decimal(kind):
        return lambda value: _number(value, kind.scale)
    if types.is_integer(kind):
        return lambda value: _number(value, 0)
    if types.is_floating(kind):
        return _float
    if types.is_date32(kind):
        return lambda value: b"\x08" + struct.pack("<i", value)
    if types.is_time64(kind):
        unit = 1 if kind.unit == "ns" else 1000
        return lambda value: b"\x09" + (value * unit & _WORD).to_bytes(8, "little")
    if types.is_timestamp(kind):
        return _timestamp(10**9 if kind.unit == "ns" else 10**6, kind.tz is not None)
    return _sized(6 if types.is_string(kind) else 7)
