"""table: the keyed row store beside polars and DuckDB, one core, the items table in batches of 30,000 rows.

`table` puts rows into a store that has all keys, `table-lookup` finds rows by key and copies all their columns out.
DuckDB does INSERT OR REPLACE into a table with a primary key and a left join of the batch; polars does
DataFrame.update(how="full") and a left join. Neither keeps what changed since the last snapshot, which ours does. The
faster of the two is the peer; all rates are printed beside. `table-growth` is the longest call of 1,000 rows while a
store grows, `table-memory` its bytes over those of the same rows in Arrow.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.measure import Result, memory_bytes
from libcore import memory
from libcore.table import RowStore

BATCH, SMALL_BATCH = 30_000, 1_000
PEER_BATCHES = 10  # the peers are slow enough that ten batches say it
GROWTH_MAX_MS, MEMORY_MAX = 50.0, 1.6
KEY = ("order_id", "line_no")
_KEY_NUMBERS = (0, 1)


def rows(count: int) -> pa.RecordBatch:
    """That many rows of the items table, four lines an order, in an order of their own; the same at every run."""
    number = pa.array(range(count), pa.int64())
    # a multiplicative hash: spread, and the same everywhere
    spread = pc.bit_wise_and(pc.multiply(number, 2654435761), 2**31 - 1)

    def below(limit: int) -> pa.Array:
        return pc.subtract(spread, pc.multiply(pc.divide(spread, limit), limit))

    def decimal(values: pa.Array, precision: int, scale: int) -> pa.Array:
        buffers = pc.cast(values, pa.decimal128(19, 0)).buffers()
        return pa.Array.from_buffers(pa.decimal128(precision, scale), count, buffers)

    sku = pc.binary_join_element_wise("MAT-", pc.utf8_lpad(pc.cast(below(20_000), pa.utf8()), 6, "0"), "")
    note = pc.if_else(pc.less(below(1_000), 700), pa.scalar(None, pa.utf8()), "partial – Teslim edilmedi")
    columns = {
        "order_id": pc.divide(number, 4),
        "line_no": pc.bit_wise_and(number, 3),
        "sku": sku,
        "quantity": pc.add(below(49), 1),
        "unit_price": decimal(below(10_000_000), 18, 4),
        "discount": decimal(below(30), 5, 2),
        "note": note,
        "created_at": pc.cast(pc.add(number, 1_760_000_000_000_000), pa.timestamp("us")),
    }
    return pa.record_batch(columns).take(pc.sort_indices(spread))


def _batches(record: pa.RecordBatch, size: int = BATCH) -> Iterator[pa.RecordBatch]:
    return (record.slice(start, size) for start in range(0, record.num_rows, size))


def _seconds(call: Callable[..., object], *arguments: Any) -> float:
    begun = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begun


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _one_core() -> None:
    """Before polars is imported: it makes as many threads as it may use cores."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    memory.keep_freed(64 << 20)


def _store(record: pa.RecordBatch) -> RowStore:
    return RowStore(record.schema, _KEY_NUMBERS)


def _filled(record: pa.RecordBatch) -> RowStore:
    store = _store(record)
    for batch in _batches(record):
        store.upsert(batch)
    return store


def _upsert(store: RowStore, record: pa.RecordBatch) -> None:
    for batch in _batches(record):
        store.upsert(batch)


def _find(store: RowStore, record: pa.RecordBatch) -> None:
    for batch in _batches(record):
        store.find(batch.select(_KEY_NUMBERS))


def _look_up(store: RowStore, record: pa.RecordBatch) -> list[pa.RecordBatch]:
    return [store.take(store.find(batch.select(_KEY_NUMBERS))) for batch in _batches(record)]


