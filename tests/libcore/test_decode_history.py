"""Decoding against a truth of its own: a table's history written as Debezium writes it ends as the table ended."""

from __future__ import annotations

import base64
import datetime
import json
from collections import Counter
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import decode as face
from libcore.change import OP, POSITION, UNSET, Op
from libcore.decode_types import DecodeState, Encoding, EnvelopePlan, WireColumn
from libcore.reference import decode as reference
from libcore.schema import Column, ColumnType, Table
from tests.libcore.strategies import EXAMPLES, SEEDS, message_batch
from tests.libcore.wire_values import wire_column

FACES = pytest.mark.parametrize(
    "decode", [face.decode_envelopes, reference.decode_envelopes], ids=["face", "reference"]
)
PLACEHOLDER = "__debezium_unavailable_value"
EPOCH = datetime.datetime(1970, 1, 1)
UTC = datetime.UTC
_TAGS = wire_column("tags", "string", Encoding.STRING)
WIRES = (
    wire_column("region", "string", Encoding.STRING),
    wire_column("id", "int32", Encoding.INT),
    wire_column("price", "decimal(18,4)", Encoding.DECIMAL_BASE64, wire_scale=4),
    wire_column("rate", "decimal(9,3)", Encoding.DECIMAL_TEXT),
    wire_column("paid", "bool", Encoding.BOOL),
    wire_column("due", "date", Encoding.DATE_DAYS),
    wire_column("at", "timestamp", Encoding.TIMESTAMP_US),
    wire_column("seen", "timestamptz", Encoding.ZONED_TIMESTAMP),
    wire_column("weight", "float64", Encoding.FLOAT),
    wire_column("blob", "bytes", Encoding.BASE64),
    wire_column("note", "string", Encoding.STRING),
    WireColumn(Column("tags", ColumnType("array", item=_TAGS.column.type)), Encoding.ARRAY, item=_TAGS),
)
NAMES = [wire.column.name for wire in WIRES]
BIG = ("blob", "note", "tags")
Row = dict[str, Any]


def _plan(key: tuple[str, ...], schema: bool) -> EnvelopePlan:
    table = Table("erp.t", tuple(wire.column for wire in WIRES), key)
    return EnvelopePlan(table, WIRES, position="postgresql", schema_bytes=b'{"type":"struct"}' if schema else None)


def _row(r: Random, region: str, number: int) -> Row:
    """A random row of that key, as Python's own types."""
    micros = datetime.timedelta(microseconds=r.randrange(-(10**16), 10**16))
    values: Row = {
        "price": Decimal(r.randrange(-(10**18) + 1, 10**18)).scaleb(-4),
        "rate": Decimal(r.randrange(-(10**9) + 1, 10**9)).scaleb(-3),
        "paid": r.random() < 0.5,
        "due": datetime.date.fromordinal(r.randint(1, 3_000_000)),
        "at": EPOCH + micros,
        "seen": (EPOCH - micros).replace(tzinfo=UTC),
        "weight": r.choice((r.random(), r.uniform(-1e300, 1e300), float("inf"), -0.0)),
        "blob": r.randbytes(r.randrange(5)),
        "note": "".join(r.choices('aä€😀"\\\n\0{', k=r.randrange(8))),
        "tags": '{"a","q\\"x",NULL}',
    }
    nulls = {name: None if r.random() < 0.15 else value for name, value in values.items()}
    return {"region": region, "id": number, **nulls}


def _wire(name: str, value: Any) -> Any:
    """The value as Debezium's JSON has it."""
    if value is None:
        return None
    if name == "price":
        unscaled = int(value.scaleb(4))
        return base64.b64encode(unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)).decode()
    if name == "due":
        return (value - EPOCH.date()).days
    if name == "at":
        return (value - EPOCH) // datetime.timedelta(microseconds=1)
    if name == "seen":
        return value.isoformat().replace("+00:00", "Z")
    if name == "weight" and value == float("inf"):
        return "Infinity"
    if name == "tags":
        return ["a", 'q"x', None]
    return base64.b64encode(value).decode() if name == "blob" else str(value) if name == "rate" else value


class _Source:
    """A table and its stream of messages; every change is one transaction."""

    def __init__(self, r: Random, key: tuple[str, ...], schema: bool) -> None:
        self._r, self._key, self._schema, self._lsn = r, key, schema, 100
        self.messages: list[tuple[bytes | None, bytes | None]] = []
        self.places: list[int] = []

    def emit(self, op: str, before: Row | None, after: Row | None, unsent: tuple[str, ...] = ()) -> None:
        """Write a change; the values of `unsent` columns are not in it."""
        r = self._r
        self._lsn += r.choice((1, 1, 50))
        new = None if after is None else {n: _wire(n, v) for n, v in after.items()}
        if new is not None:
            sent = {"blob": base64.b64encode(PLACEHOLDER.encode()).decode(), "note": PLACEHOLDER, "tags": [PLACEHOLDER]}
            new |= {name: sent[name] for name in unsent}
        old = None if before is None else {n: _wire(n, v) for n, v in before.items()}
        if old is not None and self._key and op == "d" and r.random() < 0.5:
            old = {n: v if n in self._key else None for n, v in old.items()}  # the default replica identity
        source = {
            "connector": "postgresql",
            "ts_us": 1,
            "lsn": self._lsn,
            "sequence": f'["{self._lsn - 1}","{self._lsn}"]',
        }
        if r.random() < 0.1 and self._key:
            source = {"connector": "postgresql", "snapshot": "incremental"}
        envelope = {"before": old, "after": new, "source": source, "op": op, "ts_ms": 1}
        self._write(after if after is not None else before, envelope)
        if op == "d" and self._key:
            self._write(before, None)

    def _write(self, row: Row | None, envelope: Row | None) -> None:
        r = self._r
        key = None if not self._key or row is None else json.dumps({n: _wire(n, row[n]) for n in self._key})
        value = None
        if envelope is not None:
            value = json.dumps(envelope, ensure_ascii=r.random() < 0.5, separators=r.choice([(",", ":"), (", ", ": ")]))
            value = f'{{"schema":{{"type":"struct"}},"payload":{value}}}' if self._schema else value
        self.messages.append((None if key is None else key.encode(), None if value is None else value.encode()))
        self.places.append(self._lsn)


