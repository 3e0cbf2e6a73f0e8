"""pgoutput messages to the rows of change batches, one message and one value at a time; the reference of
libcore.pgoutput, and what serves it where there is no C library."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from libcore.change import ChangeBatch, Op, unset_bytes
from libcore.decode_types import ErrorCode
from libcore.pgoutput_types import (
    COMMITS,
    SHARES,
    ChangeError,
    PgoutputDecoded,
    PgoutputPlan,
    PgoutputState,
    RelationPlan,
    decoded_schema,
    describe,
)
from libcore.reference import pgoutput_values as values
from libcore.reference.decimal import NotExact, decimal_array
from libcore.schema import Table

_EPOCH_US = 946684800000000


@dataclass(frozen=True)
class _Cell:
    """A value of a tuple: its form (n, u, t, b), its bytes, and where they stand in the message."""

    form: bytes
    data: bytes
    at: int

    @property
    def is_value(self) -> bool:
        return self.form in (b"t", b"b")


class _Unset:
    """The source did not send this value."""


_UNSET = _Unset()
Row = list[Any]


class _Fault(Exception):
    """The message gives no row."""

    def __init__(self, code: ErrorCode, at: int, wire: int = -1) -> None:
        self.code, self.at, self.wire = code, at, wire


class _Stop(Exception):
    """The call ends before this message."""


class _Broken(Exception):
    """The message does not belong here."""


@dataclass
class _Out:
    state: PgoutputState
    rows: dict[int, list[tuple[Op, bytes, int, str, int, Row]]] = field(default_factory=dict)
    errors: list[ChangeError] = field(default_factory=list)
    commits: list[tuple[int, ...]] = field(default_factory=list)
    shares: list[tuple[int, ...]] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    redelivered: int = 0


def decode_pgoutput(plan: PgoutputPlan, messages: pa.RecordBatch, start: int, state: PgoutputState) -> PgoutputDecoded:
    """See libcore.pgoutput.decode_pgoutput."""
    out = _Out(state)
    by_oid = {relation.oid: (index, relation) for index, relation in enumerate(plan.relations)}
    stop: str | None = None
    consumed = messages.num_rows
    for index in range(start, messages.num_rows):
        payload, lsn = messages.column(0)[index].as_py(), messages.column(1)[index].as_py()
        try:
            _message(plan, by_oid, out, index, payload, lsn)
        except _Stop as stopped:
            stop, consumed = str(stopped), index
        except _Broken:
            stop, consumed = "broken", index
            text = describe(ErrorCode.OP, 0, payload, None, -1)
            name = out.state.transaction if out.state.open else ""
            out.errors.append(ChangeError(index, 0, ErrorCode.OP, text, None, name))
        if stop is not None:
            break
    batches = []
    for relation_index, rows in out.rows.items():
        table = plan.relations[relation_index].table
        assert table is not None
        batches.append(ChangeBatch(table, _record(table, rows, plan.transactions)))
    return PgoutputDecoded(
        batches,
        out.errors,
        _columns(COMMITS, out.commits),
        _columns(SHARES, out.shares),
        out.events,
        out.redelivered,
        consumed,
        stop,
        out.state if out.state.open else PgoutputState(out.state.after),
    )


def _message(
    plan: PgoutputPlan, by_oid: dict[int, tuple[int, RelationPlan]], out: _Out, index: int, payload: bytes, lsn: int
) -> None:
    kind, body = payload[:1], payload[1:]
    if plan.streamed and kind not in (b"S", b"E", b""):
        if len(body) < 4:
            raise _Broken
        aborted, body = int.from_bytes(body[:4], "big") in plan.aborted, body[4:]
        if aborted and kind not in (b"R", b"Y"):
            return
    if kind in (b"I", b"U", b"D"):
        _change(plan, by_oid, out, index, payload, len(payload) - len(body), lsn)
    elif kind == b"B":
        if len(body) != 20 or out.state.open or plan.streamed:
            raise _Broken
        commit_lsn, since_2000, xid = struct.unpack(">QQI", body)
        commit_us = (since_2000 + _EPOCH_US + 2**63) % 2**64 - 2**63
        out.state = out.state.begun(xid, commit_lsn, commit_us)
    elif kind == b"C":
        if len(body) != 25 or not out.state.open or plan.streamed:
            raise _Broken
        _commit(plan, by_oid, out, index, struct.unpack(">q", body[9:17])[0])
    elif kind == b"M":
        _event(out, index, body)
    elif kind == b"R":
        if len(body) < 4:
            raise _Broken
        known = by_oid.get(int.from_bytes(body[:4], "big"))
        if known is None or known[1].description != body:
            raise _Stop("relation")
    elif kind == b"Y":
        raise _Stop("relation")
    elif kind == b"T" and out.state.open:
        raise _Stop("truncate")
    elif kind in (b"S", b"E", b"A", b"c"):
        if not plan.streamed:
            raise _Stop("stream")
        if kind in (b"A", b"c"):
            raise _Broken
    elif kind in (b"b", b"P", b"K", b"r", b"p"):
        raise _Stop("prepared")
    elif kind != b"O":
        raise _Broken


def _commit(
    plan: PgoutputPlan, by_oid: dict[int, tuple[int, RelationPlan]], out: _Out, index: int, end_lsn: int
) -> None:
    state = out.state
    signed = state.commit_lsn - 2**64 if state.commit_lsn >= 2**63 else state.commit_lsn
    if plan.transactions:
        counts = dict(state.changes)
        for place, relation in enumerate(plan.relations):
            if counts.get(relation.oid):
                out.shares.append((len(out.commits), place, counts[relation.oid]))
    out.commits.append((index, state.xid, signed, end_lsn, state.commit_us))
    out.state = state.ended()


def _event(out: _Out, index: int, body: bytes) -> None:
    prefix_end = body.find(b"\0", 9)
    if len(body) < 9 or prefix_end < 0 or len(body) < prefix_end + 5:
        raise _Broken
    if int.from_bytes(body[prefix_end + 1 : prefix_end + 5], "big") != len(body) - prefix_end - 5:
        raise _Broken
    out.events.append(index)


def _change(
    plan: PgoutputPlan,
    by_oid: dict[int, tuple[int, RelationPlan]],
    out: _Out,
    index: int,
    payload: bytes,
    at: int,
    lsn: int,
) -> None:
    if not out.state.open or len(payload) < at + 4:
        raise _Broken
    oid = int.from_bytes(payload[at : at + 4], "big")
    if oid not in by_oid:
        raise _Stop("unknown")
    place, relation = by_oid[oid]
    state = out.state = out.state.counted(lsn).changed(oid)
    if relation.table is None and not relation.refused:
        return
    position = state.position(plan.generation)
    if position <= state.after:
        out.redelivered += 1
        return
    number = dict(state.changes)[oid]
    try:
        if relation.refused:
            raise _Fault(ErrorCode.OP, 0)
        rows = _rows(plan, relation, payload, at + 4)
    except _Fault as fault:
        text = describe(fault.code, fault.at, payload, relation, fault.wire)
        out.errors.append(ChangeError(index, fault.at, fault.code, text, oid, state.transaction, number))
        out.state = replace(state, after=position)
        return
    for op, row in rows:
        out.rows.setdefault(place, []).append((op, position, state.commit_us, state.transaction, number, row))
        out.state = replace(state, after=position)
        position = position[:31] + bytes([position[31] | 1])


# ---- one change ----


def _rows(plan: PgoutputPlan, relation: RelationPlan, payload: bytes, at: int) -> list[tuple[Op, Row]]:
    kind = payload[:1]
    old, old_kind, new = _tuples(relation, payload, at)
    table = relation.table
    assert table is not None
    if not table.key:
        return _keyless_rows(relation, table, kind, old, old_kind, new)
    has_key = old is not None and _has_key(relation, table, old)
    if kind == b"D":
        if not has_key:
            raise _Fault(ErrorCode.KEY, 0)
        assert old is not None
        return [(Op.DELETE, _row(relation, table, old, keys_only=True))]
    assert new is not None
    filled = [
        old[i] if cell.form == b"u" and old is not None and old[i].is_value else cell for i, cell in enumerate(new)
    ]
    upsert = Op.INSERT if kind == b"I" and plan.creates else Op.UPSERT
    former = None
    if kind == b"U" and has_key and _key_bytes_differ(relation, table, old, new):
        assert old is not None
        former = _row(relation, table, old, keys_only=True)
    row = _row(relation, table, filled, keys_only=False)
    if not _has_key(relation, table, filled):
        raise _Fault(ErrorCode.KEY, 0)
    if former is not None and any(_bits(former[i]) != _bits(row[i]) for i in table.key_indexes):
        return [(Op.DELETE, former), (upsert, row)]
    return [(upsert, row)]


def _keyless_rows(
    relation: RelationPlan,
    table: Table,
    kind: bytes,
    old: list[_Cell] | None,
    old_kind: bytes,
    new: list[_Cell] | None,
) -> list[tuple[Op, Row]]:
    if kind != b"I" and old_kind != b"O":
        raise _Fault(ErrorCode.BEFORE, 0)
    known = old if old is not None else new
    assert known is not None
    if any(cell.form == b"u" and wire.column >= 0 for cell, wire in zip(known, relation.wire, strict=True)):
        raise _Fault(ErrorCode.BEFORE, 0)
    rows = []
    if old is not None:
        rows.append((Op.DELETE, _row(relation, table, old, keys_only=False)))
    if new is not None:
        cells = [
            old[i] if cell.form == b"u" and old is not None and old[i].is_value else cell for i, cell in enumerate(new)
        ]
        rows.append((Op.UPSERT, _row(relation, table, cells, keys_only=False)))
    return [(op, [None if cell is _UNSET else cell for cell in row]) for op, row in rows]


def _tuples(relation: RelationPlan, payload: bytes, at: int) -> tuple[list[_Cell] | None, bytes, list[_Cell] | None]:
    """(old tuple, its kind, new tuple). Raises _Fault SYNTAX."""
    old, old_kind, new = None, b"", None
    kind = payload[:1]
    if kind != b"I" and payload[at : at + 1] in (b"K", b"O"):
        old_kind = payload[at : at + 1]
        old, at = _tuple(relation, payload, at + 1)
    if kind != b"D" and payload[at : at + 1] == b"N":
        new, at = _tuple(relation, payload, at + 1)
    if at != len(payload) or (old if kind == b"D" else new) is None:
        raise _Fault(ErrorCode.SYNTAX, at)
    return old, old_kind, new


def _tuple(relation: RelationPlan, payload: bytes, at: int) -> tuple[list[_Cell], int]:
    if len(payload) < at + 2 or int.from_bytes(payload[at : at + 2], "big") != len(relation.wire):
        raise _Fault(ErrorCode.SYNTAX, at)
    at += 2
    cells = []
    for _ in relation.wire:
        form = payload[at : at + 1]
        if form not in (b"n", b"u", b"t", b"b"):
            raise _Fault(ErrorCode.SYNTAX, at)
        at += 1
        if form in (b"n", b"u"):
            cells.append(_Cell(form, b"", at))
            continue
        size = int.from_bytes(payload[at : at + 4], "big")
        if len(payload) < at + 4 or size > len(payload) - at - 4:
            raise _Fault(ErrorCode.SYNTAX, at)
        cells.append(_Cell(form, payload[at + 4 : at + 4 + size], at + 4))
        at += 4 + size
    return cells, at


def _row(relation: RelationPlan, table: Table, cells: list[_Cell], keys_only: bool) -> Row:
    """The table's columns from a tuple; _UNSET for what it has not. Raises _Fault."""
    row: Row = [None if keys_only else _UNSET] * len(table.columns)
    for place, (wire, cell) in enumerate(zip(relation.wire, cells, strict=True)):
        if wire.column < 0 or (keys_only and table.columns[wire.column].name not in table.key):
            continue
        if not cell.is_value:
            row[wire.column] = None if cell.form == b"n" else _UNSET
            continue
        read = values.from_text if cell.form == b"t" else values.from_binary
        try:
            row[wire.column] = read(wire.kind, table.columns[wire.column].type, cell.data)
        except NotExact as error:
            raise _Fault(error.code, cell.at, place) from error
    return row


