"""Debezium JSON messages to the rows of a change batch, one message and one field at a time; the reference of
libcore.decode, and what serves it where there is no C library."""

from __future__ import annotations

import abc
import struct
from dataclasses import dataclass, field

import pyarrow as pa

from libcore.change import Op, unset_bytes
from libcore.decode_types import Decoded, DecodeState, EnvelopePlan, ErrorCode, RowError, decoded_schema
from libcore.reference import source as source_block
from libcore.reference.cells import UNSET, Cell, CellReader
from libcore.reference.decimal import decimal_array
from libcore.reference.json import Fault, Node, parse, text
from libcore.reference.source import Source, Transaction

_KNOWN = (b"before", b"after", b"source", b"op", b"ts_ms", b"status", b"id", b"transaction")
_TEXTS = {
    ErrorCode.SYNTAX: "this byte cannot go on a JSON text",
    ErrorCode.UTF8: "this byte does not belong to UTF-8",
    ErrorCode.DEPTH: "more than 64 brackets are open",
    ErrorCode.DUPLICATE: "this field stands here a second time",
    ErrorCode.TYPE: "the value is of another kind than its column",
    ErrorCode.RANGE: "the value does not fit into its column",
    ErrorCode.SCALE: "the value has more digits after the point than its column",
    ErrorCode.SURROGATE: "half of a surrogate pair stands alone",
    ErrorCode.KEY: "the key columns are not all there with values, neither in the row nor in the message's key",
    ErrorCode.OP: "expected op c, r, u, d, t or m, a heartbeat or transaction metadata",
    ErrorCode.BEFORE: "a table without a key needs all values of the row",
    ErrorCode.BASE64: "the text is not padded standard base64",
    ErrorCode.ARRAY: "an array of more than one dimension",
}

Row = dict[str, Cell]
"""Column name -> cell; columns that the message does not have are missing."""


class Stop(Exception):
    """The call ends before this message."""

    def __init__(self, why: str, unknown: str = "") -> None:
        self.why, self.unknown = why, unknown
        super().__init__(why)


@dataclass
class Rows:
    """What has been decoded so far."""

    state: DecodeState
    rows: list[tuple[int, Op, bytes, int | None, Row]] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)


def decode_envelopes(
    plan: EnvelopePlan, messages: pa.RecordBatch, start: int = 0, state: DecodeState | None = None
) -> Decoded:
    """See libcore.decode.decode_envelopes."""
    reader = _MessageReader(plan)
    out = Rows(state or DecodeState())
    errors: list[RowError] = []
    consumed, stop, unknown = messages.num_rows, None, ""
    keys, values = messages.column("key"), messages.column("value")
    for index in range(start, messages.num_rows):
        try:
            reader.read(index, keys[index].as_py(), values[index].as_py(), out)
        except Fault as fault:
            errors.append(RowError(index, fault.position, fault.code, _TEXTS[fault.code]))
        except Stop as ending:
            consumed, stop, unknown = index, ending.why, ending.unknown
            break
    record = record_of(plan, out)
    rows = pa.array([row[0] for row in out.rows], pa.int32())
    return Decoded(record, rows, errors, out.events, consumed, stop, unknown, out.state)


class MessageRows(abc.ABC):
    """What a message's rows become, whatever the bytes were; `_row_of_key` is for the format to say."""

    def __init__(self, plan: EnvelopePlan) -> None:
        self._plan = plan
        self._key = set(plan.table.key)

    @abc.abstractmethod
    def _row_of_key(self, key: bytes | None) -> Row:
        """The key columns in the message's key. Raises Fault KEY."""

    def _tombstone(self, index: int, key: bytes | None, out: Rows) -> None:
        if not self._key or key is None or self._plan.transactions:
            out.events.append((index, "tombstone"))
            return
        self._add(index, [(Op.DELETE, self._row_of_key(key))], Source(), out)

    def _keyed_rows(self, op: str, before: Row | None, after: Row | None, key: bytes | None) -> list[tuple[Op, Row]]:
        if op == "d":
            return [(Op.DELETE, before if self._has_key(before) else self._row_of_key(key))]  # type: ignore[list-item]
        if after is None or not self._has_key(after):
            raise Fault(ErrorCode.KEY, 0)
        full = {column.name: after.get(column.name, UNSET) for column in self._plan.table.columns}
        if before is not None and self._has_key(before) and self._moved(before, after):
            return [(Op.DELETE, before), (Op.UPSERT, full)]
        return [(Op.INSERT if self._plan.creates and op != "u" else Op.UPSERT, full)]

    def _moved(self, before: Row, after: Row) -> bool:
        return any(_bits(before[name]) != _bits(after[name]) for name in self._key)

    def _has_key(self, row: Row | None) -> bool:
        return row is not None and all(row.get(name) not in (None, UNSET) for name in self._key)

    def _add(
        self,
        index: int,
        rows: list[tuple[Op, Row]],
        source: Source,
        out: Rows,
        transaction: Transaction = Transaction(),  # noqa: B008 - immutable
    ) -> None:
        for op, row in rows:
            out.state, given = source_block.place(out.state, source.position, keyless=not self._key)
            if given is None:
                out.events.append((index, "redelivered"))
            else:
                out.rows.append((index, op, given, source.ts_us, row))
                out.transactions.append(transaction)


