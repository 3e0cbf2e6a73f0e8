"""Binary COPY: PostgreSQL reads back exactly the values that went in, and what it could not take is named."""

from __future__ import annotations

import random
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libcore import pgcopy
from libcore.pgcopy_types import HEADER, TRAILER
from libcore.reference import pgcopy as reference
from libcore.schema import ColumnType, parse_type
from tests.libcore.batches import TYPES, build, columns

_TEXT_TYPES = ("string", "numeric", "uuid", "json", "array(int32)")
_NUMBERS = st.from_regex(rb"-?[0-9]{1,30}(\.[0-9]{1,30})?", fullmatch=True) | st.sampled_from(
    [b"NaN", b"-Infinity", b"1e5", b""]
)
_UUIDS = st.uuids().map(lambda value: str(value).encode()) | st.from_regex(
    rb"\{?([0-9a-fA-F]{4}-?){8}\}?", fullmatch=True
)
_TEXTS: dict[str, st.SearchStrategy[bytes]] = {
    "numeric": _NUMBERS | st.binary(max_size=4).filter(bytes.isascii),
    "uuid": _UUIDS | st.text(max_size=40).map(str.encode),
}


@st.composite
def _typed(draw: st.DrawFn) -> tuple[pa.RecordBatch, list[ColumnType | None]]:
    rows = draw(st.integers(0, 12))
    arrays: list[pa.Array] = []
    types: list[ColumnType | None] = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            arrays.append(draw(columns(draw(st.sampled_from(TYPES)), rows)))
            types.append(None)
            continue
        name = draw(st.sampled_from(_TEXT_TYPES))
        value = _TEXTS.get(name, st.text(max_size=20).map(str.encode)) | st.none()
        arrays.append(build(pa.utf8(), draw(st.lists(value, min_size=rows, max_size=rows))))
        types.append(parse_type(name))
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))]), types


@given(_typed(), st.booleans())
def test_agrees_with_the_reference(case: tuple[pa.RecordBatch, list[ColumnType | None]], framed: bool) -> None:
    """Any batch, good rows and bad: the bytes and the errors of the plain reference."""
    found, expected = pgcopy.encode(*case, framed), reference.encode(*case, framed)
    assert found.buffer.to_pybytes() == expected.buffer.to_pybytes()
    assert (found.rows, found.errors) == (expected.rows, expected.errors)


_DICE = random.Random(20)
_INT64 = [0, 1, -1, 2**63 - 1, -(2**63)]
_DATES = [0, 10957, -1, 20000, -2451545 + 10957, 2145031948 + 10957]
_UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
_STAMPS = [0, -1, 946684800000000, -210866803200000000, 2**63 - 2, *(_DICE.randrange(2**50) for _ in range(20))]
_AS_MICROSECONDS = "(extract(epoch FROM c) * 1000000)::bigint"


def _random_decimals(precision: int) -> list[int]:
    """Edges, and numbers of every length with zeros at both ends."""
    most = 10**precision - 1
    made = [
        _DICE.randrange(10 ** _DICE.randint(1, precision)) // 10**k * 10**k for k in range(precision) for _ in range(3)
    ]
    return [0, 1, -1, most, -most, *made, *(-value for value in made)]


def _decimal_text(unscaled: int, scale: int) -> str:
    digits = str(abs(unscaled)).rjust(scale + 1, "0")
    sign = "-" if unscaled < 0 else ""
    return sign + (f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits)


