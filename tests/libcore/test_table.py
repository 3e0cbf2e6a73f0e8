"""The row store: after any history C gives what the plain reference gives, and both what a dict would."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import IMPLEMENTATION
from libcore.change import OP, Op
from libcore.errors import CapacityError, DataError
from libcore.reference import table as reference
from libcore.reference.values import plain
from libcore.table import RowStore
from tests.examples import TIMES
from tests.libcore.batches import TYPES, build, check_sound, same, values

_POOLED = 5  # values of a column: few, so that keys meet
_TEXTS = st.binary(max_size=3) | st.binary(min_size=14, max_size=60) | st.integers(0, 20000).map(lambda n: b"x" * n)


@dataclass
class Case:
    """A store in both implementations, and the values its columns take."""

    face: RowStore
    plain: reference.RowStore
    pools: list[list[Any]]

    def again(self) -> Case:
        """An empty store of the same kind."""
        return _case(self.face.schema, self.face.key, self.face.index, self.face.slot_by, self.face.slots, self.pools)

    def record(self, r: Random, rows: int, columns: tuple[int, ...] | None = None) -> pa.RecordBatch:
        """Rows of these columns (all by default), a slice of a larger batch."""
        schema = self.face.schema
        chosen = range(len(schema)) if columns is None else columns
        before = r.randrange(10)
        arrays = [_nulled(r, build(schema.field(c).type, r.choices(self.pools[c], k=before + rows))) for c in chosen]
        whole = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([schema.field(c) for c in chosen]))
        return whole.slice(before, rows)


def _nulled(r: Random, column: pa.Array) -> pa.Array:
    """The column with NULLs in some places, where the values stay behind the NULLs, as Arrow allows."""
    valid = pa.array([r.random() < 0.8 for _ in range(len(column))], pa.bool_()).buffers()[1]
    return pa.Array.from_buffers(column.type, len(column), [valid, *column.buffers()[1:]])


def _case(
    schema: pa.Schema,
    key: tuple[int, ...],
    index: tuple[int, ...],
    slot_by: tuple[int, ...],
    slots: int,
    pools: list[list[Any]],
) -> Case:
    face = RowStore(schema, key, index=index, slot_by=slot_by, slots=slots)
    return Case(face, reference.RowStore(face.schema, key, index, slot_by, slots, 0), pools)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A store of 2 to 6 columns of any types, keyed and indexed by any of them."""
    types = draw(st.lists(st.sampled_from(TYPES), min_size=2, max_size=6))
    schema = pa.schema([(f"c{i}", data_type) for i, data_type in enumerate(types)])

    def chosen(numbers: Any, least: int) -> tuple[int, ...]:
        return tuple(draw(st.permutations(numbers))[: draw(st.integers(least, min(3, len(numbers))))])

    key = chosen(range(len(types)), 1)
    pools = []
    for data_type in types:
        value = _TEXTS if pa.types.is_binary(data_type) else values(data_type)
        zeros = [0.0, -0.0, float("nan")] if pa.types.is_floating(data_type) else []
        pools.append([*draw(st.lists(value, min_size=1, max_size=_POOLED)), *zeros])
    slots = draw(st.sampled_from([1, 3, 64, 65536]))
    return _case(schema, key, chosen(range(len(types)), 0), chosen(key, 1), slots, pools)


def _check_same(case: Case) -> None:
    """Both hold the same rows, in the same order, and say the same of what changed."""
    assert case.face.rows == case.plain.rows
    whole = case.face.whole()
    check_sound(whole)
    assert same(whole, case.plain.whole(None))
    record, ranges = case.face.changed()
    expected_record, expected_ranges = case.plain.changed()
    assert case.face.changes == case.plain.changes == record.num_rows
    check_sound(record)
    assert same(record, expected_record)
    assert ranges == expected_ranges


def _step(case: Case, r: Random, calls: int = 9) -> None:
    """One random call on both, with the same answer; the last two of the nine are mark and load."""
    face, other = case.face, case.plain
    rows = r.choice((0, 1, 3, 20))
    match r.randrange(calls):
        case 0 | 1 | 2:
            record = case.record(r, rows)
            face.upsert(record)
            other.upsert(record)
        case 3:
            keys = case.record(r, rows, face.key)
            assert face.delete(keys) == other.delete(keys)
        case 4:
            keys = case.record(r, rows, face.key)
            found = face.find(keys)
            assert found.equals(other.find(keys))
            assert face.slots_of(keys).equals(other.slots_of(keys))
            columns = r.sample(range(len(face.schema)), r.randint(1, len(face.schema)))
            assert same(face.take(found, columns), other.take(found, columns))
        case 5:
            if face.index:
                probes = case.record(r, rows, face.index)
                assert [a.to_pylist() for a in face.matches(probes)] == [a.to_pylist() for a in other.matches(probes)]
        case 6:
            if r.random() < 0.2:
                face.clear()
                other.clear()
        case 7:
            _mark(case)
        case _:
            record, ops = case.record(r, rows), [r.choice((Op.UPSERT, Op.DELETE)) for _ in range(rows)]
            logged = record.append_column(pa.field(OP, pa.int8(), nullable=False), pa.array(ops, pa.int8()))
            face.load(logged)
            other.load(logged, True)


