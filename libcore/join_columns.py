"""Column work of the join: unset bits as masks, filling from state, wider schemas, versions as positions."""

from __future__ import annotations

import array
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import OP, POSITION, POSITION_TYPE, SOURCE_TS, UNSET, ChangeBatch, Op, arrow_schema
from libcore.errors import CapacityError, ConfigurationError
from libcore.hashing import hash_rows
from libcore.join_plan import CONTROL, VERSION, JoinPlan, check_grown
from libcore.schema import Table
from libcore.slots import slot_of

Lacks = list[pa.BooleanArray | None]  # a column: which rows lack a value; None: none does


def lacks_of(record: pa.RecordBatch, count: int) -> Lacks:
    """The masks of the first `count` columns; __unset may be absent, and NULL in a row, for no bit."""
    place = record.schema.get_field_index(UNSET)
    if place < 0 or record.column(place).null_count == record.num_rows:
        return [None] * count
    unset = record.column(place)
    width, valid = unset.type.byte_width, unset.is_valid()
    raw = memoryview(unset.buffers()[1])[unset.offset * width : (unset.offset + len(unset)) * width]
    lacks: Lacks = []
    for index in range(count):
        if index % 8 == 0:
            data = pa.py_buffer(raw[index // 8 :: width].tobytes())
            byte = pa.Array.from_buffers(pa.uint8(), len(unset), [None, data])
        bit = pc.not_equal(pc.bit_wise_and(byte, pa.scalar(1 << index % 8, pa.uint8())), pa.scalar(0, pa.uint8()))
        mask = pc.and_(bit, valid)
        lacks.append(mask if pc.any(mask).as_py() else None)
    return lacks


def bitmap_of(lacks: Sequence[pa.BooleanArray | None], rows: int) -> pa.Array | None:
    """The masks as an __unset column; None where no bit is set."""
    if not any(mask is not None and pc.any(mask).as_py() for mask in lacks):
        return None
    width = (len(lacks) + 7) // 8
    data = bytearray(rows * width)
    for start in range(0, len(lacks), 8):
        byte: pa.Array = pa.repeat(pa.scalar(0, pa.uint8()), rows)
        for shift, mask in enumerate(lacks[start : start + 8]):
            if mask is not None:
                byte = pc.add(byte, pc.multiply(mask.cast(pa.uint8()), pa.scalar(1 << shift, pa.uint8())))
        data[start // 8 :: width] = memoryview(byte.buffers()[1])[:rows]
    return pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(bytes(data))])


def fold(columns: list[pa.Array], lacks: Lacks, old: pa.RecordBatch, known: pa.BooleanArray) -> None:
    """Fill what rows lack, in place, from `old` (same columns first, its own __unset), where a row is known."""
    if all(mask is None for mask in lacks):
        return
    old_lacks = lacks_of(old, len(columns))
    for index, mask in enumerate(lacks):
        if mask is None:
            continue
        gone = old_lacks[index]
        usable = pc.and_(mask, known if gone is None else pc.and_not(known, gone))
        columns[index] = pc.if_else(usable, old.column(index), columns[index])
        left = pc.and_not(mask, usable)
        lacks[index] = left if pc.any(left).as_py() else None


def widened(record: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The record with the columns of `schema`, by name: what it lacks becomes NULL and unset.

    __unset, in `schema` or in the record, has a bit for each column of its own that is no control column; __op, where
    `schema` has none, stays behind. Shares memory where the columns are the same. Raises ConfigurationError for a
    record with more columns.
    """
    own = [name for name in record.schema.names if name not in CONTROL]
    names = [name for name in schema.names if name not in CONTROL]
    if own == names:
        return record
    if more := [name for name in own if name not in names]:
        raise ConfigurationError(f"join: expected columns {names}, found {more} beside; replan() takes them")
    rows = record.num_rows
    own_lacks = dict(zip(own, lacks_of(record, len(own)), strict=True))
    everywhere = pa.repeat(pa.scalar(True, pa.bool_()), rows)
    bits = bitmap_of([own_lacks.get(name, everywhere) for name in names], rows)
    fields = [field for field in schema if field.name != UNSET]
    behind = [field for field in record.schema if field.name == OP and OP not in schema.names]
    arrays = [
        record.column(field.name) if field.name in record.schema.names else pa.nulls(rows, field.type)
        for field in [*fields, *behind]
    ]
    if UNSET in schema.names:
        fields.append(schema.field(UNSET))
        arrays.insert(len(fields) - 1, pa.nulls(rows, fields[-1].type) if bits is None else bits)
        bits = None
    return with_unset(pa.RecordBatch.from_arrays(arrays, schema=pa.schema([*fields, *behind])), bits)


def admitted(batch: ChangeBatch, table: Table, name: str) -> pa.RecordBatch:
    """The batch's rows in the columns of `table`, which may have more. Raises ConfigurationError for another table."""
    if batch.table is not table and batch.table != table:
        names = [column.name for column in table.columns]
        if more := [column.name for column in batch.table.columns if column.name not in names]:
            raise ConfigurationError(
                f"join {name}: table {table.name}: expected columns {names}, found {more} beside; replan() takes them"
            )
        check_grown(f"join {name}", batch.table, table)
    return widened(batch.record, arrow_schema(table))


def with_unset(record: pa.RecordBatch, bits: pa.Array | None) -> pa.RecordBatch:
    """The record with that __unset column behind, or none."""
    return record if bits is None else record.append_column(pa.field(UNSET, bits.type, nullable=False), bits)


def tombstones(
    schema: pa.Schema, keys: Mapping[str, pa.Array], version: pa.Array, source_ts: pa.Array
) -> pa.RecordBatch:
    """Delete rows in a travelling schema: the key columns, NULL in the others."""
    rows = len(version)
    own: dict[str, pa.Array] = {
        **keys, OP: pa.repeat(pa.scalar(Op.DELETE, pa.int8()), rows), VERSION: version, SOURCE_TS: source_ts
    }  # fmt: skip
    arrays = [own[field.name] if field.name in own else pa.nulls(rows, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def joined_rows(first: pa.RecordBatch | None, second: pa.RecordBatch | None) -> pa.RecordBatch | None:
    """Two batches of one travelling schema as one; __unset where either has it; None where both are empty."""
    full = [record for record in (first, second) if record is not None and record.num_rows]
    if len(full) < 2:
        return full[0] if full else None
    if wide := [record.schema.field(UNSET).type for record in full if UNSET in record.schema.names]:
        full = [r if UNSET in r.schema.names else with_unset(r, _zeros(r.num_rows, wide[0].byte_width)) for r in full]
    return pa.concat_batches(full)


def _zeros(rows: int, width: int) -> pa.Array:
    return pa.Array.from_buffers(pa.binary(width), rows, [None, pa.py_buffer(bytes(rows * width))])


def positions_of(versions: pa.Array) -> pa.Array:
    """int64 >= 0 as positions of 32 bytes: zeros, then the number, big endian."""
    rows = len(versions)
    words = array.array("q")
    words.frombytes(memoryview(versions.buffers()[1])[8 * versions.offset : 8 * (versions.offset + rows)])
    if sys.byteorder == "little":
        words.byteswap()
    raw = words.tobytes()
    data = bytearray(32 * rows)
    for byte in range(8):
        data[24 + byte :: 32] = raw[byte::8]
    return pa.Array.from_buffers(POSITION_TYPE, rows, [None, pa.py_buffer(bytes(data))])


def as_positions(record: pa.RecordBatch, column: pa.Array) -> pa.RecordBatch:
    """A travelling record with __position in the place of __version, as ChangeBatch has it."""
    place = record.schema.get_field_index(VERSION)
    return record.set_column(place, pa.field(POSITION, POSITION_TYPE, nullable=False), column)


def counted(start: int, rows: int) -> pa.Array:
    """int64: start + 1, start + 2, ..."""
    return pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), rows), start=pa.scalar(start, pa.int64()))


def differs(new: pa.Array, old: pa.Array) -> pa.BooleanArray:
    """Row by row whether two columns differ; NULL equals NULL, floats by their bits."""
    if pa.types.is_floating(new.type):
        bits = pa.int32() if new.type.bit_width == 32 else pa.int64()
        new, old = new.view(bits), old.view(bits)
    other = pc.fill_null(pc.not_equal(new, old), pa.scalar(False, pa.bool_()))
    return pc.or_(other, pc.xor(new.is_null(), old.is_null()))


def cast_keys(columns: Sequence[pa.Array], types: Sequence[pa.DataType]) -> list[pa.Array]:
    """Integers in another width; a value that does not fit becomes NULL, as it equals no value of that width."""
    return [
        column if column.type == there else _cast(column, there) for column, there in zip(columns, types, strict=True)
    ]


def _cast(column: pa.Array, there: pa.DataType) -> pa.Array:
    if there.bit_width < column.type.bit_width:
        most = 2 ** (there.bit_width - 1) - 1
        low, high = pa.scalar(-most - 1, column.type), pa.scalar(most, column.type)
        fits = pc.and_(pc.greater_equal(column, low), pc.less_equal(column, high))
        column = pc.if_else(fits, column, pa.scalar(None, column.type))
    return column.cast(there)


def all_valid(record: pa.RecordBatch, names: Sequence[str]) -> pa.BooleanArray:
    """Rows without a NULL in these columns."""
    valid = record.column(names[0]).is_valid()
    for name in names[1:]:
        valid = pc.and_(valid, record.column(name).is_valid())
    return valid


def stored_rows(
    columns: pa.RecordBatch, version: pa.Array | None, bits: pa.Array | None, schema: pa.Schema
) -> pa.RecordBatch:
    """Rows as a store of that schema takes them: columns, perhaps __version, __unset."""
    arrays = [*columns.columns] if version is None else [*columns.columns, version]
    unset = pa.nulls(columns.num_rows, schema.field(UNSET).type) if bits is None else bits
    return pa.RecordBatch.from_arrays([*arrays, unset], schema=schema)


def result_rows(
    plan: JoinPlan,
    facts: pa.RecordBatch,
    partner: pa.RecordBatch | None,
    source_ts: pa.Array,
    op: pa.Array | None = None,
) -> pa.RecordBatch:
    """Upserts of the result: facts (their columns, __version, __unset) beside what is taken of their partners, or NULL.

    `partner`: rows of the store "dimension", one a fact. `op`: upsert or insert, the hint that no result of the fact
    was sent before; by default that of the facts where they have one.
    """
    rows = facts.num_rows
    if op is None:
        op = facts.column(OP) if OP in facts.schema.names else pa.repeat(pa.scalar(Op.UPSERT, pa.int8()), rows)
    columns = [facts.column(name) for name in plan.fact_names]
    lacks = lacks_of(facts, len(columns))
    if partner is None:
        columns += [pa.nulls(rows, plan.result.column(name).type.arrow) for name in plan.take.values()]
        lacks += [None] * len(plan.take)
    else:
        partner_lacks = lacks_of(partner, len(plan.partner))
        columns += [partner.column(name) for name in plan.take]
        lacks += [partner_lacks[plan.partner.index(name)] for name in plan.take]
    columns += [op, facts.column(VERSION), source_ts]
    record = pa.RecordBatch.from_arrays(columns, schema=plan.result_schema)
    return with_unset(record, bitmap_of(lacks, rows))


def pieces(rows: int, rows_max: int, build: Callable[[int, int], pa.RecordBatch | None]) -> Iterator[pa.RecordBatch]:
    """What build(start, stop) makes of ranges of at most rows_max rows, halved where a column would not fit in 2^31."""
    ranges = [(start, min(start + rows_max, rows)) for start in range(0, rows, rows_max)][::-1]
    while ranges:
        start, stop = ranges.pop()
        try:
            piece = build(start, stop)
        except CapacityError:
            if stop - start < 2:
                raise
            middle = (start + stop) // 2
            ranges += [(middle, stop), (start, middle)]
            continue
        if piece is not None:
            yield piece


def runs_of_keys(record: pa.RecordBatch, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The record in pieces, in order, in none of which a key comes twice; most often one."""
    waiting = [record] if record.num_rows else []
    while waiting:
        run = waiting.pop()
        hashes = hash_rows(run.select(list(names)), range(len(names)))
        if pc.count_distinct(hashes).as_py() == run.num_rows:
            yield run
        else:
            half = run.num_rows // 2
            waiting += [run.slice(half), run.slice(0, half)]


def keys_of_slots(slots: int) -> pa.Array:
    """int64: for each slot the smallest number that hashes into it, so that a row keyed by it moves with the slot."""
    found: dict[int, int] = {}
    start = 0
    while len(found) < slots:
        numbers = pa.array(range(start, start + 8 * slots + 64), pa.int64())
        record = pa.RecordBatch.from_arrays([numbers], names=["slot_key"])
        for number, slot in enumerate(slot_of(hash_rows(record, [0]), slots).to_pylist(), start):
            found.setdefault(slot, number)
        start += len(numbers)
    return pa.array([found[slot] for slot in range(slots)], pa.int64())
