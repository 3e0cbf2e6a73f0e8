"""Windows that close over a table that is read by RFC: its one partition tells the time."""

from __future__ import annotations

from pathlib import Path

from tests.connectors.sap_rfc_parts import ENVIRONMENT, Sales
from tests.connectors.window_parts import closed, has_read, hourly, run_until
from tests.doubles.sap_rfc.standard import CLIENT, Field

BY = "AUART"
VISITS = [CLIENT, Field("VBELN", "CHAR", 10, key=True), Field("AUART", "CHAR", 4), Field("AT", "DEC", 15)]
COLUMNS = 'key = ["VBELN"]\ncolumns = { VBELN = "string", AUART = "string", AT = "timestamp" }\n'


def test_windows_close(postgres: str, tmp_path: Path) -> None:
    """Rows of the snapshot close nothing; changes close the windows behind them, one of which stays open."""
    sales = Sales(tmp_path)
    sales.system.add_table("ZVISIT", VISITS, object_class="ZVISIT")
    file = sales.pipeline("ZVISIT", extra=COLUMNS, sink=hourly("ZVISIT", BY, "AT"))
    # a change document of the last minutes would name it again, as a change
    sales.system.write({"ZVISIT": [_visit(0, "120000")]}, documents=False)
    rows = [_visit(1, "081000"), _visit(2, "085000"), _visit(3, "091000"), _visit(4, "100500")]
    run_until(file, postgres, lambda: _written(sales, tmp_path, rows) and len(closed(postgres, BY)) == 2, **ENVIRONMENT)
    assert closed(postgres, BY) == [("TA", "08:00:00", 2), ("TA", "09:00:00", 1)]


def _visit(number: int, clock: str) -> dict[str, str]:
    return {"VBELN": f"{number:010d}", "AUART": "TA", "AT": f"20260302{clock}"}


def _written(sales: Sales, directory: Path, rows: list[dict[str, str]]) -> bool:
    """Write the rows, once the snapshot has been read."""
    if rows and has_read(directory):
        sales.system.write({"ZVISIT": rows})
        rows.clear()
    return not rows
