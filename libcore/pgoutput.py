"""PostgreSQL's logical replication messages (pgoutput) to the rows of change batches: one call a batch, the work in C.

What each message gives, where a call stops, the rules of positions and the precedence of errors stand in
include/libcore/pgoutput.h.
"""

from __future__ import annotations

import weakref
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.change import ChangeBatch
from libcore.decode_types import ErrorCode
from libcore.errors import ConfigurationError
from libcore.pgoutput_types import (
    COMMITS,
    FILLS,
    SHARES,
    STOPS,
    TEXTS,
    ChangeError,
    Kind,
    PgoutputDecoded,
    PgoutputPlan,
    PgoutputState,
    RelationPlan,
    Wire,
    decoded_schema,
    describe,
)

__all__ = [
    "ChangeError",
    "Kind",
    "PgoutputDecoded",
    "PgoutputPlan",
    "PgoutputState",
    "RelationPlan",
    "Wire",
    "check_plan",
    "decode_pgoutput",
]

_FRESH = PgoutputState()


def check_plan(plan: PgoutputPlan) -> None:
    """Raise ConfigurationError unless the relations' numbers differ, and each wire column fills a column of a type that
    it may fill, each at most once."""
    if len({relation.oid for relation in plan.relations}) < len(plan.relations):
        raise ConfigurationError(f"relations: expected different oids, found {[r.oid for r in plan.relations]}")
    for relation in plan.relations:
        if relation.table is None:
            continue
        filled = [wire.column for wire in relation.wire if wire.column >= 0]
        if len(set(filled)) < len(filled) or max(filled, default=-1) >= len(relation.table.columns):
            raise ConfigurationError(
                f"table {relation.table.name}: expected columns 0 to {len(relation.table.columns) - 1} each filled at "
                f"most once, found {filled}"
            )
        for wire in relation.wire:
            column = None if wire.column < 0 else relation.table.columns[wire.column]
            if column is not None and column.type.name not in FILLS.get(wire.kind, TEXTS):
                raise ConfigurationError(
                    f"table {relation.table.name}: column {column.name}: {wire.kind.name} does not fill {column.type}"
                )


class _Compiled:
    """The C form of a plan, with the memory that it points into."""

    def __init__(self, plan: PgoutputPlan) -> None:
        ffi = arrow_c.ffi
        check_plan(plan)
        self._kept: list[Any] = []
        relations = self._array("lc_pgoutput_relation[]", len(plan.relations))
        for target, relation in zip(relations, plan.relations, strict=False):
            self._fill(target, relation)
        aborted = self._array("uint32_t[]", sorted(plan.aborted))
        self.plan = ffi.new("lc_pgoutput_plan *")
        self.plan.relations, self.plan.relation_count = relations, len(plan.relations)
        self.plan.aborted, self.plan.aborted_count = aborted, len(plan.aborted)
        self.plan.generation = plan.generation
        self.plan.creates, self.plan.transactions = plan.creates, plan.transactions
        self.plan.streamed = plan.streamed

    def _array(self, c_type: str, values: Any) -> Any:
        memory = arrow_c.ffi.new(c_type, values or 1)
        self._kept.append(memory)
        return memory

    def _fill(self, target: Any, relation: RelationPlan) -> None:
        target.oid = relation.oid
        target.ignored = 2 if relation.refused else relation.table is None
        target.description = self._array("uint8_t[]", relation.description)
        target.description_size = len(relation.description)
        if relation.table is None or relation.refused:
            return
        target.wire = self._array("lc_pgoutput_wire[]", [(int(wire.kind), wire.column) for wire in relation.wire])
        target.wire_count = len(relation.wire)
        columns = []
        for column in relation.table.columns:
            c_type, _, precision, scale = arrow_c.layout(column.type.arrow)
            columns.append((c_type, precision, scale, column.name in relation.table.key))
        target.columns = self._array("lc_pgoutput_column[]", columns)
        target.column_count = len(columns)


_compiled: dict[int, _Compiled] = {}  # by identity: hashing a plan of many relations would cost more than a small batch


def _compile(plan: PgoutputPlan) -> _Compiled:
    found = _compiled.get(id(plan))
    if found is None:
        found = _compiled[id(plan)] = _Compiled(plan)
        weakref.finalize(plan, _compiled.pop, id(plan), None)
    return found


