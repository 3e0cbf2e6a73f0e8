"""Tables of a SQLite database that a person asked to read again, a chunk at a time, beside what follows the snapshot.

A chunk is read as the table is now, and stands behind the changes that were brought: the log names what changed since,
and its rows are read later. Rowids that VACUUM may change order chunks only while the schema's number stays, which
VACUUM raises; behind it the table begins anew.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from connectors.base.guardian import Pace
from connectors.base.requests import Request, Requests, behind, keyed, without
from connectors.sqlite.chunks import Row, WantedTable, chunks
from connectors.sqlite.database import passes, quote, schema_version
from libcore.errors import ConfigurationError
from libcore.schema import Table


class AskedRows:
    """Reads what is asked for; used by one thread.

    Args:
        tables: those of the pipeline; their shapes may change meanwhile.
        rows_max: of a chunk. directory: where requests are; None: nobody can ask.
        pace: when and how fast rows may be read.
        requests, answered: those that are open, and ids of the newest that are done, as the recovery store has them.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        tables: Mapping[str, WantedTable],
        rows_max: int,
        directory: Path | None,
        pace: Pace,
        requests: tuple[Request, ...],
        answered: tuple[str, ...],
    ) -> None:
        self._connection, self._tables, self._rows_max, self._pace = connection, tables, rows_max, pace
        self._files = Requests(directory, keyed(tables))
        self.requests, self.answered = requests, answered

    def next(
        self, durable: tuple[str, ...], ends: Mapping[str, int]
    ) -> tuple[WantedTable, Table | None, list[Row]] | None:
        """The next chunk: (what is read of a table, the table where that are some columns only, rows, perhaps none).

        None where none is wanted or allowed now.

        Args:
            durable: ids of requests whose end the recovery store knows.
            ends: greatest rowids that are read, of tables of which greater ones come by themselves.
        Raises: sqlite3.Error, but for what the condition is to blame for.
        """
        self.requests = self._files.joined(self.requests, self.answered, durable)
        if not self.requests or not self._pace.allowed or self._pace.wait_s > 0:
            return None
        request = self.requests[0]
        whole = self._tables[request[1]]
        try:
            part = whole.part(request[4])
            return part, whole.table if request[4] else None, self._chunk(request, part, ends)
        except (ConfigurationError, sqlite3.Error) as error:
            if isinstance(error, sqlite3.Error) and (passes(error) or not request[2]):
                raise
            self._files.refuse(request, str(error))
            self.requests = without(self.requests, request)
            return whole, None, []

    def _chunk(self, request: Request, part: WantedTable, ends: Mapping[str, int]) -> list[Row]:
        """Rows of the next chunk; what is open is then behind it."""
        identity, name, where, after, columns, _ = request
        self._files.begin_table(request, lambda: self._count(name))
        moving = part.found.rowid is not None and not part.found.stable_rowid
        self._connection.execute("BEGIN")
        try:
            schema = schema_version(self._connection)
            if after is not None and moving and after[0] != schema:
                request, after = (identity, name, where, None, columns, 0), None
            conditions = [where] if where else []
            if name in ends:
                conditions.append(f"{part.order[0]} <= {ends[name]}")
            last = None if after is None else after[1:]
            size = self._pace.most(self._rows_max)
            rows, last = next(chunks(self._connection, part, last, size, conditions), ([], None))
        finally:
            self._connection.execute("COMMIT")
        reached = None if last is None else (schema, *last)
        self.requests, self.answered = behind(self.requests, self.answered, request, reached, len(rows))
        self._pace.read(len(rows))
        self._files.read(request, len(rows))
        return rows

    def _count(self, name: str) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM main.{quote(name)}").fetchone()[0])
