"""Random histories of a table under a window step, run through both stages and through the reference beside them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pyarrow as pa

from libcore.change import OP, UNSET, ChangeBatch, Op, arrow_schema
from libcore.compact import compact
from libcore.position import make
from libcore.reference.values import plain
from libcore.reference.window import Windows, same
from libcore.schema import Column, Table, parse_type
from libcore.window import Aggregates, Contributions, WindowPlan, plan_window
from tests.libcore.batches import build

TYPES = {
    "id": "int64",
    "customer": "string",
    "region": "int16",
    "at": "timestamp",
    "amount": "decimal(18,4)",
    "quantity": "int32",
    "price": "float64",
    "wide": "decimal(38,2)",
    "note": "string",
}
TABLE = Table("shop.orders", tuple(Column(name, parse_type(text)) for name, text in TYPES.items()), ("id",))
KEYLESS = Table(TABLE.name, TABLE.columns)
SECOND = 1_000_000
AGGREGATES = {
    "n": "count(*)",
    "amounts": "count(amount)",
    "revenue": "sum(amount)",
    "mean": "avg(amount)",
    "rough": "avg(amount, 1)",
    "pieces": "sum(quantity)",
    "pieces_mean": "avg(quantity, 2)",
    "price": "sum(price)",
    "price_mean": "avg(price)",
    "wide": "sum(wide)",
    "least": "min(amount)",
    "most": "max(amount)",
    "first_note": "min(note)",
    "dearest": "max(price)",
    "notes": "count(distinct note)",
}
State = dict[tuple[Any, ...], list[Any]]


def any_plan(r: Random, kind: str, *, bounded: bool = False, final: bool = False, keyless: bool = False) -> WindowPlan:
    """A step of that kind with some aggregates."""
    by = r.choice((["customer"], ["region", "customer"], []))
    # a total without a key that is refused is simply not there; elsewhere the old row stays
    names = sorted(AGGREGATES) if by or kind != "all" else sorted(AGGREGATES.keys() - {"wide"})
    chosen = r.sample(names, r.randint(1, 6))
    slide = r.choice((10, 7, 30)) * SECOND
    return plan_window(
        KEYLESS if keyless else TABLE,
        by,
        None if kind == "all" else "at",
        kind,
        {name: AGGREGATES[name] for name in chosen},
        size_us=slide * r.choice((1, 2, 3)) + r.choice((0, 0, 3 * SECOND)) if kind == "sliding" else 60 * SECOND,
        slide_us=slide,
        gap_us=r.choice((5, 20)) * SECOND,
        emit="final" if final else "changes",
        allowed_lateness_us=r.choice((0, 15)) * SECOND if bounded else None,
        name="totals",
    )


def any_row(r: Random, now_s: int, key: int) -> dict[str, Any]:
    """Plain values; few groups, times around `now_s` and sometimes NULL or far back."""
    second = now_s + r.choice((0, 1, 2, 3, 5, 8, 13, 21, -1, -4, -9, -30, -90))
    return {
        "id": key,
        "customer": r.choice((b"a", b"b", None)),
        "region": r.choice((1, 2, None)),
        "at": r.choice((None, 2**62)) if r.random() < 0.04 else second * SECOND + r.choice((0, 0, 500_000, 999_999)),
        "amount": r.choice((None, 0, 5, -5, 10**18 - 1, r.randint(-99999, 99999))),
        "quantity": r.choice((None, 1, 2, 3, -(2**31))),
        "price": r.choice((None, 0.5, -0.0, 0.0, 2.25, 1e3, float("nan"), float("inf"), float("-inf"))),
        "wide": r.choice((None, 1, 10**38 - 1, 1 - 10**38)),
        "note": r.choice((None, b"", b"x", b"yy", b"zzz")),
    }


def batch_of(rows: list[tuple[int, dict[str, Any], set[str]]], table: Table, start: int) -> ChangeBatch:
    """Changes as (op, plain row, columns not sent); positions rise from `start`."""
    unset = any(missing for _, _, missing in rows)
    names = [column.name for column in table.columns]
    arrays = []
    for column in table.columns:
        keeps = column.name in table.key
        values = [
            row[column.name] if keeps or not table.key or (op != Op.DELETE and column.name not in missing) else None
            for op, row, missing in rows
        ]
        arrays.append(build(column.type.arrow, values))
    schema = arrow_schema(table, with_unset=unset)
    arrays.append(pa.array([op for op, _, _ in rows], pa.int8()))
    arrays.append(pa.array([make(0, 1, start + i) for i in range(len(rows))], schema.field("__position").type))
    arrays.append(
        pa.array([(start + i) * SECOND for i in range(len(rows))], pa.int64()).cast(schema.field("__source_ts").type)
    )
    if unset:
        width = schema.field(UNSET).type.byte_width
        bits = [sum(1 << names.index(name) for name in missing).to_bytes(width, "little") for _, _, missing in rows]
        arrays.append(pa.array(bits, pa.binary(width)))
    return ChangeBatch(table, pa.RecordBatch.from_arrays(arrays, schema=schema))


@dataclass
class Run:
    """A window step with its reference, fed the same changes.

    target: what a table holds that applied all results. late: as the reference has it.
    """

    plan: WindowPlan
    slots: int = 8
    target: State = field(default_factory=dict)
    late: Counter = field(default_factory=Counter)
    dead: int = 0
    refused: int = 0
    given: int = 0  # result rows in all

    def __post_init__(self) -> None:
        self.reference = Windows(self.plan)
        self.first = Contributions(self.plan, self.slots)
        self.second = Aggregates(self.plan, self.slots)
        self.saved: list[tuple[int, str, pa.RecordBatch]] = []  # (stage, store, changed rows), as recovery has them

    def apply(self, changes: ChangeBatch, cuts: int = 1) -> None:
        """Both stages and the reference; `cuts`: the rows between the stages come in that many pieces."""
        self.reference.apply(_plain_changes(changes))
        found = self.first.apply(changes)
        self._late(found.late)
        self.dead += found.dead.row_count if found.dead is not None else 0
        if found.rows is not None:
            # rows taken out stand in front of rows put in: a piece may end between the two
            step = -(-found.rows.num_rows // cuts)
            for start in range(0, found.rows.num_rows, step):
                self._take(self.second.apply(found.rows.slice(start, step)))

    def advance(self, us: int) -> None:
        """A watermark for all."""
        self.reference.advance(us)
        self.first.advance(us)
        for given in self.second.advance(us):
            self._take(given)

    def save(self) -> None:
        """The end of an epoch: what changed is kept."""
        for stage, holder in enumerate((self.first, self.second)):
            for name, store in holder.stores.items():
                record, ranges = store.changed()
                assert sum(count for _, _, count in ranges) == record.num_rows
                self.saved += [(stage, name, record.slice(first, count)) for _, first, count in ranges]
                store.mark()

    def move(self) -> None:
        """Other objects go on with what was saved; the watermark comes again, as after a restart."""
        self.save()
        fresh = Contributions(self.plan, self.slots), Aggregates(self.plan, self.slots)
        for stage, name, record in self.saved:
            fresh[stage].stores[name].load(record)
        for old, new in zip((self.first, self.second), fresh, strict=True):
            for name, store in old.stores.items():
                assert new.stores[name].rows == store.rows
        us = self.first.watermark_us
        self.first, self.second = fresh
        if us is not None:
            self.advance(us)

    def _take(self, given: Any) -> None:
        self._late(given.late)
        for results in (given.results, given.refused[0] if given.refused else None):
            if results is not None:
                self.given += results.row_count
                assert compact(results.record, results.table).num_rows <= results.row_count
                apply_results(self.target, results)
        self.refused += len(given.refused[1]) if given.refused else 0

    def _late(self, late: ChangeBatch | None) -> None:
        if late is not None:
            columns = {name: plain(late.record.column(name)) for name in late.record.schema.names}
            for row in range(late.row_count):
                key = tuple(columns[name][row] for name in self.plan.source.key)
                self.late[(key, columns["late_change"][row].decode())] += 1

    def expected_late(self) -> Counter:
        """The reference's late rows in the same form."""
        return Counter(
            (tuple(row[name] for name in self.plan.source.key), change) for row, change in self.reference.late
        )


