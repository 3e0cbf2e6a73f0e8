"""Files and drop folders as tables: one source partition a table, its files in name order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from bytewax.inputs import FixedPartitionedSource

from connectors.base.background import BackgroundPartition
from connectors.base.database import Finding, SourceContext, SourceTable
from connectors.base.guardian import Guardian, Pace
from connectors.base.items import Item
from connectors.files.config import FilesConfig, FileTable
from connectors.files.folder import Folder, last_read, split_path
from connectors.files.jsonl import envelope_plan
from connectors.files.parquet import described
from connectors.files.reader import FIRST, FilesReader
from connectors.files.rows import csv_plan, declared_table, fixed_plan
from libcore.delimited import check_plan
from libcore.errors import ConfigurationError, HeadraceError
from libcore.fixed_width import check_fixed

_log = structlog.get_logger()


class FilesChanges:
    """The tables of [source.files]; see connectors.base.database.ChangeSource."""

    def __init__(self, config: FilesConfig, context: SourceContext) -> None:
        self._config, self._context = config, context

    def names(self) -> list[str]:
        """The tables of the section. Raises ConfigurationError where a directory is not there."""
        for name, settings in self._config.tables.items():
            directory, _ = split_path(settings.path, self._context.base)
            if not directory.is_dir():
                raise ConfigurationError(
                    f"source.files.tables.{name}.path: expected a directory {directory}, found none"
                )
        return list(self._config.tables)

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """These tables; of Parquet without `columns` the first file says what it is."""
        return [self._described(name, self._config.tables[name]) for name in names]

    def _described(self, name: str, settings: FileTable) -> SourceTable:
        if settings.columns is not None:
            table = declared_table(name, settings)
            if settings.format == "csv":
                check_plan(csv_plan(settings, table))
            elif settings.format == "fixed":
                check_fixed(fixed_plan(settings, table))
            elif settings.format == "jsonl":
                envelope_plan(settings, table)
        else:
            folder = Folder(name, settings, self._context.base, until_end=True)
            files = folder.names()
            if not files:
                raise ConfigurationError(
                    f"source.files.tables.{name}: expected `columns`, or a file in {folder.directory} that says them; "
                    "found neither"
                )
            table = described(name, settings, str(folder.directory / files[0]))
        notes = []
        if not table.key:
            notes.append(f"{name}: no key: every row of every file is added; a replaced file stops the flow")
        return SourceTable(name, table, tuple(notes), partition=name)

    def source(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any], *, until_end: bool) -> FilesSource:
        """See ChangeSource.source."""
        return FilesSource(self._config, self._context, tables, until_end=until_end)

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> Iterator[Item]:
        """The rows of all files that are there now, in the order in which the flow has read them, the others behind."""
        for table in tables:
            settings = self._config.tables[table.name]
            folder = Folder(table.name, settings, self._context.base, until_end=True)
            kept = kept_directory(self._context, table.name)
            there = folder.names()
            former = [name for name in (last_read(kept) if kept is not None else []) if name in there]
            names = [*former, *(name for name in there if name not in former)]
            for place, name in enumerate(names[-1:] if settings.mode == "table" else names):
                yield from self._file_rows(table, settings, name, place)

    def _file_rows(self, table: SourceTable, settings: FileTable, name: str, place: int) -> Iterator[Item]:
        directory, _ = split_path(settings.path, self._context.base)
        # one file by its name, complete or not: brackets keep signs in it from being a pattern
        literal = "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)
        alone = settings.model_copy(
            update={"path": str(directory / literal), "complete": "renamed", "mode": "changes", "ignore": ()}
        )
        # the files before it count, as the greater position of a key wins
        begin = (*FIRST[:1], place, *FIRST[2:])
        base, flow, pace = self._context.base, self._context.flow, Pace(Guardian())
        reader = FilesReader(self._config, alone, table.table, base, None, begin, flow=flow, until_end=True, pace=pace)
        try:
            yield from (item for piece in reader.pieces() if piece is not None for item in piece.items)
        finally:
            reader.close()

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """Folders without a file, and tables without a key."""
        found = []
        for table in tables:
            settings = self._config.tables[table.name]
            folder = Folder(table.name, settings, self._context.base, until_end=True)
            if not folder.names():
                found.append(Finding("warning", f"source.files.tables.{table.name}", f"a file {settings.path}", "none"))
            if not table.table.key:
                remedy = f'key = ["..."] in [source.files.tables.{table.name}]'
                found.append(Finding("note", f"source.files.tables.{table.name}", "a key", "none", remedy))
        return found

    def close(self) -> None:
        """Nothing is held between calls."""


class FilesSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """Tables of files as a Bytewax source; a partition is a table."""

    def __init__(
        self, config: FilesConfig, context: SourceContext, tables: Sequence[SourceTable], *, until_end: bool
    ) -> None:
        self._config, self._context, self._until_end = config, context, until_end
        self._tables = {table.name: table.table for table in tables}

    def list_parts(self) -> list[str]:
        """The tables' names."""
        return list(self._tables)

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> BackgroundPartition:
        """A partition that goes on where `resume_state` says, or at the first file."""
        table, settings, context = self._tables[for_part], self._config.tables[for_part], self._context
        pace = Pace(self._config.guardian)
        if (context.base / settings.path).is_dir():
            # said once and for all readers: while a directory is away, its name could be a file's
            settings = settings.model_copy(update={"path": f"{settings.path}/"})

        def open_reader(state: tuple[Any, ...]) -> FilesReader:
            return FilesReader(
                self._config,
                settings,
                table,
                context.base,
                kept_directory(context, for_part),
                state,
                flow=context.flow,
                until_end=self._until_end,
                pace=pace,
            )

        try:
            open_reader(resume_state or FIRST).close()
        except HeadraceError as error:  # in a cluster Bytewax loses the exception's text
            _log.error("source failed", partition=for_part, error=str(error))
            raise
        return BackgroundPartition(
            context.partition(for_part),
            open_reader,
            resume_state or FIRST,
            rows_max=self._config.batch_rows_max,
            queued_bytes_max=self._config.queued_bytes_max,
            poll_s=self._poll_s(settings),
            beat_s=1.0 if for_part in context.beating else 0.0,
        )

    def _poll_s(self, settings: FileTable) -> float:
        """Often enough to see that a file has settled."""
        if self._until_end and settings.complete == "settled":
            return min(self._config.poll_s, max(0.05, settings.settle_s / 4))
        return self._config.poll_s


def kept_directory(context: SourceContext, table: str) -> Path | None:
    """Where a table's ledger and key files are kept; None beside a flow."""
    return None if context.directory is None else context.directory / "files" / table
