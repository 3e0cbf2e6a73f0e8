"""Read a SQL Server database directly: the rows that are there, then its changes, by change tables or change tracking.

A database is one source partition, one ordered log. State: see state.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition
from connectors.base.database import Finding, SourceContext, SourceTable, TableBinding
from connectors.base.guardian import Guardian, Pace
from connectors.base.items import Item
from connectors.base.requests import Requests, keyed
from connectors.sqlserver import catalog, sql
from connectors.sqlserver.catalog import Wanted
from connectors.sqlserver.change_tables import ChangeTablesReader
from connectors.sqlserver.chunks import Chunks
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.session import Session
from connectors.sqlserver.state import Read, State
from connectors.sqlserver.tracking import ChangeTrackingReader
from libcore.errors import ConfigurationError

_BEAT_S = 1.0
_PARTITION = "sqlserver"
"""A database has one order of commits, so one partition."""


class SqlServerChanges:
    """A SQL Server database under one login; see connectors.base.database.ChangeSource."""

    def __init__(self, config: SqlServerConfig, context: SourceContext) -> None:
        self._config, self._context = config, context
        self._session: Session | None = None

    def names(self) -> Collection[str]:
        """See ChangeSource.names."""
        return catalog.names(self._ask())

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """See ChangeSource.describe."""
        session = self._ask()
        captured = catalog.captured_columns(session) if self._config.mode == "cdc" else {}
        found = [catalog.describe(session, name, captured.get(name)).source for name in names]
        return [replace(table, partition=_PARTITION) for table in found]

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding], *, until_end: bool
    ) -> FixedPartitionedSource[Item, Any]:
        """See ChangeSource.source. Raises ConfigurationError where a table cannot be followed."""
        wanted = self._wanted(tables, bindings)
        if self._config.mode == "change_tracking":
            for one in wanted.values():
                if sorted(one.table.key) != sorted(reading.name for reading in one.order):
                    raise ConfigurationError(
                        f"source.sqlserver: table {one.name}: expected the primary key as its key, because change "
                        f"tracking names deleted rows by it, found {', '.join(one.table.key)}"
                    )
        return SqlServerSource(self._config, self._context, wanted, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding]) -> Iterator[Item]:
        """See ChangeSource.rows: one snapshot transaction."""
        wanted = self._wanted(tables, bindings)
        session = Session(self._config)
        try:
            session.run(sql.BEGIN)
            nobody = Requests(None, keyed({}))
            chunks = Chunks(session, self._config, wanted, Pace(Guardian()), self._context.flow, nobody)
            state = State(reads=tuple(Read(name, None, ()) for name in wanted))
            while any(read.after is not None for read in state.reads):
                for behind, piece in chunks.next(state, 0):
                    state = behind
                    yield from piece.items
        finally:
            session.close()

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """See ChangeSource.doctor."""
        from connectors.sqlserver.doctor import examine

        return examine(self._ask(), self._config, tables, self._context.spool_bytes)

    def close(self) -> None:
        """See ChangeSource.close."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _ask(self) -> Session:
        if self._session is None:
            self._session = Session(self._config, snapshot=False)
        return self._session

    def _wanted(self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding]) -> dict[str, Wanted]:
        session = self._ask()
        return {
            table.name: catalog.wanted(catalog.describe(session, table.name), table.table, bindings[table.name])
            for table in tables
        }


class SqlServerSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """A database as a Bytewax source of items; one partition, as it has one order."""

    def __init__(
        self, config: SqlServerConfig, context: SourceContext, wanted: dict[str, Wanted], *, until_end: bool
    ) -> None:
        self._config, self._context, self._wanted, self._until_end = config, context, wanted, until_end

    def list_parts(self) -> list[str]:
        """One."""
        return [_PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """The partition, going on where `resume_state` says."""
        pace = Pace(self._config.guardian)
        reader = ChangeTablesReader if self._config.mode == "cdc" else ChangeTrackingReader

        def open_reader(state: tuple[Any, ...]) -> ChangeTablesReader | ChangeTrackingReader:
            return reader(self._config, self._context, self._wanted, state, pace, until_end=self._until_end)

        return BackgroundPartition(
            self._context.partition(for_part),
            open_reader,
            State().packed() if resume_state is None else resume_state,
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
            poll_s=self._config.poll_s,
            beat_s=_BEAT_S if self._context.beating else 0.0,
        )
