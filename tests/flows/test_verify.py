"""Verification finds each kind of planted difference, by value and by row, in keyed and keyless tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.kafka.topics import produce
from connectors.postgres.compare import Comparison, Difference
from connectors.postgres.config import PostgresConfig, TargetTable
from flows.spill import Spill
from flows.verify import verify
from libcore.change import UNSET, ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.digest import TableDigest, digest_table
from libcore.errors import ConfigurationError
from libcore.position import make
from libcore.schema import Column, Table, parse_type
from tests.flows.debezium import change

ITEMS = Table(
    "items",
    (
        Column("id", parse_type("int64"), False),
        Column("price", parse_type("decimal(10,2)")),
        Column("note", parse_type("string")),
    ),
    ("id",),
)
rows = st.dictionaries(
    st.integers(0, 6),
    st.tuples(st.none() | st.integers(0, 3), st.none() | st.sampled_from(["", "a", "A", "é"])),
    max_size=7,
)


def record(table: Table, values: list[dict[str, Any]]) -> pa.RecordBatch:
    """Upserts of those values."""
    control = [
        {"__op": int(Op.UPSERT), "__position": make(0, 0, place), "__source_ts": None} for place in range(len(values))
    ]
    return pa.RecordBatch.from_pylist([a | b for a, b in zip(values, control, strict=True)], schema=arrow_schema(table))


@pytest.fixture
def config(postgres: str, monkeypatch: pytest.MonkeyPatch) -> PostgresConfig:
    """The empty database of this test."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    return PostgresConfig(dsn="env:TARGET_DSN")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows, rows)
def test_counts_are_those_of_plain_python(
    config: PostgresConfig, postgres: str, expected: dict[int, Any], found: dict[int, Any]
) -> None:
    """Whatever two tables hold, equal, missing, extra and different are counted as a dictionary would."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS items; CREATE TABLE items (id bigint, price numeric(10,2), note text)")
        for key, (price, note) in found.items():
            connection.execute("INSERT INTO items VALUES (%s, %s, %s)", (key, price, note))
    with Comparison(config, TargetTable("items"), ITEMS) as comparison:
        assert (
            comparison.expect(record(ITEMS, [{"id": k, "price": p, "note": n} for k, (p, n) in expected.items()])) == []
        )
        answer = comparison.result()
    both = expected.keys() & found.keys()
    equal = sum(expected[key] == found[key] for key in both)
    assert (answer.equal, answer.different) == (equal, len(both) - equal)
    assert (answer.missing, answer.extra) == (len(expected.keys() - both), len(found.keys() - both))
    assert len(answer.examples) == answer.missing + answer.extra + answer.different


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["x", "y", None]), max_size=6), st.lists(st.sampled_from(["x", "y", None]), max_size=6))
def test_keyless_tables_compare_as_multisets(
    config: PostgresConfig, postgres: str, expected: list[Any], found: list[Any]
) -> None:
    """Copies count, NULL equals NULL, order does not matter."""
    table = Table("log", (Column("line", parse_type("string")),))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS log; CREATE TABLE log (line text)")
        for line in found:
            connection.execute("INSERT INTO log VALUES (%s)", (line,))
    with Comparison(config, TargetTable("log"), table) as comparison:
        comparison.expect(record(table, [{"line": line} for line in expected]))
        answer = comparison.result()
    equal = sum(min(expected.count(line), found.count(line)) for line in {"x", "y", None})
    assert (answer.equal, answer.missing, answer.extra) == (equal, len(expected) - equal, len(found) - equal)


# type of the column, SQL type of the target, expected text, what the target holds: the same value
SAME = [
    ("numeric", "numeric", "1.50", "1.5"),
    ("decimal(38,2)", "numeric", "1.50", "1.500"),
    ("timestamptz", "timestamptz", "2026-01-01T12:00:00+00:00", "2026-01-01 14:00+02"),
    ("json", "jsonb", '{"a": 1, "b": [1.0]}', '{"b":[1.0],"a":1}'),
    ("json", "json", '{"a": 1, "a": 2}', '{"a": 1, "a": 2}'),
    ("string", "inet", "10.0.0.1/8", "10.0.0.1/8"),
    ("float64", "double precision", "nan", "NaN"),
    ("array(string)", "text[]", '{"a",NULL}', "{a,NULL}"),
    ("interval", "interval", "P1Y2M", "1 year 2 months"),
    ("bits", "bit(5)", "10101", "10101"),
]
# the same, but a value that is another one
OTHER = [
    ("numeric", "numeric", "1.50", "1.51"),
    ("timestamptz", "timestamptz", "2026-01-01T12:00:00+00:00", "2026-01-01 12:00:00.000001+00"),
    ("json", "jsonb", '{"a": 1}', '{"a": "1"}'),
    ("json", "json", '{"a": 1}', '{"a":1}'),
    ("string", "text", "a", "A"),
    ("interval", "interval", "P1M", "30 days"),
    ("string", "text", "", None),
    ("bytes", "bytea", b"\x00", "\\x01"),
]


def _one_value(config: PostgresConfig, dsn: str, kind: str, sql: str, expected: Any, found: Any) -> Difference:
    table = Table("t", (Column("id", parse_type("int64"), False), Column("v", parse_type(kind))), ("id",))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE TABLE t (id bigint, v {sql})")
        connection.execute(f"INSERT INTO t VALUES (1, %s::text::{sql})", (found,))
    arrow = table.columns[1].type.arrow
    value = pa.array([expected]).cast(arrow) if not isinstance(expected, bytes) else pa.array([expected], arrow)
    batch = pa.RecordBatch.from_arrays([pa.array([1], pa.int64()), value], names=["id", "v"])
    with Comparison(config, TargetTable("t"), table) as comparison:
        assert comparison.expect(batch) == []
        return comparison.result()


@pytest.mark.parametrize(("kind", "sql", "expected", "found"), SAME, ids=[f"{kind} {sql}" for kind, sql, _, _ in SAME])
def test_the_same_value_in_another_spelling_is_equal(
    config: PostgresConfig, postgres: str, kind: str, sql: str, expected: Any, found: Any
) -> None:
    """Scale, time zone, key order and spelling are not differences."""
    assert _one_value(config, postgres, kind, sql, expected, found).is_equal


@pytest.mark.parametrize(
    ("kind", "sql", "expected", "found"), OTHER, ids=[f"{kind} {sql} {found}" for kind, sql, _, found in OTHER]
)
def test_another_value_is_different(
    config: PostgresConfig, postgres: str, kind: str, sql: str, expected: Any, found: Any
) -> None:
    """A microsecond, a letter's case, '' for NULL, 30 days for a month: all are found, and shown."""
    answer = _one_value(config, postgres, kind, sql, expected, found)
    assert (answer.equal, answer.different) == (0, 1)
    assert str(answer.examples[0]).startswith("different (id=1): v: expected ")


