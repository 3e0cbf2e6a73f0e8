"""A database read directly, on a real PostgreSQL: snapshot, hand-over and stream give the table, whatever dies."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.postgres import slot_stream, source_wire
from libcore.change import ChangeBatch
from tests.connectors.slot_parts import Flow, differences, source_rows
from tests.connectors.test_pgoutput_real import _COLUMNS, _ROWS

WIRES = ["plain", *([] if source_wire.missing() else ["c"])]
Connection = psycopg.Connection[Any]


@pytest.fixture
def source(postgres: str) -> Iterator[Connection]:
    """A session with the source database."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


def _items(connection: Connection, count: int) -> None:
    connection.execute("CREATE TABLE items (id int, line text, n int, note text, PRIMARY KEY (id, line))")
    connection.execute(
        "INSERT INTO items SELECT g / 3, 'l' || g %% 3, g, repeat('x', g %% 50) FROM generate_series(1, %s) g", (count,)
    )
    connection.execute("CREATE TABLE log (a int, b text)")
    connection.execute("ALTER TABLE log REPLICA IDENTITY FULL")
    connection.execute("INSERT INTO log SELECT g % 7, 'x' FROM generate_series(1, 500) g")
    connection.execute("ANALYZE")


class Writer(threading.Thread):
    """Changes both tables until it is stopped: updates, deletes, inserts, keys that change, values behind TOAST."""

    def __init__(self, dsn: str, seed: int) -> None:
        super().__init__(daemon=True)
        self._dsn, self._chance, self.ended = dsn, random.Random(seed), threading.Event()

    def run(self) -> None:
        """Write."""
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self.ended.is_set():
                with connection.transaction():
                    for _ in range(self._chance.randint(1, 4)):
                        self.change(connection)

    def change(self, connection: Connection) -> None:
        """One change."""
        key = (self._chance.randint(0, 1000), f"l{self._chance.randint(0, 3)}")
        statement = self._chance.choice(
            [
                "UPDATE items SET n = n + 1 WHERE (id, line) = (%s, %s)",
                "DELETE FROM items WHERE (id, line) = (%s, %s)",
                "INSERT INTO items VALUES (%s, %s, 0, repeat('y', 5000)) ON CONFLICT DO NOTHING",
                "UPDATE items SET id = id + 100000 WHERE (id, line) = (%s, %s)",
                "UPDATE items SET id = id - 100000 WHERE (id, line) = (%s + 100000, %s) AND NOT EXISTS "
                "(SELECT FROM items i WHERE (i.id, i.line) = (items.id - 100000, items.line))",
                "INSERT INTO log VALUES (%s, %s)",
                "DELETE FROM log WHERE ctid = (SELECT ctid FROM log WHERE a > %s %% 7 OR b = %s LIMIT 1)",
            ]
        )
        try:
            with connection.transaction():
                connection.execute(statement, key)
        except psycopg.errors.UniqueViolation:
            return

    def stop(self) -> None:
        """End it."""
        self.ended.set()
        self.join()


def _equal(flow: Flow, *tables: str) -> None:
    for table in tables:
        lost, other = differences(source_rows(flow.dsn, table), flow.target.table(f"public.{table}"))
        assert (table, lost, other) == (table, [], [])


@pytest.mark.parametrize("reader", WIRES)
def test_rows_and_changes_without_a_gap(source: Connection, postgres: str, tmp_path: Path, reader: str) -> None:
    """While a writer goes on, the snapshot in many chunks and the stream behind it give the source's tables."""
    _items(source, 6000)
    source.execute("ALTER TABLE items ALTER note SET STORAGE EXTERNAL")
    flow = Flow(postgres, tmp_path, ["public.items", "public.log"], chunk_rows=500, batch_rows_max=300, reader=reader)
    writer = Writer(postgres, 1)
    writer.start()
    flow.run()
    writer.stop()
    assert flow.run()
    _equal(flow, "items", "log")
    assert flow.target.letters == []
    flow.close()


@pytest.mark.parametrize("seed", range(3))
def test_a_crash_anywhere_loses_and_doubles_nothing(
    source: Connection, postgres: str, tmp_path: Path, seed: int
) -> None:
    """Left after any epoch, in the snapshot, at the hand-over or in the stream: the tables are the source's."""
    _items(source, 3000)
    source.execute("ALTER TABLE items ALTER note SET STORAGE EXTERNAL")
    chance = random.Random(seed)
    flow = Flow(postgres, tmp_path, ["public.items", "public.log"], chunk_rows=300, batch_rows_max=40)
    writer = Writer(postgres, seed)
    writer.start()
    phases: set[str | None] = set()
    turns = 0
    while turns < 8 or (turns < 60 and phases <= {None, "new"}):  # a busy machine takes some turns to make the slot
        flow.run(chance.choice([1, 2, 3, 5, 8, 13]))
        phases.add(flow.state[1] if flow.state else None)
        turns += 1
    writer.stop()
    while not flow.run(200):
        continue
    _equal(flow, "items", "log")
    assert phases >= {"snapshot"}
    flow.close()


