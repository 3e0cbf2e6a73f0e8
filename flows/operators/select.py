"""Computed columns: SQL expressions over one row, answered by DuckDB for a whole batch; exact, or the row is refused.

DuckDB multiplies and adds decimals and integers exactly and raises where a result does not fit its type. What would
silently become a float (a division of decimals) is refused when the step is made: `types` or a CAST says what is meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.items import Item, Truncate
from flows.operators import unset as unset_bits
from flows.operators.batch import Around, BatchStep
from flows.operators.dead_letters import dead_letters
from flows.operators.where import one_row_only
from libcore.change import UNSET, ChangeBatch, Op, arrow_schema, op_is
from libcore.errors import ConfigurationError
from libcore.schema import Column, ColumnType, Table, parse_type

_VOLATILE = re.compile(
    r"\b(now|today|random|uuid|gen_random_uuid|nextval|current_(?:date|time|timestamp)|get_current_\w+|localtime\w*|"
    r"txid_current|getenv|read_\w+|glob)\b",
    re.I,
)
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


@dataclass(frozen=True)
class SelectPlan:
    """Computed columns that fit a table. Made by `plan_select`."""

    source: Table
    result: Table
    expressions: Mapping[str, str]
    types: Mapping[str, str]
    drop: tuple[str, ...]
    read: tuple[str, ...]

    @property
    def present(self) -> Collection[str]:
        """Result columns that no row lacks, whatever comes unset."""
        return self.expressions

    @cached_property
    def query(self) -> str:
        """The computed columns over a relation with the source's columns, each cast to its type."""
        types = {column.name: column.type for column in self.result.columns}
        return ", ".join(
            f'CAST({text} AS {sql_type(types[name])}) AS "{name}"' for name, text in self.expressions.items()
        )


def plan_select(
    table: Table, expressions: Mapping[str, str], types: Mapping[str, str], drop: Sequence[str], name: str
) -> SelectPlan:
    """Fit expressions to a table, by trying them on no rows.

    Args:
        table: what comes in. name: the result's name.
        expressions: result column -> SQL over the table's columns; a column of that name is replaced.
        types: result column -> exact type, where it is not what the expression gives.
        drop: columns of the table that the result has not.
    Raises: ConfigurationError where an expression does not fit, looks beyond its row, is different each time it is
        asked, or gives a float that no input is.
    """
    columns = [column for column in table.columns if column.name not in drop and column.name not in expressions]
    for column_name in (*drop, *expressions):
        if column_name in table.key:
            raise ConfigurationError(
                f"table {table.name}: expected columns outside of the key, found key column {column_name!r}"
            )
    names = [column.name for column in table.columns]
    if unknown := [one for one in drop if one not in names]:
        raise ConfigurationError(f"table {table.name}: drop: expected columns of {names}, found {unknown[0]!r}")
    if unknown := [one for one in types if one not in expressions]:
        raise ConfigurationError(f"table {table.name}: types: expected columns of `select`, found {unknown[0]!r}")
    read: set[str] = set()
    for column_name, text in expressions.items():
        read |= _columns_of(table, column_name, text)
        columns.append(Column(column_name, _type_of(table, column_name, text, types.get(column_name))))
    return SelectPlan(
        table, Table(name, tuple(columns), table.key), dict(expressions), dict(types), tuple(drop), tuple(sorted(read))
    )