def decode_pgoutput(
    plan: PgoutputPlan, messages: pa.RecordBatch, start: int = 0, state: PgoutputState = _FRESH, *, level: int = 0
) -> PgoutputDecoded:
    """Decode messages[start:] of one slot into rows; stop before a message that raises a stop.

    Args:
        plan: the relations and their columns.
        messages: by pgoutput_types.MESSAGES.
        start: 0-based index of the first message to decode.
        state: what the former call returned; a call may end, and the next begin, inside a transaction.
        level: for tests: 0 the fastest code this machine runs, 1 scalar, 2 SSE4.2, 3 AVX2.
    Returns: rows, errors, transactions; message indexes count from the input's first.
    Raises: ConfigurationError for a plan that does not fit together, CapacityError where a column's text passes
        2^31-1 bytes in one batch, MemoryError.
    """
    if IMPLEMENTATION != "c":
        from libcore.reference import pgoutput as reference

        check_plan(plan)
        return reference.decode_pgoutput(plan, messages, start, state)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    compiled = _compile(plan)
    before = ffi.new("lc_pgoutput_state *")
    ffi.memmove(before.after, state.after, 32)
    before.open, before.xid, before.count = state.open, state.xid, state.count
    before.commit_lsn, before.commit_us, before.lsn = state.commit_lsn, state.commit_us, state.lsn
    so_far = dict(state.changes)
    changes = ffi.new("int64_t[]", [so_far.get(relation.oid, 0) for relation in plan.relations] or 1)
    out, error = ffi.new("lc_pgoutput_decoded *"), ffi.new("lc_error *")
    with arrow_c.exported(messages) as array:
        code = lib.lc_pgoutput_decode(compiled.plan, array, start, before, changes, level, out, error)
    arrow_c.check(code, error)
    try:
        return _result(plan, messages, out, changes, so_far)
    finally:
        lib.lc_pgoutput_free(out)


def _result(
    plan: PgoutputPlan, messages: pa.RecordBatch, out: Any, changes: Any, so_far: dict[int, int]
) -> PgoutputDecoded:
    ffi = arrow_c.ffi
    batches = []
    for i in range(out.row_sets):
        rows = out.rows[i]
        table = plan.relations[rows.relation].table
        assert table is not None, rows.relation
        schema = decoded_schema(table, bool(rows.has_unset), plan.transactions)
        batches.append(ChangeBatch(table, arrow_c.imported(ffi.addressof(rows, "batch"), schema)))
    return PgoutputDecoded(
        batches=batches,
        errors=[_error(plan, messages, out.errors[i]) for i in range(out.error_count)],
        commits=_columns(COMMITS, out.commits, out.commit_count),
        shares=_columns(SHARES, out.shares, out.share_count),
        events=[out.events[i] for i in range(out.event_count)],
        redelivered=out.redelivered,
        consumed=out.consumed,
        stop=STOPS[out.stop],
        state=_state(plan, out.state, changes, so_far),
    )


def _state(plan: PgoutputPlan, state: Any, changes: Any, so_far: dict[int, int]) -> PgoutputState:
    after = bytes(arrow_c.ffi.buffer(state.after, 32))
    if not state.open:
        return PgoutputState(after)
    counts = {relation.oid: changes[i] for i, relation in enumerate(plan.relations) if changes[i]}
    known = {relation.oid for relation in plan.relations}
    counts.update((oid, count) for oid, count in so_far.items() if oid not in known)
    return PgoutputState(
        after, True, state.xid, state.commit_lsn, state.commit_us, state.lsn, state.count,
        tuple(sorted(counts.items())),
    )  # fmt: skip


def _error(plan: PgoutputPlan, messages: pa.RecordBatch, bad: Any) -> ChangeError:
    relation = None if bad.relation < 0 else plan.relations[bad.relation]
    code, payload = ErrorCode(bad.code), messages.column(0)[bad.message].as_py()
    text = describe(code, bad.position, payload, relation, bad.column)
    name = f"{bad.xid}:{bad.commit_lsn}" if bad.commit_lsn or bad.xid else ""
    oid = None if relation is None else relation.oid
    return ChangeError(bad.message, bad.position, code, text, oid, name, bad.number)


def _columns(schema: pa.Schema, structs: Any, count: int) -> pa.RecordBatch:
    """Structs of int64 fields as columns."""
    width = len(schema)
    words = memoryview(arrow_c.ffi.buffer(structs, count * width * 8)[:] if count else b"").cast("q")
    arrays = [
        pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(words[i::width].tobytes())]) for i in range(width)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
