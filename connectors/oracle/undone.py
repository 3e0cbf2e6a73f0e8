"""Rows that a savepoint or a failed statement undid: an undo (ROLLBACK = 1) takes back the latest row of its ROW_ID."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc


def without_undone(
    batches: Callable[[], Iterator[pa.RecordBatch]], undoes: bool
) -> Iterator[tuple[pa.RecordBatch, pa.Int64Array]]:
    """Each batch without rows that were undone and without the undos; and the numbers that its rows had over all.

    Args:
        batches: gives the rows of whole transactions, in order, as often as it is called.
        undoes: whether there is an undo among them.
    """
    gone = _gone(batches) if undoes else []
    first = 0
    for batch in batches():
        numbers = pa.array(range(first, first + len(batch)), pa.int64())
        first += len(batch)
        if gone:
            kept = pc.invert(pc.is_in(numbers, value_set=pa.array(gone, pa.int64())))
            batch, numbers = batch.filter(kept), numbers.filter(kept)
        yield batch, numbers


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
