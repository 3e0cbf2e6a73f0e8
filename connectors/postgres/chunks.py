"""Ranges of a table's key: how they are planned, counted, and read by one COPY each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from connectors.postgres.session import Connection, literal, quote
from connectors.postgres.source_catalog import CatalogTable

PAGES_A_CHUNK = 4  # pages that a sample takes of each chunk: bounds a few percent off, whatever the key is
_ROWS_A_PAGE = 60  # of a table that was never analyzed
_PAGE_BYTES = 8192

Key = tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """Rows with after < key <= until, as the key columns' texts; None: no bound on that side.

    Args:
        where: a condition beside, "" for none.
        only: columns that are read beside the key, of rows that are brought as updates of them; (): all.
    """

    table: CatalogTable
    after: Key | None = None
    until: Key | None = None
    where: str = ""
    only: tuple[str, ...] = ()

    def reads(self, column: str) -> bool:
        """Whether that column's values are read."""
        return not self.only or column in self.only or column in self.table.key

    @property
    def last(self) -> bool:
        """Whether no chunk of the table follows."""
        return self.until is None


def bounds(connection: Connection, table: CatalogTable, chunk_rows: int, after: Key | None) -> list[Key]:
    """Keys that part the rest of the table into chunks, ascending; [] where one chunk is enough."""
    if not table.key:
        return []
    row = connection.execute(
        "SELECT sum(pg_relation_size(c.oid)) / %s, sum(CASE WHEN c.reltuples > 0 AND c.relpages > 0 "
        "THEN c.reltuples / c.relpages * pg_relation_size(c.oid) / %s ELSE %s * pg_relation_size(c.oid) / %s END) "
        "FROM pg_class c WHERE c.relkind = 'r' AND c.oid IN "
        "(SELECT relid FROM pg_partition_tree(%s) UNION SELECT %s::oid)",
        (_PAGE_BYTES, _PAGE_BYTES, _ROWS_A_PAGE, _PAGE_BYTES, table.oid, table.oid),
    ).fetchone()
    assert row is not None
    pages, rows = float(row[0] or 0), float(row[1] or 0)
    count = int(rows // chunk_rows) + 1
    if count < 2 or pages < 2 * PAGES_A_CHUNK:
        return []
    percent = min(100.0, max(100.0 * PAGES_A_CHUNK * count / pages, 0.001))
    key = ", ".join(quote(name) for name in table.key)
    texts = ", ".join(f"{quote(name)}::text" for name in table.key)
    condition = f"WHERE {_compared(table, '>', after)}" if after else ""
    found = connection.execute(
        f"SELECT {texts} FROM (SELECT {key}, row_number() OVER (ORDER BY {key}) AS n, count(*) OVER () AS all_rows "
        f"FROM {table.sql} TABLESAMPLE SYSTEM ({percent:.4f}) {condition}) s "
        f"WHERE n % greatest(all_rows / {count}, 1) = 0 AND n < all_rows ORDER BY n".encode()
    ).fetchall()
    return [tuple(row) for row in found]


def _compared(table: CatalogTable, sign: str, key: Key) -> str:
    names = ", ".join(quote(name) for name in table.key)
    values = ", ".join(
        f"{literal(text)}::{table.column(name).shown}" for name, text in zip(table.key, key, strict=True)
    )
    return f"({names}) {sign} ({values})"


def next_bound(connection: Connection, table: CatalogTable, rows: int, after: Key | None, where: str) -> Key | None:
    """The key up to which `rows` more rows go; None where fewer are left, or where there is no key."""
    if not table.key:
        return None
    key = ", ".join(quote(name) for name in table.key)
    texts = ", ".join(f"s.{quote(name)}::text" for name in table.key)
    inner = f"SELECT {key} FROM {_selected(Chunk(table, after, None, where))} ORDER BY {key} OFFSET {rows - 1} LIMIT 1"
    row = connection.execute(f"SELECT {texts} FROM ({inner}) s".encode()).fetchone()
    return None if row is None else tuple(row)


def expected_rows(connection: Connection, table: CatalogTable, after: Key | None, where: str) -> int | None:
    """How many rows that are, as PostgreSQL's planner has it from its statistics; None where it has none."""
    rows = _selected(Chunk(table, after, None, where))
    found = connection.execute(f"EXPLAIN (FORMAT JSON) SELECT FROM {rows}".encode()).fetchone()
    return None if found is None else int(found[0][0]["Plan"]["Plan Rows"])


def chunks(connection: Connection, table: CatalogTable, chunk_rows: int, after: Key | None) -> Iterator[Chunk]:
    """The rest of a table, in order."""
    for until in bounds(connection, table, chunk_rows, after):
        yield Chunk(table, after, until)
        after = until
    yield Chunk(table, after)


def copy_statement(chunk: Chunk, forms: str) -> str:
    """The COPY of a chunk."""
    columns = ", ".join(
        (column.text_sql if one == "t" else quote(column.name)) if chunk.reads(column.name) else "NULL"
        for column, one in zip(chunk.table.columns, forms, strict=True)
    )
    return f"COPY (SELECT {columns} FROM {_selected(chunk)}) TO STDOUT (FORMAT binary)"


def _selected(chunk: Chunk) -> str:
    """The chunk's rows, in a FROM."""
    table = chunk.table
    # on lines of their own: a comment at the end of one hides nothing of ours
    conditions = [f"({condition}\n)" for condition in (table.row_filter, chunk.where) if condition]
    if chunk.after is not None:
        conditions.append(_compared(table, ">", chunk.after))
    if chunk.until is not None:
        conditions.append(_compared(table, "<=", chunk.until))
    return table.sql + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
