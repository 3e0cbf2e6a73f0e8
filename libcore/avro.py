"""Avro messages to the rows of a change batch: one call a batch, the work in C.

What fills which encoding, the framing and the precedence of errors stand in include/libcore/avro.h, what is the same as
for JSON in envelope.h.

    writer = AvroSchema('{"type":"record","name":"r","fields":[{"name":"id","type":"long"}]}', id=7)
    plan = AvroPlan(EnvelopePlan(table, (WireColumn(table.columns[0], Encoding.INT),)), writer, flat=True)
    decode_avro(plan, messages).record
"""

from __future__ import annotations

import weakref
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from libcore import IMPLEMENTATION, arrow_c
from libcore.avro_schema import Program, plain_program, resolve
from libcore.avro_types import AvroPlan, AvroSchema, Framing, describe
from libcore.change import Op, op_is
from libcore.decode import CompiledPlan
from libcore.decode_types import Decoded, DecodeState, ErrorCode, RowError, decoded_schema
from libcore.errors import DataError

__all__ = ["AvroPlan", "AvroSchema", "Framing", "decode_avro", "describe", "read_message", "schema_id"]

_STOPS = (None, "schema", "truncate", "unknown", "columns", "key_schema")
_EVENTS = ("", "heartbeat", "transaction", "message", "tombstone", "redelivered")
_FRESH = DecodeState()


class _Compiled:
    """The C form of a plan, with the memory that it points into."""

    def __init__(self, plan: AvroPlan) -> None:
        ffi = arrow_c.ffi
        self._kept: list[Any] = []
        value, key = resolve(plan)
        self._rows = CompiledPlan(plan.rows)
        self.plan = ffi.new("lc_avro_plan *")
        self.plan.rows = self._rows.plan[0]
        self._fill(self.plan.value, value, plan.writer.id)
        if key is not None and plan.key_writer is not None:
            self._fill(self.plan.key, key, plan.key_writer.id)
        self.plan.framing, self.plan.mode = int(plan.framing), plan.flat
        if plan.defaults:
            flags = bytes(wire.column.name in plan.defaults for wire in plan.rows.columns)
            self.plan.defaulted = self._keep(ffi.new("uint8_t[]", flags))

    def _keep(self, memory: Any) -> Any:
        self._kept.append(memory)
        return memory

    def _fill(self, target: Any, program: Program, schema_id: int) -> None:
        ffi = arrow_c.ffi
        nodes = [(int(node.kind), node.count, node.first) for node in program.nodes]
        parts = []
        for part in program.parts:
            name = part.name.encode("utf-8", "surrogatepass")
            text = self._keep(ffi.new("char[]", name))
            parts.append((part.node, part.role, text, len(name)))
        target.nodes = self._keep(ffi.new("lc_avro_node[]", nodes))
        target.parts = self._keep(ffi.new("lc_avro_part[]", parts or 1))
        target.node_count, target.part_count = len(nodes), len(parts)
        target.root, target.id = program.root, schema_id


_compiled: dict[int, _Compiled] = {}  # by identity, as in libcore.decode


def _compile(plan: AvroPlan) -> _Compiled:
    found = _compiled.get(id(plan))
    if found is None:
        found = _compiled[id(plan)] = _Compiled(plan)
        weakref.finalize(plan, _compiled.pop, id(plan), None)
    return found


