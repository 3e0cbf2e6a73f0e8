"""OpenLogReplicator's JSON to batches: what each form of its messages comes to, repeated messages, and what is refused.

Nothing here was written by OpenLogReplicator itself: the messages follow its documentation and its source.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.items import Item, Truncate
from connectors.formats.openlogreplicator import OpenLogReplicatorDecoder
from connectors.formats.openlogreplicator_plan import LOOKED_AT
from flows.spec import parse
from libcore.change import ChangeBatch, Op
from libcore.errors import ConfigurationError, FatalError
from libcore.position import split
from tests.connectors.debezium_parts import letters, raw, rows
from tests.connectors.olr_parts import COLUMNS, TABLES, Replicated, binding
from tests.connectors.slot_parts import Target

AT = "2026-01-31T12:00:00.123456000Z"


def decoder(columns: dict[str, str] | None = None, **more: Any) -> OpenLogReplicatorDecoder:
    """A decoder of both tables."""
    return OpenLogReplicatorDecoder("olr", 0, {name: binding(name, columns or COLUMNS, **more) for name in TABLES})


def decoded(made: OpenLogReplicatorDecoder, *values: str, first: int = 0) -> list[Item]:
    """All items of messages whose offsets begin at `first`."""
    messages = raw([(None, value) for value in values], range(first, first + len(values)))
    items: list[Item] = []
    while messages.num_rows:
        brought, consumed = made.decode(messages)
        items += brought
        messages = messages.slice(consumed)
    return items


def change(op: str, *, table: str = "ITEMS", **images: Any) -> str:
    """A message of one change."""
    one = {"op": op, "schema": {"owner": "ERP", "table": table}, "rid": "AAASgjAAMAAAACnAAA", **images}
    return json.dumps({"c_scn": 5, "c_idx": 0, "xid": "0x0002.012.00004162", "payload": [one]})


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    column=st.integers(0, 2),
    whole=st.booleans(),
    cuts=st.lists(st.integers(1, 30), max_size=5),
    repeated=st.integers(0, 40),
)
def test_the_target_comes_to_the_tables(seed: int, column: int, whole: bool, cuts: list[int], repeated: int) -> None:
    """However changes are told, cut into batches, and told again from a checkpoint on, a target holds the tables."""
    erp, target, made = Replicated(Random(seed), column, whole=whole), Target(), decoder()
    erp.transactions(12)
    again = erp.messages[-repeated:] if repeated else []
    told = [*erp.messages, *again, *erp.transactions(3)]
    start = 0
    for count in [*cuts, len(told)]:
        part = told[start : start + count]
        target.apply(decoded(made, *part, first=start))
        start += len(part)
    expected = Target()
    news = [f'{{"payload":[{_insert(table, row)}]}}' for table in TABLES for row in erp.rows[table].values()]
    expected.apply(decoded(decoder(), *news))
    assert target.letters == []
    assert {name: target.table(name) for name in TABLES} == {name: expected.table(name) for name in TABLES}


def _insert(table: str, row: dict[str, Any]) -> str:
    return Replicated(Random(0), 1)._told("c", table, {}, row)


def test_a_message_as_it_is_written() -> None:
    """Numbers, times, bytes and texts of new, changed and deleted rows come as they are; all else is passed over."""
    new = {"ID": 7, "NAME": "b/c", "PRICE": 10.25, "AT": AT, "RAW": "00FF"}
    items = decoded(
        decoder(),
        '{"scn":17958201,"tm":1651384800000000000,"c_scn":17958201,"c_idx":0,"payload":[{"op":"begin"}]}',
        change("c", after=new),
        change("u", before={"ID": 7, "PRICE": 10.25}, after={"ID": 7, "PRICE": None}),
        change("d", before={"ID": 7, "NAME": "b/c"}),
        '{"c_scn":17958201,"c_idx":4,"xid":"2.18.1","payload":[{"op":"commit"}]}',
        '{"scn":17958204,"tm":0,"c_scn":17958204,"c_idx":0,"payload":[{"op":"chkpt","seq":1763,"offset":15872}]}',
    )
    (batch,) = items
    assert isinstance(batch, ChangeBatch)
    found = rows(items)
    assert [row["__op"] for row in found] == [Op.INSERT, Op.UPDATE, Op.DELETE]
    assert [row["__unset"] for row in found] == [b"\0", b"\x1a", b"\0"]  # NAME, AT, RAW are as they were
    assert (found[0]["NAME"], str(found[0]["PRICE"]), found[0]["RAW"]) == ("b/c", "10.2500", b"\x00\xff")
    assert batch.record.column("AT")[0].as_py().isoformat() == AT.replace("000Z", "")
    assert [split(row["__position"])[1:] for row in found] == [(1, 0, 0), (2, 0, 0), (3, 0, 0)]


def test_a_new_row_has_null_where_nothing_is_written() -> None:
    """With column = 0 a new row lacks what is NULL: that is NULL here, also where its key was used before."""
    target = Target()
    told = [change("c", after={"ID": 1, "NAME": "a"}), change("d", before={"ID": 1}), change("c", after={"ID": 1})]
    target.apply(decoded(decoder(), *told))
    assert target.table("ERP.ITEMS") == [[1, None, None, None, None]]


def test_a_part_of_a_row_makes_no_row() -> None:
    """A change that is told again behind the row's delete brings no half row back; for a step it is an upsert."""
    target, late = Target(), change("u", before={"ID": 1}, after={"ID": 1, "NAME": "b"})
    target.apply(decoded(decoder(), change("c", after={"ID": 1}), late, change("d", before={"ID": 1}), late))
    assert target.table("ERP.ITEMS") == []
    assert rows(decoded(decoder(whole="a step reads it"), late))[0]["__op"] == Op.UPSERT


