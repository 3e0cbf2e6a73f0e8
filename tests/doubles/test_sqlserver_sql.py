"""The double's T-SQL over real drivers: queries, types, transactions, change tracking, and clients that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from threading import Event, Thread
from typing import Any

import pyodbc
import pytest

from tests.doubles.conftest import DRIVERS
from tests.doubles.sqlserver import SqlServerDouble

Rows = list[tuple[Any, ...]]


def _ask(connection: pyodbc.Connection, query: str, *values: object) -> Rows:
    return [tuple(row) for row in connection.execute(query, *values).fetchall()]


_LITERALS = [
    ("decimal(38,10)", "-1234567890123456789012345678.0123456789", Decimal("-1234567890123456789012345678.0123456789")),
    ("money", "-922337203685477.5808", Decimal("-922337203685477.5808")),
    ("datetime2(7)", "9999-12-31 23:59:59.9999999", "9999-12-31 23:59:59.9999999"),
    ("datetimeoffset(7)", "0001-01-02 00:00:00.0000001 +14:00", "0001-01-02 00:00:00.0000001 +14:00"),
    ("time(7)", "23:59:59.9999999", "23:59:59.9999999"),
    ("datetime", "2026-01-02 03:04:05.998", datetime(2026, 1, 2, 3, 4, 5, 997000)),
    ("smalldatetime", "2026-01-02 03:04:31", datetime(2026, 1, 2, 3, 5)),
    ("date", "0001-01-01", date(1, 1, 1)),
    ("uniqueidentifier", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "6F9619FF-8B86-D011-B42D-00C04FC964FF"),
    ("nvarchar(10)", "ü€😀", "ü€😀"), ("nvarchar(max)", "x€" * 100_000, "x€" * 100_000), ("nvarchar(max)", "", ""),
    ("xml", "<a>ü</a>", "<a>ü</a>"), ("hierarchyid", "/1/2.5/", "/1/2.5/"), ("char(4)", "a", "a   "),
    ("tinyint", "255", 255), ("bigint", "-9223372036854775808", -(1 << 63)), ("bit", "1", True),
    ("float", "1.7976931348623157e308", 1.7976931348623157e308), ("real", "0.5", 0.5),
]  # fmt: skip
_AS_TEXT = ("datetime2", "datetimeoffset", "time", "hierarchyid", "xml", "uniqueidentifier")


def test_values_of_each_type(connection: pyodbc.Connection) -> None:
    """A value of each type, and NULL beside it, comes back exactly from the table and from its change table."""
    columns = ", ".join(f"c{at} {kind} NULL" for at, (kind, _, _) in enumerate(_LITERALS))
    connection.execute(f"CREATE TABLE dbo.v (id int NOT NULL PRIMARY KEY, {columns})")
    connection.execute("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'v', @role_name = NULL")
    given = ", ".join(f"N'{text}'" for _, text, _ in _LITERALS)
    connection.execute(f"INSERT INTO dbo.v VALUES (1, {given})")
    connection.execute("INSERT INTO dbo.v (id) VALUES (2)")
    connection.execute("EXEC sys.sp_cdc_scan")
    listed = ", ".join(
        f"CONVERT(nvarchar(max), c{at})" if kind.startswith(_AS_TEXT) else f"c{at}"
        for at, (kind, _, _) in enumerate(_LITERALS)
    )
    wanted = [tuple(value for _, _, value in _LITERALS), (None,) * len(_LITERALS)]
    assert _ask(connection, f"SELECT {listed} FROM dbo.v ORDER BY id") == wanted
    assert _ask(connection, f"SELECT {listed} FROM cdc.dbo_v_CT ORDER BY [__$start_lsn]") == wanted


@pytest.mark.parametrize("characters", [1, 2000])
def test_parameters_keep_their_values(connection: pyodbc.Connection, characters: int) -> None:
    """What a driver sends as a parameter arrives as it is: decimals, moments, texts with surrogates, bytes, NULL."""
    moment = datetime(2026, 1, 2, 3, 4, 5)  # FreeTDS sends no fraction of its seconds
    for many in (1, characters):  # the second time the same statement has longer parameters
        values = (Decimal("-12.3400"), moment, "😀" * many, b"\0\xff" * many, None, 1 << 40, 0.1)
        ((*found,),) = _ask(connection, f"SELECT {', '.join('?' * len(values))}", *values)
        assert tuple(found) == values


def test_a_long_parameter(sql_server: SqlServerDouble, database: str) -> None:
    """A text of any length is a parameter of a MAX type; FreeTDS cuts those off, so Microsoft's driver is asked."""
    with closing(sql_server.connect(DRIVERS[-1], database)) as connection:
        characters = 4000 if DRIVERS[-1] == "freetds" else 2_000_000
        assert _ask(connection, "SELECT DATALENGTH(?)", "€" * characters) == [(2 * characters,)]


