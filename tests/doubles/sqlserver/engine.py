"""The database behind the double: a SQLite file with one writer at a time, so that commits have one order.

Readers see the state of one moment, as under SNAPSHOT isolation; a writer holds the lock from its first write to its
end, so the numbers that are counted meanwhile are its own, and numbers tell the order of all changes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from tests.doubles.sqlserver import catalog, functions, rights
from tests.doubles.sqlserver.catalog import Relation
from tests.doubles.sqlserver.errors import SqlError

_LOCK_S, _NUMBERS_OF_A_RUN = 30.0, 1 << 24  # more than a process ever gives


class Database:
    """The file, the lock of its writer, and the counter that LSNs are made of."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.stem
        self._writer = threading.Lock()
        self.agent_runs = True
        self.stopped_at = ""  # when the capture job was stopped; "" while it runs
        self.committed = threading.Event()
        self.committed.set()  # what was not captured before a restart is now
        new = not path.exists()
        with self.writing() as connection:
            if new:
                catalog.create(connection)
            run = "UPDATE \"double.settings\" SET value = value + 1 WHERE name = 'runs' RETURNING value"
            ((runs,),) = connection.execute(run).fetchall()
        newest = self.connect()[0].execute('SELECT max(object_id) FROM "double.objects"').fetchone()[0]
        self._numbers = count(newest + (runs - 1) * _NUMBERS_OF_A_RUN)

    def has_user(self, name: str) -> bool:
        """Whether a login has a user here."""
        with closing(self.connect()[0]) as connection:
            return rights.has_user(connection, name)

    def next_number(self) -> int:
        """A number above all that were given before."""
        return next(self._numbers)

    def connect(self) -> tuple[sqlite3.Connection, functions.Failures]:
        """A connection with all functions of T-SQL, and where their errors are found."""
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=_LOCK_S, cached_statements=512
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA recursive_triggers = OFF")
        failures = functions.register(connection)
        connection.create_function("next_number", 0, self.next_number)
        connection.create_function("database_name", 0, lambda: self.name)
        connection.create_function("row_count", 1, lambda number: catalog.row_count(connection, number))
        connection.create_function("agent_runs", 0, lambda: int(self.agent_runs))
        connection.create_function("captured_at", 0, lambda: self.stopped_at or functions.now("datetime"))
        return connection, failures

    def lock(self) -> None:
        """Wait to be the writer. Raises SqlError 1222."""
        if not self._writer.acquire(timeout=_LOCK_S):
            raise SqlError(1222, "Lock request time out period exceeded.")

    def unlock(self) -> None:
        """The writer has ended."""
        self._writer.release()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction of its own, committed at the end."""
        self.lock()
        try:
            with closing(self.connect()[0]) as connection:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
        finally:
            self.unlock()


class Transaction:
    """What one client has open: a reader's snapshot or a writer's lock, or nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.connection, self.failures = database.connect()
        self.connection.create_function("command", 0, lambda: self.commands)
        self._writes = False
        self._first, self._begun = 0, ""
        self._relations: tuple[int, dict[str, Relation]] = (-1, {})
        self.commands = 0
        self.depth = 0
        self.snapshot = False
        self.touched: dict[str, Relation] = {}

    def relations(self) -> dict[str, Relation]:
        """All tables, as this transaction sees them."""
        version = self.connection.execute("PRAGMA schema_version").fetchone()[0]
        if version != self._relations[0]:
            self._relations = (version, catalog.load(self.connection))
        return self._relations[1]

    def setting(self, name: str) -> int:
        """A setting of the database."""
        found = self.connection.execute('SELECT value FROM "double.settings" WHERE name = ?', (name,)).fetchone()
        return int(found[0])

    def read(self) -> None:
        """Before a query: under SNAPSHOT isolation the first one fixes what all of them see. Raises SqlError 3952."""
        if self.snapshot and not self._writes:
            if not self.setting("snapshot"):
                text = "Snapshot isolation transaction failed accessing database because snapshot isolation is not "
                raise SqlError(3952, text + "allowed in this database. Use ALTER DATABASE to allow snapshot isolation.")
            if self.depth and not self.connection.in_transaction:
                self.connection.execute("BEGIN")

    def write(self) -> None:
        """Before a change: be the one writer. Raises SqlError 1222, 3960."""
        self.commands += 1
        if self._writes:
            return
        self._database.lock()
        try:
            if not self.connection.in_transaction:
                self.connection.execute("BEGIN IMMEDIATE")
            self.connection.execute("UPDATE \"double.settings\" SET value = value WHERE name = 'version'")
        except sqlite3.OperationalError:  # another has committed since the snapshot was taken
            self._database.unlock()
            self.rollback()
            text = "Snapshot isolation transaction aborted due to update conflict."
            raise SqlError(3960, text) from None
        self._writes, self.commands = True, 1
        self._first = self._database.next_number()
        self._begun = self.connection.execute("SELECT tds_now('datetime')").fetchone()[0]

    def finished(self) -> None:
        """After a statement: it is committed by itself where no transaction is open."""
        if self.depth == 0:
            self.commit()

    def commit(self) -> None:
        """Make all changes durable and visible, with their place in the order of commits."""
        self.depth = 0
        if self._writes:
            self._stamp()
        if self.connection.in_transaction:
            self.connection.execute("COMMIT")
        self._end()

    def rollback(self) -> None:
        """Forget all changes."""
        self.depth = 0
        if self.connection.in_transaction:
            self.connection.execute("ROLLBACK")
        self._end()

    def close(self) -> None:
        """The client has gone."""
        self.rollback()
        self.connection.close()

    def _stamp(self) -> None:
        run = self.connection.execute
        tracked = [relation for relation in self.touched.values() if relation.tracked & 2]
        if tracked:
            run("UPDATE \"double.settings\" SET value = value + 1 WHERE name = 'version'")
            version = self.setting("version")
            for relation in tracked:
                run(f'UPDATE "track.{relation.name}" SET version = ? WHERE version IS NULL', (version,))
        if any(relation.tracked & 1 for relation in self.touched.values()):
            number = self._database.next_number()
            query = "INSERT INTO \"double.transactions\" VALUES (?, ?, ?, tds_now('datetime'))"
            run(query, (number, self._first, self._begun))

    def _end(self) -> None:
        self.touched.clear()
        if self._writes:
            self._writes = False
            self._database.unlock()
            self._database.committed.set()
