"""Compare a target table with the rows it should have, by PostgreSQL itself: no value is compared in another system.

The expected rows are copied into a temporary table in the staging types of the sink, cast to the target's own types,
and joined by key; a table without a key is compared as a multiset. Equal means equal by value: numeric 1.50 = 1.5, one
instant in two time zones, jsonb whatever its spelling. Types without an equality, and those whose equality hides a
difference (citext, interval), are compared as the text that the target prints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from connectors.postgres.catalog import TargetColumn, TargetShape, inspect
from connectors.postgres.config import PostgresConfig, TargetTable
from connectors.postgres.session import Connection, connect, database_errors, quote
from connectors.postgres.types import cast, staging_type
from libcore.change import UNSET
from libcore.errors import ConfigurationError
from libcore.pgcopy import encode
from libcore.schema import ColumnType, Table

EXAMPLES_MAX = 10
_COPY_BYTES = 1 << 20
_STAGED, _EXPECTED = "headrace_staged", "headrace_expected"
# Equality that hides a difference, or is missing.
_AS_TEXT = frozenset(
    {"citext", "interval", "json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "money"}
)
# The sink's session forbids these for the sake of small segments; whole tables are compared here.
_WHOLE_TABLES = (
    "SET enable_hashjoin = on; SET enable_mergejoin = on; SET enable_seqscan = on; SET statement_timeout = 0"
)


@dataclass(frozen=True)
class Example:
    """One row that is not equal.

    Args:
        kind: missing | extra | different.
        key: the key columns' texts; all columns of a keyless table.
        differences: (column, expected text, found text) of a different row.
    """

    kind: str
    key: dict[str, str | None]
    differences: tuple[tuple[str, str | None, str | None], ...] = ()

    def __str__(self) -> str:
        key = ", ".join(f"{name}={text}" for name, text in self.key.items())
        texts = [
            f"{name}: expected {_short(expected)}, found {_short(found)}" for name, expected, found in self.differences
        ]
        return f"{self.kind} ({key})" + (": " + "; ".join(texts) if texts else "")


@dataclass(frozen=True)
class Difference:
    """How a target table compares with what it should hold; counts of rows."""

    equal: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    examples: list[Example] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """Whether the table holds exactly the expected rows."""
        return self.missing == self.extra == self.different == 0


class Comparison:
    """One table's comparison. Use as a context manager; it holds a session with temporary tables.

    Args:
        config: the target database.
        target: the target table.
        table: the expected rows' columns, under their target names, and the key.
        with_unset: rows may come with an __unset column; such a value is unknown and not compared.
    """

    def __init__(self, config: PostgresConfig, target: TargetTable, table: Table, *, with_unset: bool = False) -> None:
        self._config, self._target, self._table, self._with_unset = config, target, table, with_unset
        self._connection: Connection | None = None
        self._copied = 0

    def __enter__(self) -> Comparison:
        self._connection = connect(self._config, "verify")
        with database_errors():
            self._connection.execute(_WHOLE_TABLES)
            columns = [f"{quote(column.name)} {staging_type(column.type)}" for column in self._table.columns]
            columns += [f"{quote(UNSET)} bytea"] if self._with_unset else []
            self._connection.execute(f"CREATE TEMPORARY TABLE {_STAGED} ({', '.join(columns)})")
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def expect(self, record: pa.RecordBatch) -> list[str]:
        """Rows that the target should hold; returns a sentence for each row that no PostgreSQL holds.

        Args:
            record: the table's columns among its own; __unset, where it is there, needs `with_unset`.
        """
        names = [column.name for column in self._table.columns]
        types: list[ColumnType | None] = [column.type for column in self._table.columns]
        if UNSET in record.schema.names:
            names, types = [*names, UNSET], [*types, None]
        encoded = encode(record.select(names), types)
        with database_errors(), self._session.cursor() as cursor:
            listed = ", ".join(quote(name) for name in names)
            with cursor.copy(f"COPY {_STAGED} ({listed}) FROM STDIN (FORMAT binary)") as copy:
                data = memoryview(encoded.buffer)
                for start in range(0, data.nbytes, _COPY_BYTES):
                    copy.write(data[start : start + _COPY_BYTES])
        self._copied += encoded.rows
        return [f"{table_column(self._table, error.column)}: {error.text}" for error in encoded.errors]

    def result(self) -> Difference:
        """Compare. Raises ConfigurationError where the target lacks one of the columns."""
        with database_errors():
            shape = inspect(self._session, self._target.schema, self._target.table)
            if not isinstance(shape, TargetShape):
                return Difference(missing=self._copied)
            columns = [_named(shape, column.name) for column in self._table.columns]
            with self._session.transaction():
                self._session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                self._cast(columns)
                if not self._table.key:
                    return _keyless(self._session, shape, columns)
                return _keyed(self._session, shape, self._table.key, columns, self._with_unset)

    @property
    def _session(self) -> Connection:
        assert self._connection is not None, "use it inside a with block"
        return self._connection

    def _cast(self, columns: Iterable[TargetColumn]) -> None:
        """The expected rows in the target's own types, as an assignment would make them."""
        typed = ", ".join(f"{quote(column.name)} {column.type.text}" for column in columns)
        unset = f", {quote(UNSET)} bytea" if self._with_unset else ""
        self._session.execute(f"CREATE TEMPORARY TABLE {_EXPECTED} ({typed}{unset}) ON COMMIT DROP")
        casts = [cast(quote(c.name), s.type, c.type) for c, s in zip(columns, self._table.columns, strict=True)]
        casts += [quote(UNSET)] if self._with_unset else []
        self._session.execute(f"INSERT INTO {_EXPECTED} SELECT {', '.join(casts)} FROM {_STAGED}")
        self._session.execute(f"ANALYZE {_EXPECTED}")


