"""What the database says of its tables: columns with exact types, keys, capture instances."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from connectors.base.columns import part
from connectors.base.database import SourceTable, TableBinding
from connectors.sqlserver import sql
from connectors.sqlserver.session import Session
from connectors.sqlserver.types import Reading, readable_as, reading
from libcore.errors import ConfigurationError, FatalError
from libcore.schema import Column, Table

Definition = tuple[Any, ...]
"""Of a column: the system's type, bytes (-1: max), precision, scale, whether it may be NULL."""
_log = structlog.get_logger()


@dataclass(frozen=True)
class CatalogTable:
    """A table as the database has it.

    Args:
        source: name, exact types, key, notes.
        readings: how each column is read, by name.
        order: columns of a unique index without NULL, which chunks go by; () where there is none.
        definitions: of each column, by name.
    """

    source: SourceTable
    readings: Mapping[str, Reading]
    order: tuple[str, ...]
    definitions: Mapping[str, Definition] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """A table as the pipeline wants it.

    Args:
        table: columns and key; perhaps fewer columns, other types, another key than the database has.
        readings: how its columns are read, in their order.
        order: what chunks go by; () where it is read whole.
        generation: raised by a person when the database was restored.
        on_new_column: add, ignore or refuse.
        definitions: of the columns, as they are read.
        whole, dropped: see connectors.base.columns.AskedTable.
    """

    table: Table
    readings: tuple[Reading, ...]
    order: tuple[Reading, ...]
    generation: int = 0
    on_new_column: str = "add"
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    whole: str = ""
    dropped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """ "schema.table"."""
        return self.table.name

    def part(self, columns: Sequence[str]) -> Wanted:
        """With its key and those columns alone; (): with all. Raises ConfigurationError."""
        table = part(self, columns)
        names = [column.name for column in table.columns]
        return replace(self, table=table, readings=tuple(one for one in self.readings if one.name in names))

    def gained(self, found: CatalogTable, names: Sequence[str]) -> Wanted:
        """With columns of these names more, as they were found."""
        columns = tuple(found.source.table.column(name) for name in names)
        table = Table(self.table.name, (*self.table.columns, *columns), self.table.key)
        readings = (*self.readings, *(_readable(self.table.name, found, column) for column in columns))
        definitions = {**self.definitions, **{name: found.definitions[name] for name in names}}
        return replace(self, table=table, readings=readings, definitions=definitions)

    def check(self, instance: Instance) -> None:
        """Raises FatalError where a column is not what it was when the flow began to read it."""
        for name, definition in instance.definitions.items():
            known = self.definitions.get(name, definition)
            if definition != known:
                raise FatalError(
                    f"source.sqlserver: table {self.name}: column {name}: expected {_shown(known)}, as at the start, "
                    f"found {_shown(definition)}: the next start describes it anew"
                )


@dataclass(frozen=True)
class UniqueIndex:
    """A unique index; `nullable`: one of its columns may be NULL, so it is no key."""

    name: str
    columns: tuple[str, ...]
    nullable: bool


@dataclass(frozen=True)
class Instance:
    """A capture instance.

    Args:
        name: its own. table: "schema.table".
        min_lsn: where its changes begin; those before it were never there, or are cleaned up.
        ordinals: its columns' numbers from 1 on: bits of the update mask.
        role: who may read it; None: nobody is kept out.
        definitions: of its columns, as the table has them now.
    """

    name: str
    table: str
    min_lsn: bytes
    ordinals: Mapping[str, int]
    role: str | None = None
    definitions: Mapping[str, Definition] = field(default_factory=dict)


def _shown(definition: Definition) -> str:
    kind, length, precision, scale, nullable = definition
    return f"{kind} ({length} bytes, {precision} digits, scale {scale}){'' if nullable else ' NOT NULL'}"


def names(session: Session) -> list[str]:
    """All tables, as "schema.table"."""
    return [f"{schema}.{table}" for schema, table in session.ask(sql.TABLE_NAMES)]


