"""Decoding what a real Debezium wrote: its rendering of each type, the events of its documentation, two recordings."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.formats.connect_schema import row_fields, wire_column, wire_columns
from connectors.formats.envelope_peek import schema_part
from libcore import decode as face
from libcore.change import OP, UNSET, Op
from libcore.decode_types import Decoded, DecodeState, Encoding, EnvelopePlan, ErrorCode, WireColumn
from libcore.reference import decode as reference
from libcore.reference.values import plain
from libcore.schema import Table
from tests.libcore.batches import same
from tests.libcore.strategies import message_batch
from tests.libcore.test_decode import told
from tests.libcore.test_decode_encodings import UNSENT, decoded_value
from tests.libcore.wire_values import wire_column as column

FACES = pytest.mark.parametrize(
    "decode", [face.decode_envelopes, reference.decode_envelopes], ids=["face", "reference"]
)
GOLDEN = Path(__file__).parents[1] / "golden"
TYPES = json.loads((GOLDEN / "debezium_types.json").read_text("utf-8"))
# What each of the types' values becomes, in the file's order; times in the column's unit, decimals unscaled.
VALUES = [
    -7, -(2**63), 0.1, b"\x00\xff\x10", 0, -1, 2932896, 54796945000, 54796945104, 54796945104200, -1000, 1529507596945104,
    1529507596945104700, 1529500396945104, 1529500396000000, 37091106780000, b"P1Y2M3DT4H5M6.78S", 19782, 1529507596945104,
    54796945000, 12345, 0, 127, 32767, -32768, 12345678901234567890123456789012345678, b"-1000", b"0.0000000001", b"1000",
    b"NAN", 1234567890123.4568, b"1000001001", b"bad", b"a,c", b"<a/>",
    b'{"x":1.5,"y":-2.0,"wkb":"AQEAAAAAAAAAAAD4PwAAAAAAAADA","srid":null}', b"{1,NULL,3}", None, UNSENT,
    b'{"dimensions":5,"vector":[[4,-2.0],[1,1.5]]}',
]  # fmt: skip
U, D = Op.UPSERT, Op.DELETE
# What each event of the documentation becomes: rows (op, id, values that are set), or the names of events and stops.
EVENTS: dict[str, list[Any]] = {
    "ev-001": [(U, 1, {"v": "a"})],
    "ev-002": [(U, 1, {"v": "a"})],
    "ev-003": [(U, 9, {"v": "z"})],
    "ev-004": [(U, 3, {"v": "c"})],
    "ev-005": [(U, 1, {"v": "b"})],
    "ev-006": [(U, 1, {"v": "b"})],
    "ev-007": [(U, 1, {"v": "b"})],
    "ev-008": [(D, 1, {}), (D, 1, {})],
    "ev-009": [(D, 1, {}), (D, 1, {}), (U, 2, {"v": "a"})],
    "ev-010": ["truncate"],
    "ev-011": ["message"],
    "ev-012": [(D, 1, {})],
    "ev-013": ["schema"],
    "ev-014": ["OP", "OP"],
    "ev-015": ["transaction", (U, 1, {}), "transaction"],
    "ev-016": ["heartbeat"],
    "ev-017": [(U, 1, {"v": "b"})],
    "ev-018": [(U, 1, {})],
    "ev-019": [(U, 1, {"v": "b"})],
    "ev-020": [(U, 1, {})],
}


@FACES
@pytest.mark.parametrize(("golden", "expected"), list(zip(TYPES["types"], VALUES, strict=True)))
def test_types(decode: Any, golden: dict[str, Any], expected: Any) -> None:
    """Each type as the real classes render it becomes the value that its source had; decimal.format=NUMERIC too."""
    wire = wire_column("v", golden["connect_schema"])
    text = json.dumps(golden["json_value"], separators=(",", ":"))
    assert repr(decoded_value(decode, wire, text)) == repr(expected)
    if "json_value_decimal_format_numeric" in golden:
        wire = wire_column("v", golden["connect_schema"], decimals_as_numbers=True)
        assert decoded_value(decode, wire, str(golden["json_value_decimal_format_numeric"])) == expected


@FACES
@pytest.mark.parametrize("event", TYPES["events"], ids=lambda event: event["id"])
def test_events(decode: Any, event: dict[str, Any]) -> None:
    """Each event of the documentation becomes the rows it stands for, or is known as what it is."""
    wires = (column("id", "int32", Encoding.INT), *(column(n, "string", Encoding.STRING) for n in ("v", "big", "c")))
    flavour = (event["messages"][0].get("value") or {}).get("source", {}).get("connector", "none")
    plan = EnvelopePlan(Table("erp.public.t", tuple(w.column for w in wires), ("id",)), wires, position=flavour)
    texts = [
        tuple(None if message[part] is None else json.dumps(message[part]).encode() for part in ("key", "value"))
        for message in event["messages"]
    ]
    decoded = decode(plan, message_batch(texts))
    found = [(index, (op, row.pop("id"), row)) for index, op, row in _set_values(decoded)]
    found += [(index, kind) for index, kind in decoded.events]
    found += [(error.message, error.code.name) for error in decoded.errors]
    found += [(decoded.consumed, decoded.stop)] if decoded.stop else []
    assert [what for _, what in sorted(found, key=lambda pair: pair[0])] == EVENTS[event["id"]]


def _set_values(decoded: Decoded) -> list[tuple[int, int, dict[str, Any]]]:
    """(message, op, values that are set) of each row; a delete has its key only."""
    rows = []
    names = [name for name in decoded.record.schema.names if not name.startswith("__")]
    for index, row in zip(decoded.rows.to_pylist(), decoded.record.to_pylist(), strict=True):
        bits = int.from_bytes(row.get(UNSET, b""), "little")
        values = {name: row[name] for i, name in enumerate(names) if not bits >> i & 1}
        if row[OP] == Op.DELETE:
            values = {name: value for name, value in values.items() if value is not None}
        rows.append((index, row[OP], values))
    return rows


class Recording:
    """One recorded stream, decoded partition by partition with C and reference side by side.

    Args:
        name: sp has schemas and precise decimals, ns has neither.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._messages: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = {}
        with open(GOLDEN / "debezium" / f"{name}.ndjson", encoding="utf-8") as lines:
            for line in lines:
                one = json.loads(line)
                pair = tuple(None if one[part] is None else one[part].encode() for part in ("key", "value"))
                self._messages.setdefault((one["topic"].partition(".")[2], one["partition"]), []).append(pair)

    def tables(self) -> list[str]:
        """Topics with rows, without the prefix."""
        return sorted({topic for topic, _ in self._messages if topic.startswith("public.")})

    def decoded(self, topic: str, plan: EnvelopePlan | None = None) -> list[tuple[EnvelopePlan, Decoded]]:
        """All calls over that topic's partitions; without a plan, each is made of the schema part that is next."""
        calls = []
        for (found, _), messages in sorted(self._messages.items()):
            if found == topic:
                calls += _calls(message_batch(messages), plan)
        return calls


