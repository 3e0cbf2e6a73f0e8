"""What a simulated run is made of: tables, steps, and one list of events that can be printed, replayed and cut.

The events stand in the order in which the topics' messages are read; between two `Epoch`s lies what one epoch brings.
A change carries its partition, so leaving events out never mends the order of the others: every sublist is a scenario.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from libcore.schema import Table


class Lacking(enum.Enum):
    """A value that a change does not bring, which is not NULL."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Lacking.UNSET
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Topic:
    """A source table and the number of its topic's partitions.

    `first`: so many of its columns are there from the first message on, the others are added later; None: all are.
    """

    table: Table
    partitions: int
    first: int | None = None

    def as_of(self, width: int) -> Table:
        """The table with so many of its columns."""
        return Table(self.table.name, self.table.columns[:width], self.table.key)

    @property
    def narrow(self) -> Table:
        """The table as the first messages have it."""
        return self.table if self.first is None else self.as_of(self.first)


@dataclass(frozen=True, slots=True)
class Join:
    """A fact with columns of one dimension row: on fact column -> dimension column, take dimension column -> result."""

    fact: str
    dimension: str
    on: tuple[tuple[str, str], ...]
    take: tuple[tuple[str, str], ...]
    how: str
    out: str


@dataclass(frozen=True, slots=True)
class Window:
    """Aggregates of a table per group and window; sizes in microseconds, `aggregates` result column -> expression.

    The kind "all" has neither time nor sizes. `lateness_us`: None for no bound; `out_of_order_us` of the watermark.
    """

    table: str
    by: tuple[str, ...]
    time: str | None
    kind: str
    size_us: int
    slide_us: int
    gap_us: int
    aggregates: tuple[tuple[str, str], ...]
    emit: str
    out: str
    lateness_us: int | None = None
    out_of_order_us: int = 0

    @property
    def bounded(self) -> bool:
        """Whether its result depends on when rows come."""
        return self.lateness_us is not None or self.emit == "final"

    @property
    def late(self) -> str:
        """The table of late rows."""
        return f"{self.out}_late"


@dataclass(frozen=True, slots=True)
class Due:
    """A table with a flag that turns true when the moment in the column `at` has passed."""

    table: str
    at: str
    flag: str
    zone: str
    out: str


Step = Join | Window | Due


def reads(step: Step) -> tuple[str, ...]:
    """The tables that a step reads."""
    return (step.fact, step.dimension) if isinstance(step, Join) else (step.table,)


@dataclass(frozen=True, slots=True)
class Change:
    """A message: op "upsert", "insert", "delete" (key columns set, others None) or "truncate" (no row).

    A row has as many values as its table had columns. Of a source's transactions: its number, the change's number among
    those of its table in there, and whether the message is one that came before.
    """

    table: str
    partition: int
    op: str
    row: Row = ()
    transaction: int | None = None
    order: int = 0
    again: bool = False


@dataclass(frozen=True, slots=True)
class Commit:
    """The mark that a transaction is complete, with its changes by table, in the topic of transactions."""

    transaction: int
    counts: tuple[tuple[str, int], ...]
    again: bool = False
    table: str = "transactions"
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Time:
    """The machine's clock shows so many microseconds since 1970."""

    us: int
    table: str = "clock"
    partition: int = 0


@dataclass(frozen=True, slots=True)
class Redeliver:
    """The last `count` messages read from a partition come once more."""

    table: str
    partition: int
    count: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """An epoch's border."""


@dataclass(frozen=True, slots=True)
class Restart:
    """An end in the epoch that is open here, then a start with `workers`.

    A kill at the `after`-th call of `where`, or between this epoch and the next where that has fewer calls; or
    "stop": an orderly end.
    """

    where: str
    after: int
    workers: int


