"""Decoding, case by case: every logical type and event of Debezium in tests/golden, and inputs meant to break it."""

from __future__ import annotations

import base64
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libcore import decode as face
from libcore.change import OP, UNSET, Op
from libcore.decode_types import Decoded, Encoding, EnvelopePlan, ErrorCode, WireColumn
from libcore.errors import ConfigurationError, HeadraceError
from libcore.reference import decode as reference
from libcore.reference.values import plain
from libcore.schema import Column, Table, parse_type

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "debezium_types.json").read_text("utf-8"))
FACES = pytest.mark.parametrize(
    "decode", [face.decode_envelopes, reference.decode_envelopes], ids=["face", "reference"]
)
Decode = Any
E = Encoding
PLACEHOLDER = "__debezium_unavailable_value"


def wire(name: str, type_text: str, encoding: Encoding, **options: Any) -> WireColumn:
    """A column and its encoding."""
    return WireColumn(Column(name, parse_type(type_text)), encoding, **options)


ID, V = wire("id", "int64", E.INT), wire("v", "string", E.STRING)


def plan_of(*columns: WireColumn, key: tuple[str, ...] = ("id",), **options: Any) -> EnvelopePlan:
    """A plan of those columns."""
    return EnvelopePlan(Table("public.t", tuple(column.column for column in columns), key), columns, **options)


def batch(values: list[bytes | None], keys: list[bytes | None] | None = None) -> pa.RecordBatch:
    """Messages of those values and keys."""
    numbers = pa.array(range(len(values)), pa.int64())
    key_array = pa.array(keys or [None] * len(values), pa.binary())
    names = ["key", "value", "offset", "timestamp_ms"]
    return pa.RecordBatch.from_arrays([key_array, pa.array(values, pa.binary()), numbers, numbers], names=names)


def create(row: str) -> bytes:
    """A create of that row, which is JSON text."""
    return f'{{"before":null,"after":{row},"source":{{"ts_us":1}},"op":"c","ts_ms":1}}'.encode()


def value_of(decode: Decode, column: WireColumn, json_text: str) -> Any:
    """The plain value that a JSON text becomes in that column, "unset", or (code, byte in the text)."""
    head = f'{{"before":null,"after":{{"id":1,"{column.column.name}":'.encode()
    message = create(f'{{"id":1,"{column.column.name}":{json_text}}}')
    decoded: Decoded = decode(plan_of(ID, column), batch([message]))
    if decoded.errors:
        return decoded.errors[0].code, decoded.errors[0].byte_position - len(head)
    if UNSET in decoded.record.schema.names:
        return "unset"
    value = plain(decoded.record.column(1))[0]
    return value.decode() if isinstance(value, bytes) and column.column.type.name != "bytes" else value


