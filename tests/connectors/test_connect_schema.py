"""Schema parts and declarations to typed columns: every logical type of Debezium and Connect, and what fits where."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.formats.connect_schema import wire_column
from connectors.formats.debezium import DebeziumDecoder, TopicBinding, declared_column
from connectors.formats.declared import wire
from connectors.formats.evolution import evolve, widened
from connectors.formats.shape import Shape, read
from libcore.decode_types import Encoding, WireColumn
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type
from tests.connectors.debezium_parts import GOLDEN, drain, field, letters, raw, schema_part, values, wrapped

TYPES = json.loads((GOLDEN / "debezium_types.json").read_text("utf-8"))["types"]


def microseconds(moment: datetime) -> int:
    """Since 1970, as the raw rows have it."""
    return round((moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)


LEAP = microseconds(datetime(2018, 6, 20, 15, 13, 16, 945104))
# One entry a recorded type, in the file's order: the column's type and the value a row has in the end.
EXPECTED: list[tuple[str, Any]] = [
    ("int16", -7), ("int64", -(2**63)), ("float64", 0.1), ("bytes", b"\x00\xff\x10"),
    ("date", 0), ("date", -1), ("date", (date(9999, 12, 31) - date(1970, 1, 1)).days),
    ("time", time(15, 13, 16, 945000)), ("time", time(15, 13, 16, 945104)), ("time_ns", None),
    ("timestamp", -1000), ("timestamp", LEAP), ("timestamp_ns", 1529507596945104700),
    ("timestamptz", LEAP - 7_200_000_000), ("timestamptz", microseconds(datetime(2018, 6, 20, 13, 13, 16))),
    ("interval_us", 37091106780000), ("interval", "P1Y2M3DT4H5M6.78S"),
    ("date", (date(2024, 2, 29) - date(1970, 1, 1)).days), ("timestamp", LEAP), ("time", time(15, 13, 16, 945000)),
    ("decimal(18,2)", Decimal("123.45")), ("decimal(18,2)", Decimal("0.00")), ("decimal(18,2)", Decimal("1.27")),
    ("decimal(18,2)", Decimal("327.67")), ("decimal(18,2)", Decimal("-327.68")),
    ("decimal(38,0)", Decimal("12345678901234567890123456789012345678")),
    ("numeric", "-1000"), ("numeric", "0.0000000001"), ("string", "1000"), ("string", "NAN"),
    ("float64", 1234567890123.4568), ("bits", "1000001001"), ("string", "bad"), ("string", "a,c"), ("xml", "<a/>"),
    ("json", '{"x":1.5,"y":-2.0,"wkb":"AQEAAAAAAAAAAAD4PwAAAAAAAADA","srid":null}'), ("array(int32)", "{1,NULL,3}"),
    ("string", None), ("bytes", None), ("json", '{"dimensions":5,"vector":[[4,-2.0],[1,1.5]]}'),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(TYPES)), ids=lambda number: TYPES[number]["source_type"][:40])
def test_every_recorded_type_arrives_exactly(number: int) -> None:
    """Each logical type of Debezium's own schema builders becomes the exact column type and value."""
    recorded, (expected_type, expected) = TYPES[number], EXPECTED[number]
    schema = schema_part([field("id", "int64", optional=False), recorded["connect_schema"] | {"field": "v"}])
    message = wrapped(schema, {"id": 1, "v": recorded["json_value"]})
    items = drain(DebeziumDecoder("t", 0, TopicBinding("t")), raw([({"id": 1}, message)]))
    assert letters(items) == []
    assert str(items[0].table.column("v").type) == expected_type
    if expected_type == "time_ns":
        assert items[0].record.column("v").cast("int64")[0].as_py() == recorded["json_value"]
    else:
        assert values(items) == [{"id": 1, "v": expected}]


def test_decimals_as_numbers() -> None:
    """With decimal.format=NUMERIC the same schema parts read JSON numbers, to the same values."""
    for recorded, (_, expected) in zip(TYPES, EXPECTED, strict=True):
        if "json_value_decimal_format_numeric" in recorded:
            schema = schema_part([field("id", "int64", optional=False), recorded["connect_schema"] | {"field": "v"}])
            message = wrapped(schema, {"id": 1, "v": recorded["json_value_decimal_format_numeric"]})
            items = drain(DebeziumDecoder("t", 0, TopicBinding("t")), raw([({"id": 1}, message)]))
            assert values(items)[0]["v"] == expected


DECIMAL = "org.apache.kafka.connect.data.Decimal"


@pytest.mark.parametrize(
    ("parameters", "type_text", "wire_scale"),
    [
        ({"scale": "2"}, "decimal(38,2)", 2),
        ({"scale": "-2", "connect.decimal.precision": "10"}, "decimal(12,0)", -2),
        ({"scale": "30", "connect.decimal.precision": "76"}, "decimal(76,30)", 30),
        ({"scale": "5", "connect.decimal.precision": "1000"}, "decimal(76,5)", 5),
    ],
)
def test_decimals_get_the_digits_they_need(parameters: dict[str, str], type_text: str, wire_scale: int) -> None:
    """Precision and scale come from the schema; without a precision 38 digits, with a negative scale zeros instead."""
    column = wire_column("v", field("v", "bytes", name=DECIMAL, parameters=parameters))
    assert (str(column.column.type), column.wire_scale) == (type_text, wire_scale)


