"""The row hash: one word for one value, on every machine, in every version, from either implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libcore import hashing
from libcore.reference import hashing as reference
from libcore.schema import parse_type
from tests.libcore.batches import build, records

GOLDEN = Path(__file__).parent.parent / "golden" / "hash.json"


def _hash(data_type: pa.DataType, *plain: Any) -> list[int]:
    record = pa.RecordBatch.from_arrays([build(data_type, plain)], names=["c"])
    return hashing.hash_rows(record, [0]).to_pylist()


@given(records(), st.data())
def test_agrees_with_the_reference(record: pa.RecordBatch, data: st.DataObject) -> None:
    """Any columns of any batch, sliced or not, hash to the words of the plain reference."""
    indexes = data.draw(st.lists(st.integers(0, record.num_columns - 1), max_size=3))
    assert hashing.hash_rows(record, indexes).equals(reference.hash_rows(record, indexes))


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
def test_xxh64_agrees_with_the_reference(data: bytes, seed: int) -> None:
    """Bytes of any length and any seed have one checksum."""
    assert hashing.xxh64(data, seed) == reference.xxh64(data, seed)


@given(st.integers(-(10**15), 10**15), st.integers(0, 20))
def test_decimals_hash_by_value(unscaled: int, more: int) -> None:
    """A decimal keeps its hash when its scale grows, into decimal256 too: 1.5 and 1.50 are one key."""
    plain = _hash(pa.decimal128(18, 2), unscaled)
    assert plain == _hash(pa.decimal128(38, 2 + more), unscaled * 10**more)
    assert plain == _hash(pa.decimal256(76, 2 + more), unscaled * 10**more)


def test_equal_values_hash_equal() -> None:
    """Integers of any width, -0.0 and 0.0, all NaNs, float and double, text and its bytes are one key each."""
    assert _hash(pa.int8(), -3, 100) == _hash(pa.int64(), -3, 100) == _hash(pa.int16(), -3, 100)
    assert _hash(pa.float64(), -0.0, float("nan"), 1.5) == _hash(pa.float32(), 0.0, -float("nan"), 1.5)
    assert _hash(pa.utf8(), b"ab") == _hash(pa.binary(), b"ab") == _hash(pa.binary(2), b"ab")


def test_null_is_not_zero_and_order_counts() -> None:
    """NULL has a word of its own, and (1, 2) is another key than (2, 1)."""
    assert len(set(_hash(pa.int64(), None, 0, 1))) == 3
    record = pa.RecordBatch.from_arrays([pa.array([1, 2]), pa.array([2, 1])], names=["a", "b"])
    first, second = hashing.hash_rows(record, [0, 1]).to_pylist()
    assert first != second
    assert hashing.hash_rows(record, [1, 0]).to_pylist() == [second, first]


def test_golden_words_stay() -> None:
    """Every word of the golden file comes out again: a changed hash would move keys to other slots."""
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]
    assert len(cases) >= 60
    for case in cases:
        data_type = parse_type(case["type"]).arrow
        is_bytes = pa.types.is_string(data_type) or pa.types.is_binary(data_type)
        value = bytes.fromhex(case["value"]) if is_bytes and case["value"] is not None else case["value"]
        value = float(value) if pa.types.is_floating(data_type) and value is not None else value
        value = int(value) if pa.types.is_decimal(data_type) and value is not None else value
        for implementation in (hashing, reference):
            record = pa.RecordBatch.from_arrays([build(data_type, [value])], names=["c"])
            found = implementation.hash_rows(record, [0]).to_pylist()
            assert found == [int(case["hash"], 16)], case


def test_a_column_that_is_not_there_is_refused() -> None:
    """An index out of range names what was expected; a type that libcore does not carry is refused by name."""
    record = pa.RecordBatch.from_arrays([pa.array([1])], names=["a"])
    with pytest.raises(IndexError, match="below 1"):
        hashing.hash_rows(record, [1])
    with pytest.raises(IndexError, match="below 1"):
        hashing.hash_rows(record, [-1])
    with pytest.raises(TypeError):
        hashing.hash_rows(pa.RecordBatch.from_arrays([pa.array([[1]])], names=["a"]), [0])
