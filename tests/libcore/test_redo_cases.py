"""Redo statements and literals case by case: tests/golden/logminer_cases.json, and inputs where the rules end."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from libcore import redo as face
from libcore.change import OP, UNSET, Op
from libcore.redo_types import Redo, RedoCode, RedoColumn, RedoPlan
from libcore.reference import redo as reference
from libcore.reference.values import plain
from libcore.schema import Column, Table, parse_type

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "logminer_cases.json").read_text("utf-8"))
FACES = pytest.mark.parametrize("parse", [face.parse_redo, reference.parse_redo], ids=["face", "reference"])
Parse = Any
UNKNOWN = "Unsupported Type"


def batch(*statements: str) -> pa.RecordBatch:
    """A batch of whole statements."""
    return pa.RecordBatch.from_arrays([pa.array(statements, pa.utf8())], names=["sql"])


def images(made: Redo) -> list[tuple[int, dict[str, Any], set[str]]]:
    """(op, values, unset columns) of each row."""
    names = made.record.schema.names[: made.record.schema.names.index(OP)]
    found = []
    for row in made.record.to_pylist():
        bits = row.get(UNSET, b"\x00" * 100)
        unset = {name for index, name in enumerate(names) if bits[index // 8] >> index % 8 & 1}
        found.append((row[OP], {name: row[name] for name in names}, unset))
    return found


@FACES
@pytest.mark.parametrize("case", GOLDEN["statements"], ids=lambda case: case["id"])
def test_statements(parse: Parse, case: dict[str, Any]) -> None:
    """A statement has the old and the new values that it was made from; a column that it does not say is NULL and
    unset, and one set to Unsupported Type is lost besides."""
    columns = tuple(Column(column["name"], parse_type("string")) for column in case["columns"])
    plan = RedoPlan(Table("T", columns), tuple(RedoColumn(one, literal=True) for one in columns), images=True)
    made = parse(plan, batch(case["sql"]))
    assert not made.errors
    rows, expect = images(made), case["expect"]
    wanted = [side for side in (expect["before"], expect["after"]) if side]
    assert [values for _, values, _ in rows] == wanted
    if expect["op"] == "UPDATE":
        assert [row[0] for row in rows] == [Op.DELETE, Op.UPSERT]
    else:
        assert [row[0] for row in rows] == [Op.UPSERT if expect["op"] == "INSERT" else Op.DELETE]
    head = case["sql"].split(" where ")[0] if expect["op"] == "UPDATE" else case["sql"]
    for column in columns:
        absent = f'"{column.name}"' not in case["sql"]
        assert not absent or all(column.name in unset for *_, unset in rows)
        if expect["op"] == "UPDATE" and f'"{column.name}" = {UNKNOWN}' in head:
            assert column.name in rows[1][2]
            assert made.unavailable.to_pylist() == [False, True]
    assert made.before.to_pylist() == ([True, False] if len(rows) == 2 else [expect["op"] == "DELETE"])


def from_connect(case: dict[str, Any]) -> Any:
    """The value that the golden file says, as the column keeps it: integers unscaled or in the column's unit."""
    value, schema = case["json_value"], case["connect_schema"]
    name = schema.get("name", "").rsplit(".", 1)[-1]
    if name == "Decimal":
        return int.from_bytes(base64.b64decode(value), "big", signed=True)
    if name == "VariableScaleDecimal":
        digits = str(int.from_bytes(base64.b64decode(value["value"]), "big", signed=True))
        scale = value["scale"]
        return f"{digits[:-scale]}.{digits[-scale:]}".encode() if scale else digits.encode()
    if name == "ZonedTimestamp":
        return 1_707_908_282_000_000
    if name == "Timestamp":
        return value * 1000
    if schema["type"] == "float":
        return pytest.approx(value, rel=1e-7)
    return (
        value
        if not isinstance(value, str)
        else base64.b64decode(value)
        if schema["type"] == "bytes"
        else value.encode()
    )