def apply_results(target: State, results: ChangeBatch) -> None:
    """What a target does with an upsert log."""
    columns = [plain(results.record.column(column.name)) for column in results.table.columns]
    ops = results.record.column(OP).to_pylist()
    width = len(results.table.key)
    if not width:  # a single total: its old row goes, value by value, before the new one comes
        for row, op in enumerate(ops):
            values = [column[row] for column in columns]
            if op == Op.DELETE:
                assert comparable({(): target.pop(())}) == comparable({(): values})
            else:
                assert () not in target
                target[()] = values
        return
    for row, op in enumerate(ops):
        key = tuple(same(columns[i][row]) for i in range(width))
        if op == Op.DELETE:
            target.pop(key, None)
        else:
            start = width - 1 if "window_start" in results.table.key else width
            target[key] = [columns[i][row] for i in range(start, len(columns))]


def comparable(state: State) -> dict[tuple[Any, ...], str]:
    """States equal by value: NaN is NaN, -0.0 is 0.0."""
    return {
        key: repr([value + 0.0 if isinstance(value, float) else value for value in row]) for key, row in state.items()
    }


def _plain_changes(changes: ChangeBatch) -> list[tuple[bool, dict[str, Any], set[str]]]:
    record = compact(changes.record, changes.table)
    names = [column.name for column in changes.table.columns]
    columns = {name: plain(record.column(name)) for name in names}
    bits = record.column(UNSET).to_pylist() if UNSET in record.schema.names else [b""] * record.num_rows
    found = []
    for row, op in enumerate(record.column(OP).to_pylist()):
        lacking = int.from_bytes(bits[row], "little")
        unset = {name for i, name in enumerate(names) if lacking >> i & 1}
        found.append((op == Op.DELETE, {name: columns[name][row] for name in names}, unset))
    return found


