"""Reads the rows of one file piece by piece: CSV and fixed width by the C readers; a bad record is told, never lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from typing import Any, BinaryIO, Protocol

import pyarrow as pa

from connectors.base.rows import Refused
from connectors.files.config import FileTable
from libcore.delimited import DelimitedReader
from libcore.delimited_types import DelimitedPlan, FixedPlan, LineError, RecordKind, TextColumn, TextState
from libcore.errors import ConfigurationError, DataError, FatalError
from libcore.fixed_width import FixedReader
from libcore.schema import Table

State = tuple[Any, ...]
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
"""How files of UTF-16 begin; read as anything else they would be texts full of NUL."""


@dataclass(frozen=True)
class Read:
    """What one piece of a file gave.

    Args:
        columns: the table's, in its order and exact types.
        refused: records that gave no row.
        state: where the next piece begins: plain values.
        done: nothing comes behind.
    """

    columns: list[pa.Array]
    refused: list[Refused]
    state: State
    done: bool


class RowReader(Protocol):
    """Reads one file from a state on."""

    def read(self) -> Read:
        """The next piece; at most the rows that an epoch takes. Raises FatalError where the file as a whole is bad."""


@dataclass(frozen=True)
class FileView:
    """An opened file.

    Args:
        name: for dead letters and messages.
        file: opened for reading bytes.
        size: bytes that count; what is behind was written later.
    """

    name: str
    file: BinaryIO
    size: int


Opener = Callable[[FileTable, Table, FileView, State | None, int, int], RowReader]
"""(settings, table, file, state of a former reader or None, rows of a piece, bytes of a piece) -> its reader."""


class _TextRows:
    """What CSV and fixed width share: the file's bytes fed to a reader, its answers as Reads."""

    def __init__(self, view: FileView, state: State | None, rows_max: int, piece_bytes: int) -> None:
        self._view, self._rows_max, self._piece_bytes = view, rows_max, piece_bytes
        text_state = TextState() if state is None else TextState(*state)
        self._at, self._again, self._final, self._doublings = text_state.offset, False, False, 0
        self._reader: Any = self._open(text_state)
        view.file.seek(self._at)

    def _open(self, state: TextState) -> Any:
        raise AssertionError("each kind of file opens a reader of its own")

    def read(self) -> Read:
        """See RowReader."""
        piece = b""
        if not self._again:
            piece = self._view.file.read(max(0, min(self._piece_bytes << self._doublings, self._view.size - self._at)))
            if self._at == 0 and piece[:2] in _UTF16:
                raise FatalError(
                    f"{self._view.name}: expected UTF-8 or a code page of one byte a character, found the byte order "
                    "mark of UTF-16: convert the file, or take it away and start again"
                )
            self._at += len(piece)
            self._final = self._at >= self._view.size or not piece
        try:
            done = self._reader.feed(piece, final=self._final, rows_max=self._rows_max)
        except DataError as error:
            raise FatalError(f"{self._view.name}: {error}; mend the file, or take it away and start again") from error
        # a record that is longer than a piece: twice as much, so that its bytes are looked at a few times only
        self._doublings = self._doublings + 1 if self._reader.kept_bytes >= len(piece) > 0 else 0
        record = self._record(done)
        self._again = record.num_rows >= self._rows_max
        refused = [_refused(self._view.name, error) for error in done.errors]
        return Read(record.columns, refused, astuple(done.state), self._final and not self._again)

    def _record(self, done: Any) -> pa.RecordBatch:
        return done.record


class CsvRows(_TextRows):
    """A delimited file."""

    def __init__(
        self, settings: FileTable, table: Table, view: FileView, state: State | None, rows_max: int, piece_bytes: int
    ) -> None:
        self._plan = csv_plan(settings, table)
        super().__init__(view, state, rows_max, piece_bytes)

    def _open(self, state: TextState) -> DelimitedReader:
        return DelimitedReader(self._plan, state)


class FixedRows(_TextRows):
    """A file of fixed-width records; those of other kinds are passed by."""

    def __init__(
        self, settings: FileTable, table: Table, view: FileView, state: State | None, rows_max: int, piece_bytes: int
    ) -> None:
        self._plan = fixed_plan(settings, table)
        super().__init__(view, state, rows_max, piece_bytes)

    def _open(self, state: TextState) -> FixedReader:
        return FixedReader(self._plan, state)

    def _record(self, done: Any) -> pa.RecordBatch:
        return done.kinds[self._plan.kinds[0].name].record


def csv_plan(settings: FileTable, table: Table) -> DelimitedPlan:
    """How the table's CSV files are read."""
    csv = settings.csv
    return DelimitedPlan(
        text_columns(settings, table), csv.dialect(settings.encoding), csv.field_count, csv.ignore_case
    )


def fixed_plan(settings: FileTable, table: Table) -> FixedPlan:
    """How the table's fixed-width files are read."""
    fixed = settings.fixed
    kind = RecordKind(table.name, text_columns(settings, table), fixed.marker, fixed.width)
    return FixedPlan(
        (kind,),
        record_bytes=fixed.record_bytes,
        characters=fixed.characters,
        pad_short=fixed.pad_short,
        ignore_rest=fixed.ignore_rest,
        ignore_kinds=bool(fixed.marker),
        skip_blank=fixed.skip_blank,
        skip_lines=fixed.skip_lines,
        encoding=settings.encoding,
        record_bytes_max=fixed.record_bytes_max,
    )


def text_columns(settings: FileTable, table: Table) -> tuple[TextColumn, ...]:
    """The table's columns as the readers want them; `settings` may have more of them, and in another order."""
    given = {text.column.name: (place, text) for place, text in enumerate(settings.text_columns(table.key))}
    columns = []
    for column in table.columns:
        place, text = given[column.name]
        columns.append(
            replace(text, column=column, field_index=place if text.field_index is None else text.field_index)
        )
    return tuple(columns)


def declared_table(name: str, settings: FileTable) -> Table:
    """The table as its section declares it. Raises ConfigurationError where it contradicts itself."""
    if settings.columns is None:
        raise ConfigurationError(f"source.files.tables.{name}: expected columns, found none")
    columns = tuple(text.column for text in settings.text_columns(settings.key))
    return Table(name, columns, settings.key)


def _refused(name: str, error: LineError) -> Refused:
    text = f"{name}, line {error.line}, byte {error.byte_position} of it: {error.text}"
    return Refused(name, error.line, text, error.raw, None, error.byte_position)
