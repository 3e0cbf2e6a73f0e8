"""Both ends of a simulated dataflow: a source that reads each partition to the plan's offsets, and a target of rows.

The target is as durable as its snapshots: after a kill it is what it was at the last durable epoch.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from connectors.base import stop
from connectors.base.clock import PART, Clock
from connectors.base.epoch_writes import EpochWrites
from connectors.base.items import Item, Tick, Truncate
from libcore import position
from libcore.change import TX, TX_ORDER, ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.change import UNSET as UNSET_COLUMN
from libcore.schema import Table
from libcore.transaction_mark import END, Mark, to_batch
from tests.simulate.model import CLOCK, UNSET, Change, Commit, Message, Partition, Restart, Row, Scenario, Time, Topic


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
Tables = dict[str, tuple[tuple[str, ...], dict[Row, Row]]]
"""By name: columns, rows by key; of a keyless table by a number."""
Results = dict[str, tuple[tuple[str, ...], list[Row]]]
"""By name: columns, rows."""


@dataclass(frozen=True)
class Found:
    """What a run left: the target's tables, and each state of them that could be seen, where they are of one part."""

    tables: Results
    states: Sequence[Results] = ()


def batch_of(table: Table, changes: Sequence[Change], offset: int, snapshot: int = 0) -> ChangeBatch:
    """Messages from that offset on as a batch; a position is the offset, as a reader of topics gives it.

    Args:
        table: with as many columns as the rows. snapshot: messages before that offset stand before all commits.
    """
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
    offsets = range(offset, offset + len(changes))
    columns += [
        [int(OPS[change.op]) for change in changes],
        [position.make(1, int(number >= snapshot), number) for number in offsets],
        [None] * len(changes),
    ]
    if with_unset:
        columns.append(lacks)
    schema = arrow_schema(table, with_unset)
    if changes[0].transaction is not None:
        columns += [[row_transaction(change) for change in changes], [change.order for change in changes]]
        schema = schema.append(pa.field(TX, pa.string())).append(pa.field(TX_ORDER, pa.int64()))
    arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return ChangeBatch(table, pa.RecordBatch.from_arrays(arrays, schema=schema))


def row_transaction(change: Change) -> str:
    """The transaction's id in a row, as PostgreSQL has it: xid:lsn."""
    assert change.transaction is not None
    return f"{700 + change.transaction}:{1000 * change.transaction + change.order}"


def end_mark(commit: Commit) -> ChangeBatch:
    """The mark as the decoder of the topic of transactions gives it."""
    name = f"{700 + commit.transaction}:{1000 * commit.transaction + 999}"
    total = sum(count for _, count in commit.counts)
    return to_batch([Mark(END, name, None, total), *(Mark(END, name, table, count) for table, count in commit.counts)])


class PlannedPartition(StatefulSourcePartition[Item, int]):
    """One partition; the n-th call of a run reads to the n-th planned offset, then comes one empty epoch and the end.

    Args:
        where: table and number. topic: the table's; None of marks and times.
        messages: all of the partition. offset: where to begin. plan: offsets, one an epoch.
        ending: told of each call. snapshot: see batch_of.
    """

    def __init__(
        self,
        where: Partition,
        topic: Topic | None,
        messages: Sequence[Message],
        offset: int,
        plan: Sequence[int],
        ending: Ending,
        snapshot: int = 0,
    ) -> None:
        self._where, self._topic, self._messages, self._ending = where, topic, messages, ending
        self._offset, self._plan, self._snapshot, self._epoch = offset, plan, snapshot, 0

    def next_batch(self) -> Iterable[Item]:
        """The epoch's messages, closed by a Tick."""
        self._ending.reads(self._epoch, len(self._plan))
        if self._epoch > len(self._plan):
            raise StopIteration
        until = self._plan[self._epoch] if self._epoch < len(self._plan) else self._offset
        self._epoch += 1
        items: list[Item] = self._first()
        while self._offset < until:
            items.append(self._next(until))
        return [*items, Tick("{}/{}".format(*self._where))]

    def _first(self) -> list[Any]:
        """A clock says at each start what time it is."""
        if self._where != CLOCK or self._epoch > 1:
            return []
        return [Clock(max(e.us for e in self._messages[: self._offset]))] if self._offset else []

    def _next(self, until: int) -> Any:
        first = self._offset
        message = self._messages[first]
        self._offset += 1
        if isinstance(message, Time):
            return Clock(message.us)
        if isinstance(message, Commit):
            return end_mark(message)
        name, number = self._where
        if message.op == "truncate":
            return Truncate(name, f"{name}:{number}:{first}")
        changes = [message]
        while self._offset < until and len(changes[0].row) == len(getattr(self._messages[self._offset], "row", ())):
            changes.append(self._messages[self._offset])
            self._offset += 1
        assert self._topic is not None
        return batch_of(self._topic.as_of(len(message.row)), changes, first, self._snapshot)

    def snapshot(self) -> int:
        """The next offset."""
        return self._offset


class PlannedSource(FixedPartitionedSource[Item, int]):
    """All partitions of all topics, or the clock's one."""

    def __init__(
        self,
        scenario: Scenario,
        messages: Mapping[Partition, Sequence[Message]],
        plan: Sequence[Mapping[Partition, int]],
        ending: Ending,
    ) -> None:
        self._scenario, self._messages, self._plan, self._ending = scenario, messages, plan, ending

    def list_parts(self) -> list[str]:
        """ "table/partition" of each."""
        return [f"{table}/{partition}" for table, partition in self._messages]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> PlannedPartition:
        """Begin where the last durable epoch ended."""
        name, number = for_part.rsplit("/", 1)
        where = (name, int(number))
        plan = [offsets[where] for offsets in self._plan]
        topic = next((topic for topic in self._scenario.topics if topic.table.name == name), None)
        return PlannedPartition(
            where, topic, self._messages[where], resume_state or 0, plan, self._ending, self._scenario.snapshot
        )