def test_a_key_that_changes_needs_the_whole_row() -> None:
    """A moved row with all columns is a delete and an upsert; one that lacks some is a dead letter."""
    old, new = {"ID": 1, "NAME": "a"}, {"ID": 2, "NAME": "a"}
    full = dict.fromkeys(COLUMNS) | new
    items = decoded(
        decoder(),
        change("c", after=old),
        change("u", before=old, after=new),
        change("u", before=old, after=full),
        change("c", after={"ID": 3}),
    )
    assert [(row["ID"], row["__op"]) for row in rows(items)] == [
        (1, Op.INSERT), (1, Op.DELETE), (2, Op.UPSERT), (3, Op.INSERT),
    ]  # fmt: skip
    (letter,) = letters(items)
    assert letter["error"].startswith("KEY: its key changed and it lacks columns")
    assert (letter["topic"], letter["partition"], letter["message_offset"]) == ("olr", 0, 1)


def test_bad_messages_are_dead_letters_with_their_place() -> None:
    """A message that is no JSON, an unknown op, a value that does not fit and a row without its key, each with why."""
    items = decoded(
        decoder(),
        change("c", after={"ID": 1}),
        '{"payload":[{"op":"c","schema":{"owner":"ERP","table":"ITEMS"},"after":{"ID":2,"PRICE":inf}}]}',
        change("x", after={"ID": 3}),
        change("c", after={"ID": 4, "PRICE": "?"}),
        change("c", after={"NAME": "nobody"}),
        change("c", table="ORDERS", after={"ID": 5}),
        first=40,
    )
    assert [row["ID"] for row in rows(items)] == [1, 5]
    found = {letter["message_offset"]: letter for letter in letters(items)}
    assert {at: letter["error"].partition(":")[0] for at, letter in found.items()} == {
        41: "SYNTAX", 42: "OP", 43: "TYPE", 44: "KEY",
    }  # fmt: skip
    assert {letter["table_name"] for at, letter in found.items() if at < 43} == {"olr"}  # of which table, none can say
    assert "column PRICE" in found[43]["error"] and found[43]["table_name"] == "ERP.ITEMS"
    assert json.loads(found[44]["raw_value"])["after"] == {"NAME": "nobody"}


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("timestamp", 1651384800123456789),
        ("timestamp", "1651384800123456"),
        ("timestamp", "2022-05-01 06:00:00.123456789"),
        ("timestamp", "2022-05-01T06:00:00.123456789Z Europe/Warsaw"),
        ("timestamptz", "1651384800123456789,Europe/Warsaw"),
    ],
)
def test_times_in_another_form_stop_the_flow(kind: str, given: object) -> None:
    """A setting of OpenLogReplicator that was forgotten is told by its name before a row goes out, not row by row."""
    told = [change("c", after={"ID": 1, "AT": None}), change("c", after={"ID": 2, "AT": "?"})]
    with pytest.raises(ConfigurationError, match=r"olr:0:2: column AT is timestamp.*timestamp = 8") as error:
        decoded(decoder({"ID": "int64", "AT": kind}), *told, change("u", after={"ID": 3, "AT": given}))
    assert str(given) in str(error.value)


