"""Tables made, changed and dropped, and put under change data capture or change tracking."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from tests.doubles.sqlserver import capture, catalog
from tests.doubles.sqlserver.catalog import IDENTITY, Column, Relation
from tests.doubles.sqlserver.dialect import table_name
from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.functions import lsn
from tests.doubles.sqlserver.types import from_tree

CAPTURED, TRACKED = 1, 2


@dataclass(frozen=True)
class NewInstance:
    """A capture instance that is asked for: `columns` in lower case (none: all), the `role` that may read it."""

    name: str
    columns: Sequence[str]
    start_lsn: bytes
    net: int
    role: str | None


def _column(tree: exp.ColumnDef) -> Column:
    constraints = [one.args["kind"] for one in tree.constraints]
    nullable, initial, key = True, "", False
    for one in constraints:
        if isinstance(one, exp.NotNullColumnConstraint):
            nullable = bool(one.args.get("allow_null"))
        elif isinstance(one, exp.PrimaryKeyColumnConstraint):
            key, nullable = True, False
        elif isinstance(one, exp.DefaultColumnConstraint):
            initial = one.this.sql("tsql")
        elif isinstance(one, exp.GeneratedAsIdentityColumnConstraint | exp.AutoIncrementColumnConstraint):
            initial, nullable = IDENTITY, False
        else:
            raise SqlError(102, f"Unknown to the double: a column's {type(one).__name__}")
    return Column(tree.name, from_tree(tree.kind), nullable, initial=initial, key_ordinal=int(key))


def create_table(connection: sqlite3.Connection, tree: exp.Create) -> None:
    """CREATE TABLE."""
    name = table_name(tree.this.this)
    columns = [_column(part) for part in tree.this.expressions if isinstance(part, exp.ColumnDef)]
    for key in tree.this.find_all(exp.PrimaryKey):
        names = [part.name.lower() for part in key.expressions]
        columns = [
            Column(column.name, column.kind, column.nullable and column.name.lower() not in names,
                   initial=column.initial, key_ordinal=names.index(column.name.lower()) + 1)
            if column.name.lower() in names else column
            for column in columns
        ]  # fmt: skip
    catalog.add_object(connection, name, columns)
    _make(connection, name, columns)


def _make(connection: sqlite3.Connection, name: str, columns: Sequence[Column]) -> None:
    listed = [_declared(column) for column in columns]
    ordered = sorted((column for column in columns if column.key_ordinal), key=lambda column: column.key_ordinal)
    clustered = ""
    if ordered:
        parts = ", ".join(f'"{column.name}"' for column in ordered)
        listed.append(f"PRIMARY KEY ({parts})")
        clustered = " WITHOUT ROWID"
    connection.execute(f'CREATE TABLE "{name}" ({", ".join(listed)}){clustered}')


def _declared(column: Column) -> str:
    return f'"{column.name}" {column.kind.column}{"" if column.nullable else " NOT NULL"}'


def add_column(
    connection: sqlite3.Connection, relation: Relation, tree: exp.ColumnDef, value: object, *, fill: bool
) -> None:
    """ALTER TABLE ADD. `value`: its default, which rows that are there already get where `fill` says so."""
    column = _column(tree)
    query = 'SELECT max(column_id) FROM "double.dropped" WHERE object_id = ?'
    (dropped,) = connection.execute(query, (relation.object_id,)).fetchone()
    number = max([one.number for one in relation.columns] + [dropped or 0]) + 1
    catalog.add_column(connection, relation.object_id, number, column)
    if column.key_ordinal:
        _rebuild(connection, relation, column)
        return
    default = f" DEFAULT {_quoted(value)}" if value is not None and (fill or not column.nullable) else ""
    connection.execute(f'ALTER TABLE "{relation.name}" ADD COLUMN {_declared(column)}{default}')


def _rebuild(connection: sqlite3.Connection, relation: Relation, column: Column) -> None:
    """A table without a key gets one, a column of numbers. Raises SqlError 102 for any other."""
    if column.initial != IDENTITY or relation.key:
        raise SqlError(102, f"Unknown to the double: the key {column.name} for {relation.name}")
    capture.forget_changes(connection, relation)
    connection.execute(f'ALTER TABLE "{relation.name}" RENAME TO "double.old"')
    _make(connection, relation.name, [*relation.columns, column])
    connection.execute(f'INSERT INTO "{relation.name}" SELECT *, next_number() FROM "double.old"')
    connection.execute('DROP TABLE "double.old"')


def add_unique_index(connection: sqlite3.Connection, relation: Relation, name: str, columns: Sequence[str]) -> None:
    """CREATE UNIQUE INDEX."""
    listed = ", ".join(f'"{column}"' for column in columns)
    connection.execute(f'CREATE UNIQUE INDEX "index.{relation.name}.{name}" ON "{relation.name}" ({listed})')
    query = 'SELECT COALESCE(max(index_id), 1) + 1 FROM "double.indexes" WHERE object_id = ?'
    (number,) = connection.execute(query, (relation.object_id,)).fetchone()
    connection.execute('INSERT INTO "double.indexes" VALUES (?, ?, ?)', (relation.object_id, number, name))
    for ordinal, column in enumerate(columns, 1):
        found = relation.column(column)
        assert found is not None, column
        row = (relation.object_id, number, found.number, ordinal)
        connection.execute('INSERT INTO "double.index_columns" VALUES (?, ?, ?, ?)', row)


def _quoted(value: object) -> str:
    return exp.convert(value).sql("sqlite")


def drop_column(connection: sqlite3.Connection, relation: Relation, name: str) -> None:
    """ALTER TABLE DROP COLUMN; a capture instance keeps the column, NULL from now on."""
    capture.forget_changes(connection, relation)
    connection.execute(f'ALTER TABLE "{relation.name}" DROP COLUMN "{name}"')
    where = "WHERE object_id = ? AND name = ? COLLATE words"
    found = (relation.object_id, name)
    connection.execute(f'INSERT INTO "double.dropped" SELECT object_id, column_id FROM "double.columns" {where}', found)
    connection.execute(f'DELETE FROM "double.columns" {where}', found)


def drop_table(connection: sqlite3.Connection, relation: Relation) -> None:
    """DROP TABLE; its capture instances go with it."""
    if relation.tracked & CAPTURED:
        for name in instance_names(connection, relation):
            disable_capture(connection, relation, name)
    connection.execute(f'DROP TABLE "{relation.name}"')
    tables = ("double.columns", "double.objects", "double.tracked", "double.indexes", "double.index_columns")
    for table in tables:
        connection.execute(f'DELETE FROM "{table}" WHERE object_id = ?', (relation.object_id,))


def record_change(connection: sqlite3.Connection, relation: Relation, command: str, number: int) -> None:
    """What cdc.ddl_history tells of a changed table, once for each capture instance."""
    connection.execute(
        "INSERT INTO \"cdc.ddl_history\" SELECT source_object_id, object_id, 0, ?, ?, tds_now('datetime') "
        'FROM "cdc.change_tables" WHERE source_object_id = ?',
        (command, lsn(number), relation.object_id),
    )


# ---- change data capture


def enable_database(connection: sqlite3.Connection, enabled: bool) -> None:
    """sp_cdc_enable_db."""
    if enabled:
        for statement in catalog.CDC_SCHEMA.split(";")[:-1]:
            connection.execute(statement)
    connection.execute("UPDATE \"double.settings\" SET value = ? WHERE name = 'cdc'", (int(enabled),))


def instance_names(connection: sqlite3.Connection, relation: Relation) -> list[str]:
    """The capture instances of a table, the older first."""
    query = 'SELECT capture_instance FROM "cdc.change_tables" WHERE source_object_id = ? ORDER BY start_lsn'
    return [row[0] for row in connection.execute(query, (relation.object_id,))]


def enable_capture(connection: sqlite3.Connection, relation: Relation, instance: NewInstance) -> None:
    """sp_cdc_enable_table. Raises SqlError 22926 for a third instance, or a name that is taken."""
    there = instance_names(connection, relation)
    name, query = instance.name, 'SELECT 1 FROM "cdc.change_tables" WHERE capture_instance = ?'
    taken = connection.execute(query, (name,)).fetchone()
    if len(there) >= 2 or taken:
        text = f"Could not create a capture instance because the capture instance name '{name}' already exists in the "
        text += "current database, or two capture instances already exist for the table."
        raise SqlError(22926, text)
    listed = instance.columns
    wanted = [column for column in relation.columns if not listed or column.name.lower() in listed]
    capture.log_changes(connection, relation)
    capture.add_instance(connection, relation, name, wanted, instance.start_lsn, instance.net)
    query = 'UPDATE "cdc.change_tables" SET role_name = ? WHERE capture_instance = ?'
    connection.execute(query, (instance.role, name))
    _mark(connection, relation, relation.tracked | CAPTURED)


def disable_capture(connection: sqlite3.Connection, relation: Relation, name: str) -> None:
    """sp_cdc_disable_table. Raises SqlError 22960 where there is no such instance."""
    query = 'SELECT object_id FROM "cdc.change_tables" WHERE capture_instance = ? AND source_object_id = ?'
    found = connection.execute(query, (name, relation.object_id)).fetchone()
    if found is None:
        raise SqlError(22960, f"Change data capture instance '{name}' has not been enabled for the source table.")
    connection.execute(f'DROP TABLE "cdc.{name}_CT"')
    tables = ("cdc.change_tables", "cdc.captured_columns", "cdc.index_columns", "double.columns", "double.objects")
    for table in tables:
        connection.execute(f'DELETE FROM "{table}" WHERE object_id = ?', found)
    if not instance_names(connection, relation):
        capture.forget_changes(connection, relation)
        connection.execute(f'DROP TABLE "log.{relation.name}"')
        _mark(connection, relation, relation.tracked & ~CAPTURED)


def _mark(connection: sqlite3.Connection, relation: Relation, tracked: int) -> None:
    connection.execute('UPDATE "double.objects" SET tracked = ? WHERE object_id = ?', (tracked, relation.object_id))
    connection.execute('CREATE TABLE "double.bump" (x)')  # whatever is cached of tables is read again
    connection.execute('DROP TABLE "double.bump"')


def clean_up(connection: sqlite3.Connection, name: str, low: bytes) -> None:
    """sp_cdc_cleanup_change_table: forget what lies below an LSN."""
    connection.execute(f'DELETE FROM "cdc.{name}_CT" WHERE "__$start_lsn" < ?', (low,))
    connection.execute('UPDATE "cdc.change_tables" SET start_lsn = ? WHERE capture_instance = ?', (low, name))
    connection.execute(
        'DELETE FROM "cdc.lsn_time_mapping" WHERE start_lsn < (SELECT min(start_lsn) FROM "cdc.change_tables")'
    )


# ---- change tracking


def enable_tracking(connection: sqlite3.Connection, relation: Relation, version: int) -> None:
    """ALTER TABLE ... ENABLE CHANGE_TRACKING."""
    track, keys = f"track.{relation.name}", [column.name for column in relation.key]
    if not keys:
        text = f"Cannot enable change tracking on table '{relation.name}'. Change tracking requires a primary key."
        raise SqlError(4997, text)
    listed = ", ".join(f'"{column.name}" {column.kind.column}' for column in relation.key)
    connection.execute(
        f'CREATE TABLE "{track}" (number INTEGER PRIMARY KEY, version INTEGER, operation TEXT, {listed})'
    )
    connection.execute(f'CREATE INDEX "{track}.version" ON "{track}" (version)')
    names = ", ".join(f'"{key}"' for key in keys)
    moved = " OR ".join(f'old."{key}" IS NOT new."{key}"' for key in keys)

    def entry(operation: str, side: str) -> str:
        values = ", ".join(f'{side}."{key}"' for key in keys)
        return f'INSERT INTO "{track}" (number, operation, {names}) SELECT next_number(), {operation}, {values}'

    bodies = {
        "INSERT": f"{entry(repr('I'), 'new')};",
        "DELETE": f"{entry(repr('D'), 'old')};",
        "UPDATE": f"{entry(repr('D'), 'old')} WHERE {moved}; "
        + entry(f"CASE WHEN {moved} THEN 'I' ELSE 'U' END", "new") + ";",
    }  # fmt: skip
    for event, body in bodies.items():
        connection.execute(f'CREATE TRIGGER "{track}.{event}" AFTER {event} ON "{relation.name}" BEGIN {body} END')
    connection.execute('INSERT INTO "double.tracked" VALUES (?, ?)', (relation.object_id, version))
    _mark(connection, relation, relation.tracked | TRACKED)


def disable_tracking(connection: sqlite3.Connection, relation: Relation) -> None:
    """ALTER TABLE ... DISABLE CHANGE_TRACKING."""
    for event in ("INSERT", "DELETE", "UPDATE"):
        connection.execute(f'DROP TRIGGER "track.{relation.name}.{event}"')
    connection.execute(f'DROP TABLE "track.{relation.name}"')
    connection.execute('DELETE FROM "double.tracked" WHERE object_id = ?', (relation.object_id,))
    _mark(connection, relation, relation.tracked & ~TRACKED)


def forget_tracked(connection: sqlite3.Connection, relation: Relation, version: int) -> None:
    """Change tracking knows nothing any more up to this version, what the transaction itself has done included."""
    connection.execute(f'DELETE FROM "track.{relation.name}" WHERE version IS NULL OR version <= ?', (version,))
    connection.execute(
        'UPDATE "double.tracked" SET tracked_from = ? WHERE object_id = ?', (version, relation.object_id)
    )