def table_column(table: Table, index: int) -> str:
    """Name of the column that an encoding error speaks of."""
    return table.columns[index].name if 0 <= index < len(table.columns) else "?"


def _comparable(alias: str, column: TargetColumn) -> str:
    """An expression whose equality is equality of values."""
    name = f"{alias}.{quote(column.name)}"
    base = column.type.base.removesuffix("[]").rpartition(".")[2]
    if base in _AS_TEXT:
        return f'{name}::text COLLATE "C"'
    if base in ("text", "character varying"):
        return f'{name} COLLATE "C"'
    return name


def _keyed(
    connection: Connection, shape: TargetShape, key_names: Sequence[str], columns: list[TargetColumn], with_unset: bool
) -> Difference:
    """Join by key; a key that stands twice in the target is an extra row each further time."""
    key = [column for column in columns if column.name in key_names]
    others = [(index, column) for index, column in enumerate(columns) if column.name not in key_names]
    on = " AND ".join(f"{_comparable('t', column)} = {_comparable('e', column)}" for column in key)
    tests = []
    for index, column in others:
        test = f"{_comparable('t', column)} IS DISTINCT FROM {_comparable('e', column)}"
        tests.append(f"({test} AND coalesce(get_bit(e.{quote(UNSET)}, {index}), 0) = 0)" if with_unset else f"({test})")
    partition = ", ".join(_comparable("s", column) for column in key)
    target = f"(SELECT *, true AS __in, row_number() OVER (PARTITION BY {partition}) AS __copy FROM {shape.sql} s)"
    joined = f"{target} t FULL JOIN (SELECT *, true AS __in FROM {_EXPECTED}) e ON {on} AND t.__copy = 1"
    kind = (
        "CASE WHEN t.__in IS NULL THEN 'missing' WHEN e.__in IS NULL THEN 'extra' "
        f"WHEN {' OR '.join(tests) or 'false'} THEN 'different' ELSE 'equal' END"
    )
    counts: dict[str, int] = dict(connection.execute(f"SELECT {kind}, count(*) FROM {joined} GROUP BY 1").fetchall())
    examples: list[Example] = []
    if set(counts) - {"equal"}:
        shown = ", ".join(f"e.{quote(c.name)}::text, t.{quote(c.name)}::text" for c in columns)
        flags = ", ".join(tests) or "false"
        rows = connection.execute(
            f"SELECT * FROM (SELECT {kind} AS __kind, ARRAY[{flags}], {shown} FROM {joined}) j "
            f"WHERE __kind <> 'equal' LIMIT {EXAMPLES_MAX}"
        ).fetchall()
        examples = [_example(row, columns, [index for index, _ in others], key_names) for row in rows]
    return Difference(
        **{name: counts.get(name, 0) for name in ("equal", "missing", "extra", "different")}, examples=examples
    )


def _example(row: tuple[Any, ...], columns: list[TargetColumn], others: list[int], key_names: Sequence[str]) -> Example:
    kind, flags, texts = row[0], row[1], row[2:]
    both = {column.name: (texts[2 * i], texts[2 * i + 1]) for i, column in enumerate(columns)}
    key = {name: both[name][0] if kind != "extra" else both[name][1] for name in key_names}
    if kind != "different":
        return Example(kind, key)
    named = [columns[index].name for index, differs in zip(others, flags, strict=True) if differs]
    return Example(kind, key, tuple((name, *both[name]) for name in named))


