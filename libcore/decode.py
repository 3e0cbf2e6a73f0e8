"""Debezium JSON messages to the rows of a change batch: one call a batch, the work in C.

What each encoding accepts, the precedence of errors and the rules of positions stand in include/libcore/envelope.h.
"""

from __future__ import annotations

import weakref
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.decode_types import (
    Decoded,
    DecodeState,
    Encoding,
    EnvelopePlan,
    ErrorCode,
    RowError,
    WireColumn,
    decoded_schema,
)
from libcore.errors import ConfigurationError
from libcore.reference.cells import unsent_literal
from libcore.schema import ColumnType

__all__ = [
    "DecodeState",
    "Decoded",
    "Encoding",
    "EnvelopePlan",
    "ErrorCode",
    "RowError",
    "WireColumn",
    "check_plan",
    "decode_envelopes",
    "describe",
]

_POSITIONS = {"none": 0, "postgresql": 1, "oracle": 2, "sqlserver": 3}
_STOPS = (None, "schema", "truncate", "unknown", "columns")
_EVENTS = ("", "heartbeat", "transaction", "message", "tombstone", "redelivered")
_FRESH = DecodeState()
_NANOSECONDS = ("time_ns", "timestamp_ns")

_REASONS = {
    ErrorCode.SYNTAX: "not valid JSON",
    ErrorCode.UTF8: "not valid UTF-8",
    ErrorCode.DEPTH: "expected at most 64 nested brackets",
    ErrorCode.DUPLICATE: "a field stands there for the second time",
    ErrorCode.TYPE: "the value is of the wrong kind",
    ErrorCode.RANGE: "the value is out of range",
    ErrorCode.SCALE: "the value has more fraction digits than the column keeps",
    ErrorCode.SURROGATE: "a lone surrogate is no text",
    ErrorCode.KEY: "neither the row nor the message's key gives every key column a value",
    ErrorCode.OP: "expected op c, r, u, d, t or m, a heartbeat or a transaction mark",
    ErrorCode.BEFORE: "a table without a key needs the whole row in before (replica identity full)",
    ErrorCode.BASE64: "not valid base64",
    ErrorCode.ARRAY: "an array of more than one dimension is not carried",
}


def describe(code: ErrorCode, position: int, value: bytes, column: WireColumn | None) -> str:
    """One sentence for a person: where, what was expected, the bytes found."""
    where = ""
    if column is not None:
        where = f"column {column.column.name} ({column.column.type} from {column.encoding.name}): "
    if code in (ErrorCode.KEY, ErrorCode.OP, ErrorCode.BEFORE):
        return f"{where}{_REASONS[code]}"
    found = value[position : position + 40].decode("utf-8", "backslashreplace")
    return f"{where}{_REASONS[code]}; found {found!r} at byte {position} of {len(value)}"


def check_plan(plan: EnvelopePlan) -> None:
    """Raise ConfigurationError unless the plan's columns are the table's, one for one, arrays (and they alone) have
    an element's encoding, the kind of position is known, and the carried columns are columns, each once."""
    name = plan.table.name
    if tuple(wire.column for wire in plan.columns) != plan.table.columns:
        raise ConfigurationError(f"table {name}: the plan's columns are not those of the table, in their order")
    if lacking := [wire.column.name for wire in plan.columns if (wire.encoding == Encoding.ARRAY) != bool(wire.item)]:
        raise ConfigurationError(f"table {name}: column {lacking[0]}: ARRAY, and it alone, has an element's encoding")
    if plan.position not in _POSITIONS:
        raise ConfigurationError(f"table {name}: position {plan.position!r}: expected one of {', '.join(_POSITIONS)}")
    names = [wire.column.name for wire in plan.columns]
    if plan.carried is not None and (set(plan.carried) - set(names) or len(set(plan.carried)) < len(plan.carried)):
        raise ConfigurationError(f"table {name}: carried {list(plan.carried)}: expected columns of {names}, each once")