def decode_avro(
    plan: AvroPlan, messages: pa.RecordBatch, start: int = 0, state: DecodeState = _FRESH, *, level: int = 0
) -> Decoded:
    """Decode messages[start:] of one topic partition into rows; stop before a message that raises a stop.

    Args:
        plan: the columns, their encodings, and the schemas that wrote the messages.
        messages: columns key (binary, nullable), value (binary, nullable), offset int64, timestamp_ms int64.
        start: 0-based index of the first message to decode.
        state: what the former call returned; the default for a partition's first call.
        level: for tests: 0 the fastest code this machine runs, 1 scalar, 2 SSE4.2, 3 AVX2.
    Returns: rows, errors and events; `stop` is "schema" before a value of another schema than the plan's,
        "key_schema" before a message whose key is needed and has another one, "truncate", or None.
    Raises: ConfigurationError for a schema that does not fit the columns, HeadraceError for a plan whose encodings do
        not fill its types, CapacityError where a column's text passes 2^31-1 bytes in one batch, MemoryError.
    """
    if IMPLEMENTATION != "c":
        from libcore.reference import avro as reference

        return with_defaults(plan, reference.decode_avro(plan, messages, start, state))
    ffi, lib = arrow_c.ffi, arrow_c.lib
    compiled = _compile(plan)
    before = ffi.new("lc_envelope_state *")
    ffi.memmove(before.last_position, state.last_position, 32)
    before.redelivered = state.redelivered
    out, error = ffi.new("lc_decoded *"), ffi.new("lc_error *")
    with arrow_c.exported(messages) as array:
        code = lib.lc_avro_decode(compiled.plan, array, start, before, level, out, error)
    arrow_c.check(code, error)
    try:
        return with_defaults(plan, _result(plan, messages, out))
    finally:
        lib.lc_decoded_free(out)


def schema_id(data: bytes, framing: Framing) -> int:
    """The id in front of a body. Raises DataError where there is no frame."""
    if data[:1] != b"\0" or len(data) <= framing:
        raise DataError(
            f"SYNTAX: expected a 0 byte and an id of {int(framing)} bytes, found {data[:9].hex(' ')}", byte_position=0
        )
    return int.from_bytes(data[1 : 1 + framing], "big")


def read_message(schema: AvroSchema, framing: Framing, data: bytes) -> Any:
    """One message in plain Python, for looks and never for rows: records are dictionaries, texts are str.

    Raises: DataError with the byte position where the bytes break, ConfigurationError for a schema that is none.
    """
    from libcore.reference import avro_cells

    return avro_cells.plain_message(plain_program(schema), data, 1 + framing if framing else 0)


def with_defaults(plan: AvroPlan, decoded: Decoded) -> Decoded:
    """The same with the defaults of columns that the writer does not know, in rows that stay."""
    if not plan.defaults or not decoded.record.num_rows:
        return decoded
    sent = resolve(plan)[0].sent
    record, deleted = decoded.record, op_is(decoded.record, Op.DELETE)
    for index, wire in enumerate(plan.rows.columns):
        name = wire.column.name
        if name in plan.defaults and name not in sent:
            field = record.schema.field(index)
            default = pa.scalar(plan.defaults[name], field.type)
            record = record.set_column(index, field, pc.if_else(deleted, record.column(index), default))
    return Decoded(
        record, decoded.rows, decoded.errors, decoded.events, decoded.consumed, decoded.stop, decoded.unknown,
        decoded.state,
    )  # fmt: skip


def _result(plan: AvroPlan, messages: pa.RecordBatch, out: Any) -> Decoded:
    ffi = arrow_c.ffi
    record = arrow_c.imported(ffi.addressof(out, "batch"), decoded_schema(plan.rows, bool(out.has_unset)))
    rows = pa.py_buffer(ffi.buffer(out.rows, out.row_count * 4)[:] if out.row_count else b"")
    errors = []
    for i in range(out.error_count):
        bad = out.errors[i]
        column = None if bad.column < 0 else plan.rows.columns[bad.column]
        value, code = messages.column(1)[bad.message].as_py() or b"", ErrorCode(bad.code)
        errors.append(RowError(bad.message, bad.position, code, describe(code, bad.position, value, column)))
    return Decoded(
        record=record,
        rows=pa.Int32Array.from_buffers(pa.int32(), out.row_count, [None, rows], null_count=0),
        errors=errors,
        events=[(out.events[i].message, _EVENTS[out.events[i].kind]) for i in range(out.event_count)],
        consumed=out.consumed,
        stop=_STOPS[out.stop],
        unknown="",
        state=DecodeState(bytes(ffi.buffer(out.state.last_position, 32)), out.state.redelivered),
    )
