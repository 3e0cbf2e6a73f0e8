"""Columns that are dropped at the source, and added again: noticed in the messages, and told in front of the rows."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.items import ClearColumn, Item
from connectors.formats.debezium import DebeziumDecoder, TopicBinding, declared_column
from connectors.formats.evolution import dropped_columns
from libcore.change import ChangeBatch, Op
from tests.connectors.debezium_parts import drain, envelope, field, letters, raw, recordings, schema_part, wrapped

FIELDS = {name: field(name, "int64" if name == "id" else "string", optional=name != "id") for name in ("id", *"abcd")}
DECLARED = tuple(declared_column(name, "int64" if name == "id" else "string") for name in FIELDS)
ORDERS = tuple(
    declared_column(name, text)
    for name, text in {
        "id": "int64", "customer_id": "int64", "status": "string", "currency": "string", "ordered_at": "timestamp",
        "due_on": "date",
    }.items()
)  # fmt: skip
WITH_SCHEMA = pytest.mark.parametrize("schemas", [True, False], ids=["schemas on", "schemas off"])


def binding(schemas: bool, **settings: Any) -> TopicBinding:
    """A table that follows its source, in a topic of one partition."""
    settings = {"on_schema_change": "follow", "clears": True, **settings}
    return TopicBinding("t", **({} if schemas else {"columns": DECLARED}), **settings)


def message(schemas: bool, row: dict[str, Any], **more: Any) -> tuple[Any, Any]:
    """A change whose row has these columns, in this order."""
    if not schemas:
        return {"id": row["id"]}, envelope(row, **more)
    return {"id": row["id"]}, wrapped(schema_part([FIELDS[name] for name in row]), row, **more)


def told(items: list[Item]) -> list[Any]:
    """Rows as dictionaries of what they have a value for, and cleared columns as (name, identity), in order."""
    found: list[Any] = []
    for item in items:
        if isinstance(item, ClearColumn):
            found.append((item.column, item.identity))
        elif isinstance(item, ChangeBatch):
            names = [column.name for column in item.table.columns]
            for row in item.record.to_pylist():
                bits = int.from_bytes(row.get("__unset", b""), "little")
                found.append({name: row[name] for index, name in enumerate(names) if not bits >> index & 1})
    return found


def decoded(schemas: bool, *rows: dict[str, Any], **settings: Any) -> list[Any]:
    """What a decoder tells of those rows, from offset 10."""
    messages = raw([message(schemas, row) for row in rows], range(10, 10 + len(rows)))
    return told(drain(DebeziumDecoder("t", 0, binding(schemas, **settings)), messages))


@WITH_SCHEMA
def test_a_dropped_column_is_told_in_front_of_the_first_row_without_it(schemas: bool) -> None:
    """Rows before it come first, each column once; a second drop after it came back is told again."""
    full, less = {"id": 1, "a": "x", "b": "y"}, {"id": 2}
    assert decoded(schemas, full, less, less, full, full, {"id": 1, "b": "z"}) == [
        full, ("a", "t:0:11:a"), ("b", "t:0:11:b"), less, less, full, full, ("a", "t:0:15:a"), {"id": 1, "b": "z"},
    ]  # fmt: skip


@WITH_SCHEMA
def test_a_column_that_moved_was_dropped_and_added_again(schemas: bool) -> None:
    """PostgreSQL adds at the end only, so no message between drop and addition is needed, but for the last column."""
    former = {"id": 1, "a": "x", "b": "y", "c": "z"}
    later = {"id": 1, "a": "x", "c": "z", "b": "new"}
    assert decoded(schemas, former, later) == [former, ("b", "t:0:11:b"), later]
    assert decoded(schemas, former, former) == [former, former]


@WITH_SCHEMA
def test_what_was_not_dropped_is_not_told(schemas: bool) -> None:
    """New columns, unchanged large values, NULLs, deletes, a first row that lacks a column, and a key column at another
    place clear nothing."""
    first = {"id": 1, "a": "x"}
    values = [first, {"id": 1, "a": None}, {"id": 1, "a": "__debezium_unavailable_value"}, {**first, "b": "y"}]
    assert [row for row in decoded(schemas, *values) if isinstance(row, tuple)] == []
    assert decoded(schemas, {"a": "x", "id": 1}, {"id": 1, "a": "y"}) == [
        {"a": "x", "id": 1},
        ("a", "t:0:11:a"),
        {"id": 1, "a": "y"},
    ]
    assert decoded(schemas, {"id": 1, "a": "x"}, {"a": "y", "id": 1}) == [{"id": 1, "a": "x"}, {"a": "y", "id": 1}]
    changes = [message(schemas, first), ({"id": 1}, None), message(schemas, first)]
    before = {"id": 1, "a": None}
    delete = envelope(None, op="d", before=before)
    part = schema_part([FIELDS[name] for name in before])
    changes.insert(1, ({"id": 1}, {"schema": part, "payload": delete} if schemas else delete))
    items = drain(DebeziumDecoder("t", 0, binding(schemas)), raw(changes))
    assert not any(isinstance(item, ClearColumn) for item in items) and letters(items) == []


@WITH_SCHEMA
def test_a_keyless_table_tells_its_drops_too(schemas: bool) -> None:
    """Without a key a missing column is NULL in the rows, and the rows before it must become so too."""
    messages = raw([(None, message(schemas, row)[1]) for row in ({"id": 1, "a": "x"}, {"id": 2})])
    items = drain(DebeziumDecoder("t", 0, binding(schemas, key=())), messages)
    assert [item for item in items if isinstance(item, ClearColumn)] == [ClearColumn("t", "a", "t:0:1:a")]
    assert [row["__op"] for item in items if isinstance(item, ChangeBatch) for row in item.record.to_pylist()] == [
        Op.UPSERT, Op.UPSERT,
    ]  # fmt: skip


@WITH_SCHEMA
def test_where_the_order_is_unknown_nothing_is_cleared(schemas: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """In a topic of several partitions the column stays as it is, and the log says once what to do."""
    full, less = {"id": 1, "a": "x"}, {"id": 2}
    assert decoded(schemas, full, less, less, clears=False) == [full, less, less]
    assert capsys.readouterr().out.count("set it to NULL there by hand") == 1


@WITH_SCHEMA
def test_rows_of_several_tables_clear_nothing(schemas: bool) -> None:
    """Where tables of different shapes share a topic, a row without a column says nothing about the others."""

    def of(table: str, row: dict[str, Any]) -> tuple[Any, Any]:
        key, value = message(schemas, row)
        inner = value["payload"] if schemas else value
        inner["source"] = inner["source"] | {"table": table}
        return key, value

    full, less = {"id": 1, "a": "x"}, {"id": 2}
    rows = [of("one", full), of("two", less), of("one", full), of("two", less), of("two", full), of("two", less)]
    items = drain(DebeziumDecoder("t", 0, binding(schemas)), raw(rows))
    assert told(items) == [full, less, full, less, full, less]


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    schemas=st.booleans(),
    shapes=st.lists(st.permutations("abc").flatmap(lambda p: st.integers(0, 3).map(lambda n: p[:n])), max_size=12),
)
def test_restarts_anywhere_tell_the_same(data: st.DataObject, schemas: bool, shapes: list[list[str]]) -> None:
    """Cut into any batches and resumed from a pickled state at every cut, rows and drops are those of one run."""
    rows = [{"id": n} | {name: f"{name}{n}" for name in shape} for n, shape in enumerate(shapes)]
    messages = raw([message(schemas, row) for row in rows])
    whole = drain(DebeziumDecoder("t", 0, binding(schemas)), messages)
    state: object | None = None
    items: list[Item] = []
    while messages.num_rows:
        decoder = DebeziumDecoder("t", 0, binding(schemas), state)
        brought, consumed = decoder.decode(messages.slice(0, data.draw(st.integers(1, messages.num_rows))))
        assert not any(isinstance(item, ClearColumn) for item in brought[1:]) or isinstance(brought[0], ClearColumn)
        items += brought
        messages = messages.slice(consumed)
        state = pickle.loads(pickle.dumps(decoder.state))
    assert told(items) == told(whole)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12))
def test_dropped_columns_are_told_by_their_places(steps: list[tuple[str, bool]]) -> None:
    """As PostgreSQL keeps its columns: all that are gone are found, and none that stayed; of those that came back, all
    but such as stand where they stood before."""
    former = list("abcd")
    now, stayed = list(former), set(former)
    for name, drop in steps:
        if drop and name in now:
            now.remove(name)
            stayed.discard(name)
        elif not drop and name not in now:
            now.append(name)
    found = dropped_columns(former, now, ordered=True)
    assert not set(found) & stayed
    assert set(former) - set(now) <= set(found)
    unseen = set(former) - stayed - set(found)
    assert [name for name in former if name in stayed | unseen] == [name for name in now if name in stayed | unseen]
    assert set(dropped_columns(former, now, ordered=False)) == set(former) - set(now)


@pytest.mark.parametrize(("stream", "columns"), [("sp", None), ("ns", ORDERS)])
def test_the_recorded_drop_is_told(stream: str, columns: Any) -> None:
    """The recorded `orders` lost a column and got it back: told once, in front of the row that came in between."""
    topic, count = f"{stream}.public.orders", 0
    for number in (0, 1):
        made = TopicBinding(topic, columns, on_schema_change="follow", clears=True)
        items = drain(DebeziumDecoder(topic, number, made), recordings(stream)[topic, number])
        cleared = [index for index, item in enumerate(items) if isinstance(item, ClearColumn)]
        count += len(cleared)
        for index in cleared:
            row = items[index + 1]
            assert items[index].column == "currency" and isinstance(row, ChangeBatch)  # type: ignore[union-attr]
            assert row.record.column("status").to_pylist() == ["RELEASED"]
    assert count == 1


def test_a_state_of_an_older_release_goes_on() -> None:
    """Its columns are those that a schema part named; a drop while the flow was down is told."""
    decoder = DebeziumDecoder("t", 0, binding(True))
    drain(decoder, raw([message(True, {"id": 1, "a": "x"})]))
    state: Any = decoder.state
    older = (*state[:3], state[3].replace(',["id","a"],"public"]', "]"), *state[4:])
    assert older != state
    items = drain(DebeziumDecoder("t", 0, binding(True), older), raw([message(True, {"id": 2})], [7]))
    assert told(items) == [("a", "t:0:7:a"), {"id": 2}]
