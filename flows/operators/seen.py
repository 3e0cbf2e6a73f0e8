"""What a source partition's epoch shows of event time: the greatest value of one column, snapshot rows left out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.items import Tick
from flows.operators.watermarks import Seen
from libcore.change import POSITION, ChangeBatch, Op, op_is
from libcore.position import COMMIT_BYTES, GENERATION_BYTES
from libcore.window_columns import time_us

_NO_COMMIT = pa.scalar(bytes(COMMIT_BYTES), pa.binary())


class Seeing:
    """The mapper from a source's items to Seen, one for each of its partitions and epochs.

    The items of a source partition's epoch stand together and end with its Tick, which names the partition.

    Args:
        topic: the table whose rows tell the time.
        column: of that table as it comes from the source.
        partition: the only one that brings it; "": they are "topic/number".
    """

    def __init__(self, topic: str, column: str, partition: str = "") -> None:
        self._topic, self._column, self._partition = topic, column, partition
        self._rows, self._us = 0, -1 << 63

    def __call__(self, items: Iterable[Any]) -> list[Seen]:
        """Seen items; rows whose Tick has not come yet are kept in mind."""
        found = []
        for item in items:
            if isinstance(item, ChangeBatch) and item.table.name == self._topic:
                self._rows += item.row_count
                self._us = max(self._us, _greatest(item, self._column))
            elif isinstance(item, Tick) and self._brings_it(item.partition):
                found.append(Seen(item.partition, self._rows, self._us if self._us > -1 << 63 else None))
                self._rows, self._us = 0, -1 << 63
        return found

    def _brings_it(self, partition: str) -> bool:
        return partition == self._partition if self._partition else partition.rpartition("/")[0] == self._topic


def _greatest(batch: ChangeBatch, column: str) -> int:
    """The greatest event time of rows that are of no snapshot, in microseconds; below all times where there is none.

    A row of the initial snapshot is new and stands before its partition's first commit.
    """
    record = batch.record
    if record.schema.get_field_index(column) < 0:
        return -1 << 63
    commits = pc.binary_slice(
        record.column(POSITION).cast(pa.binary()), GENERATION_BYTES, GENERATION_BYTES + COMMIT_BYTES
    )
    snapshot = pc.and_(pc.equal(commits, _NO_COMMIT), op_is(record, Op.INSERT))
    greatest = pc.max(time_us(record.column(column)).filter(pc.invert(snapshot))).as_py()
    return -1 << 63 if greatest is None else int(greatest)
