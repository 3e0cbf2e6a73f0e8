"""The arithmetic of libcore/transform.py in plain Python: whole numbers without bound, one division, one rounding."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import pyarrow as pa

from libcore.reference.values import plain
from libcore.schema import ColumnType

RANGE, ZERO, MISSING = 1, 2, 3
Found = tuple[pa.Array, list[tuple[int, int]]]


def rounded(numerator: int, denominator: int, rounding: str) -> int:
    """The whole number that stands for the quotient; the denominator is not 0."""
    negative = (numerator < 0) != (denominator < 0)
    whole, rest = divmod(abs(numerator), abs(denominator))
    twice = 2 * rest
    above = twice > abs(denominator) or (twice == abs(denominator) and (rounding == "half_up" or whole % 2 == 1))
    whole += rounding != "down" and rest != 0 and above
    return -whole if negative else whole


def arithmetic(operation: str, record: pa.RecordBatch, result: ColumnType, rounding: str) -> Found:
    """See libcore.transform.arithmetic."""
    left, right = record.columns
    scales = left.type.scale, right.type.scale
    up = {"multiply": result.scale - sum(scales), "divide": result.scale - scales[0] + scales[1]}

    def number(pair: tuple[int, int]) -> tuple[int, int]:
        a, b = pair
        if operation == "divide":
            return _scaled(a, b, up[operation])
        if operation == "multiply":
            return _scaled(a * b, 1, up[operation])
        most = max(scales)
        a, b = a * 10 ** (most - scales[0]), b * 10 ** (most - scales[1])
        return _scaled(a + b if operation == "add" else a - b, 1, result.scale - most)

    pairs = [None if None in pair else pair for pair in zip(plain(left), plain(right), strict=True)]
    return _made(pairs, number, result, rounding)


def affine(record: pa.RecordBatch, triples: Sequence[tuple[int, int, int]], result: ColumnType, rounding: str) -> Found:
    """See libcore.transform.affine; triples are (a, b, c) of (a * x + b) / c in the types' last digits."""

    def number(pair: tuple[int, int | None]) -> tuple[int, int] | None:
        x, chosen = pair
        if chosen is None or chosen < 0:
            return None
        a, b, c = triples[chosen]
        return a * x + b, c

    pairs = [None if pair[0] is None else pair for pair in zip(*map(plain, record.columns), strict=True)]
    return _made(pairs, number, result, rounding)


def factored(
    column: pa.Array, factors: Sequence[tuple[Fraction, Fraction] | None], result: ColumnType, rounding: str
) -> Found:
    """value * multiplier + addend, with factors of its own for each row; None: the row is MISSING."""
    unit, power = 10**column.type.scale, 10**result.scale

    def number(pair: tuple[int, tuple[Fraction, Fraction] | None]) -> tuple[int, int] | None:
        value, found = pair
        if found is None:
            return None
        exact = (Fraction(value, unit) * found[0] + found[1]) * power
        return exact.numerator, exact.denominator

    pairs = [None if pair[0] is None else pair for pair in zip(plain(column), factors, strict=True)]
    return _made(pairs, number, result, rounding)


def asof(keys: pa.Int64Array, probes: pa.Int64Array) -> pa.Int32Array:
    """See libcore.transform.asof."""
    held, found = keys.to_pylist(), []
    for probe in probes.to_pylist():
        place = bisect.bisect_right(held, probe) - 1
        found.append(place if place >= 0 and held[place] >> 32 == probe >> 32 else -1)
    return pa.array(found, pa.int32())


def _scaled(numerator: int, denominator: int, power: int) -> tuple[int, int]:
    return (numerator * 10**power, denominator) if power >= 0 else (numerator, denominator * 10**-power)


def _made(
    pairs: Iterable[Any],
    number: Callable[[Any], tuple[int, int] | None],
    result: ColumnType,
    rounding: str,
) -> Found:
    values: list[int | None] = []
    errors = []
    for row, pair in enumerate(pairs):
        quotient = None if pair is None else number(pair)
        code, value = 0, None
        if pair is not None and quotient is None:
            code = MISSING
        elif quotient is not None and quotient[1] == 0:
            code = ZERO
        elif quotient is not None:
            value = rounded(*quotient, rounding)
            if abs(value) >= 10**result.precision:
                code, value = RANGE, None
        values.append(value)
        errors += [(row, code)] if code else []
    width = result.arrow.byte_width
    raw = b"".join((value or 0).to_bytes(width, "little", signed=True) for value in values)
    valid = pa.array([value is not None for value in values], pa.bool_())
    return pa.Array.from_buffers(result.arrow, len(values), [valid.buffers()[1], pa.py_buffer(raw)]), errors
