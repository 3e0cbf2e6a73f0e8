"""A keyed store of rows, the state of joins and windows: upsert, delete and look up whole batches; export by slot.

A store is used by one thread at a time. Every column it gives is nullable; all its batches own their memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.change import OP
from libcore.reference import table as reference

_SLOTS_MAX = 65536
_PAIRS = pa.schema([("probe", pa.int32()), ("row", pa.int64())])


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
        core = _CStore if IMPLEMENTATION == "c" else reference.RowStore
        self._core: _CStore | reference.RowStore = core(
            self.schema, self.key, self.index, self.slot_by, slots, bytes_max
        )

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

    @property
    def changes(self) -> int:
        """How many rows `changed` would give."""
        return self._core.changes

    @property
    def handle(self) -> Any:
        """The lc_table of include/libcore/table.h, for kernels that work on stores; it lives as long as this object."""
        assert isinstance(self._core, _CStore), "the reference has no handle"
        return self._core.handle

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
            columns: different column numbers of the schema in the order wanted; all of them by default.
        Raises: IndexError for the number of no row, CapacityError where a column would exceed 2^31-1 bytes.
        """
        if rows.type != pa.int64() or rows.null_count:
            raise ValueError(f"expected int64 row numbers without NULL, found {rows.type} with {rows.null_count} NULL")
        chosen = range(len(self.schema)) if columns is None else columns
        if any(not 0 <= column < len(self.schema) for column in chosen) or len(set(chosen)) != len(chosen):
            raise ValueError(f"expected different column numbers below {len(self.schema)}, found {list(chosen)}")
        return self._core.take(rows, list(chosen))

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


class _CStore:
    """The store of include/libcore/table.h; arguments were checked by RowStore."""

    def __init__(
        self,
        schema: pa.Schema,
        key: Sequence[int],
        index: Sequence[int],
        slot_by: Sequence[int],
        slots: int,
        bytes_max: int,
    ) -> None:
        ffi, lib = arrow_c.ffi, arrow_c.lib
        self._schema, self._slots = schema, slots
        self._logged_schema = schema.append(pa.field(OP, pa.int8(), nullable=False))
        self._error = ffi.new("lc_error *")
        out = ffi.new("lc_table **")
        keys = (list(key), len(key), list(index), len(index), list(slot_by), len(slot_by))
        layouts = arrow_c.layouts(schema)
        self._check(lib.lc_table_new(layouts, len(schema), *keys, slots, bytes_max, out, self._error))
        self._table = ffi.gc(out[0], lib.lc_table_free)

    @property
    def handle(self) -> Any:
        return self._table

    def _check(self, code: int) -> None:
        arrow_c.check(code, self._error)

    @property
    def rows(self) -> int:
        return int(arrow_c.lib.lc_table_rows(self._table))

    @property
    def bytes(self) -> int:
        return int(arrow_c.lib.lc_table_bytes(self._table))

    @property
    def changes(self) -> int:
        return int(arrow_c.lib.lc_table_changes(self._table))

    def upsert(self, record: pa.RecordBatch) -> None:
        with arrow_c.exported(record) as batch:
            self._check(arrow_c.lib.lc_table_upsert(self._table, batch, self._error))

    def load(self, record: pa.RecordBatch, with_op: bool) -> None:
        with arrow_c.exported(record) as batch:
            self._check(arrow_c.lib.lc_table_load(self._table, batch, with_op, self._error))

    def delete(self, keys: pa.RecordBatch) -> int:
        count = arrow_c.ffi.new("int64_t *")
        with arrow_c.exported(keys) as batch:
            self._check(arrow_c.lib.lc_table_delete(self._table, batch, count, self._error))
        return int(count[0])

    def find(self, keys: pa.RecordBatch) -> pa.Int64Array:
        buffer = pa.allocate_buffer(8 * keys.num_rows)
        rows = arrow_c.ffi.cast("int64_t *", buffer.address)
        with arrow_c.exported(keys) as batch:
            self._check(arrow_c.lib.lc_table_find(self._table, batch, rows, self._error))
        return pa.Int64Array.from_buffers(pa.int64(), keys.num_rows, [None, buffer], null_count=0)

    def slots_of(self, keys: pa.RecordBatch) -> pa.Int32Array:
        buffer = pa.allocate_buffer(4 * keys.num_rows)
        slots = arrow_c.ffi.cast("int32_t *", buffer.address)
        with arrow_c.exported(keys) as batch:
            self._check(arrow_c.lib.lc_table_slots_of(self._table, batch, slots, self._error))
        return pa.Int32Array.from_buffers(pa.int32(), keys.num_rows, [None, buffer], null_count=0)

    def take(self, rows: pa.Int64Array, columns: Sequence[int]) -> pa.RecordBatch:
        ffi, lib = arrow_c.ffi, arrow_c.lib
        numbers = ffi.cast("int64_t *", rows.buffers()[1].address + 8 * rows.offset) if len(rows) else ffi.NULL
        out = ffi.new("struct ArrowArray *")
        code = lib.lc_table_take(self._table, numbers, len(rows), columns, len(columns), out, self._error)
        if code == lib.LC_INVALID and self._error.row >= 0:
            raise IndexError(ffi.string(self._error.message).decode())
        self._check(code)
        return arrow_c.imported(out, pa.schema([self._schema.field(column) for column in columns]))

    def matches(self, values: pa.RecordBatch) -> tuple[pa.Int32Array, pa.Int64Array]:
        out = arrow_c.ffi.new("struct ArrowArray *")
        with arrow_c.exported(values) as batch:
            self._check(arrow_c.lib.lc_table_matches(self._table, batch, out, self._error))
        pairs = arrow_c.imported(out, _PAIRS)
        return pairs.column(0), pairs.column(1)

    def changed(self) -> tuple[pa.RecordBatch, list[tuple[int, int, int]]]:
        ffi, lib = arrow_c.ffi, arrow_c.lib
        out, count = ffi.new("struct ArrowArray *"), ffi.new("int64_t *")
        ranges: Any = ffi.new("lc_table_range[]", self._slots)
        self._check(lib.lc_table_changed(self._table, out, ranges, count, self._error))
        found = [(ranges[i].slot, ranges[i].first, ranges[i].count) for i in range(count[0])]
        return arrow_c.imported(out, self._logged_schema), found

    def mark(self) -> None:
        arrow_c.lib.lc_table_mark(self._table)

    def whole(self, slot: int | None) -> pa.RecordBatch:
        out = arrow_c.ffi.new("struct ArrowArray *")
        code = arrow_c.lib.lc_table_whole(self._table, -1 if slot is None else slot, out, self._error)
        self._check(code)
        return arrow_c.imported(out, self._schema)

    def clear(self) -> None:
        arrow_c.lib.lc_table_clear(self._table)


def _expect(record: pa.RecordBatch, schema: pa.Schema, *, by_name: bool = True) -> None:
    """Raise ValueError unless the record has these types, and names where `by_name`."""
    found = record.schema
    if found.types != schema.types or (by_name and found.names != schema.names):
        expected = [f"{field.name} {field.type}" for field in schema]
        raise ValueError(f"expected columns {expected}, found {[f'{field.name} {field.type}' for field in found]}")
