"""A peer of w2: the join as one writes it in an afternoon with Bytewax alone: rows, orjson, dicts, psycopg.

Runs in an environment of its own, so it imports nothing of ours:

    python naive_bytewax.py --servers S --topics '{"items": ...}' [--dsn D]     without a dsn: no target

Bytewax's KafkaSource reads the topics; one stateful step holds items, orders and customers in dicts, because its
op.join knows neither deletes nor a foreign key; the sink gathers rows, keeps the last one of each key, copies them into
a temporary table and deletes and upserts from there. No recovery store, which would slow it. What a setting gave is
noted. Prints one JSON line at its end: events, seconds, start_seconds.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

BEGUN = time.monotonic()

import bytewax.operators as op  # noqa: E402 - the clock starts before the imports, as it does for a command
import psycopg  # noqa: E402
from bytewax.connectors.kafka import KafkaError, KafkaSource, KafkaSourceMessage  # noqa: E402
from bytewax.dataflow import Dataflow  # noqa: E402
from bytewax.operators import StatefulBatchLogic  # noqa: E402
from bytewax.outputs import DynamicSink, StatelessSinkPartition  # noqa: E402
from bytewax.run import cli_main  # noqa: E402

try:
    from orjson import loads  # the bench makes an environment that has it
except ImportError:
    from json import loads  # slower: for the test of its rows

CONSUME_ROWS = 1_000  # a call
WRITE_ROWS = 20_000  # a transaction
ITEM = ("order_id", "line_no", "sku", "quantity", "unit_price", "discount", "note", "created_at")
COLUMNS = (*ITEM, "status", "customer_id", "customer_name", "country")

Row = dict[str, Any]
Event = tuple[str, Row, Row | None]
"""(table, key, row or None for a delete)."""
Line = tuple[tuple[int, int], tuple[Any, ...] | None]
"""(key of the item, columns of the result or None for a delete)."""


def parse(message: KafkaSourceMessage[Any, Any] | KafkaError[Any, Any]) -> tuple[str, Event]:
    """One message; all go to one key, so that the three tables see each other."""
    if isinstance(message, KafkaError):
        raise SystemExit(f"peer: {message.err}")
    value = loads(message.value)
    return "all", (value["source"]["table"], loads(message.key), value["after"])


class Join(StatefulBatchLogic):
    """The three tables, and which rows point at which."""

    def __init__(self) -> None:
        self.items: dict[int, dict[int, Row]] = defaultdict(dict)  # order -> line -> row
        self.orders: dict[int, Row] = {}
        self.customers: dict[int, Row] = {}
        self.orders_of: dict[int, set[int]] = defaultdict(set)
        self.events = 0

    def on_batch(self, values: list[Event]) -> tuple[Iterable[Line], bool]:
        """What changes in the result."""
        out: list[Line] = []
        for table, key, row in values:
            getattr(self, f"on_{table}")(key, row, out)
        COUNTS["events"] += len(values)
        return out, StatefulBatchLogic.RETAIN

    def on_items(self, key: Row, row: Row | None, out: list[Line]) -> None:
        """A line came, changed or went."""
        order, line = key["order_id"], key["line_no"]
        if row is None:
            if self.items[order].pop(line, None) is not None:
                out.append(((order, line), None))
            return
        self.items[order][line] = row
        self.emit(order, (line,), out)

    def on_orders(self, key: Row, row: Row | None, out: list[Line]) -> None:
        """An order came, changed or went: all its lines follow."""
        number = key["id"]
        old = self.orders.get(number)
        if old is not None:
            self.orders_of[old["customer_id"]].discard(number)
        if row is None:
            self.orders.pop(number, None)
        else:
            self.orders[number] = row
            self.orders_of[row["customer_id"]].add(number)
        self.emit(number, self.items[number], out)

    def on_customers(self, key: Row, row: Row | None, out: list[Line]) -> None:
        """A customer came, changed or went: all lines of all its orders follow, if what they show changed."""
        number = key["id"]
        old = self.customers.get(number)
        if row is None:
            self.customers.pop(number, None)
        else:
            self.customers[number] = row
            if old is not None and (old["name"], old["country"]) == (row["name"], row["country"]):
                return
        for order in self.orders_of[number]:
            self.emit(order, self.items[order], out)

    def emit(self, number: int, lines: Iterable[int], out: list[Line]) -> None:
        """The result for these lines of an order as the tables are now."""
        order = self.orders.get(number)
        customer = None if order is None else self.customers.get(order["customer_id"])
        if order is None or customer is None:
            out.extend(((number, line), None) for line in lines)
            return
        rest = (order["status"], order["customer_id"], customer["name"], customer["country"])
        rows = self.items[number]
        for line in lines:
            row = rows[line]
            out.append(((number, line), (*(row[name] for name in ITEM), *rest)))

    def snapshot(self) -> None:
        """There is no recovery store."""


class Target(StatelessSinkPartition):
    """The table in PostgreSQL, WRITE_ROWS a transaction."""

    def __init__(self, dsn: str, table: str) -> None:
        self.table = table
        self.rows: dict[tuple[int, int], tuple[Any, ...] | None] = {}
        self.connection = psycopg.connect(dsn, autocommit=True)
        run = self.connection.execute
        run(f"CREATE TEMPORARY TABLE staging (LIKE {table}) ON COMMIT DELETE ROWS")
        run("ALTER TABLE staging ALTER created_at TYPE bigint USING 0")
        run("CREATE TEMPORARY TABLE gone (order_id bigint, line_no bigint) ON COMMIT DELETE ROWS")
        # without these the delete takes a hash join over the whole target in every batch
        run("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off; SET work_mem = '64MB'")

    def write_batch(self, items: list[Line]) -> None:
        """Gather; the last row of a key wins."""
        self.rows.update(items)
        if len(self.rows) >= WRITE_ROWS:
            self.apply()

    def apply(self) -> None:
        """One transaction: copy, delete, upsert."""
        rows, self.rows = self.rows, {}
        names = ", ".join(COLUMNS)
        values = names.replace("created_at", "timestamp 'epoch' + created_at * interval '1 microsecond'")
        sets = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[2:])
        with self.connection.transaction(), self.connection.cursor() as cursor:
            with cursor.copy(f"COPY staging ({names}) FROM STDIN") as copy:
                for row in rows.values():
                    if row is not None:
                        copy.write_row(row)
            with cursor.copy("COPY gone FROM STDIN") as copy:
                for key, row in rows.items():
                    if row is None:
                        copy.write_row(key)
            cursor.execute(
                f"DELETE FROM {self.table} t USING gone g WHERE t.order_id = g.order_id AND t.line_no = g.line_no"
            )
            cursor.execute(
                f"INSERT INTO {self.table} ({names}) SELECT {values} FROM staging "
                f"ON CONFLICT (order_id, line_no) DO UPDATE SET {sets}"
            )

    def close(self) -> None:
        """What is left."""
        self.apply()
        self.connection.close()


class Nothing(StatelessSinkPartition):
    """No target."""

    def write_batch(self, items: list[Line]) -> None:
        """Drop them."""


class Sink(DynamicSink):
    """Makes the one partition of the one worker."""

    def __init__(self, dsn: str | None, table: str) -> None:
        self.dsn, self.table = dsn, table

    def build(self, step_id: str, worker_index: int, worker_count: int) -> StatelessSinkPartition:
        """The target, or nothing."""
        return Target(self.dsn, self.table) if self.dsn else Nothing()


COUNTS = {"events": 0}


def main() -> None:
    """Build the flow, run it to the topics' ends, say how long it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", required=True)
    parser.add_argument("--topics", required=True, help="JSON: table -> topic")
    parser.add_argument("--dsn")
    parser.add_argument("--table", default="order_lines")
    options = parser.parse_args()
    topics = list(json.loads(options.topics).values())
    flow = Dataflow("naive")
    source = KafkaSource([options.servers], topics, tail=False, batch_size=CONSUME_ROWS)
    messages = op.input("kafka", flow, source)
    events = op.map("parse", messages, parse)
    lines = op.stateful_batch("join", events, lambda state: Join())
    out = op.map("drop_key", lines, lambda item: item[1])
    op.output("target", out, Sink(options.dsn, options.table))
    start_seconds = time.monotonic() - BEGUN
    cli_main(flow)  # type: ignore[no-untyped-call]
    said = {**COUNTS, "seconds": time.monotonic() - BEGUN, "start_seconds": start_seconds}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
