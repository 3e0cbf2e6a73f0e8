"""join: the three stages of the foreign-key join alone, one core, shaped as w2's first join: items and their orders.

A run gives the stages what w2's log has, in epochs: a fifth new orders, a twentieth changed ones, lines of the newest
500 orders, 5 % updates and 3 % deletes of any line. Counted is processor time, since machines are shared: facts over
all that route, facts and latest took. Epochs of 2,667 events (2,000 facts), as a quiet source makes them, are printed
beside, and what dimension() and mark() took. The result is compared with pyarrow's join of the last rows.
"""

from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.measure import Result, memory_bytes
from libcore import memory
from libcore.change import OP, ChangeBatch, Op, arrow_schema
from libcore.join import FactRouter, JoinPlan, Latest, Matcher, plan_join
from libcore.schema import Column, Table, parse_type

EPOCH, SMALL_EPOCH = 40_000, 2_667  # three quarters of the events are facts: 30,000 and 2,000
AIM = 2_500_000.0
NEWEST, SLOTS = 500, 64


def _table(name: str, columns: str, *key: str) -> Table:
    pairs = [column.split() for column in columns.split(", ")]
    return Table(name, tuple(Column(column, parse_type(kind)) for column, kind in pairs), key)


ITEMS = _table(
    "items",
    "order_id int64, line_no int64, sku string, quantity int32, unit_price decimal(18,4), discount decimal(5,2), "
    "note string, created_at timestamp",
    "order_id",
    "line_no",
)
ORDERS = _table(
    "orders", "id int64, customer_id int64, status string, currency string, ordered_at timestamp, due_on date", "id"
)
PLAN = plan_join(
    ITEMS, ORDERS, {"order_id": "id"}, {"status": "status", "customer_id": "customer_id"}, "inner", "lines"
)


@dataclass
class _Events:
    """Rows of a table as numbers, from which its columns are made."""

    ids: list[int] = field(default_factory=list)
    ops: list[int] = field(default_factory=list)

    def add(self, number: int, op: Op) -> None:
        self.ids.append(number)
        self.ops.append(op)


def _epochs(items: int, epoch: int) -> Iterator[tuple[_Events, _Events]]:
    """(orders, items) of each epoch; the order of a line is in its number, so that an update names it again."""
    draw = random.Random(7)
    orders, made, emitted = 10, 0, 0
    order_events, item_events = _Events(list(range(10)), [Op.INSERT] * 10), _Events()
    deleted: set[int] = set()
    while emitted < items:
        chance = draw.random()
        if chance < 0.2:
            order_events.add(orders, Op.INSERT)
            orders += 1
        elif chance < 0.25:
            order_events.add(draw.randrange(orders), Op.UPSERT)
        else:
            emitted += 1
            line = draw.randrange(made) if made and chance < 0.31 else -1
            if line < 0 or line in deleted:
                item_events.add(made, Op.INSERT)
                made += 1
            elif chance < 0.272:
                deleted.add(line)
                item_events.add(line, Op.DELETE)
            else:
                item_events.add(line, Op.UPSERT)
        if len(item_events.ids) + len(order_events.ids) >= epoch:
            yield order_events, item_events
            order_events, item_events = _Events(), _Events()
    if item_events.ids or order_events.ids:
        yield order_events, item_events


def _spread(number: pa.Array, limit: int) -> pa.Array:
    """A number below the limit for each: a multiplicative hash, the same at every run."""
    mixed = pc.bit_wise_and(pc.multiply(number, 2654435761), 2**31 - 1)
    return pc.subtract(mixed, pc.multiply(pc.divide(mixed, limit), limit))


def _decimal(values: pa.Array, precision: int, scale: int) -> pa.Array:
    buffers = pc.cast(values, pa.decimal128(19, 0)).buffers()
    return pa.Array.from_buffers(pa.decimal128(precision, scale), len(values), buffers)