# (type in a pipeline file, column in PostgreSQL, plain values, SQL over column c, what it must give)
def _cases() -> list[tuple[str, str, list[Any], str, list[Any]]]:
    texts = [b"", b"a", "Straße 🚂 \\ \t\n".encode(), b"x" * 100_000]
    numbers = [
        "0",
        "1.50",
        "-0.00",
        "NaN",
        "Infinity",
        "-Infinity",
        "0.0001",
        "10000",
        "99999999.00001000",
        "9" * 500 + "." + "1" * 500,
    ]
    numbers += [
        f"{_DICE.randrange(10 ** _DICE.randint(1, 40))}.{_DICE.randrange(10**9):0{_DICE.randint(9, 20)}d}"
        for _ in range(60)
    ]
    uuids = [
        "0e37df36-f698-11e6-8dd4-cb9ced3df976",
        "{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}",
        "a0eebc999c0b4ef8bb6d6bb9bd380a11",
    ]
    as_stored = ["0.00" if text == "-0.00" else text for text in numbers]  # numeric knows no -0
    floats = [0.0, -0.0, 1.5, -1e-30, float("inf"), float("-inf"), 3.4028234663852886e38]
    cases: list[tuple[str, str, list[Any], str, list[Any]]] = [
        ("int16", "int2", [0, -1, 2**15 - 1, -(2**15)], "c", [0, -1, 2**15 - 1, -(2**15)]),
        ("int32", "int4", [0, -1, 2**31 - 1, -(2**31)], "c", [0, -1, 2**31 - 1, -(2**31)]),
        ("int64", "int8", _INT64, "c", _INT64),
        ("interval_us", "int8", _INT64, "c", _INT64),
        ("bool", "boolean", [True, False], "c", [True, False]),
        ("float64", "float8", [*floats, 0.1, 1e300], "c", [*floats, 0.1, 1e300]),
        ("float32", "float4", floats, "c::float8", [0.0, -0.0, 1.5, -1.0000000031710769e-30, *floats[4:]]),
        ("string", "text", texts, "c", [text.decode() for text in texts]),
        ("json", "json", [b'{"a": [1, "\xc3\xa4"]}'], "c::text", ['{"a": [1, "ä"]}']),
        ("bytes", "bytea", [b"", b"\0\1\xff", bytes(range(256))], "c", [b"", b"\0\1\xff", bytes(range(256))]),
        ("uuid", "uuid", [text.encode() for text in uuids], "c::text", [uuids[0], *[_UUID] * 2]),
        ("numeric", "numeric", [text.encode() for text in numbers], "c::text", as_stored),
        ("date", "date", _DATES, "c - date '1970-01-01'", _DATES),
        ("date", "date", [2**31 - 1, -(2**31)], "c::text", ["infinity", "-infinity"]),
        ("time", "time", [0, 1, 86399999999, 86400000000], _AS_MICROSECONDS, [0, 1, 86399999999, 86400000000]),
        ("time_ns", "time", [0, 1000, 86400000000000], _AS_MICROSECONDS, [0, 1, 86400000000]),
        ("timestamp", "timestamp", _STAMPS, _AS_MICROSECONDS, _STAMPS),
        ("timestamptz", "timestamptz", _STAMPS, _AS_MICROSECONDS, _STAMPS),
        ("timestamp", "timestamp", [2**63 - 1, -(2**63)], "c::text", ["infinity", "-infinity"]),
        ("timestamptz", "timestamptz", [2**63 - 1, -(2**63)], "c::text", ["infinity", "-infinity"]),
        ("timestamp_ns", "timestamp", [0, -1000, 1700000000123456000], _AS_MICROSECONDS, [0, -1, 1700000000123456]),
    ]  # fmt: skip
    for precision, scale in ((5, 2), (18, 4), (38, 0), (38, 38), (38, 7), (39, 5), (76, 0), (76, 37), (76, 75), (1, 0)):
        plain = _random_decimals(precision)
        expected = [_decimal_text(value, scale) for value in plain]
        cases.append((f"decimal({precision},{scale})", "numeric", plain, "c::text", expected))
    return cases


@pytest.fixture
def connection(postgres: str) -> Any:
    """A connection to an empty database of a real PostgreSQL."""
    with psycopg.connect(postgres, autocommit=True) as opened:
        yield opened


def _copy(connection: Any, table: str, encoded: pgcopy.Encoded) -> None:
    with connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)") as copy:
        copy.write(encoded.buffer)


def test_postgresql_reads_every_type(connection: Any) -> None:
    """Every type, with its edges and a NULL, comes out of a real PostgreSQL as it went in."""
    for number, (text, sql_type, plain, expression, expected) in enumerate(_cases()):
        column_type = parse_type(text)
        rows = [*plain, None]
        record = pa.RecordBatch.from_arrays(
            [pa.array(range(len(rows)), pa.int32()), build(column_type.arrow, rows)], names=["n", "c"]
        )
        encoded = pgcopy.encode(record, [None, column_type])
        assert not encoded.errors, (text, encoded.errors)
        connection.execute(f"CREATE TABLE t{number} (n int4, c {sql_type})")
        _copy(connection, f"t{number}", encoded)
        found = [row[0] for row in connection.execute(f"SELECT {expression} FROM t{number} ORDER BY n").fetchall()]
        assert list(map(repr, found)) == list(map(repr, [*expected, None])), text


