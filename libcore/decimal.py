"""Exact decimals: text and two's complement bytes to decimal128/256 and back; nothing is ever rounded."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.decode_types import ErrorCode


def from_text(values: pa.StringArray, precision: int, scale: int) -> tuple[pa.Array, list[tuple[int, ErrorCode]]]:
    """Read decimals from text: an optional sign, digits with an optional point, an optional exponent.

    Args:
        values: utf8, NULLs allowed.
        precision: 1..76; up to 38 gives decimal128, above decimal256.
        scale: 0..precision.
    Returns: the decimals, NULL where the text is NULL or bad; and (row, code) of the bad ones: TYPE (no number), SCALE
        (a digit other than 0 beyond the scale), RANGE (more digits than the precision, NaN, an infinity).
    """
    if IMPLEMENTATION != "c":
        from libcore.reference import decimal as reference

        return reference.from_text(values, precision, scale)

    def call(array: Any, out: Any, codes: Any, error: Any) -> int:
        return int(arrow_c.lib.lc_decimal_read_text(array, precision, scale, out, codes, error))

    return _read(values.cast(pa.binary()), precision, scale, call)


def from_bytes(
    values: pa.BinaryArray, wire_scale: int, precision: int, scale: int
) -> tuple[pa.Array, list[tuple[int, ErrorCode]]]:
    """Read decimals from big-endian two's complement integers that stand at `wire_scale`; the rest as in from_text."""
    if IMPLEMENTATION != "c":
        from libcore.reference import decimal as reference

        return reference.from_bytes(values, wire_scale, precision, scale)

    def call(array: Any, out: Any, codes: Any, error: Any) -> int:
        return int(arrow_c.lib.lc_decimal_read_bytes(array, wire_scale, precision, scale, out, codes, error))

    return _read(values, precision, scale, call)


def to_text(values: pa.Array) -> pa.StringArray:
    """The text of decimals with exactly `scale` fraction digits ("-1.50"); NULL stays NULL."""
    if IMPLEMENTATION != "c":
        from libcore.reference import decimal as reference

        return reference.to_text(values)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    record = pa.RecordBatch.from_arrays([values], names=["value"])
    out, error = ffi.new("struct ArrowArray *"), ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_decimal_write_text(array, arrow_c.layouts(record.schema), out, error)
    arrow_c.check(code, error)
    return arrow_c.imported(out, pa.schema([pa.field("value", pa.utf8())])).column(0)


def _read(
    values: pa.BinaryArray, precision: int, scale: int, call: Any
) -> tuple[pa.Array, list[tuple[int, ErrorCode]]]:
    ffi = arrow_c.ffi
    data_type = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    record = pa.RecordBatch.from_arrays([values], names=["value"])
    out, codes, error = ffi.new("struct ArrowArray *"), ffi.new("int32_t[]", len(values) or 1), ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = call(array, out, codes, error)
    arrow_c.check(code, error)
    decimals = arrow_c.imported(out, pa.schema([pa.field("value", data_type)])).column(0)
    return decimals, [(row, ErrorCode(codes[row])) for row in range(len(values)) if codes[row]]
