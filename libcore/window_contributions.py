"""Stage one of windows: what each row counts with is kept by its key, so that an update is a row out and a row in."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import SOURCE_TS, ChangeBatch, Op, op_is
from libcore.compact import compact
from libcore.errors import ConfigurationError
from libcore.join_columns import differs, lacks_of
from libcore.schema import Table
from libcore.table import RowStore
from libcore.window_columns import Clock, batch, floored, int64, time_us
from libcore.window_plan import WindowPlan
from libcore.window_results import Results, is_late

_ROWS_MAX = 32768  # rows purged at once
_DUE = "__due"
_UNCOUNTED = 2**63 - 1  # due of a row that is kept but counts nowhere


@dataclass(frozen=True)
class Contributed:
    """What a batch came to; None for nothing.

    rows: as WindowPlan.travelling_schema, for Aggregates. late: of plan.late. dead: rows of the source table whose
    event time is NULL or beyond all windows; such a row counts nowhere.
    """

    rows: pa.RecordBatch | None = None
    late: ChangeBatch | None = None
    dead: ChangeBatch | None = None


class Contributions:
    """Stage one: what each row counts with, by its key.

    Stores: "rows" (plan.carried by key, rows without a time and late ones too; where lateness has a bound, rows of
    closed windows keep their key alone), and "watermark" where lateness has a bound. A keyless table has no "rows": its
    copies come and go by themselves.

    Args:
        plan: of plan_window.
        slots: key-hash slots.
        bytes_max: bound of the store's memory; 0: none.
    """

    def __init__(self, plan: WindowPlan, slots: int = 64, bytes_max: int = 0) -> None:
        self.plan, self.late_rows = plan, 0
        self._results = Results(plan)
        self._fields = [pa.field(name, plan.source.column(name).type.arrow) for name in plan.carried]
        self._key = [plan.carried.index(name) for name in plan.source.key]
        self.stores: dict[str, RowStore] = {}
        self._rows: RowStore | None = None
        if plan.source.key:
            fields = [*self._fields, *([pa.field(_DUE, pa.int64())] if plan.bounded else [])]
            index = [len(self._fields)] if plan.bounded else ()
            self._rows = RowStore(pa.schema(fields), self._key, index=index, slots=slots, bytes_max=bytes_max)
            self.stores["rows"] = self._rows
        self._clock = Clock(slots)
        if plan.bounded:
            self.stores["watermark"] = self._clock.store
        self._dues: set[int] | None = None

    @property
    def watermark_us(self) -> int | None:
        """The greatest watermark seen, in microseconds since 1970."""
        return self._clock.us

    def apply(self, changes: ChangeBatch) -> Contributed:
        """Turn changes of the source table into rows to count in and out.

        Args:
            changes: upserts, inserts and deletes; columns that the step does not read may come, go or change.
        Raises: ConfigurationError where a column that it reads has another type; CapacityError; DataError as compact.
        """
        self._check(changes.table)
        record = compact(changes.record, changes.table)
        if not record.num_rows:
            return Contributed()
        changes = ChangeBatch(changes.table, record)
        return self._keyless(changes) if self._rows is None else self._keyed(changes, self._rows)

    def _check(self, table: Table) -> None:
        if table.key != self.plan.source.key:
            raise ConfigurationError(
                f"window {self.plan.name}: expected the key {self.plan.source.key} of {table.name}, found {table.key}"
            )
        for name in self.plan.carried:
            if table.column(name).type != self.plan.source.column(name).type:
                raise ConfigurationError(
                    f"window {self.plan.name}: column {name}: expected {self.plan.source.column(name).type}, "
                    f"found {table.column(name).type}"
                )

    def _keyless(self, changes: ChangeBatch) -> Contributed:
        record = changes.record
        columns = [record.column(name) for name in self.plan.carried]
        deleted = op_is(record, Op.DELETE)
        dead = self._without_time(columns)
        late = self._late(columns)
        kept = pc.invert(pc.or_(dead, late))
        stamps, rows = record.column(SOURCE_TS), None
        if pc.any(kept).as_py():
            sign = pc.if_else(deleted, pa.scalar(-1, pa.int8()), pa.scalar(1, pa.int8()))
            rows = self._travelling(columns, sign, stamps, kept)
        return Contributed(rows, self._to_late(columns, stamps, late, deleted), _picked(changes, dead))

    def _keyed(self, changes: ChangeBatch, store: RowStore) -> Contributed:
        record = changes.record
        columns = [record.column(name) for name in self.plan.carried]
        found = store.find(batch([self._fields[i] for i in self._key], [columns[i] for i in self._key]))
        known = pc.greater_equal(found, int64(0))
        old = store.take(found).columns if pc.any(known).as_py() else None
        if old is not None and changes.has_unset:
            self._fill(columns, changes, old, known)
        stamps, deleted = record.column(SOURCE_TS), op_is(record, Op.DELETE)
        dead = pc.and_not(self._without_time(columns), deleted)
        late = pc.and_not(self._late(columns), deleted)
        frozen, live, moved = None, known, pc.invert(known)
        if old is not None:
            frozen, uncounted = self._frozen(old, known)
            late = pc.or_(late, frozen)
            dead = pc.and_not(dead, frozen)
            live = pc.and_not(known, pc.or_(frozen, uncounted))
            moved = pc.or_(pc.invert(live), self._moved(columns, old))
        counted = pc.and_(pc.invert(pc.or_(deleted, pc.or_(dead, late))), moved)
        pieces = []
        if old is not None:
            out = pc.and_(live, pc.or_(moved, pc.or_(deleted, pc.or_(dead, late))))
            if pc.any(out).as_py():
                pieces.append(self._travelling(old, pa.scalar(-1, pa.int8()), stamps, out))
        if pc.any(counted).as_py():
            pieces.append(self._travelling(columns, pa.scalar(1, pa.int8()), stamps, counted))
        result = Contributed(
            (pa.concat_batches(pieces) if len(pieces) > 1 else pieces[0]) if pieces else None,
            self._to_late(columns, stamps, late, deleted),
            _picked(changes, dead),
        )
        held = pc.or_(dead, pc.and_not(late, deleted))
        if frozen is not None:
            held = pc.and_not(held, frozen)
        self._save(store, columns, counted, held, pc.and_(known, deleted))
        return result

    def _frozen(self, old: list[pa.Array], known: pa.BooleanArray) -> tuple[pa.BooleanArray, pa.BooleanArray]:
        """(rows that counted and whose windows are all closed, rows that are kept but count nowhere)."""
        if not self.plan.bounded:
            nowhere = self._without_time(old)
            return pa.repeat(pa.scalar(False), len(known)), pc.and_(known, nowhere)
        due = old[len(self._fields)]
        uncounted = pc.fill_null(pc.equal(due, int64(_UNCOUNTED)), False)
        frozen = pc.and_(pc.and_not(known, uncounted), pc.or_(due.is_null(), self._late(old)))
        return frozen, uncounted

    def _fill(self, columns: list[pa.Array], changes: ChangeBatch, old: list[pa.Array], known: pa.BooleanArray) -> None:
        """Values that were not sent are those that the row has."""
        names = [column.name for column in changes.table.columns]
        lacks = lacks_of(changes.record, len(names))
        for place, name in enumerate(self.plan.carried):
            mask = lacks[names.index(name)]
            if mask is not None:
                columns[place] = pc.if_else(pc.and_(mask, known), old[place], columns[place])

    def _moved(self, columns: list[pa.Array], old: list[pa.Array]) -> pa.BooleanArray:
        """Which rows count otherwise than before."""
        moved = pa.repeat(pa.scalar(False), len(columns[0]))
        for place, column in enumerate(columns):
            if place not in self._key:
                moved = pc.or_(moved, differs(column, old[place]))
        return moved

    def _travelling(
        self, columns: list[pa.Array], sign: pa.Array | pa.Scalar, stamps: pa.Array, chosen: pa.BooleanArray
    ) -> pa.RecordBatch:
        """The chosen rows as Aggregates wants them."""
        plan, rows = self.plan, len(chosen)
        arrays = [columns[plan.carried.index(name)] for name in plan.travelling]
        if not plan.by:
            arrays.append(pa.repeat(pa.scalar(0, pa.int8()), rows))
        signs = pa.repeat(sign, rows) if isinstance(sign, pa.Scalar) else sign
        record = pa.RecordBatch.from_arrays([*arrays, signs, stamps], schema=plan.travelling_schema)
        return record if pc.all(chosen).as_py() else record.filter(chosen)

    def _save(
        self,
        store: RowStore,
        columns: list[pa.Array],
        counted: pa.BooleanArray,
        held: pa.BooleanArray,
        gone: pa.BooleanArray,
    ) -> None:
        """Keep rows that count, and those that do not for what later changes may leave out; forget deleted ones."""
        keys = batch([self._fields[i] for i in self._key], [columns[i] for i in self._key])
        if self.plan.bounded and self._clock.us is not None:
            self._clock.touch(pc.unique(store.slots_of(keys)).to_pylist())
        if pc.any(gone).as_py():
            store.delete(keys.filter(gone))
        arrays = columns
        if self.plan.bounded:
            due = self._due(time_us(columns[self.plan.carried.index(self.plan.time)]))
            self._live().update(pc.unique(due.filter(counted)).to_pylist())
            arrays = [*columns, pc.if_else(held, int64(_UNCOUNTED), due)]
        record = batch(store.schema, arrays)
        kept = pc.or_(counted, held)
        store.upsert(record if pc.all(kept).as_py() else record.filter(kept))

    def _due(self, times: pa.Int64Array) -> pa.Int64Array:
        """Rows of one value are purged together: the last window's start, or the session's pane."""
        plan = self.plan
        return floored(times, plan.gap_us if plan.kind == "session" else plan.slide_us)

    def _live(self) -> set[int]:
        if self._dues is None:
            self._dues = set()
            if self._rows is not None and self.plan.bounded:
                for slot in range(self._rows.slots):
                    found = pc.unique(self._rows.whole(slot).column(_DUE)).to_pylist()
                    self._dues.update(due for due in found if due is not None and due != _UNCOUNTED)
        return self._dues

    def _without_time(self, columns: list[pa.Array]) -> pa.BooleanArray:
        if self.plan.time is None:
            return pa.repeat(pa.scalar(False), len(columns[0]))
        return time_us(columns[self.plan.carried.index(self.plan.time)]).is_null()

    def _late(self, columns: list[pa.Array]) -> pa.BooleanArray:
        """Which rows have a time whose windows are all closed."""
        plan = self.plan
        if plan.time is None or not plan.bounded or self._clock.us is None:
            return pa.repeat(pa.scalar(False), len(columns[0]))
        return pc.fill_null(is_late(plan, time_us(columns[plan.carried.index(plan.time)]), self._clock.us), False)

    def _to_late(
        self, columns: list[pa.Array], stamps: pa.Array, late: pa.BooleanArray, deleted: pa.BooleanArray
    ) -> ChangeBatch | None:
        if not pc.any(late).as_py():
            return None
        record = batch([*self._fields, pa.field(SOURCE_TS, stamps.type)], [*columns, stamps]).filter(late)
        self.late_rows += record.num_rows
        change = pc.if_else(deleted.filter(late), pa.scalar("remove"), pa.scalar("add"))
        return self._results.late(record, change, self._clock.us or 0)

    def advance(self, us: int) -> None:
        """Take a watermark, in microseconds since 1970: rows of closed windows are purged, but for their keys."""
        store = self._rows
        if not self.plan.bounded or not self._clock.rise(us) or store is None:
            return
        live = self._live()
        for due in [due for due in live if _is_over(self.plan, due, us)]:
            live.discard(due)
            one = batch([pa.field(_DUE, pa.int64())], [pa.array([due], pa.int64())])
            keys = store.take(store.matches(one)[1], self._key)
            self._clock.touch(pc.unique(store.slots_of(keys)).to_pylist())
            for start in range(0, keys.num_rows, _ROWS_MAX):
                self._freeze(store, keys.slice(start, _ROWS_MAX))

    def _freeze(self, store: RowStore, keys: pa.RecordBatch) -> None:
        """Leave nothing but the keys."""
        own = dict(zip(self.plan.source.key, keys.columns, strict=True))
        nulls = {field.name: pa.nulls(keys.num_rows, field.type) for field in store.schema if field.name not in own}
        store.upsert(batch(store.schema, [(own | nulls)[field.name] for field in store.schema]))

    def truncate(self) -> None:
        """The source table is empty now; Aggregates.truncate takes the results back."""
        if self._rows is not None:
            self._rows.clear()
        self._dues = set()


def _is_over(plan: WindowPlan, due: int, us: int) -> bool:
    """Whether all rows of a purge unit are late."""
    width = 2 * plan.gap_us if plan.kind == "session" else plan.size_us
    return due + width + (plan.allowed_lateness_us or 0) <= us


def _picked(changes: ChangeBatch, rows: pa.BooleanArray) -> ChangeBatch | None:
    return ChangeBatch(changes.table, changes.record.filter(rows)) if pc.any(rows).as_py() else None