def test_queries(connection: pyodbc.Connection) -> None:
    """Joins, subqueries, common tables, TOP, CASE, grouping and functions give what T-SQL gives."""
    connection.execute(
        "CREATE TABLE dbo.a (id int NOT NULL PRIMARY KEY, [Name] nvarchar(20) NULL, p decimal(9,2) NULL)"
    )
    connection.execute("INSERT INTO dbo.a VALUES (1, N'one', 1.10), (2, N'TWO', 2.20), (3, NULL, 10)")
    for query, wanted in (
        ("SELECT TOP (2) id FROM dbo.a ORDER BY p DESC", [(3,), (2,)]),
        ("SELECT x.id, y.id FROM dbo.a x JOIN a AS y ON y.id = x.id + 1 ORDER BY x.id", [(1, 2), (2, 3)]),
        ("SELECT id FROM dbo.a WHERE name = N'two '", [(2,)]),  # case and blanks at the end do not count
        ("SELECT id FROM dbo.a WHERE p > 2 AND p < 11 ORDER BY id", [(2,), (3,)]),
        ("SELECT [Name] + N'!' FROM dbo.a WHERE id IN (SELECT MIN(id) FROM dbo.a)", [("one!",)]),
        ("SELECT CASE WHEN Name IS NULL THEN 0 ELSE LEN(Name) END FROM dbo.a ORDER BY id", [(3,), (3,), (0,)]),
        ("WITH q (n) AS (SELECT COUNT(*) FROM dbo.a WHERE p <> 1.1) SELECT n + 1, ISNULL(NULL, n) FROM q", [(3, 2)]),
        ("SELECT MAX(q.p) FROM (SELECT TOP (2) * FROM dbo.a ORDER BY id) AS q", [(Decimal("2.20"),)]),
        ("SELECT p + 1, p * 2 FROM a WHERE id = 3", [(Decimal("11.00"), Decimal("20.00"))]),
        ("SELECT a.id FROM dbo.a WHERE EXISTS (SELECT 1 FROM dbo.a b WHERE b.id = a.id + 2)", [(1,)]),
        ("DECLARE @n int = 2; SELECT @n = @n + id FROM a WHERE id = 3; SELECT @n, @@TRANCOUNT", [(5, 0)]),
        ("SELECT c.name, t.name FROM sys.columns c JOIN sys.types t ON t.user_type_id = c.user_type_id "
         "WHERE c.object_id = OBJECT_ID(N'[dbo].[a]') ORDER BY column_id",
         [("id", "int"), ("Name", "nvarchar"), ("p", "decimal")]),
        ("SELECT index_id, rows FROM sys.partitions WHERE object_id = OBJECT_ID(N'dbo.a')", [(1, 3)]),
        ("SELECT SUM([rows]) FROM sys.partitions WHERE object_id = OBJECT_ID(N'dbo.none')", [(None,)]),
    ):  # fmt: skip
        assert _ask(connection, query) == wanted, query


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("SELECT * FROM dbo.nothing", 208), ("SELECT missing FROM sys.tables", 207), ("SELECT NOTHING_SUCH(1)", 195),
        ("SELECT FROM WHERE", 102), ("EXEC sys.sp_nothing", 2812), ("SELECT @x", 137), ("COMMIT", 3902),
        ("SELECT CONVERT(tinyint, 256)", 8115), ("SELECT CONVERT(int, N'x')", 245),
        ("SELECT CONVERT(date, N'2026-02-30')", 241),
        ("EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'x'", 22931),
    ],
)  # fmt: skip
def test_errors_have_the_servers_numbers(connection: pyodbc.Connection, query: str, number: int) -> None:
    """What fails on SQL Server fails here under the same number, and the connection lives on."""
    with pytest.raises(pyodbc.Error, match=rf"\({number}\)"):
        connection.execute(query).fetchall()
    assert _ask(connection, "SELECT 1") == [(1,)]