class CompiledPlan:
    """The C form of a plan, with the memory that it points into."""

    def __init__(self, plan: EnvelopePlan) -> None:
        ffi = arrow_c.ffi
        self._kept: list[Any] = []
        check_plan(plan)
        placeholder = plan.placeholder.encode()
        columns = ffi.new("lc_wire_column[]", max(1, len(plan.columns)))
        for target, wire in zip(columns, plan.columns, strict=False):
            self._fill(target, wire, wire.column.name in plan.table.key, placeholder)
        self.plan = ffi.new("lc_envelope_plan *")
        self.plan.columns, self.plan.column_count = columns, len(plan.columns)
        self.plan.position, self.plan.generation = _POSITIONS[plan.position], plan.generation
        self.plan.stop_on_unknown = plan.stop_on_unknown
        self.plan.creates = plan.creates
        self.plan.transactions = plan.transactions
        if plan.schema_bytes is not None:
            self.plan.schema, self.plan.schema_size = self._bytes(plan.schema_bytes), len(plan.schema_bytes)
        self.plan.placeholder, self.plan.placeholder_size = self._bytes(placeholder), len(placeholder)
        self._kept.append(columns)
        if plan.carried is not None:
            names = [wire.column.name for wire in plan.columns]
            carried = ffi.new("int32_t[]", [names.index(name) for name in plan.carried] or 1)
            self.plan.carried, self.plan.carried_count = carried, len(plan.carried)
            self._kept.append(carried)

    def _bytes(self, data: bytes) -> Any:
        memory = arrow_c.ffi.new("uint8_t[]", data or b"\0")
        self._kept.append(memory)
        return memory

    def _fill(self, target: Any, wire: WireColumn, is_key: bool, placeholder: bytes) -> None:
        ffi, column_type = arrow_c.ffi, wire.column.type
        name = wire.column.name.encode()
        target.name, target.name_size = ffi.cast("const char *", self._bytes(name)), len(name)
        target.is_key, target.encoding = is_key, int(wire.encoding)
        target.type, _, target.precision, target.scale = arrow_c.layout(column_type.arrow)
        if _is_clock(column_type):
            target.scale = 9 if column_type.name in _NANOSECONDS else 6
        target.wire_scale, target.bit_length = wire.wire_scale, wire.bit_length
        if wire.item is not None:
            item = ffi.new("lc_wire_column *")
            self._kept.append(item)
            self._fill(item, wire.item, False, placeholder)
            target.item = item
            unsent = unsent_literal(wire.item, placeholder) or b""
            target.unsent, target.unsent_size = self._bytes(unsent), len(unsent)


def _is_clock(column_type: ColumnType) -> bool:
    return pa.types.is_timestamp(column_type.arrow) or pa.types.is_time64(column_type.arrow)


# by identity: hashing a plan of many columns would cost more than a small batch
_compiled: dict[int, CompiledPlan] = {}


def _compile(plan: EnvelopePlan) -> CompiledPlan:
    found = _compiled.get(id(plan))
    if found is None:
        found = _compiled[id(plan)] = CompiledPlan(plan)
        weakref.finalize(plan, _compiled.pop, id(plan), None)
    return found


def decode_envelopes(
    plan: EnvelopePlan, messages: pa.RecordBatch, start: int = 0, state: DecodeState = _FRESH, *, level: int = 0
) -> Decoded:
    """Decode messages[start:] of one topic partition into rows; stop before a message that raises a stop.

    Args:
        plan: the columns and their encodings.
        messages: columns key (binary, nullable), value (binary, nullable), offset int64, timestamp_ms int64.
        start: 0-based index of the first message to decode.
        state: what the former call returned; the default for a partition's first call.
        level: for tests: 0 the fastest code this machine runs, 1 scalar, 2 SSE4.2, 3 AVX2.
    Returns: rows, errors and events; message indexes count from the input's first.
    Raises: HeadraceError for a plan whose encodings do not fill its types, CapacityError where a column's text passes
        2^31-1 bytes in one batch, MemoryError.
    """
    if IMPLEMENTATION != "c":
        from libcore.reference import decode as reference

        check_plan(plan)
        return reference.decode_envelopes(plan, messages, start, state)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    compiled = _compile(plan)
    before = ffi.new("lc_envelope_state *")
    ffi.memmove(before.last_position, state.last_position, 32)
    before.redelivered = state.redelivered
    out, error = ffi.new("lc_decoded *"), ffi.new("lc_error *")
    with arrow_c.exported(messages) as array:
        code = lib.lc_envelope_decode(compiled.plan, array, start, before, level, out, error)
    arrow_c.check(code, error)
    try:
        return _result(plan, messages, out)
    finally:
        lib.lc_decoded_free(out)


def _result(plan: EnvelopePlan, messages: pa.RecordBatch, out: Any) -> Decoded:
    ffi = arrow_c.ffi
    record = arrow_c.imported(ffi.addressof(out, "batch"), decoded_schema(plan, bool(out.has_unset)))
    rows = pa.py_buffer(ffi.buffer(out.rows, out.row_count * 4)[:] if out.row_count else b"")
    errors = []
    for i in range(out.error_count):
        bad = out.errors[i]
        column = None if bad.column < 0 else plan.columns[bad.column]
        value, error_code = messages.column(1)[bad.message].as_py() or b"", ErrorCode(bad.code)
        text = describe(error_code, bad.position, value, column)
        errors.append(RowError(bad.message, bad.position, error_code, text))
    return Decoded(
        record=record,
        rows=pa.Int32Array.from_buffers(pa.int32(), out.row_count, [None, rows], null_count=0),
        errors=errors,
        events=[(out.events[i].message, _EVENTS[out.events[i].kind]) for i in range(out.event_count)],
        consumed=out.consumed,
        stop=_STOPS[out.stop],
        unknown=ffi.buffer(out.unknown, out.unknown_size)[:].decode("utf-8", "replace") if out.unknown_size else "",
        state=DecodeState(bytes(ffi.buffer(out.state.last_position, 32)), out.state.redelivered),
    )
