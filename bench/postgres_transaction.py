"""postgres-transaction: one transaction of --items changes through a slot into a target, and the memory that it takes.

The value is the greatest memory of all of Headrace's processes at one moment; the aim is 400 MB at 10,000,000 changes.
postgres-transaction-streamed takes the same while the transaction is open (`streaming = true`), and spools it on disk.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from bench import rig
from bench.measure import Result
from bench.postgres_parts import DDL, NAMES, ROWS, Flow, compared
from bench.w1 import say

AIM_MB = 400.0
_SECONDS_MAX, _SECONDS_PER_MILLION = 120.0, 120.0


def write(connection: Any, items: int) -> int:
    """One transaction of about that many changes: 80 % inserts, 15 % updates, 5 % deletes; how many it has."""
    inserts = max(20, items * 8 // 10)
    with connection.transaction():
        statements = (
            "INSERT INTO items " + ROWS.format(first=1, last=inserts),
            f"UPDATE items SET quantity = -1 WHERE order_id BETWEEN 1 AND {items * 15 // 400}",
            f"DELETE FROM items WHERE order_id > {(inserts - items * 5 // 100) // 4}",
        )
        return sum(connection.execute(statement).rowcount for statement in statements)


def postgres_transaction(items: int, pairs: int, processes: int) -> Result:
    """One run: memory does not depend on what else the machine does."""
    return _measured("postgres-transaction", items, processes, "")


def postgres_transaction_streamed(items: int, pairs: int, processes: int) -> Result:
    """The same with `streaming`."""
    return _measured("postgres-transaction-streamed", items, processes, "streaming = true")


def _measured(name: str, items: int, processes: int, settings: str) -> Result:
    with (
        rig.postgres() as source,
        rig.postgres() as target,
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch,
    ):
        flow = Flow(
            Path(scratch),
            source.create_database("source"),
            target.create_database("target"),
            source_settings=settings,
        )
        return transaction(name, flow, items, processes)


def transaction(name: str, flow: Flow, items: int, processes: int) -> Result:
    """The measure, on servers that are there: an empty source and an empty target."""
    import psycopg

    with (
        closing(psycopg.connect(flow.source, autocommit=True)) as connection,
        closing(psycopg.connect(flow.target, autocommit=True)) as there,
    ):
        connection.execute(DDL)
        connection.execute("INSERT INTO items " + ROWS.format(first=0, last=0))
        flow.run(processes)
        begun = time.monotonic()
        changes = write(connection, items)
        say(f"{name}: one transaction of {changes:,} changes, written in {time.monotonic() - begun:.0f} s")
        done = flow.run(processes, _SECONDS_MAX + _SECONDS_PER_MILLION * items / 1e6)
        found = compared(connection, there, "items", NAMES)
        spilled = connection.execute("SELECT spill_bytes FROM pg_stat_replication_slots").fetchone()
    say(
        f"  {done.seconds:.1f} s, start included: {changes / done.seconds:,.0f} changes/s; at most {done.peak_mb:.0f} "
        f"MB in all processes; the server spilled {spilled[0] / 1e6 if spilled else 0:,.0f} MB; {found}"
    )
    text = f"the aim: {AIM_MB:.0f} MB for a transaction of 10,000,000"
    return Result(name, done.peak_mb, "MB at most", text, AIM_MB, AIM_MB / done.peak_mb, done.peak_mb, found.equal)
