"""The peer of w1: what a good engineer writes in an afternoon with confluent-kafka, polars, COPY and an upsert.

One process reads the topic's partitions (consume(1000), gathered up to BATCH_ROWS), parses the batch with polars into
typed columns, keeps the last change of each key, copies it into a temporary table, deletes and upserts from there, and
stores the offsets in the same transaction, so a kill -9 loses and doubles nothing. What a setting gave is noted.
Reading and writing take turns, as in such scripts; ours overlaps them, which is part of what is measured.

    python -m bench.peers.script --servers S --topic T [--dsn D --table N]     without a dsn: read and parse only

prints one JSON line: events, seconds, start_seconds (imports, login, assignment).
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from typing import Any

BEGUN = time.monotonic()

BATCH_ROWS = 50_000  # one row of runs: 10 k 99 k, 20 k 109 k, 50 k 124 k, 100 k 118 k events/s
CONSUME_ROWS = 1_000  # a call; 5,000 and more are slower
KEY = ("order_id", "line_no")
COLUMNS = ("order_id", "line_no", "sku", "quantity", "unit_price", "discount", "note", "created_at")


def schema() -> dict[str, Any]:
    """What of the envelope is parsed; the rest is skipped by polars."""
    import polars as pl

    after = pl.Struct(
        {
            "order_id": pl.Int64,
            "line_no": pl.Int64,
            "sku": pl.String,
            "quantity": pl.Int32,
            "unit_price": pl.String,
            "discount": pl.String,
            "note": pl.String,
            "created_at": pl.Int64,
        }
    )
    return {"op": pl.String, "before": pl.Struct({"order_id": pl.Int64, "line_no": pl.Int64}), "after": after}


def parse(values: list[bytes], types: dict[str, Any]) -> Any:
    """The last change of each key as a typed frame: op, then the columns."""
    import polars as pl

    frame = pl.read_ndjson(io.BytesIO(b"\n".join(values)), schema=types)
    before, after = pl.col("before").struct, pl.col("after").struct
    key = [pl.coalesce(after.field(name), before.field(name)).alias(name) for name in KEY]
    rest = [after.field(name) for name in COLUMNS if name not in KEY]
    typed = frame.select("op", *key, *rest).with_columns(
        pl.col("unit_price").cast(pl.Decimal(18, 4)),
        pl.col("discount").cast(pl.Decimal(5, 2)),
        pl.col("created_at").cast(pl.Datetime("us")),
    )
    return typed.unique(KEY, keep="last", maintain_order=False)


class Reader:
    """The topic's partitions from given offsets up to their ends."""

    def __init__(self, servers: str, topic: str, offsets: dict[int, int]) -> None:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        self._consumer = Consumer(
            {
                "bootstrap.servers": servers,
                "group.id": "peer-script",
                "enable.auto.commit": False,
                # the end as the fetch tells it: asked for by itself, Tansu counts a batch as one message
                "enable.partition.eof": True,
                # the default of 1000 stops fetching for a second each time the queue is full: a quarter of the speed
                "fetch.queue.backoff.ms": 5,
                "queued.min.messages": 1_000_000,
                "queued.max.messages.kbytes": 65_536,
                "fetch.message.max.bytes": 4_194_304,
                "check.crcs": False,
            }
        )
        self._open = set(self._consumer.list_topics(topic, timeout=30).topics[topic].partitions)
        self.offsets = dict(offsets)
        places = [TopicPartition(topic, number, offsets.get(number, OFFSET_BEGINNING)) for number in self._open]
        self._consumer.assign(places)

    @property
    def done(self) -> bool:
        """Whether every partition is read to its end."""
        return not self._open

    def batch(self) -> list[bytes]:
        """Up to BATCH_ROWS values; fewer only at the end."""
        from confluent_kafka import KafkaError

        values: list[bytes] = []
        while len(values) < BATCH_ROWS and self._open:
            for message in self._consumer.consume(CONSUME_ROWS, 0.1):
                error = message.error()
                if error is None:
                    values.append(message.value())  # type: ignore[arg-type]
                    self.offsets[message.partition()] = message.offset() + 1  # type: ignore[index, operator]
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._open.discard(message.partition())
                else:
                    raise SystemExit(f"peer: {error}")
        return values


class Target:
    """The table, and the offsets beside it."""

    def __init__(self, dsn: str, table: str) -> None:
        import psycopg

        self._table = table
        self._connection = psycopg.connect(dsn, autocommit=True)
        run = self._connection.execute
        run("CREATE TABLE IF NOT EXISTS peer_offsets (part int PRIMARY KEY, next_offset bigint NOT NULL)")
        run(f"CREATE TEMPORARY TABLE staging (op text, LIKE {table}) ON COMMIT DELETE ROWS")
        # without these the delete takes a hash join over the whole target in every batch
        run("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET work_mem = '64MB'")

    def offsets(self) -> dict[int, int]:
        """Where the last committed transaction ended."""
        return dict(self._connection.execute("SELECT part, next_offset FROM peer_offsets").fetchall())

    def apply(self, frame: Any, offsets: dict[int, int]) -> None:
        """One transaction: copy, delete, upsert, offsets."""
        names = ", ".join(COLUMNS)
        sets = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name not in KEY)
        on_key = " AND ".join(f"t.{name} = s.{name}" for name in KEY)
        with self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy(f"COPY staging (op, {names}) FROM STDIN (FORMAT csv)") as copy:
                copy.write(frame.write_csv(include_header=False, datetime_format="%Y-%m-%d %H:%M:%S%.6f").encode())
            if (frame["op"] == "d").any():
                cursor.execute(f"DELETE FROM {self._table} t USING staging s WHERE s.op = 'd' AND {on_key}")
            cursor.execute(
                f"INSERT INTO {self._table} ({names}) SELECT {names} FROM staging WHERE op <> 'd' "
                f"ON CONFLICT ({', '.join(KEY)}) DO UPDATE SET {sets}"
            )
            cursor.executemany(
                "INSERT INTO peer_offsets VALUES (%s, %s) "
                "ON CONFLICT (part) DO UPDATE SET next_offset = excluded.next_offset",
                list(offsets.items()),
            )


def main(arguments: list[str]) -> int:
    """The command line of this module; the exit code."""
    parser = argparse.ArgumentParser(prog="bench.peers.script")
    parser.add_argument("--servers", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--dsn")
    parser.add_argument("--table", default="items")
    options = parser.parse_args(arguments)
    target = Target(options.dsn, options.table) if options.dsn else None
    reader = Reader(options.servers, options.topic, target.offsets() if target else {})
    types, events = schema(), 0
    start_seconds = time.monotonic() - BEGUN
    while not reader.done:
        values = reader.batch()
        if not values:
            break
        frame = parse(values, types)
        events += len(values)
        if target:
            target.apply(frame, reader.offsets)
    print(json.dumps({"events": events, "seconds": time.monotonic() - BEGUN, "start_seconds": start_seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
