"""Rows as the driver brings them -> batches of changes and dead letters, column by column."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import compress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.items import Item
from connectors.base.metrics import BATCHES, EVENTS
from connectors.base.rows import Refused, change_batch, refused_rows
from connectors.sqlserver.catalog import Wanted
from connectors.sqlserver.session import Row
from connectors.sqlserver.sql import CHANGE_COLUMNS
from connectors.sqlserver.types import convert
from libcore.change import SOURCE_TS_TYPE, ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.errors import FatalError
from libcore.position import COUNTER_BYTES, GENERATION_BYTES, POSITION_BYTES
from libcore.schema import Column

DELETE, INSERT, BEFORE, AFTER = 1, 2, 3, 4
_CONTROL = len(CHANGE_COLUMNS)
_OPS = pa.array([None, Op.DELETE, Op.INSERT, Op.DELETE, Op.UPSERT], pa.int8())
Faults = dict[int, str]


@dataclass(frozen=True)
class Made:
    """Items of some rows, and their size in bytes."""

    items: list[Item]
    size: int


def snapshot_batch(
    wanted: Wanted, columns: Sequence[Sequence[Any]], op: Op, *, commit: int, first: int, flow: str
) -> Made:
    """Rows of a table as they are, all of which do the same.

    Args:
        columns: the table's, in its order. commit, first: see connectors.base.rows.change_batch.
    """
    arrays, bad = _converted(wanted, columns)
    for index, column in enumerate(wanted.table.columns):
        needed = op != Op.DELETE or column.name in wanted.table.key
        if needed and not column.nullable and arrays[index].null_count:
            _refuse_nulls(column, pc.is_null(arrays[index]), bad)
    count = len(columns[0])
    good = _without(count, bad)
    if good is not None:
        arrays = [array.filter(good) for array in arrays]
    items: list[Item] = []
    if count > len(bad):
        items.append(change_batch(wanted.table, arrays, op, generation=wanted.generation, commit=commit, first=first))
    return _made(items, wanted, columns, bad, commit, first, flow)


def change_items(
    wanted: Wanted,
    ordinals: Mapping[str, int],
    rows: Sequence[Row],
    times: Mapping[bytes, int],
    *,
    first: int,
    flow: str,
) -> Made:
    """Rows of a change table, in commit order.

    Args:
        ordinals: the columns that the capture instance has, and so the rows, in the table's order.
        times: LSN -> microseconds since 1970 of its commit. first: number of the first row, for dead letters.
    """
    columns = list(zip(*rows, strict=True))
    names = [column.name for column in wanted.table.columns]
    captured = {name: _CONTROL + index for index, name in enumerate(name for name in names if name in ordinals)}
    if BEFORE in columns[3]:
        stays = _before_images_that_stay(columns, [captured[name] for name in wanted.table.key])
        columns = [tuple(compress(column, stays)) for column in columns]
    if not columns[0]:
        return Made([], 0)
    nothing = (None,) * len(columns[0])
    values = [columns[captured[name]] if name in captured else nothing for name in names]
    arrays, bad = _converted(wanted, values)
    ops = _OPS.take(pa.array(columns[3], pa.int8()))
    deleted = pc.equal(ops, int(Op.DELETE))
    lacking = _lacking(wanted, ordinals, columns, arrays)
    for index, column in enumerate(wanted.table.columns):
        if not column.nullable and arrays[index].null_count:
            unset = lacking.get(index, pa.scalar(False))
            excused = unset if column.name in wanted.table.key else pc.or_(deleted, unset)
            _refuse_nulls(column, pc.and_not(pc.is_null(arrays[index]), excused), bad)
    if DELETE in columns[3] or BEFORE in columns[3]:
        arrays = [
            array if column.name in wanted.table.key else pc.if_else(deleted, pa.scalar(None, array.type), array)
            for array, column in zip(arrays, wanted.table.columns, strict=True)
        ]
    stamps = pa.array(list(map(times.get, columns[0])), pa.int64()).cast(SOURCE_TS_TYPE)
    control: list[pa.Array] = [ops, _positions(wanted.generation, columns), stamps]
    if lacking:
        control.append(_bitmap(lacking, unset_bytes(wanted.table), len(columns[0])))
    record = pa.RecordBatch.from_arrays([*arrays, *control], schema=arrow_schema(wanted.table, bool(lacking)))
    good = _without(len(record), bad)
    record = record if good is None else record.filter(good)
    BATCHES.labels(wanted.name).inc()
    EVENTS.labels(wanted.name).inc(len(record))
    items: list[Item] = [ChangeBatch(wanted.table, record)] if len(record) else []
    commit = int.from_bytes(columns[0][min(bad)], "big") if bad else 0
    return _made(items, wanted, values, bad, commit, first, flow)


def _converted(wanted: Wanted, columns: Sequence[Sequence[Any]]) -> tuple[list[pa.Array], Faults]:
    arrays: list[pa.Array] = []
    bad: Faults = {}
    for values, one, column in zip(columns, wanted.readings, wanted.table.columns, strict=True):
        array, faults = convert(values, one, column)
        arrays.append(array)
        bad = faults | bad
    return arrays, bad


def _refuse_nulls(column: Column, nulls: pa.BooleanArray, bad: Faults) -> None:
    for row in pc.indices_nonzero(nulls).to_pylist():
        bad.setdefault(row, f"column {column.name}: expected a value, found NULL")


def _without(count: int, bad: Faults) -> pa.BooleanArray | None:
    return pa.array([row not in bad for row in range(count)]) if bad else None


def _made(
    items: list[Item],
    wanted: Wanted,
    columns: Sequence[Sequence[Any]],
    bad: Faults,
    commit: int,
    first: int,
    flow: str,
) -> Made:
    if bad:
        names = [column.name for column in wanted.table.columns]
        refused = []
        for row in sorted(bad):
            values = {name: _shown(column[row]) for name, column in zip(names, columns, strict=True)}
            key = json.dumps({name: values[name] for name in wanted.table.key})
            text = json.dumps(values).encode()
            refused.append(Refused(wanted.name, -1, f"table {wanted.name}: {bad[row]}", text, key))
        generation = wanted.generation
        items.append(
            refused_rows(refused, flow=flow, table=wanted.name, generation=generation, commit=commit, first=first)
        )
    return Made(items, sum(item.record.nbytes for item in items if isinstance(item, ChangeBatch)))


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _before_images_that_stay(columns: Sequence[tuple[Any, ...]], key: Sequence[int]) -> list[bool]:
    """False for rows before an update whose key is also that of the row after it; raises FatalError on half a pair."""
    operations = columns[3]
    stays = [True] * len(operations)
    for row in [row for row, operation in enumerate(operations) if operation == BEFORE]:
        if row + 1 == len(operations) or operations[row + 1] != AFTER:
            raise FatalError("source.sqlserver: expected operation 4 behind each operation 3 of a change table")
        stays[row] = any(columns[index][row] != columns[index][row + 1] for index in key)
    return stays


def _positions(generation: int, columns: Sequence[tuple[Any, ...]]) -> pa.Array:
    """generation | LSN | command, sequence, operation | counter 0; see libcore/position.py."""
    count = len(columns[0])
    lsn, sequence = pa.array(columns[0], pa.binary()), pa.array(columns[2], pa.binary())
    commands = {one: (one or 0).to_bytes(4, "big") for one in set(columns[1])}
    operations = {one: bytes([one]) for one in set(columns[3])}
    joined = pc.binary_join_element_wise(
        pa.scalar(generation.to_bytes(GENERATION_BYTES, "big"), pa.binary()),
        lsn,
        pa.array(list(map(commands.__getitem__, columns[1])), pa.binary()),
        sequence,
        pa.array(list(map(operations.__getitem__, columns[3])), pa.binary()),
        pa.scalar(bytes(COUNTER_BYTES), pa.binary()),
        b"",
    )
    data = joined.buffers()[2]
    assert data.size >= count * POSITION_BYTES and not joined.null_count, (data.size, count)
    return pa.Array.from_buffers(pa.binary(POSITION_BYTES), count, [None, data])


def _lacking(
    wanted: Wanted, ordinals: Mapping[str, int], columns: Sequence[tuple[Any, ...]], arrays: Sequence[pa.Array]
) -> dict[int, pa.BooleanArray]:
    """Which rows lack a column's value, by its index: not captured at all, or large and not changed by an update."""
    count = len(columns[0])
    lacking = {}
    masks: pa.DictionaryArray | None = None
    for index, (one, column) in enumerate(zip(wanted.readings, wanted.table.columns, strict=True)):
        if column.name not in ordinals:
            lacking[index] = pa.array([True] * count)
        elif one.large and AFTER in columns[3] and arrays[index].null_count:
            if masks is None:
                masks = pa.array(columns[4], pa.binary()).dictionary_encode()
            ordinal = ordinals[column.name]
            same = pa.array([not is_set(mask, ordinal) for mask in masks.dictionary.to_pylist()], pa.bool_())
            unchanged = pc.and_(same.take(masks.indices), pc.equal(pa.array(columns[3], pa.int8()), AFTER))
            lacking[index] = pc.and_(unchanged, pc.is_null(arrays[index]))
    return {index: rows for index, rows in lacking.items() if pc.any(rows).as_py()}


def is_set(mask: bytes | None, ordinal: int) -> bool:
    """Whether an update mask says that the column changed; column 1 is the lowest bit of the last byte."""
    if mask is None:
        return True
    byte, bit = divmod(ordinal - 1, 8)
    return byte < len(mask) and bool(mask[-1 - byte] >> bit & 1)


def _bitmap(lacking: Mapping[int, pa.BooleanArray], width: int, count: int) -> pa.Array:
    """The __unset column: bit i, lowest first, of the table's column i."""
    whole = bytearray(width * count)
    for byte in range(width):
        bits = [
            pc.if_else(rows, pa.scalar(1 << index % 8, pa.uint8()), pa.scalar(0, pa.uint8()))
            for index, rows in lacking.items()
            if index // 8 == byte
        ]
        if bits:
            whole[byte::width] = reduce(pc.bit_wise_or, bits).buffers()[1].to_pybytes()[:count]
    return pa.Array.from_buffers(pa.binary(width), count, [None, pa.py_buffer(bytes(whole))])
