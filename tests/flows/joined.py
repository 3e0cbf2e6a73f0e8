"""A small history of two tables that a flow joins, as messages, and what the join must come to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from connectors.kafka.topics import Producer, create_topics

Message = tuple[str, bytes, bytes, int]
"""(topic, key, value, partition)"""
Line = tuple[int, int, int, str, str]
"""(id, order_id, quantity, note, status)"""


@dataclass
class History:
    """Makes messages, and knows the tables after them.

    Args:
        seed: decides everything. prefix: of the topics. partitions: of each topic. note_bytes: of each item's note.
    """

    seed: int
    prefix: str
    partitions: int = 2
    note_bytes: int = 12
    items: dict[int, dict[str, Any]] = field(default_factory=dict)
    orders: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random, self._lsn, self._written = Random(self.seed), 1_000, 0

    @property
    def topics(self) -> dict[str, int]:
        """Partition count by topic."""
        return {f"{self.prefix}.items": self.partitions, f"{self.prefix}.orders": self.partitions}

    def messages(self, count: int, ids: int | None = None) -> list[Message]:
        """The next changes; of `ids` items and a fourth as many orders, by default as many as changes."""
        ids = ids or count
        return [self._change(ids) for _ in range(count)]

    def _change(self, ids: int) -> Message:
        random = self._random
        if random.random() < 0.25:
            number = random.randrange(max(1, ids // 4))
            row = {"id": number, "status": random.choice(("OPEN", "PAID", "SENT", "Çıktı"))}
            return self._message("orders", self.orders, number, row if random.random() < 0.9 else None)
        number = random.randrange(ids)
        order = random.choice((None, random.randrange(ids), *(random.randrange(max(1, ids // 4)) for _ in range(6))))
        self._written += 1
        note = f"{self._written}-".ljust(self.note_bytes, "x")
        row = {"id": number, "order_id": order, "quantity": random.randrange(100), "note": note}
        return self._message("items", self.items, number, row if random.random() < 0.85 else None)

    def _message(self, table: str, rows: dict[int, dict[str, Any]], number: int, row: dict[str, Any] | None) -> Message:
        before = rows.pop(number, None)
        if row is not None:
            rows[number] = row
        elif before is None:  # nothing to delete: the row comes instead
            before = {"id": number}
        self._lsn += 8
        source = {"snapshot": "false", "ts_ms": 1_795_233_611_000 + self._lsn, "lsn": self._lsn}
        kind = "d" if row is None else "c" if before is None else "u"
        value = {"before": before, "after": row, "source": source, "op": kind, "ts_ms": 1_795_233_611_001}
        key = json.dumps({"id": number}).encode()
        return f"{self.prefix}.{table}", key, json.dumps(value).encode(), number % self.partitions

    def lines(self) -> list[Line]:
        """What the join comes to, sorted."""
        return sorted(
            (item["id"], item["order_id"], item["quantity"], item["note"], self.orders[item["order_id"]]["status"])
            for item in self.items.values()
            if item["order_id"] in self.orders
        )


def pipeline_text(history: History, servers: str, *, settings: str = "", source: str = "batch_rows_max = 40") -> str:
    """The pipeline file; `settings` go before the first section, `source` into that of the source."""
    return f"""name = "joined"
{settings}
[source.kafka]
servers = "{servers}"
{source}
[tables.items]
topic = "{history.prefix}.items"
key = ["id"]
[tables.items.columns]
id = "int64"
order_id = "int64"
quantity = "int64"
note = "string"
[tables.orders]
topic = "{history.prefix}.orders"
key = ["id"]
[tables.orders.columns]
id = "int64"
status = "string"
[[step]]
join = "items"
with = "orders"
on = {{ order_id = "id" }}
take = ["status"]
as = "order_lines"
[sink.postgres]
dsn = "env:TARGET_DSN"
"""


def fill(servers: str, history: History, messages: Iterable[Message], *, make: bool = True) -> None:
    """Messages into their partitions, in this order; the topics are made first."""
    if make:
        create_topics(servers, history.topics)
    producer = Producer(servers, {"linger.ms": 0})
    for topic, key, value, partition in messages:
        producer.write(topic, [(key, value, partition)])
    producer.flush()


def read_lines(dsn: str, table: str = "order_lines") -> list[Line]:
    """The target's rows, sorted; none where there is no table yet."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT to_regclass(%s)", (table,)).fetchone()
        if found is None or found[0] is None:
            return []
        return connection.execute(f"SELECT id, order_id, quantity, note, status FROM {table} ORDER BY 1").fetchall()


def some_lines(dsn: str, count: int) -> Callable[[], bool]:
    """Whether the target has so many rows by now."""
    return lambda: len(read_lines(dsn)) >= count


def log(directory: Path) -> str:
    """The logs of all processes; of a long one the end."""
    return "\n".join(path.read_text()[-100_000:] for path in sorted(directory.glob("process-*.log")))
