"""Debezium messages to batches: the recordings of a real Debezium, restarts anywhere, schema changes, truncates."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.items import Item, Truncate
from connectors.base.metrics import DECODE_ERRORS, EVENTS
from connectors.formats.debezium import DebeziumDecoder, TopicBinding, declared_column
from libcore.change import ChangeBatch, Op
from libcore.errors import ConfigurationError, FatalError
from tests.connectors.debezium_parts import (
    drain,
    envelope,
    field,
    letters,
    raw,
    recordings,
    rows,
    schema_part,
    values,
    wrapped,
)

PARTS = sorted(recordings("sp"))
TABLE_PARTS = [part for part in PARTS if ".public." in part[0]]
ID_TEXT = tuple(declared_column(name, text) for name, text in (("id", "int64"), ("v", "string")))

TEXT_FIELDS = [field("id", "int64", optional=False), field("v", "string")]


def comparable(items: list[Item]) -> list[str]:
    """Rows and dead letters in order, without what a batch border may change: empty unset bits, a letter's moment."""
    found = []
    for row in [*rows(items), *letters(items)]:
        passing = {"failed_at"} if any(row.get("__unset", b"")) else {"failed_at", "__unset"}
        found.append(repr({name: value for name, value in row.items() if name not in passing}))
    return found


@settings(max_examples=60, deadline=None)
@given(data=st.data(), part=st.sampled_from(PARTS), policy=st.sampled_from(["refuse", "follow"]))
def test_a_restart_anywhere_changes_nothing(data: st.DataObject, part: tuple[str, int], policy: Any) -> None:
    """Cut into any batches and resumed from a pickled state at every cut, a recording gives the rows of one run."""
    messages = recordings("sp")[part]
    binding = TopicBinding(part[0], on_truncate="ignore", on_schema_change=policy)
    whole = drain(DebeziumDecoder(*part, binding), messages)
    state = None
    items: list[Item] = []
    while messages.num_rows:
        decoder = DebeziumDecoder(*part, binding, state)
        count = data.draw(st.integers(1, messages.num_rows))
        brought, consumed = decoder.decode(messages.slice(0, count))
        items += brought
        messages = messages.slice(consumed)
        state = pickle.loads(pickle.dumps(decoder.state))
    assert comparable(items) == comparable(whole)


@pytest.mark.parametrize("part", TABLE_PARTS, ids=str)
def test_recordings_give_a_row_or_a_letter_for_each_change(part: tuple[str, int]) -> None:
    """Every message of a recorded table is a row, a dead letter, or a truncate: none is passed over in silence."""
    messages = recordings("sp")[part]
    binding = TopicBinding(part[0], on_truncate="ignore", on_schema_change="follow")
    items = drain(DebeziumDecoder(*part, binding), messages)
    offsets = {letter["message_offset"] for letter in letters(items)}
    silent = sum(b'"op":"t"' in (value or b"") for value in messages.column("value").to_pylist())
    silent += sum(
        key is None and value is None
        for key, value in zip(*(messages.column(i).to_pylist() for i in (0, 1)), strict=True)
    )
    assert len(rows(items)) + len(offsets) + silent >= messages.num_rows
    assert all("ARRAY" in letter["error"] for letter in letters(items))


