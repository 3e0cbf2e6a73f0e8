"""Change data capture: what changes write to a log, and the job that makes rows of change tables of it.

A table's triggers write the row before and after each change under a number of one counter. The capture job takes
whole transactions in the order of their commits, and writes a transaction's rows and its entry in lsn_time_mapping at
once, as SQL Server's does: nothing up to fn_cdc_get_max_lsn() comes later.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.doubles.sqlserver import catalog, wire
from tests.doubles.sqlserver.catalog import Column, Relation
from tests.doubles.sqlserver.engine import Database
from tests.doubles.sqlserver.functions import lsn
from tests.doubles.sqlserver.types import SqlType, parse_type

_TRANSACTIONS_MAX = 500
_BINARY, _INT = parse_type("binary(10)"), SqlType("int")
_HEAD = (
    Column("__$start_lsn", _BINARY, False), Column("__$end_lsn", _BINARY), Column("__$seqval", _BINARY, False),
    Column("__$operation", _INT, False), Column("__$update_mask", parse_type("varbinary(128)")),
)  # fmt: skip
_COMMAND = Column("__$command_id", _INT)
DELETED, INSERTED, BEFORE, AFTER = 1, 2, 3, 4
Row = tuple[Any, ...]


def log_changes(connection: sqlite3.Connection, relation: Relation) -> None:
    """Give a table its log and the triggers that write it; both follow the table's columns."""
    log = f"log.{relation.name}"
    connection.execute(
        f'CREATE TABLE IF NOT EXISTS "{log}" (number INTEGER PRIMARY KEY, command INTEGER, operation TEXT)'
    )
    there = {row[1] for row in connection.execute(f'PRAGMA table_info("{log}")')}
    for column in relation.columns:
        for side in "on":
            if f"{side}{column.number}" not in there:
                connection.execute(f'ALTER TABLE "{log}" ADD COLUMN {side}{column.number}')
    forget_changes(connection, relation)
    moved = " OR ".join(f'old."{column.name}" IS NOT new."{column.name}"' for column in relation.key) or "0"
    update = f"CASE WHEN {moved} THEN 'K' ELSE 'U' END"
    for event, operation, sides in (("INSERT", "'I'", "n"), ("DELETE", "'D'", "o"), ("UPDATE", update, "on")):
        names = [f"{side}{column.number}" for side in sides for column in relation.columns]
        values = [f'{"old" if side == "o" else "new"}."{column.name}"' for side in sides for column in relation.columns]
        connection.execute(
            f'CREATE TRIGGER "{log}.{event}" AFTER {event} ON "{relation.name}" BEGIN '
            f'INSERT INTO "{log}" (number, command, operation, {", ".join(names)}) '
            f"VALUES (next_number(), command(), {operation}, {', '.join(values)}); END"
        )


def forget_changes(connection: sqlite3.Connection, relation: Relation) -> None:
    """Take the triggers away; what is in the log stays."""
    for event in ("INSERT", "DELETE", "UPDATE"):
        connection.execute(f'DROP TRIGGER IF EXISTS "log.{relation.name}.{event}"')


def add_instance(
    connection: sqlite3.Connection, relation: Relation, name: str, columns: Sequence[Column], start_lsn: bytes, net: int
) -> None:
    """Make a capture instance: its change table and what `cdc` tells of it."""
    captured = [Column(column.name, column.kind, encoded=True) for column in columns]
    kept = [*_HEAD, *captured, _COMMAND]
    object_id = catalog.add_object(connection, f"cdc.{name}_CT", kept, shipped=True)
    listed = ", ".join(f'"{column.name}"' for column in kept)
    order = '"__$start_lsn", "__$command_id", "__$seqval", "__$operation"'
    connection.execute(f'CREATE TABLE "cdc.{name}_CT" ({listed}, PRIMARY KEY ({order})) WITHOUT ROWID')
    row = (object_id, 0, relation.object_id, name, start_lsn, net, relation.name)
    connection.execute(
        'INSERT INTO "cdc.change_tables" VALUES '
        "(?, ?, ?, ?, ?, NULL, ?, 0, NULL, 'PK_' || ?, NULL, tds_now('datetime'), 0)",
        row,
    )
    for ordinal, column in enumerate(columns, 1):
        row = (object_id, column.name, column.number, column.kind.name, ordinal)
        connection.execute('INSERT INTO "cdc.captured_columns" VALUES (?, ?, ?, ?, ?, 0)', row)
    for column in relation.key:
        row = (object_id, column.name, column.key_ordinal, column.number)
        connection.execute('INSERT INTO "cdc.index_columns" VALUES (?, ?, ?, ?)', row)


