"""PgoutputDecoder on what a real PostgreSQL sends: the rows, applied, are the table; text, binary, streamed alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from connectors.base.items import ClearColumn, Item, Truncate
from connectors.formats.binding import TopicBinding
from connectors.formats.pgoutput import PgoutputDecoder
from libcore.change import OP, POSITION, TX, TX_ORDER, UNSET, ChangeBatch, Op
from libcore.reference.values import plain
from libcore.transaction_mark import END, TRANSACTION_MARKS, from_batch
from tests.connectors.pgoutput_slot import OPTIONS, create_slot, drop_slot, read_slot

_COLUMNS = {
    "b": "bool", "i2": "smallint", "i4": "int", "i8": "bigint", "o": "oid", "f4": "real", "f8": "float8", "t": "text",
    "vc": "varchar(50)", "ch": "char(5)", "j": "json", "jb": "jsonb", "d": "numeric(18,4)", "n": "numeric",
    "w": "numeric(60,20)", "neg": "numeric(3,-2)", "y": "bytea", "da": "date", "ti": "time", "ts": "timestamp",
    "tz": "timestamptz", "u": "uuid", "iv": "interval", "tt": "timetz", "bi": "varbit", "e": "mood",
    "dom": "price", "nm": "name",
}  # fmt: skip
_ROWS = [
    ("t", "-32768", "2147483647", "-9223372036854775808", "4294967295", "1.17549435e-38", "5e-324",
     "Ünï\\c😀'", "v", "c",
     '{"a": 1}', '{"b": [1, 2]}', "99999999999999.9999", "-0.000000000000000000001", "1234567890.12345678901234567890",
     "12345", "\\x00ff10", "4713-01-01 BC", "24:00:00", "infinity", "2024-03-31 02:30:00.123456+02",
     "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "-1 year 2 mons -3 days 04:05:06.789", "12:00:00.5-05:30", "10110",
     "sad", "12.50", "someone"),
    ("f", "1", "-1", "1", "0", "NaN", "-Infinity", "", "", "", "null", "null", "-0.0001", "NaN", "0", "-100", "\\x",
     "infinity", "00:00:00", "0044-03-15 12:00:00 BC", "-infinity", "00000000-0000-0000-0000-000000000000", "infinity",
     "00:00:00+00", "", "ok", "-1", ""),
    tuple([None] * len(_COLUMNS)),
    ("t", "0", "0", "0", "7", "3.4028235e+38", "1.7976931348623157e+308", "x" * 3000, "v", "12345", "[]", "[]", "1",
     "123456789012345678901234567890123456789012345678901234567890.5", "-1", "0", "\\x" + "ab" * 4000, "5874897-12-31",
     "23:59:59.999999", "294246-12-31 23:59:59.999999", "0001-01-01 00:00:00+00", None, "1 mon", "23:59:59+14:30", "1",
     "ok", "0", "n"),
]  # fmt: skip


@pytest.fixture
def slot(postgres: str) -> Iterator[str]:
    """A database with the slot `head` on a publication `pub` of all tables."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE PUBLICATION pub FOR ALL TABLES")
    create_slot(postgres, "head")
    yield postgres
    drop_slot(postgres, "head")


def _all(decoder: PgoutputDecoder, messages: pa.RecordBatch, size: int = 10_000) -> list[Item]:
    """Items of all messages, given `size` at a time."""
    items: list[Item] = []
    start = 0
    while start < messages.num_rows:
        found, consumed = decoder.decode(messages.slice(start, size))
        items += found
        start += consumed
    return items


