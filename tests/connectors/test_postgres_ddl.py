"""Tables that are made, checked, widened, taken over or refused, in a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.postgres.config import PostgresConfig, TargetTable
from connectors.postgres.target import PostgresTarget
from libcore.errors import ConfigurationError, FatalError
from libcore.schema import Column, Table, parse_type
from tests.connectors.changes import FLOW, batch, config, segment_of, table, target


@pytest.fixture
def settings(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PostgresConfig:
    """A target's settings."""
    return config(postgres, tmp_path, monkeypatch)


def run(dsn: str, *statements: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        cursor = None
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor is not None and cursor.description else []


def types_of(dsn: str, name: str) -> dict[str, str]:
    rows = run(
        dsn,
        f"SELECT attname, format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END "
        f"FROM pg_attribute WHERE attrelid = '{name}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
    )
    return dict(rows)


def xml_type(dsn: str) -> str:
    """A server built without libxml takes no value of type xml; there the column is made as text."""
    try:
        run(dsn, "SELECT '<a/>'::text::xml")
    except psycopg.errors.FeatureNotSupported:
        return "text"
    return "xml"


ALL_TYPES = {
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "float32": "real",
    "float64": "double precision",
    "bool": "boolean",
    "string": "text",
    "bytes": "bytea",
    "decimal(18,4)": "numeric(18,4)",
    "decimal(60,20)": "numeric(60,20)",
    "numeric": "numeric",
    "date": "date",
    "time": "time without time zone",
    "time_ns": "time without time zone",
    "timestamp": "timestamp without time zone",
    "timestamp_ns": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "uuid": "uuid",
    "json": "jsonb",
    "xml": "xml",
    "interval": "interval",
    "interval_us": "interval",
    "timetz": "time with time zone",
    "bits": "bit varying",
    "array(int32)": "integer[]",
    "array(decimal(8,2))": "numeric(8,2)[]",
    "array(uuid)": "uuid[]",
}


def test_a_missing_table_is_made_with_exact_types(postgres: str, settings: PostgresConfig) -> None:
    """Each type of the schema becomes the PostgreSQL type that holds all its values; only the key is NOT NULL."""
    columns = [Column("id", parse_type("int64"), nullable=False)]
    columns += [Column(f"c{number}", parse_type(text)) for number, text in enumerate(ALL_TYPES)]
    target(settings, Table("new.every", tuple(columns), ("id",)))
    made = {**ALL_TYPES, "xml": xml_type(postgres)}
    assert list(types_of(postgres, "new.every").values()) == ["bigint NOT NULL", *made.values()]
    assert run(postgres, "SELECT source_table, made, single_part FROM headrace_tables") == [("new.every", True, False)]


def test_declared_types_win(postgres: str, settings: PostgresConfig) -> None:
    """A type written in the pipeline file is the one that the column gets."""
    target(settings, table("t", id="int64", name="string"), columns={"name": "varchar(20)"})
    assert types_of(postgres, "t")["name"] == "character varying(20)"


GROWTH = [
    ("int16", "smallint", "int32", "integer"),
    ("int32", "integer", "int64", "bigint"),
    ("decimal(8,2)", "numeric(8,2)", "decimal(10,4)", "numeric(10,4)"),
    ("decimal(8,2)", "numeric(8,2)", "numeric", "numeric"),
    ("float32", "real", "float64", "double precision"),
]


@pytest.mark.parametrize(("before", "made", "after", "grown"), GROWTH)
def test_a_column_that_grows_in_mid_stream_is_followed(
    postgres: str, settings: PostgresConfig, before: str, made: str, after: str, grown: str
) -> None:
    """A wider type and a new column arrive with a segment: the target is altered, the rows go in."""
    old = table("t", id="int64", c=before)
    part = target(settings, old).open(0)
    part.apply(1, segment_of(batch(old, [{"id": 1}])))
    assert types_of(postgres, "t") == {"id": "bigint NOT NULL", "c": made}
    new = table("t", id="int64", c=after, d="string")
    part.apply(2, segment_of(batch(new, [{"id": 2, "d": "x"}])))
    part.apply(3, segment_of(batch(old, [{"id": 3}])))  # another partition may still be at the old shape
    part.close()
    assert types_of(postgres, "t") == {"id": "bigint NOT NULL", "c": grown, "d": "text"}
    assert run(postgres, "SELECT id, d FROM t ORDER BY id") == [(1, None), (2, "x"), (3, None)]


def test_a_varchar_of_ours_becomes_text(postgres: str, settings: PostgresConfig) -> None:
    """A length that the pipeline file no longer asks for goes; in a table made by somebody else it stays."""
    strings = table("t", id="int64", name="string")
    target(settings, strings, columns={"name": "varchar(20)"})
    target(settings, strings)
    assert types_of(postgres, "t")["name"] == "text"
    run(postgres, "CREATE TABLE theirs (id int8 PRIMARY KEY, name varchar(20))")
    target(settings, table("theirs", id="int64", name="string"))
    assert types_of(postgres, "theirs")["name"] == "character varying(20)"


def test_a_narrower_source_fits_a_wider_target(postgres: str, settings: PostgresConfig) -> None:
    """Nothing is altered where the target holds more than the source needs."""
    wide = "id numeric(20,0) PRIMARY KEY, price numeric(20,6), born timestamptz, extra int DEFAULT 1 NOT NULL"
    run(postgres, f"CREATE TABLE t ({wide})")
    before = types_of(postgres, "t")
    target(settings, table("t", id="int64", price="decimal(10,2)", born="timestamptz"))
    assert types_of(postgres, "t") == before


REFUSED = [
    ("c numeric(8,2)", "string", "column c: the source has string, the target numeric(8,2)"),
    ("c integer", "decimal(8,2)", "column c: the source has decimal(8,2), the target integer"),
    ("c double precision", "decimal(8,2)", "column c: the source has decimal(8,2), the target double precision"),
    ("c timestamp", "timestamptz", "column c: the source has timestamptz, the target timestamp without time zone"),
    ("c text", "int64", "column c: the source has int64, the target text"),
    ("c int GENERATED ALWAYS AS (1) STORED", "int32", "the target computes it"),
    ("c text, needed int NOT NULL", "string", "column needed: the source has none, the target needs a value"),
]


@pytest.mark.parametrize(("there", "source", "message"), REFUSED)
def test_a_mismatch_is_refused_with_both_sides(
    postgres: str, settings: PostgresConfig, there: str, source: str, message: str
) -> None:
    """What no additive change heals is an error that shows source and target."""
    run(postgres, f"CREATE TABLE t (id int8 PRIMARY KEY, {there})")
    with pytest.raises(ConfigurationError) as error:
        target(settings, table("t", id="int64", c=source))
    assert message in str(error.value)


def test_a_missing_key_is_refused(postgres: str, settings: PostgresConfig) -> None:
    """The source's key must be a unique key of the target; the error gives the statement that makes it one."""
    run(postgres, "CREATE TABLE t (id int8, name text UNIQUE)")
    with pytest.raises(
        ConfigurationError, match=r'the target\'s unique keys are \(name\); CREATE UNIQUE INDEX ON "public"."t"'
    ):
        target(settings, table("t"))
    run(postgres, "CREATE VIEW v AS SELECT 1 AS id")
    with pytest.raises(ConfigurationError, match="expected a table, found a view"):
        target(settings, table("v"))


def test_a_shape_refused_in_mid_stream_stops_that_table_only(postgres: str, settings: PostgresConfig) -> None:
    """Rows of a table that changed its type beyond repair become dead letters; the other tables go on."""
    good, old = table("good"), table("bad", id="int64", c="int32")
    part = target(settings, good, old).open(0)
    new = table("bad", id="int64", c="timestamp")
    applied = part.apply(1, segment_of(batch(new, [{"id": 1}, {"id": 2}]), batch(good, [{"id": 1}])))
    part.close()
    assert (applied.rows, applied.dead_letters) == (1, 2)
    letters = run(postgres, "SELECT table_name, key_text, reason, error FROM headrace_dead_letters ORDER BY id")
    assert [letter[:3] for letter in letters] == [("bad", '{"id": 1}', "data"), ("bad", '{"id": 2}', "data")]
    assert "the source has timestamp, the target integer" in letters[0][3]
    assert run(postgres, "SELECT id FROM good") == [(1,)]


def test_a_filled_table_needs_a_mode(postgres: str, settings: PostgresConfig) -> None:
    """create refuses a filled table, adopt keeps its rows, replace removes them once and not at the next start."""
    for name in ("a", "b"):
        run(postgres, f"CREATE TABLE {name} (id int8 PRIMARY KEY, name text)", f"INSERT INTO {name} VALUES (1, 'old')")
    with pytest.raises(ConfigurationError, match=r'found a filled one; mode = "adopt" .* mode = "replace"'):
        target(settings, table("a"))
    target(settings, table("a"), mode="adopt")
    for _ in range(2):
        target(settings, table("b"), mode="replace")
        run(postgres, "INSERT INTO b VALUES (2, 'new') ON CONFLICT DO NOTHING")
    assert run(postgres, "SELECT id FROM a") == [(1,)] and run(postgres, "SELECT id FROM b") == [(2,)]
    target(settings, table("a"))  # it is ours now


def test_two_flows_cannot_write_one_table(postgres: str, settings: PostgresConfig) -> None:
    """A table that another flow has is refused, with the statement that releases it."""
    target(settings, table("t"))
    with pytest.raises(ConfigurationError, match=rf"it belongs to flow {FLOW}; two flows .* DELETE FROM"):
        target(settings, table("t"), flow="other")
    with pytest.raises(ConfigurationError, match="expected one source table, found a and b"):
        PostgresTarget(settings, FLOW, "s", 1, {"a": TargetTable("t"), "b": TargetTable("public.t")})


def test_parts_are_fixed_for_life(settings: PostgresConfig) -> None:
    """Another number of parts on the same state is refused: rows of a key would change their part."""
    target(settings, table("t"), parts=4)
    for parts in (2, 8):
        with pytest.raises(ConfigurationError, match=f"expected {parts} parts .* found 4"):
            target(settings, table("t"), parts=parts)


TIED = [
    ("CREATE TABLE t (id int8 PRIMARY KEY, name text UNIQUE)", True),
    ("CREATE TABLE t (id int8 PRIMARY KEY, name text); CREATE UNIQUE INDEX ON t (lower(name))", True),
    ("CREATE TABLE p (id int8 PRIMARY KEY); CREATE TABLE t (id int8 PRIMARY KEY REFERENCES p, name text)", True),
    ("CREATE TABLE t (id int8 PRIMARY KEY, name text); CREATE TABLE c (id int8 REFERENCES t)", True),
    ("CREATE TABLE t (id int8 PRIMARY KEY, name text); CREATE INDEX ON t (name)", False),
    ("CREATE TABLE t (id int8 UNIQUE, name text)", False),
]


@pytest.mark.parametrize(("statements", "tied"), TIED)
def test_tied_tables_go_to_one_part(postgres: str, settings: PostgresConfig, statements: str, tied: bool) -> None:
    """A second unique key or a foreign key, in either direction, is found at preflight."""
    run(postgres, statements)
    made = target(settings, table("t"))
    assert made.single_part_tables([table("t")]) == (frozenset({"t"}) if tied else frozenset())


def test_a_tie_that_comes_later_is_refused(postgres: str, settings: PostgresConfig) -> None:
    """Rows that are spread over parts cannot be gathered again; a tie that goes leaves them in one part."""
    target(settings, table("t"))
    run(postgres, "CREATE UNIQUE INDEX second ON t (name)")
    with pytest.raises(ConfigurationError, match="drop the constraint"):
        target(settings, table("t"))
    run(postgres, "CREATE TABLE u (id int8 PRIMARY KEY, name text, CONSTRAINT second_u UNIQUE (name))")
    target(settings, table("u"))
    run(postgres, "ALTER TABLE u DROP CONSTRAINT second_u")
    assert target(settings, table("u")).single_part_tables([table("u")]) == {"u"}


def test_a_target_that_is_gone_stops_the_flow(postgres: str, settings: PostgresConfig) -> None:
    """A table dropped in mid-stream is not made again: its rows would be missing from then on."""
    part = target(settings, table("t")).open(0)
    part.apply(1, segment_of(batch(table("t"), [{"id": 1}])))
    run(postgres, "DROP TABLE t")
    with pytest.raises(FatalError, match=r"its target public\.t is gone"):
        part.apply(2, segment_of(batch(table("t"), [{"id": 2}])))
    part.close()


def test_metadata_lives_where_it_is_told(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headrace's own tables go to the schema of the configuration."""
    part = target(config(postgres, tmp_path, monkeypatch, metadata_schema="ops"), table("t")).open(0)
    part.apply(1, segment_of(batch(table("t"), [{"id": 1}])))
    part.close()
    assert run(postgres, "SELECT seq FROM ops.headrace_progress") == [(1,)]
