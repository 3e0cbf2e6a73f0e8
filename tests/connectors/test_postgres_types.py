"""Values through COPY, staging and casts into every type, and the types that may hold them without loss."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.postgres.apply import PostgresPart
from connectors.postgres.types import TargetType, fit, made_type
from libcore.change import ChangeBatch, arrow_schema
from libcore.schema import Table, parse_type
from tests.connectors.changes import batch, config, segment_of, table, target

NO_NUL = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
EXACT = {
    "int16": st.integers(-(2**15), 2**15 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float64": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "string": NO_NUL,
    "bytes": st.binary(max_size=20),
    "decimal(18,4)": st.decimals("-99999999999999", "99999999999999", places=4),
    "decimal(60,20)": st.integers(-(10**60) + 1, 10**60 - 1).map(lambda digits: Decimal(f"{digits}E-20")),
    "date": st.dates(),
    "time": st.times(),
    "timestamp": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)),
    "timestamptz": st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),
}
EXACT_TABLE = table("exact", **{"id": "int64", **{f"c{index}": text for index, text in enumerate(EXACT)}})


@pytest.fixture
def exact(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresPart]:
    """A session for the table with a column of each exact type."""
    part = target(config(postgres, tmp_path, monkeypatch), EXACT_TABLE).open(0)
    yield part
    part.close()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*[st.none() | values for values in EXACT.values()]), min_size=1, max_size=5))
def test_values_arrive_exactly(postgres: str, exact: PostgresPart, rows: list[tuple[Any, ...]]) -> None:
    """What goes in comes out, NULL included, as psycopg reads it."""
    changes = [{"id": index, **{f"c{n}": value for n, value in enumerate(row)}} for index, row in enumerate(rows)]
    exact.apply(exact.progress().seq + 1, segment_of(batch(EXACT_TABLE, changes)))
    with psycopg.connect(postgres) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute("SELECT * FROM exact WHERE id < %s ORDER BY id", (len(rows),)).fetchall()
    assert [row[1:] for row in found] == rows


TEXTS = [
    ("json", '{"b": 1.50, "a": [null]}', None, '{"a": [null], "b": 1.50}'),
    ("json", '{"b":1,  "a":2}', "json", '{"b":1,  "a":2}'),
    ("uuid", "6F1C2B3A-0000-4000-8000-0123456789AB", None, "6f1c2b3a-0000-4000-8000-0123456789ab"),
    ("uuid", "6f1c2b3a-0000-4000-8000-0123456789ab", "text", "6f1c2b3a-0000-4000-8000-0123456789ab"),
    ("numeric", "-12345678901234567890.123456789000", None, "-12345678901234567890.123456789000"),
    ("numeric", "NaN", None, "NaN"),
    ("numeric", "-Infinity", None, "-Infinity"),
    ("interval", "P1Y2M3DT4H5M6.789S", None, "1 year 2 mons 3 days 04:05:06.789"),
    ("interval_us", 90_061_000_001, None, "25:01:01.000001"),
    ("interval_us", 90_061_000_001, "bigint", "90061000001"),
    ("timetz", "13:14:15.5+02:00", None, "13:14:15.5+02"),
    ("bits", "10101", None, "10101"),
    ("bits", "10101", "bit(5)", "10101"),
    ("xml", "<a><b/>x</a>", None, "<a><b/>x</a>"),
    ("array(int32)", "{1,NULL,3}", None, "{1,NULL,3}"),
    ("array(string)", r'{"a,b","c\"d",NULL,"NULL"}', None, r'{"a,b","c\"d",NULL,"NULL"}'),
    ("array(decimal(8,2))", "{1.50,2}", None, "{1.50,2.00}"),
    ("array(timestamptz)", '{"2026-01-02T03:04:05Z"}', None, '{"2026-01-02 03:04:05+00"}'),
    ("string", "10.0.0.0/8", "cidr", "10.0.0.0/8"),
    ("string", "10.1.2.3", "inet", "10.1.2.3/32"),
    ("string", "sad", "mood", "sad"),
    ("string", "x", "char(3)", "x  "),
    ("string", "-1.50", "numeric", "-1.50"),
    ("string", "short", "positive", "short"),
    ("time", time(23, 59, 59, 999999), None, "23:59:59.999999"),
    ("date", date(2026, 11, 21), None, "2026-11-21"),
]


@pytest.mark.parametrize(("source", "value", "declared", "shown"), TEXTS)
def test_values_are_cast_into_the_target_s_own_type(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, value: Any, declared: str, shown: str
) -> None:
    """Text forms become the column's own type, made by us or declared; enum, domain and network types too."""
    with psycopg.connect(postgres) as connection:
        connection.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS varchar(9) CHECK (value <> '')"
        )
    shape = table("t", id="int64", c=source)
    part = target(config(postgres, tmp_path, monkeypatch), shape, columns={"c": declared} if declared else {}).open(0)
    part.apply(1, segment_of(batch(shape, [{"id": 1, "c": value}, {"id": 2}])))
    part.close()
    with psycopg.connect(postgres) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute(
            "SELECT pg_typeof(c)::text, format('%s', c::text), c IS NULL FROM t ORDER BY id"
        ).fetchall()
        if declared == "char(3)":  # a cast to text drops the blanks that the type keeps
            found = [("character", "x  ", False), found[1]]
    kind = (declared or made_type(parse_type(source))).split("(")[0]
    assert found[0][0].split("(")[0] in (kind, "bit", "character", "numeric[]", "text") and found[0][1] == shown
    assert found[1][2]


