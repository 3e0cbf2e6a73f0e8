"""The page of SQL Server, with the double as the server."""

from __future__ import annotations

from pathlib import Path

from tests.connectors.test_source_pages import run_page
from tests.doubles.sqlserver import SqlServerDouble


def test_what_the_page_says_works(postgres: str, tmp_path: Path) -> None:
    """Its commands, in their order, as a reader would type them: both verifications find all equal."""
    with SqlServerDouble(tmp_path / "server") as server:
        assert run_page("sqlserver", tmp_path, {"WAREHOUSE_DSN": postgres, "ERP_DSN": server.odbc()}) == 2