def test_a_first_start_that_died_leaves_no_trace(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Killed before anything was durable: the slot it left is made anew, with the rows of now."""
    _items(source, 300)
    flow = Flow(postgres, tmp_path, ["public.items", "public.log"])
    flow.run()
    flow.state, flow.target = None, type(flow.target)()
    source.execute("DELETE FROM items WHERE id < 50")
    assert flow.run()
    _equal(flow, "items", "log")
    flow.close()


def test_the_snapshot_has_the_values_of_the_stream(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Every type: a row read by COPY and the same row read from the log are equal, to the bit."""
    source.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    source.execute("CREATE DOMAIN price AS numeric(10,2)")
    columns = ", ".join(f"{name} {text}" for name, text in _COLUMNS.items())
    for table in ("copied", "streamed"):
        source.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, {columns}, a int[], "
                       "g int GENERATED ALWAYS AS (id * 2) STORED)")  # fmt: skip
    places = ", ".join(f"%s::text::{text}" for text in _COLUMNS.values())
    for number, row in enumerate(_ROWS):
        source.execute(f"INSERT INTO copied VALUES ({number}, {places}, '{{{number}, NULL}}')", row)
    flow = Flow(postgres, tmp_path, ["public.copied", "public.streamed"])
    assert flow.run()
    source.execute("INSERT INTO streamed SELECT id, " + ", ".join(_COLUMNS) + ", a FROM copied")
    assert flow.run()
    assert flow.target.letters == []
    copied, streamed = flow.target.table("public.copied"), flow.target.table("public.streamed")
    assert len(copied) == len(_ROWS)
    assert [list(map(repr, row)) for row in copied] == [list(map(repr, row)) for row in streamed]
    assert [row[-1] for row in sorted(copied)] == [0, 2, 4, 6]
    flow.close()


def test_the_snapshot_has_the_texts_of_the_stream(source: Connection, postgres: str, tmp_path: Path) -> None:
    """What a cast to text writes otherwise than PostgreSQL prints it, and floats: the same by snapshot and slot."""
    source.execute("CREATE DOMAIN host AS inet")
    for table in ("copied", "streamed"):
        source.execute(f'CREATE TABLE {table} (id int PRIMARY KEY, i inet, h host, c "char", f real, n inet)')
    row = "1, '10.0.0.1'::inet, '::1'::inet, ''::\"char\", '7.038531e-26'::real, NULL::inet"
    source.execute(f"INSERT INTO copied SELECT {row}")
    flow = Flow(postgres, tmp_path, ["public.copied", "public.streamed"])
    assert flow.run()
    source.execute(f"INSERT INTO streamed SELECT {row}")
    assert flow.run()
    assert flow.target.letters == []
    copied, streamed = flow.target.table("public.copied"), flow.target.table("public.streamed")
    assert list(map(repr, copied)) == list(map(repr, streamed))
    assert "10.0.0.1/32" not in repr(copied)
    flow.close()


def test_rows_that_hand_their_keys_round(source: Connection, postgres: str, tmp_path: Path) -> None:
    """A deferrable key tells no rows apart within a statement, so its table is one without a key: no row is lost."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, x text)")
    source.execute("ALTER TABLE t REPLICA IDENTITY FULL")
    source.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    flow = Flow(postgres, tmp_path, ["public.t"])
    assert flow.run()
    source.execute("UPDATE t SET id = id + 1")
    assert flow.run()
    assert sorted(flow.target.table("public.t")) == [[2, b"a"], [3, b"b"], [4, b"c"]]
    assert flow.target.letters == []
    flow.close()


def test_transactions_above_an_epoch_and_small_ones_whole(source: Connection, postgres: str, tmp_path: Path) -> None:
    """An epoch ends at a commit border, except inside of a transaction that is larger than it."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, x int)")
    flow = Flow(postgres, tmp_path, ["public.t"], batch_rows_max=100)
    assert flow.run()
    for number in range(30):
        source.execute("INSERT INTO t SELECT g, %s FROM generate_series(%s::int, %s::int) g",
                       (number, number * 30, number * 30 + 29))  # fmt: skip
    flow.open()
    while flow.epoch():
        assert len(flow.target.table("public.t")) % 30 == 0
    flow.crash()
    source.execute("UPDATE t SET x = -1")
    assert flow.run()
    _equal(flow, "t")
    flow.close()


