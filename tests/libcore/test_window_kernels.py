"""The kernels of windows: C gives the groups, sums and averages of plain Python, bit by bit."""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import window_kernels as face
from libcore.reference import window_kernels as reference
from libcore.window_kernels import Kind, Sum
from tests.examples import TIMES
from tests.libcore.batches import check_sound, columns, records, same
from tests.libcore.strategies import SEEDS

_INTEGERS = (pa.int8(), pa.int16(), pa.int32(), pa.int64())
_DECIMALS = (pa.decimal128(5, 2), pa.decimal128(38, 0), pa.decimal256(76, 37))
_FLOATS = (pa.float32(), pa.float64())


@settings(max_examples=80 * TIMES)
@given(records(), st.data())
def test_groups_agree_with_the_reference(record: pa.RecordBatch, data: st.DataObject) -> None:
    """Any columns as the key, none too: the same numbers and first rows."""
    indexes = data.draw(st.lists(st.integers(0, record.num_columns - 1), max_size=3, unique=True))
    found, expected = face.group_rows(record, indexes), reference.group_rows(record, indexes)
    assert [array.to_pylist() for array in found] == [array.to_pylist() for array in expected]


@st.composite
def _sums(draw: st.DrawFn) -> tuple[pa.RecordBatch, pa.Int32Array, int, int, list[Sum]]:
    """A batch with a column of every sort, groups of its rows, a weight or none, and sums of all kinds."""
    rows, group_count = draw(st.integers(0, 20)), draw(st.integers(1, 4))
    integer, exact, inexact = (draw(st.sampled_from(types)) for types in (_INTEGERS, _DECIMALS, _FLOATS))
    stamp = draw(st.sampled_from((pa.int64(), pa.timestamp("us", tz="UTC"))))
    weight_type = draw(st.sampled_from((pa.int8(), pa.int64())))
    r = Random(draw(SEEDS))
    arrays = [draw(columns(kind, rows)) for kind in (integer, exact, inexact, stamp)]
    arrays += [
        draw(columns(weight_type, rows, nullable=False)),
        pa.array([r.uniform(-1e-9, 1e-9) for _ in range(rows)], pa.float64()),
    ]
    record = pa.RecordBatch.from_arrays(arrays, names=["integer", "exact", "inexact", "stamp", "weight", "low"])
    groups = pa.array(r.choices(range(group_count), k=rows), pa.int32())

    def one(kind: Kind, column: int, data_type: pa.DataType) -> Sum:
        return Sum(kind, column, (pa.field("s", data_type),))

    narrow = pa.types.is_decimal128(exact)
    sums = [one(Kind.WEIGHT, -1, pa.int64()), one(Kind.VALID, draw(st.integers(0, 3)), pa.int64())]
    sums += [one(Kind.SUM, 0, kind) for kind in (pa.int64(), pa.decimal128(38, 0), pa.decimal256(76, 0))]
    sums += [one(Kind.SUM, 1, kind) for kind in ([pa.decimal128(38, 2)] if narrow else []) + [pa.decimal256(76, 2)]]
    pair = (pa.field("high", pa.float64()), pa.field("low", pa.float64()))
    sums += [Sum(Kind.FLOAT, 2, pair), Sum(Kind.FLOAT, 2, pair, low=5)]
    sums += [one(kind, 2, pa.int64()) for kind in (Kind.NAN, Kind.PLUS_INFINITY, Kind.MINUS_INFINITY)]
    sums += [one(Kind.MAX, 3, stamp)]
    return record, groups, group_count, r.choice((-1, 4)), r.sample(sums, len(sums))


@settings(max_examples=80 * TIMES)
@given(_sums())
def test_sums_agree_with_the_reference(case: tuple[pa.RecordBatch, pa.Int32Array, int, int, list[Sum]]) -> None:
    """Every kind of sum, weighted or not, of any values, with integers that wrap: the same bits."""
    found = face.sum_rows(*case)
    check_sound(found.select([i for i, field in enumerate(found.schema) if not pa.types.is_decimal(field.type)]))
    assert same(found, reference.sum_rows(*case, schema=found.schema))


@settings(max_examples=80 * TIMES)
@given(st.data())
def test_averages_agree_with_the_reference(data: st.DataObject) -> None:
    """Any sums and counts, scales up to 18 apart: the same digits, and the same that do not fit."""
    rows = data.draw(st.integers(0, 12))
    kind = data.draw(st.sampled_from((pa.decimal128(38, 4), pa.decimal256(76, 20), pa.decimal256(76, 0))))
    sums = data.draw(columns(kind, rows, nullable=False))
    some = st.integers(-1, 12) | st.integers(1, 2**63 - 1)
    counts = pa.array(data.draw(st.lists(some, min_size=rows, max_size=rows)), pa.int64())
    scale = data.draw(st.integers(max(kind.scale - 18, 0), kind.scale + 18))
    wanted = data.draw(st.sampled_from((pa.decimal128(38, scale), pa.decimal256(76, scale), pa.decimal256(64, scale))))
    found, expected = face.averages(sums, counts, wanted), reference.averages(sums, counts, wanted)
    for a, b in zip(found, expected, strict=True):
        assert same(pa.RecordBatch.from_arrays([a], names=["x"]), pa.RecordBatch.from_arrays([b], names=["x"]))


def test_an_average_is_rounded_half_to_even() -> None:
    """0.5 and 1.5 hundredths become 0 and 2, below zero as above; without rows there is no average."""
    sums = pa.array(
        [Decimal(text) for text in ("0.01", "0.03", "-0.01", "-0.03", "1.00", "5.00")], pa.decimal128(38, 2)
    )
    found, fits = face.averages(sums, pa.array([2, 2, 2, 2, 3, 0], pa.int64()), pa.decimal128(38, 2))
    assert [None if value is None else str(value) for value in found.to_pylist()] == [
        "0.00", "0.02", "0.00", "-0.02", "0.33", None
    ]  # fmt: skip
    assert fits.to_pylist() == [True] * 6


def test_a_quotient_that_is_too_long_is_named() -> None:
    """38 nines divided by 1 do not fit with four more digits behind the point; the neighbour does."""
    sums = pa.array([Decimal(10**38 - 1), Decimal(7)], pa.decimal128(38, 0))
    found, fits = face.averages(sums, pa.array([1, 2], pa.int64()), pa.decimal128(38, 4))
    assert found.to_pylist() == [None, Decimal("3.5000")]
    assert fits.to_pylist() == [False, True]


def test_other_columns_and_groups_are_refused() -> None:
    """A group that is not there names its row; a sum of a text, or a weight that is none, is a TypeError."""
    record = pa.RecordBatch.from_arrays([pa.array([1, 2], pa.int64()), pa.array(["a", "b"])], names=["n", "t"])
    total = [Sum(Kind.SUM, 0, (pa.field("s", pa.int64()),))]
    with pytest.raises(ValueError, match="row 1"):
        face.sum_rows(record, pa.array([0, 2], pa.int32()), 2, -1, total)
    with pytest.raises(ValueError, match="groups"):
        face.sum_rows(record, pa.array([0], pa.int32()), 2, -1, total)
    if face.IMPLEMENTATION == "c":
        groups = pa.array([0, 1], pa.int32())
        with pytest.raises(TypeError, match="fit"):
            face.sum_rows(record, groups, 2, -1, [Sum(Kind.SUM, 1, (pa.field("s", pa.int64()),))])
        with pytest.raises(TypeError, match="weight"):
            face.sum_rows(record, groups, 2, 1, total)
