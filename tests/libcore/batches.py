"""Strategies: record batches of every type libcore carries, with NULLs, as slices in the middle of larger ones.

Hypothesis draws the few values that a column has and a seed that lays them into rows: drawing each row's took most of
a test's time, and a failure still shrinks to its values.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from libcore.change import POSITION_TYPE, SOURCE_TS_TYPE, Op, arrow_schema, unset_bytes
from libcore.reference.values import plain
from libcore.schema import Table
from tests.libcore.strategies import SEEDS

TYPES: tuple[pa.DataType, ...] = (
    pa.bool_(),
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.date32(),
    pa.time64("us"),
    pa.time64("ns"),
    pa.timestamp("us"),
    pa.timestamp("us", tz="UTC"),
    pa.timestamp("ns"),
    pa.decimal128(5, 2),
    pa.decimal128(18, 4),
    pa.decimal128(38, 0),
    pa.decimal256(76, 37),
    pa.utf8(),
    pa.binary(),
    pa.binary(3),
    pa.binary(32),
)
_DAY = 86400


def _integers(bits: int) -> st.SearchStrategy[int]:
    edges = [0, -1, 1, 2 ** (bits - 1) - 1, -(2 ** (bits - 1))]
    return st.sampled_from(edges) | st.integers(-9, 9) | st.integers(edges[4], edges[3])


def _decimals(precision: int) -> st.SearchStrategy[int]:
    most = 10**precision - 1
    # Few digits and many zeros behind them, which is what hashing by value and groups of four digits must survive.
    zeros = st.builds(lambda digits, power: digits * 10**power, st.integers(-99, 99), st.integers(0, precision - 2))
    return zeros | st.sampled_from([0, most, -most]) | st.integers(-most, most)


@lru_cache
def values(data_type: pa.DataType) -> st.SearchStrategy[Any]:
    """Plain values (libcore/reference/values.py) of a type: edges, small ones that repeat, and any."""
    if pa.types.is_decimal(data_type):
        return _decimals(data_type.precision)
    if pa.types.is_boolean(data_type):
        return st.booleans()
    if pa.types.is_floating(data_type):
        return st.sampled_from([0.0, -0.0, 1.5, float("nan"), float("inf")]) | st.floats(width=data_type.bit_width)
    if pa.types.is_string(data_type):
        return (st.text(max_size=3) | st.text(max_size=40)).map(str.encode)
    if pa.types.is_fixed_size_binary(data_type):
        return st.binary(min_size=data_type.byte_width, max_size=data_type.byte_width)
    if pa.types.is_binary(data_type):
        return st.binary(max_size=3) | st.binary(max_size=40)
    if pa.types.is_time64(data_type):
        second = 10**6 if data_type.unit == "us" else 10**9
        return st.integers(0, _DAY * second)
    return _integers(data_type.bit_width)


def build(data_type: pa.DataType, plain: Sequence[Any]) -> pa.Array:
    """The column of these plain values, None for NULL; the inverse of reference.values.plain."""
    if pa.types.is_decimal(data_type):
        width = data_type.byte_width
        raw = b"".join((value or 0).to_bytes(width, "little", signed=True) for value in plain)
        valid = pa.array([value is not None for value in plain], pa.bool_())
        return pa.Array.from_buffers(data_type, len(plain), [valid.buffers()[1], pa.py_buffer(raw)])
    if pa.types.is_string(data_type):
        return pa.array(plain, pa.binary()).view(pa.utf8())
    if pa.types.is_date32(data_type):
        return pa.array(plain, pa.int32()).view(data_type)
    if pa.types.is_time64(data_type) or pa.types.is_timestamp(data_type):
        return pa.array(plain, pa.int64()).view(data_type)
    return pa.array(plain, data_type)


@lru_cache
def _pools(data_type: pa.DataType, most: int, nullable: bool) -> st.SearchStrategy[list[Any]]:
    """The values that a column has, at most so many. Made once a type: that takes longer than drawing from it."""
    value = values(data_type) | st.none() if nullable else values(data_type)
    return st.lists(value, min_size=1, max_size=most)


@st.composite
def columns(draw: st.DrawFn, data_type: pa.DataType, rows: int, nullable: bool = True) -> pa.Array:
    """A column of that many rows, a slice of one that has up to 9 more in front and 2 behind."""
    pool, r = draw(_pools(data_type, 8, nullable)), Random(draw(SEEDS))
    before, after = r.randrange(10), r.randrange(3)
    return build(data_type, r.choices(pool, k=before + rows + after)).slice(before, rows)


@st.composite
def records(draw: st.DrawFn, types: Sequence[pa.DataType] = TYPES, rows_max: int = 24) -> pa.RecordBatch:
    """A batch of 1 to 4 columns of some of these types; 0 rows are common."""
    rows = draw(st.integers(0, rows_max))
    chosen = draw(st.lists(st.sampled_from(types), min_size=1, max_size=4))
    arrays = [draw(columns(data_type, rows)) for data_type in chosen]
    return pa.RecordBatch.from_arrays(arrays, names=[f"c{i}" for i in range(len(arrays))])


@st.composite
def changes(draw: st.DrawFn, table: Table, rows_max: int = 10, *, updates: bool = False) -> pa.RecordBatch:
    """Upserts and deletes of a table in arrow_schema(table), keys and positions that often meet; perhaps updates.

    Keyed tables: perhaps __unset, never for key columns. Keyless tables: none. A column's values come from at most
    three, so that rows are equal often.
    """
    pools = [draw(_pools(column.type.arrow, 3, nullable=False)) for column in table.columns]
    rows, r = draw(st.integers(0, rows_max)), Random(draw(SEEDS))
    unset = r.random() < 0.5 if table.key else False
    arrays = []
    for column, pool in zip(table.columns, pools, strict=True):
        nulls = [None] * r.randrange(3) if column.name not in table.key else []
        arrays.append(build(column.type.arrow, r.choices(pool + nulls, k=rows)))
    ops = [Op.UPSERT, Op.INSERT, Op.DELETE] if table.key else [Op.UPSERT, Op.UPSERT, Op.DELETE]
    ops += [Op.UPDATE] if updates else []
    arrays.append(pa.array(r.choices(ops, k=rows), pa.int8()))
    arrays.append(pa.array([r.randrange(6).to_bytes(32, "big") for _ in range(rows)], POSITION_TYPE))
    arrays.append(build(SOURCE_TS_TYPE, [r.choice((None, r.randrange(2**50))) for _ in range(rows)]))
    if unset:
        free = [i for i, column in enumerate(table.columns) if column.name not in table.key]
        bits = [sum(1 << i for i in r.sample(free, r.randint(0, len(free)))) for _ in range(rows)]
        width = unset_bytes(table)
        arrays.append(pa.array([n.to_bytes(width, "little") for n in bits], pa.binary(width)))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(table, with_unset=unset))


def check_sound(record: pa.RecordBatch) -> None:
    """Raise pyarrow.ArrowInvalid where offsets, lengths or texts are wrong; Arrow's own bound of a day is left out.

    24:00 is a time in PostgreSQL and here, but not for Arrow's full validation.
    """
    for column in record.columns:
        (column.view(pa.int64()) if pa.types.is_time64(column.type) else column).validate(full=True)
    record.validate()


def same(a: pa.RecordBatch, b: pa.RecordBatch) -> bool:
    """Equal schemas and values bit by bit; NaN equals NaN, and -0.0 does not equal 0.0."""
    if a.schema != b.schema or a.num_rows != b.num_rows:
        return False
    return all(_bits(plain(x)) == _bits(plain(y)) for x, y in zip(a.columns, b.columns, strict=True))


def _bits(plain: Sequence[Any]) -> list[Any]:
    return [struct.pack("<d", value) if isinstance(value, float) else value for value in plain]
