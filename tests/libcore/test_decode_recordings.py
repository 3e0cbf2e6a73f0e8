"""Decoding what a real Debezium wrote: two recordings of one PostgreSQL, with schemas and without."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.formats.connect_schema import row_fields, wire_columns
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

GOLDEN = Path(__file__).parents[1] / "golden"


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


def _rows(plan: EnvelopePlan, decoded: Decoded) -> Iterator[tuple[int, dict[str, Any], set[str]]]:
    """(op, plain values, names that are unset) of each row."""
    names = [wire.column.name for wire in plan.columns]
    columns = [plain(decoded.record.column(i)) for i in range(len(names))]
    ops = decoded.record.column(OP).to_pylist()
    has_unset = UNSET in decoded.record.schema.names
    unset = decoded.record.column(UNSET).to_pylist() if has_unset else [b""] * len(ops)
    for at, op in enumerate(ops):
        bits = int.from_bytes(unset[at], "little")
        missing = {name for i, name in enumerate(names) if bits >> i & 1}
        yield op, {name: column[at] for name, column in zip(names, columns, strict=True)}, missing


def _folded(calls: list[tuple[EnvelopePlan, Decoded]]) -> Any:
    """The table at the end: rows by key, or how many copies of each row."""
    table: dict[Any, dict[str, Any]] = {}
    copies = Counter[str]()
    for plan, decoded in calls:
        for op, row, unset in _rows(plan, decoded):
            place = tuple(row[name] for name in plan.table.key)
            if not place:
                copies[repr(sorted(row.items()))] += 1 if op == Op.UPSERT else -1
            elif op == Op.DELETE:
                table.pop(place, None)
            else:
                table[place] = table.get(place, {}) | {name: v for name, v in row.items() if name not in unset}
    whole = {place: {name: v for name, v in row.items() if v is not None} for place, row in table.items()}
    return whole or {row: count for row, count in copies.items() if count}


SAME = ["items", "customers", "orders", "full_ident", "truncme", "nokey", "heartbeat_t", "Odd_Name-_"]


@pytest.mark.parametrize("table", SAME)
def test_two_recordings_of_one_database_end_equal(table: str) -> None:
    """With and without schemas, precise and as text: both streams give the same last state, and not an empty one."""
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
    """The row with a value in every column is read as the SQL wrote it (columns with a form of their own)."""
    calls = Recording("sp").decoded("public.alltypes")
    row = next(row for plan, decoded in calls for _, row, _ in _rows(plan, decoded) if row["id"] == 1)
    expected = {
        "i": -(2**31), "s": -32768, "n": -123456789012345678, "nn": b"123456789012345678901234567890.123456789",
        "n0": 12345678901234567890, "m": 123456, "r": 1.5, "d8": 1e308, "d": 20512, "ts": 1772284455123456,
        "tz": 1772273655123456, "t": 47655123456, "t3": 47655123000, "ch": b"ab   ", "ba": b"\x00\xff\x10\xde",
        "b": True, "ai": b"{1,NULL,3}", "at": b'{"a","b,c",NULL,"q\\"x"}', "an": b"{1.10,NULL}", "bits": b"10101",
        "vb": b"00000101",
        "ats": b'{"2026-01-01T00:00:00.000000Z"}', "ema": b'{"ok","sad"}', "e": None, "big": ("Öç" * 5000).encode(),
        "big2": bytes.fromhex("ff00") * 5000, "h": b'{"a":"1","b":null}', "oidc": 4294967295,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
