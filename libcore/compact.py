"""The last change of each key in a batch, and the net count of each row of a keyless table."""

from __future__ import annotations

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.change import OP, POSITION, SOURCE_TS, UNSET
from libcore.reference import compact as reference
from libcore.schema import Table

_CONTROL = [OP, POSITION, SOURCE_TS]


def compact(record: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """Leave one row a key, or the net rows of a keyless table.

    Keyed: the row with the greatest __position stays, of equal ones the later; rows that stay keep the batch's order.
    An upsert that stays and lacks columns takes each from the latest earlier upsert that has it; if a delete lies
    between, the column becomes NULL and set; with neither it stays unset. A row alone in its key, or a delete, passes
    as it is. Updates behind a delete find no row: the delete stays.

    Keyless: of equal rows, upserts minus deletes = m; |m| rows stay, upserts or deletes by the sign of m, with the
    values, position, time and place of the last of them (by position, then by row).

    Args:
        record: columns as change.arrow_schema(table), with or without __unset; no truncates and control rows.
        table: the table of the rows.
    Returns: __unset only where a bit is left. May share memory with `record` where no two rows meet.
    Raises: DataError with the row for another op, or an unset column in a keyless table; ValueError for other columns.
    """
    names = [*(column.name for column in table.columns), *_CONTROL]
    if record.schema.names not in (names, [*names, UNSET]):
        raise ValueError(f"table {table.name}: expected columns {names}, perhaps {UNSET}; found {record.schema.names}")
    if IMPLEMENTATION != "c":
        return reference.compact(record, table)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    columns = arrow_c.layouts(record.schema)
    key = list(table.key_indexes) if table.key else []
    out = ffi.new("struct ArrowArray *")
    result = ffi.new("lc_compact_result *")
    error = ffi.new("lc_error *")
    with arrow_c.exported(record) as array:
        code = lib.lc_compact(array, columns, record.num_columns, len(table.columns), key, len(key), out, result, error)
    arrow_c.check(code, error)
    kept = record if result.unchanged else arrow_c.imported(out, record.schema)
    return kept if result.any_unset or record.num_columns == len(names) else kept.drop_columns([UNSET])
