"""A small world for the join: tables, random histories, processes with channels between them, and the SQL join."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from libcore.change import OP, UNSET, ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.hashing import hash_rows
from libcore.join import FactRouter, JoinPlan, Latest, Matcher, plan_join
from libcore.position import make
from libcore.schema import Column, Table, parse_type
from libcore.slots import scatter

Values = dict[str, Any]
Rows = dict[tuple[Any, ...], Values]
SLOTS = 8


def table(name: str, columns: str, key: str) -> Table:
    """A table from "name type, name type" and "name, name"."""
    pairs = [part.split() for part in columns.split(", ")]
    return Table(name, tuple(Column(c, parse_type(t)) for c, t in pairs), tuple(key.split(", ")) if key else ())


ITEMS = table(
    "items", "id int64, order_id int32, note string, quantity int64, price decimal(18,4), payload bytes", "id"
)
ORDERS = table("orders", "id int64, customer string, status string, total decimal(38,2), placed timestamp", "id")
CUSTOMERS = table("customers", "name string, region string, vip bool", "name")
LINES = table("lines", "code string, amount decimal(10,2), zone string, day date, text string", "code, amount")
RATES = table("rates", "since date, zone string, rate float64, big decimal(60,3)", "since, zone")
PEOPLE = table("people", "id int64, boss int64, name string, score float64", "id")
SMALL = table("small", "id int16, label string", "id")
PLANS: dict[str, JoinPlan] = {
    "inner": plan_join(ITEMS, ORDERS, {"order_id": "id"}, {"status": "status", "total": "sum"}, "inner", "lines"),
    "left": plan_join(ITEMS, ORDERS, {"order_id": "id"}, {"status": "status", "placed": "at"}, "left", "lines"),
    "composite": plan_join(LINES, RATES, {"zone": "zone", "day": "since"}, {"rate": "rate"}, "inner", "rated"),
    "composite left": plan_join(LINES, RATES, {"zone": "zone", "day": "since"}, {"big": "big"}, "left", "rated"),
    "itself": plan_join(PEOPLE, PEOPLE, {"boss": "id"}, {"name": "boss_name", "score": "s"}, "left", "staff"),
    "one to one": plan_join(PEOPLE, ORDERS, {"id": "id"}, {"status": "status"}, "inner", "pairs"),
    "narrow": plan_join(PEOPLE, SMALL, {"boss": "id"}, {"label": "label"}, "left", "labelled"),
    "take nothing": plan_join(ITEMS, ORDERS, {"order_id": "id"}, {}, "inner", "known"),
    "take all": plan_join(
        ITEMS, ORDERS, {"order_id": "id"}, {c.name: f"o_{c.name}" for c in ORDERS.columns}, "inner", "wide"
    ),
}


def value(rng: random.Random, column: Column) -> Any:
    """A value of the column's type out of a few, so that keys meet; no NULL."""
    kind, small = column.type.name, rng.randrange(4)
    if kind in ("int16", "int32"):
        return small
    if kind == "int64":
        return rng.choice([0, 1, 2, 3, 2**16 + 1])
    if kind == "string":
        return ["", "a", "b", "a longer text that is not stored inline"][small]
    if kind == "bytes":
        return [b"", b"\0", b"ab", b"0123456789abcdef0"][small]
    if kind == "decimal":
        return Decimal(["0", "1.5", "-1.5", "12345.25"][small])
    if kind == "date":
        return date(2024, 1, 1) + timedelta(days=small)
    if kind == "float64":
        return [0.0, 1.5, float("inf"), -2.25][small]
    if kind == "bool":
        return small > 1
    assert kind == "timestamp", kind
    return datetime(2024, 1, 1) + timedelta(microseconds=small)


@dataclass
class Event:
    """A change of one row as its source tells it."""

    table: Table
    op: Op
    values: Values
    lacks: frozenset[str] = frozenset()


@dataclass
class Source:
    """A database: its tables, and events that changed them."""

    rng: random.Random
    rows: dict[str, Rows] = field(default_factory=dict)

    def change(self, of: Table, foreign: Sequence[str] = (), kept: Sequence[str] = ()) -> list[Event]:
        """One random change: an insert, update, delete, or a key change, which is a delete and an insert."""
        rows = self.rows.setdefault(of.name, {})
        new = {c.name: self._value(of, c, foreign) for c in of.columns}
        key = tuple(new[name] for name in of.key)
        if key not in rows:
            events = []
            if rows and self.rng.random() < 0.15:  # the key itself changed
                events.append(self._delete(of, rows, self.rng.choice(sorted(rows, key=repr))))
            rows[key] = new
            return [*events, Event(of, self.rng.choice([Op.INSERT, Op.UPSERT]), dict(new))]
        if self.rng.random() < 0.3:
            return [self._delete(of, rows, key)]
        old, lacks = rows[key], set()
        for name in [c.name for c in of.columns if c.name not in of.key]:
            if self.rng.random() < 0.4:
                new[name] = old[name]
        moved = any(new[name] != old[name] for name in foreign)
        for name in [c.name for c in of.columns if c.name not in of.key]:
            # An unchanged value that the source leaves out; one that nobody keeps only where the row stays in place.
            if new[name] == old[name] and self.rng.random() < 0.5 and (name in kept or not moved):
                lacks.add(name)
        rows[key] = new
        sent = {name: None if name in lacks else value for name, value in new.items()}
        return [Event(of, Op.UPSERT, sent, frozenset(lacks))]

    def _value(self, of: Table, column: Column, foreign: Sequence[str]) -> Any:
        nullable = column.name not in of.key
        return None if nullable and self.rng.random() < 0.2 else value(self.rng, column)

    def _delete(self, of: Table, rows: Rows, key: tuple[Any, ...]) -> Event:
        del rows[key]
        return Event(of, Op.DELETE, dict(zip(of.key, key, strict=True)))


