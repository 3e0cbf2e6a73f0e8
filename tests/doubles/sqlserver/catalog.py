"""What tables there are: the double's own record of them, and the system views that show it as SQL Server does."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from tests.doubles.sqlserver.types import SqlType, parse_type

SCHEMA = """
CREATE TABLE "double.settings" (name TEXT PRIMARY KEY, value);
CREATE TABLE "double.objects" (object_id INTEGER PRIMARY KEY AUTOINCREMENT, "schema" TEXT, name TEXT COLLATE words,
    key TEXT UNIQUE, is_ms_shipped INTEGER, tracked INTEGER, create_date TEXT);
CREATE TABLE "double.columns" (object_id INTEGER, column_id INTEGER, name TEXT COLLATE words, kind TEXT,
    is_nullable INTEGER, is_computed INTEGER, encoded INTEGER, initial TEXT, key_ordinal INTEGER, user_type_id INTEGER,
    system_type_id INTEGER, max_length INTEGER, precision INTEGER, scale INTEGER, PRIMARY KEY (object_id, column_id));
CREATE TABLE "double.transactions" (number INTEGER PRIMARY KEY, first INTEGER, begun TEXT, ended TEXT);
CREATE TABLE "double.dropped" (object_id INTEGER, column_id INTEGER);
CREATE TABLE "double.indexes" (object_id INTEGER, index_id INTEGER, name TEXT COLLATE words);
CREATE TABLE "double.index_columns" (object_id INTEGER, index_id INTEGER, column_id INTEGER, key_ordinal INTEGER);
CREATE TABLE "double.members" (role TEXT COLLATE words, "user" TEXT COLLATE words, PRIMARY KEY (role, "user"));
CREATE TABLE "double.grants" ("user" TEXT COLLATE words, permission TEXT, scope TEXT);
CREATE TABLE "double.types" (name TEXT COLLATE words, system_type_id INTEGER, user_type_id INTEGER PRIMARY KEY);
INSERT INTO "double.objects" VALUES (900000000, 'double', 'first', 'double.first', 1, 0, NULL);
"""
CDC_SCHEMA = """
CREATE TABLE "cdc.change_tables" (object_id INTEGER, version INTEGER, source_object_id INTEGER,
    capture_instance TEXT COLLATE words, start_lsn BLOB, end_lsn BLOB, supports_net_changes INTEGER,
    has_drop_pending INTEGER, role_name TEXT, index_name TEXT, filegroup_name TEXT, create_date TEXT,
    partition_switch INTEGER);
CREATE TABLE "cdc.captured_columns" (object_id INTEGER, column_name TEXT COLLATE words, column_id INTEGER,
    column_type TEXT, column_ordinal INTEGER, is_computed INTEGER);
CREATE TABLE "cdc.index_columns" (object_id INTEGER, column_name TEXT COLLATE words, index_ordinal INTEGER,
    column_id INTEGER);
CREATE TABLE "cdc.lsn_time_mapping" (start_lsn BLOB PRIMARY KEY, tran_begin_time TEXT COLLATE moment,
    tran_end_time TEXT COLLATE moment, tran_id BLOB, tran_begin_lsn BLOB);
CREATE TABLE "cdc.ddl_history" (source_object_id INTEGER, object_id INTEGER, required_column_update INTEGER,
    ddl_command TEXT, ddl_lsn BLOB, ddl_time TEXT COLLATE moment);
