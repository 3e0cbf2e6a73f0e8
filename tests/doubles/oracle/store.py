"""The database file of the double: its tables, the clock of SCNs, and connections to it from any process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

from tests.doubles.oracle import functions

FOREVER = 1 << 62  # the end of a row version that is valid now

_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE clock (scn INTEGER NOT NULL, burned INTEGER NOT NULL, undo_from INTEGER NOT NULL);
CREATE TABLE setting (name TEXT PRIMARY KEY, value);
CREATE TABLE thread (number INTEGER PRIMARY KEY, frozen INTEGER NOT NULL DEFAULT 0, last_redo INTEGER NOT NULL);
CREATE TABLE log (
    thread INTEGER, sequence INTEGER, first_change INTEGER NOT NULL, next_change INTEGER, grp INTEGER NOT NULL,
    archived INTEGER NOT NULL DEFAULT 0, purged INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (thread, sequence));
CREATE TABLE txn (
    id INTEGER PRIMARY KEY, xid BLOB NOT NULL, thread INTEGER NOT NULL, start_scn INTEGER, commit_scn INTEGER,
    commit_place INTEGER, ended INTEGER NOT NULL DEFAULT 0);
CREATE TABLE redo (
    place INTEGER PRIMARY KEY, thread INTEGER NOT NULL, sequence INTEGER NOT NULL, visible INTEGER NOT NULL,
    undone INTEGER NOT NULL DEFAULT 0, txn INTEGER, scn INTEGER NOT NULL, rs_id TEXT, ssn INTEGER, xid BLOB,
    code INTEGER, operation TEXT, csf INTEGER NOT NULL DEFAULT 0, sql_redo TEXT, seg_owner TEXT, table_name TEXT,
    row_id TEXT, rollback INTEGER NOT NULL DEFAULT 0, status INTEGER NOT NULL DEFAULT 0, info TEXT, at TEXT,
    data_obj INTEGER, data_objv INTEGER, container TEXT);
CREATE INDEX redo_scn ON redo (scn);
CREATE INDEX redo_hidden ON redo (thread) WHERE visible = 0;
CREATE TABLE tab (
    owner TEXT, name TEXT, object INTEGER, version INTEGER NOT NULL DEFAULT 1, ddl_scn INTEGER NOT NULL DEFAULT 0,
    logging TEXT, PRIMARY KEY (owner, name));
CREATE TABLE col (
    owner TEXT, tab TEXT, name TEXT, type TEXT, data_type TEXT, length INTEGER, digits INTEGER, scale INTEGER,
    nullable TEXT, place INTEGER, key_place INTEGER, char_length INTEGER, PRIMARY KEY (owner, tab, name));
CREATE TABLE fault (
    id INTEGER PRIMARY KEY, pattern TEXT NOT NULL, code INTEGER NOT NULL, skip INTEGER NOT NULL DEFAULT 0,
    count INTEGER NOT NULL DEFAULT 1);
CREATE TABLE DUAL (DUMMY TEXT);
INSERT INTO DUAL VALUES ('X');
INSERT INTO clock VALUES (1000, 1000, 0);
"""


def make(path: Path, threads: int) -> None:
    """A new database file. Raises FileExistsError."""
    if path.exists():
        raise FileExistsError(path)
    connection = connect(path)
    connection.executescript(_SCHEMA)
    for number in range(1, threads + 1):
        connection.execute("INSERT INTO thread VALUES (?, 0, 1000)", [number])
        connection.execute("INSERT INTO log VALUES (?, ?, 900, NULL, ?, 0, 0)", [number, 10 * number, number * 3 - 2])
    connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """A connection that knows Oracle's functions and how its numbers compare; commits each statement by itself."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=20, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA case_sensitive_like = ON")
    connection.create_collation("ORACLE_NUMBER", _compare)
    functions.register(connection)
    return connection


def _compare(one: str, other: str) -> int:
    first, second = Decimal(one), Decimal(other)
    return (first > second) - (first < second)


@contextmanager
def atomic(connection: sqlite3.Connection) -> Iterator[None]:
    """One transaction of the file, perhaps a part of one that is open: no session sees an SCN without its record."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def next_scn(connection: sqlite3.Connection, step: int) -> int:
    """The SCN of the next redo record: `step` behind the last one, and behind every CURRENT_SCN that was told."""
    (scn,) = connection.execute("SELECT max(scn + ?, burned + 1) FROM clock", [step]).fetchone()
    connection.execute("UPDATE clock SET scn = max(scn, ?)", [scn])
    return int(scn)


def told_scn(connection: sqlite3.Connection) -> int:
    """A new CURRENT_SCN: all later redo has a greater one."""
    found = connection.execute("UPDATE clock SET scn = scn + 1, burned = scn + 1 RETURNING scn").fetchone()
    return int(found[0])
