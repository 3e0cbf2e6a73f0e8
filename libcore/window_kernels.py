"""The inner loops of windows: number the groups of a batch, sum columns group by group, divide exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.reference import window_kernels as reference


class Kind(IntEnum):
    """What a Sum adds up, group by group; `weight` is 1 or a column of the batch."""

    WEIGHT = 1  # weight -> int64
    VALID = 2  # weight of rows with a value -> int64
    SUM = 3  # weight * value -> int64, decimal128, decimal256 (wraps; the caller's type is wide enough)
    FLOAT = 4  # weight * value of finite floats, as an unevaluated sum of two float64: high, low
    NAN = 5  # weight of rows with NaN -> int64
    PLUS_INFINITY = 6
    MINUS_INFINITY = 7
    MAX = 8  # greatest int64 or timestamp, NULL where all are -> the column's type


@dataclass(frozen=True, slots=True)
class Sum:
    """One sum.

    column: a column number, -1 for WEIGHT. fields: of the result, two for FLOAT, else one. low: for FLOAT over partial
    sums, the column of their low parts.
    """

    kind: Kind
    column: int
    fields: tuple[pa.Field, ...]
    low: int = -1


def group_rows(record: pa.RecordBatch, indexes: Sequence[int]) -> tuple[pa.Int32Array, pa.Int32Array]:
    """Number the groups of equal values in some columns, in the order in which they come.

    Equal is meant as in compact: NULL equals NULL, NaN NaN, -0.0 0.0.

    Args:
        record: any columns that libcore carries; at most 2^30 rows.
        indexes: the columns that name a group.
    Returns: (the group of each row, the first row of each group).
    """
    if IMPLEMENTATION != "c":
        return reference.group_rows(record, indexes)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    rows = record.num_rows
    groups, firsts = pa.allocate_buffer(4 * rows), pa.allocate_buffer(4 * rows)
    count, error = ffi.new("int64_t *"), ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_window_groups(
            array,
            arrow_c.layouts(record.schema),
            record.num_columns,
            list(indexes),
            len(indexes),
            ffi.cast("int32_t *", groups.address),
            ffi.cast("int32_t *", firsts.address),
            count,
            error,
        )
    arrow_c.check(code, error)
    return _int32(groups, rows), _int32(firsts, count[0])


def _int32(buffer: pa.Buffer, rows: int) -> pa.Int32Array:
    return pa.Int32Array.from_buffers(pa.int32(), rows, [None, buffer], null_count=0)


def sum_rows(
    record: pa.RecordBatch, groups: pa.Int32Array, group_count: int, weight: int, sums: Sequence[Sum]
) -> pa.RecordBatch:
    """Sum columns group by group.

    Args:
        record: the rows.
        groups: the group of each row, 0 to group_count - 1, no NULL.
        group_count: rows of the result.
        weight: an int8 or int64 column without NULL, how often each row counts; -1: once.
        sums: what to sum; columns of SUM are integers or decimals, of FLOAT, NAN and infinities floats. NULLs are
            passed over.
    Returns: the fields of all sums, in order; only MAX gives NULLs.
    Raises: ValueError for a group that is not there, TypeError for a column that its sum cannot take.
    """
    schema = pa.schema([field for wanted in sums for field in wanted.fields])
    if len(groups) != record.num_rows or groups.null_count or groups.type != pa.int32():
        raise ValueError(f"expected {record.num_rows} int32 groups without NULL, found {len(groups)} {groups.type}")
    if IMPLEMENTATION != "c":
        return reference.sum_rows(record, groups, group_count, weight, sums, schema)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    out, error = ffi.new("struct ArrowArray *"), ffi.new("lc_error *")
    numbers = ffi.cast("int32_t *", groups.buffers()[1].address + 4 * groups.offset) if len(groups) else ffi.NULL
    specs = ffi.new("lc_window_sum[]", [(wanted.kind, wanted.column, wanted.low) for wanted in sums])
    with arrow_c.exported(record) as array:
        code = lib.lc_window_sums(
            array, arrow_c.layouts(record.schema), record.num_columns, numbers, group_count, weight, specs, len(specs),
            arrow_c.layouts(schema), len(schema), out, error,
        )  # fmt: skip
    if code == lib.LC_INVALID:
        raise (ValueError if error.row >= 0 else TypeError)(ffi.string(error.message).decode())
    arrow_c.check(code, error)
    return arrow_c.imported(out, schema)


def averages(sums: pa.Array, counts: pa.Int64Array, data_type: pa.DataType) -> tuple[pa.Array, pa.BooleanArray]:
    """sum / count as decimals, rounded half to even.

    Args:
        sums: decimals without NULL.
        counts: int64 of the same length, no NULL.
        data_type: a decimal of the sums' scale -18 to +18.
    Returns: (quotients, fits): NULL where the count is not above 0, and where the quotient has more digits than
        data_type; only the latter do not fit.
    """
    if IMPLEMENTATION != "c":
        return reference.averages(sums, counts, data_type)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    record = pa.RecordBatch.from_arrays([sums, counts], names=["sum", "count"])
    schema = pa.schema([("quotient", data_type), ("fits", pa.bool_())])
    out, error = ffi.new("struct ArrowArray *"), ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_window_averages(array, arrow_c.layouts(record.schema), arrow_c.layouts(schema), out, error)
    arrow_c.check(code, error)
    found = arrow_c.imported(out, schema)
    return found.column(0), found.column(1)
