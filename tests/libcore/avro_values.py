"""Columns of every encoding with the Avro types that may write them, values for them, and Debezium's schemas around."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import fastavro

from libcore.avro import AvroPlan, AvroSchema, Framing
from libcore.decode_types import Encoding, EnvelopePlan, WireColumn
from libcore.schema import Column, ColumnType, Table
from tests.libcore.wire_values import wire_column

PLACEHOLDER = "__ph"
_TEXTS = ["", "a", "ş", "Müşteri 42", 'q"\\\n\x01', "x" * 70, PLACEHOLDER, "\U0001f600", '{"__ph":"__ph"}', "[I@1b2c"]
_INTS = [0, 1, -1, 63, 64, -64, -65, 2**15 - 1, 2**15, -(2**15), 2**31 - 1, -(2**31), 86_400_000]
_LONGS = [*_INTS, 2**31, 2**63 - 1, -(2**63), 86_400_000_000, 9_223_372_036_825_200_000, 1_700_000_000_123_456_789]
_FLOATS = [0.0, -0.0, 1.5, 0.1, 1e16, 1e15, 1e-5, 0.0001, float("nan"), float("inf"), -float("inf"), 5e-324, 1.7e308]
_NUMBERS = ["0", "-1.50", "12345678901234567890.123456789", "1e3", "NaN", "x", "", PLACEHOLDER, "9" * 40]
_TIMES = ["2024-02-29T12:00:00Z", "2024-02-29", "12:00:00.5", "2024-02-29T12:00:00", "24:00:00", "x", "infinity"]
_FIXED = {"type": "fixed", "name": "F3", "size": 3}
_ENUM = {"type": "enum", "name": "E", "symbols": ["A", "BC", "__ph"]}
_NUMBER = {
    "type": "record", "name": "VariableScaleDecimal",
    "fields": [{"name": "scale", "type": "int"}, {"name": "value", "type": "bytes"}],
}  # fmt: skip
_NESTED = {
    "type": "record", "name": "Nested",
    "fields": [{"name": "a", "type": ["null", "long"]}, {"name": "b", "type": {"type": "map", "values": "double"}},
               {"name": "c", "type": {"type": "array", "items": ["null", "float", "string", "bytes", "boolean"]}},
               {"name": "n", "type": ["null", "Nested"]}],
}  # fmt: skip

# encoding -> (column types, Avro types)
CHOICES: dict[Encoding, tuple[list[str], list[Any]]] = {
    Encoding.INT: (["int16", "int32", "int64", "interval_us"], ["int", "long"]),
    Encoding.BOOL: (["bool"], ["boolean"]),
    Encoding.FLOAT: (["float32", "float64"], ["float", "double", "int", "long"]),
    Encoding.STRING: (["string", "uuid", "xml"], ["string", "bytes", _ENUM]),
    Encoding.BASE64: (["bytes"], ["bytes", _FIXED, "string"]),
    Encoding.DECIMAL_TEXT: (["decimal(9,2)", "decimal(40,4)"], ["string", "int", "long"]),
    Encoding.NUMERIC_TEXT: (["numeric"], ["string", "long"]),
    Encoding.DECIMAL_BASE64: (["decimal(9,2)", "decimal(20,2)", "decimal(38,10)", "decimal(60,3)"], ["bytes", _FIXED]),
    Encoding.NUMERIC_STRUCT: (["numeric"], [_NUMBER]),
    Encoding.DECIMAL_STRUCT: (["decimal(20,5)"], [_NUMBER]),
    Encoding.DATE_DAYS: (["date"], ["int", "long"]),
    Encoding.TIME_MS: (["time"], ["int"]),
    Encoding.TIME_US: (["time"], ["long"]),
    Encoding.TIME_NS: (["time_ns"], ["long"]),
    Encoding.TIMESTAMP_MS: (["timestamp", "timestamptz"], ["long"]),
    Encoding.TIMESTAMP_US: (["timestamp", "timestamptz"], ["long"]),
    Encoding.TIMESTAMP_NS: (["timestamp", "timestamp_ns"], ["long"]),
    Encoding.ZONED_TIMESTAMP: (["timestamptz"], ["string"]),
    Encoding.ISO_DATE: (["date"], ["string"]),
    Encoding.ISO_TIME: (["time"], ["string"]),
    Encoding.ISO_TIMESTAMP: (["timestamp"], ["string"]),
    Encoding.BITS: (["bits"], ["bytes", _FIXED]),
    Encoding.RAW_JSON: (
        ["json"],
        ["string", "bytes", _ENUM, _NESTED, {"type": "map", "values": "string"}, {"type": "array", "items": _NESTED}],
    ),
}
_ITEMS = [encoding for encoding in CHOICES if encoding not in (Encoding.NUMERIC_STRUCT, Encoding.DECIMAL_STRUCT)]


def column(random: Random, name: str) -> tuple[WireColumn, Any]:
    """A column and the Avro type that writes it."""
    if random.random() < 0.15:
        item, avro = _simple(random, f"{name}_item", random.choice(_ITEMS))
        array = Column(name, ColumnType("array", item=item.column.type))
        wire = WireColumn(array, Encoding.ARRAY, item=item)
        items = ["null", avro] if random.random() < 0.5 else avro
        if random.random() < 0.1:
            items = ["null", avro, {"type": "array", "items": "int"}]
        return wire, {"type": "array", "items": items}
    return _simple(random, name, random.choice(list(CHOICES)))


def _simple(random: Random, name: str, encoding: Encoding) -> tuple[WireColumn, Any]:
    types, avro = CHOICES[encoding]
    more = {"bit_length": random.choice([1, 5, 17])} if encoding is Encoding.BITS else {}
    if encoding is Encoding.DECIMAL_BASE64:
        more = {"wire_scale": random.choice([0, 2, 2, 10, -1])}
    return wire_column(name, random.choice(types), encoding, **more), _renamed(random.choice(avro), name)


def _renamed(avro: Any, suffix: str) -> Any:
    """The type with names of its own: one record cannot define a name twice."""
    text = json.dumps(avro)
    for name in ("F3", "E", "VariableScaleDecimal", "Nested"):
        text = text.replace(f'"{name}"', f'"{name}_{suffix}"')
    return json.loads(text)


def schema_of(name: str, fields: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A record."""
    return {"type": "record", "name": name, "fields": [{"name": field, "type": avro} for field, avro in fields]}


