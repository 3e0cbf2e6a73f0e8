"""A keyed store of rows, the state of joins and windows: upsert, delete and look up whole batches; export by slot.

A store is used by one thread at a time. Every column it gives is nullable; all its batches own their memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from libcore.change import OP
from libcore.reference import table as reference

_SLOTS_MAX = 65536


class RowStore:
    """Rows by key, with an optional secondary index, and what changed since the last mark.

    Keys are equal as in compact: NULL equals NULL, NaN equals NaN, -0.0 equals 0.0, everything else bit by bit. The
    slot of a row is hash_rows over `slot_by`, modulo `slots`. Rows have numbers, from 0 on; a freed number is used
    again, the one freed last first, and a store that a mark() finds empty starts at 0 again.

    Args:
        schema: any columns that libcore carries, none called __op; nullability and metadata are not kept.
        key: column numbers of the key, at least one.
        index: column numbers of a secondary index, which is not unique; empty for none.
        slot_by: key columns that decide the slot; by default the whole key.
        slots: 1..65536, fixed for the life of a flow.
        bytes_max: bound of `bytes`; 0 for none.
    Raises: ValueError for column numbers or slots that do not fit, TypeError for a type that libcore does not carry.
    """

    def __init__(
        self,
        schema: pa.Schema,
        key: Sequence[int],
        *,
        index: Sequence[int] = (),
        slot_by: Sequence[int] | None = None,
        slots: int = 64,
        bytes_max: int = 0,
    ) -> None:
        self.schema = pa.schema([pa.field(field.name, field.type) for field in schema])
        self.key, self.index = tuple(key), tuple(index)
        self.slot_by = self.key if slot_by is None else tuple(slot_by)
        self.slots, self.bytes_max = slots, bytes_max
        self._check_arguments()
        self._key_schema = pa.schema([self.schema.field(column) for column in self.key])
        self._index_schema = pa.schema([self.schema.field(column) for column in self.index])
        self._logged_schema = self.schema.append(pa.field(OP, pa.int8(), nullable=False))
        self._core = reference.RowStore(self.schema, self.key, self.index, self.slot_by, slots, bytes_max)

    def _check_arguments(self) -> None:
        columns = len(self.schema)
        if OP in self.schema.names:
            raise ValueError(f"expected no column {OP} in a store, found {self.schema.names}")
        for what, chosen in (("key", self.key), ("index", self.index), ("slot_by", self.slot_by)):
            if len(set(chosen)) != len(chosen) or any(not 0 <= column < columns for column in chosen):
                raise ValueError(f"{what}: expected different column numbers below {columns}, found {list(chosen)}")
        if not self.key or not self.slot_by or not set(self.slot_by) <= set(self.key):
            raise ValueError(
                f"expected at least one key column and slot_by among them, found key {list(self.key)}, "
                f"slot_by {list(self.slot_by)}"
            )
        if not 1 <= self.slots <= _SLOTS_MAX or self.bytes_max < 0:
            raise ValueError(
                f"expected 1 to {_SLOTS_MAX} slots and bytes_max from 0 on, found {self.slots}, {self.bytes_max}"
            )

    @property
    def rows(self) -> int:
        """Rows in the store."""
        return self._core.rows

    @property
    def bytes(self) -> int:
        """Bytes of all memory that the store holds: rows, texts, indexes, what is free for the next rows."""
        return self._core.bytes

    def upsert(self, record: pa.RecordBatch) -> None:
        """Put rows in the place of those of their keys; of several rows of a key the last one stays.

        Args:
            record: the schema's columns, by name and type.
        Raises: CapacityError where the store could come above bytes_max, before anything changes; DataError with the
            row for a decimal of more digits than its type has, before anything changes; MemoryError (the rows before
            some row are in, the others are not); ValueError for other columns.
        """
        _expect(record, self.schema)
        self._core.upsert(record)

    def delete(self, keys: pa.RecordBatch) -> int:
        """Remove the rows of these keys; those without a row are passed over.

        Args:
            keys: the key columns in key order, by type.
        Returns: how many rows went.
        Raises: DataError as upsert (find and matches do too), before anything changes.
        """
        _expect(keys, self._key_schema, by_name=False)
        return self._core.delete(keys)

    def find(self, keys: pa.RecordBatch) -> pa.Int64Array:
        """The number of each key's row, -1 where there is none; valid until the store changes (mark() is a change).

        Args:
            keys: the key columns in key order, by type.
        """
        _expect(keys, self._key_schema, by_name=False)
        return self._core.find(keys)

    def take(self, rows: pa.Int64Array, columns: Sequence[int] | None = None) -> pa.RecordBatch:
        """Copy rows out by number, in that order; a number may come more than once, -1 gives a row of NULLs.

        Args:
            rows: int64 without NULL, of find() or matches().
            columns: column numbers of the schema in the order wanted; all of them by default.
        Raises: IndexError for the number of no row, CapacityError where a column would exceed 2^31-1 bytes.
        """
        if rows.type != pa.int64() or rows.null_count:
            raise ValueError(f"expected int64 row numbers without NULL, found {rows.type} with {rows.null_count} NULL")
        chosen = range(len(self.schema)) if columns is None else columns
        if any(not 0 <= column < len(self.schema) for column in chosen):
            raise IndexError(f"expected column numbers below {len(self.schema)}, found {list(chosen)}")
        return self._core.take(rows, chosen)

    def matches(self, values: pa.RecordBatch) -> tuple[pa.Int32Array, pa.Int64Array]:
        """Every row of the store whose index columns have one of these values.

        A row's age counts from when its key came, or its index columns changed, last.

        Args:
            values: the index columns in index order, by type.
        Returns: (row of `values`, number of the store's row), ordered by the former, then by age, oldest first. NULL
            in any column matches nothing.
        Raises: ValueError for a store without an index, CapacityError for 2^31-1 matches or more.
        """
        if not self.index:
            raise ValueError("expected a store with an index, found one without")
        _expect(values, self._index_schema, by_name=False)
        return self._core.matches(values)

    def changed(self) -> tuple[pa.RecordBatch, list[tuple[int, int, int]]]:
        """What is other than at the last mark(): each key once; a key that came and went since does not come.

        Returns: (rows, ranges). Rows have the schema's columns and __op (1 upsert; 2 delete: the key columns are set,
            the others NULL), by slot, then by number. Ranges are (slot, first row, row count), by slot.
        Raises: CapacityError where a column would exceed 2^31-1 bytes.
        """
        return self._core.changed()

    def mark(self) -> None:
        """Forget what changed() gave: from here on, changes are counted anew."""
        self._core.mark()

    def whole(self, slot: int | None = None) -> pa.RecordBatch:
        """All rows, or those of a slot, by number, without __op.

        Raises: CapacityError where a column would exceed 2^31-1 bytes: export such a store by slot.
        """
        if slot is not None and not 0 <= slot < self.slots:
            raise ValueError(f"expected a slot below {self.slots}, found {slot}")
        return self._core.whole(slot)

    def load(self, record: pa.RecordBatch) -> None:
        """Apply rows of whole() or changed() in order; their keys count as not changed, whatever was before.

        Args:
            record: the schema's columns, and perhaps __op (1 upsert, 2 delete) as the last.
        Raises: as upsert; DataError with the row for another op, before anything changes.
        """
        with_op = record.num_columns == len(self.schema) + 1
        _expect(record, self._logged_schema if with_op else self.schema)
        self._core.load(record, with_op)

    def clear(self) -> None:
        """Remove all rows; changed() gives them as deletes."""
        self._core.clear()

    def slots_of(self, keys: pa.RecordBatch) -> pa.Int32Array:
        """The slot of each key, whether the store has it or not.

        Args:
            keys: the key columns in key order, by type.
        """
        _expect(keys, self._key_schema, by_name=False)
        return self._core.slots_of(keys)


def _expect(record: pa.RecordBatch, schema: pa.Schema, *, by_name: bool = True) -> None:
    """Raise ValueError unless the record has these types, and names where `by_name`."""
    found = record.schema
    if found.types != schema.types or (by_name and found.names != schema.names):
        expected = [f"{field.name} {field.type}" for field in schema]
        raise ValueError(f"expected columns {expected}, found {[f'{field.name} {field.type}' for field in found]}")
