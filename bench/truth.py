"""The final tables that a workload must lead to, and the comparison of a PostgreSQL table with them, row by row.

The truth is folded by DuckDB straight from the files, with no code of the product in between: the last event of a key
decides, a delete removes it. Every value is compared as PostgreSQL's own text of it.
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

_TIME = (
    "strftime(make_timestamp(({0})::BIGINT), '%Y-%m-%d %H:%M:%S') || CASE ({0})::BIGINT % 1000000 WHEN 0 THEN '' "
    "ELSE '.' || rtrim(printf('%06d', ({0})::BIGINT % 1000000), '0') END"
)
_DATE = "(DATE '1970-01-01' + ({0})::INT)::VARCHAR"
_TEXT = "{0}"

COLUMNS: dict[str, dict[str, tuple[str, str, str]]] = {
    # table: column: (type in a pipeline file, type in PostgreSQL, text of the JSON value as PostgreSQL prints it)
    "items": {
        "order_id": ("int64", "bigint", _TEXT),
        "line_no": ("int64", "bigint", _TEXT),
        "sku": ("string", "text", _TEXT),
        "quantity": ("int32", "integer", _TEXT),
        "unit_price": ("decimal(18,4)", "numeric(18,4)", _TEXT),
        "discount": ("decimal(5,2)", "numeric(5,2)", _TEXT),
        "note": ("string", "text", _TEXT),
        "created_at": ("timestamp", "timestamp", _TIME),
    },
    "orders": {
        "id": ("int64", "bigint", _TEXT),
        "customer_id": ("int64", "bigint", _TEXT),
        "status": ("string", "text", _TEXT),
        "currency": ("string", "text", _TEXT),
        "ordered_at": ("timestamp", "timestamp", _TIME),
        "due_on": ("date", "date", _DATE),
    },
    "customers": {
        "id": ("int64", "bigint", _TEXT),
        "name": ("string", "text", _TEXT),
        "country": ("string", "text", _TEXT),
        "credit_limit": ("decimal(12,2)", "numeric(12,2)", _TEXT),
        "updated_at": ("timestamp", "timestamp", _TIME),
    },
}
# what the stateful flows make of them: items JOIN orders JOIN customers, inner, by the item's key
JOINED: dict[str, dict[str, tuple[str, str, str]]] = {
    "order_lines": {
        **COLUMNS["items"],
        "status": COLUMNS["orders"]["status"],
        "customer_id": COLUMNS["orders"]["customer_id"],
        "customer_name": COLUMNS["customers"]["name"],
        "country": COLUMNS["customers"]["country"],
    }
}
KEYS: dict[str, tuple[str, ...]] = {
    "items": ("order_id", "line_no"),
    "orders": ("id",),
    "customers": ("id",),
    "order_lines": ("order_id", "line_no"),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two tables differ, in rows."""

    expected: int
    found: int
    missing: int
    extra: int

    @property
    def equal(self) -> bool:
        """Whether both hold the same rows, each as often."""
        return self.missing == self.extra == 0 and self.expected == self.found

    def __str__(self) -> str:
        return f"{self.expected} rows expected, {self.found} found, {self.missing} missing, {self.extra} extra"


def columns(table: str) -> dict[str, tuple[str, str, str]]:
    """The columns of one of the workload's tables, or of what is joined from them."""
    return COLUMNS.get(table) or JOINED[table]


def ddl(table: str, name: str | None = None) -> str:
    """CREATE TABLE for one of the workload's tables or a joined one, under another name if given."""
    listed = ", ".join(f"{column} {types[1]}" for column, types in columns(table).items())
    return f"CREATE TABLE {name or table} ({listed}, PRIMARY KEY ({', '.join(KEYS[table])}))"


