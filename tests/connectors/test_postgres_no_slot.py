"""Tables read beside the stream of a server that has no slot to give: in ranges, and nothing older than the stream."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.postgres import slot_requests
from control.embedded import EmbeddedPostgres
from tests.connectors.request_parts import answered, ask
from tests.connectors.slot_parts import SECONDS_MAX, Flow, differences, source_rows
from tests.connectors.test_postgres_source import Writer, _items
from tests.examples import TIMES

Connection = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server with one slot, which is the flow's."""
    with EmbeddedPostgres(settings={"fsync": False, "max_replication_slots": 1}) as running:
        yield running


@pytest.fixture
def source(server: EmbeddedPostgres) -> Iterator[Connection]:
    """A session with an empty database."""
    dsn = server.create_database("erp")
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection
    server.drop_database("erp")


@pytest.mark.parametrize("seed", range(2 * TIMES))
def test_a_table_is_read_again_under_a_writer(
    source: Connection, server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """What a target lost or has wrong comes right, in small ranges, left and begun again in mid-table."""
    monkeypatch.setattr(slot_requests, "CHUNK_ROWS", 150)
    chance = random.Random(seed)
    _items(source, 2000)
    source.execute("ALTER TABLE items ALTER note SET STORAGE EXTERNAL")
    flow = Flow(server.dsn("erp"), tmp_path, ["public.items"], batch_rows_max=100)
    flow.run()
    rows = flow.target.rows["public.items"]
    for key in chance.sample(sorted(rows), 700):
        if chance.random() < 0.5:
            del rows[key]
        else:
            rows[key][2:] = [-1, b"wrong"]
    writer = Writer(server.dsn("erp"), seed)
    writer.start()
    answer = ask(tmp_path, "public.items")
    flow.until_under_crashes(answer.exists, chance)
    writer.stop()
    assert flow.run()
    assert answered(answer)["done"]
    assert differences(source_rows(flow.dsn, "items"), flow.target.table("public.items")) == ([], [])
    flow.close()


def test_a_change_that_is_seen_in_the_log_first(source: Connection, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """A commit that waits for a standby is in the log, and in the target, and in no snapshot: it is not undone."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, x int)")
    source.execute("INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) g")
    flow = Flow(server.dsn("erp"), tmp_path, ["public.t"])
    flow.run()
    with _commits_held(server, flow.dsn, "UPDATE t SET x = 1") as held:
        flow.open(until_end=False)
        held.start()
        wanted = [[number, 1] for number in range(1, 11)]
        flow.until(lambda: sorted(flow.target.table("public.t")) == wanted)
        assert {row[1] for row in source_rows(flow.dsn, "t")} == {0}, "the commit was not held"
        answer = ask(tmp_path, "public.t")
        ended = time.monotonic() + 2.5
        flow.until(lambda: time.monotonic() > ended)
        assert not answer.exists()
    flow.until(answer.exists)
    assert answered(answer) == {"done": True, "rows": 10}
    assert sorted(flow.target.table("public.t")) == wanted
    flow.crash()
    flow.close()


def test_a_key_changed_in_a_commit_that_no_snapshot_shows_yet(
    source: Connection, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Large values that the log lacks are looked up behind the commit that moved them, though the log has it sooner."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, x text)")
    source.execute("ALTER TABLE t ALTER x SET STORAGE EXTERNAL")
    source.execute("INSERT INTO t SELECT g, repeat('x', 5000 + g) FROM generate_series(1, 10) g")
    flow = Flow(server.dsn("erp"), tmp_path, ["public.t"])
    flow.run()
    with _commits_held(server, flow.dsn, "UPDATE t SET id = id + 100") as held:
        flow.open(until_end=False)
        held.start()
        ended = time.monotonic() + 1.5
        flow.until(lambda: time.monotonic() > ended)
        assert min(row[0] for row in source_rows(flow.dsn, "t")) == 1, "the commit was not held"
    flow.until(lambda: min(flow.target.table("public.t"))[0] > 100)
    assert differences(source_rows(flow.dsn, "t"), flow.target.table("public.t")) == ([], [])
    flow.crash()
    flow.close()


@contextmanager
def _commits_held(server: EmbeddedPostgres, dsn: str, statement: str) -> Iterator[threading.Thread]:
    """Commits are in the log, and wait for a standby that there is not; to be started: a session that writes."""
    server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'; SELECT pg_reload_conf()")
    held = threading.Thread(target=_write, args=(dsn, statement), daemon=True)
    try:
        yield held
    finally:
        server.execute("ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()")
        held.join(SECONDS_MAX)


def _write(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_the_stream_goes_on_beside_a_long_transaction(
    source: Connection, server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """A range waits for what is open, the stream does not; a table without a key needs a slot, and says so."""
    for table in ("t", "late"):
        source.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, x int)")
        source.execute(f"INSERT INTO {table} SELECT g, 0 FROM generate_series(1, 10) g")
    source.execute("CREATE TABLE keyless (a int)")
    source.execute("ALTER TABLE keyless REPLICA IDENTITY FULL")
    flow = Flow(server.dsn("erp"), tmp_path, ["public.t", "public.keyless"])
    flow.run()
    flow.tables.append("public.late")
    with psycopg.connect(flow.dsn) as long:
        long.execute("UPDATE late SET x = 2")
        flow.open(until_end=False)
        for number in range(3):
            source.execute("UPDATE t SET x = %s", (number,))
            flow.until(lambda: {row[1] for row in flow.target.table("public.t")} == {number})  # noqa: B023
        assert flow.target.table("public.late") == []
        long.commit()
    flow.until(lambda: sorted(flow.target.table("public.late")) == [[number, 2] for number in range(1, 11)])
    answer = ask(tmp_path, "public.keyless")
    flow.until(answer.exists)
    assert "max_replication_slots" in answered(answer)["error"]
    flow.crash()
    flow.close()
