"""Files of fixed-width records to typed columns, one output for each kind of record: a piece of the file a call.

Values, pieces and restarts are as in libcore.delimited; the rules stand in include/libcore/fixed_width.h.
"""

from __future__ import annotations

from typing import Any

from libcore import IMPLEMENTATION, arrow_c
from libcore.delimited_compile import Cache, Memory, c_state, line_errors, py_state, raw_errors, text_read
from libcore.delimited_types import (
    FixedPlan,
    FixedRead,
    RecordKind,
    TextColumn,
    TextState,
    code_points,
    codec,
    rows_schema,
)
from libcore.errors import ConfigurationError
from libcore.reference import delimited as reference

__all__ = ["FixedPlan", "FixedRead", "FixedReader", "RecordKind", "check_fixed", "read_fixed"]

ROWS_MAX = 1 << 20
_START = TextState()
_BOM = b"\xef\xbb\xbf"
_cache = Cache()


def check_fixed(plan: FixedPlan) -> None:
    """Raise ConfigurationError for a plan that contradicts itself."""
    names = [kind.name for kind in plan.kinds]
    if not names or len(set(names)) < len(names):
        raise ConfigurationError(f"fixed width: expected kinds of different names, found {names}")
    if plan.record_bytes < 0 or plan.skip_lines < 0 or (plan.record_bytes and plan.skip_lines):
        raise ConfigurationError(
            "fixed width: expected record_bytes >= 0, and skip_lines only for records that are lines"
        )
    if not 0 < plan.record_bytes_max < 1 << 30:
        raise ConfigurationError("fixed width: expected record_bytes_max of 1..2^30-1")
    code_points(plan.encoding)
    for kind in plan.kinds:
        columns = [text.column.name for text in kind.columns]
        if len(set(columns)) < len(columns):
            raise ConfigurationError(f"kind {kind.name}: a column name appears twice in {columns}")
        for text in kind.columns:
            text.check()
            if text.offset + text.length > kind.size:
                raise ConfigurationError(
                    f"kind {kind.name}: column {text.column.name} ends at {text.offset + text.length}, "
                    f"behind the record's {kind.size}"
                )


class _Compiled:
    """The C form of a plan."""

    def __init__(self, plan: FixedPlan) -> None:
        check_fixed(plan)
        self.schemas = [rows_schema(kind.columns) for kind in plan.kinds]
        if IMPLEMENTATION != "c":
            return
        self._memory = Memory()
        kinds = self._memory.new("lc_fixed_kind[]", len(plan.kinds))
        for target, kind in zip(kinds, plan.kinds, strict=True):
            marker = kind.marker.encode(codec(plan.encoding))
            target.columns = self._memory.columns(kind.columns, plan.encoding)
            target.column_count, target.width = len(kind.columns), kind.size
            target.marker, target.marker_size = self._memory.bytes(marker), len(marker)
        self.plan = target = self._memory.new("lc_fixed_plan *")
        target.kinds, target.kind_count, target.record_bytes = kinds, len(plan.kinds), plan.record_bytes
        target.record_bytes_max, target.encoding = plan.record_bytes_max, self._memory.encoding(plan.encoding)
        counted = plan.characters and code_points(plan.encoding) is None
        target.characters = (2 if plan.utf16_units else 1) if counted else 0
        target.pad_short, target.ignore_rest = plan.pad_short, plan.ignore_rest
        target.ignore_kinds, target.skip_blank = plan.ignore_kinds, plan.skip_blank


def read_fixed(
    plan: FixedPlan,
    piece: bytes | memoryview,
    state: TextState = _START,
    *,
    final: bool = False,
    rows_max: int = ROWS_MAX,
    level: int = 0,
) -> FixedRead:
    """Read the whole records of a piece of a file; arguments, answer and errors are as of libcore.delimited."""
    view, start = memoryview(piece), 0
    if state == _START and code_points(plan.encoding) is None and plan.record_bytes == 0:
        head = bytes(view[:3])
        if head == _BOM:
            start, state = 3, TextState(offset=3)
        elif len(head) < 3 and _BOM.startswith(head) and not final:
            view = view[:0]
    compiled = _cache.get(plan, IMPLEMENTATION, lambda: _Compiled(plan))
    rest, base = view[start:], state.offset
    if IMPLEMENTATION != "c":
        raw = reference.read_fixed(plan, bytes(rest), state, final, rows_max)
        records, found, consumed, after, ignored = raw.records, raw.errors, raw.consumed, raw.state, raw.ignored
    else:
        records, found, consumed, after, ignored = _call(plan, compiled, rest, state, final, rows_max, level)

    def columns_of(kind: int) -> tuple[TextColumn, ...]:
        return plan.kinds[kind].columns

    names = tuple(kind.name for kind in plan.kinds)
    errors = line_errors(found, rest, base, columns_of, names)
    consumed += start
    kinds = {name: text_read(record, base, [], consumed, after) for name, record in zip(names, records, strict=True)}
    return FixedRead(kinds, errors, consumed, after, ignored)


def _call(
    plan: FixedPlan, compiled: _Compiled, rest: memoryview, state: TextState, final: bool, rows_max: int, level: int
) -> tuple[list[Any], list[reference.RawError], int, TextState, int]:
    ffi, lib = arrow_c.ffi, arrow_c.lib
    out = ffi.new("struct ArrowArray[]", len(plan.kinds))
    read, error = ffi.new("lc_text_read *"), ffi.new("lc_error *")
    before, data = c_state(state, plan.skip_lines), ffi.from_buffer("uint8_t[]", rest)
    code = lib.lc_fixed_read(compiled.plan, data, len(rest), final, rows_max, before, level, out, read, error)
    arrow_c.check(code, error)
    try:
        records = [arrow_c.imported(out + i, schema) for i, schema in enumerate(compiled.schemas)]
        return records, raw_errors(read), read.consumed, py_state(state, read, plan.skip_lines), read.ignored
    finally:
        lib.lc_text_read_free(read)


class FixedReader:
    """Reads a file piece by piece and keeps the half record at a piece's end; see DelimitedReader."""

    def __init__(self, plan: FixedPlan, state: TextState = _START) -> None:
        check_fixed(plan)
        self._plan, self._rest, self.state = plan, b"", state

    def feed(self, piece: bytes, *, final: bool = False, rows_max: int = ROWS_MAX) -> FixedRead:
        """What the kept bytes and this piece give; with rows_max reached, call again with b"" for the rest."""
        whole = self._rest + piece if self._rest else piece
        read = read_fixed(self._plan, whole, self.state, final=final, rows_max=rows_max)
        self._rest, self.state = bytes(memoryview(whole)[read.consumed :]), read.state
        return read

    @property
    def kept_bytes(self) -> int:
        """Bytes that wait for the rest of their record."""
        return len(self._rest)
