"""Keys that one row takes before another row of the same transaction leaves them, as `SET ID = ID + 1` does.

Oracle checks a key at the end of a statement (of the transaction, where it is deferrable), so the redo may write a key
and delete it afterwards, and the delete is of another row. Changes by key cannot say that: such keys are read again.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from connectors.oracle.catalog import WantedTable
from connectors.oracle.transactions import Committed
from libcore.hashing import hash_rows
from libcore.redo import Redo


def taken_keys(wanted: WantedTable, committed: Committed, redo: Redo, *, continued: bool) -> pa.Int64Array:
    """Places of rows in redo.record whose keys another row may hold at the end of their transaction.

    Args:
        committed: what redo was parsed from.
        continued: an earlier part of the first transaction was given out: nobody knows any more which keys it wrote, so
            every key of it that an update leaves is one.
    Returns: one row a key and transaction. A key that an update leaves counts whoever wrote it before; one that is
        deleted only where its ROW_ID is another than the writer's, since most are rows that came and went.
    """
    none = pa.array([], pa.int64())
    if not wanted.table.key or not pc.any(redo.before).as_py():
        return none
    left = _left(redo)
    numbers = committed.numbers.take(redo.rows)
    names = redo.record.schema.names
    keys = hash_rows(redo.record, [names.index(name) for name in wanted.table.key])
    found = _of_batch(committed, redo, keys, numbers, left)
    if continued:
        found = pa.concat_arrays([found, pc.indices_nonzero(pc.and_(left, pc.equal(numbers, 0))).cast(pa.int64())])
    return pc.unique(found)


def _left(redo: Redo) -> pa.BooleanArray:
    """Rows that an update left: those that stand in front of the new row of the same statement."""
    second = pc.fill_null(pc.equal(pc.pairwise_diff(redo.rows), 0), False)
    return pa.concat_arrays([second.slice(1), pa.array([False])])


def _of_batch(
    committed: Committed, redo: Redo, keys: pa.UInt64Array, numbers: pa.Int64Array, left: pa.BooleanArray
) -> pa.Int64Array:
    written = keys.filter(pc.invert(redo.before))
    gone = keys.filter(redo.before)
    both = pc.unique(written.filter(pc.is_in(written, value_set=gone)))  # deletes are fewer: a smaller set to look into
    if not len(both):
        return pa.array([], pa.int64())
    places = pc.indices_nonzero(pc.is_in(keys, value_set=both)).cast(pa.int64())
    before, by_update = redo.before.take(places), left.take(places)
    row_ids = committed.rows.column("ROW_ID").take(redo.rows.take(places))
    events = pa.table(
        {
            "key": keys.take(places),
            "transaction": numbers.take(places),
            "written": pc.if_else(before, None, places),
            "gone": pc.if_else(before, places, None),
            "left": pc.if_else(by_update, places, None),
            "row": row_ids,
        }
    )
    told = events.group_by(["transaction", "key"]).aggregate(
        [("written", "min"), ("gone", "max"), ("left", "max"), ("row", "count_distinct")]
    )
    by_another = pc.and_(pc.greater(told["gone_max"], told["written_min"]), pc.greater(told["row_count_distinct"], 1))
    taken = pc.or_kleene(pc.greater(told["left_max"], told["written_min"]), by_another)
    return told["gone_max"].filter(pc.fill_null(taken, False)).combine_chunks()
