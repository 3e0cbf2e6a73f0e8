"""The killing runs of [source.postgres]: database to database, with a writer that never stops.

Besides workers and target, a kill hits a session that reads the source (PostgreSQL then ends all others and recovers),
or the whole source; in the snapshot, at the hand-over to the stream, or in the stream.
"""

from __future__ import annotations

import random
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import rig, truth
from bench.crash import KINDS, RUN_SECONDS_MAX, kill_any
from bench.crash_direct import Look, MomentRig, Writer
from bench.postgres_parts import compared
from control.embedded import EmbeddedPostgres

_PIPELINE = """
name = "crash"
[source.postgres]
dsn = "env:BENCH_SOURCE_DSN"
slot = "crash"
chunk_rows = {chunk_rows}
batch_rows_max = {batch_rows_max}
[tables.items]
topic = "public.items"
[tables.ledger]
topic = "public.ledger"
[sink.postgres]
dsn = "env:BENCH_DSN"
"""
_DDL = (
    "CREATE TABLE items (order_id int, line_no int, quantity int, note text, PRIMARY KEY (order_id, line_no)); "
    "ALTER TABLE items ALTER note SET STORAGE EXTERNAL; "
    "CREATE TABLE ledger (account int, text text); ALTER TABLE ledger REPLICA IDENTITY FULL"
)
_NAMES = {"items": ("order_id", "line_no", "quantity", "note"), "ledger": ("account", "text")}
_SECONDS_PER_MILLION = 60.0  # rows of the source, beside the bound for a small one
_LEDGER_ROWS_MAX = 250_000
_SHARES = {"snapshot": 0.6, "hand-over": 0.01, "stream": 0.15}  # of a run without harm
_MOMENT = (
    "SELECT bool_or(query ILIKE 'COPY%' AND state = 'active'), bool_or(query LIKE 'START_REPLICATION%') "
    "FROM pg_stat_activity WHERE datname = 'erp' AND application_name LIKE 'headrace%'"
)
_READERS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = 'erp' AND application_name LIKE 'headrace%' "
    "AND (backend_type = 'walsender' OR query ILIKE 'COPY%')"
)
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


class PostgresWriter(Writer):
    """Changes both tables until it is stopped; goes on behind a crash of the server."""

    def __init__(self, dsn: str, orders: int, seed: int) -> None:
        super().__init__(seed)
        self._dsn, self._orders = dsn, orders

    def work(self) -> None:
        """See Writer.work."""
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
            for _ in range(self.chance.randint(1, 5)):
                values = {"order": self.chance.randint(0, self._orders), "line": self.chance.randint(0, 3)}
                weights = (10, 5, 5, 3, 5, 5, 0.05)
                connection.execute(self.chance.choices(_STATEMENTS, weights)[0], values)
        self.transactions += 1


class PostgresRig(MomentRig):
    """The flow is a database read directly: a server that is the source, one that is the target, and no broker."""

    kinds = (*KINDS, "walsender", "source")

    def __init__(self, postgres: EmbeddedPostgres, source: EmbeddedPostgres, rows: int, scratch: Path) -> None:
        super().__init__(postgres, rows, scratch)
        self.source = source
        self._look = Look(source.dsn)
        self.seconds_max = RUN_SECONDS_MAX + _SECONDS_PER_MILLION * rows / 1e6

    def fill(self) -> None:
        """The database that each run's source is a copy of."""
        import psycopg

        dsn = self.source.create_database("template_erp")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(_DDL)
            connection.execute(
                "INSERT INTO items SELECT g / 4, g % 4, g, CASE WHEN g % 40 = 0 THEN repeat('n', 3000) ELSE 'n' END "
                f"FROM generate_series(1, {self._rows}) g"
            )
            ledger = min(self._rows // 4, _LEDGER_ROWS_MAX)
            connection.execute(f"INSERT INTO ledger SELECT g % 5, 'l' FROM generate_series(1, {ledger}) g")
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    def begin(self) -> PostgresWriter:
        """See DirectRig.begin."""
        self._drop_slots()
        self.source.drop_database("erp")
        self.source.execute("CREATE DATABASE erp TEMPLATE template_erp STRATEGY FILE_COPY")
        return PostgresWriter(self.source.dsn("erp"), self._rows // 4, self.runs)

    def text(self) -> str:
        """See DirectRig.text."""
        chunk, batch = max(5_000, self._rows // 50), max(1_000, min(20_000, self._rows // 250))
        return _PIPELINE.format(chunk_rows=chunk, batch_rows_max=batch)

    def environment(self) -> dict[str, str]:
        """See Rig.environment."""
        return {"BENCH_SOURCE_DSN": self.source.dsn("erp")}

    def stay_s(self, moment: str) -> float:
        """See MomentRig.stay_s."""
        return _SHARES[moment] * self.clean_seconds

    def told(self, wanted: str) -> str:
        """See MomentRig.told: a stream that has just begun is the hand-over."""
        return f"at the {wanted}" if wanted == "hand-over" else super().told(wanted)

    def moment(self) -> str:
        """What the flow reads now: "stream", "snapshot", or "" for neither."""
        found = self._look.ask(_MOMENT)
        copies, streams = found[0] if found else (False, False)
        return "stream" if streams else "snapshot" if copies else ""

    def hit(self, kind: str, chance: random.Random) -> bool:
        """kill -9 for a session that reads the source, which makes its others end too, or for the whole source."""
        if kind == "source":
            self.source.kill()
            time.sleep(chance.uniform(0.0, 0.5))
            self.source.start()
            return True
        return kill_any([pid for (pid,) in self._look.ask(_READERS)], chance)

    def compared(self, target: Any, table: str) -> truth.Comparison:
        """See DirectRig.compared."""
        import psycopg

        with psycopg.connect(self.source.dsn("erp")) as source:
            return compared(source, target, table, _NAMES[table])

    def close(self) -> None:
        """See DirectRig.close."""
        super().close()
        self._look.close()

    def _drop_slots(self) -> None:
        import psycopg

        with psycopg.connect(self.source.dsn(), autocommit=True) as connection:
            slots = "FROM pg_replication_slots WHERE database = 'erp'"
            connection.execute(f"SELECT pg_terminate_backend(active_pid) {slots}")
            for _ in range(100):
                try:
                    connection.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}")
                    return
                except psycopg.errors.ObjectInUse:
                    time.sleep(0.1)


def opened(stack: ExitStack, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> PostgresRig:
    """The rig of this flow, and its source."""
    return PostgresRig(postgres, stack.enter_context(rig.postgres(wal_level="logical")), rows, scratch)
