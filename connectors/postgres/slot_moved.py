"""Rows whose key changed while a large value of theirs did not: PostgreSQL sends the new key without that value.

Under the new key a target has no row that could keep it, so it is looked up at the source. The source's row may be
newer than the change; then the changes in between follow in the stream, and end right. Where the row is gone, its
delete or its next key change follows. It is never older: a commit is in the log before a snapshot shows it (for as long
as it waits for a standby, with synchronous replication), so those that the stream has brought are waited for first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.base.items import Item
from connectors.postgres import slot as slots
from connectors.postgres import source_catalog as catalog
from connectors.postgres.chunks import Chunk
from connectors.postgres.session import Connection, literal, quote
from connectors.postgres.snapshot import ChunkReader
from connectors.postgres.source_catalog import CatalogTable
from connectors.postgres.source_session import failed
from libcore.change import POSITION, UNSET, ChangeBatch, Op, op_is
from libcore.errors import ConfigurationError
from libcore.position import POSITION_BYTES

_ROWS_A_QUERY = 1000
_AGAIN_S, _TELL_S = 0.02, 10.0  # how often commits are looked for, and how long silently
_log = structlog.get_logger()


class MovedRows:
    """Fills what rows under a new key lack.

    Args:
        names: of the source's tables, by the name of their batches. publication: that brings them.
        open_reader: a ChunkReader, not yet open.
        connection: tells which transactions are not over, in autocommit.
    """

    def __init__(
        self,
        names: Mapping[str, str],
        publication: str,
        open_reader: Callable[[], ChunkReader],
        connection: Connection,
    ) -> None:
        self._names, self._publication = dict(names), publication
        self._open_reader, self._connection = open_reader, connection
        self.seen_lsn = 0
        """Values that were looked up may be of what was committed up to there."""

    def filled(self, items: Sequence[Item], xids: Collection[int]) -> Generator[None, None, list[Item]]:
        """The items with the values that their moved rows lack; None while the source does not show them yet.

        Args:
            xids: the transactions of the items.
        Raises: TransientError, ConfigurationError.
        """
        out = list(items)
        lacking = {place: rows for place, item in enumerate(out) if (rows := self._lacking(item))}
        if lacking:
            yield from self._shown(xids)
        for place, rows in lacking.items():
            batch = out[place]
            assert isinstance(batch, ChangeBatch)
            record = batch.record
            keys = [tuple(record.column(name)[row].as_py() for name in batch.table.key) for row in rows]
            found = self._look_up(self._names[batch.table.name], batch, list(dict.fromkeys(keys)))
            out[place] = ChangeBatch(batch.table, _patched(batch, rows, [found.get(key) for key in keys]))
        return out

    def _lacking(self, item: Item) -> list[int]:
        """Rows of a batch under a new key that lack a value."""
        if not isinstance(item, ChangeBatch) or not item.has_unset or not item.table.key:
            return []
        if item.table.name not in self._names:
            return []
        record = item.record
        # the second row of a message, an upsert behind the delete of its old key, has an odd counter
        last = pc.binary_slice(record.column(POSITION).cast(pa.binary()), POSITION_BYTES - 1, POSITION_BYTES)
        odd = pc.is_in(last, pa.array([bytes([number]) for number in range(1, 256, 2)], pa.binary()))
        moved = pc.indices_nonzero(pc.and_(odd, op_is(record, Op.UPSERT))).to_pylist()
        unset = record.column(UNSET)
        return [row for row in moved if any(unset[row].as_py())]

    def _shown(self, xids: Collection[int]) -> Generator[None, None, None]:
        """None, while a snapshot may not show all of those transactions."""
        ours, begun, told = set(map(str, xids)), time.monotonic(), False
        while True:
            try:
                hidden = ours & slots.writing(self._connection)
            except psycopg.Error as error:
                raise failed(error, "ask which transactions are not over") from error
            if not hidden:
                return
            if not told and time.monotonic() - begun > _TELL_S:
                _log.warning(
                    "stream waits for commits that are in the log and are not shown yet", xids=sorted(hidden)[:5],
                    why="a commit waits for a standby (synchronous_standby_names)?",
                )  # fmt: skip
                told = True
            time.sleep(_AGAIN_S)
            yield None

    def _look_up(
        self, name: str, batch: ChangeBatch, keys: list[tuple[Any, ...]]
    ) -> dict[tuple[Any, ...], pa.RecordBatch]:
        """The source's rows of those keys, each as a record of one row."""
        found: dict[tuple[Any, ...], pa.RecordBatch] = {}
        reader = self._open_reader()
        connection = reader.open()
        try:
            self.seen_lsn = slots.reached(connection)
            table = self._described(connection, name, batch)
            names = ", ".join(quote(name) for name in batch.table.key)
            for start in range(0, len(keys), _ROWS_A_QUERY):
                rows = ", ".join(f"({_values(table, batch, key)})" for key in keys[start : start + _ROWS_A_QUERY])
                chunk = Chunk(table, where=f"({names}) IN ({rows})")
                for part in reader.read(chunk, _ROWS_A_QUERY, lambda: False):
                    for item in part.items:
                        if isinstance(item, ChangeBatch) and item.table.name == batch.table.name:
                            found.update(_by_key(item, batch.table.key))
        finally:
            reader.close()
        return found

    def _described(self, connection: Connection, name: str, batch: ChangeBatch) -> CatalogTable:
        """The table as it is now, as far as the batch has its columns: some may have joined it since the start."""
        there = catalog.tables(connection, [name], self._publication)[name]
        known = {column.name for column in batch.table.columns}
        columns = tuple(column for column in there.columns if column.name in known)
        if lost := set(batch.table.key) - {column.name for column in columns}:
            raise ConfigurationError(f"table {name}: expected key columns {sorted(lost)} to find rows by, found none")
        return replace(there, columns=columns)


def _by_key(batch: ChangeBatch, key: tuple[str, ...]) -> dict[tuple[Any, ...], pa.RecordBatch]:
    columns = [batch.record.column(name).to_pylist() for name in key]
    return {values: batch.record.slice(row, 1) for row, values in enumerate(zip(*columns, strict=True))}


def _values(table: CatalogTable, batch: ChangeBatch, key: tuple[Any, ...]) -> str:
    return ", ".join(
        f"{literal(_text(value))}::{table.column(name).shown}" for name, value in zip(batch.table.key, key, strict=True)
    )


def _text(value: Any) -> str:
    return "\\x" + value.hex() if isinstance(value, bytes) else str(value)


def _patched(batch: ChangeBatch, rows: list[int], found: list[pa.RecordBatch | None]) -> pa.RecordBatch:
    record = batch.record
    unset = [bytearray(value) for value in record.column(UNSET).to_pylist()]
    columns = {name: record.column(name) for name in record.schema.names}
    for index, column in enumerate(batch.table.columns):
        mask, values = [False] * record.num_rows, []
        for row, source in zip(rows, found, strict=True):
            there = source is not None and source.schema.get_field_index(column.name) >= 0
            if there and unset[row][index // 8] >> (index % 8) & 1:
                assert source is not None
                unset[row][index // 8] &= ~(1 << index % 8)
                mask[row] = True
                values.append(source.column(column.name))
        if values:
            given = pa.concat_arrays(values).cast(column.type.arrow)
            columns[column.name] = pc.replace_with_mask(columns[column.name], pa.array(mask), given)
    columns[UNSET] = pa.array([bytes(value) for value in unset], record.schema.field(UNSET).type)
    return pa.RecordBatch.from_arrays([columns[name] for name in record.schema.names], schema=record.schema)
