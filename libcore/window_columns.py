"""Column work of windows: event times, stretches of time, floats in an order of their own, the kept watermark."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from libcore.hashing import hash_rows
from libcore.slots import slot_of
from libcore.slots import take as take_rows
from libcore.table import RowStore

TIME_MAX = 2**61
"""Event times are within this many microseconds of 1970 (73,000 years); others, as infinity, have no window."""
_DAY_US = 86_400_000_000
_LOW_BITS = 0x7FFF_FFFF_FFFF_FFFF
_NAN_BITS = 0x7FF8_0000_0000_0000


def int64(value: int) -> pa.Scalar:
    """An int64 scalar."""
    return pa.scalar(value, pa.int64())


def counted(rows: int, data_type: pa.DataType | None = None) -> pa.Array:
    """0, 1, 2, ... as int64, or another integer type."""
    found = pa.arange(0, rows) if hasattr(pa, "arange") else pa.array(range(rows), pa.int64())
    return found if data_type is None else found.cast(data_type)


def floored(values: pa.Int64Array, unit: int) -> pa.Int64Array:
    """Each value brought down to a multiple of `unit`; division towards minus infinity."""
    rest = pc.subtract(values, pc.multiply(pc.divide(values, int64(unit)), int64(unit)))
    down = pc.subtract(values, rest)
    return pc.if_else(pc.less(rest, int64(0)), pc.subtract(down, int64(unit)), down)


def time_us(column: pa.Array) -> pa.Int64Array:
    """Event times as microseconds since 1970; NULL where a time is NULL or beyond TIME_MAX."""
    if pa.types.is_date32(column.type):
        values = pc.multiply(column.view(pa.int32()).cast(pa.int64()), int64(_DAY_US))
    elif column.type.unit == "ns":
        values = pc.divide(floored(column.view(pa.int64()), 1000), int64(1000))
    else:
        values = column.view(pa.int64())
    far = pc.or_(pc.greater(values, int64(TIME_MAX)), pc.less(values, int64(-TIME_MAX)))
    return pc.if_else(far, pa.scalar(None, pa.int64()), values) if pc.any(far).as_py() else values


def ordered_type(data_type: pa.DataType) -> pa.DataType:
    """The type in which `ordered` gives a column."""
    if pa.types.is_boolean(data_type):
        return pa.int8()
    return pa.int64() if pa.types.is_floating(data_type) or pa.types.is_timestamp(data_type) else data_type


def ordered(column: pa.Array) -> pa.Array:
    """A column whose order in Arrow is its order in SQL: floats as integers, NaN above all, -0.0 as 0.0.

    Bools become 0 and 1, and timestamps integers, as Arrow does not compare those with a zone.
    """
    if pa.types.is_boolean(column.type):
        return column.cast(pa.int8())
    if pa.types.is_timestamp(column.type):
        return column.view(pa.int64())
    if not pa.types.is_floating(column.type):
        return column
    values = pc.add(column.cast(pa.float64()), 0.0)
    bits = values.view(pa.int64())
    mapped = pc.if_else(pc.less(bits, int64(0)), pc.bit_wise_xor(bits, int64(_LOW_BITS)), bits)
    return pc.if_else(pc.is_nan(values), int64(_NAN_BITS), mapped)


def disordered(column: pa.Array, data_type: pa.DataType) -> pa.Array:
    """The inverse of `ordered`, but for bools."""
    if pa.types.is_timestamp(data_type):
        return column.view(data_type)
    if not pa.types.is_floating(data_type):
        return column
    bits = pc.if_else(pc.less(column, int64(0)), pc.bit_wise_xor(column, int64(_LOW_BITS)), column)
    return bits.view(pa.float64()).cast(data_type)


def taken(record: pa.RecordBatch, rows: pa.Array) -> pa.RecordBatch:
    """Rows by number, any integer type without NULL."""
    return take_rows(record, rows.cast(pa.int32()))


def batch(fields: Sequence[pa.Field], arrays: Sequence[pa.Array]) -> pa.RecordBatch:
    """A record of these fields."""
    return pa.RecordBatch.from_arrays(list(arrays), schema=pa.schema(fields))


def none_as_null(rows: pa.BooleanArray, column: pa.Array) -> pa.Array:
    """The column with NULL where `rows` is true."""
    return pc.if_else(rows, pa.scalar(None, column.type), column)


def bag(record: pa.RecordBatch, indexes: Sequence[int]) -> pa.Int64Array:
    """A hash of some columns, never NULL: what an index that must find NULLs too is made of."""
    return hash_rows(record, indexes).view(pa.int64())


@lru_cache(maxsize=16)
def slot_tokens(slots: int) -> tuple[int, ...]:
    """For each slot the smallest number whose row has that slot: keys under which a slot's own facts are kept."""
    found: dict[int, int] = {}
    start, step = 0, max(64, 8 * slots)
    while len(found) < slots:
        numbers = pa.array(range(start, start + step), pa.int64())
        record = pa.RecordBatch.from_arrays([numbers], names=["slot"])
        for number, slot in enumerate(slot_of(hash_rows(record, [0]), slots).to_pylist(), start):
            found.setdefault(slot, number)
        start += step
    return tuple(found[slot] for slot in range(slots))


class Clock:
    """The greatest watermark seen, kept in each slot that acted on it, so that it moves and restarts with the slot."""

    def __init__(self, slots: int) -> None:
        self.store = RowStore(pa.schema([("slot", pa.int64()), ("watermark", pa.int64())]), [0], slots=slots)
        self._tokens = slot_tokens(slots)
        self._us: int | None = None
        self._kept: dict[int, int] | None = None

    @property
    def us(self) -> int | None:
        """Microseconds since 1970; None before the first watermark."""
        self._kept_by_slot()
        return self._us

    def rise(self, us: int) -> bool:
        """Take a watermark; False where a greater one was seen. An equal one may find what a moved slot brought."""
        self._kept_by_slot()
        if self._us is not None and us < self._us:
            return False
        self._us = us
        return True

    def touch(self, slots: Iterable[int]) -> None:
        """Rows of these slots changed: what they know of time goes with them."""
        kept, us = self._kept_by_slot(), self._us
        if us is None:
            return
        behind = [slot for slot in slots if kept.get(slot) != us]
        if behind:
            kept.update(dict.fromkeys(behind, us))
            tokens: Any = pa.array([self._tokens[slot] for slot in behind], pa.int64())
            self.store.upsert(batch(self.store.schema, [tokens, pa.repeat(int64(us), len(behind))]))

    def _kept_by_slot(self) -> dict[int, int]:
        if self._kept is None:
            slots = {token: slot for slot, token in enumerate(self._tokens)}
            self._kept = {slots[row["slot"]]: row["watermark"] for row in self.store.whole().to_pylist()}
            self._us = max(self._kept.values(), default=None)
        return self._kept
