"""A table's `where`: one SQL expression over its source columns, answered for a batch of rows at once by Polars.

The expression sees one row at a time, so aggregates, windows and sub-queries are refused. NULL is not true.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from libcore.errors import ConfigurationError
from libcore.schema import Table

_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_NOT_A_ROW = re.compile(
    r"\b(over|sum|count|avg|min|max|median|mode|std\w*|var\w*|first\w*|last\w*|corr|covar\w*|array_agg|string_agg|"
    r"quantile\w*|row_number|rank|dense_rank|lag|lead)\s*\(",
    re.I,
)
_SELECT = re.compile(r"\bselect\b", re.I)
_DECIMAL128_DIGITS_MAX = 38


@dataclass(frozen=True)
class Predicate:
    """A `where` that fits a table. Made by `compile_where`."""

    text: str
    columns: tuple[str, ...]
    expression: Any

    def mask(self, record: pa.RecordBatch) -> pa.BooleanArray:
        """True where the row is in, False where it is out or the expression is NULL; one value a row."""
        import polars

        frame = polars.DataFrame(pa.Table.from_batches([record.select(list(self.columns))]))
        answer = frame.select(self.expression.fill_null(False).alias("in")).to_arrow().column(0).combine_chunks()
        return answer.chunk(0) if isinstance(answer, pa.ChunkedArray) else answer


def columns_of(text: str) -> frozenset[str]:
    """The columns that a `where` names; it has passed `compile_where` before."""
    import polars

    return frozenset(polars.sql_expr(text).meta.root_names())


def compile_where(text: str, table: Table) -> Predicate:
    """Read a `where` and try it on an empty batch of the table.

    Raises: ConfigurationError where it is no expression, names no or an unknown column, compares what cannot be
    compared, or looks beyond its row.
    """
    import polars

    if found := one_row_only(_QUOTED.sub("''", text)):
        raise _refused(text, table, "an expression over one row", found)
    try:
        expression = polars.sql_expr(text)
    except polars.exceptions.PolarsError as error:
        raise _refused(text, table, "an SQL expression", str(error).splitlines()[0]) from error
    names = [column.name for column in table.columns]
    columns = tuple(dict.fromkeys(expression.meta.root_names()))
    if not columns:
        raise _refused(text, table, "an expression over at least one column", "none")
    if unknown := [name for name in columns if name not in names]:
        raise _refused(text, table, f"columns of {names}", repr(unknown[0]))
    for name in columns:
        kind = table.column(name).type
        if kind.name == "decimal" and kind.precision > _DECIMAL128_DIGITS_MAX:
            raise _refused(text, table, f"decimals of at most {_DECIMAL128_DIGITS_MAX} digits", f"{name} {kind}")
    predicate = Predicate(text, columns, expression)
    _try(predicate, table)
    return predicate


def one_row_only(bare: str) -> str | None:
    """What in an SQL text (its quoted parts emptied) looks beyond one row; None where nothing does."""
    if found := _NOT_A_ROW.search(bare):
        return f"{found[1]}()"
    return "a sub-query" if _SELECT.search(bare) else None


def _try(predicate: Predicate, table: Table) -> None:
    """Two rows of NULLs: enough to find type errors, and answers that are not one boolean a row."""
    import polars

    schema = pa.schema([pa.field(name, table.column(name).type.arrow) for name in predicate.columns])
    nulls = pa.RecordBatch.from_arrays([pa.nulls(2, field.type) for field in schema], schema=schema)
    frame = polars.DataFrame(pa.Table.from_batches([nulls]))
    try:
        answer = frame.select(predicate.expression.alias("in")).to_series()
    except polars.exceptions.PolarsError as error:
        found = " ".join(line.strip() for line in str(error).splitlines()[:1])
        types = ", ".join(f"{name} {table.column(name).type}" for name in predicate.columns)
        hint = "; write dates as DATE '2026-01-31', moments as CAST('2026-01-31 12:00' AS TIMESTAMP)"
        raise _refused(predicate.text, table, f"an expression that fits {types}", found + hint) from error
    if answer.dtype != polars.Boolean or len(answer) != 2:
        raise _refused(
            predicate.text, table, "true or false for each row", f"{answer.dtype} for {len(answer)} of 2 rows"
        )


def _refused(text: str, table: Table, expected: str, found: str) -> ConfigurationError:
    return ConfigurationError(f"table {table.name}: where {text!r}: expected {expected}, found {found}")