# the type that a column of that Oracle type gets
TYPES = {
    "NUMBER(1,0)": "int16", "NUMBER(9,0)": "int32", "NUMBER(19,0)": "decimal(19,0)", "NUMBER(10,2)": "decimal(10,2)",
    "NUMBER(5,-2)": "int32", "NUMBER": "numeric", "FLOAT(126)": "numeric", "BINARY_FLOAT": "float32",
    "DATE": "timestamp", "TIMESTAMP(3)": "timestamp", "TIMESTAMP(6)": "timestamp", "TIMESTAMP(9)": "timestamp_ns",
    "TIMESTAMP(6) WITH TIME ZONE": "timestamptz", "INTERVAL YEAR(2) TO MONTH": "interval_us",
    "INTERVAL DAY(3) TO SECOND(2)": "interval_us", "VARCHAR2(50)": "string", "NVARCHAR2(50)": "string",
    "RAW(16)": "bytes", "BLOB": "bytes", "CLOB": "string",
}  # fmt: skip


def value_of(parse: Parse, type_text: str, literal: str, **options: Any) -> Any:
    """The plain value that a literal becomes in a column of that type, "unset", or its error's code."""
    column = Column("v", parse_type(type_text))
    extra = {name: options.pop(name) for name in ("empty_is_unset",) if name in options}
    table = Table("T", (Column("id", parse_type("int64")), column), ("id",))
    plan = RedoPlan(table, (RedoColumn(table.columns[0], "ID"), RedoColumn(column, "V", **extra)), **options)
    made = parse(plan, batch(f"insert into T(ID,V) values (1,{literal})"))
    if made.errors:
        return made.errors[0].code
    return "unset" if UNSET in made.record.schema.names else plain(made.record.column(1))[0]


@FACES
@pytest.mark.parametrize("case", GOLDEN["value_conversions"], ids=lambda case: case["id"])
def test_conversions(parse: Parse, case: dict[str, Any]) -> None:
    """A literal of an Oracle type becomes the value that Debezium's converter gives; where that fails, the truth."""
    literal = case["redo_literal"]
    if "(" not in literal:
        literal = f"'{literal}'"
    expected = float("inf") if "reference_error" in case else from_connect(case)
    assert value_of(parse, TYPES[case["oracle_type"]], literal) == expected


TYPE, RANGE, SCALE, ZONE = RedoCode.TYPE, RedoCode.RANGE, RedoCode.SCALE, RedoCode.ZONE
BC_44 = -63_517_824_000_000_000  # numpy.datetime64("-0043-03-15", "us"): 44 BC is the year -43 of ISO 8601


