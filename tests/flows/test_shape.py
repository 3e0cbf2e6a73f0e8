"""The shape step: what reaches the sink equals SQL's answer, whatever the changes; order per key; dead letters."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.items import Item, Tick, Truncate
from flows.operators import unset
from flows.operators.batch import BatchStep
from flows.operators.shape import DEAD_LETTER_PART, Route, Shaper, TableShape, plan_table, shape_items
from flows.operators.where import compile_where
from libcore.change import UNSET, ChangeBatch, Op, arrow_schema, unset_bytes
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, FatalError
from libcore.position import make
from libcore.schema import Column, Table, parse_type

ITEMS = Table(
    "erp.public.items",
    (
        Column("id", parse_type("int64"), False),
        Column("quantity", parse_type("int32")),
        Column("price", parse_type("decimal(18,4)")),
        Column("note", parse_type("string")),
    ),
    ("id",),
)
KEYLESS = Table("erp.public.log", ITEMS.columns, ())
RENAMED = TableShape(rename={"id": "item_id", "price": "unit_price"}, drop=("note",))
PREDICATES = [
    "quantity > 2",
    "quantity <> 1 OR note IS NULL",
    "price >= 1.5 AND NOT (note = 'b')",
    "quantity IN (1, 3, NULL)",
    "quantity BETWEEN 1 AND 3 AND price < 99999999999999.9998",
    "coalesce(quantity, 0) = 0 OR note LIKE 'a%'",
    "note NOT IN ('a', 'b')",
]

rows = st.fixed_dictionaries(
    {
        "id": st.integers(0, 5),
        "quantity": st.none() | st.integers(-1, 4),
        "price": st.none()
        | st.sampled_from([Decimal("1.5"), Decimal("0"), Decimal("99999999999999.9999"), Decimal("-2.0001")]),
        "note": st.none() | st.sampled_from(["", "a", "b", "ab"]),
    }
)
changes = st.lists(st.tuples(st.sampled_from([Op.UPSERT, Op.UPSERT, Op.DELETE]), rows), max_size=25)


def batch(
    table: Table, changes: Sequence[tuple[Op, dict[str, Any]]], first: int = 0, lacks: Sequence[set[str]] | None = None
) -> ChangeBatch:
    """A batch of changes; `lacks` names the unset columns of each row."""
    names = [column.name for column in table.columns]
    made = []
    for place, (op, row) in enumerate(changes):
        values = {
            name: row.get(name) if op is Op.UPSERT or name in table.key or not table.key else None for name in names
        }
        bits = sum(1 << names.index(name) for name in lacks[place]) if lacks else 0
        made.append(
            {
                **values,
                "__op": int(op),
                "__position": make(0, 0, first + place),
                "__source_ts": None,
                UNSET: bits.to_bytes(unset_bytes(table), "little"),
            }
        )
    return ChangeBatch(
        table, pa.RecordBatch.from_pylist(made, schema=arrow_schema(table, with_unset=lacks is not None))
    )


def folded(items: Sequence[tuple[str, Item]], key: str | None) -> list[dict[str, Any]]:
    """What a target holds after these items: by key, or as a multiset."""
    state: dict[Any, dict[str, Any]] = {}
    bag: list[dict[str, Any]] = []
    for _, item in items:
        assert isinstance(item, ChangeBatch)
        for row in item.record.to_pylist():
            op = row["__op"]
            values = {name: value for name, value in row.items() if not name.startswith("__")}
            if key is None:
                bag.append(values) if op == Op.UPSERT else bag.remove(values)
            elif op == Op.UPSERT:
                state[row[key]] = values
            else:
                state.pop(row[key], None)
    return list(state.values()) if key else bag


def sql_answer(table: Table, rows: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The same question to a database."""
    frame = pa.Table.from_pylist(rows, pa.schema([pa.field(c.name, c.type.arrow) for c in table.columns]))
    with duckdb.connect() as connection:
        connection.register("frame", frame)
        return (
            connection.sql(f"SELECT id AS item_id, quantity, price AS unit_price FROM frame WHERE {where}")
            .to_arrow_table()
            .to_pylist()
        )