def _calls(messages: pa.RecordBatch, plan: EnvelopePlan | None) -> list[tuple[EnvelopePlan, Decoded]]:
    """Decode one partition; a truncate is passed over."""
    calls, at, state = [], 0, DecodeState()
    while at < messages.num_rows:
        using = plan or _plan_of_next(messages, at)
        expected = reference.decode_envelopes(using, messages, at, state)
        decoded = face.decode_envelopes(using, messages, at, state)
        assert told(decoded) == told(expected) and same(decoded.record, expected.record)
        calls.append((using, decoded))
        state, at = decoded.state, decoded.consumed + (decoded.stop == "truncate")
    return calls


def _plan_of_next(messages: pa.RecordBatch, at: int) -> EnvelopePlan:
    keys, values = messages.column("key").to_pylist(), messages.column("value").to_pylist()
    key, value = next((k, v) for k, v in zip(keys[at:], values[at:], strict=True) if v is not None)
    schema_bytes = schema_part(value)
    fields = row_fields(json.loads(schema_bytes))
    names = () if key is None else tuple(field["field"] for field in json.loads(key)["schema"]["fields"])
    wires = wire_columns(fields)
    table = Table("t", tuple(wire.column for wire in wires), names)
    return EnvelopePlan(table, wires, position="postgresql", schema_bytes=schema_bytes)