def test_a_value_that_was_never_sent_is_not_compared(config: PostgresConfig, postgres: str) -> None:
    """An unset column is unknown: the target's value stands; the other columns are compared."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE items (id bigint, price numeric, note text); "
            "INSERT INTO items VALUES (1, 5, 'old'), (2, 5, 'old')"
        )
    batch = record(ITEMS, [{"id": 1, "price": 5, "note": None}, {"id": 2, "price": 6, "note": None}])
    bitmap = pa.array([b"\x04", b"\x04"], pa.binary(unset_bytes(ITEMS)))
    with Comparison(config, TargetTable("items"), ITEMS, with_unset=True) as comparison:
        comparison.expect(batch.append_column(UNSET, bitmap))
        answer = comparison.result()
    assert (answer.equal, answer.different) == (1, 1)
    assert [name for name, _, _ in answer.examples[0].differences] == ["price"]


def test_a_row_that_stands_twice_is_extra(config: PostgresConfig, postgres: str) -> None:
    """An adopted table without a unique key may hold a key twice; each further copy is extra."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE items (id bigint, price numeric, note text); "
            "INSERT INTO items VALUES (1, 5, 'a'), (1, 5, 'a')"
        )
    with Comparison(config, TargetTable("items"), ITEMS) as comparison:
        comparison.expect(record(ITEMS, [{"id": 1, "price": 5, "note": "a"}]))
        assert (answer := comparison.result()).extra == 1 and answer.equal == 1


