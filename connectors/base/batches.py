"""Several batches of one table as one, in order."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from connectors.base.items import Item
from libcore.change import UNSET, ChangeBatch, arrow_schema, lacking_nothing
from libcore.schema import Table


def join(table: Table, records: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """One batch of all rows in order; where only some have an __unset column the others get one of zeros."""
    if len(records) == 1:
        return records[0]
    with_unset = any(UNSET in record.schema.names for record in records)
    schema = arrow_schema(table, with_unset)
    if with_unset:
        records = [lacking_nothing(table, record) for record in records]
    plain = [pa.RecordBatch.from_arrays(record.columns, schema=schema) for record in records]
    batches = pa.Table.from_batches(plain, schema).combine_chunks().to_batches()
    return batches[0] if batches else plain[0]


def gathered(items: Sequence[Item]) -> list[Item]:
    """Batches of the same table as one, at the place of the first; everything else stays where it is."""
    batches: dict[int, list[ChangeBatch]] = {}
    out: list[Item] = []
    for item in items:
        if isinstance(item, ChangeBatch):
            same = batches.setdefault(id(item.table), [])
            same.append(item)
            if len(same) > 1:
                continue
        out.append(item)
    return [_one(batches[id(item.table)]) if isinstance(item, ChangeBatch) else item for item in out]


def _one(batches: Sequence[ChangeBatch]) -> ChangeBatch:
    first, *others = batches
    return ChangeBatch(first.table, join(first.table, [one.record for one in batches])) if others else first
