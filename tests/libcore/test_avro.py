"""Decoding Avro: C agrees with the reference on everything, both with fastavro, and both keep the rules one by one."""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from decimal import Decimal
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import avro as face
from libcore.avro import AvroPlan, AvroSchema, Framing
from libcore.change import OP, POSITION, SOURCE_TS, UNSET, Op
from libcore.decode_types import Decoded, DecodeState, Encoding, ErrorCode, WireColumn
from libcore.errors import ConfigurationError
from libcore.position import split
from libcore.reference import avro as reference
from libcore.schema import Column, parse_type
from tests.libcore import avro_values as world
from tests.libcore.strategies import EXAMPLES, LEVELS, SEEDS, message_batch
from tests.libcore.test_decode import rows_of, told
from tests.libcore.wire_values import wire_column

Decode = Any
FACES = pytest.mark.parametrize(
    "decode",
    [face.decode_avro, lambda plan, *rest: face.with_defaults(plan, reference.decode_avro(plan, *rest))],
    ids=["face", "reference"],
)
ID, V = wire_column("id", "int64", Encoding.INT), wire_column("v", "string", Encoding.STRING)
ROW = world.schema_of("Value", [("id", "long"), ("v", ["null", "string"])])
KEY = world.schema_of("Key", [("id", "long")])
ENVELOPE = world.envelope_schema(ROW, world.SOURCE["postgresql"])


def change(op: str, before: Any, after: Any, **source: Any) -> bytes:
    """An envelope of ROW from PostgreSQL, in Confluent's frame."""
    block = {
        "version": "3",
        "ts_ms": 5,
        "snapshot": "false",
        "ts_us": None,
        "sequence": None,
        "lsn": None,
        "xmin": None,
    }
    datum = {"before": before, "after": after, "source": block | source, "op": op, "transaction": None, "ts_ms": None}
    return world.framed(ENVELOPE, datum, 7)


def key(number: int) -> bytes:
    """A message's key."""
    return world.framed(KEY, {"id": number}, 8)


def plan(**more: Any) -> AvroPlan:
    """The plan of ENVELOPE."""
    return world.plan_of((ID, V), ENVELOPE, key_schema=KEY, **{"rows": {"position": "postgresql"}, **more})


def ops(decoded: Decoded) -> list[tuple[Op, Any, Any]]:
    """(op, id, v) of each row."""
    names = ("id", "v")
    values = zip(*(decoded.record[name].to_pylist() for name in (OP, *names)), strict=True)
    return [(Op(op), number, text) for op, number, text in values]


def make(seed: int) -> tuple[AvroPlan, list[tuple[bytes | None, bytes | None]]]:
    """A plan and messages for it, good and hostile."""
    random = Random(seed)
    made = [world.column(random, f"c{index}") for index in range(random.choice([0, 1, 2, 6]))]
    columns = [ID, *(wire for wire, _ in made)]
    fields: list[tuple[str, Any]] = [("id", random.choice(["long", "int", ["null", "long"]])), ("other", "string")]
    fields += [(wire.column.name, avro if random.random() < 0.2 else ["null", avro]) for wire, avro in made]
    random.shuffle(fields)
    if random.random() < 0.2:
        fields.pop()
    row, kind = world.schema_of("Value", fields), random.choice(list(world.SOURCE))
    flat = random.random() < 0.2
    schema = row if flat else world.envelope_schema(row, world.SOURCE[kind], late=random.random() < 0.3)
    rows = {"position": kind, "creates": random.random() < 0.5, "transactions": random.random() < 0.3, "generation": 3}
    plan = world.plan_of(
        columns, schema, key=random.choice([("id",), ("id",), ()]), rows=rows, flat=flat,
        key_schema=random.choice([None, KEY]), framing=random.choice([*Framing, Framing.CONFLUENT]),
    )  # fmt: skip

    def row_value(numbers: list[int]) -> dict[str, Any]:
        values = {name: world.value(random, avro) for name, avro in fields}
        return values | {"id": random.choice(numbers)}

    def message() -> tuple[bytes | None, bytes | None]:
        datum: Any = row_value([1, 2])
        if not flat:
            op, block = random.choice("cccrruuuuuuddddtmx"), {"id": "tx", "total_order": 1, "data_collection_order": 2}
            before, after = random.choice([None, row_value([1, 2])]), random.choice([None, datum, datum])
            datum = {"before": before, "after": after, "source": world.source_value(random, kind), "op": op}
            datum |= {"transaction": random.choice([None, block]), "ts_ms": None}
        data: bytes | None = world.framed(schema, datum, 7, plan.framing)
        keys = random.choice([None, world.framed(KEY, {"id": 1}, 8, plan.framing), b"\0\0\0\0\x09\x02", b"x"])
        if random.random() < 0.05:
            data = random.choice([None, b"", world.framed(schema, datum, 9)])
        elif random.random() < 0.25:
            data = _hurt(random, data or b"")
        return keys, data

    return plan, [message() for _ in range(random.choice([0, 1, 6, 20]))]


