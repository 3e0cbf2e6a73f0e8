"""Beside a slot's one stream: tables that join, tables read again, several slots, whole transactions, SQL functions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.formats.binding import TopicBinding
from connectors.postgres import slot as slots
from connectors.postgres import slot_peek, slot_requests
from libcore.errors import ConfigurationError
from tests.connectors.request_parts import answered, ask
from tests.connectors.slot_parts import Flow
from tests.connectors.test_postgres_source import Writer, _equal, _items

Connection = psycopg.Connection[Any]


@pytest.fixture
def source(postgres: str) -> Iterator[Connection]:
    """A session with the source database."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("whole", [False, True])
def test_a_table_joins_without_a_rebuild(source: Connection, postgres: str, tmp_path: Path, whole: bool) -> None:
    """Tables that are added to a flow later, with a key and without, are read beside the stream, killed in between;
    where transactions are kept whole, none waits for changes that these rows have in them already."""
    _items(source, 2000)
    source.execute("CREATE TABLE first (id int PRIMARY KEY)")
    flow = Flow(postgres, tmp_path, ["public.first"], batch_rows_max=200, bindings={"transactions": whole})
    flow.run()
    flow.tables = ["public.first", "public.items", "public.log"]
    writer = Writer(postgres, 4)
    writer.start()
    for epochs in (3, 5, 7, 40):
        flow.run(epochs)
    writer.stop()
    while not flow.run(500):
        continue
    assert flow.target.letters == []
    _equal(flow, "first", "items", "log")
    brought = Counter((transaction, table) for transaction, table, _ in flow.target.brought)
    assert flow.target.shares == brought
    assert bool(brought) == whole
    flow.close()


@pytest.mark.parametrize("read_by", ["stream", "functions"])
@pytest.mark.parametrize("epochs", [1, 2, 4, 7])
def test_a_table_that_was_away_is_read_anew(
    source: Connection, postgres: str, tmp_path: Path, read_by: str, epochs: int
) -> None:
    """What changed while the pipeline did without a table, rows deleted too, is in the target once it is back; so is
    what somebody made in its place, which the publication had lost; whenever the next start is killed."""
    _items(source, 300)
    tables = ["public.items", "public.log"] if read_by == "stream" else ["public.items"]
    source.execute("CREATE TABLE other (id int PRIMARY KEY)")
    flow = Flow(postgres, tmp_path, ["public.other", *tables], read_by=read_by)
    flow.run()
    flow.tables = ["public.other"]
    flow.run()
    source.execute("DELETE FROM items WHERE id < 50")
    source.execute("UPDATE items SET n = -7 WHERE id = 60")
    source.execute("INSERT INTO log VALUES (77, 'a')")
    flow.run()
    flow.tables = ["public.other", *tables]
    flow.run(epochs)
    assert flow.run()
    _equal(flow, *(name.removeprefix("public.") for name in tables))
    source.execute("CREATE TABLE twin AS SELECT * FROM items WHERE id > 70")
    source.execute("DROP TABLE items")
    source.execute("ALTER TABLE twin RENAME TO items")
    source.execute("ALTER TABLE items ADD PRIMARY KEY (id, line)")
    flow.run(epochs)
    source.execute("INSERT INTO items VALUES (1, 'new', 1, '')")
    assert flow.run()
    _equal(flow, *(name.removeprefix("public.") for name in tables))
    flow.close()


