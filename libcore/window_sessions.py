"""Sessions as chains of panes: rows of one pane of `gap` always belong together, so only panes are linked.

Two rows less than `gap` apart are in one session. A pane is a stretch of `gap` on the clock, so its rows are; and rows
of one session that follow each other lie in the same pane or in neighbours. A session is therefore an unbroken run of
panes, cut where the first row of a pane is `gap` or more behind the last row of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from libcore.table import RowStore
from libcore.window_columns import batch, counted, floored, int64, taken
from libcore.window_kernels import Kind, Sum, group_rows, sum_rows
from libcore.window_panes import Changed, Panes
from libcore.window_plan import START, TIME, WindowPlan
from libcore.window_results import LAST
from libcore.window_values import extremes

SESSION, DUE = "__session", "__due"
_FIRST = "__first"


class Sessions:
    """Which panes make which session, and the results of sessions from the sums of their panes.

    Args:
        plan: the window step.
        panes: the sums of stretches of `gap`, which the caller changes first.
        slots, bytes_max: as RowStore.
    """

    def __init__(self, plan: WindowPlan, panes: Panes, slots: int, bytes_max: int) -> None:
        self._plan, self._panes = plan, panes
        self._groups, self.keys = len(plan.group), panes.keys
        self._width = len(self.keys)
        last, due = pa.field(LAST, pa.int64()), pa.field(DUE, pa.int64())
        groups = range(self._groups)
        self.store = RowStore(
            pa.schema([*self.keys, last, due]),
            range(self._width),
            index=[self._width + 1] if plan.bounded else (),
            slot_by=groups,
            slots=slots,
            bytes_max=bytes_max,
        )
        links = pa.schema([*self.keys, pa.field(SESSION, pa.int64())])
        self.links = RowStore(links, range(self._width), slot_by=groups, slots=slots, bytes_max=bytes_max)
        self.stores = {"sessions": self.store, "links": self.links}

    def apply(self, changed: Changed) -> tuple[Changed, pa.RecordBatch]:
        """Link panes anew around those that changed.

        Returns: (sessions that are new or changed, with the latest source_ts of their changed panes; keys of those
            that are no more).
        """
        touched = changed.rows.select(range(self._width))
        old = self._near(touched)
        panes = self._loaded(old, touched)
        self._group_numbers(panes)
        panes, session, first = self._linked(panes)
        rows = self._combined(panes, session, first)
        known = self.store.find(rows.select(range(self._width)))
        source_ts, fresh = self._touched(changed, panes, session, rows.num_rows)
        same_last = pc.fill_null(pc.equal(self.store.take(known, [self._width]).column(0), rows.column(LAST)), False)
        new = pc.or_(fresh, pc.invert(same_last))
        gone = self._gone(old, rows)
        self._save(touched, changed, panes, session, first, rows, gone)
        none = pa.repeat(pa.scalar(False), rows.num_rows)
        return Changed(rows.filter(new), none.filter(new), source_ts.filter(new)), gone

    def _group_numbers(self, panes: pa.RecordBatch) -> pa.Array:
        return group_rows(panes, range(self._groups))[0]

    def _near(self, touched: pa.RecordBatch) -> pa.RecordBatch:
        """Old sessions with a row in a touched pane or a neighbour: key fields and __last, each once."""
        starts, gap = touched.column(self._width - 1), int64(self._plan.gap_us)
        around = pa.concat_batches(
            [
                touched.set_column(self._width - 1, self.keys[-1], column)
                for column in (pc.subtract(starts, gap), starts, pc.add(starts, gap))
            ]
        )
        found = self.links.find(around)
        links = self.links.take(found.filter(pc.greater_equal(found, int64(0))))
        keys = batch(self.keys, [*links.columns[: self._groups], links.column(self._width)])
        _, firsts = group_rows(keys, range(self._width))
        keys = taken(keys, firsts)
        return self.store.take(self.store.find(keys), range(self._width + 1))

    def panes_of(self, sessions: pa.RecordBatch) -> tuple[pa.Int32Array, pa.RecordBatch]:
        """(row of the session, key fields of a pane of its run) for all panes that may be there."""
        gap = self._plan.gap_us
        begin = floored(sessions.column(self._width - 1), gap)
        count = pc.add(pc.divide(pc.subtract(floored(sessions.column(self._width), gap), begin), int64(gap)), int64(1))
        ends = pc.cumulative_sum(count)
        total = ends[-1].as_py() if len(ends) else 0
        offsets = pc.subtract(ends, count)
        bounds = pa.concat_arrays([offsets, pa.array([total], pa.int64())])
        rows = pc.list_parent_indices(pa.LargeListArray.from_arrays(bounds, pa.nulls(total)))
        inside = pc.subtract(counted(total), offsets.take(rows))
        starts = pc.add(begin.take(rows), pc.multiply(inside, int64(gap)))
        groups = taken(sessions.select(range(self._groups)), rows)
        return rows.cast(pa.int32()), batch(self.keys, [*groups.columns, starts])

    def _loaded(self, old: pa.RecordBatch, touched: pa.RecordBatch) -> pa.RecordBatch:
        """Panes with rows of the old sessions and of the touched ones, by group and time."""
        keys = pa.concat_batches([self.panes_of(old)[1], touched.cast(pa.schema(self.keys))])
        _, firsts = group_rows(keys, range(self._width))
        rows = self._panes.at(taken(keys, firsts))
        return rows.filter(pc.greater(rows.column("__rows"), int64(0)))

    def _linked(self, panes: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Int32Array, pa.Int32Array]:
        """(panes in order, the session of each, the first pane of each session)."""
        order = pc.sort_indices(
            pa.table({"group": self._group_numbers(panes), "start": panes.column(START)}),
            sort_keys=[("group", "ascending"), ("start", "ascending")],
        )
        panes = taken(panes, order)
        groups, count = self._group_numbers(panes), panes.num_rows
        if not count:
            return panes, groups, groups
        apart = pc.subtract(panes.column(f"__min:{TIME}").slice(1), panes.column(f"__max:{TIME}").slice(0, count - 1))
        cut = pc.or_(
            pc.not_equal(groups.slice(1), groups.slice(0, count - 1)),
            pc.greater_equal(apart, int64(self._plan.gap_us)),
        )
        cut = pa.concat_arrays([pa.array([True]), cut])
        session = pc.subtract(pc.cumulative_sum(cut.cast(pa.int32())), pa.scalar(1, pa.int32()))
        return panes, session, pc.indices_nonzero(cut).cast(pa.int32())

    def _combined(self, panes: pa.RecordBatch, session: pa.Int32Array, first: pa.Int32Array) -> pa.RecordBatch:
        """Sessions with the sums of their panes: group fields, __start, partial fields, __last."""
        held, count = self._panes, len(first)
        sums = sum_rows(panes.select([field.name for field in held.summed]), session, count, -1, held.second)
        groups = taken(panes.select(range(self._groups)), first)
        start, last = panes.column(f"__min:{TIME}").take(first), None
        kept: list[pa.Array] = []
        for name in held.valued:
            least, _ = _extremes_of(panes.column(f"__min:{name}"), session, count)
            _, most = _extremes_of(panes.column(f"__max:{name}"), session, count)
            distinct = self._distinct(name, panes, session, count)
            kept += [distinct, least, most]
            last = most if name == TIME else last
        fields = [*held.fields, pa.field(LAST, pa.int64())]
        return batch(fields, [*groups.columns, start, *sums.columns, *kept, last])

    def _distinct(self, name: str, panes: pa.RecordBatch, session: pa.Int32Array, count: int) -> pa.Int64Array:
        """How many different values a session has: panes may share some, so the values themselves are counted."""
        if not any(a.function == "distinct" and a.column == name for a in self._plan.aggregates):
            return pa.repeat(int64(0), count)
        rows, values = self._panes.values[name].of(panes.select(range(self._width)))
        record = batch([pa.field("session", pa.int32()), pa.field("value", values.type)], [session.take(rows), values])
        _, firsts = group_rows(record, [0, 1])
        once = record.column(0).take(firsts)
        total = [Sum(Kind.WEIGHT, -1, (pa.field("n", pa.int64()),))]
        return sum_rows(record.select([0]).take(firsts), once, count, -1, total).column(0)

    def _touched(
        self, changed: Changed, panes: pa.RecordBatch, session: pa.Int32Array, count: int
    ) -> tuple[pa.Array, pa.BooleanArray]:
        """(latest source_ts of the changed panes of each session; whether it has one)."""
        keys = changed.rows.select(range(self._width))
        both = pa.concat_batches([panes.select(range(self._width)), keys.cast(panes.select(range(self._width)).schema)])
        groups, _ = group_rows(both, range(self._width))
        place = groups.slice(panes.num_rows)
        there = pc.less(place, pa.scalar(panes.num_rows, pa.int32()))
        mine = session.take(place.filter(there))
        stamps = batch([pa.field("ts", changed.source_ts.type)], [changed.source_ts.filter(there)])
        fields = ((pa.field("n", pa.int64()),), (pa.field("ts", changed.source_ts.type),))
        found = sum_rows(stamps, mine, count, -1, [Sum(Kind.WEIGHT, -1, fields[0]), Sum(Kind.MAX, 0, fields[1])])
        return found.column(1), pc.greater(found.column(0), int64(0))

    def _gone(self, old: pa.RecordBatch, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Keys of old sessions that are not among the new ones."""
        keys = rows.select(range(self._width))
        both = pa.concat_batches([keys, old.select(range(self._width)).cast(keys.schema)])
        groups, _ = group_rows(both, range(self._width))
        absent = pc.greater_equal(groups.slice(rows.num_rows), pa.scalar(rows.num_rows, pa.int32()))
        return old.select(range(self._width)).filter(absent)

    def _save(
        self,
        touched: pa.RecordBatch,
        changed: Changed,
        panes: pa.RecordBatch,
        session: pa.Int32Array,
        first: pa.Int32Array,
        rows: pa.RecordBatch,
        gone: pa.RecordBatch,
    ) -> None:
        self.store.delete(gone)
        last = rows.column(LAST)
        due = floored(last, self._plan.gap_us)
        self.store.upsert(batch(self.store.schema, [*rows.columns[: self._width], last, due]))
        self.links.delete(touched.filter(changed.empty))
        starts = panes.column(f"__min:{TIME}").take(first).take(session)
        links = batch(self.links.schema, [*panes.columns[: self._width], starts])
        old = self.links.take(self.links.find(links.select(range(self._width))), [self._width]).column(0)
        self.links.upsert(links.filter(pc.invert(pc.fill_null(pc.equal(old, starts), False))))

    def due(self, bucket: int, before_us: int) -> pa.RecordBatch:
        """Sessions whose last row is in that pane and before that time: key fields, __last."""
        one = batch([pa.field(DUE, pa.int64())], [pa.array([bucket], pa.int64())])
        rows = self.store.take(self.store.matches(one)[1], range(self._width + 1))
        return rows.filter(pc.less(rows.column(LAST), int64(before_us)))

    def results(self, sessions: pa.RecordBatch) -> pa.RecordBatch:
        """The sums of these sessions, as `apply` has them."""
        rows = self._panes.at(self.panes_of(sessions)[1])
        panes, session, first = self._linked(rows.filter(pc.greater(rows.column("__rows"), int64(0))))
        return self._combined(panes, session, first)

    def drop(self, sessions: pa.RecordBatch) -> None:
        """Forget these sessions with their panes."""
        panes = self.panes_of(sessions)[1]
        self._panes.drop(panes)
        self.links.delete(panes)
        self.store.delete(sessions.select(range(self._width)))

    def dues(self) -> Iterator[int]:
        """The different panes in which sessions have their last rows."""
        for slot in range(self.store.slots):
            yield from pc.unique(self.store.whole(slot).column(DUE)).to_pylist()


def _extremes_of(column: pa.Array, session: pa.Int32Array, count: int) -> tuple[pa.Array, pa.Array]:
    there = column.is_valid()
    return extremes(session.filter(there), column.filter(there), count)
