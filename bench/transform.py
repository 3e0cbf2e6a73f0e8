"""transform: row digests, masks and exact decimal products of ours, one core, beside what Python's library gives.

digest          digest_table over eight columns, beside hashlib's BLAKE2b over each row's text
mask-hash       keyed hash of a text column where every value is another, beside the same calls one by one
decimal-multiply  decimal(18,4) * decimal(18,4) rounded to decimal(18,4), beside Python's decimal
"""

from __future__ import annotations

import decimal
import hashlib
import os
import statistics
from collections.abc import Callable

import pyarrow as pa

from bench.decode import best
from bench.measure import Result, memory_bytes

ROWS = 200_000
_KEY = bytes(range(32))


def _record() -> pa.RecordBatch:
    numbers = range(ROWS)
    price = pa.array([decimal.Decimal(number * 37 % 10**9).scaleb(-4) for number in numbers], pa.decimal128(18, 4))
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(numbers, pa.int64()),
            "order_id": pa.array([number // 3 for number in numbers], pa.int64()),
            "sku": [f"MAT-{number % 5000}" for number in numbers],
            "note": [f"line number {number} of an order" for number in numbers],
            "quantity": pa.array([number % 100 for number in numbers], pa.int32()),
            "price": price,
            "discount": pa.array([decimal.Decimal(number % 100).scaleb(-2) for number in numbers], pa.decimal128(5, 2)),
            "at": pa.array(numbers, pa.int64()).cast(pa.timestamp("us")),
        }
    )


def _measured(name: str, peer_name: str, pairs: int, ours: Callable[[], object], peer: Callable[[], object],
              equal: bool) -> Result:  # fmt: skip
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    ours_s, peer_s = [], []
    for _ in range(pairs):
        ours_s.append(best(ours))
        peer_s.append(best(peer))
    mine, theirs = ROWS / statistics.median(ours_s), ROWS / statistics.median(peer_s)
    return Result(name, mine, "rows/s", peer_name, theirs, mine / theirs, memory_bytes(os.getpid()) / 1e6, equal)


def digest(items: int, pairs: int, processes: int) -> Result:
    """Rows a second whose digest goes into a table's."""
    from libcore.digest import digest_table

    record = _record()
    rows = [repr(row).encode() for row in record.to_pylist()]

    def peer() -> int:
        return sum(int.from_bytes(hashlib.blake2b(row, digest_size=16).digest(), "little") for row in rows)

    halves = digest_table(record.slice(0, ROWS // 2)) + digest_table(record.slice(ROWS // 2))
    equal = digest_table(record) == halves
    return _measured("digest", "hashlib BLAKE2b, row by row", pairs, lambda: digest_table(record), peer, equal)


def mask_hash(items: int, pairs: int, processes: int) -> Result:
    """Values a second, each another one."""
    from libcore.mask import MaskRule, mask_column

    column, rule = _record().column("note"), MaskRule("hash", key=_KEY)

    def peer() -> pa.Array:
        return pa.array(
            [hashlib.blake2b(text.encode(), key=_KEY, digest_size=16).hexdigest() for text in column.to_pylist()]
        )

    equal = mask_column(column, rule).equals(peer())
    return _measured(
        "mask-hash", "hashlib BLAKE2b, value by value", pairs, lambda: mask_column(column, rule), peer, equal
    )


def decimal_multiply(items: int, pairs: int, processes: int) -> Result:
    """Rows a second, exact and rounded once."""
    from libcore.schema import parse_type
    from libcore.transform import arithmetic

    record, kind = _record(), parse_type("decimal(18,4)")
    left, right = record.column("price"), record.column("discount").cast(pa.decimal128(18, 4))
    a, b, cent = left.to_pylist(), right.to_pylist(), decimal.Decimal("0.0001")

    def peer() -> list[decimal.Decimal]:
        return [(x * y).quantize(cent, decimal.ROUND_HALF_EVEN) for x, y in zip(a, b, strict=True)]

    equal = arithmetic("multiply", left, right, kind).values.to_pylist() == peer()
    return _measured(
        "decimal-multiply", "Python's decimal", pairs, lambda: arithmetic("multiply", left, right, kind), peer, equal
    )