class PlannedClock(PlannedSource):
    """The clock's part, for SourceWithClock."""

    def list_parts(self) -> list[str]:
        """The one part there is."""
        return [PART]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> PlannedPartition:
        """Go on at the next time."""
        return super().build_part(step_id, "{}/{}".format(*CLOCK), resume_state)


class LateWrites(EpochWrites):
    """Files are written when the sink waits for them, as late as can be: whoever reads one before finds none."""

    def __init__(self) -> None:
        super().__init__()
        self._late: list[Callable[[], None]] = []

    def write(self, function: Callable[..., Any], *arguments: Any, at_once: bool = False) -> Future[Any]:
        """See EpochWrites.write."""
        if at_once or not self._waited_for:
            return super().write(function, *arguments, at_once=at_once)
        future: Future[Any] = Future()
        self._late.append(lambda: future.set_result(function(*arguments)))
        return future

    def wait(self) -> None:
        """See EpochWrites.wait."""
        late, self._late = self._late, []
        for write in late:
            write()


class TargetPart(StatefulSinkPartition[Item, bytes]):
    """Rows by table and key, as a target has them; what an epoch brings is seen at once, at its end.

    Args:
        state: of the last durable epoch. ending: told of each call. writes: waited for at an epoch's end, as by the
            real sinks. file: where to show the rows at the end.
        placed: tables whose rows' positions say what is newest in an epoch, as the real sinks go by it; each state that
            could be seen is kept then.
    """

    def __init__(
        self,
        state: bytes | None,
        ending: Ending,
        writes: EpochWrites,
        file: Path | None = None,
        placed: frozenset[str] = frozenset(),
    ) -> None:
        writes.will_wait()
        self._writes = writes
        self.tables: Tables
        self.states: list[Results]
        self.tables, self.states = ({}, []) if state is None else pickle.loads(state)
        self._ending, self._file, self._placed = ending, file, placed
        self._newest: dict[tuple[str, Row], bytes] = {}  # in the open epoch

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
        known, rows = self.tables.setdefault(table.name, (names, {}))
        if more := tuple(name for name in names if name not in known):
            known = (*known, *more)
            rows = {key: (*row, *[None] * len(more)) for key, row in rows.items()}
            self.tables[table.name] = known, rows
        columns = [column.to_pylist() for column in record.columns]
        ops = columns[len(names)]
        unset = columns[record.schema.get_field_index(UNSET_COLUMN)] if batch.has_unset else None
        for number, op in enumerate(ops):
            sent = {name: column[number] for name, column in zip(names, columns, strict=False)}
            if not table.key:
                self._copy(rows, tuple(sent[name] for name in known), op)
                continue
            key = tuple(sent[name] for name in table.key)
            if table.name in self._placed:
                place = columns[len(names) + 1][number]
                if place < self._newest.get((table.name, key), b""):
                    continue
                self._newest[table.name, key] = place
            if op == Op.DELETE:
                rows.pop(key, None)
                continue
            bits = 0 if unset is None else int.from_bytes(unset[number], "little")
            lacking = {name for place, name in enumerate(names) if bits >> place & 1}
            former = rows.get(key, (None,) * len(known))
            rows[key] = tuple(
                old if name not in sent or name in lacking else sent[name]
                for name, old in zip(known, former, strict=True)
            )

    @staticmethod
    def _copy(rows: dict[Row, Row], row: Row, op: int) -> None:
        """A row of a keyless table more, or one like it less."""
        if op != Op.DELETE:
            rows[(max((number for (number,) in rows), default=0) + 1,)] = row
        elif (copy := next((number for number, held in rows.items() if held == row), None)) is not None:
            del rows[copy]

    def snapshot(self) -> bytes:
        """Everything."""
        self._ending.at("snapshot")
        self._writes.wait()
        self._newest.clear()
        if self._placed:
            self.states.append(contents([self.tables]))
        return pickle.dumps((self.tables, self.states))

    def close(self) -> None:
        """Show the rows to other processes; what is shown counts only if the run came to its end."""
        if self._file is not None:
            self._file.write_bytes(pickle.dumps((self.tables, self.states)))


class Target(FixedPartitionedSink[Item, bytes]):
    """Parts "0".. of a target; `built` are to be read after a run that came to its end.

    Args:
        shown: directory for a file a part, for a run in other processes. writes, placed: see TargetPart.
    """

    def __init__(
        self,
        parts: int,
        ending: Ending,
        writes: EpochWrites,
        shown: Path | None = None,
        placed: frozenset[str] = frozenset(),
    ) -> None:
        self._parts, self._ending, self._writes, self._shown, self._placed = parts, ending, writes, shown, placed
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
        part = TargetPart(resume_state, self._ending, self._writes, file, self._placed)
        self.built.append(part)
        return part


def contents(parts: Sequence[Tables]) -> Results:
    """(columns, rows) of each table, over all parts; a part may have seen fewer of a table's columns."""
    found: Results = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        there = [part[name] for part in parts if name in part]
        columns = tuple(dict.fromkeys(column for names, _ in there for column in names))
        rows: list[Row] = []
        for names, held in there:
            places = [names.index(column) if column in names else None for column in columns]
            rows += [tuple(None if at is None else row[at] for at in places) for row in held.values()]
        found[name] = columns, rows
    return found
