"""Rows of which only some columns were read again: the others are unset, and where the row is gone nothing comes of it.

Such a row is an Op.UPDATE: what brings a part of a row must not make a row of it. A row that was deleted meanwhile is
not read; one that the target does not have yet comes whole, by the changes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

from libcore.change import OP, UNSET, ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.errors import ConfigurationError


def checked(table: str, wanted: Sequence[str], known: Sequence[str], *, dropped: Collection[str] = ()) -> None:
    """Whether those columns can be read.

    Args:
        known: columns that the source has and the pipeline takes. dropped: those of them that are not written.
    Raises: ConfigurationError with the table's columns.
    """
    written = [name for name in known if name not in dropped]
    if missing := [name for name in wanted if name not in written]:
        raise ConfigurationError(f"table {table}: expected columns of {', '.join(written)}; found {missing[0]!r}")


def partial(batch: ChangeBatch, read: Collection[str]) -> ChangeBatch:
    """The rows as updates of these columns; `read`: names, the key's among them."""
    table, record = batch.table, batch.record
    unset = sum(1 << index for index, column in enumerate(table.columns) if column.name not in read)
    columns = {name: record.column(name) for name in record.schema.names}
    columns[OP] = pa.repeat(pa.scalar(int(Op.UPDATE), pa.int8()), batch.row_count)
    width = unset_bytes(table)
    columns[UNSET] = pa.repeat(pa.scalar(unset.to_bytes(width, "little"), pa.binary(width)), batch.row_count)
    schema = arrow_schema(table, with_unset=True)
    return ChangeBatch(table, pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema))
