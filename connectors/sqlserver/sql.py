"""Every statement that is sent to SQL Server, and what it answers: this module is read beside its documentation.

Parameters are `?`. Positions in the log (LSN) are binary(10), whose byte order is their order. A session reads under
`SET TRANSACTION ISOLATION LEVEL SNAPSHOT`, so it waits for no writer and no writer waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# -- the session

SET_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL SNAPSHOT"
BEGIN, COMMIT = "BEGIN TRANSACTION", "COMMIT TRANSACTION"

# -- the catalogue

TABLE_NAMES = (
    "SELECT s.[name], t.[name] FROM sys.tables AS t JOIN sys.schemas AS s ON s.[schema_id] = t.[schema_id] "
    "WHERE t.[is_ms_shipped] = 0 AND s.[name] <> N'cdc' ORDER BY s.[name], t.[name]"
)
"""schema, table."""

_DEFINITION = "COALESCE(b.[name], y.[name]), c.[max_length], c.[precision], c.[scale], c.[is_nullable]"
_TYPES = (
    "JOIN sys.types AS y ON y.[user_type_id] = c.[user_type_id] "
    "LEFT JOIN sys.types AS b ON b.[user_type_id] = c.[system_type_id] "
)
COLUMNS = (
    f"SELECT c.[name], c.[is_computed], {_DEFINITION} FROM sys.columns AS c {_TYPES}"
    "WHERE c.[object_id] = OBJECT_ID(?) ORDER BY c.[column_id]"
)
"""Of a table "[schema].[table]": name, is computed, and its definition: the system's type under an alias type, bytes
(-1: max), precision, scale, may be NULL."""

UNIQUE_KEYS = (
    "SELECT i.[index_id], i.[name], c.[name], c.[is_nullable] FROM sys.indexes AS i "
    "JOIN sys.index_columns AS x ON x.[object_id] = i.[object_id] AND x.[index_id] = i.[index_id] "
    "JOIN sys.columns AS c ON c.[object_id] = i.[object_id] AND c.[column_id] = x.[column_id] "
    "WHERE i.[object_id] = OBJECT_ID(?) AND i.[is_unique] = 1 AND i.[has_filter] = 0 AND i.[is_disabled] = 0 "
    "AND x.[is_included_column] = 0 ORDER BY i.[is_primary_key] DESC, i.[index_id], x.[key_ordinal]"
)
"""Of a table: columns of its unique indexes, the primary key first: number and name of the index, column, may be NULL.
"""

TABLE_ROWS = (
    "SELECT SUM(p.[rows]) FROM sys.partitions AS p WHERE p.[object_id] = OBJECT_ID(?) AND p.[index_id] IN (0, 1)"
)
"""Of a table: bigint, about how many rows its heap or its clustered index has; NULL: it may not be seen."""

# -- change data capture

MAX_LSN = "SELECT sys.fn_cdc_get_max_lsn()"
"""binary(10): transactions up to there are captured whole; NULL: nothing was captured yet."""

INSTANCES = (
    "SELECT s.[name], t.[name], c.[capture_instance], sys.fn_cdc_get_min_lsn(c.[capture_instance]), c.[role_name] "
    "FROM [cdc].[change_tables] AS c JOIN sys.tables AS t ON t.[object_id] = c.[source_object_id] "
    "JOIN sys.schemas AS s ON s.[schema_id] = t.[schema_id] "
    "ORDER BY s.[name], t.[name], c.[create_date], c.[capture_instance]"
)
"""schema, table, capture instance, binary(10) from where on its changes are kept, the role that may read it or NULL; a
table's older instance first."""

MIN_LSNS = "SELECT [capture_instance], sys.fn_cdc_get_min_lsn([capture_instance]) FROM [cdc].[change_tables]"
"""capture instance, binary(10)."""

INSTANCE_NAMES = "SELECT [capture_instance] FROM [cdc].[change_tables]"

CAPTURED_COLUMNS = (
    f"SELECT i.[capture_instance], k.[column_name], k.[column_ordinal], {_DEFINITION} "
    "FROM [cdc].[captured_columns] AS k JOIN [cdc].[change_tables] AS i ON i.[object_id] = k.[object_id] "
    "JOIN sys.columns AS c ON c.[object_id] = i.[source_object_id] AND c.[column_id] = k.[column_id] "
    f"{_TYPES}ORDER BY i.[capture_instance], k.[column_ordinal]"
)
"""capture instance, column, its number from 1 on (the bit of the update mask), its definition as above. A column that
the table has lost, or has again under its old name, is NULL in the change table from then on, and not told here."""

