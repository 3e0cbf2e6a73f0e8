"""Follows a database by change tracking: the newest state of each key that changed since the version last read.

Lighter for the server than change data capture, but without history: what changed twice comes once, and a key that was
made and deleted in between may come as a delete alone. Each table is read in one snapshot transaction, which has all
that lies before the version that was asked for first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import structlog

from connectors.base.background import Piece
from connectors.base.items import Item, Truncate
from connectors.sqlserver import sql
from connectors.sqlserver.batches import snapshot_batch
from connectors.sqlserver.catalog import Wanted
from connectors.sqlserver.session import Row
from connectors.sqlserver.state import Read
from connectors.sqlserver.turns import TurnReader
from libcore.change import Op
from libcore.errors import ConfigurationError

_log = structlog.get_logger()


class ChangeTrackingReader(TurnReader[int]):
    """One database's tracked tables as pieces; its end is a version."""

    def _newest(self) -> int:
        version = self._session.value(sql.CURRENT_VERSION)
        if version is None:
            raise ConfigurationError(
                "source.sqlserver: expected change tracking, found none in this database: ALTER DATABASE CURRENT SET "
                "CHANGE_TRACKING = ON (CHANGE_RETENTION = 7 DAYS, AUTO_CLEANUP = ON)"
            )
        return int(version)

    def _is_behind(self, end: int) -> bool:
        reads = [self._state.read(name) for name in self._wanted]
        are_read = all(one is not None and one.after is None and one.since >= end for one in reads)
        return are_read and not self._state.requests

    def _turn(self) -> Iterator[Piece]:
        newest = self._newest()
        for name in self._wanted:
            read = self._state.read(name)
            if read is None or read.since != newest:
                yield from self._table(name, read)
        since = max((read.since for read in self._state.reads), default=0)
        for state, piece in self._chunks.next(self._state, since + 1):
            self._state = state
            yield piece

    def _table(self, name: str, read: Read | None) -> Iterator[Piece]:
        """A table's changes, or the begin of its reading, in one snapshot transaction."""
        # asked for before the snapshot, so nothing that the snapshot lacks lies before it; what is newer comes twice
        newest = self._newest()
        self._session.run(sql.BEGIN)
        kept_from = self._session.value(sql.MIN_VALID_VERSION, sql.full_name(name))
        if kept_from is None:
            raise ConfigurationError(
                f"source.sqlserver: table {name}: expected it to be tracked, and the right to see it, found neither: "
                f"ALTER TABLE {sql.full_name(name)} ENABLE CHANGE_TRACKING; GRANT VIEW CHANGE TRACKING ON "
                f"{sql.full_name(name)} TO [the login's user]"
            )
        columns = tuple(column.name for column in self._wanted[name].table.columns)
        if read is None:
            yield self._begun(Read(name, newest, columns))
        elif not kept_from <= read.since <= newest:
            _log.warning(
                "changes were cleaned up, or versions began anew, before they were read: the table is read anew",
                table=name, read=read.since, kept_from=kept_from,
            )  # fmt: skip
            yield self._begun(Read(name, newest, columns, (), "emptied"))
        elif read.after is None and read.columns != columns:
            yield self._begun(replace(read, columns=columns, after=(), how="filled"))
        elif read.after is None:
            yield from self._changes(self._wanted[name], read, newest)
        self._session.run(sql.COMMIT)

    def _begun(self, read: Read) -> Piece:
        self._state = replace(self._state.with_read(read), rows=self._state.rows + 1)
        items: list[Item] = []
        if read.how == "emptied":
            items.append(Truncate(read.table, f"sqlserver:{read.table}:{read.since}:{self._state.rows}"))
        return Piece(items, len(items), self._state.packed(), alone=bool(items))

    def _changes(self, wanted: Wanted, read: Read, newest: int) -> Iterator[Piece]:
        """What changed since; the table goes on behind it only with the last piece."""
        statement = sql.tracked_changes(
            wanted.name,
            [one.selected for one in wanted.readings],
            [one.selected for one in wanted.order],
            read.since,
        )
        first = 1 + len(wanted.order)
        large = [first + index for index, one in enumerate(wanted.readings) if one.large]
        cursor = self._session.open(statement, (), large)
        try:
            while not cursor.ended:
                rows = cursor.next(self._config.batch_rows_max)
                items, size = self._made(wanted, rows, newest)
                self._state = replace(self._state, rows=self._state.rows + len(rows))
                if cursor.ended:
                    self._state = self._state.with_read(replace(read, since=newest))
                yield Piece(items, len(rows), self._state.packed(), size)
        finally:
            cursor.close()

    def _made(self, wanted: Wanted, rows: Sequence[Row], commit: int) -> tuple[list[Item], int]:
        """Rows that are there as upserts, those that are gone as deletes; each key comes once, so in any order."""
        items: list[Item] = []
        size, first, width = 0, self._state.rows, 1 + len(wanted.order)
        keys = {one.name: index for index, one in enumerate(wanted.order, 1)}
        for op in (Op.DELETE, Op.UPSERT):
            some = [row for row in rows if (row[0] == "D") == (op == Op.DELETE)]
            if not some:
                continue
            columns = list(zip(*some, strict=True))
            listed: list[Sequence[Any]] = list(columns[width:])
            if op == Op.DELETE:  # the row is gone, but not what its changes name it by
                for index, column in enumerate(wanted.table.columns):
                    listed[index] = columns[keys[column.name]] if column.name in keys else listed[index]
            made = snapshot_batch(wanted, listed, op, commit=commit, first=first, flow=self._flow)
            items, size, first = items + made.items, size + made.size, first + len(some)
        return items, size
