"""The values of a column in each window with their counts: what min, max and count distinct need to take one back."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from libcore.table import RowStore
from libcore.window_columns import bag, batch, counted, int64, taken
from libcore.window_kernels import group_rows

VALUE, COUNT, BAG = "__value", "__count", "__bag"


class Values:
    """A multiset for each window.

    Args:
        keys: the fields that name a window, of which the first `group_columns` decide the slot.
        value_type: type of the values, in an order of Arrow's own.
        slots, bytes_max: as RowStore.
    """

    def __init__(
        self, keys: list[pa.Field], group_columns: int, value_type: pa.DataType, slots: int, bytes_max: int
    ) -> None:
        self._width = len(keys)
        self.fields = [*keys, pa.field(VALUE, value_type)]
        schema = pa.schema([*self.fields, pa.field(COUNT, pa.int64()), pa.field(BAG, pa.int64())])
        self.store = RowStore(
            schema,
            range(self._width + 1),
            index=[self._width + 2],
            slot_by=range(group_columns),
            slots=slots,
            bytes_max=bytes_max,
        )

    def apply(self, keys: pa.RecordBatch, deltas: pa.Int64Array) -> pa.Int64Array:
        """Add to counts.

        Args:
            keys: window and value, each once.
            deltas: what is added to each one's count.
        Returns: +1 where the value was not in the window and now is, -1 where it was and now is not, else 0.
        """
        store, width = self.store, self._width
        found = store.find(keys)
        old = pc.fill_null(store.take(found, [width + 1]).column(0), 0)
        new = pc.add(old, deltas)
        gone = pc.equal(new, int64(0))
        store.delete(keys.filter(pc.and_(gone, pc.greater_equal(found, int64(0)))))
        record = batch(store.schema, [*keys.columns, new, bag(keys, range(width))])
        store.upsert(record.filter(pc.invert(gone)) if pc.any(gone).as_py() else record)
        return pc.subtract(_positive(new), _positive(old))

    def of(self, windows: pa.RecordBatch) -> tuple[pa.Int32Array, pa.Array]:
        """(window's row, value) of every value of these windows, each window given once."""
        rows, numbers = self._matches(windows)
        values = self.store.take(numbers, [self._width, self._width + 1])
        inside = pc.greater(values.column(1), int64(0))
        return rows.filter(inside), values.column(0).filter(inside)

    def drop(self, windows: pa.RecordBatch) -> None:
        """Forget these windows, each given once."""
        _, numbers = self._matches(windows)
        self.store.delete(self.store.take(numbers, range(self._width + 1)))

    def _matches(self, windows: pa.RecordBatch) -> tuple[pa.Int32Array, pa.Int64Array]:
        """By hash, then by the keys themselves: a hash may be another window's too."""
        width = self._width
        hashes = bag(windows, range(width))
        rows, numbers = self.store.matches(batch([pa.field(BAG, pa.int64())], [hashes]))
        keys = self.store.take(numbers, range(width))
        both = pa.concat_batches([windows.cast(keys.schema), keys])
        groups, _ = group_rows(both, range(width))
        same = pc.equal(groups.slice(windows.num_rows), rows)
        return rows.filter(same), numbers.filter(same)


def _positive(counts: pa.Int64Array) -> pa.Int64Array:
    return pc.greater(counts, int64(0)).cast(pa.int64())


def extremes(rows: pa.Int32Array, values: pa.Array, count: int) -> tuple[pa.Array, pa.Array]:
    """The least and greatest value of each of `count` windows, NULL for those without one.

    Args:
        rows: the window of each value, 0 to count - 1.
        values: no NULL.
    """
    if not len(rows):
        return pa.nulls(count, values.type), pa.nulls(count, values.type)
    table = pa.table({"row": rows, "value": values}).group_by("row").aggregate([("value", "min"), ("value", "max")])
    record = table.combine_chunks().to_batches()[0]
    places = pc.index_in(counted(count, pa.int32()), value_set=record.column("row"))
    return record.column("value_min").take(places), record.column("value_max").take(places)


__all__ = ["Values", "extremes", "taken"]
