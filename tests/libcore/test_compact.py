"""Compact: applying what is left gives the same table as applying everything."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings

from libcore import compact as face
from libcore.change import OP, POSITION, UNSET, Op, arrow_schema
from libcore.errors import DataError
from libcore.position import make
from libcore.reference import compact as reference
from libcore.reference.values import plain
from libcore.schema import Column, Table, parse_type
from tests.examples import TIMES
from tests.libcore.batches import changes, check_sound, same

_TYPES = ["int64", "string", "decimal(18,4)", "float64", "bool", "decimal(76,3)", "timestamp", "int16", "bytes", "date"]
_COLUMNS = tuple(Column(f"c{i}", parse_type(text)) for i, text in enumerate(_TYPES))
KEYED = Table("erp.keyed", _COLUMNS, ("c1", "c0"))
FLOAT_KEYED = Table("erp.float_keyed", _COLUMNS[:5], ("c3", "c4"))
KEYLESS = Table("erp.keyless", _COLUMNS[:5])
SMALL = Table(
    "erp.items",
    (Column("id", parse_type("int32")), Column("a", parse_type("string")), Column("b", parse_type("string"))),
    ("id",),
)
State = dict[Any, list[Any]]
# Each batch has a dozen columns: a hundred of them in every test would be slow for nothing.
FEWER = settings(max_examples=30 * TIMES)


def _rows(record: pa.RecordBatch, table: Table) -> list[tuple[int, list[Any], set[int]]]:
    """(op, values, unset columns) of each row in the order of the source."""
    columns: list[list[Any]] = [
        [repr(value) if isinstance(value, float) else value for value in plain(c)] for c in record.columns
    ]
    bits = columns[-1] if UNSET in record.schema.names else [b"\0\0"] * record.num_rows
    positions = record.column(POSITION).to_pylist()
    width = len(table.columns)
    return [
        (
            columns[width][row],
            [column[row] for column in columns[:width]],
            {c for c in range(width) if bits[row][c // 8] >> c % 8 & 1},
        )
        for row in sorted(range(record.num_rows), key=lambda row: (positions[row], row))
    ]


def _applied(record: pa.RecordBatch, table: Table, state: State) -> State:
    """What a target holds that had `state` and applied the rows one by one."""
    state = {key: list(values) for key, values in state.items()}
    for op, values, unset in _rows(record, table):
        key = tuple(values[index] for index in table.key_indexes)
        if op == Op.DELETE:
            state.pop(key, None)
        if op == Op.DELETE or (op == Op.UPDATE and key not in state):
            continue
        old = state.get(key, [None] * len(values))
        state[key] = [old[i] if i in unset else value for i, value in enumerate(values)]
    return state


@settings(max_examples=60 * TIMES)
@given(changes(KEYED))
def test_agrees_with_the_reference(record: pa.RecordBatch) -> None:
    """Any changes of a keyed table, with and without unset columns: the rows of the plain reference."""
    found = face.compact(record, KEYED)
    check_sound(found)
    assert same(found, reference.compact(record, KEYED))


@FEWER
@given(changes(FLOAT_KEYED))
def test_agrees_with_the_reference_on_float_keys(record: pa.RecordBatch) -> None:
    """NaN is one key, -0.0 and 0.0 are one key, in both implementations."""
    assert same(face.compact(record, FLOAT_KEYED), reference.compact(record, FLOAT_KEYED))


@FEWER
@given(changes(KEYLESS))
def test_agrees_with_the_reference_without_a_key(record: pa.RecordBatch) -> None:
    """Any changes of a keyless table: the net rows of the plain reference."""
    assert same(face.compact(record, KEYLESS), reference.compact(record, KEYLESS))


@FEWER
@given(changes(KEYED))
def test_applying_the_rest_gives_the_same_table(record: pa.RecordBatch) -> None:
    """A target that had every key, or none, ends the same whether it got all rows or the compacted ones."""
    kept = face.compact(record, KEYED)
    full = {
        tuple(values[i] for i in KEYED.key_indexes): [f"old {i}" for i in range(len(values))]
        for _, values, _ in _rows(record, KEYED)
    }
    for state in ({}, full):
        assert _applied(kept, KEYED, state) == _applied(record, KEYED, state)
    assert kept.num_rows == len(full)


@FEWER
@given(changes(KEYED, updates=True))
def test_updates_make_no_rows(record: pa.RecordBatch) -> None:
    """With updates among the changes: the plain reference's rows; a target that had every key has the same values,
    one that had none has the same keys."""
    kept = face.compact(record, KEYED)
    check_sound(kept)
    assert same(kept, reference.compact(record, KEYED)) and same(face.compact(kept, KEYED), kept)
    full = {
        tuple(values[i] for i in KEYED.key_indexes): [f"old {i}" for i in range(len(values))]
        for _, values, _ in _rows(record, KEYED)
    }
    assert _applied(kept, KEYED, full) == _applied(record, KEYED, full)
    assert _applied(kept, KEYED, {}).keys() == _applied(record, KEYED, {}).keys()


@FEWER
@given(changes(KEYED))
def test_a_second_time_changes_nothing(record: pa.RecordBatch) -> None:
    """What was compacted is compact."""
    once = face.compact(record, KEYED)
    assert same(face.compact(once, KEYED), once)


@FEWER
@given(changes(KEYLESS))
def test_net_rows_count_the_same(record: pa.RecordBatch) -> None:
    """For each distinct row, upserts minus deletes stay what they were, and no row stays both ways."""

    def net(batch: pa.RecordBatch) -> Counter[str]:
        counts: Counter[str] = Counter()
        for op, values, _ in _rows(batch, KEYLESS):
            # -0.0 and 0.0 are one value here as they are in SQL.
            counts[repr(["0.0" if value == "-0.0" else value for value in values])] += -1 if op == Op.DELETE else 1
        return Counter({row: count for row, count in counts.items() if count})

    kept = face.compact(record, KEYLESS)
    assert net(kept) == net(record)
    assert kept.num_rows == sum(abs(count) for count in net(record).values())


def _batch(rows: list[tuple[int, int, str | None, str | None, int, int]]) -> pa.RecordBatch:
    """Rows of SMALL as (op, id, a, b, unset bits, position)."""
    columns = [[row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows]]
    columns += [[row[0] for row in rows], [make(0, 1, row[5]) for row in rows], [None for _ in rows]]
    schema = arrow_schema(SMALL, with_unset=True)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=False)]
    arrays.append(pa.array([bytes([row[4]]) for row in rows], pa.binary(1)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def test_an_example() -> None:
    """Key 1 gets its unset column from the row before; key 2 behind a delete gets NULL; key 3 keeps its bit."""
    record = _batch(
        [
            (Op.UPSERT, 1, "old a", "big", 0, 1),
            (Op.UPSERT, 2, "x", "gone", 0, 2),
            (Op.UPSERT, 3, "p", None, 0b100, 3),
            (Op.DELETE, 2, None, None, 0, 4),
            (Op.UPSERT, 1, "new a", None, 0b100, 5),
            (Op.UPSERT, 2, "y", None, 0b100, 6),
            (Op.UPSERT, 3, "q", None, 0b100, 7),
        ]
    )
    kept = face.compact(record, SMALL)
    assert kept.column("id").to_pylist() == [1, 2, 3]
    assert kept.column("a").to_pylist() == ["new a", "y", "q"]
    assert kept.column("b").to_pylist() == ["big", None, None]
    assert kept.column(UNSET).to_pylist() == [b"\0", b"\0", b"\4"]


def test_unset_goes_where_nobody_needs_it() -> None:
    """When the last bit is filled, the column is gone; a column without bits goes too, though no rows meet."""
    record = _batch([(Op.UPSERT, 1, "a", "b", 0, 1), (Op.UPSERT, 1, "c", None, 0b100, 2)])
    assert UNSET not in face.compact(record, SMALL).schema.names
    assert UNSET not in face.compact(record.slice(0, 1), SMALL).schema.names
    assert UNSET in face.compact(record.slice(1, 1), SMALL).schema.names


def test_updates_by_example() -> None:
    """Two updates are one, behind an insert they are of it, behind a delete they are nothing."""
    record = _batch(
        [
            (Op.UPDATE, 1, None, "b", 0b010, 1),
            (Op.UPDATE, 1, "a", None, 0b100, 2),
            (Op.INSERT, 2, "x", "y", 0, 3),
            (Op.UPDATE, 2, None, "z", 0b010, 4),
            (Op.DELETE, 3, None, None, 0, 5),
            (Op.UPDATE, 3, None, "half", 0b010, 6),
        ]
    )
    kept = face.compact(record, SMALL)
    assert kept.column(OP).to_pylist() == [Op.UPDATE, Op.INSERT, Op.DELETE]
    assert kept.column("a").to_pylist() == ["a", "x", None] and kept.column("b").to_pylist() == ["b", "z", None]


def test_a_smaller_position_never_wins() -> None:
    """A late row with an older position loses; of equal positions the later row stays."""
    record = _batch(
        [(Op.UPSERT, 1, "new", "", 0, 9), (Op.UPSERT, 1, "old", "", 0, 3), (Op.UPSERT, 1, "newest", "", 0, 9)]
    )
    assert face.compact(record, SMALL).column("a").to_pylist() == ["newest"]
    assert face.compact(record.slice(0, 2), SMALL).column("a").to_pylist() == ["new"]


def test_other_rows_and_columns_are_refused() -> None:
    """A truncate names its row; an unset column in a keyless table too; foreign columns are refused."""
    with pytest.raises(DataError, match="found op 3") as caught:
        face.compact(_batch([(Op.UPSERT, 1, "", "", 0, 1), (Op.TRUNCATE, 1, "", "", 0, 1)]), SMALL)
    assert caught.value.row == 1
    keyless = Table(SMALL.name, SMALL.columns)
    with pytest.raises(DataError, match="keyless"):
        face.compact(_batch([(Op.UPSERT, 1, "", "", 0b10, 1)]), keyless)
    with pytest.raises(ValueError, match="expected columns"):
        face.compact(_batch([]).drop_columns([OP]), SMALL)


def test_an_update_behind_a_delete_gives_nothing_to_the_next_row() -> None:
    """A row made anew behind a delete lacks what only an update of the row that was gone had: NULL, as in a target."""
    record = _batch(
        [
            (Op.DELETE, 1, None, None, 0, 1),
            (Op.UPDATE, 1, "lost", None, 0b100, 2),
            (Op.INSERT, 1, None, "new", 0b010, 3),
        ]
    )
    kept = face.compact(record, SMALL)
    assert [kept.column(name).to_pylist() for name in ("a", "b", OP)] == [[None], ["new"], [Op.UPSERT]]
    assert UNSET not in kept.schema.names
