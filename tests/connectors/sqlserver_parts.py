"""A database of the SQL Server double as the sources' contract wants one, followed in one mode through one driver."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import pyodbc

from tests.connectors.contract_source import IDLE, TABLE, Followed, Rows
from tests.doubles.sqlserver import SqlServerDouble, drivers

DRIVERS = sorted(drivers())
WAYS = [("cdc", driver) for driver in DRIVERS] + [("change_tracking", DRIVERS[-1])]
_NUMBERS = count()
_ROWS_MAX = 100


class SqlServerSystem:
    """A database of its own, followed in one mode through one driver."""

    def __init__(self, server: SqlServerDouble, directory: Path, mode: str, driver: str) -> None:
        self._server, self._directory, self._mode, self._driver = server, directory, mode, driver
        self._database = f"erp{next(_NUMBERS)}"
        server.create_database(self._database)
        self._connection = server.connect(driver, self._database, autocommit=False)
        self._turn = Lock()
        self.run("ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON")
        self.run("EXEC sys.sp_cdc_enable_db" if mode == "cdc" else "ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON")
        columns = "id int NOT NULL PRIMARY KEY, name nvarchar(max) NULL, price decimal(18,4) NULL"
        for name in (TABLE, IDLE):
            self.run(f"CREATE TABLE dbo.{name} ({columns})")
            if mode == "cdc":
                table = f"@source_schema = N'dbo', @source_name = N'{name}', @role_name = NULL"
                self.run(f"EXEC sys.sp_cdc_enable_table {table}")
            else:
                self.run(f"ALTER TABLE dbo.{name} ENABLE CHANGE_TRACKING")

    @property
    def dsn(self) -> str:
        """The ODBC connection string."""
        return self._server.odbc(self._driver, self._database)

    def run(self, *statements: str) -> None:
        """Statements, committed together."""
        with self._turn:
            for statement in statements:
                self._connection.execute(statement)
            self._connection.commit()

    def close(self) -> None:
        """End the writer's connection."""
        self._connection.close()

    def pipeline(self, sink: str = "[sink.null]\n", **settings: object) -> Path:
        text = 'name = "ms"\ntables = ["dbo.items", "dbo.idle"]\n[source.sqlserver]\ndsn = "env:ERP_DSN"\n'
        text += f'mode = "{self._mode}"\npoll_s = 0.02\n'
        text += "".join(f"{name} = {value}\n" for name, value in settings.items())
        file = self._directory / "ms.toml"
        file.write_text(text + sink, "utf-8")
        return file

    def write(self, rows: Rows, deleted: tuple[int, ...] = ()) -> None:
        there = self.rows().keys()
        if len(deleted) == 1 and len(rows) == 1:
            ((number, name, price),) = rows.values()
            statements = [_update(f"id = {number}, {_assigned(name, price)}", deleted[0])]
        else:
            statements = [f"DELETE FROM dbo.items WHERE id IN ({', '.join(map(str, deleted))})"] if deleted else []
            statements += [
                _update(_assigned(name, price), number)
                for number, name, price in rows.values()
                if number in there and number not in deleted
            ]
            new = [_tuple(row) for row in rows.values() if row[0] not in there or row[0] in deleted]
            for first in range(0, len(new), _ROWS_MAX):
                listed = ", ".join(new[first : first + _ROWS_MAX])
                statements.append(f"INSERT INTO dbo.items (id, name, price) VALUES {listed}")
        self.run(*statements)
        if self._mode == "cdc":
            self.run("EXEC sys.sp_cdc_scan")  # a run to the end would end before the capture job comes

    def rows(self) -> Rows:
        with self._turn:
            found = self._connection.execute("SELECT id, name, price FROM dbo.items").fetchall()
            self._connection.commit()
        return {key: (key, name, price) for key, name, price in found}


def _text(value: object) -> str:
    return "NULL" if value is None else "N'{}'".format(str(value).replace("'", "''"))


def _assigned(name: object, price: object) -> str:
    return f"name = {_text(name)}, price = {_text(price)}"


def _tuple(row: tuple[object, ...]) -> str:
    return f"({row[0]}, {_text(row[1])}, {_text(row[2])})"


def _update(assigned: str, key: int) -> str:
    return f"UPDATE dbo.items SET {assigned} WHERE id = {key}"


def asked(system: SqlServerSystem, statement: str) -> list[tuple[Any, ...]]:
    """Rows of a query."""
    with closing(pyodbc.connect(system.dsn, autocommit=True)) as connection:
        return [tuple(row) for row in connection.execute(statement).fetchall()]


def equal(followed: Followed, system: SqlServerSystem) -> None:
    """Wait until the target has what the table has."""
    followed.until(lambda: followed.rows() == system.rows())


def cleaned(system: SqlServerSystem, *tables: str) -> None:
    """Run the cleanup job: changes before the newest LSN go."""
    with closing(pyodbc.connect(system.dsn, autocommit=True)) as connection:
        newest = connection.execute("SELECT sys.fn_cdc_get_max_lsn()").fetchval()
        for table in tables:
            connection.execute(
                "EXEC sys.sp_cdc_cleanup_change_table @capture_instance = ?, @low_water_mark = ?",
                f"dbo_{table}", newest,
            )  # fmt: skip
