"""What a join is, worked out and checked before a row flows: which columns meet, what comes out, what state holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from libcore.change import OP, POSITION, SOURCE_TS, SOURCE_TS_TYPE, UNSET
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table

VERSION = "__version"
CONTROL = (OP, POSITION, SOURCE_TS, UNSET, VERSION)
_INTEGERS = ("int16", "int32", "int64")


@dataclass(frozen=True)
class JoinPlan:
    """A fact table joined with a dimension by foreign key; made by plan_join, which checks it.

    fact, dimension: the tables as they come in. result: the fact's columns, then the taken ones; key of the fact.
    on: fact column -> dimension column, all of the dimension's key. take: dimension column -> result column.
    how: "inner" or "left". kept: the fact's columns that stage (a) holds to fill a row that comes without them.
    """

    fact: Table
    dimension: Table
    result: Table
    on: Mapping[str, str]
    take: Mapping[str, str]
    how: str
    kept: tuple[str, ...]

    @property
    def name(self) -> str:
        """The result's name."""
        return self.result.name

    @property
    def inner(self) -> bool:
        """Whether a fact without a partner is left out of the result."""
        return self.how == "inner"

    @cached_property
    def foreign_key(self) -> tuple[str, ...]:
        """The fact's columns that point at the dimension, in the order of the dimension's key."""
        fact_column = {there: here for here, there in self.on.items()}
        return tuple(fact_column[name] for name in self.dimension.key)

    @cached_property
    def fact_names(self) -> tuple[str, ...]:
        """All columns of the fact."""
        return tuple(column.name for column in self.fact.columns)

    @cached_property
    def held(self) -> tuple[str, ...]:
        """The fact's columns in the store of stage (a), in the fact's order: key, foreign key, kept ones."""
        names = {*self.fact.key, *self.foreign_key, *self.kept}
        return tuple(name for name in self.fact_names if name in names)

    @cached_property
    def place(self) -> tuple[str, ...]:
        """Where a fact lies in stage (b): foreign key, then what is left of the fact's key."""
        return tuple(dict.fromkeys([*self.foreign_key, *self.fact.key]))

    @cached_property
    def partner(self) -> tuple[str, ...]:
        """The dimension's columns in the store of stage (b), in the dimension's order: key, then taken ones."""
        names = {*self.dimension.key, *self.take}
        return tuple(column.name for column in self.dimension.columns if column.name in names)

    @cached_property
    def held_schema(self) -> pa.Schema:
        """Store "keys" of stage (a); __unset has a bit for each held column and is NULL where none is set."""
        return _stored(self.fact, self.held, version=False)

    @cached_property
    def facts_schema(self) -> pa.Schema:
        """Store "facts" of stage (b); __unset has a bit for each column of the fact."""
        return _stored(self.fact, self.fact_names, version=True)

    @cached_property
    def partner_schema(self) -> pa.Schema:
        """Store "dimension" of stage (b); __unset has a bit for each column of the store."""
        return _stored(self.dimension, self.partner, version=False)

    @cached_property
    def routed_schema(self) -> pa.Schema:
        """What travels from (a) to (b): the fact's columns, __op, __version, __source_ts; perhaps __unset behind."""
        return _travelling(self.fact)

    @cached_property
    def result_schema(self) -> pa.Schema:
        """What travels to (c): the result's columns, __op, __version, __source_ts; perhaps __unset behind."""
        return _travelling(self.result)


def plan_join(
    fact: Table,
    dimension: Table,
    on: Mapping[str, str],
    take: Mapping[str, str],
    how: str,
    name: str,
    *,
    kept: Sequence[str] | None = None,
) -> JoinPlan:
    """Check a join and work out its result.

    Args:
        fact: n rows point at one of the dimension.
        on: fact column -> dimension column; each column of the dimension's key once. Integers of another width meet.
        take: dimension column -> name in the result; may be empty (inner: only the facts that have a partner).
        how: "inner", or "left": facts without a partner stay, taken columns NULL.
        name: the result's name.
        kept: the fact's columns that may come unset; by default those of variable width (an unchanged TOAST or LOB
            value). One outside keeps its value while the fact stays at its foreign key; moved, it stays unset.
    Raises: ConfigurationError that says what was expected and found.
    """
    where = f"join {name}"
    if how not in ("inner", "left"):
        raise ConfigurationError(f'{where}: how: expected "inner" or "left", found {how!r}')
    for table in (fact, dimension):
        if not table.key:
            raise ConfigurationError(f"{where}: table {table.name}: expected a key, found none")
    _check_on(where, fact, dimension, on)
    for column in take:
        _find(where, "take", dimension, column)
    for column in kept or ():
        _find(where, "kept", fact, column)
    if kept is None:
        kept = [column.name for column in fact.columns if _is_variable(column)]
    plain = {*fact.key, *on}
    return JoinPlan(
        fact,
        dimension,
        _result(where, fact, dimension, take, how, name),
        dict(on),
        dict(take),
        how,
        tuple(column for column in kept if column not in plain),
    )


