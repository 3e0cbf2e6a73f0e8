"""decode: the C envelope decoder beside msgspec's typed decode, one core, the same process, the same messages.

Both read the same fields into exact types: msgspec into structs with only those fields and Decimal for two of them,
ours into Arrow columns, with positions on top. With the decimals left as text, which is not the same result, msgspec is
about 1.4 times faster; that rate is printed beside. `decode` compares the rates at 20,000 messages a batch;
`decode-flat` says how much the cost of an event differs between batches of 1,000 and 1,000,000. The rates are of
processor time.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench import generate
from bench.measure import Result, cost, memory_bytes, one_core
from bench.truth import COLUMNS, KEYS

BATCHES = (1_000, 10_000, 100_000, 1_000_000)
BATCH = 20_000
FLAT_MAX = 1.5  # the cost of an event in the dearest batch size over the cheapest


def messages(directory: Path, table: str = "items", limit: int | None = None) -> pa.RecordBatch:
    """The workload's messages of a table as the source hands them to a decoder."""
    keys: list[bytes] = []
    values: list[bytes] = []
    for key, value in generate.read(directory / f"{table}.tsv"):
        keys.append(key)
        values.append(value)
        if len(keys) == limit:
            break
    count = len(keys)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(keys, pa.binary()),
            pa.array(values, pa.binary()),
            pa.array(range(count), pa.int64()),
            pa.array([0] * count, pa.int64()),
        ],
        names=["key", "value", "offset", "timestamp_ms"],
    )


def plan(table: str = "items") -> Any:
    """How the decoder reads the workload's table: decimals and texts as strings, times as integers."""
    from libcore.decode import Encoding, EnvelopePlan, WireColumn
    from libcore.schema import Column, Table, parse_type

    encodings = {
        "int64": Encoding.INT,
        "int32": Encoding.INT,
        "string": Encoding.STRING,
        "timestamp": Encoding.TIMESTAMP_US,
        "date": Encoding.DATE_DAYS,
    }
    columns = tuple(Column(name, parse_type(types[0])) for name, types in COLUMNS[table].items())
    wire = tuple(WireColumn(column, encodings.get(str(column.type), Encoding.DECIMAL_TEXT)) for column in columns)
    return EnvelopePlan(Table(f"public.{table}", columns, KEYS[table]), wire, position="postgresql")


def msgspec_decoder(decimal: type = Decimal) -> Any:
    """The peer: a typed decoder for the same fields, the decimals as that type."""
    import msgspec

    row = msgspec.defstruct(
        "Row",
        [
            ("order_id", int),
            ("line_no", int),
            ("sku", str | None, None),
            ("quantity", int | None, None),
            ("unit_price", decimal | None, None),
            ("discount", decimal | None, None),
            ("note", str | None, None),
            ("created_at", int | None, None),
        ],
        gc=False,
    )
    source = msgspec.defstruct("Source", [("lsn", int), ("sequence", str), ("ts_us", int)], gc=False)
    fields = [("op", str), ("before", row | None), ("after", row | None), ("source", source)]
    return msgspec.json.Decoder(msgspec.defstruct("Envelope", fields, gc=False))


def best(call: Callable[[], object]) -> float:
    """Least seconds of processor time of some rounds: what the code costs, whatever else runs on the machine."""
    return cost(call).processor_s


def in_batches(record: pa.RecordBatch, size: int) -> Callable[[], object]:
    """Decode all of it, `size` messages a call, the state handed on as the source does."""
    from libcore.decode import DecodeState, decode_envelopes

    wanted, parts = plan(), [record.slice(offset, size) for offset in range(0, record.num_rows, size)]

    def decode() -> int:
        state, rows = DecodeState(), 0
        for part in parts:
            decoded = decode_envelopes(wanted, part, 0, state)
            state = decoded.state
            rows += decoded.record.num_rows
        return rows

    return decode


def same(record: pa.RecordBatch) -> bool:
    """Whether ours and the peer read the same rows, quantities and prices out of the messages."""
    from libcore.change import OP, Op
    from libcore.decode import decode_envelopes

    decoded = decode_envelopes(plan(), record)
    decoder = msgspec_decoder()
    envelopes = [decoder.decode(value) for value in record["value"].to_pylist()]
    upserts = decoded.record.filter(pc.equal(decoded.record[OP], int(Op.UPSERT)))
    after = [envelope.after for envelope in envelopes if envelope.after is not None]
    mine = zip(*(upserts[name].to_pylist() for name in ("line_no", "quantity", "unit_price", "note")), strict=True)
    return not decoded.errors and list(mine) == [(row.line_no, row.quantity, row.unit_price, row.note) for row in after]


def decode(items: int, pairs: int, processes: int) -> Result:
    """Events a second of both on one core, in turn."""
    one_core()
    record = messages(generate.cached(items), limit=200_000)
    values = [value.as_py() for value in record["value"]]
    mine, typed, text = in_batches(record, BATCH), msgspec_decoder(), msgspec_decoder(str)
    ours_s: list[float] = []
    peer_s: list[float] = []
    text_s: list[float] = []
    for _ in range(pairs):
        ours_s.append(best(mine))
        peer_s.append(best(lambda: [typed.decode(value) for value in values]))
        text_s.append(best(lambda: [text.decode(value) for value in values]))
    count, ours, peer = record.num_rows, statistics.median(ours_s), statistics.median(peer_s)
    memory, equal = memory_bytes(os.getpid()) / 1e6, same(record)
    faster = count / statistics.median(text_s)
    print(f"decode: msgspec with the decimals left as text {faster:,.0f} events/s", file=sys.stderr, flush=True)
    return Result(
        "decode", count / ours, "events/s", "msgspec typed decode, 1 core", count / peer, peer / ours, memory, equal
    )


def decode_flat(items: int, pairs: int, processes: int) -> Result:
    """The dearest batch size's cost of an event over the cheapest one's; 1 is flat."""
    one_core()
    record = messages(generate.cached(items))
    costs: dict[int, float] = {}
    for size in BATCHES:
        if size <= record.num_rows:
            # small batches over few messages, so that each size takes about as long
            part = record.slice(0, max(size, min(record.num_rows, 100_000)))
            costs[size] = best(in_batches(part, size)) / part.num_rows * 1e9
            print(f"  {size:9,} messages a batch: {costs[size]:6.0f} ns an event", file=sys.stderr, flush=True)
    value, aim = max(costs.values()) / min(costs.values()), FLAT_MAX
    memory = memory_bytes(os.getpid()) / 1e6
    return Result(
        "decode-flat",
        value,
        "dearest/cheapest",
        "the aim: flat from 1 k to 1 M",
        aim,
        aim / value,
        memory,
        value <= aim,
    )
