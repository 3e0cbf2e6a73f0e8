"""Each file is the whole table: the keys of the file before, less those of this one, are the rows that are gone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import structlog

from connectors.base import durable
from libcore.errors import FatalError
from libcore.schema import Table
from libcore.table import RowStore

_log = structlog.get_logger()


class KeyDifference:
    """What one file leaves out of the file before.

    Args:
        table: with a key.
        directory: where key files lie.
        number: the file's, in the order of reading.
        former: key file of the file before; None: there was none.
    Raises: FatalError where the key file is not there.
    """

    def __init__(self, table: Table, directory: Path, number: int, former: str | None) -> None:
        self._table, self._directory, self._number = table, directory, number
        self._schema = pa.schema([pa.field(name, table.column(name).type.arrow) for name in table.key])
        self._store = RowStore(self._schema, range(len(table.key)), slots=1)
        self._faulty = False
        if former is not None:
            self._load(directory / former)
        self._before = self._store.rows
        durable.make_directory(directory)
        self._name = f"keys-{number:06d}-{secrets.token_hex(4)}.arrow"
        self._draft = directory / f".{self._name}"
        self._file = pa.OSFile(str(self._draft), "wb")
        self._writer = pa.ipc.new_stream(self._file, self._schema)

    def _load(self, path: Path) -> None:
        try:
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as reader:
                for batch in reader:
                    self._store.upsert(batch)
        except (OSError, pa.ArrowInvalid) as error:
            raise FatalError(
                f"{path}: expected the keys of the file before, found: {error}; begin anew with another state_dir and "
                "an empty target"
            ) from error

    def see(self, columns: list[pa.Array]) -> None:
        """These rows are in the file: the table's columns."""
        keys = pa.RecordBatch.from_arrays([columns[index] for index in self._table.key_indexes], schema=self._schema)
        self._store.delete(keys)
        self._writer.write_batch(keys)

    def spoil(self) -> None:
        """A record of the file could not be read, so nobody knows whose row is gone: none is deleted."""
        self._faulty = True

    def gone(self, file: str, share_max: float, rows_max: int) -> Iterator[list[pa.Array]]:
        """The columns of the deletes, in batches; the file is at its end. Raises FatalError above the share."""
        if self._store.rows and self._faulty:
            _log.warning(
                "a file with bad records deletes nothing", table=self._table.name, file=file, kept_rows=self._store.rows
            )
            self._writer.write_batch(self._store.whole())
            return
        if self._before and self._store.rows / self._before > share_max:
            raise FatalError(
                f"{file}: expected at most {share_max:.0%} of the {self._before} rows to be gone, found "
                f"{self._store.rows}; is the file whole? If it is, raise "
                f"source.files.tables.{self._table.name}.delete_share_max"
            )
        keys = self._store.whole()
        for start in range(0, keys.num_rows, rows_max):
            piece = keys.slice(start, rows_max)
            yield [
                piece.column(self._table.key.index(column.name))
                if column.name in self._table.key
                else pa.nulls(piece.num_rows, column.type.arrow)
                for column in self._table.columns
            ]

    def finish(self) -> str:
        """The keys of this file, durable; the name of their file."""
        self._writer.close()
        self._file.close()
        durable.put(self._draft, self._directory / self._name)
        return self._name

    def close(self) -> None:
        """Give up, where it is not finished."""
        if not self._file.closed:
            self._writer.close()
            self._file.close()
        self._draft.unlink(missing_ok=True)
