"""Stage (b) of the join: facts beside the dimension that they point at; a change of either gives the results anew."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import OP, SOURCE_TS, SOURCE_TS_TYPE, UNSET, ChangeBatch
from libcore.compact import compact
from libcore.errors import FatalError
from libcore.join_columns import (
    Lacks,
    admitted,
    all_valid,
    bitmap_of,
    cast_keys,
    differs,
    fold,
    lacks_of,
    pieces,
    result_rows,
    runs_of_keys,
    stored_rows,
    tombstones,
    widened,
    with_unset,
)
from libcore.join_plan import VERSION, JoinPlan
from libcore.join_stage import DELETED, ENTERING, NOWHERE, ROWS_MAX, UNKNOWN, ZERO, Stage
from libcore.slots import take
from libcore.table import RowStore


class Matcher(Stage):
    """Stage (b), for all slots of a process: facts beside the dimension that they point at.

    State: store "facts" (with __version and __unset) and store "dimension" (key and taken columns), both by the slot
    of the foreign key.

    Args:
        rows_max: rows of a batch that comes out, at most.
    """

    def __init__(self, plan: JoinPlan, slots: int, bytes_max: int = 0, *, rows_max: int = ROWS_MAX) -> None:
        super().__init__(plan, slots, bytes_max)
        self._rows_max, self._changes = rows_max, 0
        self.stores = {"facts": self.new_store("facts"), "dimension": self.new_store("dimension")}

    def new_store(self, name: str) -> RowStore:
        """See Stage.new_store."""
        plan = self.plan
        if name == "dimension":
            schema = plan.partner_schema
            key = [schema.get_field_index(column) for column in plan.dimension.key]
            return RowStore(schema, key, slots=self._slots, bytes_max=self._bytes_max)
        schema = plan.facts_schema
        key = [schema.get_field_index(column) for column in plan.place]
        foreign = [schema.get_field_index(column) for column in plan.foreign_key]
        return RowStore(schema, key, index=foreign, slot_by=foreign, slots=self._slots, bytes_max=self._bytes_max)

    def facts(self, record: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Take rows that routers sent, in the order they came; exhaust the result before the next call.

        Args:
            record: as FactRouter.route gives it for (b); several of its batches may stand one behind the other.
        Returns: batches of the result's columns, __op (upsert, delete), __version as it came, __source_ts, perhaps
            __unset. Forgets give no rows, and a NEW fact without partner gives none in an inner join.
        Raises: CapacityError.
        """
        self._changes += 1
        record = widened(record, self.plan.routed_schema)
        if self.in_c:
            return self._guarded(self.kernel().facts(record, self.stores, self._rows_max))
        forget = pc.equal(record.column(OP), DELETED)
        turns = pc.indices_nonzero(pc.xor(forget[1:], forget[:-1])).to_pylist()
        entered: list[pa.RecordBatch] = []
        for start, stop in pairwise([0, *(turn + 1 for turn in turns), record.num_rows]):
            run = record.slice(start, stop - start)
            if start < stop and forget[start].as_py():
                self.stores["facts"].delete(run.select(list(self.plan.place)))
            elif start < stop:
                entered += self._entered(run)
        return self._guarded(chain.from_iterable(map(self._probed, entered)))

    def dimension(self, batch: ChangeBatch) -> Iterator[pa.RecordBatch]:
        """Take changes of the dimension; exhaust the result before the next call.

        Args:
            batch: of plan.dimension, or of a table with some of its columns; upserts, inserts and deletes.
        Returns: the results, as facts() gives them, of every fact whose partner came, went, or changed in a taken
            column, in batches of at most rows_max rows.
        Raises: ConfigurationError for a table that replan() must see first, CapacityError, DataError as compact.
        """
        self._changes += 1
        record = admitted(batch, self.plan.dimension, self.plan.name)
        if self.in_c:
            return self._guarded(self.kernel().dimension(record, self.stores, self._rows_max))
        return self._guarded(self._dimension_in_columns(record))

    def _dimension_in_columns(self, record: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """dimension() without C."""
        record = compact(record, self.plan.dimension)
        store = self.stores["dimension"]
        keys = record.select(list(self.plan.dimension.key))
        rows = store.find(keys)
        known, deleted = pc.greater_equal(rows, ZERO), pc.equal(record.column(OP), DELETED)
        old = store.take(rows)
        partner, lacks = self._partner(record, old, known)
        changed = self._changed(partner, lacks, old, known)
        comes, goes = pc.and_not(changed, deleted), pc.and_(deleted, known)
        bits = bitmap_of(lacks, record.num_rows)
        stored = stored_rows(partner, None, bits, store.schema)
        store.upsert(stored.filter(comes))
        store.delete(keys.filter(goes))
        stamps = record.select([SOURCE_TS])
        ops = None
        if self.plan.inner:  # no result of a fact was sent while its partner was not there
            ops = pc.if_else(known, ENTERING, UNKNOWN).filter(comes)
        came = self._emitted(keys.filter(comes), stamps.filter(comes), stored.filter(comes), ops)
        return chain(came, self._emitted(keys.filter(goes), stamps.filter(goes), None))

    def truncate_dimension(self) -> Iterator[pa.RecordBatch]:
        """Delete the whole dimension, slot after slot, as dimension() does; exhaust it before the next call."""
        store = self.stores["dimension"]
        for slot in range(self._slots):
            self._changes += 1
            keys = store.whole(slot).select(list(store.key))
            store.delete(keys)
            stamps = pa.RecordBatch.from_arrays([pa.nulls(keys.num_rows, SOURCE_TS_TYPE)], names=[SOURCE_TS])
            yield from self._guarded(self._emitted(keys, stamps, None))

    def _guarded(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Row numbers hold until a store changes: stop whoever changes one while results are still to come."""
        changes = self._changes
        while True:
            if changes != self._changes:
                raise FatalError(f"join {self.plan.name}: a call to the matcher before the last one's result was read")
            if (batch := next(batches, None)) is None:
                return
            yield batch

    def _entered(self, record: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Put facts in the store, what they lack taken from the same fact as it lay here; gives them filled."""
        names, place, store = list(self.plan.fact_names), list(self.plan.place), self.stores["facts"]
        if UNSET not in record.schema.names:
            store.upsert(stored_rows(record.select(names), record.column(VERSION), None, store.schema))
            return [record]
        filled = []
        for run in runs_of_keys(record, place):  # of two rows of one fact, the second's values may be in the first
            rows = store.find(run.select(place))
            columns, lacks = [run.column(name) for name in names], lacks_of(run, len(names))
            fold(columns, lacks, store.take(rows), pc.greater_equal(rows, ZERO))
            bits = bitmap_of(lacks, run.num_rows)
            columns += [run.column(name) for name in (OP, VERSION, SOURCE_TS)]
            full = with_unset(pa.RecordBatch.from_arrays(columns, schema=self.plan.routed_schema), bits)
            store.upsert(stored_rows(full.select(names), full.column(VERSION), bits, store.schema))
            filled.append(full)
        return filled

    def _probed(self, record: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The results of facts, by looking up the partner of each."""
        plan, store = self.plan, self.stores["dimension"]
        types = [store.schema.field(column).type for column in store.key]
        columns = cast_keys([record.column(name) for name in plan.foreign_key], types)
        keys = pa.RecordBatch.from_arrays(columns, names=list(plan.dimension.key))
        rows = store.find(keys)
        if any(column.null_count for column in columns):
            rows = pc.if_else(all_valid(keys, plan.dimension.key), rows, NOWHERE)
        found = pc.greater_equal(rows, ZERO)
        alone = record.slice(0, 0)
        if not pc.all(found).as_py():
            alone = record.filter(pc.invert(found))
            if plan.inner:
                alone = alone.filter(pc.not_equal(alone.column(OP), UNKNOWN))
            record, rows = record.filter(found), rows.filter(found)

        def build(start: int, stop: int) -> pa.RecordBatch:
            facts = record.slice(start, stop - start)
            return result_rows(plan, facts, store.take(rows.slice(start, stop - start)), facts.column(SOURCE_TS))

        yield from pieces(record.num_rows, self._rows_max, build)
        for start in range(0, alone.num_rows, self._rows_max):
            piece = alone.slice(start, self._rows_max)
            yield self._alone(piece, piece.column(SOURCE_TS))

    def _alone(self, facts: pa.RecordBatch, source_ts: pa.Array) -> pa.RecordBatch:
        """The results of facts that have no partner: deletes, or taken columns NULL."""
        if not self.plan.inner:
            return result_rows(self.plan, facts, None, source_ts)
        own = {name: facts.column(name) for name in self.plan.fact.key}
        return tombstones(self.plan.result_schema, own, facts.column(VERSION), source_ts)

    def _partner(self, record: pa.RecordBatch, old: pa.RecordBatch, known: pa.Array) -> tuple[pa.RecordBatch, Lacks]:
        """Key and taken columns of dimension rows, unset ones from state; what is still unset."""
        names = [column.name for column in self.plan.dimension.columns]
        bits = lacks_of(record, len(names))
        lacks = [bits[names.index(name)] for name in self.plan.partner]
        columns = [record.column(name) for name in self.plan.partner]
        fold(columns, lacks, old, known)
        return pa.RecordBatch.from_arrays(columns, names=list(self.plan.partner)), lacks

    def _changed(self, partner: pa.RecordBatch, lacks: Lacks, old: pa.RecordBatch, known: pa.Array) -> pa.Array:
        """Whether a dimension row is new or differs in a taken column; a value that is still unset does not differ."""
        changed = pc.invert(known)
        old_lacks = lacks_of(old, len(lacks))
        for index, name in enumerate(self.plan.partner):
            if name not in self.plan.take:
                continue
            other = differs(partner.column(index), old.column(index))
            if (was := old_lacks[index]) is not None:
                other = pc.or_(other, was)
            if (mask := lacks[index]) is not None:
                other = pc.and_not(other, mask)
            changed = pc.or_(changed, other)
        return changed

    def _emitted(
        self, keys: pa.RecordBatch, stamps: pa.RecordBatch, partner: pa.RecordBatch | None, ops: pa.Array | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The results of all facts at these keys of the dimension; `partner` None: it went; `ops`: one a key."""
        store = self.stores["facts"]
        if keys.num_rows == 0 or store.rows == 0:
            return
        columns = cast_keys(keys.columns, [store.schema.field(column).type for column in store.index])
        probes, rows = store.matches(pa.RecordBatch.from_arrays(columns, names=list(self.plan.foreign_key)))

        def build(start: int, stop: int) -> pa.RecordBatch:
            facts, at = store.take(rows.slice(start, stop - start)), probes.slice(start, stop - start)
            source_ts = take(stamps, at).column(0)
            if partner is None:
                return self._alone(facts, source_ts)
            op = None if ops is None else pc.take(ops, at)
            return result_rows(self.plan, facts, take(partner, at), source_ts, op)

        yield from pieces(len(rows), self._rows_max, build)
