"""Columns that a table gains at the source, through a whole flow into a real target: rows that were there have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from control.embedded import EmbeddedPostgres
from flows.testing import run_flow
from flows.verify import verify

_FILE = """
name = "columns"
[source.postgres]
dsn = "env:ERP_DSN"
[sink.postgres]
dsn = "env:TARGET_DSN"
[tables."public.items"]
on_schema_change = "follow"
[tables."public.kept"]
on_schema_change = "follow"
where = "n < 1000000"
[tables."public.log"]
"""
_TABLES = ("items", "kept", "log")


@pytest.fixture
def target(postgres: str, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty database beside the source's."""
    dsn = postgres_server.create_database("columns_target")
    monkeypatch.setenv("ERP_DSN", postgres)
    monkeypatch.setenv("TARGET_DSN", dsn)
    yield dsn
    with psycopg.connect(postgres, autocommit=True) as source:
        source.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name ~ 'columns'"
        )
    postgres_server.drop_database("columns_target")


def _rows(dsn: str, table: str, columns: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2".encode()).fetchall()


def test_rows_that_were_there_have_the_new_columns(postgres: str, target: str, tmp_path: Path) -> None:
    """Defaults, and a column under another name, stand in all rows; with a filter, and without a key, too."""
    file = tmp_path / "columns.toml"
    file.write_text(_FILE, "utf-8")
    flow = f"flows.build:flow('{file}', until_end=True)"
    with psycopg.connect(postgres, autocommit=True) as source:
        for table in _TABLES:
            source.execute(f"CREATE TABLE {table} (id int, n int, t text)".encode())
            source.execute(f"INSERT INTO {table} SELECT g, g, g::text FROM generate_series(1, 3000) g".encode())
        source.execute("ALTER TABLE items ADD PRIMARY KEY (id); ALTER TABLE kept ADD PRIMARY KEY (id)")
        source.execute("ALTER TABLE log REPLICA IDENTITY FULL")
        assert run_flow(flow, tmp_path) == [0]
        for table in _TABLES:
            source.execute(f"ALTER TABLE {table} ADD c int DEFAULT 7, ADD d text DEFAULT md5(random()::text)".encode())
            source.execute(f"INSERT INTO {table} VALUES (0, 0, 'new', 8, 'new')".encode())
        assert run_flow(flow, tmp_path) == [0], (tmp_path / "process-0.log").read_text()[-3000:]
        for table in _TABLES:
            assert _rows(target, table, "id, n, t, c, d") == _rows(postgres, table, "id, n, t, c, d"), table
        for table in ("items", "kept"):
            source.execute(f"ALTER TABLE {table} RENAME t TO text".encode())
            source.execute(f"UPDATE {table} SET c = 9 WHERE id = 3".encode())
        assert run_flow(flow, tmp_path) == [0], (tmp_path / "process-0.log").read_text()[-3000:]
    for table in ("items", "kept"):
        assert _rows(target, table, "id, n, text, c, d") == _rows(postgres, table, "id, n, text, c, d"), table
    assert verify(str(file)).equal