def test_recorded_types_are_exact() -> None:
    """A recorded row of every PostgreSQL type arrives with the value that the SQL wrote."""
    topic = "sp.public.alltypes"
    every = [
        row
        for number in (0, 1)
        for row in values(
            drain(DebeziumDecoder(topic, number, TopicBinding("alltypes")), recordings("sp")[topic, number])
        )
    ]
    row = next(row for row in every if row["id"] == 1)
    expected = {
        "id": 1, "i": -2147483648, "s": -32768, "n": Decimal("-12345678901234.5678"),
        "nn": "123456789012345678901234567890.123456789", "n0": Decimal("12345678901234567890"),
        "m": Decimal("1234.56"), "r": 1.5, "d8": 1e308, "iv": 37091106789000,
        "u": "8f14e45f-ceea-467f-a1d3-3f1d3a2b6c01", "ba": bytes.fromhex("00ff10de"), "b": True, "ai": "{1,NULL,3}",
        "at": '{"a","b,c",NULL,"q\\"x"}', "an": "{1.10,NULL}", "bits": "10101", "oidc": 4294967295, "em": "happy",
        "dom": 7,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert row["d"] == (date(2026, 2, 28) - date(1970, 1, 1)).days
    assert datetime.fromtimestamp(row["ts"] / 1e6, UTC) == datetime(2026, 2, 28, 13, 14, 15, 123456, UTC)
    assert datetime.fromtimestamp(row["tz"] / 1e6, UTC) == datetime(2026, 2, 28, 10, 14, 15, 123456, UTC)
    assert row["t3"] == time(13, 14, 15, 123000)
    infinite = next(row for row in every if row["id"] == 3)
    assert infinite["ts"] == 2**63 - 1 and infinite["tz"] == -(2**63)


def test_events_make_no_rows() -> None:
    """Heartbeats, transaction marks and logical messages are counted and give nothing, before a plan and under one."""
    for part in PARTS:
        if ".public." not in part[0]:
            before = EVENTS.labels(part[0])._value.get()
            messages = recordings("sp")[part]
            assert drain(DebeziumDecoder(*part, TopicBinding(part[0])), messages) == []
            assert EVENTS.labels(part[0])._value.get() == before + messages.num_rows
    heartbeat, mark = {"ts_ms": 1}, {"status": "BEGIN", "id": "1", "ts_ms": 1}
    between = [("k", heartbeat), ({"id": 1}, envelope({"id": 1, "v": "a"})), ("k", mark), ("k", heartbeat)]
    items = drain(DebeziumDecoder("t", 0, TopicBinding("t", ID_TEXT)), raw(between))
    assert values(items) == [{"id": 1, "v": "a"}]


def test_schemas_on_and_off_agree() -> None:
    """The same changes recorded with and without schema parts give the same rows where the columns are declared."""
    columns = tuple(
        declared_column(name, text)
        for name, text in {
            "order_id": "int64", "line_no": "int64", "sku": "string", "quantity": "int32",
            "unit_price": "decimal(18,4)",
            "discount": "decimal(5,2)", "note": "string", "created_at": "timestamp",
        }.items()
    )  # fmt: skip
    last: list[dict[tuple[int, int], Any]] = []
    for name in ("ns", "sp"):
        table: dict[tuple[int, int], Any] = {}
        for number in (0, 1):
            part = (f"{name}.public.items", number)
            for row in rows(drain(DebeziumDecoder(*part, TopicBinding("items", columns)), recordings(name)[part])):
                key = (row["order_id"], row["line_no"])
                table[key] = None if row["__op"] == Op.DELETE else {column.name: row[column.name] for column in columns}
        last.append({key: row for key, row in table.items() if row is not None})
    assert last[0].keys() == last[1].keys()
    changed = [key for key in last[0] if last[0][key] != last[1][key]]
    assert not changed
    assert len(last[0]) == 38


def test_a_key_comes_from_the_file_or_the_messages() -> None:
    """The file's key wins; else the key schema, else the key's JSON names; a null key is a keyless table."""
    message = envelope({"id": 1, "v": "a"})
    assert drain(DebeziumDecoder("t", 0, TopicBinding("t", ID_TEXT)), raw([({"id": 1}, message)]))[0].table.key == (
        "id",
    )
    assert drain(DebeziumDecoder("t", 0, TopicBinding("t", ID_TEXT)), raw([(None, message)]))[0].table.key == ()
    named = TopicBinding("t", ID_TEXT, key=("v",))
    assert drain(DebeziumDecoder("t", 0, named), raw([({"id": 1}, message)]))[0].table.key == ("v",)
    two = [
        ({"id": 1, "v": "a"}, message),
        ({"v": "a", "id": 1}, wrapped(schema_part(TEXT_FIELDS), {"id": 1, "v": "a"})),
    ]
    items = drain(DebeziumDecoder("t", 0, TopicBinding("t", ID_TEXT, on_new_column="add")), raw(two))
    assert {item.table.key for item in items if isinstance(item, ChangeBatch)} == {("id", "v")}
    with pytest.raises(ConfigurationError, match="expected message keys that are JSON objects"):
        DebeziumDecoder("t", 0, TopicBinding("t", ID_TEXT)).decode(raw([("7", message)]))


def test_without_schema_part_and_columns_nothing_starts() -> None:
    """Messages without a schema part need declared columns; the error says so, and where."""
    with pytest.raises(ConfigurationError, match=r"table t, topic:0:5: .*must declare the columns"):
        DebeziumDecoder("topic", 0, TopicBinding("t")).decode(raw([({"id": 1}, envelope({"id": 1}))], [5]))


def test_a_bad_message_is_a_dead_letter_and_its_neighbours_go_on() -> None:
    """Broken JSON, a wrong type, a flattened row and a number out of range are kept whole, with place and reason."""
    bad: list[tuple[Any, Any]] = [
        ({"id": 1}, b'{"before":null,'),
        ({"id": 2}, envelope({"id": "x", "v": "a"})),
        (b"\xff", {"id": 3, "v": "a", "__op": "u"}),
        ({"id": 4}, envelope({"id": 2**70, "v": "a"})),
    ]
    good = ({"id": 9}, envelope({"id": 9, "v": "z"}))
    messages = raw([bad[0], good, *bad[1:], good], [10, 11, 12, 13, 14, 15])
    before = DECODE_ERRORS.labels("t")._value.get()
    items = drain(DebeziumDecoder("topic", 3, TopicBinding("t", ID_TEXT), flow="orders"), messages)
    assert values(items) == [{"id": 9, "v": "z"}] * 2
    found = letters(items)
    assert [(letter["message_offset"], letter["error"].split(":")[0]) for letter in found] == [
        (10, "SYNTAX"), (12, "TYPE"), (13, "OP"), (14, "RANGE"),
    ]  # fmt: skip
    assert found[0]["raw_value"] == b'{"before":null,' and found[0]["byte_position"] == len(b'{"before":null,')
    assert found[1]["raw_value"][found[1]["byte_position"] :].startswith(b'"x"')
    assert found[2]["raw_key"] == b"\xff" and found[2]["key_text"] is None
    assert {letter["key_text"] for letter in found} == {'{"id":1}', '{"id":2}', None, '{"id":4}'}
    assert {
        (letter["flow"], letter["step"], letter["table_name"], letter["topic"], letter["partition"]) for letter in found
    } == {("orders", "decode", "t", "topic", 3)}
    assert DECODE_ERRORS.labels("t")._value.get() == before + 4


BASE = [field("id", "int64", optional=False), field("v", "int32")]


def two_shapes(
    binding: TopicBinding, later: list[dict[str, Any]], after: dict[str, Any], state: Any = None
) -> list[Item]:
    """Items of a row under BASE and two rows under a later schema part."""
    first = wrapped(schema_part(BASE), {"id": 1, "v": 1})
    second = wrapped(schema_part(later), after)
    decoder = DebeziumDecoder("t", 0, binding, state)
    return drain(decoder, raw([({"id": 1}, first), ({"id": 2}, second), ({"id": 2}, second)]))


@pytest.mark.parametrize(
    ("later", "after", "types"),
    [
        ([*BASE, field("w", "string")], {"id": 2, "v": 2, "w": "x"}, ["int64", "int32", "string"]),
        ([BASE[0], field("v", "int64")], {"id": 2, "v": 2**40}, ["int64", "int64"]),
        ([BASE[1], BASE[0]], {"v": 2, "id": 2}, ["int64", "int32"]),
        ([BASE[0], field("v", "int32", optional=False)], {"id": 2, "v": 2}, ["int64", "int32"]),
        ([field("a", "boolean"), *BASE], {"a": True, "id": 2, "v": 2}, ["int64", "int32", "bool"]),
    ],
    ids=["added", "widened", "reordered", "not null", "added in front"],
)
def test_additive_changes_are_taken_on(later: list[dict[str, Any]], after: dict[str, Any], types: list[str]) -> None:
    """A new nullable column, a wider integer or another order goes on in the same partition, old columns first."""
    items = two_shapes(TopicBinding("t"), later, after)
    assert letters(items) == []
    tables = [item.table for item in items if isinstance(item, ChangeBatch)]
    assert [str(column.type) for column in tables[-1].columns] == types
    assert values(items)[-1] == {name: after[name] for name in [column.name for column in tables[-1].columns]}


@pytest.mark.parametrize(
    ("later", "after", "words"),
    [
        ([BASE[0]], {"id": 2}, "column v was dropped"),
        ([BASE[0], field("v", "int16")], {"id": 2, "v": 2}, "column v changed from int32 to int16"),
        ([BASE[0], field("v", "string")], {"id": 2, "v": "2"}, "column v changed from int32 to string"),
        (
            [*BASE, field("w", "string", optional=False)],
            {"id": 2, "v": 2, "w": ""},
            "column w string was added as NOT NULL",
        ),
    ],
    ids=["dropped", "narrowed", "another type", "not null"],
)
def test_other_changes_are_refused_by_name(later: list[dict[str, Any]], after: dict[str, Any], words: str) -> None:
    """What is not additive turns the table's later rows into dead letters that name the change and the setting."""
    items = two_shapes(TopicBinding("t"), later, after)
    assert values(items) == [{"id": 1, "v": 1}]
    assert [letter["message_offset"] for letter in letters(items)] == [1, 2]
    assert all(
        words in letter["error"] and 'on_schema_change = "follow"' in letter["error"] for letter in letters(items)
    )
    followed = two_shapes(TopicBinding("t", on_schema_change="follow"), later, after)
    assert values(followed)[1:] == [{name: after[name] for name in after}] * 2
    assert letters(followed) == []


def test_a_refusal_lasts_until_the_setting_changes() -> None:
    """After a restart a refused partition stays refused, also for its old shape; with another setting it goes on."""
    refusing, following = TopicBinding("t"), TopicBinding("t", on_schema_change="follow")
    decoder = DebeziumDecoder("t", 0, refusing)
    old = ({"id": 1}, wrapped(schema_part(BASE), {"id": 1, "v": 1}))
    new = ({"id": 1}, wrapped(schema_part(BASE[:1]), {"id": 1}))
    drain(decoder, raw([old, new]))
    for message in (old, new):
        assert len(letters(drain(DebeziumDecoder("t", 0, refusing, decoder.state), raw([message])))) == 1
        assert len(rows(drain(DebeziumDecoder("t", 0, following, decoder.state), raw([message])))) == 1


def test_an_unknown_field_is_answered_as_the_binding_says() -> None:
    """Without a schema part a new field is left out by default; "refuse" and "add" turn the rows into dead letters."""
    messages = raw([({"id": 1}, envelope({"id": 1, "v": "a"})), ({"id": 2}, envelope({"id": 2, "v": "b", "w": 1}))])
    assert len(rows(drain(DebeziumDecoder("t", 0, TopicBinding("t", ID_TEXT)), messages))) == 2
    for choice in ("refuse", "add"):
        items = drain(DebeziumDecoder("t", 0, TopicBinding("t", ID_TEXT, on_new_column=choice)), messages)
        assert [row["id"] for row in rows(items)] == [1]
        assert "column w is new" in letters(items)[0]["error"]


def test_a_declared_column_is_checked_against_the_schema_part() -> None:
    """A declared type that the schema part does not fit into, or a column it lacks, stops the start by name."""
    message = raw([({"id": 1}, wrapped(schema_part(BASE), {"id": 1, "v": 1}))])
    for name, text, words in (
        ("v", "int16", "column v: declared int16, but the schema part has int32"),
        ("v", "date", "column v: declared date, but the schema part has int32"),
        ("gone", "int16", "column gone is declared, but the schema part has only"),
    ):
        columns = (declared_column("id", "int64"), declared_column(name, text))
        with pytest.raises(ConfigurationError, match=words):
            DebeziumDecoder("t", 0, TopicBinding("t", columns)).decode(message)
    wider = (declared_column("id", "int64"), declared_column("v", "decimal(12,2)"))
    assert values(drain(DebeziumDecoder("t", 0, TopicBinding("t", wider)), message)) == [
        {"id": 1, "v": Decimal("1.00")}
    ]


def test_decimals_written_as_numbers_are_told_by_a_value() -> None:
    """The schema part is the same for decimal.format BASE64 and NUMERIC: the first value that is not null decides."""
    decimal = field("v", "bytes", name="org.apache.kafka.connect.data.Decimal", parameters={"scale": "2"})
    schema = schema_part([BASE[0], decimal])
    given_bindings = (
        (12.5, TopicBinding("t")),
        ("BOI=", TopicBinding("t")),
        (12.5, TopicBinding("t", decimals="number")),
    )
    for given_value, binding in given_bindings:
        rows_given = [{"id": 1, "v": None}, {"id": 2, "v": given_value}]
        items = drain(
            DebeziumDecoder("t", 0, binding), raw([({"id": row["id"]}, wrapped(schema, row)) for row in rows_given])
        )
        assert [row["v"] for row in values(items)] == [None, Decimal("12.50")]


def test_decimals_as_numbers_behind_a_batch_of_nulls() -> None:
    """A batch whose decimals are all null decides nothing: numbers that come in the next one are read."""
    decimal = field("v", "bytes", name="org.apache.kafka.connect.data.Decimal", parameters={"scale": "2"})
    schema = schema_part([BASE[0], decimal])
    decoder = DebeziumDecoder("t", 0, TopicBinding("t"))
    found = []
    for number, value in enumerate((None, 12.5, "BOI=")):
        items = drain(decoder, raw([({"id": number}, wrapped(schema, {"id": number, "v": value}))]))
        assert letters(items) == []
        found += [row["v"] for row in values(items)]
    assert found == [None, Decimal("12.50"), Decimal("12.50")]


def test_a_truncate_stops_is_ignored_or_comes_alone() -> None:
    """on_truncate decides; the rows before a truncate always go out first, and an applied one is named for ever."""
    row = ({"id": 1}, envelope({"id": 1, "v": "a"}))
    messages = raw([row, (None, envelope(None, op="t")), row], [7, 8, 9])
    ignoring = TopicBinding("t", ID_TEXT, key=("id",), on_truncate="ignore")
    assert len(rows(drain(DebeziumDecoder("topic", 0, ignoring), messages))) == 2
    applying = DebeziumDecoder("topic", 0, TopicBinding("t", ID_TEXT, on_truncate="apply"))
    items, consumed = applying.decode(messages)
    assert (len(rows(items)), consumed) == (1, 1)
    assert applying.decode(messages.slice(1)) == ([Truncate("t", "topic:0:8")], 1)
    stopping = DebeziumDecoder("topic", 0, TopicBinding("t", ID_TEXT))
    assert stopping.decode(messages)[1] == 1
    with pytest.raises(FatalError, match='TRUNCATE at topic:0:8; on_truncate = "ignore"'):
        stopping.decode(messages.slice(1))


def test_a_truncate_may_be_the_first_message() -> None:
    """A truncate before any row is answered without a plan, and does not decide the key of the table."""
    messages = raw([(None, envelope(None, op="t")), ({"id": 1}, envelope({"id": 1, "v": "a"}))])
    decoder = DebeziumDecoder("topic", 0, TopicBinding("t", ID_TEXT, on_truncate="apply"))
    items = drain(decoder, messages)
    assert isinstance(items[0], Truncate)
    assert isinstance(items[1], ChangeBatch) and items[1].table.key == ("id",)


def test_applied_truncates_need_one_partition() -> None:
    """A second partition whose truncates are to be applied is refused: their order against the rows is lost."""
    with pytest.raises(ConfigurationError, match="needs a topic of one partition"):
        DebeziumDecoder("topic", 1, TopicBinding("t", on_truncate="apply"))


def test_the_state_is_small_and_plain() -> None:
    """The state is a tuple of plain values, under 2 kB for a dozen columns; a decoder made from it has the same one."""
    part = ("sp.public.items", 0)
    decoder = DebeziumDecoder(*part, TopicBinding(part[0]))
    drain(decoder, recordings("sp")[part])
    assert len(pickle.dumps(decoder.state)) < 2000
    again = DebeziumDecoder(*part, TopicBinding(part[0]), decoder.state)
    assert again.state == decoder.state
    with pytest.raises(ConfigurationError, match="expected decoder state 1, found 99"):
        DebeziumDecoder(*part, TopicBinding(part[0]), (99,))
