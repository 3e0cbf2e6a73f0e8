"""Sums of each group in each stretch of time, kept exactly, from which every aggregate of a window is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import SOURCE_TS, SOURCE_TS_TYPE
from libcore.table import RowStore
from libcore.window_columns import batch, counted, floored, int64, ordered, ordered_type, taken, time_us
from libcore.window_kernels import Kind, Sum, group_rows, sum_rows
from libcore.window_plan import SIGN, START, TIME, WindowPlan, sum_type
from libcore.window_values import VALUE, Values, extremes

ROWS = "__rows"


@dataclass(frozen=True)
class Changed:
    """Windows after a change, each once.

    rows: key fields, then partial fields. empty: which of them have no row left. source_ts: the latest change of each.
    old: where results have no key, the rows that were there before.
    """

    rows: pa.RecordBatch
    empty: pa.BooleanArray
    source_ts: pa.Array
    old: pa.RecordBatch | None = None


class Panes:
    """The store of partial sums, for tumbling and sliding windows, for groups without time, and below sessions.

    Args:
        plan: the window step.
        slots, bytes_max: as RowStore; the bound is each store's.
    """

    def __init__(self, plan: WindowPlan, slots: int, bytes_max: int) -> None:
        self._plan = plan
        self.closed_us: int | None = None  # sliding windows that start up to here are closed: rows do not reopen them
        self.keys = [*plan.group_fields, *([pa.field(START, pa.int64())] if plan.timed else [])]
        self._width = len(self.keys)
        valued = {name: ordered_type(plan.source.column(name).type.arrow) for name in plan.valued()}
        if plan.kind == "session":
            valued[TIME] = pa.int64()
        self.valued = tuple(valued)
        self._first: list[Sum] = []  # over rows as they come
        self.second: list[Sum] = []  # over partial sums
        self._sums()
        self.summed = [field for wanted in self.second for field in wanted.fields]
        self.kept = [
            pa.field(f"{what}:{name}", pa.int64() if what == "__distinct" else data_type)
            for name, data_type in valued.items()
            for what in ("__distinct", "__min", "__max")
        ]
        self.fields = [*self.keys, *self.summed, *self.kept]
        purged = plan.bounded and plan.kind in ("tumbling", "sliding")
        groups = len(plan.group)
        self.store = RowStore(
            pa.schema(self.fields),
            range(self._width),
            index=[self._width - 1] if purged else (),
            slot_by=range(groups),
            slots=slots,
            bytes_max=bytes_max,
        )
        self.values = {name: Values(self.keys, groups, kind, slots, bytes_max) for name, kind in valued.items()}
        self.stores = {"windows": self.store} | {f"values:{name}": held.store for name, held in self.values.items()}

    def _sums(self) -> None:
        plan, place = self._plan, {name: i for i, name in enumerate(self._plan.travelling_schema.names)}

        def both(kind: Kind, column: int, *names: str, data_type: pa.DataType) -> None:
            fields = tuple(pa.field(name, data_type) for name in names)
            at = sum(len(wanted.fields) for wanted in self.second)
            self._first.append(Sum(kind, column, fields))
            again = Kind.FLOAT if kind is Kind.FLOAT else Kind.SUM
            self.second.append(Sum(again, at, fields, at + 1 if kind is Kind.FLOAT else -1))

        both(Kind.WEIGHT, -1, ROWS, data_type=pa.int64())
        for name in plan.counted():
            both(Kind.VALID, place[name], f"__count:{name}", data_type=pa.int64())
        for name in plan.summed():
            wide = sum_type(plan.source.column(name).type)
            if not pa.types.is_floating(wide):
                both(Kind.SUM, place[name], f"__sum:{name}", data_type=wide)
                continue
            both(Kind.FLOAT, place[name], f"__sum:{name}", f"__low:{name}", data_type=wide)
            for kind, what in ((Kind.NAN, "nan"), (Kind.PLUS_INFINITY, "inf"), (Kind.MINUS_INFINITY, "ninf")):
                both(kind, place[name], f"__{what}:{name}", data_type=pa.int64())

    def apply(self, record: pa.RecordBatch) -> Changed:
        """Count rows in, and out where __sign is -1.

        Args:
            record: as WindowPlan.travelling_schema; every row has a time where the plan is timed.
        """
        plan, sign = self._plan, record.schema.get_field_index(SIGN)
        keyed = record
        if plan.timed:
            times = time_us(record.column(plan.time))
            keyed = keyed.append_column(START, floored(times, plan.pane_us))
        indexes = [keyed.schema.get_field_index(field.name) for field in self.keys]
        groups, firsts = group_rows(keyed, indexes)
        stamp = Sum(Kind.MAX, record.schema.get_field_index(SOURCE_TS), (pa.field(SOURCE_TS, SOURCE_TS_TYPE),))
        deltas = sum_rows(record, groups, len(firsts), sign, [*self._first, stamp])
        windows, deltas = self._windows(taken(keyed.select(indexes), firsts), deltas)
        source_ts = deltas.column(deltas.num_columns - 1)
        found = self.store.find(windows)
        partial = self._added(found, deltas.select(range(len(self.summed))))
        extra = self._valued(record, keyed, windows, found)
        rows = batch(self.fields, [*windows.columns, *partial.columns, *extra])
        return self._saved(rows, found, source_ts, retracted=pc.any(pc.less(record.column(sign), 0)).as_py())

    def _windows(self, keys: pa.RecordBatch, deltas: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """From panes to the windows that contain them; the same but for sliding windows."""
        plan = self._plan
        if plan.kind != "sliding":
            return keys, deltas
        places, starts = self.windows_of(keys.column(self._width - 1))
        keys = taken(keys, places).set_column(self._width - 1, self.keys[-1], starts)
        deltas = taken(deltas, places)
        groups, firsts = group_rows(keys, range(self._width))
        stamp = Sum(Kind.MAX, deltas.num_columns - 1, (deltas.schema.field(deltas.num_columns - 1),))
        return taken(keys, firsts), sum_rows(deltas, groups, len(firsts), -1, [*self.second, stamp])

    def windows_of(self, panes: pa.Int64Array) -> tuple[pa.Int64Array, pa.Int64Array]:
        """(row of the pane, start of a sliding window that contains it), for all that are open."""
        plan = self._plan
        each = -(-plan.size_us // plan.slide_us)
        numbers = counted(len(panes) * each)
        places = pc.divide(numbers, int64(each))
        back = pc.subtract(numbers, pc.multiply(places, int64(each)))
        starts = pc.subtract(floored(panes, plan.slide_us).take(places), pc.multiply(back, int64(plan.slide_us)))
        inside = pc.less(panes.take(places), pc.add(starts, int64(plan.size_us)))
        if self.closed_us is not None:
            inside = pc.and_(inside, pc.greater(starts, int64(self.closed_us)))
        return places.filter(inside), starts.filter(inside)

    def _added(self, found: pa.Int64Array, deltas: pa.RecordBatch) -> pa.RecordBatch:
        """The deltas on top of what is kept."""
        known = pc.greater_equal(found, int64(0))
        count = deltas.num_rows
        if not pc.any(known).as_py():
            return deltas
        width = self._width
        old = self.store.take(found.filter(known), range(width, width + len(self.summed)))
        groups = pa.concat_arrays([pc.indices_nonzero(known).cast(pa.int32()), counted(count, pa.int32())])
        return sum_rows(pa.concat_batches([old, deltas.cast(old.schema)]), groups, count, -1, self.second)

    def _valued(
        self, record: pa.RecordBatch, keyed: pa.RecordBatch, windows: pa.RecordBatch, found: pa.Int64Array
    ) -> list[pa.Array]:
        """Distinct count, least and greatest value of each window, for each column whose values are kept."""
        arrays: list[pa.Array] = []
        for number, name in enumerate(self.valued):
            column = time_us(record.column(self._plan.time)) if name == TIME else ordered(record.column(name))
            values, deltas = self._value_deltas(keyed, column, record.column(SIGN))
            change = self.values[name].apply(values, deltas)
            keys = pa.concat_batches([windows, values.select(range(self._width)).cast(windows.schema)])
            groups, _ = group_rows(keys, range(self._width))
            at = self._width + len(self.summed) + 3 * number
            arrays += self._extremes(name, windows, groups.slice(windows.num_rows), values.column(VALUE), change,
                                     self.store.take(found, range(at, at + 3)))  # fmt: skip
        return arrays

    def _value_deltas(
        self, keyed: pa.RecordBatch, column: pa.Array, sign: pa.Array
    ) -> tuple[pa.RecordBatch, pa.Int64Array]:
        """(window and value, each once; what is added to its count, not 0)."""
        there = column.is_valid()
        arrays = [keyed.column(field.name) for field in self.keys]
        record = batch(
            [*self.keys, pa.field(VALUE, column.type), pa.field(SIGN, pa.int64())],
            [*arrays, column, sign.cast(pa.int64())],
        ).filter(there)
        weight = self._width + 1
        total = Sum(Kind.WEIGHT, -1, (pa.field(SIGN, pa.int64()),))
        if self._plan.kind == "sliding":
            places, starts = self.windows_of(record.column(self._width - 1))
            record = taken(record, places).set_column(self._width - 1, self.keys[-1], starts)
        groups, firsts = group_rows(record, range(weight))
        deltas = sum_rows(record, groups, len(firsts), weight, [total]).column(0)
        kept = pc.not_equal(deltas, int64(0))
        return taken(record.select(range(weight)), firsts).filter(kept), deltas.filter(kept)

    def _extremes(
        self,
        name: str,
        windows: pa.RecordBatch,
        rows: pa.Int32Array,
        values: pa.Array,
        change: pa.Int64Array,
        old: pa.RecordBatch,
    ) -> list[pa.Array]:
        """New distinct count, min and max from the old ones and the values that came or went.

        Args:
            rows, values, change: the window, the value, and +1 came, -1 went, 0 neither.
        """
        count = windows.num_rows
        came, went = pc.equal(change, int64(1)), pc.equal(change, int64(-1))
        record = batch([pa.field("change", pa.int64())], [change])
        distinct = sum_rows(record, rows, count, 0, [Sum(Kind.WEIGHT, -1, (pa.field("d", pa.int64()),))]).column(0)
        least, most = extremes(rows.filter(came), values.filter(came), count)
        least = pc.min_element_wise(old.column(1), least)
        most = pc.max_element_wise(old.column(2), most)
        if pc.any(went).as_py():
            lost, gone = rows.filter(went), values.filter(went)
            edge = pc.or_(
                pc.fill_null(pc.equal(gone, old.column(1).take(lost)), False),
                pc.fill_null(pc.equal(gone, old.column(2).take(lost)), False),
            )
            stale = pc.unique(lost.filter(edge))
            if len(stale):
                found = self.values[name].of(taken(windows, stale))
                places = pc.index_in(counted(count, pa.int32()), value_set=stale)
                fresh = places.is_valid()
                new_least, new_most = extremes(*found, len(stale))
                least = pc.if_else(fresh, new_least.take(places), least)
                most = pc.if_else(fresh, new_most.take(places), most)
        return [pc.add(pc.fill_null(old.column(0), 0), distinct), least, most]

    def _saved(self, rows: pa.RecordBatch, found: pa.Int64Array, source_ts: pa.Array, retracted: bool) -> Changed:
        """Put windows with rows into the store and take emptied ones out; leave out what is as it was."""
        if retracted:
            known = self.store.take(found)
            same = [_same(a, b) for a, b in zip(rows.columns, known.columns, strict=True)]
            changed = pc.or_(pc.less(found, int64(0)), pc.invert(_all(same)))
            # came and went inside the batch: nobody has heard of it
            changed = pc.and_(changed, pc.or_(pc.greater_equal(found, int64(0)), pc.not_equal(rows.column(ROWS), 0)))
            rows, source_ts = rows.filter(changed), source_ts.filter(changed)
        old = None
        if not self._plan.result.key:
            old = self.at(rows.select(range(self._width)))
            old = old.filter(pc.greater(old.column(ROWS), int64(0)))
        empty = pc.equal(rows.column(ROWS), int64(0))
        if retracted and pc.any(empty).as_py():
            self.store.upsert(rows.filter(pc.invert(empty)))
            self.store.delete(rows.filter(empty).select(range(self._width)))
        else:
            self.store.upsert(rows)
        # keyless tables may count below zero, for a while or for ever: no row is there to be seen
        return Changed(rows, pc.less_equal(rows.column(ROWS), int64(0)), source_ts, old)

    def at(self, windows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of those of these windows that there are."""
        found = self.store.find(windows)
        return self.store.take(found.filter(pc.greater_equal(found, int64(0))))

    def starting(self, start: int) -> pa.RecordBatch:
        """All windows that start there."""
        one = batch([self.keys[-1]], [pa.array([start], pa.int64())])
        return self.store.take(self.store.matches(one)[1])

    def drop(self, windows: pa.RecordBatch) -> None:
        """Forget windows, each given once, as key fields."""
        self.store.delete(windows)
        for held in self.values.values():
            held.drop(windows)

    def clear(self) -> None:
        """Forget all."""
        for store in self.stores.values():
            store.clear()

    def starts(self) -> Iterator[int]:
        """The different starts of all windows."""
        for slot in range(self.store.slots):
            yield from pc.unique(self.store.whole(slot).column(START)).to_pylist()


def _same(new: pa.Array, old: pa.Array) -> pa.BooleanArray:
    equal = pc.fill_null(pc.equal(new, old), False)
    return pc.or_(equal, pc.and_(new.is_null(), old.is_null()))


def _all(masks: list[pa.BooleanArray]) -> pa.BooleanArray:
    found = masks[0]
    for mask in masks[1:]:
        found = pc.and_(found, mask)
    return found
