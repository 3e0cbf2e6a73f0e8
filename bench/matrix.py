"""matrix: five kinds of work of ours, each beside plain Python that does the same, one core.

data transforms      texts trimmed, the last change of each key kept, the rows parted by a hash of the key
numeric              exact decimal products, each rounded once, and their sum
file parsing         a CSV file to exact types, beside Python's csv, int, Decimal, fromisoformat
database operations  changed rows into a PostgreSQL table, as the target does, beside psycopg's executemany with upserts
network              messages of a Kafka topic to keys and values in memory, beside confluent-kafka's consume

Plain Python is what one writes without a library of columns: loops, dicts, Decimal, the driver's own calls, of the
everyday kind and with care (nothing in a loop that need not be there). The ratios are of processor time, but those of
the database and the network, where a server works too, are by the wall; both rates are printed beside. Each pair's
results are compared.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import itertools
import os
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from bench import generate
from bench.measure import Result, in_turn, memory_bytes, one_core, say
from libcore import memory

ROWS, NUMERIC_ROWS = 100_000, 300_000
FILE_BYTES = 8_000_000
MESSAGES = 150_000
PAIRS = 3
SLOTS, BUCKETS = 4096, 8
# as ours sets them: with librdkafka's own values fetching rests for up to a second
FETCH: dict[str, str | int] = {"fetch.queue.backoff.ms": 5, "queued.min.messages": 1_000_000}
TOPIC = "erp.public.items"
_BUCKET_OF_SLOT = bytes(slot % BUCKETS for slot in range(SLOTS))

Calls = tuple[Callable[[], object], Callable[[], object]]
"""Ours, and the same in plain Python."""


def _row(name: str, unit: str, count: float, calls: Calls, equal: bool, by_wall: bool = False) -> Result:
    taken = in_turn({"ours": calls[0], "plain Python": calls[1]}, PAIRS, 1 if by_wall else 3)
    say(name, count, unit, taken)
    ours, theirs = (spent.wall_s if by_wall else spent.processor_s for spent in taken.values())
    used, beside = memory_bytes(os.getpid()) / 1e6, "plain Python, wall" if by_wall else "plain Python"
    return Result(f"matrix: {name}", count / ours, f"{unit}/s", beside, count / theirs, theirs / ours, used, equal)


# ---- data transforms ----


def _changes(size: int) -> tuple[Any, pa.RecordBatch]:
    """Changes of item rows, a fifth of them of a key that was there before."""
    from bench.table import rows
    from libcore.change import OP, POSITION, SOURCE_TS, Op
    from libcore.schema import Column, Table, parse_type

    record = rows(size)
    count = size * 4 // 5
    numbers = pa.array([number % count for number in range(size)], pa.int32())
    record = record.take(numbers)
    note = pc.if_else(pc.is_null(record["note"]), "  none yet\t", pc.binary_join_element_wise(" ", record["note"], ""))
    record = record.set_column(record.schema.get_field_index("note"), "note", note)
    kinds = ("int64", "int64", "string", "int64", "decimal(18,4)", "decimal(5,2)", "string", "timestamp")
    columns = tuple(Column(name, parse_type(kind)) for name, kind in zip(record.schema.names, kinds, strict=True))
    places = pa.array([number.to_bytes(32, "big") for number in range(1, size + 1)], pa.binary(32))
    control = [pa.array([int(Op.UPSERT)] * size, pa.int8()), places, record["created_at"]]
    arrays = [*record.columns, *control]
    names = [*record.schema.names, OP, POSITION, SOURCE_TS]
    return Table("items", columns, ("order_id", "line_no")), pa.RecordBatch.from_arrays(arrays, names=names)


def transforms(size: int = ROWS) -> Result:
    """Rows a second: two texts trimmed, the last change of each key kept, the rows parted into eight by their key."""
    from libcore.compact import compact
    from libcore.hashing import hash_rows
    from libcore.slots import scatter
    from libcore.transform_text import UNICODE_BLANKS, CleanPlan, clean

    table, record = _changes(size)
    plan, places = CleanPlan(report_mojibake=False), [record.schema.get_field_index(name) for name in ("sku", "note")]
    values = [tuple(row.values()) for row in record.to_pylist()]

    def ours() -> list[tuple[int, pa.RecordBatch]]:
        cleaned = record
        for place in places:
            cleaned = cleaned.set_column(place, record.schema.names[place], clean(record.column(place), plan).values)
        kept = compact(cleaned, table)
        return scatter(kept, hash_rows(kept, (0, 1)), SLOTS, _BUCKET_OF_SLOT)

    def plain() -> list[list[tuple[Any, ...]]]:
        last: dict[tuple[int, int], tuple[Any, ...]] = {}
        for row in values:
            key = row[0], row[1]
            last.pop(key, None)  # the place of the last one
            last[key] = (*row[:2], row[2].strip(UNICODE_BLANKS), *row[3:6], row[6].strip(UNICODE_BLANKS), *row[7:])
        parts: list[list[tuple[Any, ...]]] = [[] for _ in range(BUCKETS)]
        for key, row in last.items():
            parts[hash(key) % SLOTS % BUCKETS].append(row)
        return parts

    mine = [tuple(row.values()) for _, part in ours() for row in part.to_pylist()]
    # another hash, so other parts: the rows of all are the same
    equal = sorted(mine, key=repr) == sorted((row for part in plain() for row in part), key=repr)
    return _row("data transforms", "rows", size, (ours, plain), equal)


# ---- numeric ----


def numeric(size: int = NUMERIC_ROWS) -> Result:
    """Rows a second: price times a factor of four digits, exact, rounded half even to four; the sum of all."""
    from bench.table import rows
    from libcore.schema import parse_type
    from libcore.transform import arithmetic

    record, kind, cent = rows(size), parse_type("decimal(18,4)"), decimal.Decimal("0.0001")
    prices, factors = record["unit_price"], record["discount"].cast(pa.decimal128(18, 4))
    pairs = list(zip(prices.to_pylist(), factors.to_pylist(), strict=True))

    def ours() -> decimal.Decimal:
        return pc.sum(arithmetic("multiply", prices, factors, kind).values).as_py()

    def plain() -> decimal.Decimal:
        total = decimal.Decimal(0)
        for price, factor in pairs:
            total += (price * factor).quantize(cent, decimal.ROUND_HALF_EVEN)
        return total

    return _row("numeric", "rows", size, (ours, plain), ours() == plain())


# ---- file parsing ----


def parsing(size: int = FILE_BYTES) -> Result:
    """Megabytes of CSV a second to integers, texts, decimals, dates and timestamps."""
    from bench.delimited import csv_bytes
    from bench.delimited import ours as reader

    data = csv_bytes(size)
    read = reader(data)

    def plain() -> list[tuple[Any, ...]]:
        lines = csv.reader(io.StringIO(data.decode()))
        next(lines)
        number, day, moment = decimal.Decimal, datetime.date.fromisoformat, datetime.datetime.fromisoformat
        return [
            (int(order), int(line), sku, number(quantity), number(price), note, day(date), moment(changed))
            for order, line, sku, quantity, price, note, date, changed in lines
        ]

    mine = pa.Table.from_batches([part.record for part in read()])
    equal = [tuple(row.values()) for row in mine.slice(0, 20_000).to_pylist()] == plain()[:20_000]
    return _row("file parsing", "MB", len(data) / 1e6, (read, plain), equal)


# ---- database operations ----


def database(dsn: str, size: int = ROWS) -> Result:
    """Rows a second into a filled table of an empty database, by key; BENCH_DSN of the environment is the dsn."""
    import psycopg

    from connectors.postgres.config import PostgresConfig, TargetTable
    from connectors.postgres.target import PostgresTarget
    from libcore import segment
    from libcore.compact import compact

    table, record = _changes(size)
    kept = compact(record, table)
    bytes_ = segment.write([(table, kept)], {})
    values = [tuple(row.values())[:8] for row in kept.to_pylist()]
    names = ", ".join(column.name for column in table.columns)
    changed = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns[2:])
    target = PostgresTarget(PostgresConfig(dsn="env:BENCH_DSN"), "bench", "bench", 1, {"items": TargetTable("items")})
    target.preflight([table])
    connection = psycopg.connect(dsn)
    connection.execute("CREATE TABLE plain (LIKE items INCLUDING ALL)")
    connection.commit()
    insert = (
        f"INSERT INTO plain ({names}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) "
        f"ON CONFLICT (order_id, line_no) DO UPDATE SET {changed}"
    )

    def plain() -> None:
        with connection.cursor() as cursor:
            cursor.executemany(insert, values)
        connection.commit()

    with closing(target.open(0)) as part, closing(connection):
        seq = part.progress().seq

        def ours() -> None:
            nonlocal seq
            seq += 1
            part.apply(seq, segment.read(bytes_))

        ours()
        plain()
        differ = connection.execute("SELECT count(*) FROM (TABLE items EXCEPT ALL TABLE plain) AS d").fetchone()
        same = connection.execute("SELECT (SELECT count(*) FROM items) = (SELECT count(*) FROM plain)").fetchone()
        connection.commit()
        equal = differ == (0,) and same == (True,)
        return _row("database operations", "rows", kept.num_rows, (ours, plain), equal, by_wall=True)


# ---- network ----


def network(servers: str, lines: list[tuple[bytes, bytes]], topic: str = TOPIC) -> Result:
    """Messages a second out of a new topic of a broker."""
    from confluent_kafka import Consumer, TopicPartition

    from connectors.kafka.config import KafkaConfig
    from connectors.kafka.reader import reader_factory
    from connectors.kafka.topics import create_topics, produce

    create_topics(servers, {topic: 1})
    produce(servers, topic, lines)
    factory = reader_factory(KafkaConfig(servers=servers), 1)
    settings = {"bootstrap.servers": servers, "group.id": "bench", "enable.auto.commit": False, **FETCH}
    consumer = Consumer(settings)
    reader = factory.open(topic, 0, 0)

    def ours() -> int:
        taken, size = 0, 0
        reader.seek(0)
        while taken < len(lines):
            record = reader.poll(20_000, 64 << 20)
            if record is None:
                time.sleep(0.001)  # poll never waits; a worker is called again by the engine
            else:
                taken += record.num_rows
                size += pc.sum(pc.binary_length(record["value"])).as_py()
        return size

    def plain() -> int:
        found: list[Any] = []
        consumer.assign([TopicPartition(topic, 0, 0)])
        while len(found) < len(lines):
            for message in consumer.consume(1000, 1.0):
                found.append((message.key(), message.value()))
        return sum(len(value) for _, value in found)

    with closing(consumer), closing(factory), closing(reader):
        equal = ours() == plain() == sum(len(value) for _, value in lines)
        return _row("network", "messages", len(lines), (ours, plain), equal, by_wall=True)


def matrix(items: int, pairs: int, processes: int) -> list[Result]:
    """All five."""
    one_core()
    memory.keep_freed(64 << 20)  # as a worker does
    from bench import rig

    lines = list(itertools.islice(generate.read(generate.cached(1_000_000) / "items.tsv"), MESSAGES))
    results = [transforms(), numeric(), parsing()]
    with rig.postgres() as server:
        os.environ["BENCH_DSN"] = server.dsn()
        results.append(database(server.dsn()))
    with rig.broker() as broker:
        results.append(network(broker.servers, lines))
    return results