def _without_schemas(calls: list[tuple[EnvelopePlan, Decoded]]) -> EnvelopePlan:
    """The plan of the same table in a stream without schemas and with decimals as text: all columns there ever were."""
    columns: dict[str, WireColumn] = {}
    for plan, _ in calls:
        columns |= {wire.column.name: _as_text(wire) for wire in plan.columns}
    key = calls[0][0].table.key
    table = Table("t", tuple(wire.column for wire in columns.values()), key)
    return EnvelopePlan(table, tuple(columns.values()), position="postgresql")


def _as_text(wire: WireColumn) -> WireColumn:
    text = {Encoding.DECIMAL_BASE64: Encoding.DECIMAL_TEXT, Encoding.NUMERIC_STRUCT: Encoding.NUMERIC_TEXT}
    item = None if wire.item is None else _as_text(wire.item)
    return replace(wire, encoding=text.get(wire.encoding, wire.encoding), item=item)


def _folded(calls: list[tuple[EnvelopePlan, Decoded]]) -> Any:
    """The table at the end: rows by key, or how many copies of each row."""
    table: dict[Any, dict[str, Any]] = {}
    copies = Counter[str]()
    for plan, decoded in calls:
        names = [wire.column.name for wire in plan.columns]
        columns = {name: plain(decoded.record.column(i)) for i, name in enumerate(names)}
        for at, (_, op, values) in enumerate(_set_values(decoded)):
            row = {name: columns[name][at] for name in values}
            if not plan.table.key:
                copies[repr(sorted((name, columns[name][at]) for name in names))] += 1 if op == Op.UPSERT else -1
                continue
            place = tuple(columns[name][at] for name in plan.table.key)
            if op == Op.DELETE:
                table.pop(place, None)
            else:
                table[place] = table.get(place, {}) | row
    whole = {place: {name: v for name, v in row.items() if v is not None} for place, row in table.items()}
    return whole or {row: count for row, count in copies.items() if count}


SAME = ["items", "customers", "orders", "full_ident", "truncme", "nokey", "heartbeat_t", "Odd_Name-_"]


@pytest.mark.parametrize("table", SAME)
def test_two_recordings_of_one_database_end_equal(table: str) -> None:
    """With and without schemas, precise and as text: both streams of one database give the same last state, not empty."""
    precise, text = Recording("sp"), Recording("ns")
    calls = precise.decoded(f"public.{table}")
    others = text.decoded(f"public.{table}", _without_schemas(calls))
    assert _folded(calls) == _folded(others)
    assert _folded(calls)
    assert [error for _, decoded in calls + others for error in decoded.errors] == []


def test_arrays_of_more_dimensions_are_all_that_fails() -> None:
    """In the whole recording with schemas only the two messages whose inner arrays Debezium lost are in error."""
    recording = Recording("sp")
    errors = {}
    for table in recording.tables():
        found = [error for _, decoded in recording.decoded(table) for error in decoded.errors]
        errors |= {table: Counter(error.code for error in found)} if found else {}
    assert errors == {"public.alltypes": {ErrorCode.ARRAY: 2}}


def test_rows_of_every_type() -> None:
    """The row with a value in every column is read as the SQL wrote it, here the columns that have forms of their own."""
    calls = Recording("sp").decoded("public.alltypes")
    plan, decoded = next(pair for pair in calls if pair[1].record.num_rows)
    at = next(i for i, number in enumerate(decoded.record.column(0).to_pylist()) if number == 1)
    row = {wire.column.name: plain(decoded.record.column(i))[at] for i, wire in enumerate(plan.columns)}
    expected = {
        "i": -(2**31), "s": -32768, "n": -123456789012345678, "nn": b"123456789012345678901234567890.123456789",
        "n0": 12345678901234567890, "m": 123456, "r": 1.5, "d8": 1e308, "d": 20512, "ts": 1772284455123456,
        "tz": 1772273655123456, "t": 47655123456, "t3": 47655123000, "ch": b"ab   ", "ba": b"\x00\xff\x10\xde", "b": True,
        "ai": b"{1,NULL,3}", "at": b'{"a","b,c",NULL,"q\\"x"}', "an": b"{1.10,NULL}", "bits": b"10101", "vb": b"00000101",
        "ats": b'{"2026-01-01T00:00:00.000000Z"}', "ema": b'{"ok","sad"}', "e": None, "big": ("Öç" * 5000).encode(),
        "big2": bytes.fromhex("ff00") * 5000, "h": b'{"a":"1","b":null}', "oidc": 4294967295,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