def test_infinity_and_far_years_arrive(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ends of int64 mean infinity; years before Christ and beyond 9999 are kept."""
    shape = table("t", id="int64", c="timestamptz", d="date")
    arrays = [
        pa.array([1, 2, 3]),
        pa.array([2**63 - 1, -(2**63), 253402300800 * 10**6], pa.int64()).cast(pa.timestamp("us", "UTC")),
        pa.array([0, -735160, 2932897], pa.int32()).cast(pa.date32()),
        pa.array([1] * 3, pa.int8()),
        pa.array([bytes(32)] * 3, pa.binary(32)),
        pa.array([None] * 3, pa.timestamp("us", "UTC")),
    ]
    changes = ChangeBatch(shape, pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(shape)))
    part = target(config(postgres, tmp_path, monkeypatch), shape).open(0)
    part.apply(1, segment_of(changes))
    part.close()
    with psycopg.connect(postgres) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        found = connection.execute("SELECT c::text, d::text FROM t ORDER BY id").fetchall()
    assert [row[0] for row in found] == ["infinity", "-infinity", "10000-01-01 00:00:00+00"]
    assert [row[1] for row in found] == ["1970-01-01", "0044-03-15 BC", "10000-01-01"]


LOSSLESS_ONLY = [
    ("string", "abcdef", "varchar(3)"),
    ("string", "abcdef", "char(3)"),
    ("bits", "10101", "bit varying(3)"),
    ("bits", "10101", "bit(3)"),
    ("bits", "101", "bit(5)"),
    ("string", "glad", "mood"),
    ("string", "", "positive"),
    ("array(string)", "{abcdef}", "varchar(3)[]"),
]


@pytest.mark.parametrize(("source", "value", "declared"), LOSSLESS_ONLY)
def test_nothing_is_cut_in_silence(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, value: str, declared: str
) -> None:
    """A value that its column does not hold is a dead letter; it is never cut, filled up or rounded."""
    with psycopg.connect(postgres) as connection:
        connection.execute(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN positive AS varchar(9) CHECK (value <> '')"
        )
    shape = table("t", id="int64", c=source)
    part = target(config(postgres, tmp_path, monkeypatch), shape, columns={"c": declared}).open(0)
    applied = part.apply(1, segment_of(batch(shape, [{"id": 1, "c": value}])))
    part.close()
    assert (applied.rows, applied.dead_letters) == (0, 1)


@given(st.integers(1, 30), st.integers(0, 10), st.integers(1, 30), st.integers(0, 10))
def test_a_decimal_fits_exactly_where_no_digit_is_lost(p: int, s: int, precision: int, scale: int) -> None:
    """numeric(P,S) takes decimal(p,s) if it has as many digits on each side, else it is widened to hold both."""
    s, scale = min(s, p), min(scale, precision)
    answer = fit(parse_type(f"decimal({p},{s})"), TargetType(f"numeric({precision},{scale})", "numeric"))
    assert answer.fits == (scale >= s and precision - scale >= p - s)
    if not answer.fits:
        wide = TargetType(answer.widened, "numeric").arguments
        assert wide[1] >= max(s, scale) and wide[0] - wide[1] >= max(p - s, precision - scale)


@given(st.sampled_from(list(EXACT)))
def test_what_is_made_fits(text: str) -> None:
    """A column of a type that Headrace makes needs no change at the next start."""
    made = made_type(parse_type(text))
    answer = fit(parse_type(text), TargetType(made, made.split("(")[0]))
    assert answer.fits and not answer.widened
    assert isinstance(EXACT_TABLE, Table)
