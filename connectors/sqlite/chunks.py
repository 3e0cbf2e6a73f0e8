"""Reads rows of a SQLite table in chunks, in the order of rowid or key, and makes pieces of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from connectors.base.background import Piece
from connectors.base.columns import part
from connectors.base.items import Item
from connectors.base.rows import Refused, change_batch, delete_batch, refused_rows
from connectors.sqlite.database import Described, quote
from connectors.sqlite.types import convert, row_text
from libcore.change import ChangeBatch, Op
from libcore.schema import Table

CHUNK_BYTES_MAX = 8 << 20
_FETCH_ROWS = 512

Row = tuple[Any, ...]


@dataclass(frozen=True)
class WantedTable:
    """A table as the pipeline wants it.

    Args:
        table: columns and key; perhaps fewer columns, other types, another key than the database has.
        found: as the database has it.
        units: column -> what an INTEGER in it counts.
        generation: raised by a person when the database was restored.
        on_new_column: what to do where the table gains a column: add, ignore or refuse.
        whole, dropped: see connectors.base.columns.AskedTable.
    """

    table: Table
    found: Described
    units: dict[str, str]
    generation: int = 0
    on_new_column: str = "add"
    whole: str = ""
    dropped: tuple[str, ...] = ()

    def part(self, columns: Sequence[str]) -> WantedTable:
        """With its key and those columns alone; (): with all. Raises ConfigurationError."""
        return replace(self, table=part(self, columns))

    @property
    def order(self) -> tuple[str, ...]:
        """What chunks are ordered by, as SQL: the rowid, else the database's own key, which then has no NULL."""
        return (self.found.rowid,) if self.found.rowid else tuple(quote(name) for name in self.found.source.table.key)

    @property
    def listed(self) -> str:
        """Its columns in SQL."""
        return ", ".join(quote(column.name) for column in self.table.columns)


def chunks(
    connection: sqlite3.Connection, wanted: WantedTable, last: Row | None, rows_max: int, conditions: Sequence[str] = ()
) -> Iterator[tuple[list[Row], Row]]:
    """(rows of the table's columns, where the next chunk begins) from behind `last` on, to the table's end.

    Args:
        conditions: of the rows, in SQL.
    """
    order = ", ".join(wanted.order)
    keys = len(wanted.order)
    taken = " AND ".join(["true", *(f"({one}\n)" for one in conditions)])  # a comment at its end ends there
    while True:
        behind = "" if last is None else f"AND ({order}) > ({', '.join('?' * keys)})"
        table = f"main.{quote(wanted.table.name)}"
        text = f"SELECT {order}, {wanted.listed} FROM {table} WHERE {taken} {behind} ORDER BY {order} LIMIT ?"
        found = fetched(connection, text, [*(last or ()), rows_max])
        if not found:
            return
        last = found[-1][:keys]
        yield [row[keys:] for row in found], last


def fetched(connection: sqlite3.Connection, text: str, values: Sequence[Any]) -> list[Row]:
    """Rows of a query until it ends or they hold CHUNK_BYTES_MAX; TEXT that is no UTF-8 comes with surrogates in it."""
    try:
        return _fetched(connection, text, values)
    except sqlite3.OperationalError as error:
        if "decode to UTF-8" not in str(error):
            raise
    former = connection.text_factory
    connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
    try:
        return _fetched(connection, text, values)
    finally:
        connection.text_factory = former


def _fetched(connection: sqlite3.Connection, text: str, values: Sequence[Any]) -> list[Row]:
    rows: list[Row] = []
    cursor, held = connection.execute(text, values), 0
    while held < CHUNK_BYTES_MAX and (some := cursor.fetchmany(16 if not rows else _FETCH_ROWS)):
        rows += some
        held += sum(len(value) for row in some for value in row if type(value) is str or type(value) is bytes)
        held += 16 * len(some) * len(some[0])
    cursor.close()
    return rows


def piece(
    wanted: WantedTable, rows: Sequence[Row], op: Op, *, commit: int, first: int, flow: str, state: tuple[Any, ...]
) -> Piece:
    """Rows as one piece: a batch, and dead letters of those that do not fit."""
    table = wanted.table
    bad: dict[int, str] = {}
    columns = []
    for index, column in enumerate(table.columns):
        array, faults = convert([row[index] for row in rows], column, wanted.units.get(column.name))
        columns.append(array)
        bad = faults | bad
    if bad:
        good = pa.array([row not in bad for row in range(len(rows))])
        columns = [array.filter(good) for array in columns]
    items: list[Item] = []
    if len(rows) > len(bad):
        items.append(change_batch(table, columns, op, generation=wanted.generation, commit=commit, first=first))
    if bad:
        names = [column.name for column in table.columns]
        refused = [_refused(wanted, names, rows[row], bad[row]) for row in sorted(bad)]
        items.append(
            refused_rows(refused, flow=flow, table=table.name, generation=wanted.generation, commit=commit, first=first)
        )
    size = sum(item.record.nbytes for item in items if isinstance(item, ChangeBatch))
    return Piece(items, len(rows), state, size)


def deletes(
    wanted: WantedTable, keys: Sequence[Row], *, commit: int, first: int, state: tuple[Any, ...]
) -> Piece | None:
    """Deletes of keys, in the order of the table's key; those that no row of its types could have are left out."""
    table = wanted.table
    arrays, bad = {}, set()
    for index, name in enumerate(table.key):
        array, faults = convert([key[index] for key in keys], table.column(name), wanted.units.get(name))
        arrays[name] = array
        bad |= set(faults)
    good = pa.array([row not in bad for row in range(len(keys))], pa.bool_())
    batch = delete_batch(table, arrays, good, generation=wanted.generation, commit=commit, first=first)
    return None if batch is None else Piece([batch], len(batch), state, batch.record.nbytes)


def _refused(wanted: WantedTable, names: list[str], row: Row, error: str) -> Refused:
    key = {name: row[names.index(name)] for name in wanted.table.key}
    text = row_text(list(key), list(key.values())) if key else None
    raw = row_text(names, row).encode()
    return Refused(wanted.table.name, -1, f"table {wanted.table.name}: {error}", raw, text)