# type, encoding, options and the plain value of each entry of the golden file, in its order; dates and times in their
# units, decimals as the stored integer
TYPES: list[tuple[str, Encoding, dict[str, Any], Any]] = [
    ("int16", E.INT, {}, -7),
    ("int64", E.INT, {}, -(2**63)),
    ("float64", E.FLOAT, {}, 0.1),
    ("bytes", E.BASE64, {}, b"\x00\xff\x10"),
    ("date", E.DATE_DAYS, {}, 0),
    ("date", E.DATE_DAYS, {}, -1),
    ("date", E.DATE_DAYS, {}, 2932896),
    ("time", E.TIME_MS, {}, 54796945000),
    ("time", E.TIME_US, {}, 54796945104),
    ("time_ns", E.TIME_NS, {}, 54796945104200),
    ("timestamp", E.TIMESTAMP_MS, {}, -1000),
    ("timestamp", E.TIMESTAMP_US, {}, 1529507596945104),
    ("timestamp_ns", E.TIMESTAMP_NS, {}, 1529507596945104700),
    ("timestamptz", E.ZONED_TIMESTAMP, {}, 1529507596945104 - 2 * 3600 * 10**6),
    ("timestamptz", E.ZONED_TIMESTAMP, {}, 1529500396000000),
    ("interval_us", E.INT, {}, 37091106780000),
    ("interval", E.STRING, {}, "P1Y2M3DT4H5M6.78S"),
    ("date", E.ISO_DATE, {}, 19782),
    ("timestamp", E.ISO_TIMESTAMP, {}, 1529507596945104),
    ("time", E.TIME_MS, {}, 54796945000),
    ("decimal(18,2)", E.DECIMAL_BASE64, {"wire_scale": 2}, 12345),
    ("decimal(18,2)", E.DECIMAL_BASE64, {"wire_scale": 2}, 0),
    ("decimal(18,2)", E.DECIMAL_BASE64, {"wire_scale": 2}, 127),
    ("decimal(18,2)", E.DECIMAL_BASE64, {"wire_scale": 2}, 32767),
    ("decimal(18,2)", E.DECIMAL_BASE64, {"wire_scale": 2}, -32768),
    ("decimal(38,0)", E.DECIMAL_BASE64, {}, 12345678901234567890123456789012345678),
    ("numeric", E.NUMERIC_STRUCT, {}, "-1000"),
    ("numeric", E.NUMERIC_STRUCT, {}, "0.0000000001"),
    ("numeric", E.NUMERIC_TEXT, {}, "1000"),
    ("numeric", E.NUMERIC_TEXT, {}, "NaN"),
    ("float64", E.FLOAT, {}, 1234567890123.4568),
    ("bits", E.BITS, {"bit_length": 10}, "1000001001"),
    ("string", E.STRING, {}, "bad"),
    ("string", E.STRING, {}, "a,c"),
    ("xml", E.STRING, {}, "<a/>"),
    ("json", E.RAW_JSON, {}, '{"x":1.5,"y":-2.0,"wkb":"AQEAAAAAAAAAAAD4PwAAAAAAAADA","srid":null}'),
    ("array(int32)", E.ARRAY, {"item": wire("item", "int32", E.INT)}, "{1,NULL,3}"),
    ("string", E.STRING, {}, None),
    ("bytes", E.BASE64, {}, "unset"),
    ("json", E.RAW_JSON, {}, '{"dimensions":5,"vector":[[4,-2.0],[1,1.5]]}'),
]


@FACES
@pytest.mark.parametrize("index", range(len(TYPES)), ids=[entry["source_type"] for entry in GOLDEN["types"]])
def test_every_logical_type(decode: Decode, index: int) -> None:
    """Each value that Debezium's own schema builders and converter wrote becomes exactly what the source had."""
    assert len(TYPES) == len(GOLDEN["types"])
    type_text, encoding, options, expected = TYPES[index]
    text = json.dumps(GOLDEN["types"][index]["json_value"], separators=(",", ":"))
    assert value_of(decode, wire("v", type_text, encoding, **options), text) == expected


NUMERIC = [entry for entry in GOLDEN["types"] if "json_value_decimal_format_numeric" in entry]


@FACES
@pytest.mark.parametrize("entry", NUMERIC, ids=lambda entry: entry["source_value"])
def test_decimals_as_json_numbers(decode: Decode, entry: dict[str, Any]) -> None:
    """With decimal.format=numeric the literal's digits count: no value passes through a double."""
    scale = int(entry["connect_schema"]["parameters"]["scale"])
    column = wire("v", f"decimal(38,{scale})", E.DECIMAL_TEXT)
    assert value_of(decode, column, entry["source_value"]) == int(Fraction(entry["source_value"]) * 10**scale)


