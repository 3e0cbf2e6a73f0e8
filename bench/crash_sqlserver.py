"""The killing runs of [source.sqlserver]: from the double of SQL Server, with a writer that never stops.

Besides workers and target, a kill hits the source's server. Driver, wire and processes are real; the server is the
double in tests/doubles, whose transactions and change tables outlive its own kill -9.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from bench import truth
from bench.crash import KINDS
from bench.crash_direct import DirectRig, Writer
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


class SqlServerWriter(Writer):
    """Changes both tables until it is stopped; goes on behind a kill of the server."""

    def __init__(self, server: Any, database: str, orders: int, seed: int) -> None:
        super().__init__(seed)
        self._server, self._database, self._orders = server, database, orders

    def work(self) -> None:
        """See Writer.work."""
        import pyodbc

        while not self.ended.is_set():
            try:
                with closing(self._server.connect(database=self._database, autocommit=False)) as connection:
                    while not self.ended.is_set():
                        self._write(connection)
            except pyodbc.Error:
                time.sleep(0.05)

    def _write(self, connection: Any) -> None:
        for _ in range(self.chance.randint(1, 4)):
            values = {"order": self.chance.randint(1, self._orders), "line": self.chance.randint(0, 3)}
            for statement in self.chance.choices(_CHANGES, _WEIGHTS)[0]:
                connection.execute(statement.format(**values))
        connection.commit()
        self.transactions += 1
        time.sleep(0.02)  # the double has one writer at a time, and its capture job is one


class SqlServerRig(DirectRig):
    """The flow is SQL Server's double read directly into PostgreSQL, and no broker."""

    kinds = (*KINDS, "source")

    def __init__(self, postgres: EmbeddedPostgres, server: Any, rows: int, scratch: Path) -> None:
        super().__init__(postgres, rows, scratch)
        self._server = server

    @property
    def _database(self) -> str:
        return f"erp{self.runs}"

    def begin(self) -> SqlServerWriter:
        """See DirectRig.begin."""
        self._server.create_database(self._database)
        with closing(self._server.connect(database=self._database)) as connection:
            for statement in _DDL:
                connection.execute(statement.format(rows=self._rows))
        return SqlServerWriter(self._server, self._database, self._rows // 4, self.runs)

    def text(self) -> str:
        """See DirectRig.text."""
        return _PIPELINE

    def environment(self) -> dict[str, str]:
        """See Rig.environment."""
        return {"BENCH_SOURCE_DSN": self._server.odbc(database=self._database)}

    def hit(self, kind: str, chance: random.Random) -> bool:
        """kill -9 for the source's server, which comes again."""
        self._server.stop()
        time.sleep(chance.uniform(0.0, 0.5))
        self._server.start()
        return True

    def settle(self) -> None:
        """See DirectRig.settle."""
        with closing(self._server.connect(database=self._database)) as source:
            source.execute("EXEC sys.sp_cdc_scan")

    def compared(self, target: Any, table: str) -> truth.Comparison:
        """See DirectRig.compared."""
        with closing(self._server.connect(database=self._database)) as source:
            expected, found = (
                Counter(map(tuple, side.execute(f"SELECT {_COLUMNS[table]} FROM {name}")))
                for side, name in ((source, f"dbo.{table}"), (target, table))
            )
        return truth.counted(expected, found)


def opened(stack: ExitStack, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> SqlServerRig:
    """The rig of this flow, and its server."""
    from tests.doubles.sqlserver import SqlServerDouble

    return SqlServerRig(postgres, stack.enter_context(SqlServerDouble(scratch / "server")), rows, scratch)