@pytest.mark.parametrize("streaming", [False, True])
def test_large_transactions(source: Connection, postgres: str, tmp_path: Path, streaming: bool) -> None:
    """Larger than the server's memory, with a savepoint rolled back, and one rolled back whole, killed in between."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, x int, y text)")
    source.execute("ALTER SYSTEM SET logical_decoding_work_mem = '64kB'")
    source.execute("SELECT pg_reload_conf()")
    flow = Flow(postgres, tmp_path, ["public.t"], batch_rows_max=700, streaming=streaming)
    try:
        assert flow.run()
        with source.transaction():
            source.execute("INSERT INTO t SELECT g, 1, repeat('a', 100) FROM generate_series(1, 5000) g")
            with pytest.raises(psycopg.errors.DivisionByZero), source.transaction():
                source.execute("UPDATE t SET x = 2")
                source.execute("SELECT 1 / 0")
            source.execute("DELETE FROM t WHERE id % 3 = 0")
        with source.transaction(force_rollback=True):
            source.execute("UPDATE t SET y = 'never'")
        flow.run(3)
        assert flow.run()
        _equal(flow, "t")
    finally:
        source.execute("ALTER SYSTEM RESET logical_decoding_work_mem")
        source.execute("SELECT pg_reload_conf()")
        flow.close()


def test_shapes_of_tables(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Partitioned tables come as one, an index as replica identity is the key, row filters hold in the snapshot too."""
    source.execute("CREATE TABLE parted (id int PRIMARY KEY, x text) PARTITION BY RANGE (id)")
    source.execute("CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100)")
    source.execute("CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (100) TO (1000)")
    source.execute("CREATE TABLE indexed (a int, b int NOT NULL UNIQUE, c text)")
    source.execute("ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_b_key")
    source.execute("CREATE TABLE whole (id int PRIMARY KEY, x text)")
    source.execute("ALTER TABLE whole REPLICA IDENTITY FULL")
    for table in ("parted", "whole"):
        source.execute(f"INSERT INTO {table} SELECT g, 'x' FROM generate_series(50, 150) g")
    source.execute("INSERT INTO indexed SELECT g, -g, 'x' FROM generate_series(1, 20) g")
    flow = Flow(postgres, tmp_path, ["public.parted", "public.indexed", "public.whole"])
    assert flow.run()
    keys = {table.name: table.table.key for table in flow.changes.describe(flow.tables)}
    assert keys == {"public.parted": ("id",), "public.indexed": ("b",), "public.whole": ("id",)}
    assert "public.parted_1" not in flow.changes.names()
    source.execute("UPDATE parted SET id = id + 60 WHERE id BETWEEN 91 AND 95")  # into another partition
    source.execute("DELETE FROM parted WHERE id = 50")
    source.execute("UPDATE indexed SET b = -100 WHERE a = 1")
    source.execute("UPDATE indexed SET c = 'y' WHERE a = 2")
    source.execute("DELETE FROM indexed WHERE a = 3")
    source.execute("UPDATE whole SET id = 1000 WHERE id = 60")
    source.execute("DELETE FROM whole WHERE id = 61")
    assert flow.run()
    _equal(flow, "parted", "indexed", "whole")
    flow.close()