OPS = st.sampled_from([Op.UPSERT, Op.DELETE, Op.UPDATE])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(OPS, st.integers(0, 4), st.integers(0, 9), st.booleans()), max_size=30))
def test_a_fold_on_disk_is_the_last_state(tmp_path: Path, changes: list[tuple[Op, int, int, bool]]) -> None:
    """Folded by key, over a column added in mid-stream, the rows are the last ones; an unsent one keeps its value.

    An update of a row that is not there makes none.
    """
    old = Table("t", (Column("id", parse_type("int64")), Column("a", parse_type("int32"))), ("id",))
    new = Table("t", (*old.columns, Column("b", parse_type("int32"))), ("id",))
    spill, state = Spill(tmp_path), {}
    for place, (op, key, value, wide) in enumerate(changes):
        table = new if wide or any(w for _, _, _, w in changes[:place]) else old
        row = {
            "id": key,
            "a": value,
            "b": value * 10,
            "__op": int(op),
            "__position": make(0, 0, place),
            "__source_ts": None,
        }
        if op == Op.DELETE:
            row |= {"a": None, "b": None}
            state.pop(key, None)
        elif op != Op.UPDATE or key in state:
            state[key] = (value, value * 10 if table is new else None)
        spill.add(ChangeBatch(table, pa.RecordBatch.from_pylist([row], schema=arrow_schema(table))))
    folded = {row["id"]: (row["a"], row.get("b")) for batch in spill.folded() for row in batch.record.to_pylist()}
    assert folded == state
    spill.clear()
    assert list(spill.folded()) == []


PIPELINE = """
name = "verified"
[source.kafka]
servers = "{servers}"
[tables.items]
topic = "{items}"
key = ["id"]
where = "quantity > 0"
rename = {{ quantity = "pieces" }}
target = "items"
[tables.items.columns]
id = "int64"
quantity = "int32"
note = "string"
[tables.log]
topic = "{log}"
key = []
target = "log"
[tables.log.columns]
line = "string"
[sink.postgres]
dsn = "env:TARGET_DSN"
"""
KEY = ["id"]


@pytest.fixture
def pipeline(broker: str, topic: Callable[[int], str], tmp_path: Path, config: PostgresConfig, postgres: str) -> Path:
    """A pipeline over two topics, and a target that is right: rows 1 and 4 of items, and log lines."""
    items, log = topic(2), topic(1)
    new = {number: {"id": number, "quantity": number, "note": f"n{number}"} for number in range(1, 5)}
    out = {**new[2], "quantity": -2}
    changes = [change("c", None, row, KEY) for row in new.values()] + [
        change("u", new[2], out, KEY),
        change("d", new[3], None, KEY),
    ]
    produce(broker, items, changes)
    produce(
        broker,
        log,
        [change("c", None, {"line": line}, []) for line in ("a", "a", "b")] + [change("d", {"line": "b"}, None, [])],
    )
    file = tmp_path / "verified.toml"
    file.write_text(PIPELINE.format(servers=broker, items=items, log=log), encoding="utf-8")
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE items (id bigint PRIMARY KEY, pieces int, note text); CREATE TABLE log (line text)"
        )
        connection.execute("INSERT INTO items VALUES (1, 1, 'n1'), (4, 4, 'n4'); INSERT INTO log VALUES ('a'), ('a')")
    return file


def counts(file: Path) -> dict[str, tuple[int, int, int, int]]:
    """equal, missing, extra and different of each target table."""
    found = {table.target: table.difference for table in verify(str(file)).tables}
    return {name.rpartition(".")[2]: (d.equal, d.missing, d.extra, d.different) for name, d in found.items()}


def source_of(file: Path, target: str) -> str:
    """The topic behind a target table."""
    return next(table.source for table in verify(str(file)).tables if table.target == f"public.{target}")


def test_a_target_that_is_right_is_equal(pipeline: Path) -> None:
    """Filtered, deleted and renamed rows are what verification expects."""
    report = verify(str(pipeline))
    assert report.equal and list(report.lines())[-1] == "2 tables: all equal"
    assert counts(pipeline) == {"items": (2, 0, 0, 0), "log": (2, 0, 0, 0)}