def final(directory: Path, table: str) -> pa.Table:
    """The rows that are left at the end, all columns as PostgreSQL's text, sorted by key text.

    Cached as Parquet beside the files, because a measure asks for it after every run.
    """
    import pyarrow.parquet as pq

    path = directory / f"{table}.truth.parquet"
    if not path.exists():
        fresh = path.with_suffix(".new")
        rows = _join(directory) if table in JOINED else _fold(directory / f"{table}.tsv", table)
        pq.write_table(rows, fresh)
        fresh.rename(path)
    return pq.read_table(path)


def _fold(path: Path, table: str) -> pa.Table:
    import duckdb

    texts = {name: f"json_extract_string(a, '$.{name}')" for name in COLUMNS[table]}
    listed = ", ".join(f"{form.format(texts[name])} AS {name}" for name, (_, _, form) in COLUMNS[table].items())
    with duckdb.connect() as connection:
        # one column a line, split by hand: no quoting rule of CSV may touch the JSON
        lines = (
            f"read_csv('{path}', columns = {{'line': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', "
            "header = false, max_line_size = 20000000)"
        )
        query = f"""
            WITH numbered AS (
                SELECT row_number() OVER () AS n, split_part(line, chr(9), 1) AS k, split_part(line, chr(9), 2) AS v
                FROM {lines}),
            last AS (SELECT arg_max(v, n) AS v FROM numbered GROUP BY k),
            after AS (SELECT json_extract(v, '$.after') AS a FROM last WHERE json_extract_string(v, '$.op') <> 'd')
            SELECT {listed} FROM after ORDER BY ALL"""
        return connection.sql(query).to_arrow_table()


def _join(directory: Path) -> pa.Table:
    """order_lines of the final tables: SQL's inner join, in which a NULL or dangling reference has no partner."""
    import duckdb

    with duckdb.connect() as connection:
        for table in COLUMNS:
            connection.register(table, final(directory, table))
        query = """
            SELECT items.*, orders.status, orders.customer_id, customers.name AS customer_name, customers.country
            FROM items JOIN orders ON items.order_id = orders.id JOIN customers ON orders.customer_id = customers.id
            ORDER BY ALL"""
        return connection.sql(query).to_arrow_table()


def found(connection: Any, name: str, table: str) -> pa.Table:
    """The rows of a PostgreSQL table as text, through an open psycopg connection."""
    names = list(columns(table))
    statement = f"COPY (SELECT {', '.join(names)} FROM {name}) TO STDOUT (FORMAT csv, NULL '\\N')"
    buffer = io.BytesIO()
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in copy:
            buffer.write(block)
    return as_text(buffer.getvalue(), names)


def as_text(data: bytes, names: list[str]) -> pa.Table:
    """What `COPY ... (FORMAT csv, NULL '\\N')` gave, every value as text."""
    import pyarrow.csv as csv

    if not data:
        return pa.table({column: pa.array([], pa.string()) for column in names})
    return csv.read_csv(
        pa.BufferReader(data),
        read_options=csv.ReadOptions(column_names=names),
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=["\\N"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def compare(expected: pa.Table, actual: pa.Table) -> Comparison:
    """Rows that one has and the other lacks, multiplicity counted."""
    import duckdb

    with duckdb.connect() as connection:
        connection.register("expected", expected)
        connection.register("actual", actual)

        def lacking(one: str, other: str) -> int:
            difference = f"SELECT * FROM {one} EXCEPT ALL SELECT * FROM {other}"
            row = connection.execute(f"SELECT count(*) FROM ({difference})").fetchone()
            assert row is not None
            return int(row[0])

        missing, extra = lacking("expected", "actual"), lacking("actual", "expected")
    return Comparison(expected.num_rows, actual.num_rows, missing, extra)


def counted(expected: Counter[Any], found: Counter[Any]) -> Comparison:
    """The same of rows that are counted in memory."""
    missing, extra = (expected - found).total(), (found - expected).total()
    return Comparison(expected.total(), found.total(), missing, extra)


def check(connection: Any, name: str, directory: Path, table: str) -> Comparison:
    """Compare a PostgreSQL table (or view) with what the workload's files lead to."""
    return compare(final(directory, table), found(connection, name, table))
