"""Scatter and take of include/libcore/slots.h in plain Python."""

from __future__ import annotations

import pyarrow as pa


def slot_of(hashes: pa.UInt64Array, slot_count: int) -> pa.Int32Array:
    """See libcore.slots.slot_of."""
    return pa.array([word % slot_count for word in hashes.to_pylist()], pa.int32())


def scatter(
    record: pa.RecordBatch, hashes: pa.UInt64Array, slot_count: int, bucket_of_slot: bytes
) -> list[tuple[int, pa.RecordBatch]]:
    """See libcore.slots.scatter."""
    rows: dict[int, list[int]] = {}
    for row, word in enumerate(hashes.to_pylist()):
        rows.setdefault(bucket_of_slot[word % slot_count], []).append(row)
    return [(bucket, take(record, pa.array(rows[bucket], pa.int32()))) for bucket in sorted(rows)]


def take(record: pa.RecordBatch, indices: pa.Int32Array) -> pa.RecordBatch:
    """See libcore.slots.take."""
    return record.take(indices)
