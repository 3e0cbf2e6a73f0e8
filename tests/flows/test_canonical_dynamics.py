"""flows/pipelines/erp/dynamics.toml as it stands, over real ODBC from the double of SQL Server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyodbc
import pytest

from flows import spec
from flows.spec import TableSpec
from tests.doubles.sqlserver import SqlServerDouble
from tests.flows.canonical import Business
from tests.flows.erp_flows import PIPELINES
from tests.flows.test_canonical_sources import Row, follow, key_of, kinds


class Dynamics:
    """On the double of SQL Server, with change data capture."""

    TYPES: Mapping[str, str] = {
        "string": "nvarchar(60)", "int64": "bigint", "int32": "int", "timestamp": "datetime",
        "decimal(15,3)": "numeric(32,6)", "decimal(18,3)": "numeric(32,6)",
    }  # fmt: skip

    def __init__(self, connection: pyodbc.Connection, tables: Mapping[str, TableSpec]) -> None:
        self._connection, self._tables = connection, tables
        connection.execute("ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON")
        connection.execute("EXEC sys.sp_cdc_enable_db")
        for settings in tables.values():
            name, key = str(settings.topic), settings.key or ()
            columns = [
                f"{column} {self.TYPES[kind]} {'NOT NULL' if column in key else 'NULL'}"
                for column, kind in kinds(settings).items()
            ]
            connection.execute(f"CREATE TABLE {name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(key)}))")
            connection.execute(
                f"EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'{name.partition('.')[2]}', "
                "@role_name = NULL"
            )

    def write(self, table: str, rows: Sequence[Row], deleted: Sequence[Row]) -> None:
        """See Erp; an update is a delete and an insert of one transaction."""
        settings = self._tables[table]
        where = " AND ".join(f"{name} = ?" for name in settings.key or ())
        self._connection.autocommit = False
        for row in [*rows, *deleted]:
            self._connection.execute(f"DELETE FROM {settings.topic} WHERE {where}", *key_of(settings, row))
        for row in rows:
            marks = ", ".join("?" * len(row))
            self._connection.execute(f"INSERT INTO {settings.topic} ({', '.join(row)}) VALUES ({marks})", *row.values())
        self._connection.commit()
        self._connection.autocommit = True
        self._connection.execute("EXEC sys.sp_cdc_scan")


def test_dynamics_by_change_tables(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dynamics.toml over a real ODBC driver and the double of SQL Server gives the business's tables."""
    tables = spec.load(PIPELINES / "erp" / "dynamics.toml").tables
    with SqlServerDouble(tmp_path / "server") as server:
        monkeypatch.setenv("DYNAMICS_DSN", server.odbc())
        erp = Dynamics(server.connect(), tables)
        assert follow("dynamics", tmp_path, erp, Business.dynamics, postgres, source__sqlserver__poll_s=0.05) > 150