def as_set(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


@settings(max_examples=60, deadline=None)
@given(changes, st.sampled_from(PREDICATES), st.integers(1, 4), st.integers(1, 9))
def test_any_changes_folded_equal_sqls_answer(changes: list[Any], where: str, parts: int, size: int) -> None:
    """After any inserts, updates and deletes the target holds SELECT ... WHERE of the source's last state."""
    shaper = Shaper("f", lambda name: TableShape(RENAMED.rename, RENAMED.drop, where), slots=8, parts=parts)
    batches = [batch(ITEMS, changes[start : start + size], start) for start in range(0, len(changes), size)]
    last: dict[int, dict[str, Any]] = {}
    for op, row in changes:
        if op is Op.UPSERT:
            last[row["id"]] = row
        else:
            last.pop(row["id"], None)
    assert as_set(folded(shaper(batches), "item_id")) == as_set(sql_answer(ITEMS, list(last.values()), where))


@settings(max_examples=40, deadline=None)
@given(st.lists(rows, max_size=20), st.data(), st.sampled_from(PREDICATES))
def test_keyless_rows_come_and_go_as_copies(added: list[dict[str, Any]], data: st.DataObject, where: str) -> None:
    """A keyless table's multiset equals SELECT ... WHERE of the rows that are left."""
    gone = data.draw(st.lists(st.sampled_from(range(len(added))), unique=True)) if added else []
    changes = [(Op.UPSERT, row) for row in added] + [(Op.DELETE, added[index]) for index in gone]
    shaper = Shaper("f", lambda name: TableShape(RENAMED.rename, RENAMED.drop, where), slots=8, parts=3)
    left = [row for index, row in enumerate(added) if index not in gone]
    routed = shaper([batch(KEYLESS, changes)])
    assert as_set(folded(routed, None)) == as_set(sql_answer(KEYLESS, left, where))
    dropped = plan_table(KEYLESS, RENAMED).target
    by_part = [
        {tuple(row.values())[:3] for row in item.record.to_pylist()}
        for _, item in routed
        if isinstance(item, ChangeBatch)
    ]
    assert dropped.key == () and all(not (one & other) for i, one in enumerate(by_part) for other in by_part[:i])


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 20), st.data())
def test_dropped_columns_take_their_bits_along(width: int, data: st.DataObject) -> None:
    """The bitmap of the kept columns says of each what it said before, over byte borders and slices."""
    count = data.draw(st.integers(1, 12))
    cells = data.draw(st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=count, max_size=count))
    offset = data.draw(st.integers(0, count - 1))
    keep = sorted(data.draw(st.sets(st.integers(0, width - 1), min_size=1)))
    size = (width + 7) // 8
    packed = [sum(1 << i for i, lacks in enumerate(row) if lacks).to_bytes(size, "little") for row in cells]
    bitmap = pa.array(packed, pa.binary(size)).slice(offset)
    answer = unset.kept(bitmap, keep)
    for place, index in enumerate(keep):
        assert unset.bits(answer, place).to_pylist() == [row[index] for row in cells[offset:]]
    assert unset.any_bit(answer) == any(row[index] for row in cells[offset:] for index in keep)


def test_a_row_that_leaves_is_deleted() -> None:
    """An update out of `where` reaches the target as a delete that carries its key and nothing else."""
    shaper = Shaper("f", lambda name: TableShape(where="quantity > 2"), 8, 1)
    ((part, item),) = shaper([batch(ITEMS, [(Op.UPSERT, {"id": 1, "quantity": 1, "price": None, "note": "secret"})])])
    assert part == "0" and isinstance(item, ChangeBatch)
    (row,) = item.record.to_pylist()
    assert (row["id"], row["__op"], row["note"], row["quantity"]) == (1, Op.DELETE, None, None)