def test_later_times_in_another_form_are_dead_letters() -> None:
    """A setting that changes under a running flow stops nothing: such rows are refused one by one."""
    made = decoder({"ID": "int64", "AT": "timestamptz"})
    items = decoded(made, change("c", after={"ID": 1, "AT": "2022-05-01T06:00:00.5Z Europe/Warsaw"}))
    items += decoded(made, *[change("c", after={"ID": 2, "AT": 1651384800123456789})] * (LOOKED_AT + 1), first=1)
    assert [row["AT"] for row in rows(items)] == [1651384800500000]
    assert len(letters(items)) == LOOKED_AT + 1


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_times_before_the_year_1_are_dead_letters(kind: str) -> None:
    """Years before 1 are counted without a year 0 there, and their clocks run backwards: such a change is refused."""
    early, first = "-0044-03-15T00:00:00.000000000Z", "0001-01-01T00:00:00.000000000Z"
    told = [change("c", after={"ID": 1, "AT": early}), change("c", after={"ID": 2, "AT": first})]
    moved = change("u", before={"ID": 2, "AT": first}, after={"ID": 3, "AT": early})
    items = decoded(decoder({"ID": "int64", "AT": kind}), *told, moved)
    assert [row["ID"] for row in rows(items)] == [2]
    assert [letter["message_offset"] for letter in letters(items)] == [0, 2]
    assert all("before the year 1" in letter["error"] for letter in letters(items))


def test_new_columns_are_ignored_or_refused() -> None:
    """A column that the file does not declare is passed over, or refuses its rows."""
    told = [change("c", after={"ID": 1, "NEW": 1}), change("c", after={"ID": 2})]
    assert [row["ID"] for row in rows(decoded(decoder(), *told))] == [1, 2]
    items = decoded(decoder(on_new_column="refuse"), *told)
    assert [row["ID"] for row in rows(items)] == [2]
    assert "column NEW is new" in letters(items)[0]["error"]


def ddl(statement: str) -> str:
    """A message with DDL."""
    return change("ddl", sql=statement)


def test_a_truncate_is_answered_as_the_file_says() -> None:
    """It stops the flow behind the rows before it, is passed over, or goes out alone; other DDL is passed over."""
    told = [change("c", after={"ID": 1}), ddl("alter table ITEMS add X number"), ddl("Truncate table ITEMS")]
    made, messages = decoder(), raw([(None, value) for value in told])
    items, consumed = made.decode(messages)
    assert ([row["ID"] for row in rows(items)], consumed) == ([1], 2)
    with pytest.raises(FatalError, match=r"table ERP.ITEMS: TRUNCATE at olr:0:2"):
        made.decode(messages.slice(2))
    assert len(decoded(decoder(on_truncate="ignore"), *told)) == 1
    assert decoded(decoder(on_truncate="apply"), *told)[1] == Truncate("ERP.ITEMS", "olr:0:2")


def test_other_states_and_partitions_are_refused() -> None:
    """A second partition has no order against the first, and a state of another decoder says nothing here."""
    with pytest.raises(ConfigurationError, match="expected one partition"):
        OpenLogReplicatorDecoder("olr", 1, {"ERP.ITEMS": binding("ERP.ITEMS")})
    with pytest.raises(ConfigurationError, match=r"expected decoder state \(1,\), found \(2,\)"):
        OpenLogReplicatorDecoder("olr", 0, {"ERP.ITEMS": binding("ERP.ITEMS")}, (2,))
    assert decoder().state == (1,)


FILE = """
name = "erp"
[source.kafka]
servers = "127.0.0.1:9092"
{source}
[tables.items]
topic = "ERP.ITEMS"
{table}
[sink.null]
"""
SOURCE = 'format = "openlogreplicator"\ntopic = "olr"'
TABLE = 'key = ["ID"]\ncolumns = { ID = "int64", AT = "timestamp" }'


@pytest.mark.parametrize(
    ("source", "table", "expected"),
    [
        (SOURCE.partition("\n")[0], TABLE, "expected `topic` beside format"),
        ('topic = "olr"', TABLE, "expected `topic` beside format"),
        (SOURCE, 'key = ["ID"]', "tables.items.columns: expected columns beside"),
        (SOURCE, TABLE.partition("\n")[2], "tables.items.key: expected key columns beside"),
        (SOURCE, TABLE.replace('["ID"]', "[]"), "tables.items.key: expected key columns beside"),
        (SOURCE, TABLE + '\non_new_column = "add"', "on_new_column: expected ignore or refuse"),
        (SOURCE, TABLE.replace('"timestamp"', '"date"'), "expected a type that OpenLogReplicator writes"),
        (SOURCE, TABLE.replace('"timestamp"', '{ type = "timestamp", unit = "ns" }'), "found unit"),
    ],
)
def test_a_file_that_does_not_say_enough_is_refused(source: str, table: str, expected: str) -> None:
    """What the messages do not say must stand in the file, and is asked for by its name and line."""
    with pytest.raises(ConfigurationError, match=expected):
        parse(FILE.format(source=source, table=table), "erp.toml")


def test_batches_may_be_slices() -> None:
    """A slice of a batch of messages gives what its messages alone give."""
    told = [change("c", after={"ID": number}) for number in range(5)]
    whole = raw([(None, value) for value in told])
    items, _ = decoder().decode(whole.slice(2, 2))
    assert [row["ID"] for row in rows(items)] == [2, 3]
    assert isinstance(whole, pa.RecordBatch)