def _chosen(number: pa.Array, texts: list[str]) -> pa.Array:
    return pa.array(texts).take(_spread(number, len(texts)))


def _item_columns(number: pa.Array, stamp: pa.Array) -> list[pa.Array]:
    newest = pc.add(pc.divide(number, 4), 9)  # four lines an order, as the log makes them
    order = pc.max_element_wise(pc.subtract(newest, _spread(number, NEWEST)), pa.scalar(0, pa.int64()))
    sku = pc.binary_join_element_wise("MAT-", pc.utf8_lpad(pc.cast(_spread(number, 20_000), pa.utf8()), 6, "0"), "")
    note = pc.if_else(
        pc.less(_spread(number, 10), 7), pa.scalar(None, pa.utf8()), pa.scalar("partial – Teslim edilmedi")
    )
    price, discount = _decimal(_spread(number, 50_000_000), 18, 4), _decimal(_spread(number, 40), 5, 2)
    quantity = pc.cast(_spread(stamp, 49), pa.int32())
    return [order, number, sku, quantity, price, discount, note, pc.cast(number, pa.timestamp("us"))]


def _order_columns(number: pa.Array, stamp: pa.Array) -> list[pa.Array]:
    status = _chosen(stamp, ["OPEN", "RELEASED", "SHIPPED", "CLOSED"])
    due = pc.cast(pc.cast(_spread(number, 60), pa.int32()), pa.date32())
    ordered, currency = pc.cast(number, pa.timestamp("us")), _chosen(number, ["TRY", "EUR", "USD"])
    return [number, _spread(number, 10_000), status, currency, ordered, due]


def _batch(of: Table, events: _Events, start: int, columns: Callable[..., list[pa.Array]]) -> ChangeBatch:
    rows, schema = len(events.ids), arrow_schema(of)
    ops, number = pa.array(events.ops, pa.int8()), pa.array(events.ids, pa.int64())
    stamp = pa.array(range(start, start + rows), pa.int64())
    gone = pc.equal(ops, int(Op.DELETE))
    made = [
        array if name in of.key else pc.if_else(gone, pa.scalar(None, array.type), array)
        for name, array in zip(schema.names, columns(number, stamp), strict=False)
    ]
    raw = b"".join((start + row).to_bytes(32, "big") for row in range(rows))
    position = pa.Array.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(raw)])
    stamps = pc.cast(stamp, pa.timestamp("us", tz="UTC"))
    return ChangeBatch(of, pa.RecordBatch.from_arrays([*made, ops, position, stamps], schema=schema))


def batches(items: int, epoch: int) -> list[tuple[ChangeBatch | None, ChangeBatch | None]]:
    """(orders, items) of each epoch of so many events, None for no rows."""
    made, start = [], 0
    for orders, lines in _epochs(items, epoch):
        pair = [
            _batch(of, events, start, columns) if events.ids else None
            for of, events, columns in ((ORDERS, orders, _order_columns), (ITEMS, lines, _item_columns))
        ]
        made.append((pair[0], pair[1]))
        start += len(orders.ids) + len(lines.ids)
    return made


class Stages:
    """The three stages, each call's processor seconds counted."""

    def __init__(self, plan: JoinPlan) -> None:
        self._router, self._matcher, self._latest = FactRouter(plan, SLOTS), Matcher(plan, SLOTS), Latest(plan)
        self.seconds = dict.fromkeys(("route", "facts", "dimension", "latest", "mark"), 0.0)

    def _timed(self, stage: str, call: Callable[..., Any], *arguments: Any) -> Any:
        begun = time.process_time()
        result = call(*arguments)
        self.seconds[stage] += time.process_time() - begun
        return result

    def epoch(self, orders: ChangeBatch | None, lines: ChangeBatch | None) -> Iterator[pa.RecordBatch]:
        """What passes of an epoch's changes."""
        results: list[pa.RecordBatch] = []
        if orders is not None:
            results += self._timed("dimension", lambda: list(self._matcher.dimension(orders)))
        if lines is not None:
            routed, direct = self._timed("route", self._router.route, lines)
            if routed is not None:
                results += self._timed("facts", lambda: list(self._matcher.facts(routed)))
            results += [] if direct is None else [direct]
        for result in results:
            passed = self._timed("latest", self._latest.take, result)
            if passed is not None:
                yield passed.record
        self._timed("latest", self._latest.clear)
        for stage in (self._router, self._matcher):
            for store in stage.stores.values():
                self._timed("mark", store.mark)

    def rate(self, facts: int) -> float:
        """Facts a processor second, through all three stages."""
        return facts / (self.seconds["route"] + self.seconds["facts"] + self.seconds["latest"])


