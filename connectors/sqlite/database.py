"""One SQLite database: its tables described, its errors sorted, and the log that triggers keep in it.

The file is never Bytewax's recovery store: two SQLite libraries in one process drop each other's locks on one file, and
Bytewax brings its own. That is checked when the database is opened.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connectors.base.database import SourceContext, SourceTable
from connectors.sqlite.config import SqliteConfig
from connectors.sqlite.types import exact_type
from libcore.errors import ConfigurationError, FatalError, TransientError
from libcore.schema import Column, Table

_WAIT = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_SCHEMA,
}  # fmt: skip
_ROWID_NAMES = ("rowid", "_rowid_", "oid")
LOG = "headrace_log"
PARTITION = "sqlite"  # one, as a database has one order


@dataclass(frozen=True)
class Described:
    """A table as the database has it.

    Args:
        source: name, exact types, key, notes.
        rowid: a name by which its rowid can be asked for; None: it has none.
        stable_rowid: the rowid is a column of its own (INTEGER PRIMARY KEY), so VACUUM does not change it.
        has_unique: other columns than the key are unique, too.
    """

    source: SourceTable
    rowid: str | None
    stable_rowid: bool
    has_unique: bool


def place(config: SqliteConfig, context: SourceContext) -> Path:
    """The database file. Raises ConfigurationError where it is not there, or is Bytewax's recovery store."""
    if sqlite3.sqlite_version_info < (3, 37):
        raise ConfigurationError(
            f"source.sqlite: expected SQLite 3.37 or newer in Python, found {sqlite3.sqlite_version}"
        )
    path = (context.base / config.path).resolve()
    if not path.is_file():
        raise ConfigurationError(f"source.sqlite.path: expected a database file {path}, found none")
    if re.fullmatch(r"part-\d+\.sqlite3", path.name) and path.parent.name == "recovery":
        raise ConfigurationError(
            f"source.sqlite.path: expected a database of your own, found the recovery store {path}"
        )
    with path.open("rb") as file:
        head = file.read(16)
    if head not in (b"SQLite format 3\0", b""):
        raise ConfigurationError(f"source.sqlite.path: expected a SQLite database, found other bytes in {path}")
    return path


def connect(path: Path, config: SqliteConfig, *, write: bool = False) -> sqlite3.Connection:
    """A connection in autocommit; `write` only for the log. Raises TransientError, FatalError."""
    with errors(path):
        return sqlite3.connect(
            f"{path.as_uri()}?mode={'rw' if write else 'ro'}",
            uri=True,
            timeout=config.busy_timeout_s,
            isolation_level=None,
        )


@contextmanager
def errors(path: Path) -> Iterator[None]:
    """sqlite3's errors as those of libcore.errors: what passes by itself, and what a person must see to."""
    try:
        yield
    except sqlite3.Error as error:
        if passes(error):
            raise TransientError(f"source.sqlite: {path}: {error}") from error
        raise FatalError(f"source.sqlite: {path}: {error}") from error