def test_a_truncate_that_the_rows_show_already(
    source: Connection, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a table without a key, a TRUNCATE that was committed before its rows were read is passed over, as its rows
    are; one that comes behind them is not."""
    _items(source, 100)
    flow = Flow(postgres, tmp_path, ["public.items"], bindings={"on_truncate": "apply"})
    flow.run()
    made, changes = slots.create, ["TRUNCATE log", "INSERT INTO log VALUES (1, 'a'), (1, 'a')"]

    def create(*given: Any, **named: Any) -> Iterator[Any]:
        while changes:  # the stream brings them only behind the rows
            source.execute(changes.pop(0).encode())
        return made(*given, **named)

    monkeypatch.setattr(slots, "create", create)
    flow.tables = ["public.items", "public.log"]
    assert flow.run()
    _equal(flow, "log")
    source.execute("TRUNCATE log")
    source.execute("INSERT INTO log VALUES (2, 'b')")
    assert flow.run()
    _equal(flow, "log")
    flow.close()


def test_a_table_is_read_again_on_a_running_flow(
    source: Connection, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a target lost comes back, by a condition or whole, while a writer goes on; the answer says how many rows."""
    monkeypatch.setattr(slot_requests, "CHUNK_ROWS", 300)
    _items(source, 2000)
    flow = Flow(postgres, tmp_path, ["public.items", "public.log"], batch_rows_max=200)
    flow.run()
    lost = flow.target.rows["public.items"]
    for key in [key for key in lost if key[0] % 2]:
        del lost[key]
    flow.target.counts["public.log"].clear()
    writer = Writer(postgres, 5)
    writer.start()
    flow.open(until_end=False)
    answer = ask(tmp_path, "public.items", "id % 2 <> 0")
    flow.until(answer.exists)
    assert answered(answer)["rows"] > 500
    flow.until(ask(tmp_path, "public.log", identity="two").exists)
    flow.crash()
    writer.stop()
    assert flow.run()
    _equal(flow, "items", "log")
    flow.open(until_end=False)
    answer = ask(tmp_path, "public.items", "no such thing", "three")
    flow.until(answer.exists)
    assert "syntax error" in answered(answer)["error"]
    flow.crash()
    flow.close()


def test_several_slots(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Tables by groups, each with a slot, a publication and an order of its own."""
    _items(source, 1000)
    flow = Flow(postgres, tmp_path, ["public.items", "public.log"], slots={"logs": ("*.log",)})
    described = flow.changes.describe(flow.tables)
    bound = {table.name: TopicBinding(table.name) for table in described}
    parts = flow.changes.source(described, bound, until_end=True).list_parts()
    assert parts == [str(flow.config.slot), f"{flow.config.slot}_logs"]
    for _ in range(2):
        source.execute("INSERT INTO log VALUES (1, 'y')")
        source.execute("INSERT INTO items SELECT max(id) + 1, 'y', 1, '' FROM items")
        assert flow.run_all()
    _equal(flow, "items", "log")
    flow.close()


def test_whole_transactions_have_their_marks(source: Connection, postgres: str, tmp_path: Path) -> None:
    """For the document step: the snapshot's rows are of no transaction, each later row names its own."""
    _items(source, 100)
    flow = Flow(postgres, tmp_path, ["public.items"], bindings={"transactions": True})
    flow.run()
    with source.transaction():
        source.execute("UPDATE items SET n = 0 WHERE id < 3")
    described = flow.changes.describe(flow.tables)
    assert flow.run()
    assert described[0].table.key == ("id", "line")
    assert flow.target.transactions == 1
    _equal(flow, "items")
    flow.close()


def test_by_functions_where_no_walsender_can_be_had(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Peeked at and advanced: the same rows, killed in between; nothing is advanced before it is durable."""
    _items(source, 2000)
    flow = Flow(postgres, tmp_path, ["public.items"], read_by="functions", chunk_rows=300, batch_rows_max=300)
    writer = Writer(postgres, 6)
    writer.start()
    for epochs in (4, 9, 30, 60):
        flow.run(epochs)
    with source.transaction():
        source.execute("LOCK TABLE items IN EXCLUSIVE MODE")  # the writer takes rows in another order
        source.execute("UPDATE items SET n = -1")  # larger than an epoch
    flow.run(20)
    writer.stop()
    while not flow.run(300):
        continue
    _equal(flow, "items")
    flow.tables = ["public.items", "public.late"]
    source.execute("CREATE TABLE late AS SELECT id, line FROM items")
    source.execute("ALTER TABLE late ADD PRIMARY KEY (id, line)")
    flow.target.rows["public.items"].clear()
    flow.open(until_end=False)
    flow.until(ask(tmp_path, "public.items").exists)
    flow.crash()
    assert flow.run()
    _equal(flow, "items", "late")
    flow.tables = ["public.items", "public.log"]
    with pytest.raises(ConfigurationError, match=r"public\.log has none"):
        flow.run()
    flow.close()


def test_a_full_peek_says_nothing_of_what_lies_behind_it(source: Connection, postgres: str) -> None:
    """Where all that a peek showed is durable before its end is met, changes that did not fit in are not skipped."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute("CREATE PUBLICATION p FOR TABLE t")
    slot_peek.create(source, "peeked", failover=False)
    for number in range(3):
        source.execute("INSERT INTO t VALUES (%s)", (number,))
    peeks = slot_peek.Peeks(psycopg.connect(postgres, autocommit=True), 3)
    list(peeks.start("peeked", 0, slot_peek.function_options("p", source.info.server_version)))
    shown, behind = b"", 0
    for _ in range(12):
        taken = peeks.take(100)
        if taken.messages is None:
            assert taken.keepalive_lsn <= behind or shown.count(b"I") == 3, "changes were skipped"
            continue
        payloads = [message["payload"] for message in taken.messages.to_pylist()]
        shown += b"".join(payload[:1] for payload in payloads)
        ends = [int.from_bytes(payload[10:18], "big") for payload in payloads if payload[:1] == b"C"]
        peeks.confirmed = behind = max([behind, *ends])  # as a flow does whose epochs are durable at once
    peeks.close()
    source.execute("SELECT pg_drop_replication_slot('peeked')")
    assert shown.count(b"I") == 3 and taken.keepalive_lsn >= behind


@pytest.mark.parametrize("read_by", ["stream", "functions"])
@pytest.mark.parametrize("seed", range(2))
def test_columns_with_values_in_rows_that_were_there(
    source: Connection, postgres: str, tmp_path: Path, read_by: str, seed: int
) -> None:
    """Of a new column's default no change tells; the rows before have it all the same, with a key or without, killed or
    not."""
    _items(source, 400)
    tables = ["public.items", "public.log"] if read_by == "stream" else ["public.items"]
    flow = Flow(postgres, tmp_path, tables, read_by=read_by, batch_rows_max=60)
    flow.run()
    for table in ("items", "log"):
        source.execute(f"ALTER TABLE {table} ADD COLUMN c int DEFAULT 7, ADD COLUMN d text")
    source.execute("ALTER TABLE items ADD COLUMN e text DEFAULT md5(random()::text)")
    source.execute("INSERT INTO items VALUES (-1, 'new')")
    source.execute("INSERT INTO log VALUES (-1, 'new')")
    chance = random.Random(seed)
    for _ in range(4):
        flow.run(chance.choice([1, 2, 3, 5]))
    assert flow.run()
    _equal(flow, *(table.rpartition(".")[2] for table in tables))
    assert flow.state[11] == ()  # no request is left
    flow.close()


def test_a_new_column_that_is_gone_again(
    source: Connection, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of columns that are to be read in rows that were there, one may be dropped meanwhile: the others are read."""
    _items(source, 100)
    flow = Flow(postgres, tmp_path, ["public.items"], bindings={"on_schema_change": "follow"})
    flow.run()
    source.execute("ALTER TABLE items ADD COLUMN c int DEFAULT 7, ADD COLUMN d int DEFAULT 8")
    source.execute("INSERT INTO items VALUES (-1, 'new')")
    with monkeypatch.context() as patch:
        patch.setattr(slot_requests.SlotRequests, "step", lambda *_: iter(()))  # it is not their turn
        flow.open(until_end=False)
        flow.until(lambda: bool(flow.state[11]))
        flow.crash()
    source.execute("ALTER TABLE items DROP COLUMN d")
    assert flow.run()
    assert {tuple(row[4:5]) for row in flow.target.table("public.items")} == {(7,)}
    flow.close()