def _keyless(connection: Connection, shape: TargetShape, columns: list[TargetColumn]) -> Difference:
    """Multisets: per distinct row, copies in the target minus copies expected."""
    values = ", ".join(f"{_comparable('x', column)} AS {quote(column.name)}" for column in columns)
    names = ", ".join(quote(column.name) for column in columns)
    sides = (
        f"SELECT {names}, sum(__in) AS __in, sum(__out) AS __out FROM (SELECT {values}, 1 AS __in, 0 AS __out "
        f"FROM {shape.sql} x UNION ALL SELECT {values}, 0, 1 FROM {_EXPECTED} x) both_sides GROUP BY {names}"
    )
    sums = ("least(__in, __out)", "greatest(__out - __in, 0)", "greatest(__in - __out, 0)")
    row = connection.execute(
        f"SELECT {', '.join(f'coalesce(sum({count}), 0)' for count in sums)} FROM ({sides}) s"
    ).fetchone()
    assert row is not None
    examples = []
    if row[1] or row[2]:
        shown = ", ".join(f"{quote(column.name)}::text" for column in columns)
        sided = "CASE WHEN __out > __in THEN 'missing' ELSE 'extra' END"
        for kind, *texts in connection.execute(
            f"SELECT {sided}, {shown} FROM ({sides}) s WHERE __out <> __in LIMIT {EXAMPLES_MAX}"
        ):
            examples.append(Example(kind, {column.name: text for column, text in zip(columns, texts, strict=True)}))
    return Difference(int(row[0]), int(row[1]), int(row[2]), 0, examples)


def copy_from_source(
    config: PostgresConfig,
    source: PostgresConfig,
    target: TargetTable,
    source_table: str,
    rename: Mapping[str, str],
    drop: Sequence[str],
    where: str | None,
) -> Difference:
    """Compare a target with a table of a PostgreSQL source, read in one snapshot of its own.

    Args:
        source_table: "schema.table" at the source; its primary key decides how rows are matched.
        rename, drop: as in the pipeline file. where: the same expression, answered by the source here.
    Raises: ConfigurationError where the source has no such table, or the target lacks a column of it.
    """
    there = TargetTable(source_table)
    with (
        closing(connect(source, "verify")) as reading,
        closing(connect(config, "verify")) as session,
        database_errors(),
    ):
        found = inspect(reading, there.schema, there.table)
        if not isinstance(found, TargetShape):
            raise ConfigurationError(f"source {source_table}: expected a table, found {found or 'none of that name'}")
        kept = [column for column in found.columns if column.name not in drop]
        key = tuple(rename.get(name, name) for name in _primary_key(reading, found))
        session.execute(_WHOLE_TABLES)
        shape = inspect(session, target.schema, target.table)
        if not isinstance(shape, TargetShape):
            row = reading.execute(f"SELECT count(*) FROM {found.sql}{_filter(where)}").fetchone()
            assert row is not None
            return Difference(missing=row[0])
        columns = [_named(shape, rename.get(column.name, column.name)) for column in kept]
        with session.transaction():
            typed = ", ".join(f"{quote(column.name)} {column.type.text}" for column in columns)
            session.execute(f"CREATE TEMPORARY TABLE {_EXPECTED} ({typed}) ON COMMIT DROP")
            names = ", ".join(quote(column.name) for column in kept)
            # Text, because the two sides' types may differ; each side's input and output functions are exact.
            query = f"COPY (SELECT {names} FROM {found.sql}{_filter(where)}) TO STDOUT"
            fill = f"COPY {_EXPECTED} FROM STDIN"
            with reading.cursor() as out, out.copy(query) as rows, session.cursor() as into, into.copy(fill) as copy:
                for chunk in rows:
                    copy.write(chunk)
            session.execute(f"ANALYZE {_EXPECTED}")
            return _keyed(session, shape, key, columns, False) if key else _keyless(session, shape, columns)


def _filter(where: str | None) -> str:
    return "" if where is None else f" WHERE {where}"


def _primary_key(connection: Connection, shape: TargetShape) -> list[str]:
    rows = connection.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
        "WHERE i.indrelid = %s::regclass AND i.indisprimary",
        (shape.sql,),
    )
    return [name for (name,) in rows]


def _named(shape: TargetShape, name: str) -> TargetColumn:
    found = shape.column(name)
    if found is None:
        raise ConfigurationError(
            f"target {shape.schema}.{shape.name}: expected column {name}, found {[c.name for c in shape.columns]}"
        )
    return found


def _short(text: str | None) -> str:
    if text is None:
        return "NULL"
    return repr(text) if len(text) <= 80 else repr(text[:60]) + f"... ({len(text)} characters)"
