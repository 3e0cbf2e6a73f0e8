"""A SQLite database as a source: its tables described, and one partition that reads them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import structlog
from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition
from connectors.base.database import Finding, SourceContext, SourceTable, TableBinding
from connectors.base.guardian import Guardian, Pace
from connectors.base.items import Item
from connectors.sqlite.chunks import WantedTable
from connectors.sqlite.config import SqliteConfig
from connectors.sqlite.database import PARTITION, connect, describe, errors, names, place
from connectors.sqlite.reader import FIRST, SqliteReader
from libcore.errors import ConfigurationError, HeadraceError

_log = structlog.get_logger()


class SqliteChanges:
    """The tables of one database; see connectors.base.database.ChangeSource."""

    def __init__(self, config: SqliteConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    def names(self) -> list[str]:
        """The database's tables; no views."""
        path = place(self._config, self._context)
        with errors(path), closing(connect(path, self._config)) as connection:
            return names(connection)

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """These tables, by the types that they were declared with."""
        path = place(self._config, self._context)
        with errors(path), closing(connect(path, self._config)) as connection:
            return [describe(connection, name).source for name in names]

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding], *, until_end: bool
    ) -> SqliteSource:
        """See ChangeSource.source. Raises ConfigurationError where a table cannot be followed."""
        wanted = self._wanted(tables, bindings)
        for name, one in wanted.items():
            if self._config.follow == "rowid" and one.found.rowid is None:
                raise ConfigurationError(f'source.sqlite.follow: "rowid": table {name} has none; use "triggers"')
            if self._config.follow == "triggers" and not one.table.key:
                raise ConfigurationError(
                    f'source.sqlite.follow: "triggers": expected a key for table {name}, found none: give it '
                    "one by `key`"
                )
        return SqliteSource(self._config, self._context, wanted, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding]) -> Iterator[Item]:
        """All rows in one read transaction."""
        alone = self._config.model_copy(update={"follow": "nothing"})
        path = place(self._config, self._context)
        wanted = self._wanted(tables, bindings)
        flow, pace = self._context.flow, Pace(Guardian())
        with closing(SqliteReader(path, alone, wanted, FIRST, flow=flow, until_end=True, pace=pace)) as reader:
            yield from (item for piece in reader.pieces() if piece is not None for item in piece.items)

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """What keeps writers waiting, or escapes the triggers."""
        path = place(self._config, self._context)
        found = []
        with errors(path), closing(connect(path, self._config)) as connection:
            mode = connection.execute("PRAGMA main.journal_mode").fetchone()[0]
            if mode != "wal":
                found.append(
                    Finding(
                        "warning",
                        "journal_mode",
                        "wal, so that the snapshot keeps no writer waiting",
                        mode,
                        "PRAGMA journal_mode = WAL",
                    )
                )
            for table in tables:
                if self._config.follow == "triggers" and describe(connection, table.name).has_unique:
                    found.append(
                        Finding(
                            "note",
                            f"table {table.name}",
                            "no second unique key, or writers with recursive triggers: else INSERT OR REPLACE deletes "
                            "rows of other keys unseen",
                            "one",
                            "PRAGMA recursive_triggers = ON, in each writer",
                        )
                    )
        return found

    def close(self) -> None:
        """Nothing is held between calls."""

    def _wanted(self, tables: Sequence[SourceTable], bindings: Mapping[str, TableBinding]) -> dict[str, WantedTable]:
        path = place(self._config, self._context)
        with errors(path), closing(connect(path, self._config)) as connection:
            wanted = {}
            for table in tables:
                binding = bindings[table.name]
                units = {column.name: column.unit for column in binding.columns or () if column.unit is not None}
                wanted[table.name] = WantedTable(
                    table.table,
                    describe(connection, table.name),
                    units,
                    binding.generation,
                    binding.new_column,
                    binding.whole,
                    tuple(binding.dropped),
                )
            return wanted


class SqliteSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """A database as a Bytewax source."""

    def __init__(
        self, config: SqliteConfig, context: SourceContext, wanted: dict[str, WantedTable], *, until_end: bool
    ) -> None:
        self._config, self._context, self._wanted, self._until_end = config, context, wanted, until_end

    def list_parts(self) -> list[str]:
        """One."""
        return [PARTITION]

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """The partition, going on where `resume_state` says."""
        try:
            path = place(self._config, self._context)
        except HeadraceError as error:  # in a cluster Bytewax loses the exception's text
            _log.error("source failed", partition=for_part, error=str(error))
            raise

        pace, flow = Pace(self._config.guardian), self._context.flow

        def open_reader(state: tuple[Any, ...]) -> SqliteReader:
            return SqliteReader(
                path,
                self._config,
                self._wanted,
                state,
                flow=flow,
                until_end=self._until_end,
                pace=pace,
                directory=self._context.directory,
            )

        return BackgroundPartition(
            self._context.partition(for_part),
            open_reader,
            resume_state or FIRST,
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
            poll_s=self._config.poll_s,
            beat_s=1.0 if self._context.beating else 0.0,
        )
