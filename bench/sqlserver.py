"""sqlserver-changes: changes a second that [source.sqlserver] makes decoded batches of, beside the aim.

Microsoft's ODBC driver and the wire are real; the server is the double in tests/doubles, which keeps change tables
encoded for the wire. What driver and double give without the connector is measured in the same minute. No SQL Server
takes part: how fast one reads its change tables is not in the number.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench.measure import MemoryProbe, Result, Taken, say

AIM = 80_000.0
CHANGES_MAX = 300_000
TRANSACTION_CHANGES = 1000
_TABLE, _INSTANCE = "dbo.items", "dbo_items"
_NAMES = ("order_id", "line_no", "sku", "quantity", "unit_price", "discount", "note", "created_at")
_DDL = (
    "ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON",
    "CREATE TABLE dbo.items (order_id int NOT NULL, line_no int NOT NULL, sku nvarchar(40) NULL, quantity int NULL, "
    "unit_price decimal(18,4) NULL, discount decimal(5,2) NULL, note nvarchar(400) NULL, created_at datetime2(6) NULL, "
    "PRIMARY KEY (order_id, line_no))",
    "EXEC sys.sp_cdc_enable_db",
    "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'items', @role_name = NULL",
    "EXEC sys.sp_cdc_stop_job",
)
_INSERT = (
    "INSERT INTO dbo.items (order_id, line_no, sku, quantity, unit_price, discount, note, created_at) SELECT {order}, "
    "value, N'SKU-' + CONVERT(nvarchar(20), value * 13), value, CONVERT(decimal(18,4), value) * 0.0137, 0.25, "
    "CASE WHEN value < 200 THEN NULL ELSE N'a note on a line' END, '2026-01-02 03:04:05.123456' "
    "FROM GENERATE_SERIES(0, 799)"
)


def fill(connection: Any, changes: int) -> int:
    """Write transactions of 800 inserts, 150 updates and 50 deletes, and have them captured; how many changes."""
    for order in range(changes // TRANSACTION_CHANGES):
        connection.execute("BEGIN TRANSACTION")
        connection.execute(_INSERT.format(order=order))
        connection.execute(f"UPDATE dbo.items SET quantity = -1 WHERE order_id = {order} AND line_no < 150")
        connection.execute(f"DELETE FROM dbo.items WHERE order_id = {order} AND line_no >= 750")
        connection.execute("COMMIT TRANSACTION")
    connection.execute("EXEC sys.sp_cdc_scan")
    return changes // TRANSACTION_CHANGES * TRANSACTION_CHANGES


def _source(dsn: str, directory: Path) -> Any:
    from connectors.base.database import SourceContext
    from connectors.formats.binding import TopicBinding
    from connectors.sqlserver.config import SqlServerConfig
    from connectors.sqlserver.source import SqlServerChanges

    (directory / "dsn").write_text(dsn, "utf-8")
    config = SqlServerConfig(dsn=f"file:{directory / 'dsn'}")
    changes = SqlServerChanges(config, SourceContext(flow="bench", directory=directory))
    with closing(changes):
        tables = changes.describe([_TABLE])
        return changes.source(tables, {_TABLE: TopicBinding(_TABLE)}, until_end=True)


def _pieces(source: Any, state: Any) -> tuple[int, Taken, Any]:
    """Changes that come out of a reader, what they cost from its first question on, and the state behind them."""
    with patch("connectors.sqlserver.source.BackgroundPartition", lambda name, reader, state, **_: (reader, state)):
        open_reader, begun = source.build_part("source", source.list_parts()[0], state)
    reader, count, began = open_reader(begun), 0, (time.process_time(), time.perf_counter())
    with closing(reader):
        for piece in reader.pieces():
            if piece is not None:
                count += sum(len(item) for item in piece.items)
                state = piece.state
    return count, Taken(time.process_time() - began[0], time.perf_counter() - began[1]), state


def _bare(dsn: str) -> tuple[int, float]:
    """Rows of the change table that the driver fetches, and the seconds."""
    import pyodbc

    from connectors.sqlserver import sql

    columns = [sql.Selected(name) for name in _NAMES]
    statement = sql.changes(_INSTANCE, columns, 1 << 30, sql.AFTER_LSN)
    with closing(pyodbc.connect(dsn, autocommit=True)) as connection:
        began, count = time.perf_counter(), 0
        cursor = connection.execute(statement, bytes(10), b"\xff" * 10)
        while rows := cursor.fetchmany(4096):
            count += len(rows)
        return count, time.perf_counter() - began


def sqlserver_changes(items: int, pairs: int, processes: int) -> Result:
    """Changes a second; equal where each of them came out once."""
    try:
        from tests.doubles.sqlserver import SqlServerDouble
    except ModuleNotFoundError:
        raise SystemExit("bench: sqlserver-changes needs the double in tests/: run it in a checkout") from None

    rates, equal, peak_mb = [], True, 0.0
    with tempfile.TemporaryDirectory(prefix="sqlserver-") as text, SqlServerDouble(Path(text)) as server:
        with closing(server.connect()) as connection:
            for statement in _DDL:
                connection.execute(statement)
            _, _, state = _pieces(_source(server.odbc(), Path(text)), None)  # the snapshot of the empty table
            changes = fill(connection, min(items, CHANGES_MAX))
        for _ in range(pairs):
            rows, bare_s = _bare(server.odbc())
            with MemoryProbe(os.getpid()) as probe:
                count, taken, _ = _pieces(_source(server.odbc(), Path(text)), state)
            equal, peak_mb = equal and count == changes, max(peak_mb, probe.peak_mb)
            rates.append(count / taken.wall_s)
            print(
                f"  sqlserver-changes: driver and double alone {rows / bare_s:,.0f} rows/s", file=sys.stderr, flush=True
            )
            say("sqlserver-changes", count, "changes", {"connector": taken})
    rate = sorted(rates)[len(rates) // 2]
    return Result("sqlserver-changes", rate, "changes/s", "aim", AIM, rate / AIM, peak_mb, equal)