@FACES
@pytest.mark.parametrize(
    ("type_text", "literal", "expected"),
    [
        ("string", "''", b""),
        ("string", "NULL", None),
        ("string", "12.50", b"12.50"),
        ("string", "TRUE", TYPE),
        ("string", "HEXTORAW('00')", TYPE),
        ("string", "TO_DATE('any text', 'any')", b"any text"),
        ("string", "EMPTY_CLOB()", b""),
        ("string", "UNISTR('\\0041\\\\')", b"A\\"),
        ("string", "UNISTR('\\D83D')||UNISTR('\\DE00')", "😀".encode()),
        ("string", "UNISTR('\\D83D')||'x'", RedoCode.SURROGATE),
        ("string", "UNISTR('\\41')", TYPE),
        ("string", "'a' || HEXTORAW('00')", TYPE),
        ("string", "XMLType(:1)", "unset"),
        ("json", "/* JSON */ HEXTORAW('00')", "unset"),
        ("bytes", "/* JSON */ HEXTORAW('0a0B')", b"\n\x0b"),
        ("bytes", "HEXTORAW('00') || HEXTORAW('ff')", b"\x00\xff"),
        ("bytes", "HEXTORAW('0')", TYPE),
        ("bytes", "'00'", TYPE),
        ("int16", "'32767'", 32767),
        ("int16", "'32768'", RANGE),
        ("int32", "'1.2E+3'", 1200),
        ("int64", "'-9223372036854775808'", -(2**63)),
        ("int64", "'9223372036854775808'", RANGE),
        ("decimal(10,2)", "'99999999.99'", 9999999999),
        ("decimal(10,2)", "'100000000'", RANGE),
        ("decimal(10,2)", "'0.005'", SCALE),
        ("decimal(10,2)", "'1,5'", TYPE),
        ("decimal(76,0)", "'" + "9" * 76 + "'", 10**76 - 1),
        ("numeric", "'-.05'", b"-0.05"),
        ("numeric", "'1.20E+3'", b"1200"),
        ("float64", "'-Inf'", float("-inf")),
        ("float64", "1.7976931348623157E+308", 1.7976931348623157e308),
        ("float64", "'1E+309'", RANGE),
        ("float32", "'3.5E+38'", RANGE),
        ("bool", "'1'", True),
        ("bool", "FALSE", False),
        ("bool", "2", TYPE),
        ("date", "TO_DATE('2020-02-01 00:00:00', 'YYYY-MM-DD HH24:MI:SS')", 18293),
        ("date", "TO_DATE('2020-02-01 00:00:01', 'YYYY-MM-DD HH24:MI:SS')", SCALE),
        ("timestamp", "TO_DATE('-0044-03-15 00:00:00', 'SYYYY-MM-DD HH24:MI:SS')", BC_44),
        ("timestamp", "TO_DATE(' 1970-01-02 00:00:00', 'SYYYY-MM-DD HH24:MI:SS')", 86_400_000_000),
        ("timestamp", "TO_DATE('0000-03-15 00:00:00')", RANGE),
        ("timestamp", "TO_DATE('01-FEB-20', 'DD-MON-RR')", TYPE),
        ("timestamp", "TO_DATE('2020-01-02 00:00:00', 'YYYY-DD-MM HH24:MI:SS')", TYPE),
        ("timestamp", "TO_TIMESTAMP('2020-02-01 00:00:00.0000001')", SCALE),
        ("timestamp", "TO_TIMESTAMP_TZ('2020-02-01 00:00:00 +01:00')", ZONE),
        ("timestamp", "TO_TIMESTAMP('2020-02-01 24:00:00')", RANGE),
        ("timestamp_ns", "TO_TIMESTAMP('2300-01-01 00:00:00')", RANGE),
        ("timestamptz", "TO_TIMESTAMP_TZ('1970-01-01 00:00:00.000001 -00:30')", 1_800_000_001),
        ("timestamptz", "TO_TIMESTAMP_TZ('1970-01-01 00:00:00 UTC')", 0),
        ("timestamptz", "TO_TIMESTAMP_TZ('1970-01-01 00:00:00 Europe/Berlin')", ZONE),
        ("timestamptz", "TO_TIMESTAMP('1970-01-01 00:00:00')", ZONE),
        ("timestamptz", "TO_TIMESTAMP_ITZ('1970-01-01 00:00:00')", ZONE),
        ("interval", "TO_YMINTERVAL('+01-06')", b"P1Y6M"),
        ("interval", "TO_YMINTERVAL('-00-03')", b"P-3M"),
        ("interval", "TO_DSINTERVAL('-01 02:03:04.050')", b"P-1DT-2H-3M-4.05S"),
        ("interval", "TO_DSINTERVAL('+00 00:00:00')", b"PT0S"),
        ("interval", "TO_YMINTERVAL('+01-12')", RANGE),
        ("interval_us", "TO_DSINTERVAL('+00 00:00:00.000001')", 1),
        ("interval_us", "TO_DSINTERVAL('+00 00:00:00.0000001')", SCALE),
        ("interval_us", "TO_YMINTERVAL('+999999999-11')", RANGE),
        ("time", "'10:11:12.5'", 36_672_500_000),
        ("time", "10", TYPE),
    ],
)
def test_values(parse: Parse, type_text: str, literal: str, expected: Any) -> None:
    """Each literal becomes exactly its value, or says why it cannot; nothing is rounded, cut or guessed."""
    assert value_of(parse, type_text, literal) == expected


@FACES
def test_what_the_plan_adds(parse: Parse) -> None:
    """Local times are UTC, and an empty LOB is no value, only where the plan says so."""
    local = "TO_TIMESTAMP_ITZ('1970-01-01 00:00:01.5')"
    assert value_of(parse, "timestamptz", local, local_is_utc=True) == 1_500_000
    assert value_of(parse, "string", "EMPTY_CLOB()", empty_is_unset=True) == "unset"
    known = batch('insert into T(ID,"NEW") values (1,2)')
    column = Column("id", parse_type("int64"))
    plan = RedoPlan(Table("T", (column,), ("id",)), (RedoColumn(column, "ID"),), skip_unknown=True)
    assert parse(plan, known).record.column(0).to_pylist() == [1]
