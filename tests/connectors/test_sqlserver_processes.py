"""SQL Server through real processes into a real PostgreSQL: killed while a column comes, windows that close.

The ODBC driver and the wire are real; behind them is the double of tests/doubles/sqlserver.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from flows import json_file
from flows.testing import run_flow
from tests.connectors.contract_source import some_rows
from tests.connectors.sqlserver_parts import SqlServerSystem, asked

_SINK = '[sink.postgres]\ndsn = "env:TARGET_DSN"\n'


def _found(dsn: str, query: str) -> list[tuple[Any, ...]]:
    """Rows of a query at the target; none while there is no such table or column."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            return list(connection.execute(query))  # type: ignore[arg-type]
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn):
            return []


def test_killed_while_capture_instances_rotate(captured: SqlServerSystem, postgres: str, tmp_path: Path) -> None:
    """kill -9 once a second instance is made, and in the middle of the gap's filling: the new column is whole."""
    captured.write(some_rows(Random(1), 0, 1500))
    file = captured.pipeline(_SINK, capture_instances='"made"', batch_rows_max=60, chunk_rows=60)
    guardian = "[source.sqlserver.guardian]\nrows_per_second_max = 1500\n"  # so that the filling has a middle
    file.write_text(file.read_text("utf-8").replace(_SINK, guardian + _SINK), "utf-8")
    environment = {"TARGET_DSN": postgres}
    flow = f"flows.build:flow('{file}')"

    def instances() -> list[str]:
        text = "SELECT capture_instance FROM cdc.change_tables WHERE capture_instance LIKE 'dbo_items%'"
        return [name for (name,) in asked(captured, text)]

    def extended() -> bool:
        if _found(postgres, "SELECT count(*) FROM items") != [(1500,)]:
            return False
        if len(instances()) == 1 and not asked(captured, "SELECT 1 FROM sys.columns WHERE name = N'extra'"):
            captured.run("ALTER TABLE dbo.items ADD extra int NULL")
            captured.run("UPDATE dbo.items SET extra = id * 2")  # nobody captures this value
        return len(instances()) == 2

    def partly_filled() -> bool:
        return 0 < (_found(postgres, "SELECT count(extra) FROM items") or [(0,)])[0][0] < 1500

    killed = run_flow(flow, tmp_path, environment=environment, kill_after_s=0.0, ready=extended)
    assert "dbo_items_2" in instances()
    captured.run("UPDATE dbo.items SET extra = 7 WHERE id = 40", "DELETE FROM dbo.items WHERE id = 41")
    killed += run_flow(flow, tmp_path, environment=environment, kill_after_s=0.0, ready=partly_filled)
    assert partly_filled()
    captured.run("UPDATE dbo.items SET extra = 8 WHERE id = 1499", "UPDATE dbo.items SET id = 5000 WHERE id = 42")
    captured.run("EXEC sys.sp_cdc_scan")
    ended = run_flow(f"flows.build:flow('{file}', until_end=True)", tmp_path, processes=2, environment=environment)
    assert (killed, ended) == ([-9, -9], [0, 0]), (tmp_path / "process-0.log").read_text()[-3000:]
    query = "SELECT id, name, price, extra FROM {}items"
    assert sorted(_found(postgres, query.format(""))) == sorted(asked(captured, query.format("dbo.")))
    assert sum(row[3] is not None for row in _found(postgres, query.format(""))) == 1499


_HOURLY = """
name = "hourly"
[source.sqlserver]
dsn = "env:ERP_DSN"
poll_s = 0.02
[tables.orders]
topic = "dbo.orders"
[[step]]
window = "orders"
by = ["shop"]
time = "at"
size = "1h"
aggregate = { orders = "count(*)" }
emit = "final"
as = "hourly"
"""


def test_windows_close_over_a_table(captured: SqlServerSystem, postgres: str, tmp_path: Path) -> None:
    """Rows of the snapshot close nothing, changes do, each window once, across a kill -9; a late row lies beside."""
    captured.run("CREATE TABLE dbo.orders (id int NOT NULL PRIMARY KEY, shop nvarchar(9) NOT NULL, at datetime2(3))")
    captured.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'orders', @role_name = NULL")
    file = tmp_path / "hourly.toml"
    file.write_text(_HOURLY + _SINK, "utf-8")
    environment = {"TARGET_DSN": postgres}
    numbers = iter(range(1, 99))

    def order(at: str) -> None:
        captured.run(f"INSERT INTO dbo.orders VALUES ({next(numbers)}, N'a', '2026-03-02 {at}')")

    def closed() -> list[tuple[Any, ...]]:
        return _found(postgres, "SELECT window_start, orders FROM hourly ORDER BY 1")

    order("08:10")
    coming = ["08:50", "09:10", "10:05"]

    def hours() -> bool:
        if coming and json_file.read(tmp_path / "state" / "run" / "worker-0.json", {"events": 0})["events"]:
            order(coming.pop(0))  # behind the snapshot
        return len(closed()) == 2

    def late() -> bool:
        return len(closed()) == 3 and _found(postgres, "SELECT count(*) FROM hourly_late") == [(1,)]

    flow = f"flows.build:flow('{file}')"
    assert run_flow(flow, tmp_path, environment=environment, kill_after_s=0.5, ready=hours) == [-9]
    for at in ("08:20", "11:00"):
        order(at)
    assert run_flow(flow, tmp_path, environment=environment, kill_after_s=0.5, ready=late) == [-9]
    assert closed() == [(datetime(2026, 3, 2, hour), count) for hour, count in ((8, 2), (9, 1), (10, 1))]
