"""avro: the C Avro decoder beside fastavro, one core, the same process, the same messages.

Both read Debezium envelopes of the workload's item lines in Confluent's frame: fastavro into dictionaries, with Decimal
for the money (as its logical type gives it), ours into Arrow columns, with positions on top.
"""

from __future__ import annotations

import io
import json
import os
import statistics
import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from bench import generate
from bench.decode import BATCH, best, messages
from bench.measure import Result, memory_bytes

MESSAGES = 100_000
WRITER_ID = 7


def _connect(base: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": base, "connect.version": 1, "connect.name": name, **more}


def _money(scale: int) -> dict[str, Any]:
    parameters = {"scale": str(scale), "connect.decimal.precision": "18"}
    name = "org.apache.kafka.connect.data.Decimal"
    more = {"logicalType": "decimal", "scale": scale, "precision": 18, "connect.parameters": parameters}
    return _connect("bytes", name, **more)


def schema() -> dict[str, Any]:
    """The writer's schema, as Confluent's AvroConverter makes it from Debezium's PostgreSQL connector."""
    row = {
        "type": "record", "name": "Value",
        "fields": [
            {"name": "order_id", "type": "long"}, {"name": "line_no", "type": "int"},
            {"name": "sku", "type": ["null", "string"], "default": None},
            {"name": "quantity", "type": ["null", "int"], "default": None},
            {"name": "unit_price", "type": ["null", _money(4)], "default": None},
            {"name": "discount", "type": ["null", _money(2)], "default": None},
            {"name": "note", "type": ["null", "string"], "default": None},
            {"name": "created_at", "type": ["null", _connect("long", "io.debezium.time.MicroTimestamp")]},
        ],
        "connect.name": "erp.public.items.Value",
    }  # fmt: skip
    texts = ("version", "connector", "name")
    source = {
        "type": "record", "name": "Source", "namespace": "io.debezium.connector.postgresql",
        "fields": [
            *({"name": name, "type": "string"} for name in texts), {"name": "ts_ms", "type": "long"},
            {"name": "snapshot", "type": ["null", "string"]}, {"name": "db", "type": "string"},
            {"name": "sequence", "type": ["null", "string"]}, {"name": "ts_us", "type": ["null", "long"]},
            {"name": "ts_ns", "type": ["null", "long"]}, {"name": "schema", "type": "string"},
            {"name": "table", "type": "string"}, {"name": "txId", "type": ["null", "long"]},
            {"name": "lsn", "type": ["null", "long"]}, {"name": "xmin", "type": ["null", "long"]},
        ],
    }  # fmt: skip
    block = {
        "type": "record", "name": "block", "namespace": "event",
        "fields": [{"name": "id", "type": "string"}, {"name": "total_order", "type": "long"},
                   {"name": "data_collection_order", "type": "long"}],
    }  # fmt: skip
    longs = [{"name": name, "type": ["null", "long"]} for name in ("ts_ms", "ts_us", "ts_ns")]
    fields = [
        {"name": "before", "type": ["null", row]}, {"name": "after", "type": ["null", "Value"]},
        {"name": "source", "type": source}, {"name": "transaction", "type": ["null", block]},
        {"name": "op", "type": "string"}, *longs,
    ]  # fmt: skip
    return {"type": "record", "name": "Envelope", "namespace": "erp.public.items", "fields": fields}


def as_avro(record: pa.RecordBatch) -> pa.RecordBatch:
    """The workload's JSON messages in Avro."""
    from decimal import Decimal

    import fastavro

    writer = fastavro.parse_schema(schema())
    head, values = b"\0" + struct.pack(">I", WRITER_ID), []

    def row(given: dict[str, Any] | None) -> dict[str, Any] | None:
        if given is None:
            return None
        money = {name: None if given.get(name) is None else Decimal(given[name]) for name in ("unit_price", "discount")}
        return {"sku": None, "quantity": None, "note": None, "created_at": None, **given, **money}

    missing: dict[str, Any] = {
        "version": "3.2.0.Final",
        "connector": "postgresql",
        "name": "erp",
        "db": "erp",
        "schema": "public",
    }
    missing |= {"table": "items", "ts_ms": 0}
    for text in record["value"].to_pylist():
        envelope = json.loads(text)
        source = {key: value for key, value in envelope["source"].items() if value is not None}
        envelope |= {"source": missing | source, "before": row(envelope["before"]), "after": row(envelope["after"])}
        out = io.BytesIO()
        fastavro.schemaless_writer(out, writer, envelope)
        values.append(head + out.getvalue())
    return record.set_column(1, "value", pa.array(values, pa.binary()))


def plan() -> Any:
    """How ours reads the schema: exact decimals, text, microseconds."""
    from libcore.avro import AvroPlan, AvroSchema
    from libcore.decode import Encoding, EnvelopePlan, WireColumn
    from libcore.schema import Column, Table, parse_type

    types = [
        ("order_id", "int64", Encoding.INT, 0), ("line_no", "int32", Encoding.INT, 0),
        ("sku", "string", Encoding.STRING, 0), ("quantity", "int32", Encoding.INT, 0),
        ("unit_price", "decimal(18,4)", Encoding.DECIMAL_BASE64, 4),
        ("discount", "decimal(18,2)", Encoding.DECIMAL_BASE64, 2), ("note", "string", Encoding.STRING, 0),
        ("created_at", "timestamp", Encoding.TIMESTAMP_US, 0),
    ]  # fmt: skip
    wire = tuple(
        WireColumn(Column(name, parse_type(text)), encoding, wire_scale=scale) for name, text, encoding, scale in types
    )
    table = Table("public.items", tuple(column.column for column in wire), ("order_id", "line_no"))
    return AvroPlan(EnvelopePlan(table, wire, position="postgresql"), AvroSchema(json.dumps(schema()), WRITER_ID))


def in_batches(record: pa.RecordBatch) -> Callable[[], object]:
    """Decode all of it, BATCH messages a call, the state handed on as the source does."""
    from libcore.avro import decode_avro
    from libcore.decode import DecodeState

    wanted, parts = plan(), [record.slice(offset, BATCH) for offset in range(0, record.num_rows, BATCH)]

    def decode() -> int:
        state, rows = DecodeState(), 0
        for part in parts:
            decoded = decode_avro(wanted, part, 0, state)
            state = decoded.state
            rows += decoded.record.num_rows
        return rows

    return decode


def peer(values: list[bytes]) -> Callable[[], list[Any]]:
    """The same messages by fastavro."""
    import fastavro

    writer = fastavro.parse_schema(schema())

    def decode() -> list[Any]:
        return [fastavro.schemaless_reader(io.BytesIO(value[5:]), writer, None) for value in values]

    return decode


def same(record: pa.RecordBatch) -> bool:
    """Whether ours and fastavro read the same rows out of the messages."""
    from libcore.avro import decode_avro
    from libcore.change import OP, Op

    decoded = decode_avro(plan(), record)
    after = [found["after"] for found in peer(record["value"].to_pylist())() if found["after"] is not None]
    upserts = decoded.record.filter(pa.compute.equal(decoded.record[OP], int(Op.UPSERT)))
    names = ("order_id", "line_no", "quantity", "unit_price", "discount", "note")
    mine = zip(*(upserts[name].to_pylist() for name in names), strict=True)
    return not decoded.errors and list(mine) == [tuple(row[name] for name in names) for row in after]


def avro(items: int, pairs: int, processes: int) -> Result:
    """Events a second of both on one core, in turn."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    record = as_avro(messages(generate.cached(items), limit=MESSAGES))
    mine, theirs = in_batches(record), peer(record["value"].to_pylist())
    ours_s: list[float] = []
    peer_s: list[float] = []
    for _ in range(pairs):
        ours_s.append(best(mine))
        peer_s.append(best(theirs))
    count, ours, fast = record.num_rows, statistics.median(ours_s), statistics.median(peer_s)
    memory, equal = memory_bytes(os.getpid()) / 1e6, same(record.slice(0, 20_000))
    return Result("avro", count / ours, "events/s", "fastavro, 1 core", count / fast, fast / ours, memory, equal)
