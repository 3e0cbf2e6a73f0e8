"""The ERP's users, for the demo: orders come, change and go in a PostgreSQL until SIGTERM.

    python -m control.demo_writer TRANSACTIONS_A_SECOND GREATEST_ID PSQL...

At its end one JSON line counts what it did, by kind. Every statement takes its rows at random, keys change too.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence

from control.tied import command

TABLES = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, city text, credit numeric(12,2));
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int NOT NULL, status text NOT NULL, ordered_at timestamptz NOT NULL
);
CREATE TABLE items (
    id int PRIMARY KEY, order_id int NOT NULL REFERENCES orders ON UPDATE CASCADE ON DELETE CASCADE,
    product text NOT NULL, quantity int NOT NULL, price numeric(12,2) NOT NULL, note text
);
CREATE INDEX ON items (order_id);
CREATE SEQUENCE numbers START 10000000;
"""
ROWS = """
INSERT INTO customers SELECT g, 'Customer ' || g, (ARRAY['İzmir', 'Köln', 'Lyon'])[g % 3 + 1], g * 7 % 10000 / 4.0
    FROM generate_series(1, {customers}) g;
INSERT INTO orders SELECT g, g % {customers} + 1, (ARRAY['OPEN', 'PAID', 'SENT'])[g % 3 + 1],
    timestamptz '2026-01-01 00:00:00+00' + g * interval '7 seconds' FROM generate_series(1, {orders}) g;
INSERT INTO items SELECT g, g % {orders} + 1, 'P' || g % 500, g % 9 + 1, g % 977 / 4.0,
    CASE WHEN g % 5 = 0 THEN 'note ' || g END FROM generate_series(1, {items}) g;
ANALYZE;
"""
_AN_ORDER = "(SELECT id FROM orders WHERE id >= %s ORDER BY id LIMIT 1)"
_AN_ITEM = "(SELECT id FROM items WHERE id >= %s ORDER BY id LIMIT 1)"
_CHANGES: dict[str, tuple[int, list[str]]] = {
    # what: (how often, statements; each %s is a number up to the greatest id)
    "orders taken": (
        30,
        [
            "INSERT INTO orders SELECT nextval('numbers'), id, 'OPEN', now() FROM customers WHERE id >= %s / 1000 + 1 "
            "ORDER BY id LIMIT 1",
            "INSERT INTO items SELECT nextval('numbers'), (SELECT max(id) FROM orders), 'P' || g, g, g * 1.25, NULL "
            "FROM generate_series(1, 1 + %s % 4) g",
        ],
    ),
    "orders that went on": (30, [f"UPDATE orders SET status = 'S' || %s % 100 WHERE id = {_AN_ORDER}"]),
    "items changed": (25, [f"UPDATE items SET quantity = quantity + 1, note = NULL WHERE id = {_AN_ITEM}"]),
    "items moved to another order": (5, [f"UPDATE items SET order_id = {_AN_ORDER} WHERE id = {_AN_ITEM}"]),
    "items deleted": (8, [f"DELETE FROM items WHERE id = {_AN_ITEM}"]),
    "orders deleted with their items": (4, [f"DELETE FROM orders WHERE id = {_AN_ORDER}"]),
    "items with a new key": (4, [f"UPDATE items SET id = nextval('numbers') WHERE id = {_AN_ITEM}"]),
    "orders with a new key": (4, [f"UPDATE orders SET id = nextval('numbers') WHERE id = {_AN_ORDER}"]),
    "customers renamed": (5, ["UPDATE customers SET name = 'Renamed ' || %s, credit = credit + 1 WHERE id <= 3"]),
}


def write(psql: Sequence[str], rate: float, greatest: int, ended: Callable[[], bool]) -> dict[str, int]:
    """Change the ERP.

    Args:
        psql: the command line of a psql with its database. rate: transactions a second.
        greatest: up to which ids rows are chosen. ended: asked before each transaction.
    Returns: transactions by kind.
    """
    chance, done = random.Random(), Counter[str]()
    kinds, weights = list(_CHANGES), [weight for weight, _ in _CHANGES.values()]
    begun = time.monotonic()
    session = subprocess.Popen(command(psql), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert session.stdin is not None, "as asked for"
    while not ended():
        kind = chance.choices(kinds, weights)[0]
        statements = []
        for statement in _CHANGES[kind][1]:
            numbers = [chance.randrange(greatest) for _ in range(statement.count("%s"))]
            statements.append(statement.replace("%s", "{}").format(*numbers))  # a single % is SQL's modulo
        session.stdin.write(f"BEGIN; {'; '.join(statements)}; COMMIT;\n")
        session.stdin.flush()
        done[kind] += 1
        time.sleep(max(0.0, begun + done.total() / rate - time.monotonic()))
    session.stdin.close()
    if session.wait() != 0:
        raise RuntimeError(f"psql ended with code {session.returncode}")
    return dict(done)


def main(arguments: Sequence[str]) -> None:
    """Write until SIGTERM, then count."""
    ended = [False]

    def end(*_: object) -> None:
        ended[0] = True

    signal.signal(signal.SIGTERM, end)
    print(json.dumps(write(arguments[2:], float(arguments[0]), int(arguments[1]), lambda: ended[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
