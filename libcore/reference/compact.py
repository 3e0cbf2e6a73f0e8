"""The rules of include/libcore/compact.h in plain Python: group, choose, fold."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from libcore.change import OP, POSITION, UNSET, Op
from libcore.errors import DataError
from libcore.reference.values import plain
from libcore.schema import Table


def compact(record: pa.RecordBatch, table: Table) -> pa.RecordBatch:
    """See libcore.compact.compact."""
    ops = record.column(OP).to_pylist()
    for row, op in enumerate(ops):
        if op not in (Op.UPSERT, Op.DELETE) and (op not in (Op.INSERT, Op.UPDATE) or not table.key):
            raise DataError(f"expected an upsert (1), delete (2), insert (6) or update (7), found op {op}", row=row)
    if not table.key:
        return _net(record, table, ops)
    return _last(record, table, ops)


def _groups(record: pa.RecordBatch, indexes: tuple[int, ...]) -> dict[tuple[Any, ...], list[int]]:
    """Rows by equal values, each group ordered by (position, row)."""
    columns = [[_same(value) for value in plain(record.column(index))] for index in indexes]
    positions = record.column(POSITION).to_pylist()
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row in range(record.num_rows):
        groups.setdefault(tuple(column[row] for column in columns), []).append(row)
    for rows in groups.values():
        rows.sort(key=lambda row: (positions[row], row))
    return groups


def _same(value: Any) -> Any:
    """NaN made equal to itself; Python holds -0.0 and 0.0 equal already."""
    return "NaN" if isinstance(value, float) and value != value else value


def _net(record: pa.RecordBatch, table: Table, ops: list[int]) -> pa.RecordBatch:
    if UNSET in record.schema.names:
        for row, bits in enumerate(_unset(record, table)):
            if bits:
                raise DataError("expected all values of a row of a keyless table, found an unset one", row=row)
        record = record.drop_columns([UNSET])
    chosen: dict[int, int] = {}
    for rows in _groups(record, table.key_indexes).values():
        chosen[rows[-1]] = sum(-1 if ops[row] == Op.DELETE else 1 for row in rows)
    rows = [row for row in sorted(chosen) for _ in range(abs(chosen[row]))]
    net = record.take(pa.array(rows, pa.int32()))
    signs = pa.array([Op.UPSERT if chosen[row] > 0 else Op.DELETE for row in rows], pa.int8())
    return net.set_column(net.schema.get_field_index(OP), record.schema.field(OP), signs)


def _unset(record: pa.RecordBatch, table: Table) -> list[set[int]]:
    """Per row the columns that it lacks."""
    if UNSET not in record.schema.names:
        return [set() for _ in range(record.num_rows)]
    return [
        {column for column in range(len(table.columns)) if bits[column // 8] >> column % 8 & 1}
        for bits in record.column(UNSET).to_pylist()
    ]


def _last(record: pa.RecordBatch, table: Table, ops: list[int]) -> pa.RecordBatch:
    unset = _unset(record, table)
    groups = [_without_void(rows, ops) for rows in _groups(record, table.key_indexes).values()]
    winners = {rows[-1]: rows[:-1] for rows in groups}
    chosen = sorted(winners)
    # Where each table column of each winner takes its value: a row, None for NULL.
    sources: list[list[int | None]] = [list(chosen) for _ in table.columns]
    for place, winner in enumerate(chosen):
        if ops[winner] != Op.DELETE:
            _fold(winners[winner], ops, unset, winner, place, sources)
    columns = [
        record.column(index).take(pa.array(sources[index] if index < len(sources) else chosen, pa.int32()))
        for index in range(record.num_columns)
    ]
    place_of_op = record.schema.get_field_index(OP)
    columns[place_of_op] = pa.array([_settled([*winners[winner], winner], ops) for winner in chosen], pa.int8())
    result = pa.RecordBatch.from_arrays(columns, schema=record.schema)
    return _with_unset(result, [unset[winner] for winner in chosen])


def _without_void(rows: list[int], ops: list[int]) -> list[int]:
    """A key's rows without the updates behind a delete of it: they find no row."""
    kept: list[int] = []
    for row in rows:
        if ops[row] != Op.UPDATE or not kept or ops[kept[-1]] != Op.DELETE:
            kept.append(row)
    return kept


def _settled(rows: list[int], ops: list[int]) -> int:
    """The operation of a key's rows as one: still an insert where the first of them is, an update where all are."""
    if len(rows) == 1 or ops[rows[-1]] == Op.DELETE:
        return ops[rows[-1]]
    if all(ops[row] == Op.UPDATE for row in rows):
        return Op.UPDATE
    return Op.INSERT if ops[rows[0]] == Op.INSERT else Op.UPSERT


def _fold(
    earlier: list[int], ops: list[int], unset: list[set[int]], winner: int, place: int, sources: list[list[int | None]]
) -> None:
    for row in reversed(earlier):
        if ops[row] == Op.DELETE:
            for column in unset[winner]:
                sources[column][place] = None
            unset[winner] = set()
            return
        for column in unset[winner] - unset[row]:
            sources[column][place] = row
        unset[winner] = unset[winner] & unset[row]


def _with_unset(record: pa.RecordBatch, unset: list[set[int]]) -> pa.RecordBatch:
    if UNSET not in record.schema.names:
        return record
    if not any(unset):
        return record.drop_columns([UNSET])
    # Bits behind the last table column mean nothing and stay as they are.
    table_columns = record.num_columns - 4
    keep = ~((1 << table_columns) - 1)
    width = record.schema.field(UNSET).type.byte_width
    bits = [
        (int.from_bytes(old, "little") & keep | sum(1 << column for column in lacking)).to_bytes(width, "little")
        for old, lacking in zip(record.column(UNSET).to_pylist(), unset, strict=True)
    ]
    index = record.schema.get_field_index(UNSET)
    return record.set_column(index, record.schema.field(UNSET), pa.array(bits, pa.binary(width)))