def effects(decoded: Decoded) -> list[tuple[str, dict[str, Any]]]:
    """(upsert or delete, values that are set) of each row."""
    record, made = decoded.record, []
    names = decoded.record.schema.names
    ops = plain(record.column(OP))
    for i, row in enumerate(record.to_pylist()):
        unset = int.from_bytes(row[UNSET], "little") if UNSET in names else 0
        values = {n: row[n] for k, n in enumerate(("id", "v", "big", "c")) if n in row and not unset >> k & 1}
        deletes = ops[i] == Op.DELETE
        made.append(("delete", {"id": values["id"]}) if deletes else ("upsert", values))
    return made


EVENTS = {event["id"]: event for event in GOLDEN["events"]}
CHANGES = {
    "ev-001": [("upsert", {"id": 1, "v": "a"})],
    "ev-002": [("upsert", {"id": 1, "v": "a"})],
    "ev-003": [("upsert", {"id": 9, "v": "z"})],
    "ev-004": [("upsert", {"id": 3, "v": "c"})],
    "ev-005": [("upsert", {"id": 1, "v": "b"})],
    "ev-006": [("upsert", {"id": 1, "v": "b"})],
    "ev-007": [("upsert", {"id": 1, "v": "b"})],
    "ev-008": [("delete", {"id": 1}), ("delete", {"id": 1})],
    "ev-009": [("delete", {"id": 1}), ("delete", {"id": 1}), ("upsert", {"id": 2, "v": "a"})],
    "ev-012": [("delete", {"id": 1})],
    "ev-013": [("upsert", {"id": 1})],
    "ev-015": [("upsert", {"id": 1})],
    "ev-017": [("upsert", {"id": 1, "v": "b"})],
    "ev-018": [("upsert", {"id": 1})],
    "ev-019": [("upsert", {"id": 1, "v": "b"})],
    "ev-020": [("upsert", {"id": 1})],
}


def decode_event(decode: Decode, event: dict[str, Any]) -> Decoded:
    """Its messages in one call, with the position and the schema part that they have."""
    columns = (ID, V, wire("big", "string", E.STRING), wire("c", "string", E.STRING))
    texts = [None if m["value"] is None else json.dumps(m["value"], separators=(",", ":")) for m in event["messages"]]
    keys = [None if m["key"] is None else json.dumps(m["key"]).encode() for m in event["messages"]]
    value = event["messages"][0]["value"] or {}
    schema = json.dumps(value["schema"], separators=(",", ":")).encode() if "schema" in value else None
    position = value.get("source", {}).get("connector", "postgresql")
    plan = plan_of(*columns, position=position, schema_bytes=schema)
    return decode(plan, batch([None if text is None else text.encode() for text in texts], keys))


@FACES
@pytest.mark.parametrize("name", CHANGES)
def test_documented_events_have_their_effect(decode: Decode, name: str) -> None:
    """The connectors' documented events become the upserts and deletes they stand for, unsent values left alone."""
    decoded = decode_event(decode, EVENTS[name])
    assert decoded.errors == []
    assert effects(decoded) == CHANGES[name]


@FACES
def test_documented_events_without_rows(decode: Decode) -> None:
    """Truncate stops, messages, transactions and heartbeats are events, and a flattened row is no envelope."""
    assert decode_event(decode, EVENTS["ev-010"]).stop == "truncate"
    assert decode_event(decode, EVENTS["ev-011"]).events == [(0, "message")]
    assert decode_event(decode, EVENTS["ev-015"]).events == [(0, "transaction"), (2, "transaction")]
    assert decode_event(decode, EVENTS["ev-016"]).events == [(0, "heartbeat")]
    assert [error.code for error in decode_event(decode, EVENTS["ev-014"]).errors] == [ErrorCode.OP] * 2
    assert set(CHANGES) | {"ev-010", "ev-011", "ev-014", "ev-016"} == set(EVENTS)


