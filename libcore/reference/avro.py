"""Avro messages to the rows of a change batch, one message and one field at a time; the reference of libcore.avro, and
what serves it where there is no C library."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from libcore import position
from libcore.avro_schema import Kind, Part, Program, resolve
from libcore.avro_types import AvroPlan, Framing, describe
from libcore.decode_types import Decoded, DecodeState, ErrorCode, RowError
from libcore.reference.avro_cells import AvroCells, Item, Parser, utf8
from libcore.reference.decode import MessageRows, Row, Rows, Stop, keyless_rows, raise_first, record_of
from libcore.reference.json import Fault
from libcore.reference.source import SEQUENCE, SERVER_LSN, Source, Transaction

_INTEGERS = (Kind.INT, Kind.LONG)
_BEFORE, _AFTER, _SOURCE, _OP, _TS_MS, _STATUS, _ID, _TRANSACTION = range(8)
_SNAPSHOT, _ORDER, _COMMIT, _SERIAL = range(2, 6)
_PART_MAX = 2 ** (8 * position.COMMIT_BYTES) - 1
_NOTHING = Source()


def decode_avro(plan: AvroPlan, messages: pa.RecordBatch, start: int = 0, state: DecodeState | None = None) -> Decoded:
    """See libcore.avro.decode_avro; without the defaults."""
    reader = _MessageReader(plan)
    out = Rows(state or DecodeState())
    errors: list[RowError] = []
    consumed, stop = messages.num_rows, None
    keys, values = messages.column("key"), messages.column("value")
    for index in range(start, messages.num_rows):
        value = values[index].as_py()
        try:
            reader.read(index, keys[index].as_py(), value, out)
        except Fault as fault:
            text = describe(fault.code, fault.position, value or b"", None)
            errors.append(RowError(index, fault.position, fault.code, text))
        except Stop as ending:
            consumed, stop = index, ending.why
            break
    filled = frozenset(plan.defaults) - reader.sent
    record = record_of(plan.rows, out, never_unset=filled)
    rows = pa.array([row[0] for row in out.rows], pa.int32())
    return Decoded(record, rows, errors, out.events, consumed, stop, "", out.state)


class _MessageReader(MessageRows):
    """Reads single messages of one plan."""

    def __init__(self, plan: AvroPlan) -> None:
        super().__init__(plan.rows)
        self._avro = plan
        self._value_program, self._key_program = resolve(plan)
        self.sent = self._value_program.sent
        placeholder = plan.rows.placeholder.encode()
        self._readers = [AvroCells(wire, placeholder) for wire in plan.rows.columns]

    def read(self, index: int, key: bytes | None, value: bytes | None, out: Rows) -> None:
        """Add what the message says to `out`. Raises Fault or Stop; then `out` is as before."""
        if value is None:
            self._tombstone(index, key, out)
            return
        start = self._body(value, self._avro.writer.id, "schema")
        root = Parser(self._value_program, value, start).root()
        if root.kind is Kind.NULL:
            self._tombstone(index, key, out)
        elif root.kind is not Kind.RECORD:
            raise Fault(ErrorCode.TYPE, root.start)
        elif self._avro.flat:
            self._flat(index, root, out)
        else:
            self._envelope(index, key, {part.role: item for part, item in root.value if part.role >= 0}, out)

    def _body(self, data: bytes, schema_id: int, stop: str) -> int:
        """Where the body begins. Raises Fault for a broken frame, Stop for another schema."""
        size = int(self._avro.framing)
        if self._avro.framing is Framing.NONE:
            return 0
        if data[:1] != b"\0":
            raise Fault(ErrorCode.SYNTAX, 0)
        if len(data) <= size:
            raise Fault(ErrorCode.SYNTAX, len(data))
        if int.from_bytes(data[1 : 1 + size], "big") != schema_id:
            raise Stop(stop)
        return 1 + size

    def _flat(self, index: int, root: Item, out: Rows) -> None:
        faults: list[Fault] = []
        row = self._avro_row(root, faults, keys_only=False)
        raise_first(faults)
        rows = self._keyed_rows("u", None, row, None) if self._key else keyless_rows(False, None, True, row)
        self._add(index, rows, _NOTHING, out)

    def _envelope(self, index: int, key: bytes | None, found: dict[int, Item], out: Rows) -> None:
        op = _op(found.get(_OP))
        if op in ("c", "r", "u", "d"):
            self._avro_change(index, key, op, found, out)
        elif op == "t":
            raise Stop("truncate")
        elif op == "m":
            out.events.append((index, "message"))
        elif op is None and _STATUS in found and _ID in found:
            out.events.append((index, "transaction"))
        elif op is None and _TS_MS in found:
            out.events.append((index, "heartbeat"))
        else:
            raise Fault(ErrorCode.OP, 0)

    def _avro_change(self, index: int, key: bytes | None, op: str, found: dict[int, Item], out: Rows) -> None:
        faults: list[Fault] = []
        source = self._source(_fields(found.get(_SOURCE), faults), faults)
        transaction = Transaction()
        if self._plan.transactions:
            transaction = _transaction(_fields(found.get(_TRANSACTION), faults), faults)
        before = after = None
        if op in ("u", "d"):
            before = self._avro_row(found.get(_BEFORE), faults, keys_only=bool(self._key))
        if op != "d":
            after = self._avro_row(found.get(_AFTER), faults, keys_only=False)
        raise_first(faults)
        if self._key:
            rows = self._keyed_rows(op, before, after, key)
        else:
            rows = keyless_rows(op in ("u", "d"), before, op != "d", after)
        self._add(index, rows, source, out, transaction)

    def _avro_row(self, item: Item | None, faults: list[Fault], keys_only: bool) -> Row | None:
        """The cells of a row's record, or None; adds value faults to `faults`."""
        if item is None or item.kind is Kind.NULL:
            return None
        if item.kind is not Kind.RECORD:
            faults.append(Fault(ErrorCode.TYPE, item.start))
            return None
        row: Row = {}
        for part, value in item.value:
            if part.role < 0:
                continue
            name = self._plan.columns[part.role].column.name
            if keys_only and name not in self._key:
                continue
            try:
                row[name] = self._readers[part.role].read(value)
            except Fault as fault:
                faults.append(fault)
        return row

    def _row_of_key(self, key: bytes | None) -> Row:
        """The key columns in the message's key. Raises Fault KEY, or Stop where its schema is another."""
        if key is None:
            raise Fault(ErrorCode.KEY, 0)
        writer, program = self._avro.key_writer, self._key_program
        if writer is None or program is None:
            if self._avro.framing is not Framing.NONE:
                self._frame_of_key(key, -1)
            raise Fault(ErrorCode.KEY, 0)
        faults: list[Fault] = []
        row = self._avro_row(self._key_root(program, key, self._frame_of_key(key, writer.id)), faults, keys_only=True)
        if faults or row is None or not self._has_key(row):
            raise Fault(ErrorCode.KEY, 0)
        return row

    def _frame_of_key(self, key: bytes, schema_id: int) -> int:
        try:
            return self._body(key, schema_id, "key_schema")
        except Fault as fault:
            raise Fault(ErrorCode.KEY, 0) from fault

    @staticmethod
    def _key_root(program: Program, key: bytes, start: int) -> Item:
        try:
            return Parser(program, key, start).root()
        except Fault as fault:
            raise Fault(ErrorCode.KEY, 0) from fault

    def _source(self, fields: Sequence[tuple[Part, Item]], faults: list[Fault]) -> Source:
        kind, generation = self._plan.position, self._plan.generation
        values: dict[int, int] = {}
        snapshot, ts_ms_at = False, 0
        for part, item in fields:
            if part.role < 0 or item.kind is Kind.NULL:
                continue
            try:
                if part.role == _SNAPSHOT:
                    snapshot = item.value not in (False, b"false") or item.kind not in _SAYS_FALSE
                else:
                    values[part.role] = _source_value(kind, part.role, item)
            except Fault as fault:
                faults.append(fault)
            ts_ms_at = item.start if part.role == 0 else ts_ms_at
        ts_us = values.get(1)
        if ts_us is None and 0 in values:
            ts_us = values[0] * 1000
            if not -(2**63) <= ts_us < 2**63:
                faults.append(Fault(ErrorCode.RANGE, ts_ms_at))
        needed = (_ORDER, _COMMIT, _SERIAL) if kind == "sqlserver" else (_ORDER, _COMMIT)
        if kind == "none" or snapshot or not all(role in values for role in needed):
            return Source(None, ts_us)
        order = values[_ORDER] << 32 | values[_SERIAL] if kind == "sqlserver" else values[_ORDER]
        return Source(position.make(generation, values[_COMMIT], order), ts_us)


