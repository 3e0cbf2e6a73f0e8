"""Both ends of a simulated dataflow: a source that reads each partition to the plan's offsets, and a target of rows.

The target is as durable as its snapshots: after a kill it is what it was at the last durable epoch.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.base import stop
from connectors.base.items import Item, Tick, Truncate
from libcore import position
from libcore.change import UNSET as UNSET_COLUMN
from libcore.change import ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.schema import Table
from tests.simulate.model import UNSET, Change, Restart, Row


class Killed(Exception):
    """The simulated kill -9."""


class Ending:
    """How a run ends: told of each place that is reached, it raises Killed at the one that its restart names.

    It is armed when a partition reads the plan's last epoch; where that has too few such places, the kill comes when
    the next one is asked for. `kill` is what to do then, where it is not to raise Killed.
    """

    def __init__(self, restart: Restart | None, kill: Callable[[], None] | None = None) -> None:
        self._restart, self._armed, self._kill = restart, False, kill
        self._left = restart.after if restart is not None else 0

    def at(self, place: str) -> None:
        """The place is reached once more. Raises Killed."""
        if self._armed and self._restart is not None and self._restart.where == place:
            self._left -= 1
            if self._left <= 0:
                self._end(place)

    def reads(self, epoch: int, epochs: int) -> None:
        """A partition begins an epoch of so many planned ones. Raises Killed."""
        if self._restart is None:
            return
        if epoch == epochs - 1:
            self._armed = True
        if self._restart.where == "stop":
            if epoch >= epochs - 1:
                stop.request()
        elif epoch >= epochs:
            self._end("between two epochs")
        self.at("source")

    def _end(self, place: str) -> None:
        if self._kill is not None:
            self._kill()
        raise Killed(place)


OPS = {"upsert": Op.UPSERT, "insert": Op.INSERT, "delete": Op.DELETE}
Partition = tuple[str, int]
Tables = dict[str, tuple[tuple[str, ...], dict[Row, Row]]]
"""By name: columns, rows by key."""
Results = dict[str, tuple[tuple[str, ...], list[Row]]]
"""By name: columns, rows."""


def batch_of(table: Table, changes: Sequence[Change], offset: int) -> ChangeBatch:
    """Messages from that offset on as a batch; a position is the offset, as a reader of topics gives it."""
    lacks = [
        sum(1 << index for index, value in enumerate(change.row) if value is UNSET).to_bytes(
            unset_bytes(table), "little"
        )
        for change in changes
    ]
    with_unset = any(any(bits) for bits in lacks)
    columns: list[list[Any]] = [
        [None if change.row[index] is UNSET else change.row[index] for change in changes]
        for index in range(len(table.columns))
    ]
    columns += [
        [int(OPS[change.op]) for change in changes],
        [position.make(1, 0, offset + index) for index in range(len(changes))],
        [None] * len(changes),
    ]
    if with_unset:
        columns.append(lacks)
    schema = arrow_schema(table, with_unset)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return ChangeBatch(table, pa.RecordBatch.from_arrays(arrays, schema=schema))


class PlannedPartition(StatefulSourcePartition[Item, int]):
    """One partition; the n-th call of a run reads to the n-th planned offset, then comes one empty epoch and the end.

    Args:
        messages: all of the partition. offset: where to begin. plan: offsets, one an epoch.
        ending: told of each call.
    """

    def __init__(
        self,
        table: Table,
        partition: int,
        messages: Sequence[Change],
        offset: int,
        plan: Sequence[int],
        ending: Ending,
    ) -> None:
        self._table, self._partition, self._messages, self._ending = table, partition, messages, ending
        self._offset, self._plan, self._epoch = offset, plan, 0

    def next_batch(self) -> Iterable[Item]:
        """The epoch's messages, closed by a Tick."""
        self._ending.reads(self._epoch, len(self._plan))
        if self._epoch > len(self._plan):
            raise StopIteration
        until = self._plan[self._epoch] if self._epoch < len(self._plan) else self._offset
        self._epoch += 1
        items: list[Item] = []
        while self._offset < until:
            items.append(self._next(until))
        return [*items, Tick()]

    def _next(self, until: int) -> Item:
        first = self._offset
        if self._messages[first].op == "truncate":
            self._offset += 1
            return Truncate(self._table.name, f"{self._table.name}:{self._partition}:{first}")
        while self._offset < until and self._messages[self._offset].op != "truncate":
            self._offset += 1
        return batch_of(self._table, self._messages[first : self._offset], first)

    def snapshot(self) -> int:
        """The next offset."""
        return self._offset