def test_types_without_a_column_type_are_kept_or_refused() -> None:
    """Unknown logical names count as their plain type, endless bits stay bytes, an impossible scale is refused."""
    assert str(wire_column("v", field("v", "string", name="com.example.New")).column.type) == "string"
    endless = field("v", "bytes", name="io.debezium.data.Bits", parameters={"length": "2147483647"})
    assert wire_column("v", endless).encoding is Encoding.BASE64
    nested = field("v", "array", items=field("item", "array", items=field("item", "int32")))
    assert wire_column("v", nested).encoding is Encoding.RAW_JSON
    with pytest.raises(ConfigurationError, match="column v: expected at most 76 digits after the point, found 500"):
        wire_column("v", field("v", "bytes", name=DECIMAL, parameters={"scale": "500"}))
    with pytest.raises(ConfigurationError, match="column v: expected a Connect type, found 'int128'"):
        wire_column("v", field("v", "int128"))


@pytest.mark.parametrize(
    ("given_column", "encoding"),
    [
        ("int64", Encoding.INT),
        ("decimal(18,2)", Encoding.DECIMAL_TEXT),
        ({"type": "decimal(18,2)", "encoding": "base64"}, Encoding.DECIMAL_BASE64),
        ({"type": "decimal(18,2)", "encoding": "struct"}, Encoding.DECIMAL_STRUCT),
        ({"type": "timestamp", "unit": "ms"}, Encoding.TIMESTAMP_MS),
        ("timestamp", Encoding.TIMESTAMP_US),
        ({"type": "timestamp", "encoding": "iso"}, Encoding.ISO_TIMESTAMP),
        ({"type": "time", "unit": "ms"}, Encoding.TIME_MS),
        ("timestamptz", Encoding.ZONED_TIMESTAMP),
        ("json", Encoding.RAW_JSON),
        ({"type": "bits", "length": 5}, Encoding.BITS),
        ("array(int32)", Encoding.ARRAY),
    ],
)
def test_a_declared_type_chooses_its_encoding(given_column: Any, encoding: Encoding) -> None:
    """The type says how the value stands on the wire; unit and encoding say it where the type does not."""
    assert wire(declared_column("v", given_column)).encoding is encoding


def test_base64_decimals_take_their_scale() -> None:
    """A base64 decimal has the type's scale, or the one given; elements of an array take the options of the column."""
    assert wire(declared_column("v", {"type": "decimal(18,2)", "encoding": "base64"})).wire_scale == 2
    assert wire(declared_column("v", {"type": "decimal(18,2)", "encoding": "base64", "scale": 4})).wire_scale == 4
    array = wire(declared_column("v", {"type": "array(decimal(9,1))", "encoding": "base64"}))
    assert array.item is not None and array.item.encoding is Encoding.DECIMAL_BASE64 and array.item.wire_scale == 1


@pytest.mark.parametrize(
    ("given_column", "words"),
    [
        ({"type": "date", "unit": "ms"}, "column v: date takes unit none, found 'ms'"),
        ({"type": "decimal(5,2)", "encoding": "iso"}, "column v: decimal takes encoding text, base64, struct"),
        ({"type": "string", "size": 3}, "column v: expected options of type, nullable"),
        ({"unit": "ms"}, "column v: expected a type, found None"),
        ("bits", "column v: expected length"),
    ],
)
def test_a_wrong_declaration_is_named(given_column: Any, words: str) -> None:
    """An option that does not go with the type is refused with the column and what goes with it."""
    with pytest.raises(ConfigurationError, match=words):
        declared_column("v", given_column)


columns = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.sampled_from(["int16", "int32", "int64", "string", "decimal(5,2)"]), st.booleans()
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda column: column[0],
)


def shape_of(drawn: list[tuple[str, str, bool]]) -> Shape:
    """A shape keyed by its first column."""
    wires = [WireColumn(Column(name, parse_type(text), nullable), Encoding.INT) for name, text, nullable in drawn]
    return Shape(tuple(wires), (drawn[0][0],), "none")


@given(old=columns, new=columns)
def test_accepted_changes_lose_nothing(old: list[Any], new: list[Any]) -> None:
    """Where nothing is refused, every old column is still there, in its place, with its type or a wider one."""
    before = shape_of(old).table("t")
    result = evolve(before, shape_of(new).columns, before.key)
    after = Table("t", tuple(column.column for column in result.columns), ())
    if result.refused:
        return
    for was, now in zip(before.columns, after.columns, strict=False):
        assert was.name == now.name
        assert was.type == now.type or widened(was.type, now.type)
    assert all(column.nullable for column in after.columns[len(before.columns) :])
    assert evolve(after, result.columns, ()).taken == () == evolve(after, result.columns, ()).refused


@given(drawn=columns)
def test_a_shape_survives_its_text(drawn: list[Any]) -> None:
    """What the recovery store keeps of a shape gives the same shape again."""
    shape = shape_of(drawn)
    assert read(shape.text()) == shape


@pytest.mark.parametrize(
    ("old", "new", "wider"),
    [
        ("decimal(5,2)", "decimal(7,4)", True),
        ("decimal(5,2)", "decimal(6,4)", False),
        ("decimal(5,2)", "numeric", True),
        ("int64", "int32", False),
        ("float32", "float64", True),
        ("int32", "decimal(20,0)", False),
        ("array(int16)", "array(int64)", True),
        ("timestamp", "timestamptz", False),
    ],
)
def test_widening_keeps_every_digit(old: str, new: str, wider: bool) -> None:
    """A type is wider only if it holds all digits on both sides of the point."""
    assert widened(parse_type(old), parse_type(new)) is wider
