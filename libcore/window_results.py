"""From partial sums to the results of windows: exact columns, upserts and deletes with positions, late rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import OP, SOURCE_TS_TYPE, ChangeBatch, Op, arrow_schema
from libcore.join_columns import positions_of
from libcore.window_columns import counted, disordered, floored, int64, none_as_null
from libcore.window_kernels import averages
from libcore.window_plan import SIGN, START, Aggregate, WindowPlan

LAST = "__last"
_NAN = float("nan")
_UPSERT, _DELETE = pa.scalar(Op.UPSERT, pa.int8()), pa.scalar(Op.DELETE, pa.int8())
_INFINITY = float("inf")


@dataclass(frozen=True)
class Applied:
    """What an apply or an advance gave; None for nothing.

    results: of plan.result. late: of plan.late. refused: results that have a sum beyond its type, that column NULL,
    with a sentence a row; they are not among the results.
    """

    results: ChangeBatch | None = None
    late: ChangeBatch | None = None
    refused: tuple[ChangeBatch, list[str]] | None = None


class Results:
    """Makes result rows; positions rise for the life of the object."""

    def __init__(self, plan: WindowPlan) -> None:
        self._plan = plan
        self._schema = arrow_schema(plan.result)
        self._late_schema = arrow_schema(plan.late)
        self._count = 0

    def changes(
        self, rows: pa.RecordBatch, empty: pa.BooleanArray, source_ts: pa.Array, old: pa.RecordBatch | None = None
    ) -> Applied:
        """Upserts of windows, deletes of those that are empty.

        Args:
            rows: group fields, __start where timed (and __last for sessions), then partial fields; each window once.
            empty: which of them have no row.
            old: for a result without a key, what is to be taken back first.
        """
        if not rows.num_rows:
            return Applied()
        if self._plan.result.key:
            return self._given(rows, empty, pc.if_else(empty, _DELETE, _UPSERT), source_ts)
        first = None
        if old is not None and old.num_rows:
            none = pa.repeat(pa.scalar(False), old.num_rows)
            stamps = pa.repeat(source_ts[0], old.num_rows)
            first = self._given(old, none, pa.repeat(_DELETE, old.num_rows), stamps).results
        there = pc.invert(empty)
        second = self._given(
            rows.filter(there), empty.filter(there), pa.repeat(_UPSERT, rows.num_rows).filter(there),
            source_ts.filter(there),
        )  # fmt: skip
        return Applied(joined(first, second.results), refused=second.refused)

    def _given(self, rows: pa.RecordBatch, empty: pa.BooleanArray, ops: pa.Array, source_ts: pa.Array) -> Applied:
        """Result rows of these operations; values of empty windows are NULL."""
        if not rows.num_rows:
            return Applied()
        plan, count = self._plan, rows.num_rows
        columns: list[pa.Array] = [rows.column(name) for name in plan.by]
        if plan.timed:
            last = START if plan.kind != "session" else LAST
            end = pc.add(rows.column(last), int64(plan.gap_us if plan.kind == "session" else plan.size_us))
            kind = plan.result.column("window_start").type.arrow
            columns += [rows.column(START).cast(kind), none_as_null(empty, end).cast(kind)]
        unfit: list[tuple[Aggregate, pa.BooleanArray]] = []
        for aggregate in plan.aggregates:
            column, good = self._column(aggregate, rows)
            columns.append(none_as_null(empty, column))
            if good is not None and not pc.all(good).as_py():
                unfit.append((aggregate, pc.or_(good, empty)))
        record = pa.RecordBatch.from_arrays([*columns, ops, self._positions(count), source_ts], schema=self._schema)
        if not unfit:
            return Applied(ChangeBatch(plan.result, record))
        fits = unfit[0][1]
        for _, good in unfit[1:]:
            fits = pc.and_(fits, good)
        good_rows = record.filter(fits)
        return Applied(
            ChangeBatch(plan.result, good_rows) if good_rows.num_rows else None,
            refused=self._refused(record.filter(pc.invert(fits)), unfit, fits),
        )

    def deletes(self, keys: pa.RecordBatch, source_ts: pa.Array | None = None) -> ChangeBatch | None:
        """Deletes of windows by group fields and __start."""
        rows, plan = keys.num_rows, self._plan
        if not rows:
            return None
        own = {name: keys.column(name) for name in plan.by}
        if plan.timed:
            own["window_start"] = keys.column(START).cast(plan.result.column("window_start").type.arrow)
        own[OP] = pa.repeat(pa.scalar(Op.DELETE, pa.int8()), rows)
        arrays = [own.get(field.name) for field in self._schema]
        arrays[-2] = self._positions(rows)
        arrays[-1] = pa.nulls(rows, SOURCE_TS_TYPE) if source_ts is None else source_ts
        full = [
            pa.nulls(rows, field.type) if array is None else array
            for field, array in zip(self._schema, arrays, strict=True)
        ]
        return ChangeBatch(plan.result, pa.RecordBatch.from_arrays(full, schema=self._schema))

    def late(self, record: pa.RecordBatch, change: pa.Array, us: int) -> ChangeBatch | None:
        """Late rows as the keyless table of plan.late.

        Args:
            record: columns of plan.carried and __source_ts.
            change: "add" or "remove", a row each.
            us: the watermark that they are behind.
        """
        rows, plan = record.num_rows, self._plan
        if not rows:
            return None
        width = len(plan.late.columns) - 2
        columns = [record.column(column.name) for column in plan.late.columns[:width]]
        columns += [change, pa.repeat(int64(us), rows).cast(SOURCE_TS_TYPE)]
        columns += [pa.repeat(pa.scalar(Op.UPSERT, pa.int8()), rows), self._positions(rows)]
        columns.append(record.column("__source_ts"))
        return ChangeBatch(plan.late, pa.RecordBatch.from_arrays(columns, schema=self._late_schema))

    def late_contributions(self, record: pa.RecordBatch, us: int) -> ChangeBatch | None:
        """The same for rows that Aggregates got, told apart by __sign."""
        added = pc.greater(record.column(SIGN), 0)
        return self.late(record, pc.if_else(added, pa.scalar("add"), pa.scalar("remove")), us)

    def _positions(self, rows: int) -> pa.Array:
        first = self._count + 1
        self._count += rows
        return positions_of(pc.add(counted(rows), int64(first)))

    def _column(self, aggregate: Aggregate, rows: pa.RecordBatch) -> tuple[pa.Array, pa.BooleanArray | None]:
        """(the aggregate of each window, which of them fit its type; None: all do)."""
        name, kind = aggregate.column, aggregate.type.arrow
        if name is None:
            return rows.column("__rows"), None
        if aggregate.function == "distinct":
            return rows.column(f"__distinct:{name}"), None
        if aggregate.function in ("min", "max"):
            return disordered(rows.column(f"__{aggregate.function}:{name}"), kind), None
        count = rows.column(f"__count:{name}")
        if aggregate.function == "count":
            return count, None
        total, none = rows.column(f"__sum:{name}"), pc.less_equal(count, int64(0))
        if pa.types.is_floating(kind):
            value = _float_total(rows, name)
            if aggregate.function == "avg":
                value = pc.divide(value, pc.if_else(none, int64(1), count).cast(pa.float64()))
            return none_as_null(none, value), None
        if aggregate.function == "avg":
            return averages(total, count, kind)
        total = none_as_null(none, total)
        return (total, None) if total.type == kind else _narrowed(total, kind)

    def _refused(
        self, record: pa.RecordBatch, unfit: Sequence[tuple[Aggregate, pa.BooleanArray]], fits: pa.BooleanArray
    ) -> tuple[ChangeBatch, list[str]]:
        plan, bad = self._plan, pc.invert(fits)
        masks = [(aggregate, good.filter(bad).to_pylist()) for aggregate, good in unfit]
        keys = record.select(list(plan.result.key)).to_pylist() if plan.result.key else [{}] * record.num_rows
        sentences = []
        for row, key in enumerate(keys):
            names = [f"{aggregate.name} {aggregate.type}" for aggregate, good in masks if not good[row]]
            where = ", ".join(f"{name}={value}" for name, value in key.items())
            of = f"window {plan.name} of {where}" if where else f"window {plan.name}"
            sentences.append(f"{of}: expected a result that fits, found more digits: {names}")
        return ChangeBatch(plan.result, record), sentences


def is_late(plan: WindowPlan, times: pa.Int64Array, us: int) -> pa.BooleanArray:
    """Rows whose windows are all closed at that watermark."""
    lateness = plan.allowed_lateness_us or 0
    if plan.kind == "session":
        return pc.less_equal(times, int64(us - lateness - plan.gap_us))
    last = floored(times, plan.slide_us)
    return pc.less_equal(last, int64(us - lateness - plan.size_us))


def joined(first: ChangeBatch | None, second: ChangeBatch | None) -> ChangeBatch | None:
    """Both in one, where there are two."""
    if first is None or second is None:
        return first or second
    return ChangeBatch(first.table, pa.concat_batches([first.record, second.record]))


def _float_total(rows: pa.RecordBatch, name: str) -> pa.Array:
    """The sum of floats as IEEE 754 has it: NaN and infinities are counted, so that they can go again."""
    finite = pc.add(rows.column(f"__sum:{name}"), rows.column(f"__low:{name}"))
    nan, plus, minus = (pc.greater(rows.column(f"__{what}:{name}"), int64(0)) for what in ("nan", "inf", "ninf"))
    found = pc.if_else(plus, _INFINITY, pc.if_else(minus, -_INFINITY, finite))
    return pc.if_else(pc.or_(nan, pc.and_(plus, minus)), _NAN, found)


def _narrowed(total: pa.Array, kind: pa.DataType) -> tuple[pa.Array, pa.BooleanArray]:
    """A wide sum in its result's type; NULL, and False, where it has more digits."""
    most = pa.scalar(10**kind.precision - 1, pa.decimal256(76, 0)).cast(pa.decimal256(76, 0))
    bound = pa.array([most.as_py()], pa.decimal256(76, 0)).view(pa.decimal256(76, total.type.scale))[0]
    fits = pc.fill_null(pc.and_(pc.less_equal(total, bound), pc.greater_equal(total, pc.negate(bound))), True)
    return none_as_null(pc.invert(fits), total).cast(kind), fits
