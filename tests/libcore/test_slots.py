"""Scatter and take: every row arrives once, in order, in memory of its own."""

from __future__ import annotations

from random import Random

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libcore import hashing, slots
from libcore.reference import slots as reference
from tests.libcore.batches import check_sound, records, same
from tests.libcore.strategies import SEEDS


@st.composite
def _scatters(draw: st.DrawFn) -> tuple[pa.RecordBatch, pa.UInt64Array, int, bytes]:
    record, r = draw(records()), Random(draw(SEEDS))
    hashes = pa.array([r.getrandbits(64) for _ in range(record.num_rows + 2)], pa.uint64()).slice(1, record.num_rows)
    slot_count = draw(st.integers(1, 9) | st.just(64))
    buckets = draw(st.lists(st.integers(0, 255), min_size=1, max_size=4))
    return record, hashes, slot_count, bytes(r.choices(buckets, k=slot_count))


@given(_scatters())
def test_scatter_agrees_with_the_reference(case: tuple[pa.RecordBatch, pa.UInt64Array, int, bytes]) -> None:
    """Any batch over any buckets: the same buckets with the same rows as the plain reference."""
    found, expected = slots.scatter(*case), reference.scatter(*case)
    assert [bucket for bucket, _ in found] == [bucket for bucket, _ in expected]
    for (_, a), (_, b) in zip(found, expected, strict=True):
        check_sound(a)
        assert same(a, b)


@given(records(), st.integers(0, 30), SEEDS)
def test_take_agrees_with_the_reference(record: pa.RecordBatch, count: int, seed: int) -> None:
    """Rows by any indices, repeated or none at all, are those of the plain reference."""
    rows = Random(seed).choices(range(record.num_rows), k=count) if record.num_rows else []
    indices = pa.array([0, *rows], pa.int32()).slice(1)
    taken = slots.take(record, indices)
    check_sound(taken)
    assert same(taken, reference.take(record, indices))


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(1, 65536))
def test_slot_of_is_the_remainder(words: list[int], slot_count: int) -> None:
    """The slot of a hash is its remainder."""
    assert slots.slot_of(pa.array(words, pa.uint64()), slot_count).to_pylist() == [word % slot_count for word in words]


def test_rows_keep_their_order_and_own_their_memory() -> None:
    """A thousand rows over four buckets: each row once, order kept, no result drags the parent along."""
    record = pa.RecordBatch.from_arrays(
        [pa.array(range(1000)), pa.array([f"row {i}" for i in range(1000)])], ["n", "t"]
    )
    hashes = hashing.hash_rows(record, [0])
    result = slots.scatter(record, hashes, 64, bytes(slot % 4 for slot in range(64)))
    assert [bucket for bucket, _ in result] == [0, 1, 2, 3]
    rows = [batch.column(0).to_pylist() for _, batch in result]
    assert all(part == sorted(part) for part in rows)
    assert sorted(row for part in rows for row in part) == list(range(1000))
    assert all(batch.get_total_buffer_size() < record.get_total_buffer_size() for _, batch in result)
    slot = slots.slot_of(hashes, 64).to_pylist()
    assert all(slot[row] % 4 == bucket for (bucket, _), part in zip(result, rows, strict=True) for row in part)


def test_results_outlive_their_parent() -> None:
    """The rows are still there when the batch they came from is gone."""
    record = pa.RecordBatch.from_arrays([pa.array(["a" * 100, None, "b"])], ["t"])
    (_, batch), taken = (
        slots.scatter(record, hashing.hash_rows(record, []), 1, b"\0")[0],
        slots.take(record, pa.array([2, 2], pa.int32())),
    )
    del record
    assert batch.column(0).to_pylist() == ["a" * 100, None, "b"]
    assert taken.column(0).to_pylist() == ["b", "b"]


def test_wrong_lengths_and_rows_are_refused() -> None:
    """Hashes, buckets or indices that do not fit the batch are refused with what was expected."""
    record = pa.RecordBatch.from_arrays([pa.array([1, 2])], ["a"])
    hashes = hashing.hash_rows(record, [0])
    with pytest.raises(ValueError, match="expected 2 uint64"):
        slots.scatter(record, hashes.slice(1), 1, b"\0")
    with pytest.raises(ValueError, match="each of 2 slots"):
        slots.scatter(record, hashes, 2, b"\0")
    with pytest.raises(ValueError, match="1 to 65536"):
        slots.scatter(record, hashes, 0, b"")
    with pytest.raises(IndexError, match="below 2"):
        slots.take(record, pa.array([0, 2], pa.int32()))
    with pytest.raises(ValueError, match="without NULL"):
        slots.take(record, pa.array([None], pa.int32()))
