"""Exact arithmetic on decimal columns, and look-ups of factors for it: the ground of currencies and units.

Every result is the exact rational number, rounded once to digits said beforehand; what does not fit is an error of its
row. Currencies and units: libcore/transform_rates.py; texts: libcore/transform_text.py.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from libcore import IMPLEMENTATION, arrow_c
from libcore.errors import ConfigurationError
from libcore.reference import transform as reference
from libcore.schema import ColumnType

OPERATIONS = ("add", "subtract", "multiply", "divide")
ROUNDINGS = ("half_even", "half_up", "down")
FACTOR_BITS = 255


class TransformCode(enum.IntEnum):
    """Why a row has no result."""

    RANGE = 1  # more digits than the result's type
    ZERO = 2  # division by zero
    MISSING = 3  # the table has no rate or unit for the row


SENTENCES = {
    TransformCode.RANGE: "expected a result within the digits of its type, found a larger one",
    TransformCode.ZERO: "expected a divisor other than 0, found 0",
    TransformCode.MISSING: "expected a rate or unit in the table, found none for the row",
}


@dataclass(frozen=True)
class Computed:
    """Results, NULL where an input is NULL or the row has an error; and (row, why) of those with one, by row."""

    values: pa.Array
    errors: list[tuple[int, TransformCode]]


def arithmetic(
    operation: str, left: pa.Array, right: pa.Array, result: ColumnType, rounding: str = "half_even"
) -> Computed:
    """Add, subtract, multiply or divide, row by row.

    Args:
        operation: one of OPERATIONS.
        left, right: decimals or integers, as many rows each.
        result: decimal(p,s): its digits.
        rounding: half_even, half_up (ties away from zero) or down (towards zero); of the exact result, once.
    Raises: ConfigurationError for an operation, a rounding or a type that is none; ValueError for other lengths;
        MemoryError.
    """
    place = _place(OPERATIONS, operation, "operation")
    rounded = _place(ROUNDINGS, rounding, "rounding")
    kind = _decimal(result)
    if len(left) != len(right):
        raise ValueError(f"expected as many rows on both sides, found {len(left)} and {len(right)}")
    record = pa.RecordBatch.from_arrays([as_decimal(left), as_decimal(right)], names=["left", "right"])
    if IMPLEMENTATION != "c":
        return _computed(*reference.arithmetic(operation, record, kind, rounding))

    def call(array: Any, columns: Any, out: Any, codes: Any, error: Any) -> int:
        places = (kind.precision, kind.scale)
        return int(arrow_c.lib.lc_decimal_arithmetic(array, columns, place, rounded, *places, out, codes, error))

    return _called(record, kind, call)


def affine(
    values: pa.Array,
    chosen: pa.Int32Array,
    factors: Sequence[tuple[Fraction, Fraction]],
    result: ColumnType,
    rounding: str = "half_even",
) -> Computed:
    """value * multiplier + addend, with a pair of factors chosen for each row.

    Args:
        values: decimals or integers. chosen: index of the row's factors; NULL or below 0: the row is MISSING.
        factors: (multiplier, addend), exact.
        result, rounding: as for arithmetic.
    Raises: ConfigurationError where a factor has too many digits to be computed with, or as arithmetic; MemoryError.
    """
    rounded, kind = _place(ROUNDINGS, rounding, "rounding"), _decimal(result)
    column = as_decimal(values)
    triples = [_triple(multiplier, addend, column.type.scale, kind.scale) for multiplier, addend in factors]
    record = pa.RecordBatch.from_arrays([column, chosen], names=["value", "chosen"])
    if IMPLEMENTATION != "c":
        return _computed(*reference.affine(record, triples, kind, rounding))
    data = b"".join(number.to_bytes(32, "little", signed=True) for triple in triples for number in triple)
    table = arrow_c.ffi.from_buffer("uint8_t[]", data)

    def call(array: Any, columns: Any, out: Any, codes: Any, error: Any) -> int:
        places = (kind.precision, kind.scale)
        return int(
            arrow_c.lib.lc_decimal_affine(array, columns, table, len(triples), rounded, *places, out, codes, error)
        )

    return _called(record, kind, call)


def asof(keys: pa.Int64Array, probes: pa.Int64Array) -> pa.Int32Array:
    """The index of the last key that is not above each probe and is of its group; -1 where there is none.

    Args:
        keys: rising, no NULL: group << 32 | (day + 2^31), see asof_key. probes: the same form, no NULL.
    """
    if keys.null_count or probes.null_count or keys.type != pa.int64() or probes.type != pa.int64():
        raise ValueError(f"expected int64 without NULL, found {keys.type} and {probes.type}")
    if IMPLEMENTATION != "c":
        return reference.asof(keys, probes)
    ffi, found = arrow_c.ffi, pa.allocate_buffer(4 * len(probes))
    held, asked = (
        ffi.cast("int64_t *", (column.buffers()[1].address if len(column) else 0) + 8 * column.offset)
        for column in (keys, probes)
    )
    arrow_c.lib.lc_asof_search(held, len(keys), asked, len(probes), ffi.cast("int32_t *", found.address))
    return pa.Int32Array.from_buffers(pa.int32(), len(probes), [None, found])


def asof_key(group: int, day: int) -> int:
    """The key of a group and a day since 1970."""
    return group << 32 | (day + 2**31)


def as_decimal(column: pa.Array) -> pa.Array:
    """A decimal column as it is, an integer one as decimal. Raises ConfigurationError for any other."""
    if pa.types.is_decimal128(column.type) or pa.types.is_decimal256(column.type):
        return column
    digits = {"int8": 3, "int16": 5, "int32": 10, "int64": 19}
    if str(column.type) not in digits:
        raise ConfigurationError(f"expected a decimal or an integer column, found {column.type}")
    return column.cast(pa.decimal128(digits[str(column.type)], 0))


def _triple(multiplier: Fraction, addend: Fraction, scale: int, result_scale: int) -> tuple[int, int, int]:
    """(a, b, c): the result's last digits are (a * value's last digits + b) / c."""
    times = multiplier * Fraction(10) ** (result_scale - scale)
    plus = addend * Fraction(10) ** result_scale
    divisor = math.lcm(times.denominator, plus.denominator)
    numbers = (int(times * divisor), int(plus * divisor), divisor)
    if any(number.bit_length() >= FACTOR_BITS for number in numbers):
        raise ConfigurationError(f"expected factors of at most 76 digits, found {multiplier} and {addend}")
    return numbers


def _place(known: Sequence[str], name: str, what: str) -> int:
    if name not in known:
        raise ConfigurationError(f"{what}: expected one of {', '.join(known)}, found {name!r}")
    return known.index(name)


def _decimal(kind: ColumnType) -> ColumnType:
    if kind.name != "decimal":
        raise ConfigurationError(f"result: expected decimal(p,s), found {kind}")
    return kind


def _called(record: pa.RecordBatch, kind: ColumnType, call: Callable[..., int]) -> Computed:
    ffi = arrow_c.ffi
    codes, out, error = (
        ffi.new("int32_t[]", record.num_rows or 1),
        ffi.new("struct ArrowArray *"),
        ffi.new("lc_error *"),
    )
    with arrow_c.exported(record) as array:
        code = call(array, arrow_c.layouts(record.schema), out, codes, error)
    arrow_c.check(code, error)
    made = arrow_c.imported(out, pa.schema([("result", kind.arrow)])).column(0)
    return _computed(made, _rows_with(ffi, codes, record.num_rows) if made.null_count else [])


def _rows_with(ffi: Any, codes: Any, rows: int) -> list[tuple[int, int]]:
    """(row, code) of the rows with a code; Python sees only those."""
    column = pa.Array.from_buffers(pa.int32(), rows, [None, pa.py_buffer(ffi.buffer(codes, 4 * rows))])
    found = pc.indices_nonzero(column)
    return list(zip(found.to_pylist(), column.take(found).to_pylist(), strict=True))


def _computed(values: pa.Array, errors: Sequence[tuple[int, int]]) -> Computed:
    return Computed(values, [(row, TransformCode(code)) for row, code in errors])
