"""OpenLogReplicator's messages of item lines, for bench.kernels: one change each, as it writes them."""

from __future__ import annotations

import random

import pyarrow as pa

TABLES = ["ERP.ITEMS", "ERP.ORDERS"]


def messages(count: int) -> pa.RecordBatch:
    """So many messages, the same at every call: half inserts, four in ten updates of two columns, the rest deletes."""
    chance = random.Random(7)
    values = [_message(number, chance).encode() for number in range(count)]
    arrays = [
        pa.nulls(count, pa.binary()),
        pa.array(values, pa.binary()),
        pa.array(range(count), pa.int64()),
        pa.array([1_760_000_000_000] * count, pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=["key", "value", "offset", "timestamp_ms"])


def _message(number: int, chance: random.Random) -> str:
    key = f'"ORDER_ID":{number // 4},"LINE_NO":{number % 4}'
    price, time = f"{chance.randrange(10**7) / 10**4:.4f}", f"2026-01-02T03:04:{number % 60:02d}.123456000Z"
    whole = f'{{{key},"SKU":"SKU-{chance.randrange(10**5):06d}","QUANTITY":5,"UNIT_PRICE":{price},"AT":"{time}"}}'
    if number % 10 < 5:
        change = f'"op":"c",{{}},"after":{whole}'
    elif number % 10 < 9:
        change = f'"op":"u",{{}},"before":{{{key},"QUANTITY":5}},"after":{{{key},"QUANTITY":{number % 60}}}'
    else:
        change = f'"op":"d",{{}},"before":{whole}'
    schema = f'"schema":{{"owner":"ERP","table":"{"ITEMS" if number % 4 else "ORDERS"}"}},"num":{number % 9}'
    ids = f'"c_scn":{17_958_201 + number},"c_idx":{number % 7},"xid":"0x0002.012.{number:08x}"'
    return f'{{{ids},"payload":[{{{change.replace("{}", schema, 1)}}}]}}'
