"""Oracle's dictionary: which tables there are, their columns, keys and object numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from connectors.base.columns import part
from connectors.base.database import SourceTable, TableBinding
from connectors.oracle import sql
from connectors.oracle.session import Session
from connectors.oracle.types import OracleColumn, Reading, check_fits, parsed_as, reading
from libcore.errors import ConfigurationError
from libcore.redo import RedoPlan
from libcore.schema import Column, Table

PARTITION = "oracle"
"""The one source partition, which brings all tables."""


@dataclass(frozen=True)
class OracleTable:
    """A table as the dictionary has it.

    Args:
        called: its name in the pipeline.
        columns: those that have an exact type and stand in the redo. left_out: (name, why) of the others.
        key: names of the primary key's columns.
        object_id: what redo calls it where its name is not known.
    """

    called: str
    owner: str
    name: str
    columns: tuple[OracleColumn, ...]
    left_out: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    object_id: int

    @cached_property
    def by_name(self) -> dict[str, OracleColumn]:
        """The columns."""
        return {column.name: column for column in self.columns}

    def described(self) -> SourceTable:
        """For the pipeline. Raises ConfigurationError where no column is left, or one of the key's is left out."""
        if not self.columns:
            raise ConfigurationError(f"source.oracle: table {self.called}: none of its columns can be read")
        if missing := [name for name in self.key if name not in self.by_name]:
            raise ConfigurationError(
                f"source.oracle: table {self.called}: expected a key of types that can be read, found {missing[0]}: "
                f"{dict(self.left_out)[missing[0]]}"
            )
        columns = []
        for one in self.columns:
            assert one.type is not None, one
            columns.append(Column(one.name, one.type, one.nullable and one.name not in self.key))
        notes = [f"{self.called}.{name}: {why}" for name, why in self.left_out]
        notes += [f"{self.called}.{one.name}: {one.note}" for one in self.columns if one.note]
        if not self.key:
            notes.append(f"{self.called}: no primary key: each change is matched by the whole row")
        return SourceTable(self.called, Table(self.called, tuple(columns), self.key), tuple(notes), PARTITION)


@dataclass(frozen=True)
class WantedTable:
    """A table as the pipeline wants it.

    Args:
        table: columns and key; perhaps fewer columns, other types, another key than the database has.
        found: as the database has it.
        generation: raised by a person when the database was restored.
        on_new_column: what to do where the table gains a column: add, ignore or refuse; None: add.
        on_truncate: what to do where it is truncated: stop, ignore or apply.
        whole, dropped: see connectors.base.columns.AskedTable.
    """

    table: Table
    found: OracleTable
    generation: int = 0
    on_new_column: str | None = None
    on_truncate: str = "stop"
    whole: str = ""
    dropped: tuple[str, ...] = ()

    def part(self, columns: Sequence[str]) -> WantedTable:
        """With its key and those columns alone; (): with all. Raises ConfigurationError."""
        return replace(self, table=part(self, columns))

    @cached_property
    def readings(self) -> tuple[Reading, ...]:
        """How a query brings its columns, in their order."""
        return tuple(reading(self.found.by_name[column.name], column.type) for column in self.table.columns)

    @cached_property
    def plan(self) -> RedoPlan:
        """How its statements become rows. Columns that are not wanted are passed over."""
        columns = tuple(parsed_as(self.found.by_name[column.name], column) for column in self.table.columns)
        return RedoPlan.of(replace(self.table, columns=columns), skip_unknown=True, local_is_utc=True)

    @cached_property
    def plan_of_empty(self) -> RedoPlan:
        """The same where EMPTY_CLOB() and EMPTY_BLOB() are no values."""
        return replace(self.plan, columns=tuple(replace(one, empty_is_unset=True) for one in self.plan.columns))

    @cached_property
    def key_forms(self) -> tuple[tuple[str, str], ...]:
        """(expression, bind form) of the pipeline's key; () where it has none, or one that cannot be bound."""
        forms = [self.found.by_name[name].key_forms for name in self.table.key]
        return tuple(form for form in forms if form is not None) if None not in forms else ()

    @cached_property
    def has_large(self) -> bool:
        """Whether values may stand beside the rows."""
        return any(self.found.by_name[column.name].is_large for column in self.table.columns)


def wanted_table(table: Table, found: OracleTable, binding: TableBinding) -> WantedTable:
    """What the pipeline file says of a table, put together with it. Raises ConfigurationError: types do not fit."""
    for column in table.columns:
        if column.name not in found.by_name:
            raise ConfigurationError(f"source.oracle: table {table.name}: expected column {column.name}, found none")
        check_fits(found.by_name[column.name], column.type, table.name)
    on_truncate = getattr(binding, "on_truncate", "stop")
    return WantedTable(
        table, found, binding.generation, binding.new_column, on_truncate, binding.whole, binding.dropped
    )


def names(session: Session, default_schema: str) -> dict[str, tuple[str, str]]:
    """What each table is called -> (owner, name)."""
    return {_called(owner, name, default_schema): (owner, name) for owner, name in session.all(sql.TABLES)}


def _called(owner: str, name: str, default_schema: str) -> str:
    return name if owner == default_schema else f"{owner}.{name}"


def describe(session: Session, called: str, default_schema: str) -> OracleTable:
    """A table. Raises ConfigurationError where it is not there."""
    owner, name = called.split(".", 1) if "." in called else (default_schema, called)
    numbers = session.all(sql.OBJECT, owner=owner, name=name) if owner else []
    if not numbers:
        raise ConfigurationError(
            f"source.oracle: expected a table {called!r} (SCHEMA.TABLE, in the dictionary's case), found none that the "
            f"login may read; GRANT SELECT ON {sql.quote(owner)}.{sql.quote(name)} TO it"
        )
    columns, left_out = [], []
    for row in session.all(sql.COLUMNS, owner=owner, name=name):
        column = OracleColumn(row[0], row[1], row[2], row[3], int(row[4] or 0), row[5] == "Y", row[6])
        hidden, computed = row[8] == "YES", row[7] == "YES"
        if hidden:
            continue
        if computed or column.type is None:
            left_out.append((column.name, "a computed column stands in no redo: left out" if computed else column.note))
        else:
            columns.append(column)
    key = tuple(row[0] for row in session.all(sql.KEY, owner=owner, name=name))
    return OracleTable(called, owner, name, tuple(columns), tuple(left_out), key, int(numbers[0][0]))


def describe_all(session: Session, wanted: Sequence[str], default_schema: str) -> dict[str, OracleTable]:
    """These tables."""
    return {called: describe(session, called, default_schema) for called in wanted}