class Select:
    """The mapper of the step; rows whose expression fails become dead letters, each by itself."""

    def __init__(self, flow: str, step: str, plan: SelectPlan) -> None:
        self._flow, self._step, self._name = flow, step, plan.source.name
        self._first = plan
        self._plans = {plan.source: plan}
        self._inner = BatchStep(flow, step, self.answer, lambda table: self._plan(table).result)
        self._connection: Any = None

    def beside(self, around: Around) -> None:
        """Put something around `answer`: a new version beside it."""
        self._inner = BatchStep(self._flow, self._step, around(self.answer), lambda table: self._plan(table).result)

    def __call__(self, items: Sequence[Item]) -> list[Item]:
        """Batches of the table in, batches of the result and dead letters out; other items are left out."""
        out: list[Item] = []
        for item in items:
            if isinstance(item, ChangeBatch) and item.table.name == self._name and item.row_count:
                out += self._batch(item)
            elif isinstance(item, Truncate) and item.table == self._name:
                out.append(Truncate(self._first.result.name, item.identity))
        return out

    def _plan(self, table: Table) -> SelectPlan:
        """The plan of that exact table: one that gained columns has a result that gained them, too."""
        if table not in self._plans:
            first = self._first
            self._plans[table] = plan_select(table, first.expressions, first.types, first.drop, first.result.name)
        return self._plans[table]

    def _batch(self, batch: ChangeBatch) -> list[Item]:
        letters: list[Item] = []
        if batch.has_unset and (lacking := self._lacking(batch)):
            sentence = "expected all columns that an expression reads in the change, found one that was not sent"
            letters.append(dead_letters(self._flow, self._step, batch, lacking, [sentence] * len(lacking)))
            left = sorted(set(range(batch.row_count)) - set(lacking))
            batch = ChangeBatch(batch.table, batch.record.take(pa.array(left, pa.int64())))
        return [*self._inner([batch]), *letters] if batch.row_count else letters

    def _lacking(self, batch: ChangeBatch) -> list[int]:
        names = [column.name for column in batch.table.columns]
        lacks = pa.array([False] * batch.row_count)
        for name in self._plan(batch.table).read:
            lacks = pc.or_(lacks, unset_bits.bits(batch.record.column(UNSET), names.index(name)))
        lacks = pc.and_(lacks, pc.invert(op_is(batch.record, Op.DELETE)))
        return [row.as_py() for row in pc.indices_nonzero(lacks)]

    def answer(self, batch: ChangeBatch) -> ChangeBatch:
        """The result's rows, one for each; raises where one of them cannot be computed."""
        plan, record = self._plan(batch.table), batch.record
        kept = [column.name for column in plan.result.columns if column.name not in plan.expressions]
        arrays = {name: record.column(name) for name in kept} | self._values(plan, record)
        columns = [arrays[column.name] for column in plan.result.columns]
        columns += record.columns[len(plan.source.columns) : len(plan.source.columns) + 3]
        schema = arrow_schema(plan.result, with_unset=batch.has_unset)
        if batch.has_unset:
            columns.append(self._bitmap(batch))
        return ChangeBatch(plan.result, pa.RecordBatch.from_arrays(columns, schema=schema))

    def _values(self, plan: SelectPlan, record: pa.RecordBatch) -> dict[str, pa.Array]:
        """The computed columns. A delete by key has NULLs there, and its row of NULLs is not asked: it might fail."""
        rows = record.select([column.name for column in plan.source.columns])
        place: pa.Array | None = None
        if plan.source.key and pc.any(deleted := op_is(record, Op.DELETE)).as_py():
            lives = pc.invert(deleted)
            rows = rows.filter(lives)
            number = pc.subtract(pc.cumulative_sum(lives.cast(pa.int64())), pa.scalar(1, pa.int64()))
            place = pc.if_else(lives, number, pa.scalar(None, pa.int64()))
        types = {name: plan.result.column(name).type.arrow for name in plan.expressions}
        if not rows.num_rows:
            return {name: pa.nulls(record.num_rows, kind) for name, kind in types.items()}
        found = self._answers(plan, rows)
        arrays = {}
        for name, kind in types.items():
            values = found.column(name).combine_chunks().cast(kind)
            values = values.chunk(0) if isinstance(values, pa.ChunkedArray) else values
            arrays[name] = values if place is None else values.take(place)
        return arrays

    def _answers(self, plan: SelectPlan, rows: pa.RecordBatch) -> pa.Table:
        """The computed columns of some rows, at least one."""
        return self._relation(rows).project(plan.query).to_arrow_table().combine_chunks()

    def _bitmap(self, batch: ChangeBatch) -> pa.Array:
        """The bits of the columns that may come unset."""
        plan, names = self._plan(batch.table), [column.name for column in batch.table.columns]
        bitmap = batch.record.column(UNSET)
        masks = [
            unset_bits.bits(bitmap, names.index(column.name))
            if column.name in names and column.name not in plan.present
            else None
            for column in plan.result.columns
        ]
        return unset_bits.laid(masks, batch.row_count)

    def _relation(self, rows: pa.RecordBatch) -> Any:
        if self._connection is None:
            self._connection = connect()
        return self._connection.from_arrow(pa.Table.from_batches([rows]))


