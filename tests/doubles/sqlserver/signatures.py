"""The functions of T-SQL that the double knows, scalar and table-valued, as what SQLite evaluates in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlglot import exp

from tests.doubles.sqlserver.answers import Field
from tests.doubles.sqlserver.catalog import Relation
from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.types import SqlType, parse_type

_MIN_LSN = (
    'COALESCE((SELECT start_lsn FROM "cdc.change_tables" WHERE capture_instance = {0} COLLATE words '
    "AND may_capture(source_object_id, role_name)), zeroblob(10))"
)
MAX_LSN = '(SELECT max(start_lsn) FROM "cdc.lsn_time_mapping")'
_ORDINAL = (
    '(SELECT column_ordinal FROM "cdc.captured_columns" k JOIN "cdc.change_tables" t ON t.object_id = k.object_id '
    "WHERE t.capture_instance = {0} COLLATE words AND k.column_name = {1} COLLATE words)"
)
_OBJECT_ID = '(SELECT object_id FROM "double.objects" WHERE key = tds_name({0}) AND may_see(object_id))'
_SERVER = (
    "CASE {0} WHEN 'ProductVersion' THEN '16.0.4175.1' WHEN 'EngineEdition' THEN '3' WHEN 'Edition' THEN "
    "'Developer Edition (64-bit)' WHEN 'ProductLevel' THEN 'RTM' "
    "WHEN 'Collation' THEN 'SQL_Latin1_General_CP1_CI_AS' END"
)
_VERSION = (
    "(SELECT value FROM \"double.settings\" WHERE name = 'version' AND "
    "(SELECT value FROM \"double.settings\" WHERE name = 'tracking') = 1)"
)
_TIME_TO_LSN = (
    "CASE {0} "
    "WHEN 'smallest greater than' THEN (SELECT min(start_lsn) FROM \"cdc.lsn_time_mapping\" WHERE tran_end_time > {1}) "
    "WHEN 'smallest greater than or equal' THEN "
    '(SELECT min(start_lsn) FROM "cdc.lsn_time_mapping" WHERE tran_end_time >= {1}) '
    "WHEN 'largest less than' THEN (SELECT max(start_lsn) FROM \"cdc.lsn_time_mapping\" WHERE tran_end_time < {1}) "
    'ELSE (SELECT max(start_lsn) FROM "cdc.lsn_time_mapping" WHERE tran_end_time <= {1}) END'
)

# name: what stands in its place, and its type ("same": that of the first argument)
FUNCTIONS: dict[str, tuple[str, str]] = {
    "fn_cdc_get_max_lsn": (MAX_LSN, "binary(10)"),
    "fn_cdc_get_min_lsn": (_MIN_LSN, "binary(10)"),
    "fn_cdc_increment_lsn": ("next_lsn({0}, 1)", "binary(10)"),
    "fn_cdc_decrement_lsn": ("next_lsn({0}, -1)", "binary(10)"),
    "fn_cdc_map_lsn_to_time": (
        '(SELECT tran_end_time FROM "cdc.lsn_time_mapping" WHERE start_lsn = {0})',
        "datetime",
    ),
    "fn_cdc_map_time_to_lsn": (_TIME_TO_LSN, "binary(10)"),
    "fn_cdc_is_bit_set": ("bit_is_set({0}, {1})", "bit"),
    "fn_cdc_get_column_ordinal": (_ORDINAL, "int"),
    "fn_cdc_has_column_changed": (f"bit_is_set({_ORDINAL}, {{2}})", "bit"),
    "change_tracking_current_version": (_VERSION, "bigint"),
    "change_tracking_min_valid_version": (
        '(SELECT tracked_from FROM "double.tracked" WHERE object_id = {0} AND may_see(object_id))',
        "bigint",
    ),
    "change_tracking_is_column_in_mask": ("COALESCE(bit_is_set({0}, {1}), 1)", "bit"),
    "object_id": (_OBJECT_ID, "int"),
    "object_name": ('(SELECT name FROM "double.objects" WHERE object_id = {0})', "nvarchar(128)"),
    "object_schema_name": ('(SELECT "schema" FROM "double.objects" WHERE object_id = {0})', "nvarchar(128)"),
    "schema_name": ("COALESCE((SELECT name FROM \"sys.schemas\" WHERE schema_id = {0}), 'dbo')", "nvarchar(128)"),
    "columnproperty": (
        '(SELECT column_id FROM "double.columns" WHERE object_id = {0} AND name = {1} COLLATE words)',
        "int",
    ),
    "db_name": ("database_name()", "nvarchar(128)"),
    "db_id": ("5", "smallint"),
    "original_db_name": ("database_name()", "nvarchar(128)"),
    "serverproperty": (_SERVER, "nvarchar(128)"),
    "suser_sname": ("login_name()", "nvarchar(128)"),
    "suser_name": ("login_name()", "nvarchar(128)"),
    "user_name": ("user_name()", "nvarchar(128)"),
    "has_perms_by_name": ("has_permission({0}, {2})", "int"),
    "is_srvrolemember": ("is_owner()", "int"),
    "is_rolemember": ("is_owner()", "int"),
    "getdate": ("tds_now('datetime')", "datetime"),
    "getutcdate": ("tds_now('datetime')", "datetime"),
    "sysdatetime": ("tds_now('datetime2(7)')", "datetime2(7)"),
    "sysutcdatetime": ("tds_now('datetime2(7)')", "datetime2(7)"),
    "sysdatetimeoffset": ("tds_now('datetimeoffset(7)')", "datetimeoffset(7)"),
    "datediff": ("tds_difference({0}, {1}, {2})", "int"),
    "datediff_big": ("tds_difference({0}, {1}, {2})", "bigint"),
    "dateadd": ("tds_date_add({0}, {1}, {2})", "datetime2(7)"),
    "nchar": ("tds_nchar({0})", "nchar(1)"),
    "newid": ("tds_guid()", "uniqueidentifier"),
    "len": ("tds_length({0})", "int"),
    "datalength": ("tds_size({0}, '{kind}')", "int"),
    "replicate": ("replace(hex(zeroblob({1})), '00', {0})", "nvarchar(max)"),
    "sign": ("sign({0})", "int"),
    "concat": ("COALESCE({0}, '') || COALESCE({1}, '') || COALESCE({2}, '') || COALESCE({3}, '')", "nvarchar(4000)"),
}
NODES: dict[type[exp.Expression], str] = {
    exp.CurrentTimestamp: "getdate",
    exp.DateDiff: "datediff",
    exp.DateAdd: "dateadd",
    exp.Concat: "concat",
}
CHANGES_ROWS = (
    "WITH RECURSIVE n(value) AS (SELECT {0} WHERE {0} <= {1} UNION ALL SELECT value + 1 FROM n WHERE value < {1}) "
    "SELECT value FROM n"
)
_TOO_FEW = "An insufficient number of arguments were supplied for the procedure or function cdc.{0} ... ."


def changes_function(
    name: str, relations: Mapping[str, Relation], arguments: Sequence[str]
) -> tuple[str, list[Field], tuple[str, SqlError]]:
    """cdc.fn_cdc_get_all_changes_...(from, to, option): the query, its columns, and the check that error 313 needs.

    Raises SqlError 208 where there is no such instance.
    """
    prefix = "fn_cdc_get_all_changes_"
    relation = relations.get(f"cdc.{name.removeprefix(prefix)}_ct") if name.startswith(prefix) else None
    if relation is None:
        raise SqlError(208, f"Invalid object name 'cdc.{name}'.")
    first, last, option = arguments
    dropped = ("__$end_lsn", "__$command_id")
    columns = [column for column in relation.columns if column.name not in dropped]
    listed = ", ".join(f'"{column.name}"' for column in columns)
    query = (
        f'SELECT {listed} FROM "{relation.name}" WHERE "__$start_lsn" BETWEEN {first} AND {last} '
        f"AND (\"__$operation\" <> 3 OR {option} = 'all update old')"
    )
    instance = relation.name[len("cdc.") : -len("_CT")]
    low = _MIN_LSN.format(f"'{instance}'")
    check = f"SELECT COALESCE({first} >= {low} AND {last} <= {MAX_LSN} AND {first} <= {last}, 0)"
    fields = [Field(column.name, column.kind, column.encoded) for column in columns]
    return query, fields, (check, SqlError(313, _TOO_FEW.format(prefix)))


def tracking_function(relation: Relation, version: str) -> tuple[str, list[Field]]:
    """CHANGETABLE(CHANGES t, version): one row for each key that changed behind a version."""
    if not relation.tracked & 2:
        raise SqlError(22105, f"Change tracking is not enabled on table '{relation.name}'.")
    keys = [column.name for column in relation.key]
    listed = ", ".join(f'"{key}"' for key in keys)
    query = (
        "SELECT max(version) AS SYS_CHANGE_VERSION, "
        "max(CASE operation WHEN 'I' THEN version END) AS SYS_CHANGE_CREATION_VERSION, "
        "CASE WHEN max(number * 4 + (operation = 'D')) % 4 = 1 THEN 'D' "
        "WHEN max(operation = 'I') = 1 THEN 'I' ELSE 'U' END AS SYS_CHANGE_OPERATION, "
        f"NULL AS SYS_CHANGE_COLUMNS, NULL AS SYS_CHANGE_CONTEXT, {listed} "
        f'FROM "track.{relation.name}" WHERE version > {version} GROUP BY {listed}'
    )
    fields = [
        Field("SYS_CHANGE_VERSION", SqlType("bigint")),
        Field("SYS_CHANGE_CREATION_VERSION", SqlType("bigint")),
        Field("SYS_CHANGE_OPERATION", parse_type("nchar(1)")),
        Field("SYS_CHANGE_COLUMNS", parse_type("varbinary(4100)")),
        Field("SYS_CHANGE_CONTEXT", parse_type("varbinary(128)")),
    ]
    return query, fields + [Field(column.name, column.kind) for column in relation.key]
