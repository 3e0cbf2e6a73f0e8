"""A login that PostgreSQL refuses: wrong at a start, waited out while a flow runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.base.metrics import LOGIN_REFUSED
from connectors.formats.binding import TopicBinding
from control.embedded import EmbeddedPostgres
from libcore.errors import ConfigurationError
from tests.connectors.slot_parts import Flow, source_rows

END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'reader'"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server that asks for passwords, with a role that a flow logs in as."""
    with EmbeddedPostgres(settings={"fsync": False}, password="of the superuser") as running:
        running.execute("CREATE ROLE reader LOGIN SUPERUSER REPLICATION PASSWORD 'right'")
        running.execute("CREATE ROLE stranger LOGIN PASSWORD 'right'")
        running.create_database("erp")
        running.execute("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (0)", "erp")
        running.execute("REVOKE CONNECT ON DATABASE erp FROM PUBLIC")
        yield running


def _dsn(server: EmbeddedPostgres, login: str = "reader:right", database: str = "erp") -> str:
    return f"postgresql://{login}@127.0.0.1:{server.port}/{database}"


@pytest.mark.parametrize("login", ["reader:wrong", "nobody:right", "stranger:right", "reader", "reader:right/lost"])
def test_a_start_is_refused(server: EmbeddedPostgres, tmp_path: Path, login: str) -> None:
    """A wrong password, role or database, a role that may not in: an error of the configuration, at once."""
    login, _, database = login.partition("/")
    flow = Flow(_dsn(server, login, database or "erp"), tmp_path, ["public.t"])
    with pytest.raises(ConfigurationError, match=r"source\.postgres"):
        flow.run()


def test_a_first_session_that_is_refused_ends_the_flow(server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Let in to describe the tables, and not to read them: nothing was ever read, so it is the file that is wrong."""
    flow = Flow(_dsn(server), tmp_path, ["public.t"])
    described = flow.changes.describe(flow.tables)
    made = flow.changes.source(described, {"public.t": TopicBinding("public.t")}, until_end=False)
    flow.changes.close()
    (tmp_path / "dsn").write_text(_dsn(server, "reader:wrong"), "utf-8")
    flow.part = made.build_part("step", made.list_parts()[0], None)
    with pytest.raises(ConfigurationError, match="password authentication failed"):
        flow.until(lambda: False)
    flow.crash()


CHANGES = {
    "locked": ("ALTER ROLE reader NOLOGIN", "ALTER ROLE reader LOGIN"),
    "another password": ("ALTER ROLE reader PASSWORD 'new'", "ALTER ROLE reader PASSWORD 'right'"),
    "renamed": ("ALTER DATABASE erp RENAME TO old", "ALTER DATABASE old RENAME TO erp"),
    "closed": ("ALTER DATABASE erp ALLOW_CONNECTIONS false", "ALTER DATABASE erp ALLOW_CONNECTIONS true"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_running_flow_waits_until_it_is_let_in(server: EmbeddedPostgres, tmp_path: Path, change: str) -> None:
    """Refused while it runs it says so, in its log and as a metric, tries on, and lacks nothing once it is let in."""
    flow = Flow(_dsn(server), tmp_path, ["public.t"], slot="waits")
    refused = LOGIN_REFUSED.labels("waits")._value
    flow.open(until_end=False)
    flow.until(lambda: bool(flow.target.table("public.t")))
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        breaks, mends = CHANGES[change]
        _insisted(connection, breaks)
        flow.until(lambda: refused.get() == 1)
        _insisted(connection, mends)
    server.execute("INSERT INTO t SELECT max(id) + 1 FROM t", "erp")
    wanted = source_rows(server.dsn("erp"), "t")
    flow.until(lambda: flow.target.table("public.t") == wanted)
    assert refused.get() == 0
    flow.crash()
    flow.close()


def _insisted(connection: psycopg.Connection[Any], statement: str) -> None:
    """Run it and end the flow's sessions; a database is renamed only while nobody is in it."""
    for _ in range(200):
        try:
            connection.execute(END_SESSIONS)
            connection.execute(statement.encode())
            connection.execute(END_SESSIONS)
            return
        except psycopg.errors.ObjectInUse:
            time.sleep(0.02)
    pytest.fail(f"{statement}: somebody is in the database all the time")
