"""scatter and pgcopy: rows of the workload's items out to slots, and into PostgreSQL's binary COPY; one core.

scatter  rows by the hash of their key into eight buckets, each an Arrow batch of its own memory, 100,000 rows a batch;
         beside polars (partition_by) and pyarrow (sort by bucket, take, slices); the peers get each row's bucket as a
         column, ours finds it from the hash. Batches of 20,000 rows are printed beside.
pgcopy   rows to COPY's bytes, exact decimals, beside psycopg's own formatter in C, whose bytes are equal; it gets the
         rows as Python values, which making is not counted.

The rates are of processor time; those by the wall are printed beside.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench.measure import Result, Taken, in_turn, memory_bytes, one_core, say
from bench.table import rows
from libcore import memory

BATCH, SMALL_BATCH, ROWS = 100_000, 20_000, 400_000
SLOTS, BUCKETS = 4096, 8
_KEY = (0, 1)
_BUCKET_OF_SLOT = bytes(slot % BUCKETS for slot in range(SLOTS))
# bigint, bigint, text, bigint, numeric, numeric, text, timestamp
_OIDS = (20, 20, 25, 20, 1700, 1700, 25, 1114)


def _result(name: str, peers: dict[str, Taken], count: int, equal: bool) -> Result:
    """Ours beside the fastest of the others."""
    mine = peers.pop("ours").processor_s
    peer = min(peers, key=lambda other: peers[other].processor_s)
    theirs, used = peers[peer].processor_s, memory_bytes(os.getpid()) / 1e6
    return Result(name, count / mine, "rows/s", f"{peer}, 1 core", count / theirs, theirs / mine, used, equal)


def _ours(record: pa.RecordBatch, size: int) -> Callable[[], list[Any]]:
    from libcore.hashing import hash_rows
    from libcore.slots import scatter

    parts = [record.slice(at, size) for at in range(0, record.num_rows, size)]
    hashed = [(part, hash_rows(part, _KEY)) for part in parts]
    return lambda: [scatter(part, hashes, SLOTS, _BUCKET_OF_SLOT) for part, hashes in hashed]


def _with_bucket(record: pa.RecordBatch) -> pa.RecordBatch:
    from libcore.hashing import hash_rows
    from libcore.slots import slot_of

    slots = slot_of(hash_rows(record, _KEY), SLOTS)
    return record.append_column("bucket", pc.bit_wise_and(slots, pa.scalar(BUCKETS - 1, pa.int32())))


def _by_pyarrow(record: pa.RecordBatch) -> list[pa.RecordBatch]:
    order = pc.array_sort_indices(record["bucket"])
    grouped = record.drop_columns(["bucket"]).take(order)
    ends = pc.value_counts(record["bucket"].take(order)).field("counts").to_pylist()
    starts = [sum(ends[:number]) for number in range(len(ends))]
    return [grouped.slice(start, count) for start, count in zip(starts, ends, strict=True)]


def scatter(items: int, pairs: int, processes: int) -> Result:
    """Rows a second."""
    one_core()
    memory.keep_freed(64 << 20)  # as a worker does
    import polars

    record = rows(min(items, ROWS))
    parts = [_with_bucket(record.slice(at, BATCH)) for at in range(0, record.num_rows, BATCH)]
    frames: list[Any] = [polars.from_arrow(pa.Table.from_batches([part])) for part in parts]

    def by_polars() -> list[Any]:
        return [frame.partition_by("bucket", include_key=False) for frame in frames]

    ours = _ours(record, BATCH)
    calls: dict[str, Callable[[], object]] = {
        "ours": ours, "polars": by_polars, "pyarrow": lambda: [_by_pyarrow(part) for part in parts],
    }  # fmt: skip
    equal = [[piece for _, piece in pieces] for pieces in ours()] == [_by_pyarrow(part) for part in parts]
    taken = in_turn(calls, pairs)
    small = in_turn({f"ours, {SMALL_BATCH:,} a batch": _ours(record, SMALL_BATCH)}, pairs)
    say("scatter", record.num_rows, "rows", taken | small)
    return _result("scatter", taken, record.num_rows, equal)


def _by_psycopg(values: list[tuple[Any, ...]]) -> bytes:
    from psycopg._copy_base import BinaryFormatter
    from psycopg.adapt import Transformer
    from psycopg.pq import Format

    transformer = Transformer()
    transformer.set_dumper_types(_OIDS, Format.BINARY)
    formatter = BinaryFormatter(transformer)
    written = [formatter.write_row(row) for row in values]
    return b"".join([*written, formatter.end()])


def pgcopy(items: int, pairs: int, processes: int) -> Result:
    """Rows a second; the peer's over a tenth of them."""
    from libcore.pgcopy import encode

    one_core()
    memory.keep_freed(64 << 20)
    record = rows(min(items, ROWS))
    parts = [record.slice(at, SMALL_BATCH) for at in range(0, record.num_rows, SMALL_BATCH)]
    few = record.slice(0, SMALL_BATCH)
    values = [tuple(row.values()) for row in few.to_pylist()]
    none = (None,) * record.num_columns
    equal = encode(few, none).buffer.to_pybytes() == _by_psycopg(values)
    taken = in_turn({"ours": lambda: [encode(part, none) for part in parts]}, pairs)
    say("pgcopy", record.num_rows, "rows", taken)
    theirs = in_turn({"psycopg": lambda: _by_psycopg(values)}, pairs)
    say("pgcopy", few.num_rows, "rows", theirs)
    times = record.num_rows / few.num_rows
    scaled = Taken(theirs["psycopg"].processor_s * times, theirs["psycopg"].wall_s * times)
    return _result("pgcopy", {**taken, "psycopg's C formatter": scaled}, record.num_rows, equal)
