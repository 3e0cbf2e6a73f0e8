"""Arrow columns as plain Python values without loss: what the references compute with."""

from __future__ import annotations

import ctypes
import math
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa


def plain(column: pa.Array) -> list[Any]:
    """The values of a column, None for NULL.

    Numbers and bools as they are; dates, times and timestamps as the integer that Arrow stores (days, or the column's
    unit), because Python's own types end at the year 9999; decimals as the unscaled integer; texts and binaries as
    bytes.
    """
    data_type = column.type
    if pa.types.is_decimal(data_type):
        return _unscaled(column)
    if pa.types.is_date32(data_type):
        return column.view(pa.int32()).to_pylist()
    if pa.types.is_time64(data_type) or pa.types.is_timestamp(data_type):
        return column.view(pa.int64()).to_pylist()
    if pa.types.is_string(data_type):
        return column.view(pa.binary()).to_pylist()
    return column.to_pylist()


def _unscaled(column: pa.Array) -> list[int | None]:
    width = column.type.byte_width
    data = memoryview(column.buffers()[1] or b"")[column.offset * width :]
    return [
        int.from_bytes(data[row * width : (row + 1) * width], "little", signed=True) if valid else None
        for row, valid in enumerate(column.is_valid().to_pylist())
    ]


def single_of_text(text: bytes) -> float:
    """The float32 nearest to a number's text, infinite where it is too large.

    By way of the nearest double it would be rounded twice, which is wrong where that double lies midway between two
    floats. So the way leads by the double towards 0, with its last bit set where the text is not exactly that.
    """
    value = float(text)
    if value != 0 and math.isfinite(value) and (exact := Decimal(text.decode())) != Decimal(value):
        if abs(Decimal(value)) > abs(exact):
            value = math.nextafter(value, 0.0)
        (bits,) = struct.unpack("<q", struct.pack("<d", value))
        (value,) = struct.unpack("<d", struct.pack("<q", bits | 1))
    return ctypes.c_float(value).value
