"""state: a million rows of state of which 2,000 change in every epoch: what a snapshot costs, and what a start costs.

The rows are kept as a keyed step of a flow keeps them (flows/operators/keyed.py over flows/state): one store, 64 slots,
segments on the local disk, one fsync an epoch. After each epoch every touched slot gives its manifest, as Bytewax asks.

    state          milliseconds of one epoch's snapshot: changes collected, written, fsynced, all manifests; the median
    state-bytes    bytes of one epoch: its segment and the pickled manifests; the mean. Merges of older segments run
                   beside and do not count
    state-resume   seconds from the manifests to all rows in the store again; the median

`equal`: the resumed rows are those that were there before.
"""

from __future__ import annotations

import os
import pickle
import random
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.measure import MemoryProbe, Result, percentile
from bench.w1 import say
from flows.operators.keyed import Context, Hub, Parcel
from libcore.table import RowStore

SLOTS = 64
CHANGED_ROWS, EPOCHS = 2_000, 200
BATCH_ROWS = 20_000
AIM_MS, AIM_BYTES, AIM_SECONDS = 20.0, 1_000_000, 3.0
_STEP = "keep"


class Keep:
    """The plainest stage: rows by key, nothing comes out."""

    def __init__(self, schema: pa.Schema) -> None:
        self.stores: Mapping[str, RowStore] = {"rows": RowStore(schema, (0, 1), slots=SLOTS)}

    def on_items(self, items: Sequence[Any]) -> Iterable[Any]:
        """Put the rows into the store."""
        for parcel in items:
            self.stores["rows"].upsert(parcel.record)
        return ()

    def load(self, store: str, record: pa.RecordBatch) -> None:
        """Rows of the state, at a start."""
        self.stores[store].load(record)

    def epoch_ends(self) -> None:
        """Nothing to do."""

    def input_ends(self) -> Iterable[Any]:
        """Nothing to say."""
        return ()


@dataclass(frozen=True, slots=True)
class Measured:
    """What one life of the state took."""

    snapshot_ms: Sequence[float]
    busy_ms: Sequence[float]
    epoch_bytes: Sequence[int]
    resume_seconds: Sequence[float]
    store_bytes: int
    arrow_bytes: int
    disk_bytes: int
    peak_mb: float
    equal: bool


class Rows:
    """Rows of the workload's items, typed, for any numbers."""

    QUERY = """
        SELECT i // 4 AS order_id, i AS line_no, printf('MAT-%06d', (h % 20000)::INT) AS sku, (q % 50)::INT AS quantity,
            (((h // 7) % 5000)::VARCHAR || printf('.%04d', (h // 11 % 10000)::INT))::DECIMAL(18, 4) AS unit_price,
            printf('0.%02d', (h // 13 % 40)::INT)::DECIMAL(5, 2) AS discount,
            CASE WHEN h // 17 % 10 < 3 THEN 'partial – Teslim edilmedi' END AS note,
            make_timestamp(1760000000000000 + i * 5000) AS created_at
        FROM (SELECT i, hash(i) AS h, hash(i, {turn}) AS q FROM numbers)"""

    def __init__(self) -> None:
        import duckdb

        self._connection = duckdb.connect()

    def make(self, numbers: pa.Array, turn: int) -> pa.RecordBatch:
        """One row for each number, in any order; the quantity is another in every turn."""
        self._connection.register("numbers", pa.table({"i": numbers}))
        table = self._connection.sql(self.QUERY.format(turn=turn)).to_arrow_table()
        columns = [pa.concat_arrays(column.chunks) for column in table.columns]
        return pa.RecordBatch.from_arrays(columns, names=table.column_names)


