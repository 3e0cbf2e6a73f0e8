"""The record that flows: a ChangeBatch is an Arrow RecordBatch of changes of one table, plus that Table.

Columns: the table's own, exactly typed, in the table's order; then

    __op          int8, not null     UPSERT DELETE TRUNCATE WATERMARK TRANSACTION_END INSERT UPDATE
    __position    fixed_size_binary(32), not null; order within one source (libcore/position.py)
    __source_ts   timestamp[us, UTC]; commit time at the source, NULL where it has none
    __unset       fixed_size_binary(ceil(columns/8)); bit i (lowest bit first) = the row lacks a value for column i,
                  which is not NULL: state or target keeps its old value. Present only where some row needs it.

Changes are an upsert log by key. A DELETE row has its key columns; its others are NULL and mean nothing. In a keyless
table (empty key) an UPSERT adds one copy of the row and a DELETE removes one copy of it, all columns given.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from libcore.schema import Table


class Op(enum.IntEnum):
    """What a row does.

    INSERT means what UPSERT means; it adds a hint that the source calls the row new, so that a target may try a plain
    insert first (docs/decisions/0006). Whoever asks "does this row stay?" compares with DELETE.

    UPDATE is an UPSERT of a row that is there, and nothing where there is none: what brings a part of a row's columns
    must not make a row of them. Only on the way to a target; keyed steps do not take it (`whole` of a TopicBinding).
    """

    UPSERT = 1
    DELETE = 2
    TRUNCATE = 3
    WATERMARK = 4
    TRANSACTION_END = 5
    INSERT = 6
    UPDATE = 7


OP, POSITION, SOURCE_TS, UNSET = "__op", "__position", "__source_ts", "__unset"
TX, TX_ORDER = "__tx", "__tx_order"
"""Only between a decoder and the document operator: the row's source transaction, and its number among the changes
of its table in that transaction; NULL outside of one."""
POSITION_TYPE = pa.binary(32)
SOURCE_TS_TYPE = pa.timestamp("us", tz="UTC")


_OPS = {op: pa.scalar(int(op), pa.int8()) for op in Op}


def op_is(record: pa.RecordBatch, op: Op) -> pa.BooleanArray:
    """Which rows do that. The scalars are made once: of a plain number pyarrow makes one in 0.3 ms, each time."""
    return pc.equal(record.column(OP), _OPS[op])


def unset_bytes(table: Table) -> int:
    """Width of the __unset column of that table, in bytes."""
    return (len(table.columns) + 7) // 8


def lacking_nothing(table: Table, record: pa.RecordBatch) -> pa.RecordBatch:
    """The record with an __unset column in which no bit is set; as it is where it has one."""
    if UNSET in record.schema.names:
        return record
    width = unset_bytes(table)
    zeros = pa.Array.from_buffers(pa.binary(width), len(record), [None, pa.py_buffer(bytes(width * len(record)))])
    return record.append_column(pa.field(UNSET, pa.binary(width), nullable=False), zeros)


def arrow_schema(table: Table, with_unset: bool = False) -> pa.Schema:
    """The Arrow schema of a ChangeBatch of that table."""
    fields = [pa.field(column.name, column.type.arrow) for column in table.columns]
    fields += [
        pa.field(OP, pa.int8(), nullable=False),
        pa.field(POSITION, POSITION_TYPE, nullable=False),
        pa.field(SOURCE_TS, SOURCE_TS_TYPE),
    ]
    if with_unset:
        fields.append(pa.field(UNSET, pa.binary(unset_bytes(table)), nullable=False))
    return pa.schema(fields)


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Changes of one table in order. Immutable; pickles as Arrow IPC, so a slice never drags its parent along."""

    table: Table
    record: pa.RecordBatch

    @property
    def row_count(self) -> int:
        """Rows in the batch."""
        return self.record.num_rows

    @property
    def has_unset(self) -> bool:
        """Whether the batch carries an __unset column."""
        return self.record.schema.get_field_index(UNSET) >= 0

    def __len__(self) -> int:
        return self.record.num_rows

    def slice(self, offset: int, length: int | None = None) -> ChangeBatch:
        """A view of some rows; shares memory."""
        return ChangeBatch(self.table, self.record.slice(offset, length))

    def to_polars(self) -> Any:
        """The same rows as a polars DataFrame, control columns included (polars is imported here, on demand)."""
        import polars

        return polars.from_arrow(pa.Table.from_batches([self.record]))

    @classmethod
    def from_polars(cls, table: Table, frame: Any) -> ChangeBatch:
        """A batch from a DataFrame with the table's columns and __op, __position, __source_ts.

        Raises pyarrow.ArrowInvalid where a value does not fit its exact type.
        """
        from libcore.errors import DataError

        with_unset = UNSET in frame.columns
        schema = arrow_schema(table, with_unset)
        if missing := [name for name in schema.names if name not in frame.columns]:
            raise DataError(f"table {table.name}: the frame lacks {missing}; it has {frame.columns}")
        arrow = frame.select(schema.names).to_arrow().cast(schema)
        batches = arrow.combine_chunks().to_batches()
        return cls(table, batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema))

    def __reduce__(self) -> tuple[Any, ...]:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.record.schema) as writer:
            writer.write_batch(self.record)
        return (_unpickle, (self.table, sink.getvalue().to_pybytes()))


def _unpickle(table: Table, data: bytes) -> ChangeBatch:
    with pa.ipc.open_stream(data) as reader:
        return ChangeBatch(table, reader.read_next_batch())