@dataclass
class History:
    """A random source table: gives batches of changes of it."""

    r: Random
    table: Table
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    now_s: int = 1000
    position: int = 1

    def batch(self) -> ChangeBatch:
        """Some changes: new rows, updates, deletes, key changes, values not sent."""
        r, changes = self.r, []
        for _ in range(r.randint(1, 12)):
            self.now_s += r.choice((0, 0, 1, 3, 10))
            key = r.randint(0, 30)
            old = self.rows.get(key)
            if old is not None and (r.random() < 0.3 or not self.table.key):
                changes.append((Op.DELETE, dict(old), set()))
                del self.rows[key]
                if r.random() < 0.3 and self.table.key:  # the key changes
                    key += 100
                    changes.append(self._put(key, old))
                continue
            changes.append(self._put(key, old))
        found = batch_of(changes, self.table, self.position)
        self.position += len(changes)
        return found

    def _put(self, key: int, old: dict[str, Any] | None) -> tuple[int, dict[str, Any], set[str]]:
        row = any_row(self.r, self.now_s, key)
        missing: set[str] = set()
        if old is not None:
            stays = [name for name in TYPES if name != "id" and self.r.random() < 0.5]
            row |= {name: old[name] for name in stays}
            if self.rows.get(key) is old and self.table.key and self.r.random() < 0.3:
                missing = {name for name in stays if self.r.random() < 0.4}  # what is not sent stays as it is
        self.rows[key] = row
        return (Op.INSERT if old is None and self.table.key else Op.UPSERT, row, missing)