BAD_VALUES = [
    ("int16", E.INT, "32768", ErrorCode.RANGE),
    ("int64", E.INT, "9223372036854775808", ErrorCode.RANGE),
    ("int64", E.INT, "1" * 5000, ErrorCode.RANGE),
    ("int64", E.INT, "1.0", ErrorCode.TYPE),
    ("int64", E.INT, "1e2", ErrorCode.TYPE),
    ("int64", E.INT, '"1"', ErrorCode.TYPE),
    ("bool", E.BOOL, "1", ErrorCode.TYPE),
    ("float64", E.FLOAT, "1e999", ErrorCode.RANGE),
    ("float64", E.FLOAT, '"nan"', ErrorCode.TYPE),
    ("string", E.STRING, "{}", ErrorCode.TYPE),
    ("string", E.STRING, '"\\ud800"', ErrorCode.SURROGATE),
    ("string", E.STRING, '"\\ud800\\u0041"', ErrorCode.SURROGATE),
    ("bytes", E.BASE64, '"AP8"', ErrorCode.BASE64),
    ("bytes", E.BASE64, '"AP8_"', ErrorCode.BASE64),
    ("decimal(5,2)", E.DECIMAL_TEXT, '"1.005"', ErrorCode.SCALE),
    ("decimal(5,2)", E.DECIMAL_TEXT, '"1000"', ErrorCode.RANGE),
    ("decimal(5,2)", E.DECIMAL_TEXT, '"NAN"', ErrorCode.RANGE),
    ("decimal(5,2)", E.DECIMAL_TEXT, '"1e999999999999999999999"', ErrorCode.RANGE),
    ("decimal(5,2)", E.DECIMAL_TEXT, '"1,5"', ErrorCode.TYPE),
    ("numeric", E.NUMERIC_TEXT, '"1e20000"', ErrorCode.RANGE),
    ("numeric", E.NUMERIC_STRUCT, '{"scale":1}', ErrorCode.TYPE),
    ("time", E.TIME_MS, "86400001", ErrorCode.RANGE),
    ("timestamp", E.TIMESTAMP_MS, "9223372036854776", ErrorCode.RANGE),
    ("timestamp", E.TIMESTAMP_NS, "1001", ErrorCode.SCALE),
    ("timestamptz", E.ZONED_TIMESTAMP, '"2024-02-30T00:00:00Z"', ErrorCode.RANGE),
    ("timestamptz", E.ZONED_TIMESTAMP, '"2024-02-28 00:00:00Z"', ErrorCode.TYPE),
    ("timestamptz", E.ZONED_TIMESTAMP, '"2024-02-28T00:00:00.1234567Z"', ErrorCode.SCALE),
    ("array(int32)", E.ARRAY, '[[1],[2]]', ErrorCode.ARRAY),
    ("array(int32)", E.ARRAY, '["[I@1b2c"]', ErrorCode.ARRAY),
]  # fmt: skip


@FACES
@pytest.mark.parametrize(("type_text", "encoding", "text", "code"), BAD_VALUES, ids=str)
def test_values_that_do_not_fit(decode: Decode, type_text: str, encoding: Encoding, text: str, code: ErrorCode) -> None:
    """A value that its column cannot hold is an error at its own byte; nothing is rounded, cut or guessed."""
    item = wire("item", "int32", E.INT) if encoding == E.ARRAY else None
    at = 1 if code in (ErrorCode.SURROGATE, ErrorCode.ARRAY) else 0
    assert value_of(decode, wire("v", type_text, encoding, item=item), text) == (code, at)


@FACES
def test_infinities_and_borders(decode: Decode) -> None:
    """Infinite timestamps become the end values that mean infinity; 24:00 and years beyond four digits are values."""
    stamp, zoned = wire("v", "timestamp", E.TIMESTAMP_US), wire("v", "timestamptz", E.ZONED_TIMESTAMP)
    assert value_of(decode, stamp, "9223372036825200000") == 2**63 - 1
    assert value_of(decode, wire("v", "timestamp", E.TIMESTAMP_MS), "-9223372036832400000") == -(2**63)
    assert value_of(decode, zoned, '"infinity"') == 2**63 - 1
    assert value_of(decode, zoned, '"-infinity"') == -(2**63)
    assert value_of(decode, zoned, '"+10000-01-01T00:00:00Z"') == 253402300800 * 10**6
    assert value_of(decode, wire("v", "date", E.ISO_DATE), '"-0043-03-15"') == -735160
    assert value_of(decode, wire("v", "time", E.TIME_US), "86400000000") == 86400000000
    assert value_of(decode, wire("v", "bits", E.BITS, bit_length=5), '"FQ=="') == "10101"