"""
TYPE_NUMBERS = {
    "image": 34, "text": 35, "uniqueidentifier": 36, "date": 40, "time": 41, "datetime2": 42, "datetimeoffset": 43,
    "tinyint": 48, "smallint": 52, "int": 56, "smalldatetime": 58, "real": 59, "money": 60, "datetime": 61, "float": 62,
    "sql_variant": 98, "ntext": 99, "bit": 104, "decimal": 106, "numeric": 108, "smallmoney": 122, "bigint": 127,
    "varbinary": 165, "varchar": 167, "binary": 173, "char": 175, "timestamp": 189, "nvarchar": 231, "nchar": 239,
    "xml": 241,
}  # fmt: skip
_OF_CLR_NUMBER, _CLR_NUMBERS = 240, {"hierarchyid": 128, "geometry": 129, "geography": 130}
_PRECISIONS = {"bit": 1, "tinyint": 3, "smallint": 5, "int": 10, "bigint": 19, "real": 24, "float": 53, "date": 10}
_PRECISIONS |= {"datetime": 23, "smalldatetime": 16}
# the bare precision of a type with a scale; its fraction adds a point and the digits
_TIME_PRECISIONS = {"time": 8, "datetime2": 19, "datetimeoffset": 26}

# name: what it selects, and "column type" of each
_SETTING = "(SELECT value FROM \"double.settings\" WHERE name = '{}')"
_VIEWS: dict[str, tuple[str, str]] = {
    "sys.tables": (
        "name nvarchar(128), object_id int, schema_id int, parent_object_id int, type char(2), type_desc nvarchar(60), "
        "create_date datetime, modify_date datetime, is_ms_shipped bit, is_tracked_by_cdc bit, temporal_type tinyint",
        'SELECT name, object_id, CASE "schema" WHEN \'dbo\' THEN 1 WHEN \'cdc\' THEN 5 ELSE 6 END, 0, \'U \', '
        "'USER_TABLE', create_date, create_date, is_ms_shipped, tracked & 1, 0 "
        'FROM "double.objects" WHERE "schema" <> \'double\' AND may_see(object_id)',
    ),
    "sys.schemas": (
        "name nvarchar(128), schema_id int, principal_id int",
        "SELECT 'dbo', 1, 1 UNION ALL SELECT 'sys', 4, 4 UNION ALL SELECT 'cdc', 5, 5 UNION ALL "
        "SELECT DISTINCT \"schema\", 6, 1 FROM \"double.objects\" WHERE \"schema\" NOT IN ('dbo', 'cdc', 'double')",
    ),
    "sys.columns": (
        "object_id int, name nvarchar(128), column_id int, system_type_id tinyint, user_type_id int, "
        "max_length smallint, precision tinyint, scale tinyint, collation_name nvarchar(128), is_nullable bit, "
        "is_identity bit, is_computed bit",
        "SELECT object_id, name, column_id, system_type_id, user_type_id, max_length, precision, scale, "
        "CASE WHEN system_type_id IN (35, 99, 167, 175, 231, 239) THEN 'SQL_Latin1_General_CP1_CI_AS' END, "
        'is_nullable, initial = \'IDENTITY\', is_computed FROM "double.columns" WHERE may_see(object_id)',
    ),
    "sys.types": (
        "name nvarchar(128), system_type_id tinyint, user_type_id int, schema_id int, is_user_defined bit, "
        "is_assembly_type bit",
        "SELECT name, system_type_id, user_type_id, 4, 0, user_type_id IN (128, 129, 130) FROM \"double.types\"",
    ),
    "sys.indexes": (
        "object_id int, name nvarchar(128), index_id int, type tinyint, type_desc nvarchar(60), is_unique bit, "
        "is_primary_key bit, is_unique_constraint bit, is_disabled bit, has_filter bit",
        "SELECT DISTINCT c.object_id, 'PK_' || o.name, 1, 1, 'CLUSTERED', 1, 1, 0, 0, 0 FROM \"double.columns\" c "
        'JOIN "double.objects" o ON o.object_id = c.object_id WHERE c.key_ordinal > 0 AND may_see(c.object_id) '
        "UNION ALL SELECT object_id, name, index_id, 2, 'NONCLUSTERED', 1, 0, 0, 0, 0 FROM \"double.indexes\" "
        "WHERE may_see(object_id)",
    ),
    "sys.index_columns": (
        "object_id int, index_id int, index_column_id int, column_id int, key_ordinal tinyint, is_descending_key bit, "
        "is_included_column bit",
        "SELECT object_id, 1, key_ordinal, column_id, key_ordinal, 0, 0 FROM \"double.columns\" WHERE key_ordinal > 0 "
        "UNION ALL SELECT object_id, index_id, key_ordinal, column_id, key_ordinal, 0, 0 "
        'FROM "double.index_columns"',
    ),
    "sys.partitions": (
        "partition_id bigint, object_id int, index_id int, partition_number int, rows bigint",
        "SELECT object_id, object_id, EXISTS (SELECT 1 FROM \"double.columns\" c WHERE c.object_id = o.object_id "
        "AND c.key_ordinal > 0), 1, row_count(object_id) FROM \"double.objects\" o "
        "WHERE \"schema\" <> 'double' AND may_see(object_id) UNION ALL "
        "SELECT object_id * 1000 + index_id, object_id, index_id, 1, row_count(object_id) FROM \"double.indexes\" "
        "WHERE may_see(object_id)",
    ),
    "sys.databases": (
        "name nvarchar(128), database_id int, is_cdc_enabled bit, snapshot_isolation_state tinyint, "
        "snapshot_isolation_state_desc nvarchar(60), is_read_committed_snapshot_on bit, compatibility_level tinyint, "
        "collation_name nvarchar(128), recovery_model_desc nvarchar(60), state_desc nvarchar(60)",
        f"SELECT database_name(), 5, {_SETTING.format('cdc')}, {_SETTING.format('snapshot')}, "
        f"CASE {_SETTING.format('snapshot')} WHEN 1 THEN 'ON' ELSE 'OFF' END, 0, 160, 'SQL_Latin1_General_CP1_CI_AS', "
        "'FULL', 'ONLINE'",
    ),
    "sys.change_tracking_databases": (
        "database_id int, is_auto_cleanup_on bit, retention_period int, retention_period_units int, "
        "retention_period_units_desc nvarchar(60)",
        f"SELECT 5, 1, {_SETTING.format('tracking_period')}, 3, {_SETTING.format('tracking_units')} "
        f"WHERE {_SETTING.format('tracking')} = 1",
    ),
    "sys.change_tracking_tables": (
        "object_id int, is_track_columns_updated_on bit, min_valid_version bigint, begin_version bigint",
        'SELECT object_id, 1, tracked_from, tracked_from FROM "double.tracked"',
    ),
    "sys.dm_server_services": (
        "servicename nvarchar(256), status int, status_desc nvarchar(256)",
        "SELECT 'SQL Server (MSSQLSERVER)', 4, 'Running' UNION ALL "
        "SELECT 'SQL Server Agent (MSSQLSERVER)', CASE WHEN agent_runs() THEN 4 ELSE 1 END, "
        "CASE WHEN agent_runs() THEN 'Running' ELSE 'Stopped' END",
    ),
    "sys.dm_cdc_log_scan_sessions": (
        "session_id int, start_time datetime, end_time datetime, error_count int, latency int",
        "SELECT 1, captured_at(), captured_at(), 0, "
        "COALESCE(tds_difference('second', min(ended), tds_now('datetime')), 0) FROM \"double.transactions\"",
    ),
    "msdb.dbo.cdc_jobs": (
        "database_id int, job_type nvarchar(20), maxtrans int, maxscans int, continuous bit, pollinginterval bigint, "
        "retention bigint, threshold bigint",
        f"SELECT 5, 'capture', 500, 10, 1, CAST({_SETTING.format('poll_s')} AS INTEGER), 0, 0 UNION ALL "
        f"SELECT 5, 'cleanup', 0, 0, 0, 0, {_SETTING.format('retention')}, 5000",
    ),
}  # fmt: skip
_CDC_TABLES = {
    "cdc.change_tables": "object_id int, version int, source_object_id int, capture_instance nvarchar(128), "
    "start_lsn binary(10), end_lsn binary(10), supports_net_changes bit, has_drop_pending bit, "
    "role_name nvarchar(128), index_name nvarchar(128), filegroup_name nvarchar(128), create_date datetime, "
    "partition_switch bit",
    "cdc.captured_columns": "object_id int, column_name nvarchar(128), column_id int, column_type nvarchar(128), "
    "column_ordinal int, is_computed bit",
    "cdc.index_columns": "object_id int, column_name nvarchar(128), index_ordinal tinyint, column_id int",
    "cdc.lsn_time_mapping": "start_lsn binary(10), tran_begin_time datetime, tran_end_time datetime, "
    "tran_id varbinary(10), tran_begin_lsn binary(10)",
    "cdc.ddl_history": "source_object_id int, object_id int, required_column_update bit, "
    "ddl_command nvarchar(max), ddl_lsn binary(10), ddl_time datetime",
}


IDENTITY = "IDENTITY"
"""The `initial` of a column of numbers that nobody writes."""


@dataclass(frozen=True)
class Column:
    """A column of a table or view; `encoded`: it is kept as it goes over the wire, as change tables are."""

    name: str
    kind: SqlType
    nullable: bool = True
    encoded: bool = False
    initial: str = ""
    key_ordinal: int = 0
    number: int = 0


@dataclass(frozen=True)
class Relation:
    """A table or view: its name in SQLite, its number and columns."""

    name: str
    object_id: int
    columns: tuple[Column, ...]
    tracked: int = 0

    @property
    def key(self) -> list[Column]:
        """The columns of its primary key, in order."""
        return sorted((column for column in self.columns if column.key_ordinal), key=lambda column: column.key_ordinal)

    def column(self, name: str) -> Column | None:
        """By its name, whatever its case."""
        return next((column for column in self.columns if column.name.lower() == name.lower()), None)


def _declared(text: str) -> tuple[Column, ...]:
    pairs = [part.split(" ") for part in text.split(", ")]
    return tuple(Column(name, parse_type(kind)) for name, kind in pairs)


SYSTEM = {
    name.lower(): Relation(name, 0, _declared(text))
    for name, text in [(name, view[0]) for name, view in _VIEWS.items()] + list(_CDC_TABLES.items())
}


def create(connection: sqlite3.Connection) -> None:
    """The tables of the double itself, and the system views."""
    for statement in SCHEMA.split(";")[:-1]:
        connection.execute(statement)
    rows = [(name, number, number) for name, number in TYPE_NUMBERS.items()]
    rows += [("sysname", 231, 256)] + [(name, _OF_CLR_NUMBER, number) for name, number in _CLR_NUMBERS.items()]
    connection.executemany('INSERT INTO "double.types" VALUES (?, ?, ?)', rows)
    connection.execute('CREATE TABLE "double.tracked" (object_id INTEGER PRIMARY KEY, tracked_from INTEGER)')
    settings: dict[str, object] = dict.fromkeys(("cdc", "snapshot", "tracking", "version", "poll_s", "runs"), 0)
    settings |= {"retention": 4320, "tracking_period": 2, "tracking_units": "DAYS"}
    connection.executemany('INSERT INTO "double.settings" VALUES (?, ?)', settings.items())
    for name, (columns, query) in _VIEWS.items():
        names = ", ".join(part.split(" ")[0] for part in columns.split(", "))
        connection.execute(f'CREATE VIEW "{name}" ({names}) AS {query}')


def add_object(connection: sqlite3.Connection, name: str, columns: Sequence[Column], *, shipped: bool = False) -> int:
    """Record a table. Returns its object_id."""
    schema, _, plain = name.partition(".")
    added = connection.execute(
        'INSERT INTO "double.objects" ("schema", name, key, is_ms_shipped, tracked, create_date) '
        "VALUES (?, ?, ?, ?, 0, tds_now('datetime'))",
        (schema, plain, name.lower(), int(shipped)),
    )
    for number, column in enumerate(columns, 1):
        add_column(connection, added.lastrowid or 0, number, column)
    return added.lastrowid or 0


def row_count(connection: sqlite3.Connection, number: int) -> int:
    """How many rows the table of that number has, as this connection's transaction sees it."""
    query = 'SELECT "schema" || \'.\' || name FROM "double.objects" WHERE object_id = ?'
    (name,) = connection.execute(query, (number,)).fetchone()
    return int(connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0])