def replanned(plan: JoinPlan, fact: Table | None, dimension: Table | None) -> JoinPlan:
    """The plan with a table that gained columns. Raises ConfigurationError where it changed otherwise."""
    for old, new in ((plan.fact, fact), (plan.dimension, dimension)):
        if new is not None:
            check_grown(f"join {plan.name}", old, new)
    new_fact = fact or plan.fact
    gained = [c.name for c in new_fact.columns if c.name not in plan.fact_names and _is_variable(c)]
    new_dimension = dimension or plan.dimension
    return plan_join(new_fact, new_dimension, plan.on, plan.take, plan.how, plan.name, kept=[*plan.kept, *gained])


def check_grown(where: str, old: Table, new: Table) -> None:
    """Raise ConfigurationError unless `new` is `old` with perhaps more columns."""
    if old.key != new.key:
        raise ConfigurationError(f"{where}: table {old.name}: expected the key {old.key}, found {new.key}")
    types = {column.name: column.type for column in new.columns}
    for column in old.columns:
        if types.get(column.name) != column.type:
            raise ConfigurationError(
                f"{where}: table {old.name}: column {column.name}: expected {column.type}, "
                f"found {types.get(column.name, 'no such column')}; only added columns are taken while it runs"
            )


def _check_on(where: str, fact: Table, dimension: Table, on: Mapping[str, str]) -> None:
    for here, there in on.items():
        left, right = _find(where, "on", fact, here), _find(where, "on", dimension, there)
        if left.type != right.type and not (left.type.name in _INTEGERS and right.type.name in _INTEGERS):
            raise ConfigurationError(
                f"{where}: on: {here} = {there}: expected one type on both sides, found {left.type} in {fact.name} "
                f"and {right.type} in {dimension.name}"
            )
    if sorted(on.values()) != sorted(dimension.key):
        raise ConfigurationError(
            f"{where}: on: expected each key column of {dimension.name} once, {list(dimension.key)}, "
            f"found {list(on.values())}"
        )


def _find(where: str, what: str, table: Table, name: str) -> Column:
    for column in table.columns:
        if column.name == name:
            return column
    names = [column.name for column in table.columns]
    raise ConfigurationError(f"{where}: {what}: expected a column of {table.name}, one of {names}, found {name!r}")


def _result(where: str, fact: Table, dimension: Table, take: Mapping[str, str], how: str, name: str) -> Table:
    columns = list(fact.columns)
    for there, here in take.items():
        if here in [column.name for column in columns]:
            raise ConfigurationError(
                f"{where}: take: expected a name that the result does not have yet, found {here!r} for "
                f"{dimension.name}.{there}; give it another name"
            )
        source = dimension.column(there)
        columns.append(Column(here, source.type, source.nullable or how == "left"))
    if taken := [column.name for column in columns if column.name in CONTROL]:
        raise ConfigurationError(f"{where}: expected column names other than {list(CONTROL)}, found {taken[0]!r}")
    return Table(name, tuple(columns), fact.key)


def _is_variable(column: Column) -> bool:
    return pa.types.is_string(column.type.arrow) or pa.types.is_binary(column.type.arrow)


def _stored(table: Table, names: Sequence[str], version: bool) -> pa.Schema:
    fields = [pa.field(name, table.column(name).type.arrow) for name in names]
    if version:
        fields.append(pa.field(VERSION, pa.int64()))
    return pa.schema([*fields, pa.field(UNSET, pa.binary((len(names) + 7) // 8))])


def _travelling(table: Table) -> pa.Schema:
    fields = [pa.field(column.name, column.type.arrow) for column in table.columns]
    fields += [
        pa.field(OP, pa.int8(), nullable=False),
        pa.field(VERSION, pa.int64(), nullable=False),
        pa.field(SOURCE_TS, SOURCE_TS_TYPE),
    ]
    return pa.schema(fields)
