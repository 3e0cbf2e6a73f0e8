"""Changes put aside on disk by key hash, to be folded bucket by bucket: the memory of a fold is one bucket's.

All changes of a key are in one bucket, in the order they came. Rows of different shapes of a table (a column came, grew
or went in mid-stream) are brought to the newest shape when a bucket is read.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import OP, UNSET, ChangeBatch, Op, arrow_schema, op_is, unset_bytes
from libcore.compact import compact
from libcore.hashing import hash_rows
from libcore.schema import Column, Table
from libcore.slots import scatter

BUCKETS = 64


class Spill:
    """One table's changes on disk.

    Args:
        directory: for one file, removed by `close`.
        table: its shape, where it is known without a row.
    """

    def __init__(self, directory: Path, table: Table | None = None) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - it lives as long as this object
        self._shapes: list[Table] = [] if table is None else [table]
        self._pieces: dict[int, list[tuple[int, int, Table]]] = {}
        self._clears: list[tuple[int, str]] = []  # (end of the file then, column): what stands before it lost its value

    def add(self, batch: ChangeBatch) -> None:
        """Take upserts and deletes."""
        if batch.table not in self._shapes:
            self._shapes.append(batch.table)
        hashes = hash_rows(batch.record, batch.table.key_indexes)
        for bucket, record in scatter(batch.record, hashes, BUCKETS, bytes(range(BUCKETS))):
            start = self._file.tell()
            with pa.ipc.new_stream(self._file, record.schema) as writer:
                writer.write_batch(record)
            self._pieces.setdefault(bucket, []).append((start, self._file.tell() - start, batch.table))

    def clear(self) -> None:
        """Forget all rows: the table was truncated."""
        self._pieces, self._clears = {}, []

    def clear_column(self, name: str) -> None:
        """The rows so far hold NULL there: the column was dropped."""
        self._clears.append((self._file.tell(), name))

    @property
    def table(self) -> Table | None:
        """The newest shape, with the columns of older ones behind; None before the first row."""
        if not self._shapes:
            return None
        newest = self._shapes[-1]
        known = {column.name: column for column in newest.columns}
        for shape in reversed(self._shapes):
            for column in shape.columns:
                known.setdefault(column.name, column)
        return Table(newest.name, tuple(Column(c.name, c.type) for c in known.values()), newest.key)

    def folded(self) -> Iterator[ChangeBatch]:
        """The last state, bucket by bucket: only upserts; a column that no message carried stays unset.

        Updates of a row that never came (Op.UPDATE) make none.
        """
        table = self.table
        for pieces in self._pieces.values():
            assert table is not None
            records = [self._cleared(start, widened(self._read(start, length), shape, table), table)
                       for start, length, shape in pieces]  # fmt: skip
            rows = compact(pa.Table.from_batches(records).combine_chunks().to_batches()[0], table)
            alive = rows.filter(pc.invert(pc.or_(op_is(rows, Op.DELETE), op_is(rows, Op.UPDATE))))
            if alive.num_rows:
                yield ChangeBatch(table, alive)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _cleared(self, start: int, record: pa.RecordBatch, table: Table) -> pa.RecordBatch:
        """Rows that stand there in the file, without the values of columns that were dropped after they came."""
        names = [column.name for column in table.columns]
        for end, name in self._clears:
            if start < end and name in names:
                index, columns = names.index(name), list(record.columns)
                columns[index] = pa.nulls(record.num_rows, columns[index].type)
                columns[-1] = _without_bit(columns[-1], index)
                record = pa.RecordBatch.from_arrays(columns, schema=record.schema)
        return record

    def _read(self, start: int, length: int) -> pa.RecordBatch:
        end = self._file.tell()
        self._file.seek(start)
        with pa.ipc.open_stream(self._file.read(length)) as reader:
            record = reader.read_next_batch()
        self._file.seek(end)
        return record


def widened(record: pa.RecordBatch, shape: Table, table: Table) -> pa.RecordBatch:
    """Rows of an older shape as rows of `table`, with an __unset column; what the shape lacks is unset.

    A keyless row lacks nothing: there a column that is missing is NULL.
    """
    names = [column.name for column in shape.columns]
    columns, missing = [], []
    for index, column in enumerate(table.columns):
        if column.name in names:
            values = record.column(names.index(column.name))
            columns.append(values if values.type == column.type.arrow else values.cast(column.type.arrow))
        else:
            columns.append(pa.nulls(record.num_rows, column.type.arrow))
            missing.append(index)
    columns += record.columns[len(names) : len(names) + 3]
    columns.append(_bitmap(record, shape, table, missing if table.key else []))
    return pa.RecordBatch.from_arrays(columns, schema=arrow_schema(table, with_unset=True))


def _bitmap(record: pa.RecordBatch, shape: Table, table: Table, missing: list[int]) -> pa.Array:
    """Bits of the wider table: those of the older shape at their new places, and the missing columns of upserts."""
    places = [[column.name for column in table.columns].index(column.name) for column in shape.columns]
    former = (
        record.column(UNSET).to_pylist()
        if UNSET in record.schema.names
        else [bytes(unset_bytes(shape))] * record.num_rows
    )
    new_bits = sum(1 << index for index in missing)
    made: dict[tuple[bytes, int], bytes] = {}
    out = []
    for bits, op in zip(former, record.column(OP).to_pylist(), strict=True):
        if (bits, op) not in made:
            old = int.from_bytes(bits, "little")
            moved = sum(1 << place for index, place in enumerate(places) if old >> index & 1)
            made[bits, op] = (moved | (0 if op == Op.DELETE else new_bits)).to_bytes(unset_bytes(table), "little")
        out.append(made[bits, op])
    return pa.array(out, pa.binary(unset_bytes(table)))


def _without_bit(bitmap: pa.Array, index: int) -> pa.Array:
    """The __unset column, where no row lacks a value for that column."""
    mask = ~(1 << index)
    cleared = [(int.from_bytes(bits, "little") & mask).to_bytes(len(bits), "little") for bits in bitmap.to_pylist()]
    return pa.array(cleared, bitmap.type)
