"""A 64-bit hash of rows, the same on every machine and in every version: it decides the slot of a key for life.

The algorithm stands in include/libcore/hash.h; golden vectors in tests/golden/hash.json hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.reference import hashing as reference


def hash_rows(record: pa.RecordBatch, indexes: Sequence[int]) -> pa.UInt64Array:
    """Hash the values of some columns of each row.

    Equal values hash equal: integers of any width, decimals of any scale (1.50 and 1.5), -0.0 and 0.0, all NaNs. NULL
    has a word of its own. Texts hash by their bytes, so a `numeric` column distinguishes "1.50" from "1.5".

    Args:
        record: any columns that libcore carries; NULLs allowed.
        indexes: the key columns, in key order.
    Returns: one word a row, new memory.
    Raises: TypeError for an Arrow type that libcore does not carry, IndexError for a column that is not there.
    """
    if any(not 0 <= index < record.num_columns for index in indexes):
        raise IndexError(f"expected column indexes below {record.num_columns}, found {list(indexes)}")
    if IMPLEMENTATION != "c":
        return reference.hash_rows(record, indexes)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    columns = arrow_c.layouts(record.schema)
    buffer = pa.allocate_buffer(8 * record.num_rows)
    error = ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_hash_rows(
            array,
            columns,
            record.num_columns,
            list(indexes),
            len(indexes),
            ffi.cast("uint64_t *", buffer.address),
            error,
        )
    arrow_c.check(code, error)
    return pa.UInt64Array.from_buffers(pa.uint64(), record.num_rows, [None, buffer], null_count=0)


def xxh64(data: Any, seed: int = 0) -> int:
    """XXH64 of bytes or anything with a contiguous buffer: the checksum of segments."""
    if IMPLEMENTATION != "c":
        return reference.xxh64(data, seed)
    view = arrow_c.ffi.from_buffer("uint8_t[]", data)
    return int(arrow_c.lib.lc_xxh64(view, len(view), seed))
