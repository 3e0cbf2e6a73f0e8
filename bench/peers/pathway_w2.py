"""A peer of w2: items JOIN orders JOIN customers in Pathway, into a PostgreSQL snapshot table by the item's key.

Runs in an environment of its own, so it imports nothing of ours:

    PATHWAY_THREADS=2 python pathway_w2.py --servers S --dsn "host=... port=..." --table T --topics '{"items": ...}'

As Pathway's own Debezium reader and PostgreSQL writer want it: the messages are wrapped in {"payload": ...}; money is
text, because there is no decimal; a null in a message drops the whole event, so the wrapped messages hold an empty
text instead; times stay microseconds. It reads for ever: whoever started it ends it.
"""

import argparse
import json
import os

import pathway as pw

# how long Pathway gathers changes before it passes them on: its default
COMMIT_MS = 1500


class Item(pw.Schema):
    """A line of an order."""

    order_id: int = pw.column_definition(primary_key=True)
    line_no: int = pw.column_definition(primary_key=True)
    sku: str
    quantity: int
    unit_price: str
    discount: str
    note: str
    created_at: int


class Order(pw.Schema):
    """Its header."""

    id: int = pw.column_definition(primary_key=True)
    customer_id: int
    status: str


class Customer(pw.Schema):
    """Whose it is."""

    id: int = pw.column_definition(primary_key=True)
    name: str
    country: str


def main() -> None:
    """Build the graph and run it until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--servers", required=True)
    parser.add_argument("--dsn", required=True, help="key=value words")
    parser.add_argument("--table", required=True)
    parser.add_argument("--topics", required=True, help="JSON: table -> topic")
    options = parser.parse_args()
    topics = json.loads(options.topics)

    def read(table: str, schema: type[pw.Schema]) -> pw.Table:
        settings = {
            "bootstrap.servers": options.servers,
            "group.id": f"pathway-{os.getpid()}-{table}",
            "auto.offset.reset": "earliest",
            # the default of 1000 stops fetching for a second each time the queue is full
            "fetch.queue.backoff.ms": "5",
            # two readers of one group: the second waits for the first one's heartbeat, 3 s by default
            "heartbeat.interval.ms": "200",
        }
        return pw.io.debezium.read(settings, topics[table], schema=schema, autocommit_duration_ms=COMMIT_MS)

    items, orders, customers = read("items", Item), read("orders", Order), read("customers", Customer)
    # Table.id is Pathway's pointer to a row, made of its primary key, and the column `id` is not reachable beside it
    orders = orders.select(orders.status, orders.customer_id, customer=orders.pointer_from(orders.customer_id))
    items = items.with_columns(order=items.pointer_from(items.order_id))
    named = orders.join(customers, orders.customer == customers.id, id=orders.id).select(
        orders.status, orders.customer_id, customer_name=customers.name, country=customers.country
    )
    lines = items.join(named, items.order == named.id, id=items.id).select(
        *(items[name] for name in Item.column_names()),
        named.status,
        named.customer_id,
        named.customer_name,
        named.country,
    )
    target = dict(word.split("=", 1) for word in options.dsn.split())
    key = [lines.order_id, lines.line_no]
    pw.io.postgres.write(lines, target, options.table, output_table_type="snapshot", primary_key=key)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main()
