"""Plain columns of a table that is read directly -> a ChangeBatch, and refused rows -> dead letters."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import byteorder

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import metrics
from connectors.base.metrics import BATCHES, DECODE_ERRORS, EVENTS
from libcore.change import OP, POSITION, SOURCE_TS, ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.dead_letter import DEAD_LETTERS
from libcore.position import POSITION_BYTES, make
from libcore.schema import Table

_STEP = 1 << 24  # the counter's part of a position
_ORDER_MAX = 1 << 40


@dataclass(frozen=True)
class Refused:
    """A row that could not be read.

    Args:
        place: where it stands: a file, a table.
        number: its line or row there; -1 where unknown.
        error: one sentence.
        raw: its bytes, or what was found as text; None where there are none.
        key_text: its key as JSON text, where known.
        byte_position: 0-based byte in `raw`; -1 where unknown.
    """

    place: str
    number: int
    error: str
    raw: bytes | None = None
    key_text: str | None = None
    byte_position: int = -1


def positions(generation: int, commit: int, first: int, count: int) -> pa.Array:
    """Positions of `count` rows of one commit, in order from `first` on; see libcore/position.py."""
    assert first >= 0 and first + count <= _ORDER_MAX, (first, count)
    whole = bytearray(make(generation, commit, 0) * count)
    tails = array("Q", range(first * _STEP, (first + count) * _STEP, _STEP))
    if byteorder == "little":
        tails.byteswap()
    memoryview(whole).cast("Q")[3::4] = memoryview(tails)
    return pa.Array.from_buffers(pa.binary(POSITION_BYTES), count, [None, pa.py_buffer(bytes(whole))])


def change_batch(
    table: Table,
    columns: Sequence[pa.Array],
    op: Op | pa.Int8Array,
    *,
    generation: int = 0,
    commit: int,
    first: int,
    lacking: Mapping[int, Collection[int]] | None = None,
) -> ChangeBatch:
    """Rows of a table.

    Args:
        columns: the table's, in its order and exact types; of a DELETE those outside of the key are NULL.
        op: what all of them do, or each.
        generation, commit: parts of their position. A snapshot's rows are INSERT and have commit 0.
        first: the first row's number within the commit; the others follow.
        lacking: of rows that lack columns (which is not NULL) the columns' indexes, by row.
    """
    count = len(columns[0])
    ops = op if isinstance(op, pa.Array) else _same(op, count)
    control = [ops, positions(generation, commit, first, count), pa.nulls(count, pa.timestamp("us", tz="UTC"))]
    if lacking:
        width = unset_bytes(table)
        masks = [sum(1 << index for index in lacking.get(row, ())).to_bytes(width, "little") for row in range(count)]
        control.append(pa.array(masks, pa.binary(width)))
    BATCHES.labels(table.name).inc()
    EVENTS.labels(table.name).inc(count)
    schema = arrow_schema(table, with_unset=bool(lacking))
    return ChangeBatch(table, pa.RecordBatch.from_arrays([*columns, *control], schema=schema))


def _same(op: Op, count: int) -> pa.Int8Array:
    return pa.Array.from_buffers(pa.int8(), count, [None, pa.py_buffer(bytes([op]) * count)])


def delete_batch(
    table: Table, keys: Mapping[str, pa.Array], good: pa.BooleanArray, *, generation: int, commit: int, first: int
) -> ChangeBatch | None:
    """Deletes of those keys that are good; None where none is.

    Args:
        keys: the key's columns by name, in their exact types. The rest as in change_batch.
    """
    count = pc.sum(good).as_py() or 0
    if not count:
        return None
    columns = [
        keys[column.name].filter(good) if column.name in keys else pa.nulls(count, column.type.arrow)
        for column in table.columns
    ]
    return change_batch(table, columns, Op.DELETE, generation=generation, commit=commit, first=first)


def refused_rows(
    refused: Sequence[Refused], *, flow: str, table: str, generation: int = 0, commit: int, first: int
) -> ChangeBatch:
    """Rows that could not be read as dead letters, in order; counts them too. `first`: the first one's number."""
    count = len(refused)
    metrics.DEAD_LETTERS.labels("read").inc(count)
    DECODE_ERRORS.labels(table).inc(count)
    columns: Mapping[str, Sequence[object] | pa.Array] = {
        "flow": [flow] * count,
        "step": ["read"] * count,
        "table_name": [table] * count,
        "topic": [one.place for one in refused],
        "partition": [0] * count,
        "message_offset": [one.number for one in refused],
        "key_text": [one.key_text for one in refused],
        "reason": ["data"] * count,
        "error": [one.error for one in refused],
        "byte_position": [one.byte_position for one in refused],
        "raw_key": [None] * count,
        "raw_value": [one.raw for one in refused],
        "failed_at": [datetime.now(UTC)] * count,
        OP: [int(Op.UPSERT)] * count,
        POSITION: positions(generation, commit, first, count),
        SOURCE_TS: [None] * count,
    }
    schema = arrow_schema(DEAD_LETTERS)
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values, schema.field(name).type)
        for name, values in columns.items()
    ]
    return ChangeBatch(DEAD_LETTERS, pa.RecordBatch.from_arrays(arrays, schema=schema))