def describe(session: Session, name: str, captured: Collection[str] | None = None) -> CatalogTable:
    """A table with exact types; computed columns are left out. Raises ConfigurationError where it is not there.

    Args:
        captured: columns of its capture instances, without which later changes are not seen; None: all are taken.
    """
    found = session.ask(sql.COLUMNS, sql.full_name(name))
    if not found:
        raise ConfigurationError(f"source.sqlserver: expected a table {name!r}, found none that this login may see")
    key = _key(session, name)
    readings, definitions, columns, notes = {}, {}, [], []
    for column, computed, kind, max_length, precision, scale, nullable in found:
        if computed or (captured is not None and column not in captured):
            why = "computed: change tables have no value of it" if computed else "in no capture instance"
            notes.append(f"{name}.{column}: {why}, so it is left out")
            continue
        one = readings[column] = reading(column, kind, max_length, precision, scale)
        definitions[column] = (kind, max_length, precision, scale, bool(nullable))
        columns.append(Column(column, one.type, bool(nullable)))
        if one.note:
            notes.append(f"{name}.{column}: {one.note}")
    key = tuple(part for part in key if part in readings) if all(part in readings for part in key) else ()
    if not key:
        notes.append(f"{name}: no primary key and no unique index without NULL: give it a key by `key`")
    table = Table(name, tuple(columns), key)
    return CatalogTable(SourceTable(name, table, tuple(notes)), readings, key, definitions)


def _key(session: Session, name: str) -> tuple[str, ...]:
    """The primary key, else the first unique index whose columns have no NULL."""
    return next((index.columns for index in unique_indexes(session, name) if not index.nullable), ())


def unique_indexes(session: Session, name: str) -> list[UniqueIndex]:
    """Those of a table, the primary key first."""
    found: dict[int, UniqueIndex] = {}
    for number, index, column, nullable in session.ask(sql.UNIQUE_KEYS, sql.full_name(name)):
        there = found.get(number, UniqueIndex(index, (), False))
        found[number] = UniqueIndex(index, (*there.columns, column), there.nullable or bool(nullable))
    return list(found.values())


def wanted(found: CatalogTable, table: Table, binding: TableBinding) -> Wanted:
    """A described table as the pipeline file wants it. Raises ConfigurationError where it cannot be read so."""
    if not table.key:
        raise ConfigurationError(
            f"source.sqlserver: expected a key for table {table.name}, found none: name columns that no two rows share "
            f"by `key`, or {add_key(table.name)}, and have it captured"
        )
    for column in binding.columns or ():
        if column.unit is not None:
            raise ConfigurationError(
                f"table {table.name}: column {column.name}: expected no `unit`, as SQL Server's times are typed"
            )
    return Wanted(
        table,
        tuple(_readable(table.name, found, column) for column in table.columns),
        tuple(found.readings[name] for name in found.order),
        binding.generation,
        binding.new_column,
        {column.name: found.definitions[column.name] for column in table.columns},
        binding.whole,
        binding.dropped,
    )


def _readable(table: str, found: CatalogTable, column: Column) -> Reading:
    one = found.readings[column.name]
    if one.refused:
        raise ConfigurationError(f"table {table}: column {column.name}: {one.refused}")
    if not readable_as(one, column.type):
        raise ConfigurationError(
            f"table {table}: column {column.name}: expected {one.type}, or a type that holds it, found {column.type}"
        )
    return one


def instances(session: Session) -> dict[str, list[Instance]]:
    """The capture instances of all tables, a table's older one first. Raises ConfigurationError where CDC is off."""
    ordinals: dict[str, dict[str, int]] = {}
    definitions: dict[str, dict[str, Definition]] = {}
    for instance, column, ordinal, *definition, nullable in session.ask(sql.CAPTURED_COLUMNS):
        ordinals.setdefault(instance, {})[column] = ordinal
        definitions.setdefault(instance, {})[column] = (*definition, bool(nullable))
    found: dict[str, list[Instance]] = {}
    for schema, name, instance, min_lsn, role in session.ask(sql.INSTANCES):
        table = f"{schema}.{name}"
        columns = ordinals.get(instance, {}), definitions.get(instance, {})
        found.setdefault(table, []).append(Instance(instance, table, min_lsn, columns[0], role, columns[1]))
    return found


def captured_columns(session: Session) -> dict[str, set[str]]:
    """table -> columns of its capture instances; none where nothing is captured, or may be seen: the start tells."""
    try:
        found = instances(session)
    except (ConfigurationError, FatalError) as error:
        _log.debug("capture instances cannot be seen", error=str(error))
        return {}
    return {name: {column for one in there for column in one.ordinals} for name, there in found.items()}


def add_key(name: str) -> str:
    """The statement that gives a table a key."""
    return f"ALTER TABLE {sql.full_name(name)} ADD [headrace_id] bigint IDENTITY NOT NULL PRIMARY KEY NONCLUSTERED"


def named_table(name: str) -> str:
    """The parameters of CDC's procedures that name a table."""
    schema, _, table = name.partition(".")
    return f"@source_schema = {sql.literal(schema)}, @source_name = {sql.literal(table)}"


def enable_table(name: str) -> str:
    """The statement that has a table captured."""
    return f"EXEC sys.sp_cdc_enable_table {named_table(name)}, @role_name = NULL"