def envelope_schema(row: Any, source: Sequence[tuple[str, Any]], *, late: bool = False) -> dict[str, Any]:
    """Debezium's envelope around a row's record; `late`: `op` stands last, `after` before `before`."""
    block = schema_of("Block", [("id", "string"), ("total_order", "long"), ("data_collection_order", "long")])
    fields = [("before", ["null", row]), ("after", ["null", row["name"]])]
    if late:
        fields = [("after", ["null", row]), ("before", ["null", row["name"]])]
    op: tuple[str, Any] = ("op", "string")
    middle: list[tuple[str, Any]] = [("source", schema_of("Source", source)), ("transaction", ["null", block])]
    return schema_of(
        "Envelope", [*fields, *middle, op] if late else [*fields, *middle, op, ("ts_ms", ["null", "long"])]
    )


SOURCE: Mapping[str, list[tuple[str, Any]]] = {
    "none": [("connector", "string"), ("ts_ms", "long")],
    "postgresql": [
        ("version", "string"), ("ts_ms", "long"), ("snapshot", ["null", "string"]), ("ts_us", ["null", "long"]),
        ("sequence", ["null", "string"]), ("lsn", ["null", "long"]), ("xmin", ["null", "long"]),
    ],
    "oracle": [("ts_ms", "long"), ("snapshot", "boolean"), ("scn", ["null", "string"]), ("commit_scn", "string")],
    "sqlserver": [
        ("ts_ms", "long"), ("change_lsn", ["null", "string"]), ("commit_lsn", ["null", "string"]),
        ("event_serial_no", ["null", "long"]),
        ("snapshot", ["null", {"type": "enum", "name": "S", "symbols": ["false", "last"]}]),
    ],
}  # fmt: skip
_PLACES = [
    '["12","13"]',
    '["12","14"]',
    '[null,"9"]',
    "77",
    "78",
    "x",
    "00000025:00000448:0003",
    "00000025:00000448:0004",
]
_GOOD_SOURCE = {
    "version": "3", "connector": "x", "ts_ms": 5, "xmin": None, "lsn": 14, "sequence": _PLACES[0], "scn": "78",
    "commit_scn": "77", "change_lsn": _PLACES[7], "commit_lsn": _PLACES[6], "event_serial_no": 1,
}  # fmt: skip


