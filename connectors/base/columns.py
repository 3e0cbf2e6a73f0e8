"""Rows of which only some columns were read again: the others are unset, and where the row is gone nothing comes of it.

Such a row is an Op.UPDATE: what brings a part of a row must not make a row of it. A row that was deleted meanwhile is
not read; one that the target does not have yet comes whole, by the changes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from connectors.base.background import Piece
from connectors.base.items import Item
from libcore.change import OP, UNSET, ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.errors import ConfigurationError
from libcore.schema import Table


class AskedTable(Protocol):
    """A table as its source reads it, and what its pipeline lets be read in part."""

    @property
    def table(self) -> Table:
        """Name, columns and key, as the pipeline has them."""

    @property
    def whole(self) -> str:
        """Why its rows must come with all of their columns, as what is behind "because"; "": they need not."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Columns that are not written."""


def refuse_of_whole(table: str, wanted: Sequence[str], whole: str) -> None:
    """Raises ConfigurationError where single columns are wanted of rows that must come whole, as `whole` says."""
    if wanted and whole:
        raise ConfigurationError(f"table {table}: expected no --column, found {wanted[0]!r}: {whole}; read it whole")


def checked(
    table: str, wanted: Sequence[str], known: Sequence[str], key: Collection[str], *, dropped: Collection[str] = ()
) -> None:
    """Whether those columns can be read.

    Args:
        known: columns that the source has and the pipeline takes. key: those that tell rows apart.
        dropped: those that are not written.
    Raises: ConfigurationError with the table's columns.
    """
    written = [name for name in known if name not in dropped]
    if missing := [name for name in wanted if name not in written]:
        raise ConfigurationError(f"table {table}: expected columns of {', '.join(written)}; found {missing[0]!r}")
    if wanted and all(name in key for name in wanted):
        raise ConfigurationError(
            f"table {table}: expected a column beside its key, which says whose values are changed, found {wanted[0]!r}"
        )


def part(one: AskedTable, wanted: Sequence[str]) -> Table:
    """The table with its key and those columns alone, as it is where none are named. Raises ConfigurationError."""
    table = one.table
    checked(table.name, wanted, [column.name for column in table.columns], table.key, dropped=one.dropped)
    taken = (column for column in table.columns if not wanted or column.name in wanted or column.name in table.key)
    return Table(table.name, tuple(taken), table.key)


def updates(piece: Piece, table: Table) -> Piece:
    """Rows of a `part` of the table as updates of the whole one; dead letters stay what they are."""
    return replace(piece, items=[_as_update(item, table) for item in piece.items])


def _as_update(item: Item, table: Table) -> Item:
    if not isinstance(item, ChangeBatch) or item.table.name != table.name:
        return item
    return partial(item, table, [column.name for column in item.table.columns])


def partial(batch: ChangeBatch, table: Table, read: Collection[str]) -> ChangeBatch:
    """The rows as updates of these columns.

    Args:
        batch: has them at least. table: what the rows are a part of. read: names, the key's among them.
    """
    record, count = batch.record, batch.row_count
    unset = sum(1 << index for index, column in enumerate(table.columns) if column.name not in read)
    columns = {
        column.name: record.column(column.name) if column.name in read else pa.nulls(count, column.type.arrow)
        for column in table.columns
    }
    width = unset_bytes(table)
    columns[OP] = pa.repeat(pa.scalar(int(Op.UPDATE), pa.int8()), count)
    columns[UNSET] = pa.repeat(pa.scalar(unset.to_bytes(width, "little"), pa.binary(width)), count)
    schema = arrow_schema(table, with_unset=True)
    arrays = [columns[name] if name in columns else record.column(name) for name in schema.names]
    return ChangeBatch(table, pa.RecordBatch.from_arrays(arrays, schema=schema))