def connect() -> Any:
    """A DuckDB of one thread, in memory, in UTC, that reads no files. Raises ConfigurationError where it is missing."""
    try:
        import duckdb
    except ImportError as error:
        raise ConfigurationError("`select` needs DuckDB: pip install 'headrace[steps]'") from error
    connection = duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def sql_type(kind: ColumnType) -> str:
    """DuckDB's name of an exact type. Raises ConfigurationError for one that it cannot compute with."""
    plain = {
        "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT", "float32": "FLOAT", "float64": "DOUBLE",
        "bool": "BOOLEAN", "string": "VARCHAR", "bytes": "BLOB", "date": "DATE", "time": "TIME",
        "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMPTZ", "uuid": "VARCHAR", "json": "VARCHAR",
        "numeric": "VARCHAR",
    }  # fmt: skip
    if kind.name == "decimal" and kind.precision <= 38:
        return f"DECIMAL({kind.precision},{kind.scale})"
    if kind.name not in plain:
        raise ConfigurationError(f"expected a type that can be computed with, found {kind}")
    return plain[kind.name]


def _columns_of(table: Table, name: str, text: str) -> set[str]:
    """The table's columns that an expression names; refuses what looks beyond the row or changes by itself."""
    bare = _QUOTED.sub("''", text)
    if found := one_row_only(bare) or (match[1] if (match := _VOLATILE.search(bare)) else None):
        raise _refused(table, name, text, "an expression over one row, the same each time", found)
    words = {word.lower() for word in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", bare)}
    quoted = {word[1:-1].replace('""', '"') for word in re.findall(r"\"(?:[^\"]|\"\")*\"", text)}
    return {column.name for column in table.columns if column.name.lower() in words or column.name in quoted}


def _type_of(table: Table, name: str, text: str, wanted: str | None) -> ColumnType:
    connection = connect()
    empty = pa.Table.from_batches([], pa.schema([(column.name, column.type.arrow) for column in table.columns]))
    try:
        found = connection.from_arrow(empty).project(f"{text} AS x")
        gives = _exact(str(found.types[0]))
        if found.fetchall():
            raise _refused(table, name, text, "an expression over one row", "an aggregate")
    except ConfigurationError:
        raise
    except Exception as error:
        columns = ", ".join(f"{column.name} {column.type}" for column in table.columns)
        raise _refused(table, name, text, f"SQL over {columns}", str(error).splitlines()[0]) from error
    finally:
        connection.close()
    if wanted is not None:
        kind = parse_type(wanted)
        sql_type(kind)
        if gives.name != "float64" or kind.name.startswith("float"):
            return kind
    floats = [column.name for column in table.columns if column.type.name.startswith("float")]
    if gives.name.startswith("float") and not floats:
        raise _refused(
            table, name, text, "an exact result", "a float, as a division gives; use // or multiply, or CAST its parts"
        )
    return gives


def _exact(name: str) -> ColumnType:
    """Our type for DuckDB's. Raises ConfigurationError for those that have none."""
    known = {
        "SMALLINT": "int16", "TINYINT": "int16", "INTEGER": "int32", "BIGINT": "int64", "FLOAT": "float32",
        "DOUBLE": "float64", "BOOLEAN": "bool", "VARCHAR": "string", "BLOB": "bytes", "DATE": "date", "TIME": "time",
        "TIMESTAMP": "timestamp", "TIMESTAMP WITH TIME ZONE": "timestamptz", "HUGEINT": "decimal(38,0)",
    }  # fmt: skip
    if match := re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", name):
        return ColumnType("decimal", int(match[1]), int(match[2]))
    if name not in known:
        raise ConfigurationError(
            f"expected a type that a table can have, found {name}; CAST it, or name one in `types`"
        )
    return parse_type(known[name])


def _refused(table: Table, name: str, text: str, expected: str, found: str) -> ConfigurationError:
    return ConfigurationError(f"table {table.name}: select.{name} = {text!r}: expected {expected}, found {found}")