def source_value(random: Random, kind: str) -> dict[str, Any]:
    """A source block, mostly with a position."""
    lsn = random.choice([13, 14, 15, 0, -1, None])
    if random.random() < 0.5:
        return _GOOD_SOURCE | {"ts_us": random.choice([None, 7]), "snapshot": False if kind == "oracle" else None}
    return {
        "version": "3", "connector": "x", "ts_ms": random.choice([1_700_000_000_000, 0, 2**62]), "xmin": None,
        "snapshot": False if kind == "oracle" else random.choice([None, "false", "last"]),
        "ts_us": random.choice([None, 1_700_000_000_000_001]), "lsn": lsn,
        "sequence": random.choice([None, *_PLACES]), "scn": random.choice([None, *_PLACES]),
        "commit_scn": random.choice(_PLACES), "change_lsn": random.choice([None, *_PLACES[6:]]),
        "commit_lsn": random.choice([None, *_PLACES[6:]]), "event_serial_no": random.choice([None, 1, 2, 2**32]),
    }  # fmt: skip


def value(random: Random, avro: Any, depth: int = 0) -> Any:
    """A value of an Avro type, often on an edge."""
    if isinstance(avro, list):
        return value(random, avro[0] if random.random() < 0.5 else random.choice(avro), depth)
    kind = avro if isinstance(avro, str) else avro["type"]
    if kind == "null":
        return None
    if isinstance(avro, dict) and str(avro.get("name")).startswith("Nested"):
        inner = None if depth > 2 else random.choice([None, value(random, avro, depth + 1)])
        items = [
            value(random, random.choice(["null", "string", "bytes", "boolean"])) for _ in range(random.randrange(3))
        ]
        return {"a": random.choice([None, 5]), "b": {"k": random.choice(_FLOATS)}, "c": items, "n": inner}
    if kind == "array":
        count = random.choice([0, 1, 2, 5])
        items = avro["items"][1] if isinstance(avro["items"], list) else avro["items"]
        if items in ("int", "long", "string") and random.random() < 0.1:
            return [PLACEHOLDER] if items == "string" else list(PLACEHOLDER.encode())
        return [value(random, avro["items"], depth + 1) for _ in range(count)]
    if kind == "map":
        return {random.choice(["__ph", "k", 'q"']): random.choice(["__ph", "v"]) for _ in range(random.randrange(3))}
    if kind == "record":
        return {"scale": random.choice([0, 2, -3, 2**31 - 1]), "value": random.randbytes(random.choice([0, 1, 2, 9]))}
    choices: dict[str, Any] = {
        "boolean": [True, False], "int": _INTS, "long": _LONGS, "float": [0.0, -1.5, 0.1, float("inf"), float("nan")],
        "double": _FLOATS, "string": [*_TEXTS, *_NUMBERS, *_TIMES], "enum": ["A", "BC", "__ph"],
        "bytes": [b"", b"\x7f", b"\xff\x00", b"__ph", b"\x01" * 8, b"\x01" * 9, b"\xff" * 17, b"\x00\xc3"],
        "fixed": [b"abc", b"\0\0\0", b"\xff\xff\xff"],
    }  # fmt: skip
    return random.choice(choices[kind])


def framed(schema: Any, datum: Any, schema_id: int, framing: Framing = Framing.CONFLUENT) -> bytes:
    """A message as fastavro writes it, behind its frame."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), datum)
    head = {Framing.NONE: b"", Framing.CONFLUENT: b"\0" + struct.pack(">I", schema_id)}
    return head.get(framing, b"\0" + struct.pack(">Q", schema_id)) + out.getvalue()


def plan_of(
    columns: Sequence[WireColumn], schema: Any, *, key: tuple[str, ...] = ("id",), key_schema: Any = None, **more: Any
) -> AvroPlan:
    """A plan with writer 7 and key writer 8; `more` goes to AvroPlan, and to its EnvelopePlan under `rows`."""
    table = Table("erp.t", tuple(wire.column for wire in columns), key)
    rows = EnvelopePlan(table, tuple(columns), placeholder=PLACEHOLDER, **more.pop("rows", {}))
    keys = None if key_schema is None else AvroSchema(json.dumps(key_schema), 8)
    return AvroPlan(rows, AvroSchema(json.dumps(schema), 7), keys, **more)
