"""Windows that close over a table that is read by RFC: its one partition tells the time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg

from flows import json_file
from flows.testing import run_flow
from tests.connectors.sap_rfc_parts import ENVIRONMENT, Sales
from tests.doubles.sap_rfc.standard import CLIENT, Field

WINDOW = """
[[step]]
window = "ZVISIT"
by = ["AUART"]
time = "AT"
size = "1h"
aggregate = { orders = "count(*)" }
emit = "final"
as = "hourly"
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
"""
VISITS = [CLIENT, Field("VBELN", "CHAR", 10, key=True), Field("AUART", "CHAR", 4), Field("AT", "DEC", 15)]
COLUMNS = 'key = ["VBELN"]\ncolumns = { VBELN = "string", AUART = "string", AT = "timestamp" }\n'


def found(dsn: str) -> list[tuple[object, ...]]:
    """The windows that are closed."""
    with psycopg.connect(dsn, autocommit=True) as target:
        if target.execute("SELECT to_regclass('hourly')").fetchone() == (None,):
            return []
        return target.execute('SELECT "AUART", window_start::time::text, orders FROM hourly ORDER BY 2').fetchall()


def test_windows_close(postgres: str, tmp_path: Path) -> None:
    """Rows of the snapshot close nothing; changes close the windows behind them, one of which stays open."""
    sales = Sales(tmp_path)
    sales.system.add_table("ZVISIT", VISITS, object_class="ZVISIT")
    file = sales.pipeline("ZVISIT", extra=COLUMNS, sink=WINDOW)
    # a change document of the last minutes would name it again, as a change
    sales.system.write({"ZVISIT": [_visit(0, "120000")]}, documents=False)
    rows = [_visit(1, "081000"), _visit(2, "085000"), _visit(3, "091000"), _visit(4, "100500")]
    live(file, postgres, lambda: _written(sales, tmp_path, rows) and len(found(postgres)) == 2)
    assert found(postgres) == [("TA", "08:00:00", 2), ("TA", "09:00:00", 1)]


def _visit(number: int, clock: str) -> dict[str, str]:
    return {"VBELN": f"{number:010d}", "AUART": "TA", "AT": f"20260302{clock}"}


def _written(sales: Sales, directory: Path, rows: list[dict[str, str]]) -> bool:
    """Write the rows, once the snapshot has been read."""
    read = json_file.read(directory / "state" / "run" / "worker-0.json", {"events": 0})["events"]
    if rows and read:
        sales.system.write({"ZVISIT": rows})
        rows.clear()
    return not rows


def live(file: Path, dsn: str, ready: Callable[[], bool]) -> None:
    """Run until that is so, and then kill."""
    environment = {"WAREHOUSE_DSN": dsn, **ENVIRONMENT}
    flow = f"flows.build:flow({str(file)!r})"
    run_flow(flow, file.parent, kill_after_s=0.5, ready=ready, environment=environment)
