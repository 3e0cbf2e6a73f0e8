"""What stops a source that reads PostgreSQL directly: each is found, and the message names the way out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.postgres import slot as slots
from connectors.postgres.source_state import SlotState, unpacked
from control.embedded import EmbeddedPostgres
from libcore.errors import ConfigurationError, FatalError, HeadraceError
from tests.connectors.slot_parts import Flow

Connection = psycopg.Connection[Any]


@pytest.fixture
def source(postgres: str) -> Iterator[Connection]:
    """A session with a source database that has a table."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, x int)")
        connection.execute("INSERT INTO t SELECT g, g FROM generate_series(1, 10) g")
        yield connection


def _refusal(flow: Flow, kind: type[HeadraceError]) -> str:
    with pytest.raises(kind) as caught:
        flow.run()
    return str(caught.value)


def test_a_slot_that_is_gone(source: Connection, postgres: str, tmp_path: Path) -> None:
    """A slot that was dropped behind the flow's back is not made anew in silence: what it missed would be lost."""
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    for _ in slots.drop(source, str(flow.config.slot)):
        continue
    assert "headrace source drop" in _refusal(flow, FatalError)
    flow.close()


def test_a_slot_that_went_too_far(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Another reader, or an old copy of the state: the slot is confirmed beyond what the flow has."""
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    source.execute("INSERT INTO t VALUES (11, 11)")
    source.execute("SELECT pg_replication_slot_advance(%s, pg_current_wal_flush_lsn())", (flow.config.slot,))
    assert "another reader used the slot" in _refusal(flow, FatalError)
    flow.close()


def test_another_server(source: Connection, postgres: str, tmp_path: Path) -> None:
    """The dsn leads to another cluster than before."""
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    flow.state = SlotState(*("stream", "1234", *unpacked(flow.state).packed()[3:])).packed()
    assert "system identifier 1234" in _refusal(flow, FatalError)
    flow.close()


def test_another_timeline(source: Connection, postgres: str, tmp_path: Path) -> None:
    """The timeline does not follow the one that was read; those that do stand in test_postgres_failover.py."""
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    flow.state = replace(unpacked(flow.state), timeline=99).packed()
    assert "expected timeline 99" in _refusal(flow, FatalError)
    flow.close()


def test_a_state_of_an_older_version(source: Connection, postgres: str, tmp_path: Path) -> None:
    """A recovery state as it was written before there was `seen_lsn` goes on."""
    flow = Flow(postgres, tmp_path, ["public.t"])
    flow.run()
    source.execute("DELETE FROM t WHERE id = 1")
    flow.state = (1, *flow.state[1:-1])
    assert flow.run()
    assert len(flow.target.table("public.t")) == 9
    flow.close()


def test_a_table_whose_updates_would_be_refused(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Published without an identity, PostgreSQL would refuse the source's own updates: it is not published."""
    source.execute("CREATE TABLE bare (a int)")
    flow = Flow(postgres, tmp_path, ["public.bare"])
    assert 'ALTER TABLE "public"."bare" REPLICA IDENTITY FULL' in _refusal(flow, ConfigurationError)
    (finding, *_) = flow.changes.doctor(flow.changes.describe(flow.tables))
    assert (finding.severity, finding.what) == ("error", "table public.bare")
    flow.close()


def test_a_role_without_rights(source: Connection, postgres: str, tmp_path: Path) -> None:
    """No REPLICATION, no SELECT, not the publication's owner: the statement to run stands in the message."""
    source.execute("CREATE ROLE weak LOGIN")
    try:
        flow = Flow(postgres.replace("//postgres@", "//weak@"), tmp_path, ["public.t"])
        assert "CREATE PUBLICATION" in _refusal(flow, ConfigurationError)
        source.execute(f"CREATE PUBLICATION {flow.changes._config.publication} FOR TABLE t WITH "
                       "(publish_via_partition_root = true)")  # fmt: skip
        assert "ALTER ROLE weak REPLICATION" in _refusal(flow, ConfigurationError)
        found = {finding.what: finding.remedy for finding in flow.changes.doctor(flow.changes.describe(flow.tables))}
        assert found["role weak"] == "ALTER ROLE weak REPLICATION"
        assert found["table public.t"] == 'GRANT SELECT ON "public"."t" TO weak'
        source.execute("ALTER ROLE weak REPLICATION")
        assert "it needs SELECT" in _refusal(flow, ConfigurationError).replace("the role needs", "it needs")
        source.execute("GRANT SELECT ON t TO weak")
        assert flow.run()
        flow.changes.close()
    finally:
        for _ in slots.drop(source, f"slot_{postgres.rpartition('/')[2]}"):
            continue
        source.execute("DROP OWNED BY weak")
        source.execute("DROP ROLE weak")


def test_a_server_that_keeps_no_logical_log(tmp_path: Path) -> None:
    """wal_level = replica, then an invalidated slot, then a promoted timeline, on a server of its own."""
    with EmbeddedPostgres(settings={"fsync": False, "wal_level": "replica"}) as server:
        dsn = server.create_database("one")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY)")
        flow = Flow(dsn, tmp_path, ["public.t"])
        assert "ALTER SYSTEM SET wal_level" in _refusal(flow, ConfigurationError)
        flow.changes.close()
        server.stop()
        server.settings["wal_level"] = "logical"
        server.settings["max_slot_wal_keep_size"] = "1MB"
        server.settings["max_wal_size"] = "32MB"
        server.settings["min_wal_size"] = "32MB"
        server.start()
        assert flow.run()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE filler (x text)")
            for _ in range(5):
                connection.execute("INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
                connection.execute("SELECT pg_switch_wal()")
                connection.execute("CHECKPOINT")
            slot = slots.find(connection, str(flow.config.slot))
            assert slot is not None
            assert slot.lost
        text = _refusal(flow, FatalError)
        assert "max_slot_wal_keep_size" in text
        assert "headrace source drop" in text
        kinds = {finding.what: finding.severity for finding in flow.changes.doctor(flow.changes.describe(flow.tables))}
        assert kinds[f"slot {flow.config.slot}"] == "error"
        assert kinds["max_slot_wal_keep_size"] == "warning"
        flow.close()
        flow.state = None
        assert flow.run()
        flow.changes.close()
