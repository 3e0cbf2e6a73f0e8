"""One double of SQL Server for all tests of it, a database of its own for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from ctypes.util import find_library
from itertools import count
from typing import TYPE_CHECKING

import pytest

from tests.doubles.sqlserver import SqlServerDouble, drivers

if TYPE_CHECKING:
    import pyodbc

DRIVERS = sorted(drivers())
# pyodbc finds drivers through the machine's ODBC library
collect_ignore = (
    [] if find_library("odbc") else ["test_sqlserver_capture.py", "test_sqlserver_rights.py", "test_sqlserver_sql.py"]
)
_NUMBERS = count()


@pytest.fixture(scope="session")
def sql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqlServerDouble]:
    """A running double; ask for `database` unless the server itself is what you test."""
    with SqlServerDouble(tmp_path_factory.mktemp("sqlserver")) as double:
        yield double


@pytest.fixture
def database(sql_server: SqlServerDouble) -> str:
    """The name of an empty database with change data capture, change tracking and snapshot isolation allowed."""
    name = f"test{next(_NUMBERS)}"
    sql_server.create_database(name)
    with closing(sql_server.connect(database=name)) as connection:
        connection.execute("ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION ON")
        connection.execute("ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON")
        connection.execute("EXEC sys.sp_cdc_enable_db")
    return name


@pytest.fixture(params=DRIVERS)
def connection(
    request: pytest.FixtureRequest, sql_server: SqlServerDouble, database: str
) -> Iterator[pyodbc.Connection]:
    """A connection to it through each ODBC driver there is."""
    with closing(sql_server.connect(request.param, database)) as made:
        yield made