def test_postgresql_reads_ops_positions_and_many_columns(connection: Any) -> None:
    """An int8 arrives as "char", a fixed binary as bytea, a slice as its own rows, batches one behind the other."""
    ops, positions = pa.array([9, 1, -2, 127], pa.int8()), pa.array([bytes([i]) * 32 for i in range(4)], pa.binary(32))
    record = pa.RecordBatch.from_arrays([ops, positions], names=["op", "position"])
    connection.execute('CREATE TABLE t (op "char", position bytea)')
    first, second = (pgcopy.encode(part, [None, None], framed=False) for part in (record.slice(1, 2), record.slice(3)))
    with connection.cursor().copy("COPY t FROM STDIN (FORMAT binary)") as copy:
        for part in (HEADER, first.buffer, second.buffer, TRAILER):
            copy.write(part)
    found = connection.execute("SELECT ascii(op::text), position FROM t ORDER BY position").fetchall()
    codes = connection.execute("SELECT op::int FROM t ORDER BY position").fetchall()
    assert [code for (code,) in codes] == [1, -2, 127]
    assert [position for _, position in found] == [bytes([i]) * 32 for i in (1, 2, 3)]


def test_neighbours_of_bad_rows_arrive(connection: Any) -> None:
    """Rows that PostgreSQL could not take are named with column, expected and found; the rest goes in."""
    types = [parse_type(text) for text in ("string", "uuid", "numeric", "timestamp_ns", "timestamp", "date", "time")]
    good: list[Any] = [b"a", b"0e37df36-f698-11e6-8dd4-cb9ced3df976", b"1.50", 1000, 0, 0, 0]
    bad: list[tuple[int, Any]] = [(0, b"a\0b"), (1, b"no uuid"), (2, b"1,5"), (3, 1001), (4, -210866803200000001)]
    bad += [(5, -2451545 + 10956), (5, 2145031949 + 10957), (6, 86400000001), (6, -1), (1, b"{" + good[1])]
    rows = [good, *([*good[:i], value, *good[i + 1 :]] for i, value in bad), good]
    record = pa.RecordBatch.from_arrays(
        [build(column_type.arrow, [row[i] for row in rows]) for i, column_type in enumerate(types)],
        names=[str(column_type) for column_type in types],
    )
    encoded = pgcopy.encode(record, types)
    assert [(error.row, error.column) for error in encoded.errors] == [(row + 1, i) for row, (i, _) in enumerate(bad)]
    assert encoded.errors[0].text == "column 'string': expected text without 0 bytes, found one at character 1"
    assert encoded.errors[2].text == "column 'numeric': expected [-]digits[.digits], NaN or [-]Infinity, found '1,5'"
    assert encoded.errors[3].text == "column 'timestamp_ns': expected whole microseconds, found timestamp[ns] 1001"
    assert encoded.rows == 2
    connection.execute("CREATE TABLE t (a text, b uuid, c numeric, d timestamp, e timestamp, f date, g time)")
    _copy(connection, "t", encoded)
    assert connection.execute("SELECT count(*), min(a), max(c)::text FROM t").fetchone() == (2, "a", "1.50")


def test_many_bad_rows_are_all_named() -> None:
    """More bad rows than the first call has room for: each is named."""
    record = pa.RecordBatch.from_arrays([pa.array(["bad\0"] * 1000 + ["good"])], names=["c"])
    encoded = pgcopy.encode(record, [None])
    assert [error.row for error in encoded.errors] == list(range(1000))
    assert encoded.rows == 1


def test_numbers_beyond_postgresql_are_named() -> None:
    """More than 131,072 digits before the point or 16,383 behind it do not fit numeric; exactly so many do."""
    texts = ["9" * 131072, "9" * 131073, "0." + "1" * 16383, "0." + "1" * 16384]
    encoded = pgcopy.encode(pa.RecordBatch.from_arrays([pa.array(texts)], names=["c"]), [parse_type("numeric")])
    assert [(error.row, error.reason) for error in encoded.errors] == [
        (1, pgcopy.Reason.RANGE),
        (3, pgcopy.Reason.RANGE),
    ]
    assert encoded.errors[0].text.endswith("'...")


def test_types_without_a_binary_form_are_refused() -> None:
    """An Arrow type that libcore does not write is refused by name, before any byte; so is a wrong count of types."""
    record = pa.RecordBatch.from_arrays([pa.array([1], pa.uint32())], names=["c"])
    with pytest.raises(TypeError, match="uint32"):
        pgcopy.encode(record, [None])
    with pytest.raises(ValueError):
        pgcopy.encode(record, [])
