"""The double's logins: who may do what, and the server's own error numbers for those who may not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pyodbc
import pytest

from tests.doubles.sqlserver import SqlServerDouble, drivers

DRIVERS = sorted(drivers())


@pytest.fixture(params=DRIVERS)
def clerk(
    request: pytest.FixtureRequest, sql_server: SqlServerDouble, database: str
) -> Iterator[tuple[pyodbc.Connection, pyodbc.Connection]]:
    """(a login that has a user and no right, the administrator) of a database with a captured, tracked table."""
    with closing(sql_server.connect(request.param, database)) as administrator:
        for statement in (
            "CREATE TABLE dbo.t (id int NOT NULL PRIMARY KEY)",
            "EXEC sys.sp_cdc_enable_table @source_schema = N'dbo', @source_name = N't', @role_name = NULL",
            "ALTER TABLE dbo.t ENABLE CHANGE_TRACKING",
            "CREATE LOGIN clerk WITH PASSWORD = 'few'",
            "CREATE USER clerk FOR LOGIN clerk",
        ):
            administrator.execute(statement)
        login = sql_server.connect(request.param, database, UID="clerk", PWD="few")
        with closing(login) as connection:
            yield connection, administrator


@pytest.mark.parametrize(
    ("statement", "number", "permission"),
    [
        ("SELECT * FROM dbo.t", 229, "SELECT ON dbo.t"),
        ("SELECT * FROM dbo.t", 229, "SELECT ON SCHEMA::dbo"),
        ("INSERT INTO dbo.t VALUES (1)", 229, "INSERT ON dbo.t"),
        ("UPDATE dbo.t SET id = 2", 229, "UPDATE ON OBJECT::dbo.t"),
        ("DELETE FROM dbo.t", 229, "CONTROL ON dbo.t"),
        ("SELECT * FROM cdc.change_tables", 229, "SELECT ON SCHEMA::cdc"),
        ("SELECT * FROM cdc.dbo_t_CT", 229, "SELECT"),
        ("SELECT * FROM CHANGETABLE(CHANGES dbo.t, 0) AS c", 229, "VIEW CHANGE TRACKING ON dbo.t"),
        ("SELECT * FROM sys.dm_server_services", 300, "VIEW SERVER STATE"),
        ("SELECT * FROM sys.dm_cdc_log_scan_sessions", 262, "VIEW DATABASE STATE"),
        ("SELECT * FROM msdb.dbo.cdc_jobs", 229, "SELECT ON dbo.cdc_jobs"),
    ],
)
def test_a_permission_opens_one_thing(
    clerk: tuple[pyodbc.Connection, pyodbc.Connection], statement: str, number: int, permission: str
) -> None:
    """Refused under the server's number before it is granted, and again once it is revoked."""
    reader, administrator = clerk
    for verb in ("REVOKE {} FROM clerk", "GRANT {} TO clerk", "REVOKE {} FROM clerk"):
        administrator.execute(verb.format(permission))
        if verb.startswith("GRANT"):
            reader.execute(statement)
            continue
        with pytest.raises(pyodbc.Error, match=rf"\({number}\)"):
            reader.execute(statement).fetchall()


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("EXEC sys.sp_cdc_enable_db", 22904), ("CREATE TABLE dbo.u (id int)", 262),
        ("ALTER DATABASE CURRENT SET ALLOW_SNAPSHOT_ISOLATION OFF", 5011),
        ("ALTER TABLE dbo.t DISABLE CHANGE_TRACKING", 4902), ("GRANT SELECT ON dbo.t TO clerk", 15247),
    ],
)  # fmt: skip
def test_only_an_owner_changes_the_database(
    clerk: tuple[pyodbc.Connection, pyodbc.Connection], statement: str, number: int
) -> None:
    """Definitions, procedures and grants are an owner's; a member of db_owner is one."""
    reader, administrator = clerk
    with pytest.raises(pyodbc.Error, match=rf"\({number}\)"):
        reader.execute(statement)
    administrator.execute("ALTER ROLE db_owner ADD MEMBER clerk")
    assert reader.execute("SELECT IS_ROLEMEMBER(N'db_owner')").fetchval() == 1
    if number != 22904:  # what that would make is there already
        reader.execute(statement)


def test_what_may_not_be_seen_is_not_there(clerk: tuple[pyodbc.Connection, pyodbc.Connection]) -> None:
    """The catalogue shows a login its own tables only; an instance's first LSN is zeros to strangers."""
    reader, administrator = clerk
    queries = (
        "SELECT COUNT(*) FROM sys.tables", "SELECT OBJECT_ID(N'dbo.t')",
        "SELECT HAS_PERMS_BY_NAME(N'dbo.t', N'OBJECT', N'SELECT')", "SELECT sys.fn_cdc_get_min_lsn(N'dbo_t')",
    )  # fmt: skip
    assert [reader.execute(query).fetchval() for query in queries] == [0, None, None, bytes(10)]
    administrator.execute("GRANT VIEW DEFINITION ON dbo.t TO clerk")
    assert [reader.execute(query).fetchval() for query in queries[:3]][::2] == [1, 0]
    administrator.execute("GRANT SELECT ON dbo.t TO clerk")
    assert reader.execute(queries[2]).fetchval() == 1
    assert reader.execute(queries[3]).fetchval() > bytes(10)


def test_a_stranger_does_not_come_in(sql_server: SqlServerDouble, database: str) -> None:
    """A wrong password is error 18456, a login without a user in the database 4060."""
    with closing(sql_server.connect(database=database)) as administrator:
        administrator.execute("CREATE LOGIN outsider WITH PASSWORD = 'few'")
    for password, number in (("wrong", 18456), ("few", 4060)):
        with pytest.raises(pyodbc.Error, match=rf"\({number}\)"):
            sql_server.connect(database=database, UID="outsider", PWD=password)
