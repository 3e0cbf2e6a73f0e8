"""Strict JSON, judged a column at a time: valid, or the code and the byte of the first fault."""

from __future__ import annotations

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c


def validate(values: pa.BinaryArray, *, level: int = 0) -> list[tuple[int, int]]:
    """Judge each value as one JSON document in UTF-8 (RFC 8259).

    Args:
        values: binary; a NULL is valid.
        level: for tests: 0 the fastest code this machine runs, 1 scalar, 2 SSE4.2, 3 AVX2.
    Returns: (0, -1) for a valid value, else (code, position): an ErrorCode (SYNTAX, UTF8 or DEPTH) and a 0-based
        byte. UTF8 comes first over the whole value; SYNTAX is at the first byte that cannot go on, which is the length
        where the text is cut short; DEPTH is at the 65th open bracket.
    """
    if IMPLEMENTATION != "c":
        from libcore.reference import json as reference

        return reference.validate(values)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    record = pa.RecordBatch.from_arrays([values.cast(pa.binary())], names=["value"])
    codes, positions = ffi.new("int32_t[]", len(values) or 1), ffi.new("int64_t[]", len(values) or 1)
    error = ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_json_validate(array, level, codes, positions, error)
    arrow_c.check(code, error)
    return [(codes[i], positions[i]) for i in range(len(values))]
