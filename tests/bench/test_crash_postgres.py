"""The killing runs of [source.postgres]: the moments are told apart, and a kill reaches a session that reads."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg
import pytest

from bench.crash_direct import MOMENTS
from bench.crash_postgres import PostgresRig
from control.embedded import EmbeddedPostgres

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def parts(postgres_server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresRig]:
    """A rig over 400 rows, whose source is a server of its own: it is killed."""
    with EmbeddedPostgres(settings={"fsync": False}) as source:
        rig = PostgresRig(postgres_server, source, 400, tmp_path_factory.mktemp("crash"))
        rig.clean_seconds = 0.01
        rig.fill()
        yield rig
        rig.close()
    postgres_server.drop_database("crash")


@contextmanager
def session(parts: PostgresRig, query: bytes, **options: str) -> Iterator[None]:
    """A session at the source that is in the middle of a query, as the flow's are."""
    name = "headrace x"
    with closing(psycopg.connect(parts.source.dsn("erp"), application_name=name, autocommit=True, **options)) as it:
        it.pgconn.send_query(query)
        yield


def eventually(parts: PostgresRig, moment: str) -> None:
    """Wait until the rig sees that."""
    deadline = time.monotonic() + 10
    while parts.moment() != moment:
        assert time.monotonic() < deadline, (parts.moment(), moment)
        time.sleep(0.01)


def test_moments_are_told_apart_and_a_reader_is_killed(parts: PostgresRig) -> None:
    """A COPY is the snapshot, START_REPLICATION the stream; a killed walsender ends the session, and all go on."""
    parts.pipeline()
    assert parts.moment() == ""
    assert not parts.hit("walsender", random.Random(1))
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        with session(parts, b"COPY (SELECT pg_sleep(60)) TO STDOUT"):
            eventually(parts, "snapshot")
            with psycopg.connect(parts.source.dsn("erp"), autocommit=True) as connection:
                connection.execute("SELECT pg_create_logical_replication_slot('crash', 'pgoutput')")
                connection.execute("CREATE PUBLICATION crash FOR TABLE items")
            start = b"START_REPLICATION SLOT crash LOGICAL 0/0 (proto_version '1', publication_names 'crash')"
            with session(parts, start, replication="database"):
                eventually(parts, "stream")
                assert parts.wait(process, random.Random(1)).split()[-1] in (*MOMENTS, "hand-over")
                assert parts.hit("walsender", random.Random(1))
                eventually(parts, "")
    finally:
        process.kill()
        process.wait()
    assert parts.hit("source", random.Random(1))
    assert parts.moment() == ""


def test_rows_that_differ_make_a_run_unequal(parts: PostgresRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty target behind the last run is not equal, and every missing row is counted."""
    parts.pipeline()
    with psycopg.connect(parts.postgres.dsn("crash")) as connection:
        connection.execute("CREATE TABLE items (order_id int, line_no int, quantity int, note text)")
        connection.execute("CREATE TABLE ledger (account int, text text)")
    done = subprocess.Popen([sys.executable, "-c", ""])
    monkeypatch.setattr(parts, "start", lambda file, processes, until_end: done)
    found = parts.compare()
    assert set(found) == {"items", "ledger"}
    assert all(not table.equal and table.missing > 10 for table in found.values())