def passes(error: sqlite3.Error) -> bool:
    """Whether it may be gone at another try."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF in _WAIT


def schema_version(connection: sqlite3.Connection) -> int:
    """A number that every change of the schema raises, and VACUUM."""
    return int(connection.execute("PRAGMA main.schema_version").fetchone()[0])


def quote(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def names(connection: sqlite3.Connection) -> list[str]:
    """Tables of the database, by name: no views, no virtual tables, none of SQLite's or Headrace's own."""
    found = connection.execute("PRAGMA main.table_list").fetchall()
    return sorted(row[1] for row in found if row[2] == "table" and not row[1].startswith(("sqlite_", LOG)))


def describe(connection: sqlite3.Connection, name: str) -> Described:
    """A table with exact types. Raises ConfigurationError where it is not there."""
    listed = [row for row in connection.execute("PRAGMA main.table_list").fetchall() if row[1] == name]
    rows = connection.execute(f"PRAGMA main.table_xinfo({quote(name)})").fetchall()
    if not listed or not rows:
        raise ConfigurationError(f"source.sqlite: expected a table {name!r}, found none")
    without_rowid = bool(listed[0][4])
    notes, columns = [], []
    key = [row for row in sorted(rows, key=lambda row: row[5]) if row[5]]
    key_names = tuple(row[1] for row in key)
    for _, column, declared, not_null, _, _, hidden in rows:
        if hidden == 1:
            continue
        kind, note = exact_type(declared or "")
        columns.append(Column(column, kind, not not_null and column not in key_names))
        if note:
            notes.append(f"{name}.{column}: {note}")
    if not key:
        notes.append(f"{name}: no primary key: give it one by `key`, or its rows are compared and added as a whole")
    taken = {column.name.lower() for column in columns}
    rowid = None if without_rowid else next((alias for alias in _ROWID_NAMES if alias not in taken), None)
    stable = len(key) == 1 and not without_rowid and (key[0][2] or "").strip().upper() == "INTEGER"
    indexes = connection.execute(f"PRAGMA main.index_list({quote(name)})").fetchall()
    unique = any(row[2] and row[3] != "pk" for row in indexes)
    table = Table(name, tuple(columns), key_names)
    return Described(SourceTable(name, table, tuple(notes), PARTITION), rowid, stable, unique)


def log_name(flow: str) -> str:
    """The log table of a pipeline; each pipeline has one of its own, because it cleans up behind itself."""
    return f"{LOG}_{flow}"


def trigger_statements(flow: str, table: Table) -> list[tuple[str, str]]:
    """(name, statement) of a table's triggers, which write each changed row's key into the pipeline's log."""
    log, made = quote(log_name(flow)), []

    def entry(row: str) -> str:
        key = " || ',' || ".join(f"quote({row}.{quote(name)})" for name in table.key)
        return f"INSERT INTO {log} (name, key) VALUES ('{table.name.replace(chr(39), chr(39) * 2)}', {key})"

    changed = " OR ".join(f"OLD.{quote(name)} IS NOT NEW.{quote(name)} COLLATE BINARY" for name in table.key)
    moved = f"{entry('OLD').replace(' VALUES (', ' SELECT ', 1)[:-1]} WHERE {changed}"
    bodies = {
        "INSERT": [entry("NEW")],
        "DELETE": [entry("OLD")],
        "UPDATE": [moved, entry("NEW")],
    }
    for event, body in bodies.items():
        trigger = f"{log_name(flow)}_{table.name}_{event.lower()}"
        made.append(
            (
                trigger,
                f"CREATE TRIGGER {quote(trigger)} AFTER {event} ON {quote(table.name)} BEGIN {'; '.join(body)}; END",
            )
        )
    return made


def install_log(
    connection: sqlite3.Connection, flow: str, tables: Sequence[Table], begun: Collection[str], read_to: int | None
) -> None:
    """Make log and triggers where they are missing or other than they should be, in one transaction.

    A table that was made anew under its name (so migrations do what ALTER TABLE cannot) has lost its triggers, and an
    older database in the file's place has a log that ends earlier: what was written is not known. An entry without a
    key tells that the table is to be read anew, and stays until that is durable.

    Args:
        begun: names of tables of which rows were read.
        read_to: up to which number the log was read; None: not at all.
    """
    log = log_name(flow)
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            f"CREATE TABLE IF NOT EXISTS {quote(log)} "
            "(seq INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, key TEXT NOT NULL)"
        )
        lost = _numbered_from(connection, log, read_to or 0)
        found = connection.execute("SELECT name, tbl_name, sql FROM main.sqlite_schema WHERE type = 'trigger'")
        there = {name: (on.lower(), sql) for name, on, sql in found.fetchall()}
        for table in tables:
            unseen = lost
            for name, statement in trigger_statements(flow, table):
                on, sql = there.get(name, ("", ""))
                unseen = unseen or on != table.name.lower()
                if (on, sql) != (table.name.lower(), statement):
                    connection.execute(f"DROP TRIGGER IF EXISTS {quote(name)}")
                    connection.execute(statement)
            if unseen and table.name in begun:
                connection.execute(f"INSERT INTO {quote(log)} (name, key) VALUES (?, '')", [table.name])
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def log_end(connection: sqlite3.Connection, log: str) -> int:
    """The log's newest number: of the counter, not of the rows, as those that were read are removed."""
    text = "SELECT coalesce((SELECT seq FROM main.sqlite_sequence WHERE name = ?), 0)"
    return int(connection.execute(text, [log]).fetchone()[0])


def _numbered_from(connection: sqlite3.Connection, log: str, read_to: int) -> bool:
    """Whether the log ended before what was read of it; its next numbers then stand behind that."""
    if log_end(connection, log) >= read_to:
        return False
    connection.execute("DELETE FROM main.sqlite_sequence WHERE name = ?", [log])
    connection.execute("INSERT INTO main.sqlite_sequence (name, seq) VALUES (?, ?)", [log, read_to])
    return True