UNCAPTURED_COLUMNS = (
    "SELECT s.[name], t.[name], i.[capture_instance], c.[name] FROM [cdc].[change_tables] AS i "
    "JOIN sys.tables AS t ON t.[object_id] = i.[source_object_id] "
    "JOIN sys.schemas AS s ON s.[schema_id] = t.[schema_id] JOIN sys.columns AS c ON c.[object_id] = t.[object_id] "
    "LEFT JOIN [cdc].[captured_columns] AS k ON k.[object_id] = i.[object_id] AND k.[column_id] = c.[column_id] "
    "WHERE k.[column_name] IS NULL AND c.[is_computed] = 0 ORDER BY s.[name], t.[name], c.[column_id]"
)
"""schema, table, capture instance, a column that the instance does not capture."""

COMMITS = (
    "SELECT TOP ({count}) [start_lsn], CONVERT(varchar(23), [tran_end_time], 121) FROM [cdc].[lsn_time_mapping] "
    "WHERE [start_lsn] > ? AND [start_lsn] <= ? AND [tran_id] <> 0x00 ORDER BY [start_lsn]"
)
"""Transactions of a range in order: binary(10), when they were committed by the server's own clock and zone."""

ZONE_MINUTES = "SELECT DATEDIFF(minute, GETUTCDATE(), GETDATE())"
"""int: how far the server's clock is ahead of UTC."""

ENABLE_TABLE = (
    "EXEC sys.sp_cdc_enable_table @source_schema = ?, @source_name = ?, @capture_instance = ?, @role_name = ?, "
    "@supports_net_changes = 0"
)
DISABLE_TABLE = "EXEC sys.sp_cdc_disable_table @source_schema = ?, @source_name = ?, @capture_instance = ?"

# -- change tracking

CURRENT_VERSION = "SELECT CHANGE_TRACKING_CURRENT_VERSION()"
"""bigint: the newest committed change's; NULL: the database is not tracked."""

MIN_VALID_VERSION = "SELECT CHANGE_TRACKING_MIN_VALID_VERSION(OBJECT_ID(?))"
"""bigint: changes behind it are kept; NULL: the table is not tracked, or may not be seen."""

# -- looking over (doctor)

DATABASE = (
    "SELECT [name], [is_cdc_enabled], [snapshot_isolation_state], [is_read_committed_snapshot_on] "
    "FROM sys.databases WHERE [database_id] = DB_ID()"
)
"""name, bit, 0 off 1 on 2, 3 on its way, bit."""

SERVER = (
    "SELECT CONVERT(nvarchar(128), SERVERPROPERTY('ProductVersion')), CONVERT(int, SERVERPROPERTY('EngineEdition')), "
    "SUSER_SNAME(), USER_NAME()"
)
"""version "16.0.4", edition (5: Azure SQL Database, 8: Managed Instance), login, its user in this database."""

IS_OWNER = "SELECT IS_ROLEMEMBER(N'db_owner')"
"""1 or 0."""

CDC_JOBS = (
    "SELECT [job_type], [retention], [pollinginterval], [continuous] FROM msdb.dbo.cdc_jobs "
    "WHERE [database_id] = DB_ID()"
)
"""capture or cleanup, minutes, seconds, bit."""

AGENT = "SELECT [status_desc] FROM sys.dm_server_services WHERE [servicename] LIKE N'SQL Server Agent%'"
"""Running, Stopped."""

CAPTURED_AGE = "SELECT DATEDIFF(second, MAX([tran_end_time]), GETDATE()) FROM [cdc].[lsn_time_mapping]"
"""Seconds since what was captured last: a transaction, or the mark that an idle capture job sets every five minutes;
NULL: nothing was captured yet."""

LOG_SCAN = "SELECT TOP (1) [error_count], [latency] FROM sys.dm_cdc_log_scan_sessions ORDER BY [session_id] DESC"
"""Of the capture job's newest scan: errors, seconds that it lay behind."""

CHANGE_TRACKING = (
    "SELECT [is_auto_cleanup_on], [retention_period], [retention_period_units_desc] "
    "FROM sys.change_tracking_databases WHERE [database_id] = DB_ID()"
)
"""One row where the database is tracked: bit, number, MINUTES, HOURS or DAYS."""

MAY_SELECT = "SELECT HAS_PERMS_BY_NAME(?, N'OBJECT', N'SELECT')"
"""Of "[schema].[table]": 1 or 0; NULL: it is not there, or may not be seen."""

MAY_TRACK = "SELECT HAS_PERMS_BY_NAME(?, N'OBJECT', N'VIEW CHANGE TRACKING')"
"""The same, of change tracking."""


