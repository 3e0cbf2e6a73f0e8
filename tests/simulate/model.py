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
    """A source table and the number of its topic's partitions."""

    table: Table
    partitions: int


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

    The kind "all" has neither time nor sizes.
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


Step = Join | Window


@dataclass(frozen=True, slots=True)
class Change:
    """A message: op "upsert", "insert", "delete" (key columns set, others None) or "truncate" (no row)."""

    table: str
    partition: int
    op: str
    row: Row = ()


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


Event = Change | Redeliver | Epoch | Restart


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

    def topic(self, name: str) -> Topic:
        """The topic of that table."""
        return next(topic for topic in self.topics if topic.table.name == name)

    @property
    def results(self) -> tuple[str, ...]:
        """What is compared: the results of all steps."""
        return tuple(step.out for step in self.steps)


@dataclass(frozen=True, slots=True)
class Run:
    """From one start to its end. `plan`: per epoch, the offset to which each partition is read."""

    workers: int
    plan: tuple[Mapping[tuple[str, int], int], ...]
    restart: Restart | None


def messages(scenario: Scenario) -> dict[tuple[str, int], list[Change]]:
    """What each partition holds, redeliveries in their places."""
    return _walk(scenario)[0]


def runs(scenario: Scenario) -> list[Run]:
    """The starts of a scenario: a start goes on where the last durable epoch ended, with the later epochs' borders."""
    return _walk(scenario)[1]


def _walk(scenario: Scenario) -> tuple[dict[tuple[str, int], list[Change]], list[Run]]:
    held: dict[tuple[str, int], list[Change]] = {
        (topic.table.name, partition): [] for topic in scenario.topics for partition in range(topic.partitions)
    }
    found: list[Run] = []
    plan: list[Mapping[tuple[str, int], int]] = []
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
            case Redeliver(table, partition, count):
                there = held[table, partition]
                # A truncate stands alone in its epoch, so what follows one can come again, but not the truncate.
                tail = there[-count:]
                last = max((at for at, change in enumerate(tail) if change.op == "truncate"), default=-1)
                there.extend(tail[last + 1 :])
            case Epoch():
                border()
            case Restart():
                border()
                found.append(Run(workers, tuple(plan), event))
                plan, workers = [], event.workers
    border()
    found.append(Run(workers, tuple(plan), None))
    return held, found


def final_rows(scenario: Scenario) -> dict[str, list[Row]]:
    """The source tables' rows after all changes, by table, in key order of first appearance."""
    tables = {topic.table.name: topic.table for topic in scenario.topics}
    rows: dict[str, dict[Row, Row]] = {name: {} for name in tables}
    for event in scenario.events:
        if not isinstance(event, Change):
            continue
        there = rows[event.table]
        if event.op == "truncate":
            there.clear()
            continue
        key = key_of(tables[event.table], event.row)
        if event.op == "delete":
            there.pop(key, None)
        else:
            former = there.get(key, (None,) * len(event.row))
            there[key] = tuple(old if new is UNSET else new for old, new in zip(former, event.row, strict=True))
    return {name: list(there.values()) for name, there in rows.items()}


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
    )
    for topic in scenario.topics:
        columns = ", ".join(f"{column.name} {column.type}" for column in topic.table.columns)
        yield f"  topic {topic.table.name}({columns}; key {', '.join(topic.table.key)}) partitions {topic.partitions}"
    for step in scenario.steps:
        yield f"  {step}"
    for event in scenario.events:
        match event:
            case Change(table, partition, op, row):
                yield f"    {table}/{partition} {op} {', '.join(map(repr, row))}"
            case Redeliver(table, partition, count):
                yield f"    {table}/{partition} again, the last {count}"
            case Epoch():
                yield "    -- epoch"
            case Restart(where, after, workers):
                how = "stop" if where == "stop" else f"kill in {where} (call {after})"
                yield f"    == {how}, then {workers} workers"