def _key_cells(relation: RelationPlan, table: Table, cells: list[_Cell]) -> list[_Cell]:
    keys = set(table.key_indexes)
    return [cell for wire, cell in zip(relation.wire, cells, strict=True) if wire.column in keys]


def _has_key(relation: RelationPlan, table: Table, cells: list[_Cell]) -> bool:
    return sum(cell.is_value for cell in _key_cells(relation, table, cells)) == len(table.key)


def _key_bytes_differ(relation: RelationPlan, table: Table, old: list[_Cell] | None, new: list[_Cell] | None) -> bool:
    assert old is not None and new is not None
    pairs = zip(_key_cells(relation, table, old), _key_cells(relation, table, new), strict=True)
    return any(b.form != b"u" and (a.form, a.data) != (b.form, b.data) for a, b in pairs)


def _bits(value: Any) -> Any:
    """What tells two keys apart: of a float its bits."""
    return struct.pack("<d", value) if isinstance(value, float) else value


# ---- results ----


def _record(table: Table, rows: list[tuple[Op, bytes, int, str, int, Row]], transactions: bool) -> pa.RecordBatch:
    unset = [sum(1 << i for i, cell in enumerate(row) if cell is _UNSET) for *_, row in rows]
    schema = decoded_schema(table, any(unset), transactions)
    columns = []
    for i, column in enumerate(table.columns):
        cells = [row[i] for *_, row in rows]
        columns.append(_array([None if cell is _UNSET else cell for cell in cells], column.type.arrow))
    columns.append(pa.array([int(row[0]) for row in rows], pa.int8()))
    columns.append(pa.array([row[1] for row in rows], pa.binary(32)))
    columns.append(_array([row[2] for row in rows], pa.timestamp("us", tz="UTC")))
    if any(unset):
        width = unset_bytes(table)
        columns.append(pa.array([bits.to_bytes(width, "little") for bits in unset], pa.binary(width)))
    if transactions:
        columns.append(pa.array([row[3] for row in rows], pa.string()))
        columns.append(pa.array([row[4] for row in rows], pa.int64()))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _array(cells: list[Any], data_type: pa.DataType) -> pa.Array:
    """An Arrow array of that type; dates and times by their integers, beyond what Python's own types hold."""
    if pa.types.is_decimal(data_type):
        return decimal_array(cells, data_type)
    if pa.types.is_date32(data_type):
        return pa.array(cells, pa.int32()).view(data_type)
    if pa.types.is_time64(data_type) or pa.types.is_timestamp(data_type):
        return pa.array(cells, pa.int64()).view(data_type)
    if pa.types.is_string(data_type):
        return pa.array(cells, pa.binary()).view(data_type)
    return pa.array(cells, data_type)


def _columns(schema: pa.Schema, rows: list[tuple[int, ...]]) -> pa.RecordBatch:
    arrays = [pa.array([row[i] for row in rows], pa.int64()) for i in range(len(schema))]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