class _MessageReader(MessageRows):
    """Reads single messages of one plan."""

    def __init__(self, plan: EnvelopePlan) -> None:
        super().__init__(plan)
        placeholder = plan.placeholder.encode()
        self._cells = {
            wire.column.name.encode(): (wire.column.name, CellReader(wire, placeholder)) for wire in plan.columns
        }

    def read(self, index: int, key: bytes | None, value: bytes | None, out: Rows) -> None:
        """Add what the message says to `out`. Raises Fault or Stop; then `out` is as before."""
        if value is None:
            self._tombstone(index, key, out)
            return
        document = parse(value)
        envelope = self._unwrapped(value, document)
        if envelope.kind == "null":
            self._tombstone(index, key, out)
            return
        if envelope.kind != "object":
            raise Fault(ErrorCode.TYPE, envelope.start)
        found: dict[bytes, Node] = {}
        faults: list[Fault] = []
        for quote, name, member in envelope.members:
            if name in _KNOWN:
                if name in found:
                    faults.append(Fault(ErrorCode.DUPLICATE, quote))
                found.setdefault(name, member)
        op = self._op(value, found.get(b"op"))
        if op in ("c", "r", "u", "d"):
            self._change(index, key, value, op, found, faults, out)
            return
        raise_first(faults)
        if op == "t":
            raise Stop("truncate")
        if op == "m":
            out.events.append((index, "message"))
        elif op is None and b"status" in found and b"id" in found:
            out.events.append((index, "transaction"))
        elif op is None and b"ts_ms" in found:
            out.events.append((index, "heartbeat"))
        else:
            raise Fault(ErrorCode.OP, 0)

    def _unwrapped(self, value: bytes, document: Node) -> Node:
        """The envelope's node. Raises Stop for another schema part, Fault where there is no payload."""
        wrapped = bool(document.members) and document.members[0][1] == b"schema"
        schema_bytes = document.members[0][2].raw(value) if wrapped else None
        if schema_bytes != self._plan.schema_bytes:
            raise Stop("schema")
        if not wrapped:
            return document
        payload = document.first(b"payload")
        if payload is None:
            raise Fault(ErrorCode.OP, 0)
        return payload

    def _op(self, value: bytes, node: Node | None) -> str | None:
        """The operation's letter, None where there is no op, "" where it is no known letter."""
        if node is None:
            return None
        try:
            letter = text(value, node) if node.kind == "string" else b""
        except Fault:  # a lone surrogate is no known letter
            return ""
        return letter.decode() if letter in (b"c", b"r", b"u", b"d", b"t", b"m") else ""

    def _change(
        self,
        index: int,
        key: bytes | None,
        value: bytes,
        op: str,
        found: dict[bytes, Node],
        faults: list[Fault],
        out: Rows,
    ) -> None:
        """A message of op c, r, u or d: one row or two."""
        plan = self._plan
        source = source_block.read(value, found.get(b"source"), plan.position, plan.generation, faults)
        transaction = Transaction()
        if plan.transactions:
            transaction = source_block.read_transaction(value, found.get(b"transaction"), faults)
        unknown: list[bytes | None] = []
        keyless, has_before = not self._key, op in ("u", "d")
        before = after = None
        if has_before:
            names = unknown if keyless else []  # a table with a key needs no more of `before` than that
            before = self._row(value, found.get(b"before"), faults, names, keys_only=not keyless)
        if op != "d":
            after = self._row(value, found.get(b"after"), faults, unknown, keys_only=False)
        raise_first(faults)
        if unknown and plan.stop_on_unknown:
            raise Stop("unknown", (unknown[0] or b"").decode())
        if plan.carried is not None and after is not None and tuple(after) != plan.carried:
            raise Stop("columns")
        if keyless:
            rows = keyless_rows(has_before, before, op != "d", after)
        else:
            rows = self._keyed_rows(op, before, after, key)
        self._add(index, rows, source, out, transaction)

    def _row(
        self, data: bytes, node: Node | None, faults: list[Fault], unknown: list[bytes | None], keys_only: bool
    ) -> Row | None:
        """The cells of a row object, or None; adds value faults to `faults`, new names to `unknown`."""
        if node is None or node.kind == "null":
            return None
        if node.kind != "object":
            faults.append(Fault(ErrorCode.TYPE, node.start))
            return None
        row: Row = {}
        met: set[str] = set()
        for quote, name, member in node.members:
            if name not in self._cells:
                unknown.append(name)
                continue
            column, reader = self._cells[name]
            if keys_only and column not in self._key:
                continue
            if column in met:
                faults.append(Fault(ErrorCode.DUPLICATE, quote))
                continue
            met.add(column)
            try:
                row[column] = reader.read(data, member)
            except Fault as fault:
                faults.append(fault)
        return row

    def _row_of_key(self, key: bytes | None) -> Row:
        """The key columns in the message's key, wrapped or not. Raises Fault KEY."""
        if key is None:
            raise Fault(ErrorCode.KEY, 0)
        faults: list[Fault] = []
        try:
            node = parse(key)
        except Fault as fault:
            raise Fault(ErrorCode.KEY, 0) from fault
        if node.members and node.members[0][1] == b"schema":
            node = node.first(b"payload") or node  # a key column may have the name "schema" too
        row = self._row(key, node, faults, [], keys_only=True)
        if faults or not self._has_key(row):
            raise Fault(ErrorCode.KEY, 0)
        assert row is not None
        return row


