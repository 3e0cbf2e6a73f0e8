"""Delimited files (RFC 4180 and the dialects of ERP exports) to typed columns: a piece of a file a call, in C.

What a value may look like, and in which order a field is judged, stands in include/libcore/delimited.h.

    state = TextState()
    rest = b""
    for piece in pieces:                                   # DelimitedReader does just this
        read = read_delimited(plan, rest + piece, state)
        rest, state = (rest + piece)[read.consumed:], read.state
    last = read_delimited(plan, rest, state, final=True)

A restart seeks the file to state.offset and goes on with that state; no bytes need to be kept.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.delimited_compile import Cache, Memory, c_state, line_errors, py_state, raw_errors, text_read
from libcore.delimited_types import (
    DelimitedPlan,
    Dialect,
    Kind,
    LineCode,
    LineError,
    TextColumn,
    TextRead,
    TextState,
    Trim,
    code_points,
    rows_schema,
)
from libcore.errors import ConfigurationError, DataError
from libcore.reference import delimited as reference
from libcore.reference.delimited_cells import Fault

__all__ = [
    "DelimitedPlan",
    "DelimitedReader",
    "Dialect",
    "Kind",
    "LineCode",
    "LineError",
    "TextColumn",
    "TextRead",
    "TextState",
    "Trim",
    "check_plan",
    "read_delimited",
]

ROWS_MAX = 1 << 20
_SMALL_BYTES = 1 << 16  # a rest up to this is copied, so that it does not hold a whole piece
_BOM = b"\xef\xbb\xbf"
_START = TextState()
_cache = Cache()


def check_plan(plan: DelimitedPlan) -> None:
    """Raise ConfigurationError for a plan that contradicts itself."""
    plan.dialect.check()
    names = [text.column.name for text in plan.columns]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"delimited: a column name appears twice in {names}")
    for text in plan.columns:
        text.check()
    if not plan.dialect.header and plan.field_count and max(_places(plan), default=0) >= plan.field_count:
        raise ConfigurationError(f"delimited: a column's field_index is not below field_count {plan.field_count}")


def _checked(plan: DelimitedPlan) -> bool:
    check_plan(plan)
    return True


def _places(plan: DelimitedPlan) -> tuple[int, ...]:
    """The fields of the columns in a file without a header."""
    return tuple(i if text.field_index is None else text.field_index for i, text in enumerate(plan.columns))


def _field_count(plan: DelimitedPlan) -> int:
    return max(_places(plan), default=-1) + 1 if plan.field_count is None else plan.field_count


def _indexes(plan: DelimitedPlan, header: tuple[str, ...] | None) -> tuple[int, ...]:
    if header is None:
        return _places(plan)
    names = [name.lower() for name in header] if plan.ignore_case else list(header)
    found = []
    for text in plan.columns:
        wanted = text.source if text.source is not None else text.column.name
        name = wanted.lower() if plan.ignore_case else wanted
        if names.count(name) != 1:
            count = "no" if name not in names else "more than one"
            raise DataError(f"header: expected one field {wanted!r}, found {count} in {list(header)}")
        found.append(names.index(name))
    return tuple(found)


class _Compiled:
    """The C form of a plan whose fields are known."""

    def __init__(self, plan: DelimitedPlan, header: tuple[str, ...] | None) -> None:
        self.indexes = _indexes(plan, header)
        self.fields = _field_count(plan) if header is None else len(header)
        self.schema = rows_schema(plan.columns)
        if IMPLEMENTATION != "c":
            return
        dialect, self._memory = plan.dialect, Memory()
        self.plan = target = self._memory.new("lc_delimited_plan *")
        target.columns = self._memory.columns(plan.columns, dialect.encoding, self.indexes)
        target.column_count, target.fields = len(plan.columns), self.fields
        target.record_bytes_max, target.delimiter = dialect.record_bytes_max, ord(dialect.delimiter)
        target.quote, target.escape, target.comment = (
            ord(sign) if sign else 0 for sign in (dialect.quote, dialect.escape, dialect.comment)
        )
        target.doubled, target.lazy_quotes, target.c_escapes = dialect.doubled, dialect.lazy_quotes, dialect.c_escapes
        target.quoted_nulls, target.skip_blank = dialect.quoted_nulls, dialect.skip_blank
        target.trailing, target.encoding = dialect.trailing_delimiter, self._memory.encoding(dialect.encoding)


def read_delimited(
    plan: DelimitedPlan,
    piece: bytes | memoryview,
    state: TextState = _START,
    *,
    final: bool = False,
    rows_max: int = ROWS_MAX,
    level: int = 0,
) -> TextRead:
    """Read the whole records of a piece of a file.

    Args:
        plan: columns and dialect.
        piece: bytes of the file from state.offset on; at most 2^31-1 are taken at a time by Arrow's offsets.
        state: what the former call gave; the default at a file's begin.
        final: nothing comes behind this piece.
        rows_max: rows after which the call ends, for a bounded batch; the rest is read by the next call.
        level: for tests: 0 the fastest code this machine runs, 1 scalar, 2 SSE4.2, 3 AVX2.
    Returns: rows, errors, and how many bytes were consumed. The answer does not depend on where pieces were cut. A
        piece that ends inside a record consumes up to its begin; one of record_bytes_max + 2 bytes always goes on.
    Raises: ConfigurationError for the plan, DataError where the header lacks or repeats a field or cannot be read,
        CapacityError where a column's text passes 2^31-1 bytes, MemoryError.
    """
    view = memoryview(piece)
    _cache.get(plan, "checked", lambda: _checked(plan))
    start, state = _begin(plan.dialect, view, state, final)
    if start is None or (plan.dialect.header and state.header is None):
        nothing = pa.RecordBatch.from_pylist([], schema=rows_schema(plan.columns))
        return text_read(nothing, 0, [], start or 0, state)
    compiled = _cache.get(plan, (state.header, IMPLEMENTATION), lambda: _Compiled(plan, state.header))
    rest, base = view[start:], state.offset
    if IMPLEMENTATION != "c":
        raw = reference.read_delimited(plan, compiled.indexes, compiled.fields, bytes(rest), state, final, rows_max)
        record, found, consumed, after = raw.records[0], raw.errors, raw.consumed, raw.state
    else:
        record, found, consumed, after = _call(plan, compiled, rest, state, final, rows_max, level)
    errors = line_errors(found, rest, base, lambda kind: plan.columns)
    return text_read(record, base, errors, start + consumed, after)


def _call(
    plan: DelimitedPlan, compiled: _Compiled, rest: memoryview, state: TextState, final: bool, rows_max: int, level: int
) -> tuple[Any, list[reference.RawError], int, TextState]:
    ffi, lib = arrow_c.ffi, arrow_c.lib
    out, read, error = ffi.new("struct ArrowArray *"), ffi.new("lc_text_read *"), ffi.new("lc_error *")
    before = c_state(state, plan.dialect.skip_lines)
    data = ffi.from_buffer("uint8_t[]", rest)
    code = lib.lc_delimited_read(
        compiled.plan, data, len(rest), final, rows_max, before, level, out, read, error
    )  # fmt: skip
    arrow_c.check(code, error)
    try:
        record = arrow_c.imported(out, compiled.schema)
        return record, raw_errors(read), read.consumed, py_state(state, read, plan.dialect.skip_lines)
    finally:
        lib.lc_text_read_free(read)


def _begin(dialect: Dialect, view: memoryview, state: TextState, final: bool) -> tuple[int | None, TextState]:
    """Pass the byte order mark and read the header: (bytes of them, the state behind), or None for more bytes."""
    start = 0
    if state == _START and code_points(dialect.encoding) is None:
        head = bytes(view[:3])
        if len(head) < 3 and _BOM.startswith(head) and not final:
            return None, state
        if head == _BOM:
            start, state = 3, replace(state, offset=3)
    if not dialect.header or state.header is not None:
        return start, state
    most = dialect.record_bytes_max + 2
    while start < len(view):
        data = bytes(view[start : start + most])
        whole = final and start + most >= len(view)
        try:
            names, raw = reference.read_header(dialect, data, state, whole)
        except Fault as fault:
            raise DataError(f"header: {fault.code.name}", byte_position=state.offset + fault.position) from None
        start, state = start + raw.consumed, raw.state
        if names is not None:
            return start, replace(state, header=tuple(names))
        if raw.consumed == 0:
            break
    return start, state


class DelimitedReader:
    """Reads a file piece by piece and keeps the half record at a piece's end.

    A piece is read where it lies. Only behind a half record it is copied, into memory that is used again and again.

    Args:
        plan: columns and dialect.
        state: where a former reader stood; feed it the file's bytes from state.offset on.
    """

    def __init__(self, plan: DelimitedPlan, state: TextState = _START) -> None:
        check_plan(plan)
        self._plan, self.state = plan, state
        self._rest: bytes | memoryview = b""
        self._memory = bytearray()

    def feed(self, piece: bytes, *, final: bool = False, rows_max: int = ROWS_MAX) -> TextRead:
        """What the kept bytes and this piece give; with rows_max reached, call again with b"" for the rest.

        `state` is then the state behind what was given. Raises as read_delimited.
        """
        whole = self._joined(piece)
        read = read_delimited(self._plan, whole, self.state, final=final, rows_max=rows_max)
        rest = whole[read.consumed :]
        self._rest, self.state = bytes(rest) if len(rest) <= _SMALL_BYTES else rest, read.state
        return read

    def _joined(self, piece: bytes) -> memoryview:
        """The kept bytes and the piece, one behind the other."""
        rest = self._rest
        if not rest or not piece:
            return memoryview(piece or rest)
        kept, size = len(rest), len(rest) + len(piece)
        if not isinstance(rest, bytes):  # a view, perhaps into the memory that is written now
            rest = bytes(rest)
        if size > len(self._memory):
            self._memory = bytearray(size + _SMALL_BYTES)
        whole = memoryview(self._memory)[:size]
        whole[:kept], whole[kept:] = rest, piece
        return whole

    @property
    def kept_bytes(self) -> int:
        """Bytes that wait for the rest of their record."""
        return len(self._rest)