def add_column(connection: sqlite3.Connection, object_id: int, number: int, column: Column) -> None:
    """Record a column."""
    kind = column.kind
    name = "timestamp" if kind.name == "rowversion" else kind.name
    system_type = TYPE_NUMBERS.get(name, _OF_CLR_NUMBER)
    user_type = TYPE_NUMBERS.get(name) or _CLR_NUMBERS[name]
    precision, scale = kind.precision or _PRECISIONS.get(kind.name, 0), kind.scale
    if kind.name in _TIME_PRECISIONS:
        precision = _TIME_PRECISIONS[kind.name] + (kind.scale + 1 if kind.scale else 0)
    scale = 3 if kind.name == "datetime" else scale
    values = (object_id, number, column.name, str(kind), int(column.nullable), 0, int(column.encoded), column.initial,
              column.key_ordinal, user_type, system_type, kind.bytes, precision, scale)  # fmt: skip
    marks = ", ".join("?" * len(values))
    connection.execute(f'INSERT INTO "double.columns" VALUES ({marks})', values)


def load(connection: sqlite3.Connection) -> dict[str, Relation]:
    """All tables and views by their names in lower case, as this connection's transaction sees them."""
    columns: dict[int, list[Column]] = {}
    query = (
        'SELECT object_id, name, kind, is_nullable, encoded, initial, key_ordinal, column_id FROM "double.columns" '
        "ORDER BY object_id, column_id"
    )
    for number, name, kind, nullable, encoded, initial, ordinal, column_id in connection.execute(query):
        column = Column(name, parse_type(kind), bool(nullable), bool(encoded), initial or "", ordinal, column_id)
        columns.setdefault(number, []).append(column)
    objects = connection.execute('SELECT object_id, "schema", name, key, tracked FROM "double.objects"')
    return SYSTEM | {
        key: Relation(f"{schema}.{name}", number, tuple(columns.get(number, ())), tracked)
        for number, schema, name, key, tracked in objects
    }
