"""Stage (a) of the join: complete each fact, give it a version, send it where its foreign key points."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import OP, POSITION, SOURCE_TS, ChangeBatch, arrow_schema
from libcore.compact import compact
from libcore.join_c import Routed
from libcore.join_columns import (
    Lacks,
    admitted,
    all_valid,
    bitmap_of,
    counted,
    differs,
    fold,
    joined_rows,
    lacks_of,
    positions_of,
    result_rows,
    stored_rows,
    tombstones,
    with_unset,
)
from libcore.join_plan import VERSION, JoinPlan
from libcore.join_stage import DELETED, ENTERING, ROWS_MAX, UNKNOWN, ZERO, Stage
from libcore.slots import take
from libcore.table import RowStore

_COUNTER = pa.schema([("slot_key", pa.int64()), ("value", pa.int64())])


class FactRouter(Stage):
    """Stage (a), for all slots of a process: where each fact goes, complete and with a version.

    State: store "keys" has a row a fact (key, foreign key, kept columns), store "counter" one a slot that was touched.
    """

    def __init__(self, plan: JoinPlan, slots: int, bytes_max: int = 0) -> None:
        super().__init__(plan, slots, bytes_max)
        self.stores = {"keys": self.new_store("keys"), "counter": self.new_store("counter")}

    def new_store(self, name: str) -> RowStore:
        """See Stage.new_store."""
        if name == "counter":
            return RowStore(_COUNTER, [0], slots=self._slots)
        schema = self.plan.held_schema
        key = [schema.get_field_index(column) for column in self.plan.fact.key]
        return RowStore(schema, key, slots=self._slots, bytes_max=self._bytes_max)

    def route(self, batch: ChangeBatch) -> Routed:
        """Take changes of the fact table.

        Args:
            batch: of plan.fact, or of a table with some of its columns; upserts, inserts and deletes.
        Returns: (to (b), to (c)), None for no rows.
            To (b): the fact's columns, __op (FORGET: foreign key and key only; ENTER; NEW), __version, __source_ts,
            perhaps __unset; forgets first. To (c): the result's columns and the same: deletes, and facts with a NULL
            in the foreign key (left: upserts; inner: deletes of those that had a partner's key before).
        Raises: ConfigurationError for a table that replan() must see first, CapacityError, DataError as compact.
        """
        record = admitted(batch, self.plan.fact, self.plan.name)
        return self.kernel().route(record, self.stores) if self.in_c else self._in_columns(record)

    def _in_columns(self, record: pa.RecordBatch) -> Routed:
        """route() without C."""
        record = compact(record, self.plan.fact)
        if record.num_rows == 0:
            return None, None
        keys = record.select(list(self.plan.fact.key))
        store, lacks = self.stores["keys"], lacks_of(record, len(self.plan.fact_names))
        rows = store.find(keys)
        filling = any(mask is not None for mask in lacks)
        old = store.take(rows, None if filling else [store.schema.get_field_index(c) for c in self.plan.foreign_key])
        known = pc.greater_equal(rows, ZERO)
        record = record.select([*self.plan.fact_names, OP, SOURCE_TS])
        if filling:
            record = self._filled(record, lacks, old, known)
        version = counted(self._counter(), record.num_rows)
        deleted = pc.equal(record.column(OP), DELETED)
        self._keep(record, lacks, keys, deleted)
        self._count(keys, version)
        return self._routed(self._stamped(record, lacks, version, known), old, deleted)

    def _routed(self, stamped: pa.RecordBatch, old: pa.RecordBatch, deleted: pa.Array) -> Routed:
        """Who goes where: `stamped` has the fact's columns as sent to (b), `old` at least the old foreign key."""
        plan = self.plan
        complete = pc.and_not(all_valid(stamped, plan.foreign_key), deleted)
        left = all_valid(old, plan.foreign_key)
        stays = pc.and_(left, complete)
        for name in plan.foreign_key:
            stays = pc.and_not(stays, differs(stamped.column(name), old.column(name)))
        nulls = pc.and_not(pc.invert(deleted), complete)
        gone = pc.or_(deleted, pc.and_(nulls, left)) if plan.inner else deleted
        direct = joined_rows(self._tombstones(stamped, gone), None if plan.inner else self._partnerless(stamped, nulls))
        forgets = self._forgets(stamped, old, pc.and_not(pc.and_not(left, stays), deleted))
        return joined_rows(forgets, self._entering(stamped, old, complete, pc.and_(left, deleted))), direct

    def truncate(self) -> Iterator[Routed]:
        """Delete every known fact, slot after slot, as route() does; exhaust it before the next call.

        Yields: what route() returns, of at most 32768 facts each.
        """
        store, schema = self.stores["keys"], arrow_schema(self.plan.fact)
        names = [store.schema.names[column] for column in store.key]
        for slot in range(self._slots):
            held = store.whole(slot).select(names)
            for start in range(0, held.num_rows, ROWS_MAX):
                keys = held.slice(start, ROWS_MAX)
                rows = keys.num_rows
                own = {**dict(zip(names, keys.columns, strict=True)), OP: pa.repeat(DELETED, rows)}
                own[POSITION] = positions_of(counted(0, rows))
                arrays = [own[f.name] if f.name in own else pa.nulls(rows, f.type) for f in schema]
                yield self.route(ChangeBatch(self.plan.fact, pa.RecordBatch.from_arrays(arrays, schema=schema)))

    def _filled(self, record: pa.RecordBatch, lacks: Lacks, old: pa.RecordBatch, known: pa.Array) -> pa.RecordBatch:
        """The record with held columns taken from state where a row lacks them; `lacks` becomes what is left."""
        columns = {name: record.column(name) for name in record.schema.names}
        held = [self.plan.fact_names.index(name) for name in self.plan.held]
        values, bits = [columns[name] for name in self.plan.held], [lacks[index] for index in held]
        fold(values, bits, old, known)
        columns.update(zip(self.plan.held, values, strict=True))
        for index, mask in zip(held, bits, strict=True):
            lacks[index] = mask
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=record.schema)

    def _keep(self, record: pa.RecordBatch, lacks: Lacks, keys: pa.RecordBatch, deleted: pa.Array) -> None:
        names = self.plan.fact_names
        bits = bitmap_of([lacks[names.index(name)] for name in self.plan.held], record.num_rows)
        store = self.stores["keys"]
        # Deleted rows go in and out again: each key is here once, and that is cheaper than to copy all others.
        store.upsert(stored_rows(record.select(list(self.plan.held)), None, bits, store.schema))
        if pc.any(deleted).as_py():
            store.delete(keys.filter(deleted))

    def _stamped(self, record: pa.RecordBatch, lacks: Lacks, version: pa.Array, known: pa.Array) -> pa.RecordBatch:
        columns = [*record.columns[:-2], pc.if_else(known, ENTERING, UNKNOWN), version, record.column(SOURCE_TS)]
        stamped = pa.RecordBatch.from_arrays(columns, schema=self.plan.routed_schema)
        return with_unset(stamped, bitmap_of(lacks, record.num_rows))

    def _forgets(self, stamped: pa.RecordBatch, old: pa.RecordBatch, moved: pa.Array) -> pa.RecordBatch | None:
        """FORGET for facts that are still there, at another foreign key or at none."""
        if not pc.any(moved).as_py():
            return None
        stamps = stamped.select([*self.plan.fact.key, VERSION, SOURCE_TS]).filter(moved)
        own = {name: stamps.column(name) for name in self.plan.fact.key}
        was = old.select(list(self.plan.foreign_key)).filter(moved)
        own.update({name: was.column(name) for name in self.plan.foreign_key})
        return tombstones(self.plan.routed_schema, own, stamps.column(VERSION), stamps.column(SOURCE_TS))

    def _entering(
        self, stamped: pa.RecordBatch, old: pa.RecordBatch, complete: pa.Array, deleted: pa.Array
    ) -> pa.RecordBatch:
        """FORGET for deleted facts, made of their own rows, whose other columns are NULL; behind them who enters."""
        if pc.all(complete).as_py():
            return stamped
        columns = stamped.columns
        for name in self.plan.foreign_key:
            index = stamped.schema.get_field_index(name)
            columns[index] = pc.if_else(deleted, old.column(name), columns[index])
        index = stamped.schema.get_field_index(OP)
        columns[index] = pc.if_else(deleted, DELETED, columns[index])
        rows = pa.concat_arrays([pc.indices_nonzero(deleted), pc.indices_nonzero(complete)]).cast(pa.int32())
        return take(pa.RecordBatch.from_arrays(columns, schema=stamped.schema), rows)

    def _tombstones(self, stamped: pa.RecordBatch, gone: pa.Array) -> pa.RecordBatch | None:
        if not pc.any(gone).as_py():
            return None
        rows = stamped.select([*self.plan.fact.key, VERSION, SOURCE_TS]).filter(gone)
        own = {name: rows.column(name) for name in self.plan.fact.key}
        return tombstones(self.plan.result_schema, own, rows.column(VERSION), rows.column(SOURCE_TS))

    def _partnerless(self, stamped: pa.RecordBatch, nulls: pa.Array) -> pa.RecordBatch | None:
        if not pc.any(nulls).as_py():
            return None
        rows = stamped.filter(nulls)
        return result_rows(self.plan, rows, None, rows.column(SOURCE_TS))

    def _counter(self) -> int:
        """The greatest version given so far; asked each time, so that a load() in between counts."""
        store = self.stores["counter"]
        return pc.max(store.whole().column(1)).as_py() if store.rows else 0

    def _count(self, keys: pa.RecordBatch, version: pa.Array) -> None:
        touched = pc.unique(self.stores["keys"].slots_of(keys))
        most = pa.repeat(version[-1], len(touched))
        self.stores["counter"].upsert(pa.RecordBatch.from_arrays([self.slot_keys.take(touched), most], schema=_COUNTER))
