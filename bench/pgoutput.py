"""pgoutput: the C decoder beside a plain Python parser of the same messages, one core, the same process.

There is no library on the package index that decodes these messages to columns, so the peer is what one writes by hand:
struct and slices, each row a tuple of texts, which is less than ours gives (exact types, positions, Arrow columns).
The rates are of processor time.
"""

from __future__ import annotations

import os
import statistics
import struct
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from bench.decode import best
from bench.measure import Result, memory_bytes, one_core
from libcore import memory

CHANGES = 500_000
BATCH = 100_000
CHECKED = 50_000  # messages whose values are compared
OID = 16384
_COLUMNS = {
    "order_id": "int64", "line_no": "int32", "sku": "string", "quantity": "int32", "unit_price": "decimal(18,4)",
    "discount": "decimal(5,4)", "note": "string", "created_at": "timestamp",
}  # fmt: skip


def _row(number: int) -> list[str | None]:
    note = None if number % 3 else f"note of line {number % 97}"
    moment = f"2026-{number % 12 + 1:02d}-{number % 28 + 1:02d} 12:{number % 60:02d}:05.123456"
    return [str(number // 4), str(number % 4), f"SKU-{number % 5000:06d}", str(number % 100),
            f"{number % 9973}.{number % 10000:04d}", "0.0500", note, moment]  # fmt: skip


def _tuple(values: list[str | None]) -> bytes:
    parts = [struct.pack(">H", len(values))]
    for value in values:
        data = None if value is None else value.encode()
        parts.append(b"n" if data is None else b"t" + struct.pack(">I", len(data)) + data)
    return b"".join(parts)


def messages(changes: int) -> pa.RecordBatch:
    """Order lines in transactions of 1,000: inserts, 15 % updates, 5 % deletes."""
    from libcore.pgoutput_types import MESSAGES

    payloads: list[bytes] = []
    for number in range(changes):
        if number % 1000 == 0:
            if number:
                payloads.append(b"C\0" + struct.pack(">QQq", number + 999, number + 1000, 0))
            payloads.append(b"B" + struct.pack(">QqI", number + 1999, 0, 700 + number // 1000))
        head = struct.pack(">I", OID)
        if number % 20 == 7:
            payloads.append(b"D" + head + b"K" + _tuple([*_row(number)[:2], *[None] * 6]))
        else:
            payloads.append((b"U" if number % 20 < 3 else b"I") + head + b"N" + _tuple(_row(number)))
    count = len(payloads)
    lsns = pa.array(range(1, count + 1), pa.int64())
    return pa.RecordBatch.from_arrays([pa.array(payloads, pa.binary()), lsns], schema=MESSAGES)


def plan() -> Any:
    """How the decoder reads the order lines."""
    from libcore.pgoutput import Kind, PgoutputPlan, RelationPlan, Wire
    from libcore.schema import Column, Table, parse_type

    kinds = {"string": Kind.TEXT, "timestamp": Kind.TIMESTAMP, "int64": Kind.INT, "int32": Kind.INT}
    columns = tuple(Column(name, parse_type(text)) for name, text in _COLUMNS.items())
    wire = tuple(Wire(kinds.get(str(column.type), Kind.NUMERIC), place) for place, column in enumerate(columns))
    table = Table("public.items", columns, ("order_id", "line_no"))
    return PgoutputPlan((RelationPlan(OID, table, wire),))


def decoder(record: pa.RecordBatch) -> Callable[[], int]:
    """Decode all of it, BATCH messages a call, the state handed on; gives the rows."""
    from libcore.pgoutput import PgoutputState, decode_pgoutput

    wanted, parts = plan(), [record.slice(offset, BATCH) for offset in range(0, record.num_rows, BATCH)]

    def decode() -> int:
        state, rows = PgoutputState(), 0
        for part in parts:
            done = decode_pgoutput(wanted, part, 0, state)
            assert done.stop is None and not done.errors, (done.stop, done.errors[:1])
            state = done.state
            rows += sum(batch.row_count for batch in done.batches)
        return rows

    return decode


def by_hand(payloads: list[bytes]) -> list[tuple[int, tuple[str | None, ...]]]:
    """The peer: each change as its letter and a tuple of its texts."""
    rows: list[tuple[int, tuple[str | None, ...]]] = []
    unpack_size, unpack_count = struct.Struct(">I").unpack_from, struct.Struct(">H").unpack_from
    for payload in payloads:
        if payload[0] in b"IUD":
            (count,) = unpack_count(payload, 6)
            at = 8
            values: list[str | None] = []
            for _ in range(count):
                form = payload[at]
                at += 1
                if form == 0x74:
                    (size,) = unpack_size(payload, at)
                    values.append(payload[at + 4 : at + 4 + size].decode())
                    at += 4 + size
                else:
                    values.append(None)
            rows.append((payload[0], tuple(values)))
    return rows


def same(record: pa.RecordBatch) -> bool:
    """Whether the decoder's values are those that the peer's texts stand for."""
    from libcore.change import OP, Op
    from libcore.pgoutput import decode_pgoutput

    def typed(letter: int, row: tuple[str | None, ...]) -> tuple[Any, ...]:
        made = (None if text is None else make(text) for make, text in zip(makers, row, strict=True))
        return (ops[letter], *made)

    ops = {ord("I"): int(Op.INSERT), ord("U"): int(Op.UPSERT), ord("D"): int(Op.DELETE)}
    makers: tuple[Callable[[str], Any], ...] = (int, int, str, int, Decimal, Decimal, str, datetime.fromisoformat)
    done = decode_pgoutput(plan(), record)
    found = [batch.record.select([OP, *_COLUMNS]) for batch in done.batches]
    mine = [tuple(row.values()) for part in found for row in part.to_pylist()]
    return not done.errors and mine == [typed(*change) for change in by_hand(record.column(0).to_pylist())]


def pgoutput(items: int, pairs: int, processes: int) -> Result:
    """Changes a second of both on one core, in turn."""
    one_core()
    memory.keep_freed(64 << 20)  # as a worker does
    changes = min(items, CHANGES)
    record = messages(changes)
    payloads, mine = record.column(0).to_pylist(), decoder(record)
    ours_s: list[float] = []
    peer_s: list[float] = []
    for _ in range(pairs):
        ours_s.append(best(mine))
        peer_s.append(best(lambda: by_hand(payloads)))
    ours, peer = statistics.median(ours_s), statistics.median(peer_s)
    used, equal = memory_bytes(os.getpid()) / 1e6, same(record.slice(0, CHECKED)) and mine() == changes
    return Result(
        "pgoutput", changes / ours, "changes/s", "a Python parser by hand", changes / peer, peer / ours, used, equal
    )