class _DuckDB:
    """The rows in a DuckDB table with a primary key."""

    def __init__(self, record: pa.RecordBatch) -> None:
        import duckdb

        self._connection: Any = duckdb.connect(config={"threads": 1})
        self._register("batch", record)
        self._connection.execute("CREATE TABLE t AS FROM batch")
        self._connection.execute(f"ALTER TABLE t ADD PRIMARY KEY ({', '.join(KEY)})")

    def _register(self, name: str, record: pa.RecordBatch) -> None:
        self._connection.register(name, pa.Table.from_batches([record]))

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Put the rows of one batch."""
        self._register("batch", batch)
        self._connection.execute("INSERT OR REPLACE INTO t FROM batch")

    def look_up(self, batch: pa.RecordBatch) -> int:
        """Rows found for the keys of one batch."""
        self._register("keys", batch.select(_KEY_NUMBERS))
        found = self._connection.sql(f"SELECT t.* FROM keys LEFT JOIN t USING ({', '.join(KEY)})")
        return len(found.to_arrow_table())


class _Polars:
    """The rows in a polars DataFrame."""

    def __init__(self, record: pa.RecordBatch) -> None:
        self._frame = self._of(record)

    @staticmethod
    def _of(record: pa.RecordBatch) -> Any:
        import polars

        return polars.from_arrow(pa.Table.from_batches([record]))

    def upsert(self, batch: pa.RecordBatch) -> None:
        """Put the rows of one batch."""
        self._frame = self._frame.update(self._of(batch), on=list(KEY), how="full", include_nulls=True)

    def look_up(self, batch: pa.RecordBatch) -> int:
        """Rows found for the keys of one batch."""
        return len(self._of(batch.select(_KEY_NUMBERS)).join(self._frame, on=list(KEY), how="left"))


def _peer_rate(record: pa.RecordBatch, what: str, pairs: int) -> tuple[str, float]:
    """The faster peer and its rows a second, the median of the runs."""
    parts = [batch for batch, _ in zip(_batches(record), range(PEER_BATCHES), strict=False)]
    count, rates = sum(part.num_rows for part in parts), {}
    for name, kind in (("DuckDB", _DuckDB), ("polars", _Polars)):
        peer = kind(record)
        times = [sum(_seconds(getattr(peer, what), part) for part in parts) for _ in range(pairs)]
        rates[name] = count / statistics.median(times)
        _say(f"{name}: {rates[name]:,.0f} rows/s")
    best = max(rates, key=lambda name: rates[name])
    return best, rates[best]


def _same(found: list[pa.RecordBatch], record: pa.RecordBatch) -> bool:
    return pa.Table.from_batches(found).combine_chunks().equals(pa.Table.from_batches([record]))


def table(items: int, pairs: int, processes: int) -> Result:
    """Rows a second put into a store that has their keys; first inserts, from an empty store on, are printed beside."""
    _one_core()
    record = rows(items)
    first = statistics.median(_seconds(_filled, record) for _ in range(pairs))
    _say(f"first inserts, growth included: {items / first:,.0f} rows/s")
    store = _filled(record)
    ours = items / statistics.median(_seconds(_upsert, store, record) for _ in range(pairs))
    equal, used = _same(_look_up(store, record), record) and store.rows == items, memory_bytes(os.getpid()) / 1e6
    del store
    peer, rate = _peer_rate(record, "upsert", pairs)
    return Result("table", ours, "upserts/s", f"{peer}, 1 core", rate, ours / rate, used, equal)


def table_lookup(items: int, pairs: int, processes: int) -> Result:
    """Rows a second found by key and copied out with all columns; finding alone is printed beside."""
    _one_core()
    record = rows(items)
    store = _filled(record)
    alone = statistics.median(_seconds(_find, store, record) for _ in range(pairs))
    _say(f"found, not copied: {items / alone:,.0f} rows/s")
    ours = items / statistics.median(_seconds(_look_up, store, record) for _ in range(pairs))
    equal, used = _same(_look_up(store, record), record), memory_bytes(os.getpid()) / 1e6
    del store
    peer, rate = _peer_rate(record, "look_up", pairs)
    return Result("table-lookup", ours, "rows/s", f"{peer}, 1 core", rate, ours / rate, used, equal)


def table_growth(items: int, pairs: int, processes: int) -> Result:
    """Milliseconds of the longest call while a store grows to a million rows by 1,000; least of the runs.

    Least, because the machine's own pauses are not the store's.
    """
    _one_core()
    record = rows(items)
    longest: list[float] = []
    for _ in range(pairs):
        store = _store(record)
        times = [_seconds(store.upsert, batch) for batch in _batches(record, SMALL_BATCH)]
        longest.append(1000 * max(times))
        _say(f"longest call {longest[-1]:.2f} ms, median {1000 * statistics.median(times):.2f} ms")
    value, used = min(longest), memory_bytes(os.getpid()) / 1e6
    aim = GROWTH_MAX_MS * max(1.0, items / 1_000_000)
    return Result("table-growth", value, "ms", "the aim", aim, aim / value, used, value <= aim)


def table_memory(items: int, pairs: int, processes: int) -> Result:
    """Bytes of a store, its index included, over the bytes of the same rows in Arrow."""
    record = rows(items)
    store = _filled(record)
    store.mark()
    value, used = store.bytes / record.nbytes, memory_bytes(os.getpid()) / 1e6
    return Result(
        "table-memory", value, "bytes/Arrow", "the aim", MEMORY_MAX, MEMORY_MAX / value, used, value <= MEMORY_MAX
    )