@FACES
@pytest.mark.parametrize(
    ("type_text", "encoding", "text"),
    [
        ("string", E.STRING, f'"{PLACEHOLDER}"'),
        ("json", E.STRING, json.dumps(json.dumps({PLACEHOLDER: PLACEHOLDER}, separators=(",", ":")))),
        ("json", E.RAW_JSON, f'{{"{PLACEHOLDER}":"{PLACEHOLDER}"}}'),
        ("decimal(5,2)", E.DECIMAL_TEXT, f'"{PLACEHOLDER}"'),
        ("numeric", E.NUMERIC_TEXT, f'"{PLACEHOLDER}"'),
        ("bytes", E.BASE64, f'"{base64.b64encode(PLACEHOLDER.encode()).decode()}"'),
        ("array(string)", E.ARRAY, f'["{PLACEHOLDER}"]'),
        ("array(string)", E.ARRAY, json.dumps(list(PLACEHOLDER.encode()), separators=(",", ":"))),
    ],
)
def test_unsent_values_are_unset(decode: Decode, type_text: str, encoding: Encoding, text: str) -> None:
    """Every form of the placeholder says "not sent", which is not NULL; so does a missing field."""
    item = wire("item", "string", E.STRING) if encoding == E.ARRAY else None
    assert value_of(decode, wire("v", type_text, encoding, item=item), text) == "unset"
    assert effects(decode(plan_of(ID, V), batch([create('{"id":1}')]))) == [("upsert", {"id": 1})]


@FACES
def test_creates_are_told_apart_on_request(decode: Decode) -> None:
    """A plan that asks gets INSERT for op c and r of a table with a key; u, moved keys and keyless rows do not."""
    moved = create('{"id":3}').replace(b'"before":null', b'"before":{"id":2}').replace(b'"op":"c"', b'"op":"u"')
    updated = create('{"id":1}').replace(b'"op":"c"', b'"op":"u"')
    spaced = create('{"id":1}').replace(b'"op":', b'"op" : ')  # the careful way answers the same
    values = [create('{"id":1}'), create('{"id":2}').replace(b'"op":"c"', b'"op":"r"'), updated, moved, spaced]
    told = decode(plan_of(ID, V, creates=True), batch(values)).record.column(OP).to_pylist()
    assert told == [Op.INSERT, Op.INSERT, Op.UPSERT, Op.DELETE, Op.UPSERT, Op.INSERT]
    plain_ops = decode(plan_of(ID, V), batch(values)).record.column(OP).to_pylist()
    assert plain_ops == [Op.UPSERT, Op.UPSERT, Op.UPSERT, Op.DELETE, Op.UPSERT, Op.UPSERT]
    keyless = decode(plan_of(ID, V, key=(), creates=True), batch(values[:2])).record.column(OP).to_pylist()
    assert keyless == [Op.UPSERT, Op.UPSERT]


@FACES
def test_truncated_at_every_byte(decode: Decode) -> None:
    """A message cut anywhere is a syntax error at its length, and the messages around it are read."""
    whole = create('{"id":1,"v":"a\\u00e9\\"ä"}')
    cuts = [whole[:size] for size in range(len(whole))]
    decoded = decode(plan_of(ID, V), batch([message for cut in cuts for message in (whole, cut)]))
    inside_letter = whole.index("ä".encode()) + 1
    assert decoded.record.num_rows == len(whole)
    for size, error in enumerate(decoded.errors):
        wanted = (ErrorCode.UTF8, size - 1) if size == inside_letter else (ErrorCode.SYNTAX, size)
        assert (error.code, error.byte_position) == wanted


