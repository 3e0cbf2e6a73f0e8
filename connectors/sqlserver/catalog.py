"""What the database says of its tables: columns with exact types, keys, capture instances."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from connectors.base.database import SourceTable, TableBinding
from connectors.sqlserver import sql
from connectors.sqlserver.session import Session
from connectors.sqlserver.types import Reading, readable_as, reading
from libcore.errors import ConfigurationError, FatalError
from libcore.schema import Column, Table

_log = structlog.get_logger()


@dataclass(frozen=True)
class CatalogTable:
    """A table as the database has it.

    Args:
        source: name, exact types, key, notes.
        readings: how each column is read, by name.
        order: columns of a unique index without NULL, which chunks go by; () where there is none.
    """

    source: SourceTable
    readings: Mapping[str, Reading]
    order: tuple[str, ...]


@dataclass(frozen=True)
class Wanted:
    """A table as the pipeline wants it.

    Args:
        table: columns and key; perhaps fewer columns, other types, another key than the database has.
        readings: how its columns are read, in their order.
        order: what chunks go by; () where it is read whole.
        generation: raised by a person when the database was restored.
        on_new_column: add, ignore or refuse.
    """

    table: Table
    readings: tuple[Reading, ...]
    order: tuple[Reading, ...]
    generation: int = 0
    on_new_column: str = "add"

    @property
    def name(self) -> str:
        """ "schema.table"."""
        return self.table.name

    def gained(self, found: CatalogTable, names: Sequence[str]) -> Wanted:
        """With columns of these names more, as they were found."""
        columns = tuple(found.source.table.column(name) for name in names)
        table = Table(self.table.name, (*self.table.columns, *columns), self.table.key)
        readings = (*self.readings, *(_readable(self.table.name, found, column) for column in columns))
        return replace(self, table=table, readings=readings)


@dataclass(frozen=True)
class Instance:
    """A capture instance.

    Args:
        name: its own. table: "schema.table".
        min_lsn: where its changes begin; those before it were never there, or are cleaned up.
        ordinals: its columns' numbers from 1 on: bits of the update mask.
        role: who may read it; None: nobody is kept out.
    """

    name: str
    table: str
    min_lsn: bytes
    ordinals: Mapping[str, int]
    role: str | None = None


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
    readings, columns, notes = {}, [], []
    for column, kind, max_length, precision, scale, nullable, computed in found:
        if computed or (captured is not None and column not in captured):
            why = "computed: change tables have no value of it" if computed else "in no capture instance"
            notes.append(f"{name}.{column}: {why}, so it is left out")
            continue
        one = readings[column] = reading(column, kind, max_length, precision, scale)
        columns.append(Column(column, one.type, bool(nullable)))
        if one.note:
            notes.append(f"{name}.{column}: {one.note}")
    key = tuple(part for part in key if part in readings) if all(part in readings for part in key) else ()
    if not key:
        notes.append(f"{name}: no primary key and no unique index without NULL: give it a key by `key`")
    table = Table(name, tuple(columns), key)
    return CatalogTable(SourceTable(name, table, tuple(notes)), readings, key)


def _key(session: Session, name: str) -> tuple[str, ...]:
    """The primary key, else the first unique index whose columns have no NULL."""
    indexes: dict[int, list[tuple[str, bool]]] = {}
    for number, column, nullable in session.ask(sql.UNIQUE_KEYS, sql.full_name(name)):
        indexes.setdefault(number, []).append((column, bool(nullable)))
    for columns in indexes.values():
        if not any(nullable for _, nullable in columns):
            return tuple(column for column, _ in columns)
    return ()


def wanted(found: CatalogTable, table: Table, binding: TableBinding) -> Wanted:
    """A described table as the pipeline file wants it. Raises ConfigurationError where it cannot be read so."""
    if not table.key:
        raise ConfigurationError(
            f"source.sqlserver: expected a key for table {table.name}, found none: give it one by `key`"
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
    for instance, column, ordinal in session.ask(sql.CAPTURED_COLUMNS):
        ordinals.setdefault(instance, {})[column] = ordinal
    found: dict[str, list[Instance]] = {}
    for schema, name, instance, min_lsn, role in session.ask(sql.INSTANCES):
        table = f"{schema}.{name}"
        found.setdefault(table, []).append(Instance(instance, table, min_lsn, ordinals.get(instance, {}), role))
    return found


def captured_columns(session: Session) -> dict[str, set[str]]:
    """table -> columns of its capture instances; none where nothing is captured, or may be seen: the start tells."""
    try:
        found = instances(session)
    except (ConfigurationError, FatalError) as error:
        _log.debug("capture instances cannot be seen", error=str(error))
        return {}
    return {name: {column for one in there for column in one.ordinals} for name, there in found.items()}


def named_table(name: str) -> str:
    """The parameters of CDC's procedures that name a table."""
    schema, _, table = name.partition(".")
    return f"@source_schema = {sql.literal(schema)}, @source_name = {sql.literal(table)}"


def enable_table(name: str) -> str:
    """The statement that has a table captured."""
    return f"EXEC sys.sp_cdc_enable_table {named_table(name)}, @role_name = NULL"