def keyless_rows(has_before: bool, before: Row | None, has_after: bool, after: Row | None) -> list[tuple[Op, Row]]:
    """The rows of a change of a table without a key. Raises Fault BEFORE where a whole row is missing."""
    rows = []
    for wanted, op, row in ((has_before, Op.DELETE, before), (has_after, Op.UPSERT, after)):
        if wanted:
            if row is None or UNSET in row.values():
                raise Fault(ErrorCode.BEFORE, 0)
            rows.append((op, row))
    return rows


def raise_first(faults: list[Fault]) -> None:
    """Raise the fault with the smallest position, if there is one."""
    if faults:
        raise min(faults, key=lambda fault: fault.position)


def _bits(value: Cell) -> Cell:
    """What tells two keys apart: of a float its bits."""
    return struct.pack("<d", value) if isinstance(value, float) else value


def record_of(plan: EnvelopePlan, out: Rows, never_unset: frozenset[str] = frozenset()) -> pa.RecordBatch:
    """The rows as Arrow columns; those of `never_unset` are NULL where they are not sent."""
    table = plan.table
    unset = [
        sum(
            1 << i
            for i, column in enumerate(table.columns)
            if row.get(column.name) is UNSET and column.name not in never_unset
        )
        for *_, row in out.rows
    ]
    schema = decoded_schema(plan, with_unset=any(unset))
    columns = []
    for column in table.columns:
        cells = [row.get(column.name) for *_, row in out.rows]
        columns.append(_array([None if cell is UNSET else cell for cell in cells], column.type.arrow))
    columns.append(pa.array([int(row[1]) for row in out.rows], pa.int8()))
    columns.append(pa.array([row[2] for row in out.rows], pa.binary(32)))
    columns.append(_array([row[3] for row in out.rows], pa.timestamp("us", tz="UTC")))
    if any(unset):
        width = unset_bytes(table)
        columns.append(pa.array([bits.to_bytes(width, "little") for bits in unset], pa.binary(width)))
    if plan.transactions:
        columns.append(_array([one.id for one in out.transactions], pa.string()))
        columns.append(pa.array([one.order for one in out.transactions], pa.int64()))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _array(cells: list[Cell], data_type: pa.DataType) -> pa.Array:
    """An Arrow array of that type; dates and times by their integers, beyond what Python's own types hold."""
    if pa.types.is_decimal(data_type):
        return decimal_array(cells, data_type)
    if pa.types.is_date32(data_type):
        return pa.array(cells, pa.int32()).view(data_type)
    if pa.types.is_time64(data_type) or pa.types.is_timestamp(data_type):
        return pa.array(cells, pa.int64()).view(data_type)
    if pa.types.is_string(data_type):
        return pa.array(cells, pa.binary()).cast(data_type)
    return pa.array(cells, data_type)