@dataclass(frozen=True)
class Instance:
    """A capture instance: its change table, from which LSN on, and its columns with their numbers in the source."""

    table: str
    start_lsn: bytes
    columns: tuple[tuple[int, SqlType], ...]

    @property
    def all_set(self) -> bytes:
        """The mask of a row that came or went."""
        return ((1 << len(self.columns)) - 1).to_bytes((len(self.columns) + 7) // 8, "big")


def instances(connection: sqlite3.Connection, relation: Relation) -> list[Instance]:
    """The capture instances of a table."""
    found = []
    query = 'SELECT object_id, capture_instance, start_lsn FROM "cdc.change_tables" WHERE source_object_id = ?'
    for object_id, name, start_lsn in connection.execute(query, (relation.object_id,)).fetchall():
        query = (
            'SELECT k.column_id, c.kind FROM "cdc.captured_columns" k JOIN "double.columns" c '
            "ON c.object_id = k.object_id AND c.name = k.column_name WHERE k.object_id = ? ORDER BY k.column_ordinal"
        )
        columns = tuple((number, parse_type(kind)) for number, kind in connection.execute(query, (object_id,)))
        found.append(Instance(f"cdc.{name}_CT", start_lsn, columns))
    return found


def change_rows(instance: Instance, logged: Sequence[Row], commits: Sequence[int]) -> Iterator[Row]:
    """The rows of a change table for rows of the log: number, command, operation, values before, values after.

    Args:
        commits: the numbers of commits in order; the next one above a row's number is its own.
    """
    width, all_set = len(instance.columns), instance.all_set
    for number, command, operation, *values in logged:
        start_lsn, before, after = lsn(commits[bisect_left(commits, number)]), values[:width], values[width:]
        if start_lsn <= instance.start_lsn:
            continue
        head, sequence = (start_lsn, None), lsn(number)
        if operation == "U":
            set_bits = sum(1 << at for at in range(width) if before[at] != after[at])
            if set_bits:
                mask = set_bits.to_bytes(len(all_set), "big")
                hidden = [kind.large and not set_bits >> at & 1 for at, (_, kind) in enumerate(instance.columns)]
                for code, side in ((BEFORE, before), (AFTER, after)):
                    seen = [None if hide else value for hide, value in zip(hidden, side, strict=True)]
                    yield (*head, sequence, code, mask, *seen, command)
            continue
        if operation in "DK":
            yield (*head, sequence, DELETED, all_set, *before, command)
        if operation in "IK":
            yield (*head, sequence, INSERTED, all_set, *after, command)


def _encoded(instance: Instance, rows: Sequence[Row]) -> Iterator[Row]:
    """The rows with their captured values as they go over the wire."""
    columns = list(zip(*rows, strict=True))
    first = len(_HEAD)
    for at, (_, kind) in enumerate(instance.columns, first):
        columns[at] = tuple(wire.encode_column(kind, columns[at]))
    return zip(*columns, strict=True)


class CaptureJob(threading.Thread):
    """SQL Server's capture job: runs after each commit, or every so many seconds, or not at all."""

    def __init__(self, database: Database) -> None:
        super().__init__(daemon=True)
        self._database = database
        self.poll_s = 0.0

    def run(self) -> None:
        """Until the process ends."""
        while True:
            self._database.committed.wait()
            time.sleep(self.poll_s)
            self._database.committed.clear()
            if not self._database.stopped_at:
                while self.scan():
                    pass

    def scan(self) -> int:
        """Capture some transactions. Returns how many."""
        with self._database.writing() as connection:
            query = 'SELECT number, first, begun, ended FROM "double.transactions" ORDER BY number LIMIT ?'
            transactions = connection.execute(query, (_TRANSACTIONS_MAX,)).fetchall()
            if transactions:
                self._capture(connection, transactions)
        return len(transactions)

    def _capture(self, connection: sqlite3.Connection, transactions: list[tuple[int, int, str, str]]) -> None:
        commits = [row[0] for row in transactions]
        numbers = (transactions[0][1], commits[-1])
        for relation in catalog.load(connection).values():
            if relation.tracked & 1:
                for instance in instances(connection, relation):
                    self._fill(connection, relation, instance, numbers, commits)
                connection.execute(f'DELETE FROM "log.{relation.name}" WHERE number BETWEEN ? AND ?', numbers)
        connection.executemany(
            'INSERT INTO "cdc.lsn_time_mapping" VALUES (?, ?, ?, ?, ?)',
            [
                (lsn(last), begun, ended, last.to_bytes(6, "big"), lsn(first))
                for last, first, begun, ended in transactions
            ],
        )
        connection.execute('DELETE FROM "double.transactions" WHERE number <= ?', (commits[-1],))

    def _fill(
        self, connection: sqlite3.Connection, relation: Relation, instance: Instance, numbers: tuple[int, int],
        commits: list[int],
    ) -> None:  # fmt: skip
        listed = ", ".join(f"{side}{number}" for side in "on" for number, _ in instance.columns)
        query = f'SELECT number, command, operation, {listed} FROM "log.{relation.name}" WHERE number BETWEEN ? AND ?'
        logged = connection.execute(f"{query} ORDER BY number", numbers).fetchall()
        rows = list(change_rows(instance, logged, commits))
        if rows:
            marks = ", ".join("?" * len(rows[0]))
            connection.executemany(f'INSERT INTO "{instance.table}" VALUES ({marks})', _encoded(instance, rows))