class PlannedSource(FixedPartitionedSource[Item, int]):
    """All partitions of all topics."""

    def __init__(
        self,
        tables: Mapping[str, Table],
        messages: Mapping[Partition, Sequence[Change]],
        plan: Sequence[Mapping[Partition, int]],
        ending: Ending,
    ) -> None:
        self._tables, self._messages, self._plan, self._ending = tables, messages, plan, ending

    def list_parts(self) -> list[str]:
        """ "table/partition" of each."""
        return [f"{table}/{partition}" for table, partition in self._messages]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> PlannedPartition:
        """Begin where the last durable epoch ended."""
        name, number = for_part.rsplit("/", 1)
        where = (name, int(number))
        plan = [offsets[where] for offsets in self._plan]
        return PlannedPartition(
            self._tables[name], int(number), self._messages[where], resume_state or 0, plan, self._ending
        )


class TargetPart(StatefulSinkPartition[Item, bytes]):
    """Rows by table and key, as a target has them."""

    def __init__(self, state: bytes | None, ending: Ending, file: Path | None = None) -> None:
        self.tables: Tables = {} if state is None else pickle.loads(state)
        self._ending, self._file = ending, file

    def write_batch(self, values: list[Item]) -> None:
        """Apply changes in their order."""
        self._ending.at("sink")
        for item in values:
            if isinstance(item, ChangeBatch):
                self._apply(item)
            elif isinstance(item, Truncate) and item.table in self.tables:
                self.tables[item.table][1].clear()

    def _apply(self, batch: ChangeBatch) -> None:
        table, record = batch.table, batch.record
        names = tuple(column.name for column in table.columns)
        rows = self.tables.setdefault(table.name, (names, {}))[1]
        count = len(names)
        columns = [column.to_pylist() for column in record.columns]
        unset = columns[record.schema.get_field_index(UNSET_COLUMN)] if batch.has_unset else None
        for number, op in enumerate(columns[count]):
            row = tuple(column[number] for column in columns[:count])
            key = tuple(row[index] for index in table.key_indexes)
            if op == Op.DELETE:
                rows.pop(key, None)
                continue
            if unset is not None:
                bits, former = int.from_bytes(unset[number], "little"), rows.get(key, (None,) * count)
                row = tuple(former[i] if bits >> i & 1 else value for i, value in enumerate(row))
            rows[key] = row

    def snapshot(self) -> bytes:
        """Everything."""
        self._ending.at("snapshot")
        return pickle.dumps(self.tables)

    def close(self) -> None:
        """Show the rows to other processes; what is shown counts only if the run came to its end."""
        if self._file is not None:
            self._file.write_bytes(pickle.dumps(self.tables))


class Target(FixedPartitionedSink[Item, bytes]):
    """Parts "0".. of a target; `contents` reads them after a run that came to its end.

    Args:
        shown: directory for a file a part, for a run in other processes.
    """

    def __init__(self, parts: int, ending: Ending, shown: Path | None = None) -> None:
        self._parts, self._ending, self._shown = parts, ending, shown
        self.built: list[TargetPart] = []

    def list_parts(self) -> list[str]:
        """All parts."""
        return [str(part) for part in range(self._parts)]

    def part_fn(self, item_key: str) -> int:
        """The key is the part's number."""
        return int(item_key)

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> TargetPart:
        """Begin with what the last durable epoch left."""
        file = None if self._shown is None else self._shown / f"part-{for_part}.pickle"
        part = TargetPart(resume_state, self._ending, file)
        self.built.append(part)
        return part


def contents(
    parts: Iterable[Mapping[str, tuple[tuple[str, ...], dict[Row, Row]]]],
) -> dict[str, tuple[tuple[str, ...], list[Row]]]:
    """(columns, rows) of each table, over all parts."""
    found: dict[str, tuple[tuple[str, ...], list[Row]]] = {}
    for part in parts:
        for name, (columns, rows) in part.items():
            found.setdefault(name, (columns, []))[1].extend(rows.values())
    return found