Message = Change | Commit | Time
Event = Message | Redeliver | Epoch | Restart
Partition = tuple[str, int]
TRANSACTIONS, CLOCK = ("transactions", 0), ("clock", 0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it.

    `workers` are those of the first start, `slots` those of the state; an epoch's changes go into a file above
    `inline_rows`, and a slot's state is merged above `entries`.
    """

    seed: int
    topics: tuple[Topic, ...]
    steps: tuple[Step, ...]
    events: tuple[Event, ...]
    workers: int
    slots: int
    inline_rows: int
    entries: int
    document: bool = False
    snapshot: int = 0

    def topic(self, name: str) -> Topic:
        """The topic of that table."""
        return next(topic for topic in self.topics if topic.table.name == name)

    @property
    def results(self) -> tuple[str, ...]:
        """What is compared: the results of all steps."""
        return tuple(step.out for step in self.steps)

    @property
    def bounded(self) -> bool:
        """Whether a result depends on which rows one epoch brings."""
        return any(isinstance(step, Window) and step.bounded for step in self.steps)


@dataclass(frozen=True, slots=True)
class Run:
    """From one start to its end. `plan`: per epoch, the offset to which each partition is read."""

    workers: int
    plan: tuple[Mapping[Partition, int], ...]
    restart: Restart | None


def messages(scenario: Scenario) -> dict[Partition, list[Message]]:
    """What each partition holds, redeliveries in their places."""
    return _walk(scenario)[0]


def runs(scenario: Scenario) -> list[Run]:
    """The starts of a scenario: a start goes on where the last durable epoch ended, with the later epochs' borders.

    Where results depend on what one epoch brings, a start keeps the border of the epoch that was open, too.
    """
    return _walk(scenario)[1]


def _walk(scenario: Scenario) -> tuple[dict[Partition, list[Message]], list[Run]]:
    held: dict[Partition, list[Message]] = {
        (topic.table.name, partition): [] for topic in scenario.topics for partition in range(topic.partitions)
    }
    if scenario.document:
        held[TRANSACTIONS] = []
    if any(isinstance(step, Due) for step in scenario.steps):
        held[CLOCK] = []
    found: list[Run] = []
    plan: list[Mapping[Partition, int]] = []
    workers = scenario.workers

    def border() -> None:
        offsets = {where: len(there) for where, there in held.items()}
        if not plan or plan[-1] != offsets:
            plan.append(offsets)

    for event in scenario.events:
        match event:
            case Change(table, partition, op):
                if op == "truncate":
                    border()
                held[table, partition].append(event)
                if op == "truncate":
                    border()
            case Commit() | Time():
                if (event.table, event.partition) in held:
                    held[event.table, event.partition].append(event)
            case Redeliver(table, partition, count):
                there = held[table, partition]
                # A truncate stands alone in its epoch, so what follows one can come again, but not the truncate.
                tail = there[-count:]
                last = max(
                    (at for at, change in enumerate(tail) if getattr(change, "op", "") == "truncate"), default=-1
                )
                there.extend(tail[last + 1 :])
            case Epoch():
                border()
            case Restart():
                border()
                found.append(Run(workers, tuple(plan), event))
                plan, workers = plan[-1:] if scenario.bounded else [], event.workers
    border()
    found.append(Run(workers, tuple(plan), None))
    return held, found


def final_rows(scenario: Scenario, transactions: int | None = None) -> dict[str, list[Row]]:
    """The source tables' rows after all changes, by table, in key order of first appearance.

    Args:
        transactions: after so many transactions only.
    """
    tables = {topic.table.name: topic.table for topic in scenario.topics}
    rows: dict[str, dict[Row, Row]] = {name: {} for name in tables}
    for event in scenario.events:
        if not isinstance(event, Change) or event.again:
            continue
        if transactions is not None and (event.transaction or 0) >= transactions:
            continue
        there = rows[event.table]
        if event.op == "truncate":
            there.clear()
        else:
            put(tables[event.table], there, event)
    return {name: list(there.values()) for name, there in rows.items()}


def put(table: Table, rows: dict[Row, Row], change: Change) -> None:
    """Apply an upsert or a delete; values that did not come are those that the row has, or NULL."""
    key = key_of(table, change.row)
    if change.op == "delete":
        rows.pop(key, None)
        return
    former = rows.get(key, (None,) * len(table.columns))
    row = (*change.row, *[UNSET] * (len(table.columns) - len(change.row)))
    rows[key] = tuple(old if new is UNSET else new for old, new in zip(former, row, strict=True))


def key_of(table: Table, row: Row) -> Row:
    """The key values of a row."""
    return tuple(row[index] for index in table.key_indexes)


def show(scenario: Scenario) -> str:
    """The scenario as text that a person can follow."""
    return "\n".join(_lines(scenario))


def _lines(scenario: Scenario) -> Iterator[str]:
    yield (
        f"seed {scenario.seed}: {scenario.workers} workers at first, {scenario.slots} slots, "
        f"files above {scenario.inline_rows} rows, merged above {scenario.entries}"
        + (", whole transactions" if scenario.document else "")
        + (f", snapshots of {scenario.snapshot}" if scenario.snapshot else "")
    )
    for topic in scenario.topics:
        columns = ", ".join(f"{column.name} {column.type}" for column in topic.table.columns)
        yield f"  topic {topic.table.name}({columns}; key {', '.join(topic.table.key)}) partitions {topic.partitions}"
        if topic.first is not None:
            yield f"    at first with {topic.first} columns"
    for step in scenario.steps:
        yield f"  {step}"
    for event in scenario.events:
        match event:
            case Change(table, partition, op, row):
                of = "" if event.transaction is None else f" (transaction {event.transaction}, {event.order})"
                again = " again" if event.again else ""
                yield f"    {table}/{partition} {op} {', '.join(map(repr, row))}{of}{again}"
            case Commit(transaction, counts, again):
                yield f"    transaction {transaction} ends: {dict(counts)}{' again' if again else ''}"
            case Time(us):
                yield f"    it is {us} us"
            case Redeliver(table, partition, count):
                yield f"    {table}/{partition} again, the last {count}"
            case Epoch():
                yield "    -- epoch"
            case Restart(where, after, workers):
                how = "stop" if where == "stop" else f"kill in {where} (call {after})"
                yield f"    == {how}, then {workers} workers"