def batch(events: Sequence[Event], start: int = 0) -> ChangeBatch:
    """The events of one table as a batch; positions in order from `start`."""
    of = events[0].table
    with_unset = any(event.lacks for event in events)
    schema = arrow_schema(of, with_unset=with_unset)
    columns: list[list[Any]] = [[event.values.get(c.name) for event in events] for c in of.columns]
    columns += [[int(event.op) for event in events], [make(0, 1, start + row) for row in range(len(events))]]
    columns.append([datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=start + row) for row in range(len(events))])
    if with_unset:
        numbers = [sum(1 << i for i, c in enumerate(of.columns) if c.name in e.lacks) for e in events]
        columns.append([number.to_bytes(unset_bytes(of), "little") for number in numbers])
    arrays = [pa.array(column, f.type) for column, f in zip(columns, schema, strict=True)]
    return ChangeBatch(of, pa.RecordBatch.from_arrays(arrays, schema=schema))


def sql_join(plan: JoinPlan, facts: Rows, dimension: Rows) -> Rows:
    """The join as a nested loop."""
    result = {}
    for key, row in facts.items():
        partner = dimension.get(tuple(row[name] for name in plan.foreign_key))
        if partner is not None or not plan.inner:
            result[key] = {**row, **{here: partner and partner[there] for there, here in plan.take.items()}}
    return result


def apply(target: Rows, change: ChangeBatch) -> None:
    """What a target does with a batch; a delete of a row that it does not have is no error."""
    names = [column.name for column in change.table.columns]
    for row in change.record.to_pylist():
        key = tuple(row[name] for name in change.table.key)
        if row[OP] == Op.DELETE:
            target.pop(key, None)
            continue
        bits = int.from_bytes(row.get(UNSET, b""), "little")
        old = target.get(key, {})
        target[key] = {name: old.get(name) if bits >> i & 1 else row[name] for i, name in enumerate(names)}


class Cluster:
    """Processes that share the slots of a chain of joins; what one sends another arrives in order, all else at random.

    A message is (join number, stage, payload): "a" facts, "b" routed facts, "d" dimension, "c" results.
    """

    def __init__(self, rng: random.Random, plans: Sequence[JoinPlan], processes: int, target: Rows) -> None:
        self.rng, self.plans, self.target = rng, plans, target
        self.owner = bytes(rng.randrange(processes) for _ in range(SLOTS))
        self.routers = [[FactRouter(plan, SLOTS) for plan in plans] for _ in range(processes)]
        self.matchers = [[Matcher(plan, SLOTS, rows_max=3) for plan in plans] for _ in range(processes)]
        self.latest = [[Latest(plan) for plan in plans] for _ in range(processes)]
        self.channels: dict[tuple[Any, ...], deque[Any]] = {}

    def send(self, sender: Any, join: int, stage: str, record: pa.RecordBatch, by: Sequence[str]) -> None:
        """Scatter by the hash of these columns and queue a piece a process."""
        hashes = hash_rows(record, [record.schema.get_field_index(name) for name in by])
        for process, piece in scatter(record, hashes, SLOTS, self.owner):
            self.channels.setdefault((sender, process, join, stage), deque()).append(piece)

    def source(self, change: ChangeBatch) -> None:
        """A batch from outside, for each join that wants its table."""
        for join, plan in enumerate(self.plans):
            if change.table == plan.fact:
                self.send("source", join, "a", change.record, plan.fact.key)
            if change.table == plan.dimension:
                self.send("source", join, "d", change.record, plan.dimension.key)

    def run(self) -> None:
        """Deliver until nothing is on its way: the end of an epoch."""
        while full := [name for name, queue in self.channels.items() if queue]:
            name = self.rng.choice(full)
            queue = self.channels[name]
            piece = queue.popleft()
            if name[3] in ("b", "c") and queue and self.rng.random() < 0.3:  # the exchange may join what lies together
                piece = concatenated(piece, queue.popleft())
            self.deliver(name[1], name[2], name[3], piece)
        for process in self.latest:
            for latest in process:
                latest.clear()

    def deliver(self, process: int, join: int, stage: str, record: pa.RecordBatch) -> None:
        """One call of a stage; what it gives is sent on."""
        plan = self.plans[join]
        outputs: Iterable[pa.RecordBatch] = ()
        if stage == "a":
            routed, direct = self.routers[process][join].route(ChangeBatch(plan.fact, record))
            if routed is not None:
                self.send(process, join, "b", routed, plan.foreign_key)
            outputs = [] if direct is None else [direct]
        elif stage == "b":
            outputs = self.matchers[process][join].facts(record)
        elif stage == "d":
            outputs = self.matchers[process][join].dimension(ChangeBatch(plan.dimension, record))
        else:
            passed = self.latest[process][join].take(record)
            if passed is not None and join + 1 < len(self.plans):
                self.send(process, join + 1, "a", passed.record, plan.result.key)
            elif passed is not None:
                apply(self.target, passed)
            return
        for output in outputs:
            # (a) and (b) send on channels of their own; (b) sends what facts and dimension give on the same one.
            self.send((process, stage == "a"), join, "c", output, plan.result.key)


def concatenated(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    """Two batches as one; no unset bits where one has no such column."""
    if first.schema != second.schema:
        wide = first if UNSET in first.schema.names else second
        kind = wide.schema.field(UNSET)
        first, second = (
            r
            if UNSET in r.schema.names
            else r.append_column(kind, pa.array([bytes(kind.type.byte_width)] * r.num_rows, kind.type))
            for r in (first, second)
        )
    return pa.concat_batches([first, second])