def test_a_snapshot_stands_still(connection: pyodbc.Connection, sql_server: SqlServerDouble, database: str) -> None:
    """A transaction under SNAPSHOT sees one moment while others commit; without leave to it, it is error 3952."""
    connection.execute("CREATE TABLE dbo.s (id int NOT NULL PRIMARY KEY)")
    with closing(sql_server.connect(database=database)) as writer:
        connection.execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
        connection.execute("BEGIN TRANSACTION")
        assert _ask(connection, "SELECT COUNT(*) FROM dbo.s") == [(0,)]
        writer.execute("INSERT INTO dbo.s VALUES (1)")
        assert _ask(connection, "SELECT COUNT(*) FROM dbo.s") == [(0,)]
        with pytest.raises(pyodbc.Error, match="3960"):
            connection.execute("DELETE FROM dbo.s")
        assert _ask(connection, "SELECT COUNT(*) FROM dbo.s") == [(1,)]
        writer.execute("ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION OFF")
        with pytest.raises(pyodbc.Error, match="3952"):
            _ask(connection, "SELECT COUNT(*) FROM dbo.s")


def test_change_tracking_is_never_ahead_of_its_version(sql_server: SqlServerDouble, database: str) -> None:
    """Of the versions of one snapshot, changes behind the last one read are exactly those up to the current one."""
    with closing(sql_server.connect(database=database)) as reader:
        reader.execute("CREATE TABLE dbo.k (id int NOT NULL PRIMARY KEY)")
        reader.execute("ALTER TABLE dbo.k ENABLE CHANGE_TRACKING")
        done = Event()

        def write() -> None:
            with closing(sql_server.connect(database=database)) as writer:
                for number in range(60):
                    writer.execute("INSERT INTO dbo.k VALUES (?)", number)
            done.set()

        thread = Thread(target=write)
        thread.start()
        reader.execute("SET TRANSACTION ISOLATION LEVEL SNAPSHOT")
        last, ended = 0, False
        while not ended:
            ended = done.is_set()
            reader.execute("BEGIN TRANSACTION")
            ((version,),) = _ask(reader, "SELECT CHANGE_TRACKING_CURRENT_VERSION()")
            query = f"SELECT c.SYS_CHANGE_VERSION FROM CHANGETABLE(CHANGES dbo.k, {last}) AS c ORDER BY 1"
            assert [row[0] for row in _ask(reader, query)] == list(range(last + 1, version + 1))
            reader.execute("COMMIT TRANSACTION")
            last = version
        thread.join()
    assert last == 60


