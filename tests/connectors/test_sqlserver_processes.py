"""SQL Server through real processes into a real PostgreSQL: killed while a column comes, windows that close.

The ODBC driver and the wire are real; behind them is the double of tests/doubles/sqlserver.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from flows.testing import run_flow
from tests.connectors.contract_source import some_rows
from tests.connectors.sqlserver_parts import SqlServerSystem, asked
from tests.connectors.window_parts import closed, found, has_read, hourly, run_until

_SINK = '[sink.postgres]\ndsn = "env:TARGET_DSN"\n'


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
        if found(postgres, "SELECT count(*) FROM items") != [(1500,)]:
            return False
        if len(instances()) == 1 and not asked(captured, "SELECT 1 FROM sys.columns WHERE name = N'extra'"):
            captured.run("ALTER TABLE dbo.items ADD extra int NULL")
            captured.run("UPDATE dbo.items SET extra = id * 2")  # nobody captures this value
        return len(instances()) == 2

    def partly_filled() -> bool:
        return 0 < (found(postgres, "SELECT count(extra) FROM items") or [(0,)])[0][0] < 1500

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
    assert sorted(found(postgres, query.format(""))) == sorted(asked(captured, query.format("dbo.")))
    assert sum(row[3] is not None for row in found(postgres, query.format(""))) == 1499


_HOURLY = """
name = "hourly"
[source.sqlserver]
dsn = "env:ERP_DSN"
poll_s = 0.02
[tables.orders]
topic = "dbo.orders"
"""


def test_windows_close_over_a_table(captured: SqlServerSystem, postgres: str, tmp_path: Path) -> None:
    """Rows of the snapshot close nothing, changes do, each window once, across a kill -9; a late row lies beside."""
    captured.run("CREATE TABLE dbo.orders (id int NOT NULL PRIMARY KEY, shop nvarchar(9) NOT NULL, at datetime2(3))")
    captured.run("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'orders', @role_name = NULL")
    file = tmp_path / "hourly.toml"
    file.write_text(_HOURLY + hourly("orders", "shop", "at"), "utf-8")
    numbers = iter(range(1, 99))

    def order(at: str) -> None:
        captured.run(f"INSERT INTO dbo.orders VALUES ({next(numbers)}, N'a', '2026-03-02 {at}')")

    order("08:10")
    coming = ["08:50", "09:10", "10:05"]

    def hours() -> bool:
        if coming and has_read(tmp_path):
            order(coming.pop(0))  # behind the snapshot
        return len(closed(postgres, "shop")) == 2

    def late() -> bool:
        return len(closed(postgres, "shop")) == 3 and found(postgres, "SELECT count(*) FROM hourly_late") == [(1,)]

    run_until(file, postgres, hours)
    for at in ("08:20", "11:00"):
        order(at)
    run_until(file, postgres, late)
    assert closed(postgres, "shop") == [("a", "08:00:00", 2), ("a", "09:00:00", 1), ("a", "10:00:00", 1)]