def _hurt(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data))
    ways = [
        data[:at], data + random.choice([b"\0", b"x"]), data[:at] + bytes([random.randrange(256)]) + data[at + 1 :],
        data[:at] + data[at + 1 :], data[:at] + random.choice([b"\xff" * 10, b"\x80", b"\x01", b"\0\0"]) + data[at:],
        data[:at] + random.randbytes(3) + data[at + 3 :],
    ]  # fmt: skip
    return random.choice(ways)


@settings(max_examples=EXAMPLES)
@given(SEEDS, st.integers(0, 3))
def test_c_agrees_with_the_reference(seed: int, start: int) -> None:
    """Rows, NULLs, unset bits, errors, events, stops and state are the reference's, at every level of the machine."""
    plan, messages = make(seed)
    record = message_batch(messages)
    begin = min(start, record.num_rows)
    expected = reference.decode_avro(plan, record, begin, DecodeState())
    for level in LEVELS:
        found = face.decode_avro(plan, record, begin, level=level)
        assert told(found) == told(expected), seed
        assert rows_of(found) == rows_of(expected), seed
        assert found.record.schema == expected.record.schema
        found.record.validate()


@settings(max_examples=max(10, EXAMPLES // 10))
@given(SEEDS)
def test_every_cut_and_byte_agrees(seed: int) -> None:
    """A message cut at any byte, and with any byte replaced, gives the same error or row on both sides."""
    random = Random(seed)
    whole = change("u", {"id": 1, "v": "a"}, {"id": 2, "v": "ş"}, lsn=14, sequence='["12","14"]')
    hurt = [whole[:end] for end in range(len(whole))]
    hurt += [whole[:at] + bytes([random.randrange(256)]) + whole[at + 1 :] for at in range(5, len(whole))]
    record = message_batch([(key(1), data) for data in hurt])
    found, expected = face.decode_avro(plan(), record), reference.decode_avro(plan(), record)
    assert told(found) == told(expected)
    assert rows_of(found) == rows_of(expected)
    assert len(found.errors) >= len(whole)


@FACES
def test_debezium_operations(decode: Decode) -> None:
    """Creates, updates, a moved key, deletes by `before`, by the message's key and by a tombstone, in their order."""
    messages = [
        (key(1), change("c", None, {"id": 1, "v": "a"}, lsn=13, sequence='["12","13"]', ts_us=7)),
        (key(1), change("u", None, {"id": 1, "v": None}, lsn=14, sequence='["12","14"]')),
        (key(2), change("u", {"id": 1, "v": "a"}, {"id": 2, "v": "b"}, lsn=15, sequence='["12","15"]')),
        (key(2), change("d", {"id": 2, "v": None}, None)),
        (key(3), change("d", None, None)),
        (key(3), None),
        (None, change("m", None, None)),
    ]
    decoded = decode(plan(), message_batch(messages))
    assert decoded.errors == []
    assert ops(decoded) == [
        (Op.UPSERT, 1, "a"), (Op.UPSERT, 1, None), (Op.DELETE, 1, None), (Op.UPSERT, 2, "b"), (Op.DELETE, 2, None),
        (Op.DELETE, 3, None), (Op.DELETE, 3, None),
    ]  # fmt: skip
    assert decoded.rows.to_pylist() == [0, 1, 2, 2, 3, 4, 5]
    assert decoded.events == [(6, "message")]
    assert split(decoded.record[POSITION][0].as_py()) == (0, 12, 13, 0)
    assert pa.compute.cast(decoded.record[SOURCE_TS], pa.int64()).to_pylist()[:2] == [7, 5000]


@FACES
def test_another_schema_stops(decode: Decode) -> None:
    """A value of another id ends the call before it, likewise a key that is needed; a truncate too."""
    good, other = change("c", None, {"id": 1, "v": "a"}), world.framed(ROW, {"id": 1, "v": "a"}, 9)
    stopped = decode(plan(), message_batch([(None, good), (None, other), (None, good)]))
    assert (stopped.consumed, stopped.stop, stopped.record.num_rows) == (1, "schema", 1)
    stopped = decode(plan(), message_batch([(None, good), (world.framed(KEY, {"id": 1}, 99), None)]))
    assert (stopped.consumed, stopped.stop, stopped.record.num_rows) == (1, "key_schema", 1)
    stopped = decode(plan(), message_batch([(None, change("t", None, None))]))
    assert (stopped.consumed, stopped.stop) == (0, "truncate")


@FACES
@pytest.mark.parametrize(
    ("data", "code", "position"),
    [
        (b"", ErrorCode.SYNTAX, 0),
        (b"\x01\0\0\0\x07\x02\x02", ErrorCode.SYNTAX, 0),
        (b"\0\0\0\0", ErrorCode.SYNTAX, 4),
        (b"\0\0\0\0\x07\x02", ErrorCode.SYNTAX, 6),  # ends early
        (b"\0\0\0\0\x07\x02\x04", ErrorCode.SYNTAX, 6),  # no such branch
        (b"\0\0\0\0\x07\x02\x02\x03", ErrorCode.SYNTAX, 7),  # a negative length
        (b"\0\0\0\0\x07\x02\x02\x7f", ErrorCode.SYNTAX, 7),  # a length above the bytes that are left
        (b"\0\0\0\0\x07\x02\x00\x00", ErrorCode.SYNTAX, 7),  # bytes behind the root
        (b"\0\0\0\0\x07" + b"\xff" * 10, ErrorCode.SYNTAX, 5),  # more than 64 bits
        (b"\0\0\0\0\x07\x02\x02\x04\xc3\x28", ErrorCode.UTF8, 8),
        (b"\0\0\0\0\x07\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02\x00", ErrorCode.SYNTAX, 5),  # the 65th bit
    ],
)
def test_faults(decode: Decode, data: bytes, code: ErrorCode, position: int) -> None:
    """Each fault has its code and the byte it stands at, and its neighbours go on."""
    good = world.framed(ROW, {"id": 1, "v": "a"}, 7)
    flat = world.plan_of((ID, V), ROW, flat=True)
    decoded = decode(flat, message_batch([(None, good), (None, data), (None, good)]))
    assert [(error.message, error.code, error.byte_position) for error in decoded.errors] == [(1, code, position)]
    assert ops(decoded) == [(Op.UPSERT, 1, "a")] * 2


@FACES
def test_unset_is_not_null(decode: Decode) -> None:
    """The placeholder and a column that the writer lacks are unset; null is NULL; a default fills in."""
    columns = (ID, V, wire_column("n", "int32", Encoding.INT), wire_column("w", "string", Encoding.STRING))
    flat = world.plan_of(columns, ROW, flat=True, defaults={"n": 42})
    data = [world.framed(ROW, {"id": number, "v": text}, 7) for number, text in ((1, world.PLACEHOLDER), (2, None))]
    decoded = decode(flat, message_batch([(None, value) for value in data]))
    assert [value[0] for value in decoded.record[UNSET].to_pylist()] == [0b1010, 0b1000]
    assert decoded.record["n"].to_pylist() == [42, 42]


@FACES
def test_aliases_and_promotions(decode: Decode) -> None:
    """A field found by the column's alias fills it; int goes into int64 and float64, bytes into text and back."""
    row = world.schema_of("r", [("old_id", "int"), ("f", "int"), ("s", "bytes"), ("b", "string"), ("g", "float")])
    columns = [
        ID, wire_column("f", "float64", Encoding.FLOAT), wire_column("s", "string", Encoding.STRING),
        wire_column("b", "bytes", Encoding.BASE64), wire_column("g", "float64", Encoding.FLOAT),
    ]  # fmt: skip
    flat = world.plan_of(columns, row, flat=True, aliases={"id": ("old_id",)})
    data = world.framed(row, {"old_id": -7, "f": 3, "s": "ş".encode(), "b": "ş", "g": 0.5}, 7)
    record = decode(flat, message_batch([(None, data)])).record
    assert [record[name][0].as_py() for name in ("id", "f", "s", "b", "g")] == [-7, 3.0, "ş", "ş".encode(), 0.5]


@FACES
def test_money_and_json(decode: Decode) -> None:
    """Decimals are exact at any scale; maps and records become JSON, arrays of one dimension literals."""
    nested = world.schema_of("n", [("a", ["null", "int"]), ("f", {"type": "array", "items": "double"})])
    row = world.schema_of(
        "r", [("id", "long"), ("d", "bytes"), ("j", nested), ("m", {"type": "map", "values": "bytes"}),
              ("a", {"type": "array", "items": ["null", "string"]})],
    )  # fmt: skip
    item = WireColumn(Column("item", parse_type("string")), Encoding.STRING)
    columns = [
        ID, WireColumn(Column("d", parse_type("decimal(18,4)")), Encoding.DECIMAL_BASE64, wire_scale=2),
        wire_column("j", "json", Encoding.RAW_JSON), wire_column("m", "json", Encoding.RAW_JSON),
        WireColumn(Column("a", parse_type("array(string)")), Encoding.ARRAY, item=item),
    ]  # fmt: skip
    flat = world.plan_of(columns, row, flat=True)
    datum = {"id": 1, "d": b"\xcf\xc7", "j": {"a": None, "f": [0.1, 1e16, -0.0, float("nan")]}, "m": {"k": b"\0\1"}}
    record = decode(flat, message_batch([(None, world.framed(row, datum | {"a": ["x", None, 'q"']}, 7))])).record
    assert record["d"][0].as_py() == Decimal("-123.4500")
    assert record["j"][0].as_py() == '{"a":null,"f":[0.1,1e+16,-0.0,"NaN"]}'
    assert record["m"][0].as_py() == '{"k":"AAE="}'
    assert record["a"][0].as_py() == '{"x",NULL,"q\\""}'


@FACES
def test_arrays_that_were_not_sent_and_infinite_dates(decode: Decode) -> None:
    """Bytes, UUIDs and floats that stand for an array that was not sent leave it unset; Debezium's days for an infinite
    date become the end values."""
    unsent = world.PLACEHOLDER.encode()
    named = uuid.UUID(bytes=hashlib.md5(unsent, usedforsecurity=False).digest(), version=3)
    items = (("b", "bytes", Encoding.BASE64), ("u", "string", Encoding.STRING), ("f", "float64", Encoding.FLOAT))
    kinds = (("b", "bytes"), ("u", "string"), ("f", "double"))
    arrays = [(name, {"type": "array", "items": kind}) for name, kind in kinds]
    row = world.schema_of("r", [("id", "long"), ("d", "int"), *arrays])
    columns = [ID, wire_column("d", "date", Encoding.DATE_DAYS)] + [
        WireColumn(Column(name, parse_type(f"array({text})")), Encoding.ARRAY, item=wire_column("item", text, encoding))
        for name, text, encoding in items
    ]
    datum = {"id": 1, "d": -2147472692, "b": [unsent], "u": [str(named)]}
    flat = world.plan_of(columns, row, flat=True)
    data = world.framed(row, datum | {"f": [float(byte) for byte in unsent]}, 7)
    decoded = decode(flat, message_batch([(None, data)])).record
    assert decoded["d"].cast("int32").to_pylist() == [2**31 - 1]
    assert decoded[UNSET].to_pylist() == [b"\x1c"]


@given(SEEDS)
@settings(max_examples=max(10, EXAMPLES // 10))
def test_floats_as_text_read_back(seed: int) -> None:
    """A double in JSON text reads back as the same double, with the digits that Python's repr gives."""
    random = Random(seed)
    row = world.schema_of("r", [("id", "long"), ("j", {"type": "array", "items": "double"})])
    numbers = [struct.unpack("<d", random.randbytes(8))[0] for _ in range(50)] + [random.random(), 0.1 + 0.2]
    numbers = [number for number in numbers if number == number and abs(number) != float("inf")]
    flat = world.plan_of([ID, wire_column("j", "json", Encoding.RAW_JSON)], row, flat=True)
    data = world.framed(row, {"id": 1, "j": numbers}, 7)
    text = face.decode_avro(flat, message_batch([(None, data)])).record["j"][0].as_py()
    assert json.loads(text) == numbers


@FACES
def test_sizes(decode: Decode) -> None:
    """No message, one, and many; a batch that is a slice."""
    flat = world.plan_of((ID, V), ROW, flat=True)
    data = [(None, world.framed(ROW, {"id": number, "v": str(number)}, 7)) for number in range(300)]
    assert decode(flat, message_batch([])).record.num_rows == 0
    assert decode(flat, message_batch(data[:1])).record["v"].to_pylist() == ["0"]
    assert decode(flat, message_batch(data).slice(10, 250)).record["id"].to_pylist() == list(range(10, 260))


@FACES
def test_heartbeats_and_marks_are_events(decode: Decode) -> None:
    """Records without `op`: with ts_ms a heartbeat, with status and id a transaction mark."""
    for fields, event in (
        ([("ts_ms", "long")], "heartbeat"),
        ([("status", "string"), ("id", "string")], "transaction"),
    ):
        schema = world.schema_of("h", fields)
        data = world.framed(schema, {"ts_ms": 1, "status": "END", "id": "7"}, 7)
        assert decode(world.plan_of((ID, V), schema), message_batch([(None, data)])).events == [(0, event)]


def test_recursive_types_end_at_64(decode: Decode = face.decode_avro) -> None:
    """A list of 60 is JSON text; one of 100 is DEPTH; one that never ends without bytes is refused as a schema."""
    link = {"type": "record", "name": "L", "fields": [{"name": "n", "type": ["null", "L"]}]}
    row = world.schema_of("r", [("id", "long"), ("j", link)])
    flat = world.plan_of([ID, wire_column("j", "json", Encoding.RAW_JSON)], row, flat=True)
    data = [b"\0\0\0\0\x07\x02" + b"\x02" * count + b"\0" for count in (60, 100)]
    for one in (decode, reference.decode_avro):
        decoded = one(flat, message_batch([(None, value) for value in data]))
        assert decoded.record.num_rows == 1
        assert [error.code for error in decoded.errors] == [ErrorCode.DEPTH]
    endless = world.schema_of(
        "r", [("id", "long"), ("j", {"type": "record", "name": "L", "fields": [{"name": "n", "type": "L"}]})]
    )
    with pytest.raises(ConfigurationError, match="stands inside itself"):
        decode(world.plan_of([ID], endless, flat=True), message_batch([]))


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ("{", "expected an Avro schema in JSON"),
        ('"strange"', "unknown type 'strange'"),
        ('{"type":"record","name":"r"}', "expected fields"),
        ('{"type":"record","name":"r","fields":[{"name":"id","type":"string"}]}', "does not fill column id"),
        ('{"type":"record","name":"r","fields":[{"name":"id","type":[["null"]]}]}', "no unions"),
        ('{"type":"record","name":"r","fields":[{"name":"id","type":{"type":"fixed","name":"f"}}]}', "expected a size"),
        (
            '{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"id","type":"long"}]}',
            "record r: field id stands there twice",
        ),
        (
            '{"type":"record","name":"r","fields":[{"name":"a","type":{"type":"fixed","name":"f","size":2}},'
            '{"name":"b","type":{"type":"fixed","name":"f","size":3}}]}',
            "type f is defined twice",
        ),
    ],
)
def test_schemas_that_do_not_fit(schema: str, text: str) -> None:
    """A schema that is none, or whose field cannot fill its column, is refused by name before any message."""
    flat = world.plan_of((ID, V), ROW, flat=True)
    with pytest.raises(ConfigurationError, match=text):
        face.decode_avro(AvroPlan(flat.rows, AvroSchema(schema, 7), flat=True), message_batch([]))


@FACES
def test_a_namespace_of_null_is_none(decode: Decode) -> None:
    """A namespace that is null is one that is not given: the type is in that of the record around it."""
    enum = {"type": "enum", "name": "e", "namespace": None, "symbols": ["x", "y"]}
    row: Any = {"type": "record", "name": "r", "namespace": "n", "fields": []}
    row["fields"] = [{"name": "id", "type": "long"}, {"name": "u", "type": enum}, {"name": "v", "type": "e"}]
    written = AvroPlan(world.plan_of((ID, V), ROW, flat=True).rows, AvroSchema(json.dumps(row), 7), flat=True)
    data = b"\0\0\0\0\x07\x02\0\x02"
    assert decode(written, message_batch([(None, data)])).record["v"].to_pylist() == ["y"]


def test_confluent_frames_of_the_specification() -> None:
    """A 0 byte, the id in four bytes big endian (Apicurio: eight), the body: the published example."""
    plan = world.plan_of(
        (wire_column("id", "int32", Encoding.INT),), {**KEY, "fields": [{"name": "id", "type": "int"}]}, flat=True
    )
    assert face.decode_avro(plan, message_batch([(None, bytes.fromhex("000000000702"))])).record["id"].to_pylist() == [
        1
    ]
    apicurio = AvroPlan(plan.rows, plan.writer, framing=Framing.APICURIO, flat=True)
    data = bytes.fromhex("00000000000000000702")
    assert face.decode_avro(apicurio, message_batch([(None, data)])).record["id"].to_pylist() == [1]
