"""The foreign-key join in three stages, so that any interleaving of facts and dimensions ends as the SQL join.

    (a) FactRouter  slot of the fact's key     fills what a row lacks, stamps it with a version, sends it to its foreign
                                               key's slot, and "forget" to the slot it left; deletes go straight to (c)
    (b) Matcher     slot of the foreign key    keeps facts and dimension; either side's change gives the rows anew
    (c) Latest      slot of the fact's key     of what (b) and (a) send in an epoch, the greatest version of a key stays

Two places (b) may answer for one fact in any order, before and after it moved; the version decides. A barrier between
epochs must empty the channels: then nothing older is on its way, and (c) forgets everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import OP, POSITION, SOURCE_TS, SOURCE_TS_TYPE, UNSET, ChangeBatch, Op, arrow_schema
from libcore.compact import compact
from libcore.errors import FatalError
from libcore.join_columns import (
    Lacks,
    admitted,
    all_valid,
    as_positions,
    bitmap_of,
    cast_keys,
    counted,
    differs,
    fold,
    joined_rows,
    keys_of_slots,
    lacks_of,
    pieces,
    positions_of,
    result_rows,
    stored_rows,
    tombstones,
    versions_of,
    widened,
    with_unset,
)
from libcore.join_plan import VERSION, JoinPlan, plan_join, replanned
from libcore.schema import Column, Table, parse_type
from libcore.slots import take
from libcore.table import RowStore

__all__ = ["ENTER", "FORGET", "NEW", "VERSION", "FactRouter", "JoinPlan", "Latest", "Matcher", "plan_join"]

# __op from (a) to (b). NEW is an ENTER of a fact that (a) did not know: no result of it can be anywhere yet.
ENTER, FORGET, NEW = int(Op.UPSERT), int(Op.DELETE), int(Op.INSERT)
ROWS_MAX = 32768
_COUNTER = pa.schema([("slot_key", pa.int64()), ("value", pa.int64())])
Routed = tuple[pa.RecordBatch | None, pa.RecordBatch | None]


class _Stage:
    """What (a) and (b) share: stores by name, loading older columns, wider tables."""

    def __init__(self, plan: JoinPlan, slots: int, bytes_max: int) -> None:
        self.plan, self._slots, self._bytes_max = plan, slots, bytes_max
        self.stores: dict[str, RowStore] = {}

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """Apply rows that a store of this name once gave, perhaps before the table got columns: those are unset."""
        self.stores[store].load(widened(record, self.stores[store].schema))

    def replan(self, *, fact: Table | None = None, dimension: Table | None = None) -> None:
        """Go on with tables that gained columns; rows in the stores lack their values. `stores` has new objects.

        Raises: ConfigurationError where a table changed otherwise; then nothing is changed.
        """
        self.plan = replanned(self.plan, fact, dimension)
        for name, old in list(self.stores.items()):
            new = self._store(name)
            if new.schema != old.schema:
                _move(old, new)
                self.stores[name] = new

    def _store(self, name: str) -> RowStore:
        raise NotImplementedError


def _move(old: RowStore, new: RowStore) -> None:
    """Bring all rows into a store of more columns, and what changed since the mark as changed."""
    changed, _ = old.changed()
    gone = changed.filter(pc.equal(changed.column(OP), Op.DELETE)).drop_columns([OP])
    for slot in range(old.slots):
        new.load(widened(old.whole(slot), new.schema))
    new.load(widened(gone, new.schema))
    new.upsert(widened(changed.filter(pc.equal(changed.column(OP), Op.UPSERT)).drop_columns([OP]), new.schema))
    new.delete(widened(gone, new.schema).select(list(new.key)))


class FactRouter(_Stage):
    """Stage (a), for all slots of a process: where each fact goes, complete and with a version.

    State: store "keys" has a row a fact (key, foreign key, kept columns), store "counter" one a slot that was touched.
    """

    def __init__(self, plan: JoinPlan, slots: int, bytes_max: int = 0) -> None:
        super().__init__(plan, slots, bytes_max)
        self._slot_keys = keys_of_slots(slots)
        self.stores = {"keys": self._store("keys"), "counter": self._store("counter")}

    def _store(self, name: str) -> RowStore:
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
        record = compact(admitted(batch, self.plan.fact, self.plan.name), self.plan.fact)
        if record.num_rows == 0:
            return None, None
        keys = record.select(list(self.plan.fact.key))
        store = self.stores["keys"]
        rows = store.find(keys)
        return self._routed(record, keys, store.take(rows), pc.greater_equal(rows, 0))

    def _routed(self, record: pa.RecordBatch, keys: pa.RecordBatch, old: pa.RecordBatch, known: pa.Array) -> Routed:
        plan = self.plan
        deleted = pc.equal(record.column(OP), Op.DELETE)
        record, lacks = self._filled(record, old, known)
        version = counted(self._counter(), record.num_rows)
        self._keep(record, lacks, keys, deleted)
        self._count(keys, version)
        complete = pc.and_not(all_valid(record, plan.foreign_key), deleted)
        left = all_valid(old, plan.foreign_key)
        stays = pc.and_(left, complete)
        for name in plan.foreign_key:
            stays = pc.and_not(stays, differs(record.column(name), old.column(name)))
        stamped = self._stamped(record, lacks, version, known)
        forgets = self._forgets(stamped, old, keys, pc.and_not(left, stays))
        entering = stamped.filter(complete)
        nulls = pc.and_not(pc.invert(deleted), complete)
        gone = pc.or_(deleted, pc.and_(nulls, left)) if plan.inner else deleted
        direct = joined_rows(
            self._tombstones(stamped.filter(gone)), None if plan.inner else self._partnerless(stamped.filter(nulls))
        )
        return joined_rows(forgets, entering), direct

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
                own = {**dict(zip(names, keys.columns, strict=True)), OP: pa.repeat(pa.scalar(FORGET, pa.int8()), rows)}
                own[POSITION] = positions_of(counted(0, rows))
                arrays = [own[f.name] if f.name in own else pa.nulls(rows, f.type) for f in schema]
                yield self.route(ChangeBatch(self.plan.fact, pa.RecordBatch.from_arrays(arrays, schema=schema)))

    def _filled(self, record: pa.RecordBatch, old: pa.RecordBatch, known: pa.Array) -> tuple[pa.RecordBatch, Lacks]:
        """The record with held columns taken from state where a row lacks them, without __unset; what is left."""
        names = list(self.plan.fact_names)
        lacks = lacks_of(record, len(names))
        own = record.select([*names, OP, SOURCE_TS])
        if all(mask is None for mask in lacks):
            return own, lacks
        columns = {name: own.column(name) for name in own.schema.names}
        held = [names.index(name) for name in self.plan.held]
        values, bits = [columns[name] for name in self.plan.held], [lacks[index] for index in held]
        fold(values, bits, old, known)
        columns.update(zip(self.plan.held, values, strict=True))
        for index, mask in zip(held, bits, strict=True):
            lacks[index] = mask
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=own.schema), lacks

    def _keep(self, record: pa.RecordBatch, lacks: Lacks, keys: pa.RecordBatch, deleted: pa.Array) -> None:
        names = self.plan.fact_names
        bits = bitmap_of([lacks[names.index(name)] for name in self.plan.held], record.num_rows)
        store = self.stores["keys"]
        held = stored_rows(record.select(list(self.plan.held)), None, bits, store.schema)
        if not pc.any(deleted).as_py():
            store.upsert(held)
            return
        store.upsert(held.filter(pc.invert(deleted)))
        store.delete(keys.filter(deleted))

    def _stamped(self, record: pa.RecordBatch, lacks: Lacks, version: pa.Array, known: pa.Array) -> pa.RecordBatch:
        op = pc.if_else(known, pa.scalar(ENTER, pa.int8()), pa.scalar(NEW, pa.int8()))
        columns = [*record.columns[:-2], op, version, record.column(SOURCE_TS)]
        stamped = pa.RecordBatch.from_arrays(columns, schema=self.plan.routed_schema)
        return with_unset(stamped, bitmap_of(lacks, record.num_rows))

    def _forgets(
        self, stamped: pa.RecordBatch, old: pa.RecordBatch, keys: pa.RecordBatch, moved: pa.Array
    ) -> pa.RecordBatch | None:
        if not pc.any(moved).as_py():
            return None
        stamps, was = stamped.select([VERSION, SOURCE_TS]).filter(moved), old.filter(moved)
        own = dict(zip(keys.schema.names, keys.filter(moved).columns, strict=True))
        own.update({name: was.column(name) for name in self.plan.foreign_key})
        return tombstones(self.plan.routed_schema, own, stamps.column(VERSION), stamps.column(SOURCE_TS))

    def _tombstones(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        own = {name: rows.column(name) for name in self.plan.fact.key}
        return tombstones(self.plan.result_schema, own, rows.column(VERSION), rows.column(SOURCE_TS))

    def _partnerless(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return result_rows(self.plan, rows, None, rows.column(SOURCE_TS))

    def _counter(self) -> int:
        """The greatest version given so far; asked each time, so that a load() in between counts."""
        store = self.stores["counter"]
        return pc.max(store.whole().column(1)).as_py() if store.rows else 0

    def _count(self, keys: pa.RecordBatch, version: pa.Array) -> None:
        touched = pc.unique(self.stores["keys"].slots_of(keys))
        most = pa.repeat(version[-1], len(touched))
        self.stores["counter"].upsert(
            pa.RecordBatch.from_arrays([self._slot_keys.take(touched), most], schema=_COUNTER)
        )


class Matcher(_Stage):
    """Stage (b), for all slots of a process: facts beside the dimension that they point at.

    State: store "facts" (with __version and __unset) and store "dimension" (key and taken columns), both by the slot
    of the foreign key.

    Args:
        rows_max: rows of a batch that comes out, at most.
    """

    def __init__(self, plan: JoinPlan, slots: int, bytes_max: int = 0, *, rows_max: int = ROWS_MAX) -> None:
        super().__init__(plan, slots, bytes_max)
        self._rows_max, self._changes = rows_max, 0
        self.stores = {"facts": self._store("facts"), "dimension": self._store("dimension")}

    def _store(self, name: str) -> RowStore:
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
        record = self._last_of_each(record)
        forget = pc.equal(record.column(OP), FORGET)
        store = self.stores["facts"]
        if pc.any(forget).as_py():
            store.delete(record.select(list(self.plan.place)).filter(forget))
            record = record.filter(pc.invert(forget))
        if record.num_rows == 0:
            return iter(())
        record = self._folded(record)
        bits = record.column(UNSET) if UNSET in record.schema.names else None
        store.upsert(stored_rows(record.select(list(self.plan.fact_names)), record.column(VERSION), bits, store.schema))
        return self._guarded(self._probed(record))

    def dimension(self, batch: ChangeBatch) -> Iterator[pa.RecordBatch]:
        """Take changes of the dimension; exhaust the result before the next call.

        Args:
            batch: of plan.dimension, or of a table with some of its columns; upserts, inserts and deletes.
        Returns: the results, as facts() gives them, of every fact whose partner came, went, or changed in a taken
            column, in batches of at most rows_max rows.
        Raises: ConfigurationError for a table that replan() must see first, CapacityError, DataError as compact.
        """
        self._changes += 1
        record = compact(admitted(batch, self.plan.dimension, self.plan.name), self.plan.dimension)
        store = self.stores["dimension"]
        keys = record.select(list(self.plan.dimension.key))
        rows = store.find(keys)
        known, deleted = pc.greater_equal(rows, 0), pc.equal(record.column(OP), Op.DELETE)
        partner, lacks = self._partner(record, store.take(rows), known)
        changed = self._changed(partner, lacks, store.take(rows), known)
        comes, goes = pc.and_not(changed, deleted), pc.and_(deleted, known)
        bits = bitmap_of(lacks, record.num_rows)
        stored = stored_rows(partner, None, bits, store.schema)
        store.upsert(stored.filter(comes))
        store.delete(keys.filter(goes))
        stamps = record.select([SOURCE_TS])
        came = self._emitted(keys.filter(comes), stamps.filter(comes), stored.filter(comes))
        return self._guarded(chain(came, self._emitted(keys.filter(goes), stamps.filter(goes), None)))

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

    def _last_of_each(self, record: pa.RecordBatch) -> pa.RecordBatch:
        """One row a place, the last; unset columns from the rows before it, up to a forget. __op as in that row."""
        plan = self.plan
        record = widened(record, plan.routed_schema)
        names = list(plan.fact_names)
        op = record.column(OP)
        columns = [record.column(name) for name in names]
        plain = pc.if_else(pc.equal(op, FORGET), op, pa.scalar(ENTER, pa.int8()))
        columns += [record.column(VERSION), op, plain, positions_of(record.column(VERSION)), record.column(SOURCE_TS)]
        # Version and op ride along as columns of the table, so that they come out as they are in the row that stays.
        ride = [Column(VERSION, parse_type("int64")), Column("__sent", parse_type("int64"))]
        table = Table(plan.fact.name, (*plan.fact.columns, *ride), plan.place)
        columns[len(names) + 1] = op.cast(pa.int64())
        found = pa.RecordBatch.from_arrays(columns, schema=arrow_schema(table))
        if UNSET in record.schema.names:
            found = with_unset(found, bitmap_of([*lacks_of(record, len(names)), None, None], record.num_rows))
        found = compact(found, table)
        kept = [found.column(name) for name in names]
        kept += [found.column("__sent").cast(pa.int8()), found.column(VERSION), found.column(SOURCE_TS)]
        bits = bitmap_of(lacks_of(found, len(names)), found.num_rows)
        return with_unset(pa.RecordBatch.from_arrays(kept, schema=plan.routed_schema), bits)

    def _folded(self, record: pa.RecordBatch) -> pa.RecordBatch:
        """Unset columns from the fact as it lies here."""
        if UNSET not in record.schema.names:
            return record
        names, store = list(self.plan.fact_names), self.stores["facts"]
        rows = store.find(record.select(list(self.plan.place)))
        columns, lacks = [record.column(name) for name in names], lacks_of(record, len(names))
        fold(columns, lacks, store.take(rows), pc.greater_equal(rows, 0))
        columns += [record.column(name) for name in (OP, VERSION, SOURCE_TS)]
        folded = pa.RecordBatch.from_arrays(columns, schema=self.plan.routed_schema)
        return with_unset(folded, bitmap_of(lacks, record.num_rows))

    def _probed(self, record: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The results of facts, by looking up the partner of each."""
        plan, store = self.plan, self.stores["dimension"]
        types = [store.schema.field(column).type for column in store.key]
        columns = cast_keys([record.column(name) for name in plan.foreign_key], types)
        keys = pa.RecordBatch.from_arrays(columns, names=list(plan.dimension.key))
        rows = pc.if_else(all_valid(keys, plan.dimension.key), store.find(keys), pa.scalar(-1, pa.int64()))
        found = pc.greater_equal(rows, 0)
        alone = record.slice(0, 0)
        if not pc.all(found).as_py():
            alone = record.filter(pc.invert(found))
            if plan.inner:
                alone = alone.filter(pc.not_equal(alone.column(OP), NEW))
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
        self, keys: pa.RecordBatch, stamps: pa.RecordBatch, partner: pa.RecordBatch | None
    ) -> Iterator[pa.RecordBatch]:
        """The results of all facts at these keys of the dimension; `partner` None: it went."""
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
            return result_rows(self.plan, facts, take(partner, at), source_ts)

        yield from pieces(len(rows), self._rows_max, build)