def test_change_tracking_tells_the_net_change(connection: pyodbc.Connection) -> None:
    """Each changed key comes once with what became of it; what was cleaned up is known by the oldest valid version."""
    connection.execute("CREATE TABLE dbo.k (id int NOT NULL PRIMARY KEY, n int)")
    connection.execute("INSERT INTO dbo.k VALUES (1, 1), (2, 2)")
    connection.execute("ALTER TABLE dbo.k ENABLE CHANGE_TRACKING WITH (TRACK_COLUMNS_UPDATED = ON)")
    connection.execute("UPDATE dbo.k SET n = 5 WHERE id = 1; DELETE FROM dbo.k WHERE id = 2")
    connection.execute("INSERT INTO dbo.k VALUES (3, 3); UPDATE dbo.k SET n = 4 WHERE id = 3")
    connection.execute("UPDATE dbo.k SET id = 9 WHERE id = 3")
    query = "SELECT c.id, c.SYS_CHANGE_OPERATION, t.n FROM CHANGETABLE(CHANGES dbo.k, 0) AS c "
    query += "LEFT JOIN dbo.k t ON t.id = c.id"
    assert sorted(_ask(connection, query)) == [(1, "U", 5), (2, "D", None), (3, "D", None), (9, "I", 4)]
    connection.execute("EXEC sys.sp_flush_CT_internal_table_on_demand N'dbo.k'")
    ((oldest, newest),) = _ask(
        connection, "SELECT CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID(N'dbo.k')), CHANGE_TRACKING_CURRENT_VERSION()"
    )
    assert (oldest, _ask(connection, query)) == (newest, [])
    connection.execute("TRUNCATE TABLE dbo.k")
    asked = "SELECT CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID(N'dbo.k')), CHANGE_TRACKING_CURRENT_VERSION()"
    assert (_ask(connection, asked), _ask(connection, query)) == ([(newest + 1, newest + 1)], [])


_DIES = """
import pyodbc, sys
connection = pyodbc.connect(sys.argv[1], autocommit=False)
connection.execute("INSERT INTO dbo.d VALUES (1)")
print("written", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_killed_client_is_rolled_back(sql_server: SqlServerDouble, database: str, driver: str) -> None:
    """A client killed in its transaction leaves nothing behind, and its lock is free for the next writer."""
    with closing(sql_server.connect(driver, database)) as connection:
        connection.execute("CREATE TABLE dbo.d (id int NOT NULL PRIMARY KEY)")
        arguments = [sys.executable, "-c", _DIES, sql_server.odbc(driver, database)]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            assert client.stdout.readline() == b"written\n"
            assert _ask(connection, "SELECT COUNT(*) FROM dbo.d") == [(0,)]
            os.kill(client.pid, signal.SIGKILL)
        connection.execute("INSERT INTO dbo.d VALUES (1)")
        assert _ask(connection, "SELECT COUNT(*) FROM dbo.d") == [(1,)]


def test_a_restarted_server_goes_on(tmp_path_factory: pytest.TempPathFactory) -> None:
    """After kill -9 of the server: what was committed is there, LSNs go on behind the old ones."""
    with SqlServerDouble(tmp_path_factory.mktemp("restart")) as server:
        with closing(server.connect()) as connection:
            connection.execute("EXEC sys.sp_cdc_enable_db")
            connection.execute("CREATE TABLE dbo.r (id int NOT NULL PRIMARY KEY)")
            connection.execute(
                "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N'r', @role_name = NULL"
            )
            connection.execute("INSERT INTO dbo.r VALUES (1)")
        for number in (2, 3):
            server.stop()
            server.start()
            with closing(server.connect()) as connection:
                connection.execute("INSERT INTO dbo.r VALUES (?)", number)
                connection.execute("EXEC sys.sp_cdc_scan")
                rows = _ask(connection, "SELECT [__$start_lsn], id FROM cdc.dbo_r_CT ORDER BY [__$start_lsn]")
    assert [key for _, key in rows] == [1, 2, 3]
    assert rows[0][0] < rows[1][0] < rows[2][0]


def test_a_query_that_is_given_up(sql_server: SqlServerDouble, database: str) -> None:
    """A query cancelled half-way, by the client or its time limit, ends at once; the connection answers the next."""
    with closing(sql_server.connect(database=database)) as connection:
        cursor = connection.execute("SELECT value, REPLICATE(N'x', 100) FROM GENERATE_SERIES(1, 1000000)")
        assert len(cursor.fetchmany(10)) == 10
        cursor.close()
        assert _ask(connection, "SELECT 2") == [(2,)]
        connection.timeout = 1
        with pytest.raises(pyodbc.Error, match="HYT00"):
            connection.execute("WAITFOR DELAY '00:01:00'")
        assert _ask(connection, "SELECT 3") == [(3,)]