class Life:
    """A hub with its state from a start to its end, driven as Bytewax drives it."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self.directory = directory
        self.stage = Keep(schema)
        self.hub = Hub(_STEP, self.stage, Context(slots=SLOTS, segments=directory))

    def attach(self, manifests: Mapping[int, bytes]) -> None:
        """Take over all slots, from their manifests where there are some; afterwards all rows are there."""
        for slot in range(SLOTS):
            self.hub.attach(slot, pickle.loads(manifests[slot]) if slot in manifests else None)
        self.hub.epoch_begins()

    def epoch(self, record: pa.RecordBatch, manifests: dict[int, bytes]) -> tuple[float, float, int]:
        """One epoch with those rows; its manifests are put into `manifests`.

        Returns: (milliseconds of its snapshot, those of them on the processor, bytes of its segment and manifests).
        """
        self.hub.work([Parcel("rows", None, record)])
        changed = [slot for slot, _, _ in self.stage.stores["rows"].changed()[1]]
        touched = sorted(self.hub.to_awake().union(changed))
        self.hub.awoken.update(touched)
        begun, begun_busy = time.perf_counter(), time.thread_time()
        states = {slot: self.hub.snapshot(slot) for slot in touched}
        taken_ms, busy_ms = (time.perf_counter() - begun) * 1000, (time.thread_time() - begun_busy) * 1000
        fresh = {slot: pickle.dumps(state) for slot, state in states.items()}
        manifests.update(fresh)
        state = states[changed[0]]
        assert state is not None, "a hub with a directory keeps manifests"
        newest = state[2][-1]  # a name, or for a handful of rows the bytes themselves, which are in the manifest
        size = (self.directory / newest).stat().st_size if isinstance(newest, str) else 0
        return taken_ms, busy_ms, sum(map(len, fresh.values())) + size

    def close(self) -> None:
        """Wait for the merge that runs."""
        if self.hub.log is not None:
            self.hub.log.close()

    def content(self) -> pa.Table:
        """All rows, sorted by key."""
        return pa.Table.from_batches([self.stage.stores["rows"].whole()]).sort_by("line_no")


def live(count: int, resumes: int, directory: Path) -> Measured:
    """Fill the state, change it for EPOCHS epochs, and take it up again `resumes` times."""
    chance, source, manifests = random.Random(7), Rows(), dict[int, bytes]()
    with MemoryProbe(os.getpid()) as memory:
        life = Life(directory, source.make(pa.array([0], pa.int64()), 0).schema)
        life.attach({})
        for first in range(0, count, BATCH_ROWS):
            numbers = pa.array(range(first, min(first + BATCH_ROWS, count)), pa.int64())
            life.epoch(source.make(numbers, 0), manifests)
        epochs = []
        for turn in range(1, EPOCHS + 1):
            numbers = pa.array(chance.sample(range(count), min(CHANGED_ROWS, count)), pa.int64())
            epochs.append(life.epoch(source.make(numbers, turn), manifests))
        before, store = life.content(), life.stage.stores["rows"]
        kept, written = store.bytes, sum(path.stat().st_size for path in directory.glob("*.seg"))
        life.close()
        resume_seconds, equal = [], before.num_rows == count
        for _ in range(resumes):
            life = Life(directory, before.schema)
            begun = time.perf_counter()
            life.attach(manifests)
            resume_seconds.append(time.perf_counter() - begun)
            equal = equal and life.content().equals(before)
            life.close()
    taken_ms, busy_ms, sizes = zip(*epochs, strict=True)
    return Measured(taken_ms, busy_ms, sizes, resume_seconds, kept, before.nbytes, written, memory.peak_mb, equal)


def measured(items: int, pairs: int) -> Measured:
    """One life with `items` rows, and everything about it for people."""
    with tempfile.TemporaryDirectory(prefix="headrace-state-") as scratch:
        found = live(items, pairs, Path(scratch))
    say(f"state: {items:,} rows ({found.arrow_bytes:,} bytes in Arrow, {found.store_bytes:,} in the store)")
    say(f"  {EPOCHS} epochs with {CHANGED_ROWS:,} changed rows each, over {SLOTS} slots:")
    ms, sizes = found.snapshot_ms, found.epoch_bytes
    say(f"  snapshot {statistics.median(ms):.1f} ms, p99 {percentile(ms, 0.99):.1f} ms, greatest {max(ms):.1f} ms")
    say(f"  of which on the processor {statistics.median(found.busy_ms):.1f} ms; the rest waits, for the disk mostly")
    say(f"  {statistics.mean(sizes):,.0f} bytes an epoch, greatest {max(sizes):,}; on disk {found.disk_bytes:,}")
    say(f"  resume {', '.join(f'{seconds:.2f}' for seconds in found.resume_seconds)} s, equal: {found.equal}")
    return found


def state(items: int, pairs: int, processes: int) -> Result:
    """Milliseconds of a snapshot, the median; lower is better."""
    found = measured(items, pairs)
    value = statistics.median(found.snapshot_ms)
    return _result("state", value, "ms an epoch's snapshot", AIM_MS, found)


def state_bytes(items: int, pairs: int, processes: int) -> Result:
    """Bytes that an epoch writes, the mean."""
    found = measured(items, pairs)
    return _result("state-bytes", statistics.mean(found.epoch_bytes), "bytes an epoch", AIM_BYTES, found)


def state_resume(items: int, pairs: int, processes: int) -> Result:
    """Seconds until all rows are there again, the median."""
    found = measured(items, pairs)
    return _result("state-resume", statistics.median(found.resume_seconds), "s to resume", AIM_SECONDS, found)


def _result(name: str, value: float, unit: str, aim: float, found: Measured) -> Result:
    label = f"the aim: under {aim:,.0f} ({unit})"
    return Result(name, value, unit, label, aim, aim / value, found.peak_mb, found.equal)
