"""The killing runs of [source.postgres]: database to database, with a writer that never stops.

Source and target are databases of one server, so that killing PostgreSQL kills both ends and the slot with them.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench import rig, truth
from bench.crash import RUN_SECONDS_MAX, Rig
from control.embedded import EmbeddedPostgres

_PIPELINE = """
name = "crash"
[source.postgres]
dsn = "env:BENCH_SOURCE_DSN"
slot = "crash"
chunk_rows = 5000
batch_rows_max = 1000
[tables.items]
topic = "public.items"
[tables.ledger]
topic = "public.ledger"
[sink.postgres]
dsn = "env:BENCH_DSN"
"""
_STATEMENTS = (
    "UPDATE items SET quantity = quantity + 1 WHERE order_id = %(order)s",
    "DELETE FROM items WHERE order_id = %(order)s AND line_no = %(line)s",
    "INSERT INTO items VALUES (%(order)s, %(line)s, 1, repeat('n', 4000)) ON CONFLICT DO NOTHING",
    "UPDATE items SET order_id = order_id + 1000000 WHERE order_id = %(order)s AND NOT EXISTS "
    "(SELECT FROM items i WHERE i.order_id = %(order)s + 1000000)",
    "INSERT INTO ledger SELECT %(line)s, 'w' FROM generate_series(1, %(line)s)",
    "DELETE FROM ledger WHERE ctid = (SELECT ctid FROM ledger WHERE account >= %(line)s LIMIT 1)",
    "INSERT INTO items SELECT %(order)s + 2000000, g, 1, 'large' FROM generate_series(1, 1500) g "
    "ON CONFLICT DO NOTHING",
)


class Writer(threading.Thread):
    """Changes both tables until it is stopped; goes on behind a crash of the server."""

    def __init__(self, dsn: str, orders: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._dsn, self._orders, self._chance = dsn, orders, random.Random(seed)
        self.ended = threading.Event()
        self.transactions = 0

    def run(self) -> None:
        """Write."""
        import psycopg

        while not self.ended.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    while not self.ended.is_set():
                        self._write(connection)
            except psycopg.Error:
                time.sleep(0.05)

    def _write(self, connection: Any) -> None:
        with connection.transaction():
            for _ in range(self._chance.randint(1, 5)):
                values = {"order": self._chance.randint(0, self._orders), "line": self._chance.randint(0, 3)}
                weights = (10, 5, 5, 3, 5, 5, 0.05)
                connection.execute(self._chance.choices(_STATEMENTS, weights)[0], values)
        self.transactions += 1


class PostgresRig(Rig):
    """The flow is a database read directly; there is no broker."""

    def __init__(self, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> None:
        super().__init__("", postgres, scratch, scratch)
        self._rows, self._runs = rows, 0
        self._writer: Writer | None = None
        self._file = scratch

    def fill(self) -> None:
        """Each run makes a source database of its own."""

    def write(self, directory: Path) -> Path:
        """The pipeline's file, and a filled source with a writer on it."""
        import psycopg

        self._stop()
        directory.mkdir(parents=True)
        self._drop_slot()
        self.postgres.drop_database("erp")
        dsn = self.postgres.create_database("erp")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "CREATE TABLE items (order_id int, line_no int, quantity int, note text, "
                "PRIMARY KEY (order_id, line_no)); ALTER TABLE items ALTER note SET STORAGE EXTERNAL; "
                "CREATE TABLE ledger (account int, text text); ALTER TABLE ledger REPLICA IDENTITY FULL"
            )
            connection.execute(
                "INSERT INTO items SELECT g / 4, g % 4, g, CASE WHEN g % 40 = 0 THEN repeat('n', 3000) ELSE 'n' END "
                f"FROM generate_series(1, {self._rows}) g"
            )
            connection.execute(f"INSERT INTO ledger SELECT g % 5, 'l' FROM generate_series(1, {self._rows // 4}) g")
            connection.execute("ANALYZE")
        self._runs += 1
        self._writer = Writer(dsn, self._rows // 4, self._runs)
        self._writer.start()
        self._file = directory / "pipeline.toml"
        self._file.write_text(_PIPELINE, "utf-8")
        return self._file

    def start(self, file: Path, processes: int) -> Any:
        """`headrace run FILE --until-end`."""
        arguments, environment = rig.headrace_run(file, self.postgres.dsn("crash"), processes)
        environment |= {
            "HEADRACE_STATE_DIR": str(file.parent / "state"),
            "BENCH_SOURCE_DSN": self.postgres.dsn("erp"),
        }
        return rig.start(arguments, file.parent / "run.log", environment)

    def compare(self) -> dict[str, truth.Comparison]:
        """Source and target, behind a last run with a writer that has stopped."""
        import psycopg

        self._stop()
        process = self.start(self._file, 1)
        if process.wait(RUN_SECONDS_MAX) != 0:
            raise SystemExit(f"bench: the last run ended with code {process.returncode}")
        found = {}
        with (
            psycopg.connect(self.postgres.dsn("erp")) as source,
            psycopg.connect(self.postgres.dsn("crash")) as target,
        ):
            for name in self.tables:
                columns = "order_id, line_no, quantity, note" if name == "items" else "account, text"
                query = f"SELECT {columns} FROM {name} ORDER BY {columns}"
                wanted, there = source.execute(query).fetchall(), target.execute(query).fetchall()
                found[name] = _compared(wanted, there)
        return found

    def close(self) -> None:
        """End the writer."""
        self._stop()
        shutil.rmtree(self.scratch / "run", ignore_errors=True)

    def _stop(self) -> None:
        if self._writer is not None:
            self._writer.ended.set()
            self._writer.join()
            self._writer = None

    def _drop_slot(self) -> None:
        import psycopg

        with psycopg.connect(self.postgres.dsn(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'crash'"
            )
            for _ in range(100):
                try:
                    connection.execute(
                        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = 'crash'"
                    )
                    return
                except psycopg.errors.ObjectInUse:
                    time.sleep(0.1)


def _compared(wanted: list[Any], there: list[Any]) -> truth.Comparison:
    expected, found = Counter(wanted), Counter(there)
    return truth.Comparison(len(wanted), len(there), (expected - found).total(), (found - expected).total())