def _applied(items: list[Item], table: str) -> dict[tuple[Any, ...], list[Any]]:
    """The rows that a target holds which applied the items, as plain values by key.

    What a row under a new key lacks comes from the row deleted in front of it: a move is such a pair.
    """
    rows: dict[tuple[Any, ...], list[Any]] = {}
    gone: list[Any] = []
    for item in items:
        if isinstance(item, Truncate) and item.table == table:
            rows.clear()
        if not isinstance(item, ChangeBatch) or item.table.name != table:
            continue
        columns = [plain(item.record.column(column.name)) for column in item.table.columns]
        unset = item.record.column(UNSET).to_pylist() if item.has_unset else None
        for row, op in enumerate(item.record.column(OP).to_pylist()):
            values = [column[row] for column in columns]
            key = tuple(values[index] for index in item.table.key_indexes)
            if op == Op.DELETE:
                gone = rows.pop(key)
                continue
            if unset is not None:
                old = rows.get(key, gone or [None] * len(values))
                values = [old[i] if unset[row][i // 8] >> i % 8 & 1 else v for i, v in enumerate(values)]
            rows[key] = values
    return rows


def _decoder(*tables: str, state: object | None = None, **options: Any) -> PgoutputDecoder:
    bindings = {f"public.{name}": TopicBinding(name, on_truncate="apply", clears=True, on_schema_change="follow")
                for name in tables}  # fmt: skip
    return PgoutputDecoder("head", bindings, state, **options)


def _make_types(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    connection.execute("CREATE DOMAIN price AS numeric(10,2)")
    columns = ", ".join(f"{name} {text}" for name, text in _COLUMNS.items())
    connection.execute(f"CREATE TABLE types (id int PRIMARY KEY, {columns}, a int[])")
    connection.execute("ALTER TABLE types ALTER y SET STORAGE EXTERNAL")
    places = ", ".join(f"%s::text::{text}" for text in _COLUMNS.values())
    for number, row in enumerate(_ROWS):
        array = None if number else "{1,NULL}"
        connection.execute(f"INSERT INTO types VALUES ({number}, {places}, '{{2}}')", row)
        connection.execute("UPDATE types SET a = %s WHERE id = %s", (array, number))  # leaves TOAST as it is
    connection.execute("UPDATE types SET id = 33 WHERE id = 3")  # with the TOAST value not sent
    connection.execute("DELETE FROM types WHERE id = 2")


def _expression(name: str, text: str) -> str:
    """SQL for the plain value (reference.values.plain) of a column."""
    base = text.partition("(")[0]
    if base in ("timestamp", "timestamptz", "date"):
        most, least = ("2147483647", "-2147483648") if base == "date" else (f"{2**63 - 1}", f"{-(2**63)}")
        finite = f"{name} - DATE '1970-01-01'" if base == "date" else f"(extract(epoch FROM {name}) * 1000000)::bigint"
        return f"CASE {name}::text WHEN 'infinity' THEN {most} WHEN '-infinity' THEN {least} ELSE {finite} END"
    special = {
        "bool": name, "real": f"{name}::float8", "float8": name, "bytea": name, "char": f"rpad({name}::text, 5)",
        "time": f"(extract(epoch FROM {name}) * 1000000)::bigint", "name": f"{name}::text",
    }  # fmt: skip
    if text.startswith("numeric("):
        return f"trunc({name} * {10 ** max(int(text[:-1].split(',')[1]), 0)})::text::numeric"
    if text in ("smallint", "int", "bigint", "oid"):
        return f"{name}::text::bigint"
    return special.get(base, f"{name}::text")


def _said(value: Any) -> Any:
    return repr(value) if isinstance(value, float) else value.encode() if isinstance(value, str) else value


def test_every_type_in_text_and_in_binary_form(slot: str) -> None:
    """Every type, with TOAST, key change and delete: the values of SELECT; the binary form gives the same rows."""
    with psycopg.connect(slot, autocommit=True, options=OPTIONS) as connection:
        _make_types(connection)
        wanted = ", ".join(_expression(name, text) for name, text in _COLUMNS.items())
        expected = {row[0]: [_said(v) for v in row] for row in connection.execute(f"SELECT id, {wanted} FROM types")}
    messages = read_slot(slot, "head", "pub")
    items = _all(_decoder("types"), messages)
    rows = _applied(items, "types")
    assert {key[0] for key in rows} == set(expected)
    for number, values in expected.items():
        found = dict(zip(["id", *_COLUMNS], map(_said, rows[number,]), strict=False))
        assert found == dict(zip(found, values, strict=True))
    assert [rows[key,][-1] for key in (0, 1, 33)] == [b"{1,NULL}", None, None]
    binary = _all(_decoder("types"), read_slot(slot, "head", "pub", binary="true"))
    letters = [item for item in binary if isinstance(item, ChangeBatch) and item.table.name == "headrace_dead_letters"]
    errors = [text for item in letters for text in item.record.column("error").to_pylist()]
    assert len(errors) == 8, errors  # each row with an array or an enumeration: their binary form is not read
    assert all("from OTHER): not the text, or no known binary form" in text for text in errors)
    with psycopg.connect(slot, autocommit=True) as connection:
        connection.execute("ALTER TABLE types DROP a, DROP e")
        connection.execute("SELECT pg_replication_slot_advance('head', pg_current_wal_flush_lsn())")
        connection.execute("UPDATE types SET i2 = i2")
    items = _all(_decoder("types"), read_slot(slot, "head", "pub", binary="true"))
    again = _applied(items, "types")
    assert again.keys() == rows.keys()
    (table,) = {item.table for item in items if isinstance(item, ChangeBatch)}
    for key, row in again.items():
        known = dict(zip(["id", *_COLUMNS], map(_said, rows[key]), strict=False))
        found = {column.name: _said(value) for column, value in zip(table.columns, row, strict=True)}
        assert found | {"y": None} == {name: known[name] for name in found} | {"y": None}  # y is an unsent TOAST value


def _busy(connection: psycopg.Connection[Any]) -> None:
    """Tables with and without a key, small and large transactions, savepoints that are rolled back."""
    connection.execute("CREATE TABLE items (id int PRIMARY KEY, n int, note text)")
    connection.execute("CREATE TABLE log (a int, b text)")
    connection.execute("ALTER TABLE log REPLICA IDENTITY FULL")
    connection.execute("CREATE TABLE other (a int PRIMARY KEY)")
    for start in range(0, 3000, 1000):
        with connection.transaction():
            rows = "SELECT g, g, repeat('n', 40) FROM generate_series(%s::int, %s::int) g"
            connection.execute(f"INSERT INTO items {rows}", (start, start + 999))
            connection.execute("INSERT INTO log SELECT g % 7, 'b' FROM generate_series(1, 300) g")
            try:
                with connection.transaction():
                    connection.execute("UPDATE items SET n = -1")
                    raise psycopg.Rollback
            except psycopg.Rollback:
                connection.execute("INSERT INTO other VALUES (%s)", (start,))
            connection.execute("UPDATE items SET id = id + 100000 WHERE id % 10 = 0 AND id < 100000")
        connection.execute("DELETE FROM items WHERE id % 10 = 3")
        connection.execute("UPDATE log SET b = 'c' WHERE a = 3")


def _truth(dsn: str) -> dict[tuple[Any, ...], list[Any]]:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT id, n, note FROM items").fetchall()
    return {(row[0],): [row[0], row[1], row[2].encode()] for row in found}


def _positions(items: list[Item]) -> list[bytes]:
    return [p for item in items if isinstance(item, ChangeBatch) and item.table.name != TRANSACTION_MARKS.name
            for p in item.record.column(POSITION).to_pylist()]  # fmt: skip


def test_streamed_transactions_give_the_same_rows(slot: str) -> None:
    """In blocks before their commit, with parts rolled back, or whole at the commit: the same rows and positions."""
    with psycopg.connect(slot, autocommit=True) as connection:
        _busy(connection)
        connection.execute("ALTER SYSTEM SET logical_decoding_work_mem = '64kB'")
        connection.execute("SELECT pg_reload_conf()")
    try:
        streamed = read_slot(slot, "head", "pub", proto_version="4", streaming="parallel")
    finally:
        with psycopg.connect(slot, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM RESET logical_decoding_work_mem")
            connection.execute("SELECT pg_reload_conf()")
    kinds = {payload[:1] for payload in streamed.column(0).to_pylist()}
    assert {b"S", b"E", b"c", b"A"} <= kinds
    whole = _all(_decoder("items", "log"), read_slot(slot, "head", "pub"))
    for size in (100_000, 700):
        decoder = _decoder("items", "log", batch_rows_max=1500)
        items = _all(decoder, streamed, size)
        assert sorted(_positions(items)) == sorted(_positions(whole))
        assert _applied(items, "items") == _applied(whole, "items") == _truth(slot)
        assert decoder.at_border


def test_a_restart_anywhere_loses_and_doubles_nothing(slot: str) -> None:
    """Stopped after any message, inside of transactions too: a new decoder and connection give exactly the rest."""
    with psycopg.connect(slot, autocommit=True) as connection:
        _busy(connection)
    messages = read_slot(slot, "head", "pub")
    whole = _all(_decoder("items", "log"), messages)
    for border in (50, messages.num_rows // 2, messages.num_rows - 2):
        first = _decoder("items", "log")
        items = _all(first, messages.slice(0, border))
        second = _decoder("items", "log", state=first.state)
        again = read_slot(slot, "head", "pub", start_lsn=first.resume_lsn)
        items += _all(second, again)
        assert sorted(_positions(items)) == sorted(_positions(whole))
        assert _applied(items, "items") == _truth(slot)


def test_a_call_may_end_at_commit_borders(slot: str) -> None:
    """With `whole` a call ends behind the last commit of its messages; the rest comes with the next call."""
    with psycopg.connect(slot, autocommit=True) as connection:
        _busy(connection)
    messages = read_slot(slot, "head", "pub")
    decoder, start, borders = _decoder("items", "log"), 0, 0
    while start < messages.num_rows:
        _, consumed = decoder.decode(messages.slice(start, 3500), whole=True)
        start += consumed
        borders += decoder.at_border
    assert decoder.at_border
    assert borders > 2
    assert [message.prefix for message in decoder.heard] == ["end"]


def test_transactions_have_end_marks_that_count_their_changes(slot: str) -> None:
    """For the document step: each row names its transaction, and its END says how many changes each table has."""
    with psycopg.connect(slot, autocommit=True) as connection:
        _busy(connection)
    items = _all(_decoder("items", "log", transactions=True), read_slot(slot, "head", "pub"), 1000)
    batches = [item for item in items if isinstance(item, ChangeBatch)]
    marks = [mark for item in batches if item.table == TRANSACTION_MARKS for mark in from_batch(item)]
    said = {(mark.transaction, mark.collection): mark.count for mark in marks if mark.collection}
    found: dict[tuple[str, str], set[int]] = {}
    for batch in batches:
        if batch.table != TRANSACTION_MARKS:
            numbers = zip(batch.record.column(TX).to_pylist(), batch.record.column(TX_ORDER).to_pylist(), strict=True)
            for name, number in numbers:
                found.setdefault((name, f"public.{batch.table.name}"), set()).add(number)
    assert said == {key: len(numbers) for key, numbers in found.items()}
    assert all(numbers == set(range(1, len(numbers) + 1)) for numbers in found.values())
    assert all(mark.kind == END for mark in marks)


def test_new_shapes_and_truncates_stand_where_they_happened(slot: str) -> None:
    """A column added, one dropped, a truncate of two tables: each marker stands between the rows that it parts."""
    with psycopg.connect(slot, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, old text)")
        connection.execute("CREATE TABLE more (id int PRIMARY KEY)")
        connection.execute("INSERT INTO items VALUES (1, 'a'), (2, 'b')")
        connection.execute("INSERT INTO more VALUES (1)")
        connection.execute("ALTER TABLE items ADD new numeric(5,1)")
        connection.execute("UPDATE items SET new = 1.5 WHERE id = 2")
        connection.execute("ALTER TABLE items DROP old")
        connection.execute("INSERT INTO items VALUES (3, 2.5)")
        connection.execute("TRUNCATE items, more")
        connection.execute("INSERT INTO items VALUES (4, 3.5)")
    decoder = _decoder("items", "more")
    items = _all(decoder, read_slot(slot, "head", "pub"))
    shown = [(type(item).__name__, getattr(item, "table", ""), getattr(item, "column", "")) for item in items]
    assert [kind for kind, *_ in shown] == [
        "ChangeBatch", "ChangeBatch", "ChangeBatch", "ClearColumn", "ChangeBatch", "Truncate", "Truncate",
        "ChangeBatch",
    ]  # fmt: skip
    assert [item.column for item in items if isinstance(item, ClearColumn)] == ["old"]
    assert {item.table for item in items if isinstance(item, Truncate)} == {"items", "more"}
    assert list(_applied(items, "items").values()) == [[4, 35]]
    assert _applied(items, "more") == {}


def test_a_refused_shape_makes_dead_letters(slot: str) -> None:
    """Without "follow" the rows behind a dropped column are kept whole as dead letters; other tables go on."""
    with psycopg.connect(slot, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, old text)")
        connection.execute("INSERT INTO items VALUES (1, 'a')")
        connection.execute("ALTER TABLE items DROP old")
        connection.execute("INSERT INTO items VALUES (2), (3)")
    decoder = PgoutputDecoder("head", {"public.items": TopicBinding("items")})
    items = [item for item in _all(decoder, read_slot(slot, "head", "pub")) if isinstance(item, ChangeBatch)]
    assert [(item.table.name, item.row_count) for item in items] == [("items", 1), ("headrace_dead_letters", 2)]
    assert "column old was dropped" in items[1].record.column("error")[0].as_py()


def test_a_key_that_the_replica_identity_lacks_makes_dead_letters(slot: str) -> None:
    """With another replica identity than the key, a moved row's old key is not told: none is left behind."""
    with psycopg.connect(slot, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, code int NOT NULL UNIQUE)")
        connection.execute("INSERT INTO items VALUES (1, 10)")
        connection.execute("ALTER TABLE items REPLICA IDENTITY USING INDEX items_code_key")
        connection.execute("UPDATE items SET id = 2")
        connection.execute("ALTER TABLE items REPLICA IDENTITY DEFAULT")
        connection.execute("UPDATE items SET code = 20")
    decoder = PgoutputDecoder("head", {"public.items": TopicBinding("items", key=("id",))})
    items = [item for item in _all(decoder, read_slot(slot, "head", "pub")) if isinstance(item, ChangeBatch)]
    assert [(item.table.name, item.row_count) for item in items] == [("items", 2), ("headrace_dead_letters", 1)]
    assert "key column 'id' is not in the replica identity ['code']" in items[1].record.column("error")[0].as_py()
