"""How the parts of a flow agree on a marker (a truncate, a cleared column, a fence), through headrace_truncates.

1. Each part records the marker's identity in the transaction of the segment that carries it: all its earlier rows
   are in the target.
2. When every part has, one part (by a stable hash of the table) empties the table, or the column, or for a fence
   nothing, and marks it done, in a transaction of its own that holds the part's progress row, so that a process that
   was replaced cannot do it.
3. Until then no part applies a later segment with rows of that table.

An identity that is recorded already changes nothing, so a replay is harmless.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import psycopg
import structlog

from connectors.base.items import ClearColumn, Fence, Marker, Truncate
from connectors.postgres.catalog import TargetShape, inspect
from connectors.postgres.config import TargetTable
from connectors.postgres.ddl import PROGRESS, TRUNCATES
from connectors.postgres.session import Connection, classify, quote
from libcore.errors import FatalError, TransientError

_LOG = structlog.get_logger()
_NO_COLUMN = ""  # cleared_column of a fence: no column has that name


class Markers:
    """One part's view of the markers that are not done."""

    def __init__(
        self, schema: str, flow: str, store_id: str, part: int, parts: int, targets: Mapping[str, TargetTable]
    ) -> None:
        self._records = f"{quote(schema)}.{TRUNCATES}"
        self._progress = f"{quote(schema)}.{PROGRESS}"
        self._flow, self._store_id, self._part, self._parts, self._targets = flow, store_id, part, parts, targets
        self._pending: list[Marker] = []

    def load(self, connection: Connection) -> None:
        """Read what this part has recorded and is not done."""
        rows = connection.execute(
            f"SELECT source_table, identity, cleared_column FROM {self._records} "
            f"WHERE flow = %s AND store_id = %s AND part = %s AND NOT done ORDER BY seq, source_table, identity",
            (self._flow, self._store_id, self._part),
        )
        self._pending = [_marker(*row) for row in rows]

    @property
    def settled(self) -> bool:
        """Whether nothing is pending."""
        return not self._pending

    def holds(self, tables: Iterable[str]) -> bool:
        """Whether rows of these tables must wait."""
        return any(name == pending.table for name in tables for pending in self._pending)

    def record(self, connection: Connection, seq: int, markers: Iterable[Marker]) -> None:
        """Say that this part has applied everything before them; in the segment's transaction."""
        for marker in markers:
            if marker.table not in self._targets:
                raise FatalError(
                    f"marker {marker.identity}: table {marker.table} is not one of this flow's {sorted(self._targets)}"
                )
            connection.execute(
                f"INSERT INTO {self._records} (flow, store_id, source_table, identity, part, seq, cleared_column) "
                f"VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (self._flow, self._store_id, marker.table, marker.identity, self._part, seq, _column(marker)),
            )

    def settle(self, connection: Connection) -> bool:
        """Do what is this part's to do, and see what others have done; True when nothing is left."""
        if not self._pending:
            return True
        for marker in list(self._pending):
            if zlib.crc32(marker.table.encode()) % self._parts == self._part:
                self._do(connection, marker)
        self.load(connection)
        return not self._pending

    def _do(self, connection: Connection, marker: Marker) -> None:
        where = (self._flow, self._store_id, marker.table, marker.identity)
        row = connection.execute(
            f"SELECT count(*), max(seq) FILTER (WHERE part = %s) FROM {self._records} "
            f"WHERE flow = %s AND store_id = %s AND source_table = %s AND identity = %s AND NOT done",
            (self._part, *where),
        ).fetchone()
        assert row is not None
        if row[0] < self._parts:
            return
        target = self._targets[marker.table]
        with connection.transaction():
            held = connection.execute(
                f"SELECT seq FROM {self._progress} WHERE flow = %s AND part = %s AND store_id = %s FOR UPDATE",
                (self._flow, self._part, self._store_id),
            ).fetchone()
            if held is None or held[0] < row[1]:
                raise FatalError(
                    f"marker {marker.identity}: the progress row of flow {self._flow}, part {self._part} is not ours"
                )
            done = connection.execute(
                f"UPDATE {self._records} SET done = true "
                f"WHERE flow = %s AND store_id = %s AND source_table = %s AND identity = %s AND NOT done",
                where,
            )
            if done.rowcount == self._parts and not isinstance(marker, Fence):  # fewer: a twin of this part was first
                shape = inspect(connection, target.schema, target.table)
                if not isinstance(shape, TargetShape):
                    raise FatalError(f"marker {marker.identity}: the target {target.name} is gone")
                if isinstance(marker, ClearColumn):
                    _clear(connection, shape, marker)
                else:
                    # TRUNCATE refuses a table that others refer to, even when they are empty.
                    connection.execute(f"DELETE FROM {shape.sql}" if shape.referenced else f"TRUNCATE {shape.sql}")
                    _LOG.info("truncated", flow=self._flow, table=marker.table, identity=marker.identity)


def _column(marker: Marker) -> str | None:
    """What its record has for a cleared column; `_marker` is the inverse."""
    if isinstance(marker, Truncate):
        return None
    return _NO_COLUMN if isinstance(marker, Fence) else marker.column


def _marker(table: str, identity: str, column: str | None) -> Marker:
    """Of a record. Of a fence it says only that one waits."""
    if column is None:
        return Truncate(table, identity)
    return Fence(table, identity, False) if column == _NO_COLUMN else ClearColumn(table, column, identity)


def _clear(connection: Connection, shape: TargetShape, marker: ClearColumn) -> None:
    """Set the column to NULL in all rows, in the open transaction; NOT NULL is lifted first.

    Raises FatalError naming the column where the target does not let itself be changed.
    """
    there = shape.column(marker.column)
    if there is None or there.generated:  # nothing of ours is in it
        return
    name = quote(marker.column)
    lift = f"ALTER TABLE {shape.sql} ALTER COLUMN {name} DROP NOT NULL"
    try:
        # All rows are read, however many: the plans and limits of single segments do not suit it.
        connection.execute("SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on")
        if there.not_null:
            _LOG.warning("the target follows its source", table=marker.table, statement=lift)
            connection.execute(lift)
        cleared = connection.execute(f"UPDATE {shape.sql} SET {name} = NULL WHERE {name} IS NOT NULL").rowcount
    except psycopg.Error as error:
        reason = classify(error)
        if isinstance(reason, TransientError):
            raise
        raise FatalError(
            f"table {marker.table}: column {marker.column} was dropped at the source ({marker.identity}), but the "
            f"target {shape.sql} does not let its old values go: {reason}. Let the column be NULL there (or drop it), "
            f"and start again"
        ) from error
    _LOG.warning("column cleared", table=marker.table, column=marker.column, identity=marker.identity, rows=cleared)
