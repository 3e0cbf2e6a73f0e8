"""Reads the files of one table in name order, each once, and says at every piece where a restart goes on.

State: (1, files read so far, (ledger file, its lines), key file or None, the open file or None). The open file is
(name, size, mtime_ns, digest, rows so far, dead letters so far, state of its reader). A table that is one whole file
begins that file anew at a restart: its rows are upserts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, BinaryIO

import structlog

from connectors.base.background import Piece
from connectors.base.guardian import Pace, hours, paced
from connectors.base.items import Item
from connectors.base.metrics import LAG_MS, LAG_OFFSETS
from connectors.base.rows import change_batch, refused_rows
from connectors.files.config import FilesConfig, FileTable
from connectors.files.folder import Folder, Ledger, Seen, digest_of, number_of
from connectors.files.jsonl import JsonRows
from connectors.files.parquet import ParquetRows
from connectors.files.rows import CsvRows, FileView, FixedRows, Opener, Read, RowReader
from connectors.files.whole import KeyDifference
from libcore.change import ChangeBatch, Op
from libcore.errors import ConfigurationError, FatalError, TransientError
from libcore.schema import Table

STATE_VERSION = 1
FIRST: tuple[Any, ...] = (STATE_VERSION, 0, None, None, None)
OPENERS: dict[str, Opener] = {"csv": CsvRows, "fixed": FixedRows, "parquet": ParquetRows, "jsonl": JsonRows}
_log = structlog.get_logger()


class FilesReader:
    """One table's files as pieces; see PieceReader.

    Args:
        config: bounds. settings: the table's section. table: its columns and key.
        base: where relative paths begin.
        directory: where ledger and key files are kept; None: in memory, and nothing outlives the reader.
        state: where to go on.
        flow: the pipeline's name, for dead letters.
        until_end: end behind the files that are there now.
        pace: when and how fast files may be read.
    """

    def __init__(
        self,
        config: FilesConfig,
        settings: FileTable,
        table: Table,
        base: Path,
        directory: Path | None,
        state: tuple[Any, ...],
        *,
        flow: str,
        until_end: bool,
        pace: Pace,
    ) -> None:
        _check_state(table.name, state)
        self._config, self._settings, self._table = config, settings, table
        self._flow, self._pace = flow, pace
        self._scratch = None if directory is not None else tempfile.TemporaryDirectory(prefix="headrace-files-")
        self._directory = Path(self._scratch.name) if self._scratch is not None else directory or Path()
        self._folder = Folder(table.name, settings, base, until_end=until_end, remembered_max=config.remembered_max)
        _, self._number, ledger, self._keys, self._open = state
        self._ledger = Ledger(directory, ledger)
        self._durable: tuple[Any, ...] | None = None
        for draft in self._directory.glob(".keys-*"):  # of a process that was killed
            draft.unlink(missing_ok=True)
        for path in self._directory.glob("keys-*"):  # finished by one, and in no state
            if number_of(path.name) >= self._number and path.name != self._keys:
                path.unlink(missing_ok=True)
        self._lag = (LAG_OFFSETS.labels(table.name, "files"), LAG_MS.labels(table.name, "files"))

    def pieces(self) -> Iterator[Piece | None]:
        """See PieceReader."""
        if self._open is not None:
            yield from paced(self._resumed(self._open), self._pace)
        while True:
            self._sweep()
            yield from hours(self._pace)  # before the look: what is found is read as it was then
            found, ended = self._folder.next(self._ledger)
            self._show_lag()
            if found is not None:
                yield from paced(self._whole_file(found), self._pace)
            elif ended:
                return
            else:
                yield None

    def durable(self, state: tuple[Any, ...]) -> None:
        """See PieceReader."""
        self._durable = state

    def close(self) -> None:
        """See PieceReader."""
        self._ledger.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def _show_lag(self) -> None:
        files, age = self._lag
        files.set(self._folder.waiting)
        age.set(max(0.0, time.time() * 1e3 - self._folder.oldest_ns / 1e6) if self._folder.oldest_ns else 0.0)

    def _sweep(self) -> None:
        """Remove ledgers and key files that the recovery store is past."""
        if self._durable is None:
            return
        _, _, ledger, keys, _ = self._durable
        self._durable = None
        for kept in (ledger and ledger[0], keys):
            if kept:
                kind = kept.split("-")[0]
                for path in self._directory.glob(f"{kind}-*"):
                    if number_of(path.name) <= number_of(kept) and path.name != kept:
                        path.unlink(missing_ok=True)

    def _resumed(self, open_file: tuple[Any, ...]) -> Iterator[Piece]:
        """The rest of a file that a former reader began."""
        name, size, mtime_ns, digest, rows, letters, state = open_file
        seen = Seen(name, size, mtime_ns, digest)
        path = self._folder.directory / name
        try:
            with path.open("rb") as file:
                if digest_of(file, size) == digest:
                    yield from self._read(seen, file, rows, letters, state)
                    return
        except FileNotFoundError:
            self._folder.names()  # a folder that is away may come back; a file that a folder lacks does not by itself
            found = "none"
        except OSError as error:
            raise TransientError(f"{path}: {error.strerror or error}") from error
        else:
            found = "other bytes"
        if found == "other bytes" and self._settings.replaced == "read":
            _log.warning("a file was replaced while it was read: it is read anew", table=self._table.name, file=name)
            return  # it is unknown to the ledger: the next look takes it as a new one
        raise FatalError(
            f"source.files.tables.{self._table.name}: {path}: expected the file that is half read (the first {rows} "
            f"rows), found {found}: put it back as it was and start again"
        )

    def _whole_file(self, found: Seen) -> Iterator[Piece]:
        try:
            with (self._folder.directory / found.name).open("rb") as file:
                seen = replace(found, digest=digest_of(file, found.size))
                self._number += 1
                _log.info("reads a file", table=self._table.name, file=found.name, bytes=found.size)
                yield from self._read(seen, file, 0, 0, None)
        except OSError as error:
            raise TransientError(f"{self._folder.directory / found.name}: {error.strerror or error}") from error

    def _read(
        self, seen: Seen, file: BinaryIO, rows: int, letters: int, state: tuple[Any, ...] | None
    ) -> Iterator[Piece]:
        """Pieces of one file from a state on; the last one remembers it."""
        whole = self._settings.mode == "table"
        before = (STATE_VERSION, self._number - 1, self._ledger.place, self._keys, None)
        difference = KeyDifference(self._table, self._directory, self._number, self._keys) if whole else None
        reader = self._opened(seen, file, state)
        try:
            while True:
                read = reader.read()
                piece = self._piece(seen, read, rows, letters)
                rows, letters = rows + len(read.columns[0]), letters + len(read.refused)
                if difference is not None:
                    difference.see(read.columns)
                    if read.refused:
                        difference.spoil()
                if read.done:
                    break
                if difference is not None:
                    piece = replace(piece, state=before)
                yield piece
            if difference is not None:
                yield replace(piece, state=before)
                for piece in self._deletes(seen, difference, rows):
                    yield replace(piece, state=before)
                self._keys = difference.finish()
                piece = Piece([], 0, before)
            self._ledger.add(seen)
            self._open = None
            yield replace(piece, state=(STATE_VERSION, self._number, self._ledger.place, self._keys, None))
        finally:
            if difference is not None:
                difference.close()

    def _opened(self, seen: Seen, file: BinaryIO, state: tuple[Any, ...] | None) -> RowReader:
        opener = OPENERS[self._settings.format]
        view = FileView(seen.name, file, seen.size)
        rows_max = self._config.batch_rows_max
        return opener(self._settings, self._table, view, state, rows_max, self._config.piece_bytes)

    def _piece(self, seen: Seen, read: Read, rows: int, letters: int) -> Piece:
        items: list[Item] = []
        count = len(read.columns[0])
        commit, generation = self._number, self._settings.generation
        if count:
            # in the first file every row is new as far as we know; the hint may be wrong
            new = self._number == 1 and bool(self._table.key)
            op = Op.INSERT if new else Op.UPSERT
            items.append(change_batch(self._table, read.columns, op, generation=generation, commit=commit, first=rows))
        if read.refused:
            items.append(
                refused_rows(
                    read.refused,
                    flow=self._flow,
                    table=self._table.name,
                    generation=generation,
                    commit=commit,
                    first=letters,
                )
            )
        open_file = (*astuple(seen), rows + count, letters + len(read.refused), read.state)
        state = (STATE_VERSION, self._number, self._ledger.place, self._keys, open_file)
        size = sum(item.record.nbytes for item in items if isinstance(item, ChangeBatch))
        return Piece(items, count + len(read.refused), state, size)

    def _deletes(self, seen: Seen, difference: KeyDifference, rows: int) -> Iterator[Piece]:
        settings = self._settings
        for columns in difference.gone(seen.name, settings.delete_share_max, self._config.batch_rows_max):
            batch = change_batch(
                self._table, columns, Op.DELETE, generation=settings.generation, commit=self._number, first=rows
            )
            rows += len(batch)
            yield Piece([batch], len(batch), FIRST, batch.record.nbytes)


def _check_state(table: str, state: tuple[Any, ...]) -> None:
    if len(state) != len(FIRST) or state[0] != STATE_VERSION:
        raise ConfigurationError(
            f"source.files.tables.{table}: expected recovery state of version {STATE_VERSION}, found {state[:1]}: "
            "it was written by another version of headrace"
        )