def _decoded(plan: EnvelopePlan, messages: list[tuple[bytes | None, bytes | None]], r: Random, decode: Any) -> Any:
    """(op, row, unset names) of every row, decoded in batches of random sizes."""
    state, at = DecodeState(), 0
    positions = []
    while at < len(messages):
        size = r.randint(1, 20)
        decoded = decode(plan, message_batch(messages[at : at + size]), 0, state)
        assert (decoded.errors, decoded.stop) == ([], None)
        state, at = decoded.state, at + size
        positions += decoded.record.column(POSITION).to_pylist()
        for row in decoded.record.to_pylist():
            bits = int.from_bytes(row.get(UNSET, b""), "little")
            unset = {name for i, name in enumerate(NAMES) if bits >> i & 1}
            row["seen"] = row["seen"] and row["seen"].astimezone(UTC)  # Arrow's zone has another repr
            yield row[OP], {name: row[name] for name in NAMES}, unset
    assert positions == sorted(set(positions))


def _keyed_history(r: Random, steps: int, schema: bool) -> tuple[_Source, dict[Any, Row]]:
    """A source with inserts, updates (also partial ones and moves to another key) and deletes; and its last state."""
    source, table = _Source(r, ("id", "region"), schema), dict[Any, Row]()
    for _ in range(steps):
        new = _row(r, r.choice(("e", "w")), r.randint(1, 4))
        place = (new["id"], new["region"])
        if place not in table:
            if table and r.random() < 0.3:
                old = table.pop(r.choice(sorted(table)))
                source.emit("u", old, new)
            else:
                source.emit(r.choice("cr"), None, new)
            table[place] = new
        elif r.random() < 0.3:
            source.emit("d", table.pop(place), None)
        else:
            kept = tuple(name for name in BIG if r.random() < 0.4)
            new |= {name: table[place][name] for name in kept}
            source.emit("u", table[place] if r.random() < 0.5 else None, new, kept)
            table[place] = new
    return source, table


@FACES
@settings(max_examples=EXAMPLES // 4)
@given(SEEDS, st.integers(0, 40), st.booleans())
def test_a_keyed_table_ends_as_the_source_did(decode: Any, seed: int, steps: int, schema: bool) -> None:
    """Folded by key, the decoded rows are the source's last state: every value, moved keys, unsent values kept."""
    r = Random(seed)
    source, table = _keyed_history(r, steps, schema)
    found: dict[Any, Row] = {}
    for op, row, unset in _decoded(_plan(("id", "region"), schema), source.messages, r, decode):
        place = (row["id"], row["region"])
        if op == Op.DELETE:
            found.pop(place, None)
        else:
            kept = found.get(place, {})
            found[place] = {name: kept[name] if name in unset else value for name, value in row.items()}
    assert repr(sorted(found.items())) == repr(sorted(table.items()))


@FACES
@settings(max_examples=EXAMPLES // 4)
@given(SEEDS, st.integers(0, 30))
def test_a_keyless_table_survives_redelivery(decode: Any, seed: int, steps: int) -> None:
    """However often the source goes back and sends its tail again, each copy of a row is counted once."""
    r = Random(seed)
    source, table = _Source(r, (), False), list[Row]()
    for _ in range(steps):
        new = _row(r, "e", r.randint(1, 2))
        if table and r.random() < 0.3:
            source.emit("d", table.pop(r.randrange(len(table))), None)
        elif table and r.random() < 0.4:
            at = r.randrange(len(table))
            source.emit("u", table[at], new)
            table[at] = new
        else:
            table += [new] * r.choice((1, 1, 2))
            source.emit("c", None, new)
            if len(table) > 1 and table[-1] is table[-2]:
                source.messages.append(source.messages[-1])  # two rows of one record of the log
                source.places.append(source.places[-1])
    sent, at = [], 0
    while at < len(source.messages):
        sent.append(source.messages[at])
        back = [i for i in range(at) if source.places[i] < source.places[at]]
        at = r.choice(back) if back and r.random() < 0.15 else at + 1
    found = Counter[str]()
    for op, row, _ in _decoded(_plan((), False), sent, r, decode):
        found[repr(row)] += 1 if op == Op.UPSERT else -1
    assert {row: count for row, count in found.items() if count} == Counter(map(repr, table))
