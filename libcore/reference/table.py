"""The rules of include/libcore/table.h in plain Python: a dict of keys, a list of rows, a list of freed numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from libcore.change import Op
from libcore.errors import CapacityError, DataError
from libcore.reference.hashing import hash_rows
from libcore.reference.values import plain

Key = tuple[Any, ...]
_ENTRY_BYTES = 64  # what a row costs besides its values; a guess, where C counts


@dataclass
class _Row:
    """One numbered row. `live` False: deleted since the last mark, kept for changed()."""

    key: Key
    values: list[Any]
    slot: int
    live: bool = True
    dirty: bool = False
    fresh: bool = False  # the key was not there at the last mark


class RowStore:
    """See libcore.table.RowStore; arguments are checked there."""

    def __init__(
        self,
        schema: pa.Schema,
        key: Sequence[int],
        index: Sequence[int],
        slot_by: Sequence[int],
        slots: int,
        bytes_max: int,
    ) -> None:
        self._schema, self._key, self._index = schema, list(key), list(index)
        self._slot_by, self._slots, self._bytes_max = list(slot_by), slots, bytes_max
        self._numbers: dict[Key, int] = {}
        self._rows: list[_Row | None] = []
        self._free: list[int] = []
        self._chains: dict[Key, list[int]] = {}

    @property
    def rows(self) -> int:
        """See libcore.table.RowStore."""
        return sum(1 for _ in self._living())

    @property
    def bytes(self) -> int:
        """See libcore.table.RowStore."""
        return sum(_size(row.values) for row in self._rows if row is not None)

    @property
    def changes(self) -> int:
        """See libcore.table.RowStore."""
        return sum(row.dirty for row in self._rows if row is not None)

    def upsert(self, record: pa.RecordBatch) -> None:
        """See libcore.table.RowStore."""
        self._apply(record, [Op.UPSERT] * record.num_rows, durable=False)

    def load(self, record: pa.RecordBatch, with_op: bool) -> None:
        """See libcore.table.RowStore; `with_op`: the last column is __op."""
        ops = [Op.UPSERT] * record.num_rows
        if with_op:
            ops = record.column(record.num_columns - 1).to_pylist()
            for row, op in enumerate(ops):
                if op not in (Op.UPSERT, Op.DELETE):
                    raise DataError(f"expected an upsert (1) or delete (2), found op {op}", row=row)
        self._apply(record, ops, durable=True)

    def _apply(self, record: pa.RecordBatch, ops: Sequence[int], durable: bool) -> None:
        columns = [plain(record.column(i)) for i in range(len(self._schema))]
        rows = [list(values) for values in zip(*columns, strict=True)]
        _check_decimals(record)
        more = sum(map(_size, rows))
        if self._bytes_max and self.bytes + more > self._bytes_max:
            raise CapacityError(
                f"state: expected at most {self._bytes_max} bytes, found {self.bytes} and {more} more "
                f"needed for {record.num_rows} rows; use more processes, or raise state_bytes"
            )
        slots = self._slots_by(record, self._slot_by)
        for values, op, slot in zip(rows, ops, slots, strict=True):
            if op == Op.DELETE:
                self._remove(self._key_of(values, self._key), durable)
            else:
                self._put(values, slot, durable)

    def _put(self, values: list[Any], slot: int, durable: bool) -> None:
        key = self._key_of(values, self._key)
        number = self._numbers.get(key)
        if number is None:
            number = self._number()
            self._numbers[key] = number
            row = self._rows[number] = _Row(key, values, slot, fresh=not durable)
            self._link(number, values)
        else:
            row = self._at(number)
            if not row.live or self._chain_of(row.values) != self._chain_of(values):
                self._unlink(number, row.values)
                self._link(number, values)
            row.values, row.live = values, True
            row.fresh = row.fresh and not durable
        row.dirty = not durable

    def _number(self) -> int:
        """The number of a new row: the one freed last, else the next."""
        if self._free:
            return self._free.pop()
        self._rows.append(None)
        return len(self._rows) - 1

    def _remove(self, key: Key, durable: bool) -> bool:
        """Delete a key; whether its row was there."""
        number = self._numbers.get(key)
        if number is None:
            return False
        row = self._at(number)
        lived = row.live
        self._unlink(number, row.values)
        if durable or row.fresh:
            self._forget(number)
        else:
            row.live, row.dirty = False, True
        return lived

    def _forget(self, number: int) -> None:
        del self._numbers[self._at(number).key]
        self._rows[number] = None
        self._free.append(number)

    def delete(self, keys: pa.RecordBatch) -> int:
        """See libcore.table.RowStore."""
        return sum([self._remove(key, False) for key in self._keys(keys)])

    def clear(self) -> None:
        """See libcore.table.RowStore."""
        for row in [row for _, row in self._living()]:
            self._remove(row.key, False)

    def find(self, keys: pa.RecordBatch) -> pa.Int64Array:
        """See libcore.table.RowStore."""
        numbers = [self._numbers.get(key, -1) for key in self._keys(keys)]
        return pa.array([number if number >= 0 and self._at(number).live else -1 for number in numbers], pa.int64())

    def take(self, rows: pa.Int64Array, columns: Sequence[int]) -> pa.RecordBatch:
        """See libcore.table.RowStore."""
        taken: list[list[Any]] = []
        for number in rows.to_pylist():
            if number == -1:
                taken.append([None] * len(self._schema))
                continue
            row = self._rows[number] if 0 <= number < len(self._rows) else None
            if row is None or not row.live:
                raise IndexError(f"expected the number of a row that is there, found {number}")
            taken.append(row.values)
        return self._record(taken, columns)

    def matches(self, values: pa.RecordBatch) -> tuple[pa.Int32Array, pa.Int64Array]:
        """See libcore.table.RowStore."""
        probes: list[int] = []
        found: list[int] = []
        for probe, chain in enumerate(self._keys(values)):
            numbers = [] if None in chain else self._chains.get(chain, [])
            probes += [probe] * len(numbers)
            found += numbers
        return pa.array(probes, pa.int32()), pa.array(found, pa.int64())

    def changed(self) -> tuple[pa.RecordBatch, list[tuple[int, int, int]]]:
        """See libcore.table.RowStore."""
        # The list is in the order of the numbers, and sorting keeps that inside a slot.
        rows = sorted((row for row in self._rows if row is not None and row.dirty), key=lambda row: row.slot)
        key = set(self._key)
        values = [
            row.values if row.live else [value if i in key else None for i, value in enumerate(row.values)]
            for row in rows
        ]
        ops = pa.array([Op.UPSERT if row.live else Op.DELETE for row in rows], pa.int8())
        ranges: list[tuple[int, int, int]] = []
        for slot in sorted({row.slot for row in rows}):
            count = sum(row.slot == slot for row in rows)
            ranges.append((slot, ranges[-1][1] + ranges[-1][2] if ranges else 0, count))
        record = self._record(values, range(len(self._schema)))
        return record.append_column(pa.field("__op", pa.int8(), nullable=False), ops), ranges

    def mark(self) -> None:
        """See libcore.table.RowStore."""
        for number, row in enumerate(self._rows):
            if row is not None and not row.live:
                self._forget(number)
            elif row is not None:
                row.dirty = row.fresh = False
        if not self._numbers:
            self._rows, self._free = [], []

    def whole(self, slot: int | None) -> pa.RecordBatch:
        """See libcore.table.RowStore."""
        rows = [row.values for _, row in self._living() if slot is None or row.slot == slot]
        return self._record(rows, range(len(self._schema)))

    def slots_of(self, keys: pa.RecordBatch) -> pa.Int32Array:
        """See libcore.table.RowStore."""
        return pa.array(self._slots_by(keys, [self._key.index(column) for column in self._slot_by]), pa.int32())

    def _slots_by(self, record: pa.RecordBatch, indexes: list[int]) -> list[int]:
        return [word % self._slots for word in hash_rows(record, indexes).to_pylist()]

    def _living(self) -> Iterator[tuple[int, _Row]]:
        return ((number, row) for number, row in enumerate(self._rows) if row is not None and row.live)

    def _at(self, number: int) -> _Row:
        row = self._rows[number]
        assert row is not None, number
        return row

    def _keys(self, record: pa.RecordBatch) -> list[Key]:
        _check_decimals(record)
        columns = [[_same(value) for value in plain(column)] for column in record.columns]
        return list(zip(*columns, strict=True))

    @staticmethod
    def _key_of(values: list[Any], indexes: list[int]) -> Key:
        return tuple(_same(values[index]) for index in indexes)

    def _chain_of(self, values: list[Any]) -> Key | None:
        """The chain of a row in the secondary index; None where it is in none."""
        chain = self._key_of(values, self._index)
        return None if None in chain or not chain else chain

    def _link(self, number: int, values: list[Any]) -> None:
        if (chain := self._chain_of(values)) is not None:
            self._chains.setdefault(chain, []).append(number)

    def _unlink(self, number: int, values: list[Any]) -> None:
        """Take a row out of its chain; a deleted one is in none any more."""
        if self._at(number).live and (chain := self._chain_of(values)) is not None:
            self._chains[chain].remove(number)
            if not self._chains[chain]:
                del self._chains[chain]

    def _record(self, rows: list[list[Any]], columns: Sequence[int]) -> pa.RecordBatch:
        fields = [self._schema.field(column) for column in columns]
        arrays = [
            _column(field.type, [row[column] for row in rows]) for field, column in zip(fields, columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _same(value: Any) -> Any:
    """NaN made equal to itself; Python holds -0.0 and 0.0 equal already."""
    return "NaN" if isinstance(value, float) and value != value else value


def _check_decimals(record: pa.RecordBatch) -> None:
    """Refuse what a decimal of up to 9 digits in 32 bits, or 18 in 64, cannot hold: the first row, its first column."""
    found: list[tuple[int, int]] = []
    for number, column in enumerate(record.columns):
        if pa.types.is_decimal128(column.type) and column.type.precision <= 18:
            most = 1 << (31 if column.type.precision <= 9 else 63)
            values = plain(column)
            found += [(row, number) for row, v in enumerate(values) if v is not None and not -most <= v < most]
    if found:
        row, number = min(found)
        digits = record.schema.field(number).type.precision
        raise DataError(
            f"column {number}: expected a decimal of at most {digits} digits, found one above "
            f"{32 if digits <= 9 else 64} bits",
            row=row,
        )


def _size(values: list[Any]) -> int:
    return _ENTRY_BYTES + sum(len(value) if isinstance(value, bytes) else 8 for value in values)


def _column(data_type: pa.DataType, values: list[Any]) -> pa.Array:
    """The column of these plain values, None for NULL; the inverse of reference.values.plain."""
    types = pa.types
    if types.is_decimal(data_type):
        width = data_type.byte_width
        raw = b"".join((value or 0).to_bytes(width, "little", signed=True) for value in values)
        valid = pa.array([value is not None for value in values], pa.bool_())
        return pa.Array.from_buffers(data_type, len(values), [valid.buffers()[1], pa.py_buffer(raw)])
    if types.is_string(data_type):
        return pa.array(values, pa.binary()).view(data_type)
    if types.is_date32(data_type):
        return pa.array(values, pa.int32()).view(data_type)
    if types.is_time64(data_type) or types.is_timestamp(data_type):
        return pa.array(values, pa.int64()).view(data_type)
    return pa.array(values, data_type)
