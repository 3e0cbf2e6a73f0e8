"""Computed columns: exact, row by row, and refused where they are not."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import spec, topics
from flows.operators.select import Select, plan_select
from flows.reading import declared_table
from flows.stateful import compile_steps
from libcore.change import ChangeBatch, Op, arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type


def table(**columns: str) -> Table:
    return Table("items", tuple(Column(name, parse_type(text)) for name, text in columns.items()), ("id",))


ITEMS = table(id="int64", quantity="int64", unit_price="decimal(18,4)", discount="decimal(5,2)", note="string")
AMOUNT = {"amount": "CAST(quantity AS DECIMAL(9,0)) * unit_price * (1 - discount)"}


def batch(rows: list[dict[str, Any]], unset: list[int] | None = None, of: Table = ITEMS) -> ChangeBatch:
    schema = arrow_schema(of, with_unset=unset is not None)
    filled = []
    for index, row in enumerate(rows):
        control = {"__op": int(row.get("__op", Op.UPSERT)), "__position": bytes(32), "__source_ts": None}
        bits = {} if unset is None else {"__unset": bytes([unset[index]])}
        filled.append({**{name: row.get(name) for name in schema.names}, **control, **bits})
    return ChangeBatch(of, pa.RecordBatch.from_pylist(filled, schema=schema))


MONEY = st.decimals(Decimal("-9999999.9999"), Decimal("9999999.9999"), places=4)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(-99999, 99999), MONEY, st.decimals(0, 1, places=2)), min_size=1, max_size=20)
)
def test_products_of_decimals_are_exact(rows: list[tuple[int, Decimal, Decimal]]) -> None:
    """quantity * price * (1 - discount) is what Decimal gives, digit by digit."""
    select = Select("flow", "select", plan_select(ITEMS, AMOUNT, {"amount": "decimal(38,6)"}, (), "lines"))
    made = [{"id": i, "quantity": q, "unit_price": p, "discount": d} for i, (q, p, d) in enumerate(rows)]
    (found,) = select([batch(made)])
    assert isinstance(found, ChangeBatch)
    assert found.record.column("amount").to_pylist() == [q * p * (1 - d) for q, p, d in rows]
    assert found.table.name == "lines" and found.table.key == ("id",)


def test_a_row_that_fails_becomes_a_dead_letter_and_a_delete_has_no_values() -> None:
    """Its neighbours go on; what a deleted row would give is not asked."""
    plan = plan_select(ITEMS, {"day": "CAST(note AS DATE)", "double": "quantity * 2"}, {}, ("note",), "lines")
    rows = [
        {"id": 1, "note": "2026-01-31", "quantity": 4},
        {"id": 2, "note": "31.1.2026", "quantity": 5},
        {"id": 3, "__op": Op.DELETE},
    ]
    found, *rest = Select("flow", "select", plan)([batch(rows)])
    batches = [item for item in [found, *rest] if isinstance(item, ChangeBatch) and item.table != DEAD_LETTERS]
    letters = [item for item in [found, *rest] if isinstance(item, ChangeBatch) and item.table == DEAD_LETTERS]
    kept = [row for one in batches for row in one.record.to_pylist()]
    assert [(row["id"], row["double"], row["__op"]) for row in kept] == [(1, 8, Op.UPSERT), (3, None, Op.DELETE)]
    assert "note" not in kept[0]
    assert [row["key_text"] for one in letters for row in one.record.to_pylist()] == ['{"id": 2}']


def test_a_row_that_lacks_an_input_is_not_computed_from_null() -> None:
    """A column that was not sent is not NULL: the row becomes a dead letter; where it is not read, its bit stays."""
    plan = plan_select(ITEMS, {"loud": "upper(note)"}, {}, (), "lines")
    rows = [{"id": 1, "note": None}, {"id": 2, "note": "a", "quantity": None}]
    found, letters = Select("flow", "select", plan)([batch(rows, unset=[0b10000, 0b00010])])
    assert isinstance(found, ChangeBatch) and isinstance(letters, ChangeBatch)
    assert [(row["id"], row["loud"], row["__unset"]) for row in found.record.to_pylist()] == [(2, "A", b"\x02")]
    assert letters.table == DEAD_LETTERS and letters.row_count == 1


def test_a_delete_is_no_row_to_compute_with() -> None:
    """An expression that fails for a row of NULLs does not park deletes; a keyless table's have their values."""
    made = {"sign": "CASE note WHEN 'a' THEN quantity ELSE error('expected a') END"}
    rows = [{"id": 1, "__op": Op.DELETE}, {"id": 2, "note": "a", "quantity": 5}, {"id": 3, "__op": Op.DELETE}]
    (found,) = Select("flow", "select", plan_select(ITEMS, made, {}, (), "lines"))([batch(rows)])
    assert isinstance(found, ChangeBatch)
    assert [(row["id"], row["sign"]) for row in found.record.to_pylist()] == [(1, None), (2, 5), (3, None)]
    (gone,) = Select("flow", "select", plan_select(ITEMS, made, {}, (), "lines"))([batch(rows[:1])])
    assert isinstance(gone, ChangeBatch) and gone.record.column("sign").to_pylist() == [None]
    keyless = Table("log", ITEMS.columns)
    copies = [{"id": 1, "note": "a", "quantity": 5, "__op": Op.DELETE}]
    (less,) = Select("flow", "select", plan_select(keyless, made, {}, (), "lines"))([batch(copies, of=keyless)])
    assert isinstance(less, ChangeBatch) and less.record.column("sign").to_pylist() == [5]


@pytest.mark.parametrize(
    ("expressions", "message"),
    [
        ({"x": "unit_price / 3"}, "expected an exact result, found a float"),
        ({"x": "now()"}, "the same each time, found now"),
        ({"x": "sum(quantity)"}, "an expression over one row, the same each time, found sum()"),
        ({"x": "(select 1)"}, "a sub-query"),
        ({"x": "quantty + 1"}, "expected SQL over id int64"),
        ({"x": "[1, 2]"}, "expected a type that a table can have, found INTEGER[]"),
        ({"id": "quantity"}, "expected columns outside of the key, found key column 'id'"),
        ({"x": "read_text('/etc/passwd')"}, "found read_text"),
    ],
)
def test_what_is_not_exact_or_not_of_one_row_is_refused(expressions: dict[str, str], message: str) -> None:
    """The error names table, column, expression, what was expected and what was found."""
    with pytest.raises(ConfigurationError) as caught:
        plan_select(ITEMS, expressions, {}, (), "lines")
    assert message in str(caught.value)


def test_a_join_behind_it_keeps_what_can_come_unset() -> None:
    """A computed column has no state, so a text that comes unset leaves unset: the join must hold it for moved rows."""
    text = """
name = "x"
[source.kafka]
servers = "127.0.0.1:9092"
[tables.items]
key = ["id"]
columns = { id = "int64", order_id = "int64", note = "string" }
[tables.orders]
key = ["id"]
columns = { id = "int64", status = "string" }
[[step]]
of = "items"
select = { twice = "id * 2" }
as = "doubled"
[[step]]
join = "doubled"
with = "orders"
on = { order_id = "id" }
take = ["status"]
[sink.null]
"""
    pipeline = spec.parse(text, "x.toml")
    bindings = topics.resolve(pipeline, {"items": 1, "orders": 1})

    def shaped(binding: topics.Binding) -> Table:
        found = declared_table(binding)
        assert found is not None
        return found

    steps, _ = compile_steps(pipeline, bindings, shaped, "x.toml")
    assert isinstance(steps[1].draw, partial)
    _, plan = steps[1].draw.args
    assert "note" in plan.held
