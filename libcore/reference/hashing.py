"""The row hash of include/libcore/hash.h in plain Python: the same words, bit for bit."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from libcore.reference.values import plain

_MASK = (1 << 64) - 1
_PRIME_1, _PRIME_2, _PRIME_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_PRIME_4, _PRIME_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_ROW_START, _NULL_WORD, _NAN_WORD = 0x9E3779B97F4A7C15, 0x6E756C6C6E756C6C, 0x7FF8000000000000


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _MASK


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * _PRIME_2) & _MASK, 31) * _PRIME_1 & _MASK


def xxh64(data: Any, seed: int = 0) -> int:
    """XXH64 of bytes, after the specification of xxHash."""
    view = memoryview(data).cast("B")
    size, at = len(view), len(view) - len(view) % 32
    word = (seed + _PRIME_5) & _MASK
    if at:
        lanes = [
            (seed + _PRIME_1 + _PRIME_2) & _MASK,
            (seed + _PRIME_2) & _MASK,
            seed & _MASK,
            (seed - _PRIME_1) & _MASK,
        ]
        for stripe in struct.iter_unpack("<4Q", view[:at]):
            lanes = [_round(lane, part) for lane, part in zip(lanes, stripe, strict=True)]
        word = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK
        for lane in lanes:
            word = ((word ^ _round(0, lane)) * _PRIME_1 + _PRIME_4) & _MASK
    word = (word + size) & _MASK
    while size - at >= 8:
        word = (
            _rotate(word ^ _round(0, int.from_bytes(view[at : at + 8], "little")), 27) * _PRIME_1 + _PRIME_4
        ) & _MASK
        at += 8
    if size - at >= 4:
        part = int.from_bytes(view[at : at + 4], "little") * _PRIME_1 & _MASK
        word = (_rotate(word ^ part, 23) * _PRIME_2 + _PRIME_3) & _MASK
        at += 4
    for byte in view[at:]:
        word = _rotate(word ^ byte * _PRIME_5 & _MASK, 11) * _PRIME_1 & _MASK
    word = (word ^ word >> 33) * _PRIME_2 & _MASK
    word = (word ^ word >> 29) * _PRIME_3 & _MASK
    return word ^ word >> 32


def mix(word: int) -> int:
    """The finishing step between two columns."""
    word = (word ^ word >> 33) * 0xFF51AFD7ED558CCD & _MASK
    word = (word ^ word >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return word ^ word >> 33


def _integer_word(value: int) -> int:
    return value & _MASK


def _float_word(value: float) -> int:
    if value != value:
        return _NAN_WORD
    return struct.unpack("<Q", struct.pack("<d", value + 0.0))[0] if value else 0


def _decimal_word(unscaled: int, scale: int) -> int:
    magnitude = abs(unscaled)
    while magnitude and magnitude % 10 == 0:
        magnitude, scale = magnitude // 10, scale - 1
    if not magnitude:
        scale = 0
    word = mix((scale + 128) * 2 + (unscaled < 0))
    while True:
        word = mix(word ^ magnitude & _MASK)
        magnitude >>= 64
        if not magnitude:
            return word


def _word_of(data_type: pa.DataType) -> Callable[[Any], int]:
    if pa.types.is_decimal(data_type):
        return lambda value: _decimal_word(value, data_type.scale)
    if pa.types.is_floating(data_type):
        return _float_word
    if pa.types.is_string(data_type) or pa.types.is_binary(data_type) or pa.types.is_fixed_size_binary(data_type):
        return xxh64
    return _integer_word


def hash_rows(record: pa.RecordBatch, indexes: Sequence[int]) -> pa.UInt64Array:
    """See libcore.hashing.hash_rows."""
    hashes = [_ROW_START] * record.num_rows
    for index in indexes:
        column = record.column(index)
        word = _word_of(column.type)
        for row, value in enumerate(plain(column)):
            hashes[row] = mix(hashes[row] ^ (_NULL_WORD if value is None else word(value)))
    return pa.array(hashes, pa.uint64())
