"""The killing runs of [source.sqlserver]: from the double of SQL Server, with a writer that never stops.

Besides workers and target, a kill hits the source's server. Driver, wire and processes are real; the server is the
double in tests/doubles, whose transactions and change tables outlive its own kill -9.
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from bench import rig, truth
from bench.crash import KINDS, Rig, log_end
from control.embedded import EmbeddedPostgres

_PIPELINE = """
name = "crash"
[source.sqlserver]
dsn = "env:BENCH_SOURCE_DSN"
chunk_rows = 1000
batch_rows_max = 500
poll_s = 0.05
[tables.items]
topic = "dbo.items"
[tables.ledger]
topic = "dbo.ledger"
[sink.postgres]
dsn = "env:BENCH_DSN"
"""
_COLUMNS = {"items": "order_id, line_no, quantity, note", "ledger": "account, text"}
_DDL = (
    "ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON",
    "CREATE TABLE dbo.items (order_id int NOT NULL, line_no int NOT NULL, quantity int NULL, note nvarchar(max) NULL, "
    "PRIMARY KEY (order_id, line_no))",
    "CREATE TABLE dbo.ledger (account int NOT NULL PRIMARY KEY, text nvarchar(20) NULL)",
    "INSERT INTO dbo.items SELECT value / 4, value % 4, value, N'n' FROM GENERATE_SERIES(1, {rows})",
    "INSERT INTO dbo.ledger SELECT value, N'l' FROM GENERATE_SERIES(1, {rows} / 4)",
    "UPDATE dbo.items SET note = REPLICATE(N'n', 3000) WHERE quantity % 40 = 0",
    "EXEC sys.sp_cdc_enable_db",
    *(
        f"EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'{name}', @role_name = NULL"
        for name in _COLUMNS
    ),
)
_REPLACED = ("DELETE FROM dbo.items WHERE order_id = {order} AND line_no = {line}",)
_CHANGES = (
    ("UPDATE dbo.items SET quantity = quantity + 1 WHERE order_id = {order}",),
    _REPLACED,
    (*_REPLACED, "INSERT INTO dbo.items VALUES ({order}, {line}, 1, REPLICATE(N'm', 4000))"),
    (
        "DELETE FROM dbo.items WHERE order_id = {order} + 1000000",
        "UPDATE dbo.items SET order_id = order_id + 1000000 WHERE order_id = {order}",
    ),
    ("UPDATE dbo.items SET note = NULL WHERE order_id = {order} AND line_no = {line}",),
    ("UPDATE dbo.ledger SET text = N'w{line}' WHERE account <= {order} AND account > {order} - 5",),
    ("DELETE FROM dbo.ledger WHERE account = {order}", "INSERT INTO dbo.ledger VALUES ({order}, N'again')"),
    (
        "DELETE FROM dbo.items WHERE order_id = {order} + 2000000",
        "INSERT INTO dbo.items SELECT {order} + 2000000, value, 1, N'large' FROM GENERATE_SERIES(1, 1500)",
    ),
)
_WEIGHTS = (10, 5, 5, 3, 3, 5, 3, 0.2)


class Writer(threading.Thread):
    """Changes both tables until it is stopped; goes on behind a kill of the server."""

    def __init__(self, server: Any, database: str, orders: int, seed: int) -> None:
        super().__init__(daemon=True)
        self._server, self._database, self._orders = server, database, orders
        self._chance = random.Random(seed)
        self.ended = threading.Event()
        self.transactions = 0

    def run(self) -> None:
        """Write."""
        import pyodbc

        while not self.ended.is_set():
            try:
                with closing(self._server.connect(database=self._database, autocommit=False)) as connection:
                    while not self.ended.is_set():
                        self._write(connection)
            except pyodbc.Error:
                time.sleep(0.05)

    def _write(self, connection: Any) -> None:
        for _ in range(self._chance.randint(1, 4)):
            values = {"order": self._chance.randint(1, self._orders), "line": self._chance.randint(0, 3)}
            for statement in self._chance.choices(_CHANGES, _WEIGHTS)[0]:
                connection.execute(statement.format(**values))
        connection.commit()
        self.transactions += 1
        time.sleep(0.02)  # the double has one writer at a time, and its capture job is one


class SqlServerRig(Rig):
    """The flow is SQL Server's double read directly into PostgreSQL, and no broker."""

    kinds = (*KINDS, "source")

    def __init__(self, postgres: EmbeddedPostgres, server: Any, rows: int, scratch: Path) -> None:
        super().__init__("", postgres, scratch, scratch)
        self._server, self._rows, self._runs = server, rows, 0
        self._writer: Writer | None = None
        self._file = scratch

    @property
    def _database(self) -> str:
        return f"erp{self._runs}"

    def fill(self) -> None:
        """Nothing: each run has a database of its own."""

    def write(self, directory: Path) -> Path:
        """The pipeline's file, and a filled source with a writer on it."""
        self._stop()
        directory.mkdir(parents=True)
        self._runs += 1
        self._server.create_database(self._database)
        with closing(self._server.connect(database=self._database)) as connection:
            for statement in _DDL:
                connection.execute(statement.format(rows=self._rows))
        self._writer = Writer(self._server, self._database, self._rows // 4, self._runs)
        self._writer.start()
        self._file = directory / "pipeline.toml"
        self._file.write_text(_PIPELINE, "utf-8")
        return self._file

    def start(self, file: Path, processes: int) -> Any:
        """`headrace run FILE --until-end`."""
        arguments, environment = rig.headrace_run(file, self.postgres.dsn("crash"), processes)
        environment |= {
            "HEADRACE_STATE_DIR": str(file.parent / "state"),
            "BENCH_SOURCE_DSN": self._server.odbc(database=self._database),
        }
        return rig.start(arguments, file.parent / "run.log", environment)

    def hit(self, kind: str, chance: random.Random) -> bool:
        """kill -9 for the source's server, which comes again."""
        self._server.stop()
        time.sleep(chance.uniform(0.0, 0.5))
        self._server.start()
        return True

    def compare(self) -> dict[str, truth.Comparison]:
        """Source and target, behind a last run with a writer that has stopped."""
        import psycopg

        self._stop()
        with closing(self._server.connect(database=self._database)) as source:
            source.execute("EXEC sys.sp_cdc_scan")
            process = self.start(self._file, 1)
            try:
                if process.wait(self.seconds_max) != 0:
                    raise SystemExit(f"bench: the last run ended with {process.returncode}:\n{log_end(self._file)}")
            finally:
                rig.kill_session(process)
            with psycopg.connect(self.postgres.dsn("crash")) as target:
                return {name: _compared(source, target, name) for name in self.tables}

    def close(self) -> None:
        """End the writer."""
        self._stop()
        shutil.rmtree(self.scratch / "run", ignore_errors=True)

    def _stop(self) -> None:
        if self._writer is not None:
            self._writer.ended.set()
            self._writer.join()
            print(f"  the writer committed {self._writer.transactions} transactions", flush=True)
            self._writer = None


def _compared(source: Any, target: Any, name: str) -> truth.Comparison:
    expected, found = (
        Counter(map(tuple, side.execute(f"SELECT {_COLUMNS[name]} FROM {table}")))
        for side, table in ((source, f"dbo.{name}"), (target, name))
    )
    missing, extra = (expected - found).total(), (found - expected).total()
    return truth.Comparison(expected.total(), found.total(), missing, extra)
