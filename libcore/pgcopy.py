"""Rows as PostgreSQL binary COPY bytes, exactly typed; rows that PostgreSQL could not take are named, not sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.pgcopy_types import CopyError, Encoded, Kind, Reason, errors_of, kinds
from libcore.reference import pgcopy as reference
from libcore.schema import ColumnType

__all__ = ["CopyError", "Encoded", "Kind", "Reason", "encode"]

_ERRORS_FIRST = 64  # room for the usual case; the call is repeated with more where it does not do


def encode(record: pa.RecordBatch, types: Sequence[ColumnType | None], framed: bool = True) -> Encoded:
    """Encode a batch for COPY table FROM STDIN (FORMAT binary).

    Which PostgreSQL type each column needs stands in include/libcore/pgcopy.h; in short: int16/32/64 as int2/4/8,
    int8 as "char", decimals and `numeric` as numeric, `uuid` as uuid, other texts as text (a jsonb, interval, bit,
    timetz or array column is filled by casting from text in SQL), binary as bytea. INT64_MAX and INT64_MIN
    microseconds, INT32_MAX and INT32_MIN days are infinity.

    Args:
        record: the rows; NULLs allowed.
        types: a ColumnType a column, None to go by the Arrow type alone.
        framed: with COPY's header and trailer; False gives the tuples only, so that batches can follow each other.
    Returns: buffer, rows in it, and the rows left out: a text with a 0 byte, a bad uuid or number, nanoseconds that
        are no whole microseconds, a value out of PostgreSQL's range.
    Raises: TypeError for an Arrow type without a binary form, ValueError where `types` has another length.
    """
    column_kinds = kinds(record.schema, tuple(types))
    if IMPLEMENTATION != "c":
        return reference.encode(record, types, framed)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    columns = arrow_c.layouts(record.schema)
    c_kinds = _c_kinds(column_kinds)
    error = ffi.new("lc_error *")
    result = ffi.new("lc_pg_result *")
    with arrow_c.exported(record) as array:
        bound = lib.lc_pgcopy_bound(array, columns, c_kinds, record.num_columns, error)
        arrow_c.check(lib.LC_INVALID if bound < 0 else lib.LC_OK, error)
        buffer = pa.allocate_buffer(bound)
        out = ffi.cast("uint8_t *", buffer.address)
        capacity = _ERRORS_FIRST
        while True:
            errors = ffi.new("lc_pg_error[]", capacity)
            code = lib.lc_pgcopy(
                array, columns, c_kinds, record.num_columns, framed, out, bound, errors, capacity, result, error
            )
            arrow_c.check(code, error)
            if result.error_count <= capacity:
                break
            capacity = result.error_count
    found = [(errors[i].row, errors[i].column, errors[i].reason) for i in range(result.error_count)]
    return Encoded(buffer.slice(0, result.size), result.rows, errors_of(record, found))


@lru_cache(maxsize=1024)
def _c_kinds(column_kinds: tuple[Kind, ...]) -> Any:
    return arrow_c.ffi.new("int32_t[]", list(column_kinds) or 1)