class Latest:
    """Stage (c), for all slots of a process: of what comes for a key in an epoch, nothing older than what came.

    It has no state to keep: the barrier at the end of an epoch lets it forget.
    """

    def __init__(self, plan: JoinPlan) -> None:
        self.plan, self._position = plan, 0
        self.clear()

    def take(self, record: pa.RecordBatch) -> ChangeBatch | None:
        """Let pass what is at least as new as all that came for its key since clear(); one row a key.

        Args:
            record: results of FactRouter and Matcher.
        Returns: a batch of plan.result whose positions rise for the life of this object; None for no rows.
        """
        plan = self.plan
        record = widened(record, plan.result_schema)
        kept = compact(as_positions(record, positions_of(record.column(VERSION))), plan.result)
        versions = versions_of(kept.column(POSITION))
        keys = kept.select(list(plan.result.key))
        seen = self._seen.take(self._seen.find(keys), [len(plan.result.key)]).column(0)
        newer = pc.fill_null(pc.greater_equal(versions, seen), True)
        if not pc.all(newer).as_py():
            kept, keys, versions = kept.filter(newer), keys.filter(newer), versions.filter(newer)
        if kept.num_rows == 0:
            return None
        self._seen.upsert(pa.RecordBatch.from_arrays([*keys.columns, versions], schema=self._seen.schema))
        counts = counted(self._position, kept.num_rows)
        self._position += kept.num_rows
        place = kept.schema.get_field_index(POSITION)
        return ChangeBatch(plan.result, kept.set_column(place, kept.schema.field(place), positions_of(counts)))

    def clear(self) -> None:
        """Forget the versions; call it at the end of each epoch."""
        key = [pa.field(name, self.plan.result.column(name).type.arrow) for name in self.plan.result.key]
        self._seen = RowStore(pa.schema([*key, pa.field(VERSION, pa.int64())]), range(len(key)), slots=1)
