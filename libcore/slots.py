"""Scatter a batch over buckets by key hash in one pass, and take rows by index; outputs own compact memory.

Compact means: a result holds its own rows and nothing else, so it can be kept, sent or written without its parent.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from libcore import IMPLEMENTATION, arrow_c
from libcore.reference import slots as reference


def slot_of(hashes: pa.UInt64Array, slot_count: int) -> pa.Int32Array:
    """The slot of each hash: hash % slot_count.

    Args:
        hashes: words of hash_rows.
        slot_count: 1..65536, fixed for the life of a flow.
    """
    _check_slots(slot_count)
    count = pa.scalar(slot_count, pa.uint64())
    return pc.subtract(hashes, pc.multiply(pc.divide(hashes, count), count)).cast(pa.int32())


def scatter(
    record: pa.RecordBatch, hashes: pa.UInt64Array, slot_count: int, bucket_of_slot: bytes
) -> list[tuple[int, pa.RecordBatch]]:
    """Copy each row into the batch of its bucket; rows keep their order inside a bucket.

    Args:
        record: any columns that libcore carries.
        hashes: one word a row, no NULL.
        slot_count: 1..65536.
        bucket_of_slot: slot_count bytes; the bucket (sink part, worker share) of each slot.
    Returns: (bucket, batch) by rising bucket; buckets without rows are left out.
    Raises: ValueError where lengths do not fit, TypeError for a type that libcore does not carry, MemoryError.
    """
    _check_slots(slot_count)
    if len(hashes) != record.num_rows or hashes.null_count or hashes.type != pa.uint64():
        raise ValueError(f"expected {record.num_rows} uint64 hashes without NULL, found {len(hashes)} {hashes.type}")
    if len(bucket_of_slot) != slot_count:
        raise ValueError(f"expected a bucket for each of {slot_count} slots, found {len(bucket_of_slot)}")
    if record.num_rows == 0:
        return []
    if IMPLEMENTATION != "c":
        return reference.scatter(record, hashes, slot_count, bucket_of_slot)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    columns = arrow_c.layouts(record.schema)
    words = ffi.cast("uint64_t *", hashes.buffers()[1].address + 8 * hashes.offset)
    out = ffi.new("struct ArrowArray[]", lib.LC_BUCKETS_MAX)
    error = ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_scatter(
            array,
            columns,
            record.num_columns,
            words,
            slot_count,
            ffi.from_buffer("uint8_t[]", bucket_of_slot),
            out,
            error,
        )
    arrow_c.check(code, error)
    buckets = sorted(set(bucket_of_slot))
    filled = [bucket for bucket in buckets if out[bucket].release != ffi.NULL]
    return [(bucket, arrow_c.imported(out + bucket, record.schema)) for bucket in filled]


def take(record: pa.RecordBatch, indices: pa.Int32Array) -> pa.RecordBatch:
    """Copy the rows of the given indices, in that order; an index may come more than once.

    Args:
        record: any columns that libcore carries.
        indices: int32, no NULL, each in 0..rows-1.
    Raises: IndexError for a row that is not there, TypeError, MemoryError, CapacityError where a column would exceed
        2^31-1 bytes.
    """
    if indices.type != pa.int32() or indices.null_count:
        raise ValueError(f"expected int32 indices without NULL, found {indices.type} with {indices.null_count} NULL")
    if IMPLEMENTATION != "c":
        _check_rows(record, indices)
        return reference.take(record, indices)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    columns = arrow_c.layouts(record.schema)
    rows = ffi.cast("int32_t *", indices.buffers()[1].address + 4 * indices.offset) if len(indices) else ffi.NULL
    out = ffi.new("struct ArrowArray *")
    error = ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_take(array, columns, record.num_columns, rows, len(indices), out, error)
    if code == lib.LC_INVALID and error.row >= 0:
        raise IndexError(ffi.string(error.message).decode())
    arrow_c.check(code, error)
    return arrow_c.imported(out, record.schema)


def _check_slots(slot_count: int) -> None:
    if not 1 <= slot_count <= 65536:
        raise ValueError(f"expected 1 to 65536 slots, found {slot_count}")


def _check_rows(record: pa.RecordBatch, indices: pa.Int32Array) -> None:
    for row in indices.to_pylist():
        if not 0 <= row < record.num_rows:
            raise IndexError(f"expected a row below {record.num_rows}, found {row}")
