"""A slot read by SQL functions, where no walsender can be had: peeked at, and advanced once what was read is durable.

A peek shows the same changes again until the slot is advanced, so the next one waits until the last one is durable: a
fraction of a walsender's rate, and more latency. The server keeps a peek's changes on its disk meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow as pa

from connectors.postgres.session import Connection, literal
from connectors.postgres.slot import Made, explained
from connectors.postgres.slot_timeline import Server
from connectors.postgres.source_session import CommandRefused, failed, lsn_number, lsn_text
from connectors.postgres.source_wire import Taken
from libcore.errors import TransientError
from libcore.pgoutput_types import MESSAGES

_WAIT_S = 0.05
_COMMIT_BYTES = 18


class Peeks:
    """What Walsender is (slot_stream.py), by SQL."""

    def __init__(self, connection: Connection, rows_max: int) -> None:
        self._connection, self._rows_max = connection, rows_max
        self._slot, self._options = "", ""
        self._cursor: Any = None  # of the peek in work
        self._behind = self._advanced = 0  # what must be durable before the next peek; what the server was told
        self._reached = 0  # where the log ended when the peek in work began
        self._shown = 0  # messages of the peek in work
        self.confirmed = 0

    def start(self, slot: str, lsn: int, options: str) -> Iterator[None]:
        """Nothing is asked yet. `options`: pairs of name and value, as SQL."""
        self._slot, self._options = slot, options  # it begins where the slot was advanced to, never behind `lsn`
        yield None

    def take(self, rows_max: int) -> Taken:
        """Some messages of the peek in work, or of the next one. Raises TransientError, ConfigurationError."""
        try:
            return self._take(min(rows_max, self._rows_max))
        except psycopg.errors.ObjectInUse as error:
            raise TransientError(f"source.postgres: slot {self._slot} is in use: {error}") from error
        except psycopg.Error as error:
            raise failed(error, f"peek at slot {self._slot}") from error

    def ended(self, slot: str) -> Exception:
        """Peeks do not end."""
        return TransientError(f"source.postgres: slot {slot}: the session ended")

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def _take(self, rows_max: int) -> Taken:
        if self._cursor is None:
            if self.confirmed < self._behind:
                time.sleep(_WAIT_S)
                return Taken(None)
            self._advance()
            self._open()
        rows = self._cursor.fetchmany(rows_max)
        if not rows:
            self._cursor.close()
            self._connection.execute("COMMIT")
            self._cursor = None
            time.sleep(0.0 if self._behind > self.confirmed else _WAIT_S)
            # everything up to where the log ended was shown, unless a commit stands behind it, or the peek was full:
            # then it ended at the commit that filled it, whatever the log has behind that
            reached, self._reached = self._reached, 0
            whole = reached and self._shown < self._rows_max and self._behind <= self.confirmed
            return Taken(None, keepalive_lsn=reached if whole else -1)
        self._shown += len(rows)
        payloads, lsns = [bytes(data) for _, data in rows], [lsn_number(lsn) for lsn, _ in rows]
        kinds = [payload[:1] for payload in payloads]
        begin = max((index for index, kind in enumerate(kinds) if kind == b"B"), default=-1)
        commit = max((index for index, kind in enumerate(kinds) if kind == b"C"), default=-1)
        if commit >= 0:
            self._behind = max(self._behind, int.from_bytes(payloads[commit][10:_COMMIT_BYTES], "big"))
        columns = [pa.array(payloads, pa.binary()), pa.array(lsns, pa.int64())]
        messages = pa.RecordBatch.from_arrays(columns, schema=MESSAGES)
        return Taken(messages, last_begin=begin, last_commit=commit)

    def _advance(self) -> None:
        if self.confirmed > self._advanced:
            self._connection.execute(
                "SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", (self._slot, lsn_text(self.confirmed))
            )
            self._advanced = self.confirmed

    def _open(self) -> None:
        row = self._connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None
        self._reached, self._shown = lsn_number(row[0]), 0
        self._connection.execute("BEGIN")
        self._cursor = self._connection.cursor("peek", binary=True)
        self._cursor.execute(
            f"SELECT lsn::text, data FROM pg_logical_slot_peek_binary_changes({literal(self._slot)}, NULL, "
            f"{self._rows_max}, {self._options})".encode()
        )


def function_options(publication: str, version: int) -> str:
    """The options of a peek, as SQL."""
    names = '"' + publication.replace('"', '""') + '"'
    options = ["proto_version", "1", "publication_names", names]
    if version >= 140000:
        options += ["messages", "true"]
    return ", ".join(literal(word) for word in options)


def identify(connection: Connection) -> Server:
    """See slot_timeline.identify; where earlier timelines ended no function tells, so that now is taken for it."""
    row = connection.execute(
        "SELECT (SELECT system_identifier::text FROM pg_control_system()), "
        "('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, current_database(), "
        "pg_current_wal_flush_lsn()::text"
    ).fetchone()
    assert row is not None
    return Server(row[0], row[1], row[2], dict.fromkeys(range(1, row[1]), lsn_number(row[3])))


def create(connection: Connection, name: str, *, failover: bool) -> Made:
    """Make a slot; its snapshot cannot be seen this way. Raises ConfigurationError with what the server needs."""
    more = ", failover => true" if failover and connection.info.server_version >= 170000 else ""
    try:
        row = connection.execute(
            f"SELECT lsn::text FROM pg_create_logical_replication_slot({literal(name)}, 'pgoutput'{more})".encode()
        ).fetchone()
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        raise explained(CommandRefused(str(error), error.sqlstate), name) from error
    assert row is not None
    return Made(lsn_number(row[0]), "")