def test_a_predicate_over_a_value_that_was_not_sent_is_a_dead_letter() -> None:
    """Such a row is parked with its key and its bytes; its neighbours go on."""
    shaper = Shaper("orders", lambda name: TableShape(where="note = 'a'"), 8, 2)
    both = batch(ITEMS, [(Op.UPSERT, {"id": 1}), (Op.UPSERT, {"id": 2, "note": "a"})], lacks=[{"note"}, {"price"}])
    letters, kept = [item for _, item in shaper([both])]
    assert isinstance(letters, ChangeBatch) and isinstance(kept, ChangeBatch)
    (letter,) = letters.record.to_pylist()
    assert (letter["flow"], letter["step"], letter["key_text"]) == ("orders", "shape", '{"id": 1}')
    assert letter["error"] == "where \"note = 'a'\": expected its columns in the change, found one that was not sent"
    row = pa.ipc.open_stream(letter["raw_value"]).read_all().to_pylist()[0]
    assert row["id"] == 1
    assert kept.record.column("id").to_pylist() == [2] and kept.has_unset


def test_ticks_and_truncates_reach_every_part() -> None:
    """Control items go to all parts in their place; dead letters go to one."""
    shaper = Shaper("f", lambda name: TableShape(), 8, 3)
    letter = ChangeBatch(DEAD_LETTERS, pa.RecordBatch.from_pylist([], schema=arrow_schema(DEAD_LETTERS)))
    truncate = Truncate("erp.public.items", "t:0:5")
    everywhere = [[(part, item) for part in "012"] for item in (truncate, Tick())]
    assert shaper([truncate, letter, Tick()]) == [*everywhere[0], (DEAD_LETTER_PART, letter), *everywhere[1]]


def test_a_tied_table_goes_through_one_part() -> None:
    """Where the target says so, all rows of a table go to part 0; it is asked once, about the table's target form."""
    asked: list[Table] = []

    def tied(table: Table, wanted: bool) -> Route:
        asked.append(table)
        return True, None

    shaper = Shaper("f", lambda name: RENAMED, 64, 4, tied)
    many = batch(ITEMS, [(Op.UPSERT, {"id": number}) for number in range(50)])
    assert {part for part, _ in shaper([many, many])} == {"0"}
    assert [column.name for column in asked[0].columns] == ["item_id", "quantity", "unit_price"] and len(asked) == 1