def test_equal_digests_are_equal_tables(pipeline: Path, broker: str) -> None:
    """The digest is that of the target's rows in any order, copies counted; one more row at the source changes it."""
    digests = {table.target: table.digest for table in verify(str(pipeline)).tables}
    item = {"id": [4, 1], "pieces": [4, 1], "note": ["n4", "n1"]}
    assert digests["public.items"] == digest_table(pa.RecordBatch.from_pydict(item))
    assert digests["public.log"] == digest_table(pa.RecordBatch.from_pydict({"line": ["a", "a"]}))
    produce(broker, source_of(pipeline, "log"), [change("c", None, {"line": "a"}, [])])
    told = json.loads(json.dumps(verify(str(pipeline)).as_dict()))["tables"]
    after = {table["target"]: TableDigest.parse(table["digest"]) for table in told}
    assert after["public.items"] == digests["public.items"]
    assert after["public.log"] == digest_table(pa.RecordBatch.from_pydict({"line": ["a"] * 3}))


@pytest.mark.parametrize(
    ("planted", "items", "log", "example"),
    [
        ("DELETE FROM items WHERE id = 4", (1, 1, 0, 0), (2, 0, 0, 0), "missing (id=4)"),
        ("INSERT INTO items VALUES (2, 2, 'n2')", (2, 0, 1, 0), (2, 0, 0, 0), "extra (id=2)"),
        (
            "UPDATE items SET note = 'N4' WHERE id = 4",
            (1, 0, 0, 1),
            (2, 0, 0, 0),
            "different (id=4): note: expected 'n4', found 'N4'",
        ),
        (
            "UPDATE items SET pieces = NULL WHERE id = 1",
            (1, 0, 0, 1),
            (2, 0, 0, 0),
            "different (id=1): pieces: expected '1', found NULL",
        ),
        ("INSERT INTO log VALUES ('a')", (2, 0, 0, 0), (2, 0, 1, 0), "extra (line=a)"),
        ("DELETE FROM log", (2, 0, 0, 0), (0, 2, 0, 0), "missing (line=a)"),
        ("DROP TABLE items", (0, 2, 0, 0), (2, 0, 0, 0), ""),
    ],
)
def test_each_planted_difference_is_found(
    pipeline: Path, postgres: str, planted: str, items: Any, log: Any, example: str
) -> None:
    """A row removed, added or changed in the target is counted in its place and shown."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(planted)
    assert counts(pipeline) == {"items": items, "log": log}
    report = verify(str(pipeline))
    assert not report.equal
    assert example in "\n".join(report.lines()) and json.dumps(report.as_dict())


def test_a_message_that_cannot_be_read_is_no_proof(pipeline: Path, broker: str) -> None:
    """An unreadable message leaves the rows equal, but the report does not call the tables equal."""
    topic = source_of(pipeline, "items")
    produce(broker, topic, [(b'{"id": 9}', b'{"before": null, "after": {"id": 9, "quantity": "many"}, "op": "c"}')])
    report = verify(str(pipeline), tables=[topic])
    assert not report.equal and [table.unreadable for table in report.tables] == [1]
    assert "equal, not proven (1 messages could not be read: dead letters)" in next(report.lines())


def test_a_source_database_is_another_truth(
    pipeline: Path, postgres_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with the source itself, its primary key and the pipeline's where and rename decide."""
    source = postgres_server.create_database("verify_source")
    try:
        monkeypatch.setenv("SOURCE_DSN", source)
        table = source_of(pipeline, "items")
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute(f'CREATE TABLE "{table}" (id int PRIMARY KEY, quantity smallint, note varchar(9))')
            connection.execute(
                f"INSERT INTO \"{table}\" VALUES (1, 1, 'n1'), (2, -2, 'n2'), (4, 4, 'n4'), (5, 5, NULL)"
            )
        report = verify(str(pipeline), "env:SOURCE_DSN", tables=[table])
        (found,) = report.tables
        assert (found.difference.equal, found.difference.missing) == (2, 1)
        assert [str(example) for example in found.difference.examples] == ["missing (id=5)"]
        assert found.digest is None and "digest" not in next(report.lines())
    finally:
        postgres_server.drop_database("verify_source")


def test_without_a_database_there_is_nothing_to_compare(tmp_path: Path) -> None:
    """A pipeline into nothing is refused by name."""
    file = tmp_path / "null.toml"
    file.write_text('name = "n"\n[source.kafka]\nservers = "h:1"\n[tables.a]\n[sink.null]\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"expected a \[sink\.postgres\]"):
        verify(str(file))