@FACES
@pytest.mark.parametrize(
    ("value", "code", "found"),
    [
        (create('{"id":1,"v":"a","v":"b"}'), ErrorCode.DUPLICATE, b'"v":"b"'),
        (create('{"id":1,"\\u0069d":2}'), ErrorCode.DUPLICATE, b'"\\u0069d"'),
        (create('{"id":1,"x":' + "[" * 70 + "]" * 70 + "}"), ErrorCode.DEPTH, b"[" * 8 + b"]"),
        (create('{"id":1,"v":"?"}').replace(b"?", b"\xff"), ErrorCode.UTF8, b"\xff"),
        (create('{"id":1,"v":"?"}').replace(b"?", b"\xed\xa0\x80"), ErrorCode.UTF8, b"\xed\xa0\x80"),
        (create('{"id":1,"v":"?"}').replace(b"?", b"\0"), ErrorCode.SYNTAX, b"\0"),
        (create('{"id":1,"v":"a"}') + b"\0", ErrorCode.SYNTAX, b"\0"),
        (create('{"id":1,"v":NaN}'), ErrorCode.SYNTAX, b"NaN"),
        (create('{"id":01}'), ErrorCode.SYNTAX, b"1}"),
    ],
    ids=["twice", "twice-escaped", "deep", "utf8", "surrogate-bytes", "nul", "nul-behind", "nan", "octal"],
)
def test_hostile_bytes(decode: Decode, value: bytes, code: ErrorCode, found: bytes) -> None:
    """What a broken or malicious producer sends has one defined answer, at one byte, and harms no neighbour."""
    decoded = decode(plan_of(ID, V), batch([create('{"id":1}'), value, create('{"id":2}')]))
    (error,) = decoded.errors
    assert (error.message, error.code) == (1, code)
    assert error.byte_position == value.index(found)
    assert effects(decoded) == [("upsert", {"id": 1}), ("upsert", {"id": 2})]


@FACES
def test_ten_megabyte_rows(decode: Decode) -> None:
    """A row of 10 MB passes whole, also one that is all escapes; a fault at its end is found there."""
    plain_text, escapes = "x" * 10_000_000, "\\n" * 1_000_000
    bad = create('{"id":3,"v":"' + plain_text + '"}')[:-1] + b"]"
    values = [create('{"id":1,"v":"' + plain_text + '"}'), create('{"id":2,"v":"' + escapes + '"}'), bad]
    decoded = decode(plan_of(ID, V), batch(values))
    assert decoded.record.column(1).to_pylist() == [plain_text, "\n" * 1_000_000]
    assert [(e.message, e.code, e.byte_position) for e in decoded.errors] == [(2, ErrorCode.SYNTAX, len(bad) - 1)]


def test_error_texts_say_what_was_found() -> None:
    """An error names the column, its type and the bytes at fault."""
    decoded = face.decode_envelopes(plan_of(ID, V), batch([create('{"id":"one"}')]))
    (error,) = decoded.errors
    assert error.text
    if face.IMPLEMENTATION == "c":
        assert "column id (int64 from INT)" in error.text
        assert '"one"' in error.text


def test_a_plan_that_does_not_fit_is_refused() -> None:
    """An encoding that cannot fill its column's type never reaches the data."""
    plan = plan_of(wire("id", "string", E.INT))
    if face.IMPLEMENTATION == "c":
        with pytest.raises(HeadraceError, match="column 0"):
            face.decode_envelopes(plan, batch([create('{"id":1}')]))
    with pytest.raises(ConfigurationError, match="in their order"):
        face.check_plan(EnvelopePlan(Table("t", (ID.column, V.column), ("id",)), (V, ID)))
