"""How the parts of a flow agree on a truncate, through headrace_truncates.

1. Each part records the truncate's identity in the transaction of the segment that carries it: all its earlier rows
   are in the target.
2. When every part has, one part (by a stable hash of the table) empties the table and marks it done, in a transaction
   of its own that holds the part's progress row, so that a process that was replaced cannot do it.
3. Until then no part applies a later segment with rows of that table.

An identity that is recorded already changes nothing, so a replay is harmless.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping

import structlog

from connectors.postgres.catalog import TargetShape, inspect
from connectors.postgres.config import TargetTable
from connectors.postgres.ddl import PROGRESS, TRUNCATES
from connectors.postgres.session import Connection, quote
from libcore.errors import FatalError

_LOG = structlog.get_logger()


class Truncates:
    """One part's view of the truncates that are not done."""

    def __init__(
        self, schema: str, flow: str, store_id: str, part: int, parts: int, targets: Mapping[str, TargetTable]
    ) -> None:
        self._records = f"{quote(schema)}.{TRUNCATES}"
        self._progress = f"{quote(schema)}.{PROGRESS}"
        self._flow, self._store_id, self._part, self._parts, self._targets = flow, store_id, part, parts, targets
        self._pending: list[tuple[str, str]] = []

    def load(self, connection: Connection) -> None:
        """Read what this part has recorded and is not done."""
        rows = connection.execute(
            f"SELECT source_table, identity FROM {self._records} "
            f"WHERE flow = %s AND store_id = %s AND part = %s AND NOT done ORDER BY seq, source_table, identity",
            (self._flow, self._store_id, self._part),
        )
        self._pending = [(table, identity) for table, identity in rows]

    @property
    def settled(self) -> bool:
        """Whether nothing is pending."""
        return not self._pending

    def holds(self, tables: Iterable[str]) -> bool:
        """Whether rows of these tables must wait."""
        return any(name == pending for name in tables for pending, _ in self._pending)

    def record(self, connection: Connection, seq: int, truncates: Iterable[tuple[str, str]]) -> None:
        """Say that this part has applied everything before them; in the segment's transaction."""
        for table, identity in truncates:
            if table not in self._targets:
                raise FatalError(
                    f"truncate {identity}: table {table} is not one of this flow's {sorted(self._targets)}"
                )
            connection.execute(
                f"INSERT INTO {self._records} (flow, store_id, source_table, identity, part, seq) "
                f"VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
                (self._flow, self._store_id, table, identity, self._part, seq),
            )

    def settle(self, connection: Connection) -> bool:
        """Empty the tables that are this part's to empty, and see what others have done; True when nothing is left."""
        if not self._pending:
            return True
        for table, identity in list(self._pending):
            if zlib.crc32(table.encode()) % self._parts == self._part:
                self._empty(connection, table, identity)
        self.load(connection)
        return not self._pending

    def _empty(self, connection: Connection, table: str, identity: str) -> None:
        where = (self._flow, self._store_id, table, identity)
        row = connection.execute(
            f"SELECT count(*), max(seq) FILTER (WHERE part = %s) FROM {self._records} "
            f"WHERE flow = %s AND store_id = %s AND source_table = %s AND identity = %s AND NOT done",
            (self._part, *where),
        ).fetchone()
        assert row is not None
        if row[0] < self._parts:
            return
        target = self._targets[table]
        with connection.transaction():
            held = connection.execute(
                f"SELECT seq FROM {self._progress} WHERE flow = %s AND part = %s AND store_id = %s FOR UPDATE",
                (self._flow, self._part, self._store_id),
            ).fetchone()
            if held is None or held[0] < row[1]:
                raise FatalError(
                    f"truncate {identity}: the progress row of flow {self._flow}, part {self._part} is not ours"
                )
            done = connection.execute(
                f"UPDATE {self._records} SET done = true "
                f"WHERE flow = %s AND store_id = %s AND source_table = %s AND identity = %s AND NOT done",
                where,
            )
            if done.rowcount == self._parts:  # else a twin of this part was first
                shape = inspect(connection, target.schema, target.table)
                if not isinstance(shape, TargetShape):
                    raise FatalError(f"truncate {identity}: the target {target.name} is gone")
                # TRUNCATE refuses a table that others refer to, even when they are empty.
                connection.execute(f"DELETE FROM {shape.sql}" if shape.referenced else f"TRUNCATE {shape.sql}")
        _LOG.info("truncated", flow=self._flow, table=table, identity=identity)