@dataclass(frozen=True)
class Selected:
    """A column in a statement.

    Args:
        name: as in the table.
        form: how it is asked for, `{}` for the column; see connectors/sqlserver/types.py for all forms.
        parameter: what makes its type of a parameter again, `CONVERT(type, ?)`.
    """

    name: str
    form: str = "{}"
    parameter: str = "?"

    def of(self, alias: str = "") -> str:
        """The column in a list of columns."""
        column = f"{alias}.{quote(self.name)}" if alias else quote(self.name)
        return self.form.replace("{}", column)


def quote(name: str) -> str:
    """A name in brackets."""
    return "[" + name.replace("]", "]]") + "]"


def literal(text: str) -> str:
    """A text in quotation marks."""
    return "N'" + text.replace("'", "''") + "'"


def full_name(table: str) -> str:
    """ "dbo.items" -> [dbo].[items]; the schema's name ends at the first dot."""
    schema, _, name = table.partition(".")
    return f"{quote(schema)}.{quote(name)}"


def chunk(
    table: str,
    columns: Sequence[Selected],
    key: Sequence[Selected] = (),
    count: int = 0,
    *,
    behind: bool = False,
    where: str = "",
) -> str:
    """The next rows of a table in the order of its key: the columns.

    Args:
        table: "schema.table". key: what it is ordered by; () for the whole table at once.
        behind: only those behind a key, whose parts are the parameters, as `behind_key` repeats them.
        where: a person's condition, "" for none.
    """
    listed = ", ".join(column.of() for column in columns)
    clause = f" WHERE {_behind(key)}" if behind else ""
    if where:  # on a line of its own: a comment in it shall not reach what stands behind
        clause = f" WHERE ({where}\n)" + (f" AND ({_behind(key)})" if behind else "")
    if not key:
        return f"SELECT {listed} FROM {full_name(table)}{clause}"
    order = ", ".join(quote(column.name) for column in key)
    return f"SELECT TOP ({count}) {listed} FROM {full_name(table)}{clause} ORDER BY {order}"


def _behind(key: Sequence[Selected]) -> str:
    """a > ? OR (a = ? AND b > ?) OR ...: each part's equality before it, so that an index can seek."""
    choices = []
    for index, last in enumerate(key):
        equal = [f"{quote(column.name)} = {column.parameter}" for column in key[:index]]
        choices.append(" AND ".join([*equal, f"{quote(last.name)} > {last.parameter}"]))
    return choices[0] if len(choices) == 1 else " OR ".join(f"({choice})" for choice in choices)


def behind_key(values: Sequence[object]) -> list[object]:
    """A key's values as the parameters of `chunk`."""
    return [value for index in range(len(values)) for value in values[: index + 1]]


CHANGE_COLUMNS = ("__$start_lsn", "__$command_id", "__$seqval", "__$operation", "__$update_mask")
_ORDER = ", ".join(f"[{name}]" for name in CHANGE_COLUMNS[:4])

AFTER_LSN = "[__$start_lsn] > ? AND [__$start_lsn] <= ?"
"""Parameters: an LSN that is read whole, the last LSN wanted."""
AFTER_COMMAND = "[__$start_lsn] = ? AND [__$command_id] > ?"
"""The rest of a transaction. Parameters: its LSN, a command that is read whole."""
AFTER_SEQUENCE = "[__$start_lsn] = ? AND [__$command_id] = ? AND [__$seqval] > ?"
"""The rest of a command. Parameters: the transaction's LSN, the command, a sequence that is read whole."""


def changes(instance: str, columns: Sequence[Selected], count: int, where: str) -> str:
    """The next rows of a change table in commit order: LSN, command, sequence, operation, update mask, the columns.

    LSN and sequence are binary(10), command and operation int (1 delete, 2 insert, 3 before and 4 after an update),
    the mask varbinary(128).

    Args:
        where: one of the three conditions above; each is a range of the change table's own index.
    """
    listed = "".join(f", {column.of()}" for column in columns)
    table = f"[cdc].{quote(instance + '_CT')}"
    return f"SELECT TOP ({count}) {_ORDER}, [{CHANGE_COLUMNS[4]}]{listed} FROM {table} WHERE {where} ORDER BY {_ORDER}"


def tracked_changes(table: str, columns: Sequence[Selected], key: Sequence[Selected], version: int) -> str:
    """What change tracking knows of a table behind a version: I, U or D, the key, then the columns as they are now.

    One row for each key that changed. Of a row that is gone the columns are NULL, but not the key.
    """
    listed = [column.of("c") for column in key] + [column.of("t") for column in columns]
    same = " AND ".join(f"t.{quote(column.name)} = c.{quote(column.name)}" for column in key)
    return (
        f"SELECT c.[SYS_CHANGE_OPERATION], {', '.join(listed)} "
        f"FROM CHANGETABLE(CHANGES {full_name(table)}, {version:d}) AS c LEFT JOIN {full_name(table)} AS t ON {same}"
    )
