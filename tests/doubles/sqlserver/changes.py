"""INSERT, UPDATE and DELETE: each value converted to its column's type, defaults and row versions filled in."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from tests.doubles.sqlserver.answers import DELETE, INSERT, UPDATE, Field
from tests.doubles.sqlserver.catalog import IDENTITY, Column, Relation
from tests.doubles.sqlserver.compiler import Compiler, Scope
from tests.doubles.sqlserver.dialect import parse
from tests.doubles.sqlserver.engine import Transaction
from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.types import SqlType

_ROW_VERSION = "substr(to_lsn(next_number()), -8)"
_AS_THEY_ARE = ("int", "bigint", "varbinary", "nvarchar", "varchar", "float")


class Changes:
    """Turns changes into SQLite's."""

    def __init__(self, transaction: Transaction, compiler: Callable[[], Compiler]) -> None:
        self._transaction, self._compiler = transaction, compiler

    def compile(self, tree: exp.Expression) -> tuple[str, Relation, int]:
        """The statement, the table it changes, and the command's number on the wire."""
        self._transaction.read()
        if isinstance(tree, exp.Insert):
            return self._insert(tree)
        if isinstance(tree, exp.Update):
            return self._update(tree)
        return self._delete(tree)

    def _insert(self, tree: exp.Insert) -> tuple[str, Relation, int]:
        compiler = self._compiler()
        table = tree.this.this if isinstance(tree.this, exp.Schema) else tree.this
        relation = compiler.relation(table, "INSERT")
        names = [part.name for part in tree.this.expressions] if isinstance(tree.this, exp.Schema) else []
        given = [_known(relation, name) for name in names] or _settable(relation)
        source = tree.expression
        if isinstance(source, exp.Values):
            rows = [self._row(row, given, compiler) for row in source.expressions]
            text = "VALUES " + ", ".join(f"({', '.join(row)})" for row in rows)
        else:
            fields = compiler.query(source, encoded=False)
            pairs = enumerate(zip(fields, given, strict=True))
            picked = [_converted(f'"c{at}"', one.kind, column.kind) for at, (one, column) in pairs]
            inner = ", ".join(f'"c{at}"' for at in range(len(given)))
            text = f"SELECT {', '.join(picked)} FROM (WITH s({inner}) AS ({source.sql('sqlite')}) SELECT * FROM s)"
        return self._with_rest(relation, given, text), relation, INSERT

    def _row(self, row: exp.Expression, given: list[Column], compiler: Compiler) -> list[str]:
        parts = list(row.expressions) if isinstance(row, exp.Tuple) else [row.this]
        if len(parts) != len(given):
            raise SqlError(109, "There are more or fewer columns in the INSERT statement than values specified.")
        return [self._expression(part, column, compiler, Scope()) for part, column in zip(parts, given, strict=True)]

    def _expression(self, tree: exp.Expression, column: Column, compiler: Compiler, scope: Scope) -> str:
        if tree.name.upper() == "DEFAULT" and isinstance(tree, exp.Column | exp.Var):
            return self._initial(column)
        holder = exp.Paren(this=tree)
        kind = compiler.kind(holder.this, scope)
        return _converted(holder.this.sql("sqlite"), kind, column.kind)

    def _initial(self, column: Column) -> str:
        if column.kind.name == "rowversion":
            return _ROW_VERSION
        if column.initial == IDENTITY:
            return "next_number()"
        if not column.initial:
            return "NULL"
        tree = parse(f"SELECT {column.initial}").selects[0]
        return self._expression(tree.copy(), column, self._compiler(), Scope())

    def _with_rest(self, relation: Relation, given: list[Column], source: str) -> str:
        rest = [column for column in relation.columns if column not in given]
        listed = ", ".join(f'"{column.name}"' for column in [*given, *rest])
        if not rest:
            return f'INSERT INTO "{relation.name}" ({listed}) {source}'
        filled = ", ".join(self._initial(column) for column in rest)
        return f'INSERT INTO "{relation.name}" ({listed}) SELECT *, {filled} FROM ({source})'

    def _update(self, tree: exp.Update) -> tuple[str, Relation, int]:
        compiler, scope = self._compiler(), Scope()
        relation = self._target(compiler.relation(tree.this, "UPDATE"), scope)
        assigned = []
        for part in tree.expressions:
            column = _known(relation, part.this.name)
            assigned.append(f'"{column.name}" = {self._expression(part.expression, column, compiler, scope)}')
        versions = [column.name for column in relation.columns if column.kind.name == "rowversion"]
        assigned += [f'"{name}" = {_ROW_VERSION}' for name in versions]
        where = _where(tree, compiler, scope)
        return f'UPDATE "{relation.name}" AS "t" SET {", ".join(assigned)}{where}', relation, UPDATE

    def _delete(self, tree: exp.Delete) -> tuple[str, Relation, int]:
        compiler, scope = self._compiler(), Scope()
        relation = self._target(compiler.relation(tree.this, "DELETE"), scope)
        return f'DELETE FROM "{relation.name}" AS "t"{_where(tree, compiler, scope)}', relation, DELETE

    def _target(self, relation: Relation, scope: Scope) -> Relation:
        scope.sources["t"] = [Field(column.name, column.kind, column.encoded) for column in relation.columns]
        return relation


def _where(tree: exp.Expression, compiler: Compiler, scope: Scope) -> str:
    where = tree.args.get("where")
    if where is None:
        return ""
    compiler.kind(where, scope)
    return " " + where.sql("sqlite")


def _known(relation: Relation, name: str) -> Column:
    column = relation.column(name)
    if column is None:
        raise SqlError(207, f"Invalid column name '{name}'.")
    if column.kind.name == "rowversion":
        raise SqlError(273, "Cannot insert or update an explicit value in a timestamp column.")
    if column.initial == IDENTITY:
        raise SqlError(544, f"Cannot insert or update an explicit value in identity column '{name}'.")
    return column


def _settable(relation: Relation) -> list[Column]:
    return [column for column in relation.columns if column.kind.name != "rowversion" and column.initial != IDENTITY]


def _converted(text: str, source: SqlType, target: SqlType) -> str:
    """The value in the form its column keeps; what cannot differ is left as it is."""
    shorter = target.length < 0 or 0 < source.length <= target.length
    same = source.name == target.name or {source.name, target.name} <= {"varchar", "nvarchar"}
    if text == "NULL" or (same and target.name in _AS_THEY_ARE and (shorter or not target.length)):
        return text
    return f"tds_convert({text}, '{source}', '{target}', 0)"