def _last(records: list[pa.RecordBatch], key: tuple[str, ...]) -> pa.Table:
    """The last row of each key, without deletes and what is not the table's."""
    whole = pa.Table.from_batches(records).combine_chunks()
    numbered = whole.append_column("n", pa.array(range(len(whole)), pa.int64()))
    last = numbered.group_by(list(key)).aggregate([("n", "max")]).column("n_max").combine_chunks()
    rows = whole.take(last)
    rows = rows.filter(pc.not_equal(rows.column(OP), int(Op.DELETE)))
    return rows.drop_columns([name for name in rows.column_names if name.startswith("__")])


def _equal(passed: list[pa.RecordBatch], pairs: list[tuple[ChangeBatch | None, ChangeBatch | None]]) -> bool:
    orders, items = (
        _last([change.record for pair in pairs if (change := pair[side]) is not None], table.key)
        for side, table in ((0, ORDERS), (1, ITEMS))
    )
    partners = orders.select(["id", "status", "customer_id"])
    truth = items.join(partners, keys="order_id", right_keys="id", join_type="inner").select(
        PLAN.result_schema.names[:-3]
    )
    order = [("order_id", "ascending"), ("line_no", "ascending")]
    found = _last([record.select([*PLAN.result_schema.names[:-2]]) for record in passed], ITEMS.key)
    return bool(found.sort_by(order).combine_chunks().equals(truth.sort_by(order).combine_chunks()))


def _run(pairs: list[tuple[ChangeBatch | None, ChangeBatch | None]]) -> tuple[Stages, list[pa.RecordBatch]]:
    stages = Stages(PLAN)
    passed: list[pa.RecordBatch] = []
    for orders, lines in pairs:
        passed += stages.epoch(orders, lines)
    return stages, passed


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _measured(items: int, epoch: int, runs: int) -> tuple[float, bool]:
    """The median rate, and whether each run was right; all that it took is printed."""
    pairs = batches(items, epoch)
    rates, right = [], True
    per_epoch: list[dict[str, float]] = []
    for _ in range(runs):
        stages, passed = _run(pairs)
        rates.append(stages.rate(items))
        right = right and _equal(passed, pairs)
        per_epoch.append({stage: 1e6 * seconds / len(pairs) for stage, seconds in stages.seconds.items()})
    spent = {stage: statistics.median(run[stage] for run in per_epoch) for stage in per_epoch[0]}
    _say(
        f"epochs of {epoch:,} events: {statistics.median(rates):,.0f} facts/s; processor microseconds an epoch: "
        + ", ".join(f"{stage} {value:,.0f}" for stage, value in spent.items())
    )
    return statistics.median(rates), right


def join(items: int, pairs: int, processes: int) -> Result:
    """Facts a processor second through all three stages in large epochs; small ones are printed beside."""
    memory.keep_freed(64 << 20)
    _, small_right = _measured(items, SMALL_EPOCH, pairs)
    rate, right = _measured(items, EPOCH, pairs)
    used = memory_bytes(os.getpid()) / 1e6
    return Result("join", rate, "facts/s", "the aim, 1 core", AIM, rate / AIM, used, right and small_right)