def _mark(case: Case) -> None:
    case.face.mark()
    case.plain.mark()


@settings(max_examples=150 * TIMES)
@given(cases(), st.integers(0, 2**64 - 1), st.integers(1, 25))
def test_agrees_with_the_reference(case: Case, seed: int, steps: int) -> None:
    """Any history over any types, NULLs, NaN and -0.0 in keys included: the same answers as the plain reference."""
    r = Random(seed)
    for _ in range(steps):
        _step(case, r)
        _check_same(case)


@settings(max_examples=60 * TIMES)
@given(cases(), st.integers(0, 2**64 - 1), st.integers(1, 15))
def test_a_history_moves_by_slot(case: Case, seed: int, steps: int) -> None:
    """Whole slots and the changes since, loaded elsewhere, give the same rows; loaded rows are not changes."""
    r, copies = Random(seed), case.again()
    for _ in range(steps):
        _step(case, r)
    for slot in sorted(set(case.face.slots_of(case.face.whole().select(case.face.key)).to_pylist())):
        part = case.face.whole(slot)
        assert set(case.face.slots_of(part.select(case.face.key)).to_pylist()) == {slot}
        copies.face.load(part)
    _mark(case)
    for _ in range(steps):
        _step(case, r, calls=7)
        record, ranges = case.face.changed()
        assert sum(count for _, _, count in ranges) == record.num_rows
        for slot, first, count in reversed(ranges):
            keys = record.slice(first, count).select(case.face.key)
            assert set(case.face.slots_of(keys).to_pylist()) == {slot}
            copies.face.load(record.slice(first, count))
        _mark(case)
        assert copies.face.changed()[0].num_rows == 0
    assert _as_set(copies.face.whole()) == _as_set(case.face.whole())


def _as_set(record: pa.RecordBatch) -> set[Any]:
    rows = zip(*(map(repr, plain(column)) for column in record.columns), strict=True)
    found = set(rows)
    assert len(found) == record.num_rows
    return found


@settings(max_examples=40 * TIMES)
@given(st.integers(0, 2**64 - 1))
def test_equals_a_dict(seed: int) -> None:
    """Thousands of keys through growth, churn and marks end as the dict that saw the same calls, index included."""
    r, held = Random(seed), dict[int, tuple[int, str]]()
    store = RowStore(_ITEMS, [0], index=[1], slots=4)
    for _ in range(r.randint(1, 12)):
        keys = [r.randrange(6000) for _ in range(r.choice((1, 500, 3000)))]
        if r.random() < 0.7:
            rows = [(key, r.randrange(40), "t" * r.randrange(40)) for key in keys]
            store.upsert(_items(rows))
            held |= {key: (parent, text) for key, parent, text in rows}
        else:
            assert store.delete(_items([(key, 0, "") for key in keys]).select([0])) == len(held.keys() & set(keys))
            held = {key: value for key, value in held.items() if key not in set(keys)}
        if r.random() < 0.3:
            store.mark()
    assert {row["id"]: (row["parent"], row["text"]) for row in store.whole().to_pylist()} == held
    probes, rows = store.matches(pa.record_batch({"parent": pa.array(range(41), pa.int32())}))
    pairs = sorted(zip(probes.to_pylist(), store.take(rows, [0]).column(0).to_pylist(), strict=True))
    assert pairs == sorted((parent, key) for key, (parent, _) in held.items())


_ITEMS = pa.schema([("id", pa.int64()), ("parent", pa.int32()), ("text", pa.utf8())])