def test_truncates_and_new_shapes_in_mid_stream(source: Connection, postgres: str, tmp_path: Path) -> None:
    """TRUNCATE empties, a new column is taken on, one that was dropped is cleared."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, old text)")
    source.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    policies = {"on_truncate": "apply", "on_schema_change": "follow", "clears": True}
    flow = Flow(postgres, tmp_path, ["public.t"], bindings=policies)
    flow.run()
    source.execute("TRUNCATE t")
    source.execute("INSERT INTO t VALUES (3, 'c')")
    source.execute("ALTER TABLE t ADD n int DEFAULT 5")
    source.execute("INSERT INTO t VALUES (4, 'd', 6)")
    source.execute("ALTER TABLE t DROP old")
    source.execute("INSERT INTO t VALUES (5, 7)")
    flow.run(2)
    assert flow.run()
    assert flow.target.truncates == 1
    assert flow.target.clears == ["old"]
    assert [row[0] for row in flow.target.table("public.t")] == [3, 4, 5]
    flow.close()


def test_an_idle_slot_moves_on(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Other tables' changes alone let the confirmed position follow, so that no log piles up for nothing."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute("CREATE TABLE other (id int)")
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    lag = "SELECT pg_current_wal_lsn() - confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s"
    flow.open(until_end=False)
    source.execute("INSERT INTO other SELECT g FROM generate_series(1, 20000) g")
    row = source.execute(lag, (flow.config.slot,)).fetchone()
    assert row is not None
    assert row[0] > 1_000_000
    for _ in range(400):
        assert flow.epoch()
        row = source.execute(lag, (flow.config.slot,)).fetchone()
        if row is not None and row[0] < 100_000:
            break
    else:
        pytest.fail("the slot stayed where it was")
    flow.crash()
    flow.close()


def test_a_lost_connection_costs_nothing(source: Connection, postgres: str, tmp_path: Path) -> None:
    """All sessions are ended by the server, several times: the reader comes back and goes on."""
    _items(source, 3000)
    flow = Flow(postgres, tmp_path, ["public.items", "public.log"], chunk_rows=300, batch_rows_max=40)
    flow.open()
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'headrace slot%'"
    for number in range(1 << 30):
        if not flow.epoch():
            break
        if number in (2, 9, 20):
            source.execute(others)
    flow.crash()
    assert flow.target.letters == []
    _equal(flow, "items", "log")
    flow.close()


def test_large_values_follow_their_key(source: Connection, postgres: str, tmp_path: Path) -> None:
    """A value that is not in the log because only the key changed is looked up, also where the key changed twice."""
    source.execute("CREATE TABLE t (id int, at timestamptz, y text, z bytea, n numeric(10,2), PRIMARY KEY (id, at))")
    source.execute("ALTER TABLE t ALTER y SET STORAGE EXTERNAL, ALTER z SET STORAGE EXTERNAL")
    source.execute(
        "INSERT INTO t SELECT g, '2026-01-02 03:04:05.678+00', repeat('y', 5000 + g), "
        "decode(repeat('ab', 4000), 'hex'), 1 FROM generate_series(1, 20) g"
    )
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    source.execute("UPDATE t SET id = id + 100 WHERE id <= 10")
    source.execute("UPDATE t SET id = id + 100, at = at + interval '1 day' WHERE id BETWEEN 101 AND 105")
    source.execute("UPDATE t SET n = 2 WHERE id = 106")
    source.execute("UPDATE t SET id = 300, y = 'short' WHERE id = 107")
    source.execute("DELETE FROM t WHERE id = 108")
    assert flow.run()
    found = [row[:1] + row[2:4] for row in flow.target.table("public.t")]
    assert sorted(found) == sorted(source_rows(postgres, "t", "id, y, z"))
    flow.close()


def test_a_large_value_of_a_column_that_joined_follows_its_key(
    source: Connection, postgres: str, tmp_path: Path
) -> None:
    """A column that a table gained while the flow ran is looked up as those that it had at the start are."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    source.execute("INSERT INTO t VALUES (1, 1), (2, 2)")
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    flow.open(until_end=False)
    source.execute("UPDATE t SET n = -1 WHERE id = 1")
    flow.until(lambda: -1 in {row[1] for row in flow.target.table("public.t")})  # what it knows of tables is old
    source.execute("ALTER TABLE t ADD note text")
    source.execute("ALTER TABLE t ALTER note SET STORAGE EXTERNAL")
    source.execute("UPDATE t SET note = repeat('x', 5000) WHERE id = 1")
    source.execute("UPDATE t SET id = 9 WHERE id = 1")
    source.execute("UPDATE t SET n = -2 WHERE id = 2")
    flow.until(lambda: -2 in {row[1] for row in flow.target.table("public.t")})
    flow.crash()
    assert differences(source_rows(postgres, "t"), flow.target.table("public.t")) == ([], [])
    flow.close()


def test_a_transaction_of_few_and_large_rows(
    source: Connection, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer rows than an epoch takes are not held up to their commit where they are large: bytes bound them, too."""
    monkeypatch.setattr(slot_stream, "_BYTES_AT_ONCE", 1 << 20)
    monkeypatch.setattr(slot_stream, "_HELD_BYTES", 2 << 20)
    source.execute("CREATE TABLE t (id int PRIMARY KEY, note text)")
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    source.execute("INSERT INTO t SELECT g, repeat(g::text, 50000) FROM generate_series(10, 99) g")
    flow.open()
    sizes: list[int] = []
    apply = flow.target.apply

    def measured(items: list[Any]) -> None:
        sizes.extend(item.record.nbytes for item in items if isinstance(item, ChangeBatch))
        apply(items)

    monkeypatch.setattr(flow.target, "apply", measured)
    flow.until(lambda: len(flow.target.table("public.t")) == 90)
    flow.crash()
    _equal(flow, "t")
    assert sum(sizes) > 9_000_000 and max(sizes) < 4_000_000
    flow.close()
