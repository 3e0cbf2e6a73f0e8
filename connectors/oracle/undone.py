"""Rows that a savepoint or a failed statement undid: an undo (ROLLBACK = 1) takes back the latest row of its ROW_ID.

Writes of LOBs have no ROW_ID, and nobody says which of them were undone with their row: they become unsure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

LOB_PIECES = pa.array([10, 11, 28, 29], pa.int16())
"""LOB_WRITE, LOB_TRIM, LOB_ERASE by its two numbers."""
UNSURE = -1
"""STATUS of a LOB's write that may be undone."""


def without_undone(
    batches: Callable[[], Iterator[pa.RecordBatch]], undoes: bool
) -> Iterator[tuple[pa.RecordBatch, pa.Int64Array]]:
    """Each batch without rows that were undone and without the undos, writes of LOBs in transactions that undid
    something unsure; and the numbers that its rows had over all.

    Args:
        batches: gives the rows of whole transactions, in order, as often as it is called.
        undoes: whether there is an undo among them.
    """
    gone = _gone(batches) if undoes else []
    xids = _of_undos(batches) if undoes else pa.array([], pa.binary())
    first = 0
    for batch in batches():
        numbers = pa.array(range(first, first + len(batch)), pa.int64())
        first += len(batch)
        if gone:
            kept = pc.invert(pc.is_in(numbers, value_set=pa.array(gone, pa.int64())))
            batch, numbers = batch.filter(kept), numbers.filter(kept)
        batch = _unsure(batch, xids) if len(xids) else batch
        yield batch, numbers


def _of_undos(batches: Callable[[], Iterator[pa.RecordBatch]]) -> pa.BinaryArray:
    """The transactions that undid something."""
    none = pa.scalar(0, pa.int8())
    found = [one.column("XID").filter(pc.not_equal(one.column("ROLLBACK"), none)) for one in batches()]
    return pc.unique(pa.chunked_array(found, pa.binary()))


def _unsure(batch: pa.RecordBatch, xids: pa.BinaryArray) -> pa.RecordBatch:
    at = batch.schema.get_field_index("STATUS")
    pieces = pc.is_in(batch.column("OPERATION_CODE"), value_set=LOB_PIECES)
    mine = pc.and_(pieces, pc.is_in(batch.column("XID"), value_set=xids))
    statuses = pc.if_else(mine, pa.scalar(UNSURE, pa.int32()), batch.column(at))
    return batch.set_column(at, batch.schema.field(at), statuses)


def _gone(batches: Callable[[], Iterator[pa.RecordBatch]]) -> list[int]:
    """Numbers of undone rows and of their undos, with all pieces of a statement."""
    undone = pa.scalar(0, pa.int8())
    ids = [one.filter(pc.not_equal(one.column("ROLLBACK"), undone)).column("ROW_ID") for one in batches()]
    wanted = pc.unique(pa.chunked_array(ids, pa.utf8()))
    standing: dict[
        tuple[bytes, str], list[list[int]]
    ] = {}  # statements that nothing undid, each as its pieces' numbers
    gone: list[list[int]] = []
    first, goes_on, pieces = 0, False, list[int]()
    for batch in batches():
        csf, xids, undos = (batch.column(name) for name in ("CSF", "XID", "ROLLBACK"))
        for place in pc.indices_nonzero(pc.is_in(batch.column("ROW_ID"), value_set=wanted)).to_pylist():
            if csf[place - 1].as_py() if place else goes_on:
                pieces.append(first + place)
                continue
            pieces = [first + place]
            stack = standing.setdefault((xids[place].as_py(), batch.column("ROW_ID")[place].as_py()), [])
            if undos[place].as_py():
                gone += [pieces, stack.pop()] if stack else [pieces]
            else:
                stack.append(pieces)
        first += len(batch)
        goes_on = len(batch) > 0 and bool(csf[len(batch) - 1].as_py())
    return [number for statement in gone for number in statement]
