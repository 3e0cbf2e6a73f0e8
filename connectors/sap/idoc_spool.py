"""Where received IDocs wait: a SQLite database in a folder, written through to the disk before a post is answered.

An IDoc's row stays behind without its body once it was done, so that its number is known when it comes again. The
newest IDoc of each business object is remembered, so that one which was overtaken on its way changes nothing. Each that
was the newest when it came is, until it is done: one that is read again behind a crash is not measured by later ones.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connectors.base import durable
from connectors.sap.idoc_envelope import Document
from libcore.errors import CapacityError, ConfigurationError, TransientError

_TABLES = """
CREATE TABLE IF NOT EXISTS idoc (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, identity TEXT NOT NULL UNIQUE, at REAL NOT NULL, form TEXT NOT NULL,
    docnum TEXT NOT NULL, mestyp TEXT NOT NULL, sender TEXT NOT NULL, ordering TEXT NOT NULL, body BLOB, fault TEXT);
CREATE INDEX IF NOT EXISTS idoc_waiting ON idoc (seq) WHERE body IS NOT NULL;
CREATE TABLE IF NOT EXISTS leading (
    object TEXT, seq INTEGER, ordering TEXT NOT NULL, PRIMARY KEY (object, seq)) WITHOUT ROWID;
"""
_COLUMNS = "seq, form, docnum, mestyp, sender, ordering, at, body, fault"


@dataclass(frozen=True)
class Waiting:
    """An IDoc in the spool; seq counts them in the order of their arrival; fault: why it was refused."""

    seq: int
    form: str
    docnum: str
    mestyp: str
    sender: str
    order: str
    at: float
    body: bytes
    fault: str | None


@dataclass
class _Post:
    """IDocs that wait to be written, and what became of them."""

    documents: Sequence[Document]
    kept: int = 0
    error: CapacityError | TransientError | None = None
    done: bool = False


class Spool:
    """The folder's database; used by any thread.

    Args:
        bytes_max: of bodies that wait. kept: how many IDocs are remembered.
    Raises: ConfigurationError where the folder cannot be written.
    """

    def __init__(self, directory: Path, *, bytes_max: int, kept: int) -> None:
        self._bytes_max, self._kept, self._done = bytes_max, kept, 0
        self._lock, self._posts_lock = threading.Lock(), threading.Lock()
        self._posts: list[_Post] = []
        try:
            durable.make_directory(directory)
            self._db = sqlite3.connect(directory / "idocs.db", isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"source.sap_idoc.spool: expected a folder to write in {directory}: {error}"
            ) from error
        self._bytes = self._one("SELECT coalesce(sum(length(body)), 0) FROM idoc WHERE body IS NOT NULL")

    def put(self, documents: Sequence[Document]) -> int:
        """Keep those that are not known yet, all or none; how many they are. They are on the disk behind this call.

        Posts that come meanwhile wait for the disk together: whoever is next writes them all in one transaction.
        Raises CapacityError (full), TransientError (the disk refuses).
        """
        post = _Post(documents)
        with self._posts_lock:
            self._posts.append(post)
        with self._lock:
            if not post.done:
                with self._posts_lock:
                    posts, self._posts = self._posts, []
                self._put(posts)
        if post.error is not None:
            raise post.error
        return post.kept

    def _put(self, posts: Sequence[_Post]) -> None:
        try:
            with self._transaction():
                for post in posts:
                    self._keep(post)
        except BaseException as error:
            for post in posts:
                post.error = error if isinstance(error, TransientError) else TransientError(f"spool: {error}")
            if not isinstance(error, TransientError):
                raise
        finally:
            for post in posts:
                post.done = True

    def _keep(self, post: _Post) -> None:
        size = sum(len(one.body) for one in post.documents)
        if self._bytes + size > self._bytes_max:
            text = f"source.sap_idoc.spool_bytes_max: {self._bytes} bytes wait, {size} more came"
            post.error = CapacityError(text)
            return
        for one in post.documents:
            told = (one.fields.get(name, "") for name in ("DOCNUM", "MESTYP", "SNDPRN"))
            done = self._db.execute(
                "INSERT INTO idoc (identity, at, form, docnum, mestyp, sender, ordering, body) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (identity) DO NOTHING",
                (one.identity, time.time(), one.form, *told, one.order, one.body),
            )
            post.kept += done.rowcount
            self._bytes += len(one.body) if done.rowcount else 0

    def waiting(self, after: int, count: int, bytes_max: int) -> list[Waiting]:
        """The next IDocs behind a number, one at least where there is one."""
        found: list[Waiting] = []
        size = 0
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM idoc WHERE seq > ? AND body IS NOT NULL ORDER BY seq LIMIT ?", (after, count)
            )
            for row in rows:
                size += len(row[7])
                if found and size > bytes_max:
                    break
                found.append(Waiting(*row))
        return found

    def settled(self, up_to: int, count: int) -> list[Waiting]:
        """The first IDocs up to a number that wait for nothing but their status; without bodies."""
        with self._lock:
            rows = self._db.execute(
                f"SELECT {_COLUMNS.replace('body', 'NULL')} FROM idoc WHERE seq <= ? AND body IS NOT NULL "
                "ORDER BY seq LIMIT ?",
                (up_to, count),
            ).fetchall()
        return [Waiting(*row) for row in rows]

    def refuse(self, faults: Sequence[tuple[int, str]]) -> None:
        """Remember why IDocs, by number, were refused."""
        with self._written():
            self._db.executemany("UPDATE idoc SET fault = ? WHERE seq = ?", [(text, seq) for seq, text in faults])

    def overtaken(self, objects: Sequence[tuple[str, int, str]]) -> list[bool]:
        """Of (object, number, order): whether a newer one came before it; the same each time it is asked."""
        late = "SELECT 1 FROM leading WHERE object = ? AND seq < ? AND ordering > ? LIMIT 1"
        found: list[bool] = []
        with self._written():
            for name, seq, order in objects:
                found.append(self._db.execute(late, (name, seq, order)).fetchone() is not None)
                if not found[-1]:
                    self._lead(name, seq, order)
        return found

    def _lead(self, name: str, seq: int, order: str) -> None:
        """Remember the newest of an object; of those that are done, which nobody reads again, the last one alone."""
        self._db.execute("INSERT OR IGNORE INTO leading VALUES (?, ?, ?)", (name, seq, order))
        last = "SELECT max(seq) FROM leading WHERE object = ? AND seq <= ?"
        self._db.execute(f"DELETE FROM leading WHERE object = ? AND seq < ({last})", (name, name, self._done))

    def done(self, up_to: int) -> None:
        """Nobody asks for the bodies up to a number any more; the oldest numbers are forgotten."""
        gone = "seq <= ? AND body IS NOT NULL"
        with self._written():
            self._bytes -= self._one(f"SELECT coalesce(sum(length(body)), 0) FROM idoc WHERE {gone}", up_to)
            self._db.execute(f"UPDATE idoc SET body = NULL WHERE {gone}", (up_to,))
            self._db.execute("DELETE FROM idoc WHERE seq <= ? AND body IS NULL", (up_to - self._kept,))
        self._done = up_to

    @property
    def last(self) -> int:
        """The newest number; 0: none."""
        with self._lock:
            return self._one("SELECT coalesce(max(seq), 0) FROM idoc")

    @property
    def bytes_waiting(self) -> int:
        """What the bodies that wait hold."""
        return self._bytes

    def close(self) -> None:
        """Leave the database."""
        with self._lock:
            self._db.close()

    def _one(self, text: str, *values: int) -> int:
        return int(self._db.execute(text, values).fetchone()[0])

    @contextmanager
    def _written(self) -> Iterator[None]:
        with self._lock, self._transaction():
            yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Of whoever holds the lock. Raises TransientError where the disk refuses; nothing has changed then."""
        before = self._bytes
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            self._bytes = before
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise TransientError(f"source.sap_idoc.spool: {error}") from error
            raise
