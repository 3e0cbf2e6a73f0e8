"""Rows that become due: a boolean that turns true when a moment of the row has passed, without a change of the row.

Time is handed in and never goes back. All rows lie in a store; those that wait have the quarter of an hour of their
moment in an index, so that one look-up finds what a new time makes due. A moment is

    date           the start of the next day in the zone: "due on the 3rd" is overdue when the 4th begins
    timestamp      that wall-clock time in the zone; where clocks go back the later of the two
    timestamptz    that instant
    NULL           never
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import OP, SOURCE_TS, SOURCE_TS_TYPE, UNSET, ChangeBatch, Op, arrow_schema, op_is
from libcore.compact import compact
from libcore.errors import ConfigurationError
from libcore.join_columns import Lacks, bitmap_of, fold, lacks_of, positions_of, widened, with_unset
from libcore.join_columns import counted as numbered
from libcore.join_plan import CONTROL, check_grown
from libcore.join_stage import move_rows
from libcore.schema import Column, ColumnType, Table
from libcore.table import RowStore
from libcore.window_columns import Clock, batch, floored, int64

ROWS_MAX = 32768
"""Rows of one result batch of an advance or a truncate, at most."""
BUCKET_US = 15 * 60 * 1_000_000
"""Every zone's day begins at a multiple of this, so rows due at a day's start are looked up once, not every minute."""

_BUCKET = "__bucket"
_TYPES = ("date", "timestamp", "timestamp_ns", "timestamptz")
_DAY_US = 86_400_000_000
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01, 9999-12-31: outside of them a zone means nothing
_NEVER = pa.scalar(None, pa.int64())
_FALSE, _UPSERT, _DELETE = pa.scalar(False), pa.scalar(Op.UPSERT, pa.int8()), pa.scalar(Op.DELETE, pa.int8())


@dataclass(frozen=True)
class DuePlan:
    """A due step; made by plan_due, which checks it.

    source: the table that comes in. result: its columns and `flag`. at: the column with the row's moment. zone: for
    dates and wall-clock times, as "Europe/Istanbul".
    """

    source: Table
    result: Table
    at: str
    flag: str
    zone: str

    @property
    def name(self) -> str:
        """The result's name."""
        return self.result.name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All columns of the source."""
        return tuple(column.name for column in self.source.columns)

    @cached_property
    def schema(self) -> pa.Schema:
        """Store "rows": the source's columns, __bucket of a row that waits, __unset with a bit for each of both."""
        fields = [pa.field(column.name, column.type.arrow) for column in self.source.columns]
        return pa.schema(
            [*fields, pa.field(_BUCKET, pa.int64()), pa.field(UNSET, pa.binary((len(fields) + 1 + 7) // 8))]
        )

    def moments(self, column: pa.Array) -> pa.Int64Array:
        """When rows become due, in microseconds since 1970; NULL: never."""
        return moments(column, self.zone)


def plan_due(table: Table, at: str, flag: str, zone: str, name: str) -> DuePlan:
    """Check a due step and work out its result.

    Args:
        table: rows with a key.
        at: a date, timestamp, timestamptz or timestamp_ns column.
        flag: the boolean column that the result gets.
        zone: an IANA time zone.
        name: the result's name.
    Raises: ConfigurationError that says what was expected and found.
    """
    where = f"due {name}"
    if not table.key:
        raise ConfigurationError(f"{where}: table {table.name}: expected a key, found none")
    names = [column.name for column in table.columns]
    if at not in names:
        raise ConfigurationError(f"{where}: at: expected a column of {table.name}, one of {names}, found {at!r}")
    if table.column(at).type.name not in _TYPES:
        raise ConfigurationError(
            f"{where}: at: expected a column of type {', '.join(_TYPES)}, found {at} {table.column(at).type}"
        )
    if flag in (*names, *CONTROL, _BUCKET):
        raise ConfigurationError(f"{where}: flag: expected a name that the result does not have yet, found {flag!r}")
    try:
        moments(pa.array([0], pa.timestamp("us")), zone)
    except (pa.ArrowInvalid, OSError) as error:
        raise ConfigurationError(
            f"{where}: zone: expected an IANA time zone such as Europe/Istanbul, found {zone!r}"
        ) from error
    columns = (*table.columns, Column(flag, ColumnType("bool"), False))
    return DuePlan(table, Table(name, columns, table.key), at, flag, zone)


def moments(column: pa.Array, zone: str) -> pa.Int64Array:
    """When each value of a date or timestamp column has passed, in microseconds since 1970; NULL for NULL."""
    kind = column.type
    if pa.types.is_date32(kind):
        days = column.view(pa.int32()).cast(pa.int64())
        days = pc.max_element_wise(days, int64(_FIRST_DAY - 1), skip_nulls=False)
        days = pc.min_element_wise(days, int64(_LAST_DAY + 1), skip_nulls=False)
        wall = pc.multiply(pc.add(days, int64(1)), int64(_DAY_US))
    elif kind.unit == "ns":
        low = floored(column.view(pa.int64()), 1000)
        up = pc.if_else(pc.equal(low, column.view(pa.int64())), int64(0), int64(1))
        wall = pc.add(pc.divide(low, int64(1000)), up)
    else:
        wall = column.view(pa.int64())
    return wall if getattr(kind, "tz", None) is not None or zone == "UTC" else _instants(wall, zone)


def _instants(wall: pa.Int64Array, zone: str) -> pa.Int64Array:
    """Wall-clock times as instants; one that clocks leave out counts on from before their change, as in SQL."""
    low, high = int64(_FIRST_DAY * _DAY_US), int64((_LAST_DAY + 1) * _DAY_US)
    inside = pc.and_(pc.greater_equal(wall, low), pc.less(wall, high))
    safe = pc.if_else(inside, wall, _NEVER).view(pa.timestamp("us"))
    found = pc.assume_timezone(safe, zone, ambiguous="latest", nonexistent="latest")
    left_out = pc.not_equal(pc.local_timestamp(found), safe)  # `found` is the instant of the change
    found = found.view(pa.int64())
    if pc.any(left_out).as_py():
        before = pc.subtract(found, int64(1)).view(pa.timestamp("us", tz=zone))
        change = pc.add(pc.local_timestamp(before).view(pa.int64()), int64(1))
        found = pc.if_else(left_out, pc.add(found, pc.subtract(wall, change)), found)
    return pc.if_else(inside, found, wall)


class Due:
    """The rows of all slots of a process, and the time.

    Stores: "rows" (the whole row by key; __bucket while it waits, and an index on it), "clock" (the greatest time seen,
    kept with each slot whose rows it changed).

    Args:
        plan: of plan_due.
        slots: key-hash slots.
        bytes_max: bound of the memory of "rows"; 0: none.
    """

    def __init__(self, plan: DuePlan, slots: int = 64, bytes_max: int = 0) -> None:
        self.plan, self._slots, self._bytes_max = plan, slots, bytes_max
        self._clock = Clock(slots)
        self._rows = self._store()
        self._waiting: set[int] | None = None  # buckets that may have rows
        self._count = 0  # positions rise for the life of the object

    @property
    def stores(self) -> dict[str, RowStore]:
        """The state by name."""
        return {"rows": self._rows, "clock": self._clock.store}

    @property
    def now_us(self) -> int | None:
        """The greatest time seen, in microseconds since 1970; None before the first."""
        return self._clock.us

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """Apply rows that a store of this name once gave, perhaps before the table got columns: those are unset.

        Only before the first change and the first time.
        """
        found = self.stores[store]
        found.load(widened(record, found.schema) if store == "rows" else record)

    def replan(self, table: Table) -> None:
        """Go on with a table that gained columns. Raises ConfigurationError where it changed otherwise."""
        check_grown(f"due {self.plan.name}", self.plan.source, table)
        self.plan = plan_due(table, self.plan.at, self.plan.flag, self.plan.zone, self.plan.name)
        old, self._rows = self._rows, self._store()
        move_rows(old, self._rows)

    def apply(self, changes: ChangeBatch) -> ChangeBatch | None:
        """Take changes of the table, and give them with the flag as of the greatest time seen; before the first: false.

        Args:
            changes: of plan.source, or of a table with some of its columns; upserts, inserts and deletes. What a row
                was sent without is filled from the row that is known.
        Returns: changes of plan.result, each key once; None for none.
        Raises: ConfigurationError for a table that replan() must see first, CapacityError, DataError as compact.
        """
        plan, store = self.plan, self._rows
        if changes.table != plan.source:
            check_grown(f"due {plan.name}", changes.table, plan.source)
        record = compact(widened(changes.record, arrow_schema(plan.source)), plan.source)
        if not record.num_rows:
            return None
        keys = record.select(list(plan.source.key))
        found = store.find(keys)
        known = pc.greater_equal(found, int64(0))
        columns, lacks = [record.column(name) for name in plan.names], lacks_of(record, len(plan.names))
        if any(mask is not None for mask in lacks):
            fold(columns, lacks, store.take(found).drop_columns([_BUCKET]), known)
        deleted = op_is(record, Op.DELETE)
        moment = plan.moments(columns[plan.names.index(plan.at)])
        flags = self._passed(moment)
        self._keep(columns, lacks, pc.if_else(flags, _NEVER, floored(moment, BUCKET_US)), deleted)
        self._touch(keys)
        ops = pc.if_else(pc.and_not(known, deleted), record.column(OP), pc.if_else(deleted, _DELETE, _UPSERT))
        return self._result(columns, lacks, flags, ops, record.column(SOURCE_TS))

    def advance(self, us: int) -> Iterator[ChangeBatch]:
        """Take a time, in microseconds since 1970, and give the rows that it makes due; one below the greatest is none.

        To be exhausted before the next call. Batches have at most ROWS_MAX rows.
        """
        if not self._clock.rise(us):
            return
        waiting = self._buckets()
        for bucket in sorted(bucket for bucket in waiting if bucket <= us):
            yield from self._turned(bucket, us)
            if bucket + BUCKET_US - 1 <= us:
                waiting.discard(bucket)

    def truncate(self) -> Iterator[ChangeBatch]:
        """The table is empty now: every row is deleted. To be exhausted."""
        plan = self.plan
        for slot in range(self._slots):
            held = self._rows.whole(slot)
            for start in range(0, held.num_rows, ROWS_MAX):
                rows = held.slice(start, ROWS_MAX)
                keys = rows.select(list(plan.source.key))
                columns = [
                    keys.column(name) if name in plan.source.key else pa.nulls(rows.num_rows, rows.column(name).type)
                    for name in plan.names
                ]
                self._rows.delete(keys)
                ops, flags = pa.repeat(_DELETE, rows.num_rows), pa.repeat(_FALSE, rows.num_rows)
                none: Lacks = [None] * len(columns)
                yield self._result(columns, none, flags, ops, pa.nulls(rows.num_rows, SOURCE_TS_TYPE))

    def _turned(self, bucket: int, us: int) -> Iterator[ChangeBatch]:
        """Rows of the bucket whose moment has passed; they wait no more."""
        plan, store = self.plan, self._rows
        probe = batch([pa.field(_BUCKET, pa.int64())], [pa.array([bucket], pa.int64())])
        key = [plan.names.index(name) for name in plan.source.key]
        at = plan.names.index(plan.at)
        found = store.take(store.matches(probe)[1], [*key, *([] if at in key else [at])])
        passed = pc.less_equal(plan.moments(found.column(plan.at)), int64(us))
        keys = found.filter(passed).select(list(plan.source.key))
        for start in range(0, keys.num_rows, ROWS_MAX):
            piece = keys.slice(start, ROWS_MAX)
            held, rows = store.take(store.find(piece)), piece.num_rows
            columns, lacks = [held.column(name) for name in plan.names], lacks_of(held, len(plan.names))
            none = pa.repeat(_FALSE, rows)
            self._keep(columns, lacks, pa.nulls(rows, pa.int64()), none)
            self._touch(piece)
            flags, ops = pa.repeat(pa.scalar(True), rows), pa.repeat(_UPSERT, rows)
            yield self._result(columns, lacks, flags, ops, pa.nulls(rows, SOURCE_TS_TYPE))

    def _passed(self, moment: pa.Int64Array) -> pa.BooleanArray:
        if self._clock.us is None:
            return pa.repeat(_FALSE, len(moment))
        return pc.fill_null(pc.less_equal(moment, int64(self._clock.us)), _FALSE)

    def _keep(self, columns: list[pa.Array], lacks: Lacks, buckets: pa.Array, deleted: pa.BooleanArray) -> None:
        """Put rows into the store, and take the deleted ones out."""
        store, rows = self._rows, len(buckets)
        bits = bitmap_of([*lacks, None], rows)
        unset = pa.nulls(rows, store.schema.field(UNSET).type) if bits is None else bits
        record = pa.RecordBatch.from_arrays([*columns, buckets, unset], schema=store.schema)
        if pc.any(deleted).as_py():
            store.delete(record.filter(deleted).select(list(self.plan.source.key)))
            record = record.filter(pc.invert(deleted))
        store.upsert(record)
        self._buckets().update(pc.unique(record.column(_BUCKET).drop_null()).to_pylist())

    def _result(
        self, columns: list[pa.Array], lacks: Lacks, flags: pa.Array, ops: pa.Array, source_ts: pa.Array
    ) -> ChangeBatch:
        rows, schema = len(flags), arrow_schema(self.plan.result)
        positions = positions_of(numbered(self._count, rows))
        self._count += rows
        flags = pc.if_else(pc.equal(ops, _DELETE), pa.scalar(None, pa.bool_()), flags)
        record = pa.RecordBatch.from_arrays([*columns, flags, ops, positions, source_ts], schema=schema)
        return ChangeBatch(self.plan.result, with_unset(record, bitmap_of([*lacks, None], rows)))

    def _store(self) -> RowStore:
        schema = self.plan.schema
        key = [schema.get_field_index(name) for name in self.plan.source.key]
        index = [schema.get_field_index(_BUCKET)]
        return RowStore(schema, key, index=index, slots=self._slots, bytes_max=self._bytes_max)

    def _touch(self, keys: pa.RecordBatch) -> None:
        """The slots of these keys know the time from here on."""
        self._clock.touch(pc.unique(self._rows.slots_of(keys)).to_pylist())

    def _buckets(self) -> set[int]:
        if self._waiting is None:
            self._waiting = set()
            for slot in range(self._slots):
                self._waiting.update(pc.unique(self._rows.whole(slot).column(_BUCKET).drop_null()).to_pylist())
        return self._waiting
