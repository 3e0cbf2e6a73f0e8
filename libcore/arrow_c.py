"""The gate to C: Arrow arrays out and in by the C Data Interface, column layouts, and error codes as exceptions.

Only faces (libcore/*.py) use this module; it is empty of meaning where the reference serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION
from libcore.errors import CapacityError, CorruptionError, DataError, HeadraceError

__all__ = ["check", "exported", "ffi", "imported", "layout", "layouts", "lib"]

if IMPLEMENTATION == "c":
    from libcore._c import ffi, lib
else:  # pragma: no cover - the faces take the reference before they come here
    ffi = lib = None


def layout(data_type: pa.DataType) -> tuple[int, int, int, int]:
    """(lc_type, width, precision, scale) of an Arrow type. Raises TypeError for a type that libcore does not carry."""
    types = pa.types
    if types.is_decimal128(data_type):
        return (lib.LC_TYPE_DECIMAL128, 0, data_type.precision, data_type.scale)
    if types.is_decimal256(data_type):
        return (lib.LC_TYPE_DECIMAL256, 0, data_type.precision, data_type.scale)
    if types.is_fixed_size_binary(data_type):
        return (lib.LC_TYPE_FIXED, data_type.byte_width, 0, 0)
    simple = {
        "bool": lib.LC_TYPE_BOOL, "int8": lib.LC_TYPE_INT8, "int16": lib.LC_TYPE_INT16, "int32": lib.LC_TYPE_INT32,
        "int64": lib.LC_TYPE_INT64, "float": lib.LC_TYPE_FLOAT32, "double": lib.LC_TYPE_FLOAT64,
        "date32[day]": lib.LC_TYPE_DATE32, "string": lib.LC_TYPE_UTF8, "binary": lib.LC_TYPE_BINARY,
        "uint64": lib.LC_TYPE_INT64,
    }  # fmt: skip
    if str(data_type) in simple:
        return (simple[str(data_type)], 0, 0, 0)
    if types.is_time64(data_type):
        return (lib.LC_TYPE_TIME64, 0, 0, 0)
    if types.is_timestamp(data_type) and data_type.unit in ("us", "ns"):
        return (lib.LC_TYPE_TIMESTAMP, 0, 0, 0)
    raise TypeError(f"libcore carries no {data_type}")


@lru_cache(maxsize=1024)
def layouts(schema: pa.Schema) -> Any:
    """The lc_column array of a schema (cached; never written to)."""
    return ffi.new("lc_column[]", [layout(field.type) for field in schema] or 1)


@contextmanager
def exported(record: pa.RecordBatch) -> Iterator[Any]:
    """A `struct ArrowArray *` over the record's memory, valid inside the block; nothing is copied."""
    array = ffi.new("struct ArrowArray *")
    record._export_to_c(int(ffi.cast("uintptr_t", array)))
    try:
        yield array
    finally:
        if array.release != ffi.NULL:
            array.release(array)


def imported(array: Any, schema: pa.Schema) -> pa.RecordBatch:
    """Take over a struct array that C filled, as a RecordBatch of that schema; nothing is copied."""
    return pa.RecordBatch._import_from_c(int(ffi.cast("uintptr_t", array)), schema)


def check(code: int, error: Any) -> None:
    """Raise what a code means; LC_OK passes."""
    if code == lib.LC_OK:
        return
    message = ffi.string(error.message).decode("utf-8", "replace")
    if code == lib.LC_NO_MEMORY:
        raise MemoryError(message)
    if code == lib.LC_DATA:
        raise DataError(message, row=error.row, byte_position=error.position)
    if code == lib.LC_CAPACITY:
        raise CapacityError(message)
    if code == lib.LC_CORRUPT:
        raise CorruptionError(message)
    raise HeadraceError(f"libcore refused its arguments: {message}")
