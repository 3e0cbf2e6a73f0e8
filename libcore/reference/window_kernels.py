"""The kernels of include/libcore/window.h in plain Python: dicts, unbounded integers, exact fractions of floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from libcore.reference.values import plain

if TYPE_CHECKING:
    from libcore.window_kernels import Sum

_WEIGHT, _VALID, _SUM, _FLOAT, _NAN, _PLUS_INFINITY, _MINUS_INFINITY, _MAX = range(1, 9)


def group_rows(record: pa.RecordBatch, indexes: Sequence[int]) -> tuple[pa.Int32Array, pa.Int32Array]:
    """See libcore.window_kernels.group_rows."""
    columns = [[_same(value) for value in plain(record.column(index))] for index in indexes]
    numbers: dict[tuple[Any, ...], int] = {}
    groups, firsts = [], []
    for row in range(record.num_rows):
        key = tuple(column[row] for column in columns)
        if key not in numbers:
            numbers[key] = len(numbers)
            firsts.append(row)
        groups.append(numbers[key])
    return pa.array(groups, pa.int32()), pa.array(firsts, pa.int32())


def _same(value: Any) -> Any:
    """NaN made equal to itself; Python holds -0.0 and 0.0 equal already."""
    return "NaN" if isinstance(value, float) and value != value else value


def sum_rows(
    record: pa.RecordBatch,
    groups: pa.Int32Array,
    group_count: int,
    weight: int,
    sums: Sequence[Sum],
    schema: pa.Schema,
) -> pa.RecordBatch:
    """See libcore.window_kernels.sum_rows; `schema` has the fields of all sums."""
    numbers = groups.to_pylist()
    for row, number in enumerate(numbers):
        if not 0 <= number < group_count:
            raise ValueError(f"row {row}: expected a group of 0 to {group_count - 1}, found {number}")
    weights = [1] * len(numbers) if weight < 0 else record.column(weight).to_pylist()
    arrays: list[pa.Array] = []
    for wanted in sums:
        values = [None] * len(numbers) if wanted.column < 0 else plain(record.column(wanted.column))
        if wanted.kind == _FLOAT:
            lows = [0.0] * len(numbers) if wanted.low < 0 else record.column(wanted.low).to_pylist()
            arrays += _floats(numbers, group_count, weights, values, lows)
        elif wanted.kind == _MAX:
            arrays.append(_maxima(numbers, group_count, values, wanted.fields[0].type))
        else:
            found = [0] * group_count
            for number, times, value in zip(numbers, weights, values, strict=True):
                found[number] += times * _term(wanted.kind, value)
            arrays.append(_integers(found, wanted.fields[0].type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _term(kind: int, value: Any) -> int:
    """What a row with this value adds, for a weight of 1."""
    if kind == _WEIGHT:
        return 1
    if value is None:
        return 0
    if kind == _NAN:
        return int(math.isnan(value))
    if kind in (_PLUS_INFINITY, _MINUS_INFINITY):
        return int(math.isinf(value) and (value > 0) == (kind == _PLUS_INFINITY))
    return 1 if kind == _VALID else value


def _integers(found: list[int], data_type: pa.DataType) -> pa.Array:
    """Integers, or unscaled decimals, wrapped into the width of the type."""
    width = data_type.bit_width
    raw = b"".join((value % (1 << width)).to_bytes(width // 8, "little") for value in found)
    return pa.Array.from_buffers(data_type, len(found), [None, pa.py_buffer(raw)], null_count=0)


def _floats(
    numbers: list[int], group_count: int, weights: list[int], values: list[Any], lows: list[float]
) -> list[pa.Array]:
    """Two-term sums: the error of each addition is kept in the low part (Knuth's two-sum)."""
    high, low = [0.0] * group_count, [0.0] * group_count
    for number, times, value, rest in zip(numbers, weights, values, lows, strict=True):
        if value is None or not math.isfinite(value):
            continue
        term = times * value
        total = high[number] + term
        part = total - high[number]
        low[number] += (high[number] - (total - part)) + (term - part) + times * rest
        high[number] = total
    return [pa.array(high, pa.float64()), pa.array(low, pa.float64())]


def _maxima(numbers: list[int], group_count: int, values: list[int | None], data_type: pa.DataType) -> pa.Array:
    found: list[int | None] = [None] * group_count
    for number, value in zip(numbers, values, strict=True):
        best = found[number]
        if value is not None and (best is None or value > best):
            found[number] = value
    return pa.array(found, pa.int64()).view(data_type)


def averages(sums: pa.Array, counts: pa.Int64Array, data_type: pa.DataType) -> tuple[pa.Array, pa.BooleanArray]:
    """See libcore.window_kernels.averages."""
    shift = data_type.scale - sums.type.scale
    most = 10**data_type.precision - 1
    found: list[int | None] = []
    fits = []
    for total, count in zip(plain(sums), counts.to_pylist(), strict=True):
        quotient = None if count <= 0 else _half_even(total * 10 ** max(shift, 0), count * 10 ** max(-shift, 0))
        good = quotient is None or abs(quotient) <= most
        fits.append(good)
        found.append(quotient if good else None)
    width = data_type.bit_width // 8
    raw = b"".join((value or 0).to_bytes(width, "little", signed=True) for value in found)
    valid = pa.array([value is not None for value in found], pa.bool_())
    column = pa.Array.from_buffers(data_type, len(found), [valid.buffers()[1], pa.py_buffer(raw)])
    return column, pa.array(fits, pa.bool_())


def _half_even(numerator: int, denominator: int) -> int:
    quotient, rest = divmod(abs(numerator), denominator)
    if 2 * rest > denominator or (2 * rest == denominator and quotient % 2):
        quotient += 1
    return -quotient if numerator < 0 else quotient