def test_a_key_stays_in_its_part() -> None:
    """All changes of a key are in one part, in order, whatever batches they come in."""
    shaper = Shaper("f", lambda name: TableShape(), 64, 4)
    parts: dict[int, set[str]] = {}
    for start in range(0, 200, 40):
        for part, item in shaper(
            [batch(ITEMS, [(Op.UPSERT, {"id": n % 17, "quantity": n}) for n in range(start, start + 40)], start)]
        ):
            assert isinstance(item, ChangeBatch)
            for row in item.record.to_pylist():
                parts.setdefault(row["id"], set()).add(part)
            quantities = item.record.column("quantity").to_pylist()
            assert quantities == sorted(quantities)
    assert all(len(found) == 1 for found in parts.values()) and len(set.union(*parts.values())) == 4


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("quantity >", "expected an SQL expression"),
        ("quantty > 1", "expected columns of"),
        ("1 = 1", "at least one column"),
        ("sum(quantity) > 1", r"expected an expression over one row, found sum\(\)"),
        ("row_number() OVER (ORDER BY id) = 1", r"found row_number\(\)"),
        ("id IN (SELECT 1)", "found a sub-query"),
        ("quantity", "expected true or false for each row, found Int32"),
        ("note > 5", "expected an expression that fits note string"),
    ],
)
def test_a_where_that_does_not_fit_is_refused(where: str, message: str) -> None:
    """What is wrong with a `where` is said at the start, with the table's name."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        compile_where(where, ITEMS)
    assert str(caught.value).startswith("table erp.public.items: where ")


def test_functions_in_quotes_are_text() -> None:
    """A word inside a literal or a quoted name is not taken for a function."""
    assert compile_where("note = 'sum(x) over ('", ITEMS).columns == ("note",)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (TableShape(rename={"prize": "p"}), "rename: expected columns of .* found 'prize'"),
        (TableShape(drop=("id",)), "found key column 'id'"),
        (TableShape(rename={"price": "quantity"}), "appears twice"),
    ],
)
def test_a_shape_that_does_not_fit_is_refused(shape: TableShape, message: str) -> None:
    """Rename and drop of what is not there, of a key, or into a name that is taken: refused by name."""
    with pytest.raises(ConfigurationError, match=message):
        plan_table(ITEMS, shape)


def test_shaping_without_routing() -> None:
    """Verification gets shaped rows and truncates, no ticks and no dead letters."""
    shaper = Shaper("f", lambda name: RENAMED, 8, 2)
    items = shape_items([batch(ITEMS, [(Op.UPSERT, {"id": 1})]), Truncate("x", "y"), Tick()], shaper)
    assert [type(item) for item in items] == [ChangeBatch, Truncate]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=30), st.sets(st.integers(0, 9)))
def test_a_step_of_ones_own_isolates_failing_rows(values: list[int], bad: set[int]) -> None:
    """Rows that the function refuses become dead letters, each once; the others pass in order."""

    def double(batch: ChangeBatch) -> Any:
        import polars as pl

        if set(batch.record.column("quantity").to_pylist()) & bad:
            raise ValueError("a bad row")
        return batch.to_polars().with_columns(pl.col("quantity") * 2)

    step = BatchStep("flow", "double", double)
    out = step([batch(ITEMS, [(Op.UPSERT, {"id": n, "quantity": value}) for n, value in enumerate(values)]), Tick()])
    assert out[-1] == Tick()
    passed = [
        row for item in out if isinstance(item, ChangeBatch) and item.table == ITEMS for row in item.record.to_pylist()
    ]
    letters = [
        row
        for item in out
        if isinstance(item, ChangeBatch) and item.table == DEAD_LETTERS
        for row in item.record.to_pylist()
    ]
    assert [row["quantity"] for row in passed] == [2 * value for value in values if value not in bad]
    assert [row["key_text"] for row in letters] == [f'{{"id": {n}}}' for n, value in enumerate(values) if value in bad]
    assert all(row["error"] == "ValueError: a bad row" and row["step"] == "double" for row in letters)


def test_what_failed_in_a_row_stands_in_its_dead_letter_and_in_no_log() -> None:
    """An error's text may quote the row, which a mask behind the step hides from logs as well."""

    def refuse(batch: ChangeBatch) -> ChangeBatch:
        raise ValueError("found 'DE89 3704 0044'")

    with structlog.testing.capture_logs() as lines:
        (letters,) = BatchStep("flow", "refuse", refuse)([batch(ITEMS, [(Op.UPSERT, {"id": 1})])])
    assert isinstance(letters, ChangeBatch)
    assert letters.record.column("error").to_pylist() == ["ValueError: found 'DE89 3704 0044'"]
    assert [line["event"] for line in lines] == ["a row failed"]
    assert "DE89" not in str(lines)


def test_an_answer_that_is_no_batch_stops_the_flow() -> None:
    """A frame without the table's columns is a fault of the step, not of its rows."""
    step = BatchStep("flow", "lose", lambda batch: batch.to_polars().drop("__op"))
    with pytest.raises(FatalError, match=r"step lose: the answer for table erp\.public\.items does not fit"):
        step([batch(ITEMS, [(Op.UPSERT, {"id": 1})])])