_SAYS_FALSE = (Kind.BOOLEAN, Kind.STRING, Kind.ENUM)


def _op(item: Item | None) -> str | None:
    """The operation's letter, None where there is no op, "" where it is no known letter."""
    if item is None:
        return None
    value = item.value if item.kind in (Kind.STRING, Kind.ENUM) else b""
    return value.decode() if value in (b"c", b"r", b"u", b"d", b"t", b"m") else ""


def _fields(item: Item | None, faults: list[Fault]) -> list[tuple[Part, Item]]:
    if item is None or item.kind is Kind.NULL:
        return []
    if item.kind is not Kind.RECORD:
        faults.append(Fault(ErrorCode.TYPE, item.start))
        return []
    fields: list[tuple[Part, Item]] = item.value
    return fields


def _integer(item: Item, least: int, most: int) -> int:
    if item.kind not in _INTEGERS:
        raise Fault(ErrorCode.TYPE, item.start)
    if not least <= item.value <= most:
        raise Fault(ErrorCode.RANGE, item.start)
    return int(item.value)


def _source_value(kind: str, role: int, item: Item) -> int:
    if role in (0, 1):
        return _integer(item, -(2**63), 2**63 - 1)
    if role == _SERIAL:
        return _integer(item, 0, 2**32 - 1)
    if role == _ORDER and kind == "postgresql":
        return _integer(item, 0, 2**63 - 1)
    text = item.value if item.kind is Kind.STRING else b""
    if kind == "postgresql" and (match := SEQUENCE.fullmatch(text)):
        commit, lsn = (int(digits or b"0") for digits in match.groups())
        if commit <= _PART_MAX and lsn <= _PART_MAX:
            return commit
    if kind == "oracle" and text.isdigit() and text.isascii() and len(text) <= 24 and int(text) <= _PART_MAX:
        return int(text)
    if kind == "sqlserver" and (match := SERVER_LSN.fullmatch(text)):
        return int(b"".join(match.groups()), 16)
    raise Fault(ErrorCode.TYPE, item.start)


def _transaction(fields: Sequence[tuple[Part, Item]], faults: list[Fault]) -> Transaction:
    name: bytes | None = None
    order: int | None = None
    for part, item in fields:
        if part.role < 0 or item.kind is Kind.NULL:
            continue
        try:
            if part.role == 1:
                order = _integer(item, 0, 2**63 - 1)
            elif item.kind is Kind.STRING:
                name = utf8(item)
            else:
                raise Fault(ErrorCode.TYPE, item.start)
        except Fault as fault:
            faults.append(fault)
    return Transaction(name, order)