def _items(rows: list[tuple[int, int | None, str | None]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _ITEMS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=_ITEMS)


def _ids(*ids: int) -> pa.RecordBatch:
    return pa.record_batch({"id": pa.array(ids, pa.int64())})


def test_an_example() -> None:
    """Rows are put, matched by age, changed once a key, and a deleted key comes with its key alone."""
    store = RowStore(_ITEMS, [0], index=[1], slots=1)
    store.upsert(_items([(1, 7, "a"), (2, 7, "b"), (3, None, "c"), (1, 7, "a2")]))
    assert store.rows == 3
    probes, rows = store.matches(pa.record_batch({"parent": pa.array([None, 7], pa.int32())}))
    assert (probes.to_pylist(), store.take(rows, [2]).column(0).to_pylist()) == ([1, 1], ["a2", "b"])
    store.mark()
    assert store.delete(_ids(1, 9)) == 1
    store.upsert(_items([(4, 8, "d")]))
    assert store.delete(_ids(4)) == 1
    record, ranges = store.changed()
    assert record.to_pylist() == [{"id": 1, "parent": None, "text": None, "__op": 2}]
    assert ranges == [(0, 0, 1)]
    assert store.take(store.find(_ids(2, 1))).to_pylist() == [
        {"id": 2, "parent": 7, "text": "b"},
        {"id": None, "parent": None, "text": None},
    ]


def test_an_updated_row_keeps_its_age_until_its_parent_changes() -> None:
    """Matches come oldest first: an update stays in its place, a row that comes back to a parent is the youngest."""
    store = RowStore(_ITEMS, [0], index=[1])
    seven = pa.record_batch({"parent": pa.array([7], pa.int32())})
    store.upsert(_items([(1, 7, ""), (2, 7, ""), (3, 7, "")]))
    store.upsert(_items([(2, 7, "new")]))
    assert store.take(store.matches(seven)[1], [0]).column(0).to_pylist() == [1, 2, 3]
    store.upsert(_items([(1, 8, "")]))
    store.upsert(_items([(1, 7, "")]))
    assert store.take(store.matches(seven)[1], [0]).column(0).to_pylist() == [2, 3, 1]


def test_results_outlive_the_store() -> None:
    """What a store gave is still there when the store is gone."""
    store = RowStore(_ITEMS, [0])
    store.upsert(_items([(1, 2, "a" * 100), (2, None, None)]))
    whole, changed = store.whole(), store.changed()[0]
    del store
    assert whole.column(2).to_pylist() == ["a" * 100, None]
    assert changed.num_rows == 2


def test_a_bound_in_bytes_is_kept() -> None:
    """A batch that leads above bytes_max is refused whole, and says what helps; what is in can still be updated."""
    # the bytes of the reference are those of the values, and those of C come in pages: each has a bound of its own
    rows, text, bound = 2000, "x" * 200, 400_000
    store = RowStore(_ITEMS, [0], bytes_max=bound)
    refused = 0
    for start in range(0, rows, 100):
        before, was = store.rows, store.bytes
        try:
            store.upsert(_items([(key, 1, text) for key in range(start, start + 100)]))
            assert was < store.bytes or IMPLEMENTATION == "c"
        except CapacityError as error:
            refused += 1
            assert str(bound) in str(error)
            assert "more processes, or raise state_bytes" in str(error)
            assert (store.rows, store.bytes) == (before, was)
        assert store.bytes <= bound
    assert refused > 0
    assert store.rows >= 500
    store.delete(_ids(*range(100)))
    store.mark()
    store.upsert(_items([(5, 1, "back")]))
    assert store.find(_ids(5)).to_pylist() != [-1]


def test_memory_is_flat_over_churn() -> None:
    """Ten rounds of upserts and deletes of other keys and other lengths take no more memory than the first."""
    store, r, sizes = RowStore(_ITEMS, [0], index=[1]), Random(1), []
    for turn in range(10):
        keys = [turn * 5000 + i for i in range(5000)]
        store.upsert(_items([(key, key % 7, "y" * r.randrange(100)) for key in keys]))
        store.mark()
        sizes.append(store.bytes)
        store.delete(_ids(*keys[: 4999 if turn < 9 else 5000]))
        store.mark()
    assert store.rows == 9
    assert max(sizes) < 1.2 * sizes[0]


def test_rows_that_do_not_fit_are_refused_before_anything_changes() -> None:
    """A decimal wider than its type, an unknown op, foreign columns, a number of no row: named, and nothing is in."""
    schema = pa.schema([("id", pa.int64()), ("price", pa.decimal128(18, 4)), ("rate", pa.decimal128(5, 2))])
    store = RowStore(schema, [0])
    wide = pa.RecordBatch.from_arrays(
        [pa.array([1, 2]), build(schema.field(1).type, [1, 2**63]), build(schema.field(2).type, [0, 2**31])],
        schema=schema,
    )
    with pytest.raises(DataError, match="column 1: expected a decimal of at most 18 digits") as caught:
        store.upsert(wide)
    assert (caught.value.row, store.rows) == (1, 0)
    store.upsert(wide.slice(0, 1))
    logged = wide.slice(0, 1).append_column(pa.field(OP, pa.int8()), pa.array([3], pa.int8()))
    with pytest.raises(DataError, match="found op 3"):
        store.load(logged)
    with pytest.raises(ValueError, match="expected columns"):
        store.upsert(wide.select([0, 1]))
    with pytest.raises(IndexError, match="found 5"):
        store.take(pa.array([0, 5], pa.int64()))
    with pytest.raises(ValueError, match="without"):
        store.matches(wide.select([0]))
    assert store.rows == 1


def test_a_store_that_cannot_be_is_refused() -> None:
    """Column numbers, slots and names that do not fit are refused when the store is made."""
    for arguments in (
        {"key": []},
        {"key": [0, 0]},
        {"key": [3]},
        {"key": [0], "slot_by": [1]},
        {"key": [0], "index": [-1]},
        {"key": [0], "slots": 0},
        {"key": [0], "bytes_max": -1},
    ):
        with pytest.raises(ValueError, match="expected"):
            RowStore(_ITEMS, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=OP):
        RowStore(pa.schema([("id", pa.int64()), (OP, pa.int8())]), [0])
