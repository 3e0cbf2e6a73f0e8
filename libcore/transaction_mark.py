"""Marks of source transactions, as batches of a table of their own: they travel like changes, up to the document step.

    end      a transaction is complete at the source. One row with the number of all its changes in `count`, then one
             row for each table it changed, named as the source names it in `collection`, with its changes in `count`.
    arrived  a message of the transaction that rightly gave no row; `collection` is the table, as a batch names it.
    lost     a message of the transaction that became a dead letter; likewise, and `error` says why.

`number` of the latter two is the change's number in its table in the transaction, as change.TX_ORDER.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from libcore.change import OP, POSITION, SOURCE_TS, ChangeBatch, Op, arrow_schema
from libcore.position import FIRST
from libcore.schema import Column, Table, parse_type

_TEXT, _INT = parse_type("string"), parse_type("int64")

END, ARRIVED, LOST = "end", "arrived", "lost"

TRANSACTION_MARKS = Table(
    "headrace_transaction_marks",
    (
        Column("kind", _TEXT),
        Column("transaction", _TEXT),
        Column("collection", _TEXT),
        Column("count", _INT),
        Column("number", _INT),
        Column("error", _TEXT),
    ),
)


@dataclass(frozen=True)
class Mark:
    """One row of TRANSACTION_MARKS; `time_us`: of the commit, microseconds since 1970."""

    kind: str
    transaction: str
    collection: str | None = None
    count: int | None = None
    number: int | None = None
    error: str | None = None
    time_us: int | None = None


def to_batch(marks: Sequence[Mark]) -> ChangeBatch:
    """Marks as a batch, in order."""
    schema = arrow_schema(TRANSACTION_MARKS)
    names = [column.name for column in TRANSACTION_MARKS.columns]
    arrays = [pa.array([getattr(mark, name) for mark in marks], schema.field(name).type) for name in names]
    arrays.append(pa.array([int(Op.UPSERT)] * len(marks), schema.field(OP).type))
    arrays.append(pa.array([FIRST] * len(marks), schema.field(POSITION).type))
    arrays.append(pa.array([mark.time_us for mark in marks], pa.int64()).cast(schema.field(SOURCE_TS).type))
    return ChangeBatch(TRANSACTION_MARKS, pa.RecordBatch.from_arrays(arrays, schema=schema))


def from_batch(batch: ChangeBatch) -> list[Mark]:
    """What `to_batch` was given."""
    columns = [batch.record.column(column.name).to_pylist() for column in TRANSACTION_MARKS.columns]
    times = batch.record.column(SOURCE_TS).cast(pa.int64()).to_pylist()
    return [Mark(*values) for values in zip(*columns, times, strict=True)]
