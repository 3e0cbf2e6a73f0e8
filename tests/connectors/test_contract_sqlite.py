"""The contract of every source, for SQLite: a snapshot in one transaction, then the triggers' log."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from tests.connectors.contract_history import HistoryContract
from tests.connectors.contract_source import (
    IDLE,
    TABLE,
    ChangesContract,
    Followed,
    Rows,
    RowsContract,
    SourceSystem,
    check_killed_and_rescaled,
    some_rows,
)


class SqliteFile:
    """A database in WAL mode, so that snapshot and writer do not wait for each other."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / "erp.db"
        with closing(self.open()) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            for name in (TABLE, IDLE):
                connection.execute(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY, name TEXT, price DECIMAL(18,4))")

    def open(self) -> sqlite3.Connection:
        """A writer's connection."""
        return sqlite3.connect(self.path, isolation_level=None, timeout=20)

    def pipeline(self, sink: str = "[sink.null]\n", **settings: object) -> Path:
        text = 'name = "lite"\ntables = ["items", "idle"]\n[source.sqlite]\npath = "erp.db"\nfollow = "triggers"\n'
        text += "poll_s = 0.02\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
        file = self._directory / "lite.toml"
        file.write_text(text + sink, "utf-8")
        return file

    def write(self, rows: Rows, deleted: tuple[int, ...] = ()) -> None:
        with closing(self.open()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            if len(deleted) == 1 and len(rows) == 1:
                (new,) = rows.values()
                connection.execute(
                    "UPDATE items SET id = ?, name = ?, price = ? WHERE id = ?", [*new[:2], _text(new[2]), deleted[0]]
                )
            else:
                connection.executemany("DELETE FROM items WHERE id = ?", [(key,) for key in deleted])
            connection.executemany(
                "INSERT INTO items (id, name, price) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET name = excluded.name, price = excluded.price",
                [(*row[:2], _text(row[2])) for row in rows.values()],
            )
            connection.execute("COMMIT")

    def rows(self) -> Rows:
        with closing(self.open()) as connection:
            found = connection.execute("SELECT id, name, price FROM items").fetchall()
        return {key: (key, name, None if price is None else Decimal(repr(price))) for key, name, price in found}


def _text(price: Decimal | None) -> str | None:
    return None if price is None else str(price)


@pytest.fixture
def lite(tmp_path: Path) -> SqliteFile:
    """An empty database."""
    return SqliteFile(tmp_path)


class TestSqlite(RowsContract, ChangesContract, HistoryContract):
    """SQLite keeps the whole contract."""

    @pytest.fixture
    def system(self, tmp_path: Path) -> SourceSystem:
        return SqliteFile(tmp_path)


def test_a_long_transaction_shows_at_its_commit(lite: SqliteFile, tmp_path: Path) -> None:
    """Rows of an open transaction are not seen, however long it lasts; at the commit all of them are."""
    lite.write(some_rows(Random(1), 0, 10))
    followed = Followed(lite.pipeline(batch_rows_max=100), tmp_path / "state")
    followed.until(lambda: len(followed.rows()) == 10)
    with closing(lite.open()) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO items (id) VALUES (?)", [(number,) for number in range(1000, 3000)])
        for _ in range(20):
            followed.epoch()
        assert len(followed.rows()) == 10
        connection.execute("COMMIT")
    followed.until(lambda: len(followed.rows()) == 2010)
    followed.close()
    assert followed.rows() == lite.rows()


def test_a_crash_inside_of_what_one_transaction_wrote(lite: SqliteFile, tmp_path: Path) -> None:
    """A transaction of more rows than an epoch takes, lost half-way three times, is there whole in the end."""
    followed = Followed(lite.pipeline(batch_rows_max=20), tmp_path / "state")
    lite.write(some_rows(Random(3), 0, 10))
    followed.until(lambda: len(followed.rows()) == 10)
    lite.write(some_rows(Random(4), 5, 400))
    for rows in (30, 60, 200):
        followed.until(lambda: len(followed.rows()) > rows)  # noqa: B023
        followed.crash()
    followed.until(lambda: len(followed.rows()) == 405)
    followed.until(lambda: followed.rows() == lite.rows())
    followed.close()
    assert followed.rows() == lite.rows()


def test_a_new_column_in_mid_stream(lite: SqliteFile, tmp_path: Path) -> None:
    """A column that a table gains comes with all rows, its default in the old ones too, and changes go on."""
    lite.write(some_rows(Random(2), 0, 50))
    followed = Followed(lite.pipeline(), tmp_path / "state")
    followed.until(lambda: followed.rows() == lite.rows())
    with closing(lite.open()) as connection:
        connection.execute("ALTER TABLE items ADD COLUMN extra TEXT DEFAULT 'old'")
        connection.execute("INSERT INTO items (id, extra) VALUES (99, 'new')")
    followed.until(lambda: len(followed.rows()) == 51 and "extra" in followed.columns["items"])
    followed.crash()
    lite.write({7: (7, "after", None)})
    followed.until(lambda: followed.rows() == lite.rows())
    followed.close()
    extras = {row[0]: row[3] for row in followed.tables["items"].values()}
    assert extras == dict.fromkeys(range(50), "old") | {99: "new"}


def test_killed_and_rescaled(lite: SqliteFile, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in snapshot and stream and started again as two processes, target and database are equal."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    random = Random(8)
    lite.write(some_rows(random, 0, 2000))

    def more() -> None:
        lite.write(some_rows(random, 1900, 300), tuple(range(10 + len(lite.rows()) % 7, 60)))

    check_killed_and_rescaled(lite, tmp_path, postgres, more)
    assert 0 < len(lite.rows()) < 2200
