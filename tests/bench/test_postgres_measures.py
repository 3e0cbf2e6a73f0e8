"""The measures of [source.postgres] at a small size: they run, and end equal; and the comparison sees a difference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bench import postgres_parts, run
from bench.postgres_transaction import transaction, write
from control.embedded import EmbeddedPostgres


@pytest.fixture
def databases(postgres_server: EmbeddedPostgres) -> Iterator[tuple[str, str]]:
    """A source and a target, dropped after the test with the source's slots."""
    names = ("measure_source", "measure_target")
    yield postgres_server.create_database(names[0]), postgres_server.create_database(names[1])
    postgres_server.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'measure_source'"
    )
    for name in names:
        postgres_server.drop_database(name)


def test_a_large_transaction_arrives(databases: tuple[str, str], tmp_path: Path) -> None:
    """The measure of one transaction ends equal, with a memory above nothing and the aim beside it."""
    source, target = databases
    result = transaction("postgres-transaction", postgres_parts.Flow(tmp_path, source, target), 3_000, 1)
    assert result.equal
    assert result.value == result.peak_memory_mb > 20
    assert result.ratio == pytest.approx(result.peer_value / result.value)


def test_changes_are_as_many_as_they_say(postgres: str) -> None:
    """Both writers tell the number of changes that the server counted, and `change` leaves the rows that it should."""
    counts = "SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname = 'items'"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(postgres_parts.DDL)
        written = write(connection, 2_000) + postgres_parts.change(connection, 7, 3)
        connection.execute("SELECT pg_stat_force_next_flush()")
        assert connection.execute(counts).fetchone() == (written,)
        assert connection.execute("SELECT count(*) FROM items WHERE order_id < 0").fetchone() == (3 * 750,)


def test_one_other_row_is_seen(postgres: str) -> None:
    """Equal tables are equal whatever the order of their rows; a changed, a lost and a doubled row are not."""
    with psycopg.connect(postgres, autocommit=True) as connection, psycopg.connect(postgres, autocommit=True) as other:
        connection.execute(
            "CREATE TABLE pairs (a int, b text); INSERT INTO pairs SELECT g, g FROM generate_series(1, 9) g"
        )
        other.execute("CREATE SCHEMA there; SET search_path = there; CREATE TABLE pairs (a int, b text)")
        other.execute("INSERT INTO pairs SELECT g, g FROM generate_series(9, 1, -1) g")
        expected = {
            "SELECT 1": (0, 0),
            "UPDATE pairs SET b = NULL WHERE a = 4": (1, 1),
            "DELETE FROM pairs WHERE a = 4": (1, 0),
            "INSERT INTO pairs VALUES (5, '5')": (1, 1),
        }
        for statement, (missing, extra) in expected.items():
            other.execute(statement)
            found = postgres_parts.compared(connection, other, "pairs", ("a", "b"))
            assert (found.missing, found.extra, found.equal) == (missing, extra, missing + extra == 0)


def test_every_measure_of_postgresql_is_there() -> None:
    """The names lead to functions."""
    names = [name for name in run.MEASURES if name.startswith("postgres-")]
    assert len(names) >= 6
    assert all(callable(run.function(name)) for name in names)
