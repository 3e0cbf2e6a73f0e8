"""`doctor` on a real PostgreSQL: each thing that is amiss is found, and its statement, run as printed, mends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors import registry
from connectors.base.database import Finding, SourceContext
from connectors.postgres.source import PostgresChanges
from connectors.postgres.source_config import PostgresGuardian, PostgresSourceConfig
from control.embedded import EmbeddedPostgres

Connection = psycopg.Connection[Any]
SLOT, PUBLICATION = "doctor_slot", "doctor_pub"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    """A server whose settings may be altered."""
    settings: dict[str, str | int | bool] = {"fsync": False, "max_prepared_transactions": 4}
    with EmbeddedPostgres(settings=settings) as running:
        # of the command line none could be altered by a statement
        running.settings.pop("wal_level")
        running.settings.pop("max_replication_slots")
        running.execute("ALTER SYSTEM SET wal_level = 'logical'; ALTER SYSTEM SET max_replication_slots = 20;")
        running.stop()
        running.start()
        running.execute("CREATE ROLE reader LOGIN")
        running.create_database("erp")
        yield running


@pytest.fixture
def source(server: EmbeddedPostgres) -> Iterator[Connection]:
    """The superuser's session with an empty database, in which `reader` may connect; nothing of it stays."""
    with psycopg.connect(server.dsn("erp"), autocommit=True) as connection:
        yield connection
    with psycopg.connect(server.dsn("erp"), autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        connection.execute(f"DROP PUBLICATION IF EXISTS {PUBLICATION}")
        connection.execute("DROP OWNED BY reader; ALTER ROLE reader NOREPLICATION NOBYPASSRLS")
        connection.execute("REVOKE pg_read_all_stats FROM reader")
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC")


def _examined(
    server: EmbeddedPostgres,
    directory: Path,
    *tables: str,
    user: str = "postgres",
    spool_bytes: int = 0,
    **guardian: Any,
) -> list[Finding]:
    (directory / "dsn").write_text(server.dsn("erp").replace("//postgres@", f"//{user}@"), "utf-8")
    config = PostgresSourceConfig(
        dsn=f"file:{directory / 'dsn'}", slot=SLOT, publication=PUBLICATION, guardian=PostgresGuardian(**guardian)
    )
    context = SourceContext(flow="flow", decoder=registry.decoder, spool_bytes=spool_bytes)
    with closing(PostgresChanges(config, context)) as changes:
        return changes.doctor(changes.describe([f"public.{table}" for table in tables]))


def _of(findings: list[Finding], what: str) -> list[Finding]:
    return [finding for finding in findings if what in finding.what]


def _mended(connection: Connection, finding: Finding) -> None:
    """Run a finding's remedy as it is printed, statement by statement, as psql does; comments are left out."""
    assert finding.remedy, finding
    for statement in finding.remedy.split(";"):
        if statement.strip() and not statement.strip().startswith("--"):
            connection.execute(statement.encode())


def test_a_healthy_source_has_no_error(source: Connection, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """A table with a key, a role with all rights, a bounded retention: nothing but that the slot is not made yet."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY, n int)")
    found = _examined(server, tmp_path, "t", retained_bytes_max=1 << 30)
    assert [(finding.severity, finding.what) for finding in found] == [("note", f"slot {SLOT}")]


RIGHTS = {
    "role reader": "ALTER ROLE reader REPLICATION",
    "schema public": 'GRANT USAGE ON SCHEMA "public" TO reader',
    "table public.t": 'GRANT SELECT ON "public"."t" TO reader',
    f"publication {PUBLICATION}": f'CREATE PUBLICATION "{PUBLICATION}" FOR TABLE "public"."t" WITH '
    "(publish_via_partition_root = true, publish_generated_columns = stored)",
    "long transactions": "GRANT pg_read_all_stats TO reader",
}


@pytest.mark.parametrize("what", RIGHTS)
def test_a_right_that_lacks(source: Connection, server: EmbeddedPostgres, tmp_path: Path, what: str) -> None:
    """Streaming, schema, table, publication, sight of sessions: each with its statement, after which it is gone."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC")
    (finding,) = _of(_examined(server, tmp_path, "t", user="reader"), what)
    assert finding.remedy == RIGHTS[what]
    assert finding.severity == ("note" if what == "long transactions" else "error")
    _mended(source, finding)
    assert not _of(_examined(server, tmp_path, "t", user="reader"), what)


def test_rows_that_a_policy_hides(source: Connection, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """Row-level security leaves rows out of a snapshot without a word: it is an error here."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    source.execute("GRANT SELECT ON t TO reader")
    (finding,) = _of(_examined(server, tmp_path, "t", user="reader"), "table public.t")
    assert (finding.severity, "row-level security" in finding.found) == ("error", True)
    _mended(source, finding)
    assert not _of(_examined(server, tmp_path, "t", user="reader"), "table public.t")


TABLES = {
    "no key": ("CREATE TABLE t (a int)", "error", "REPLICA IDENTITY FULL"),
    "no key, an index that would do": (
        "CREATE TABLE t (a int NOT NULL, b int); CREATE UNIQUE INDEX t_a ON t (a)", "error", 'USING INDEX "t_a"',
    ),
    "no key, indexes that would not": (
        "CREATE TABLE t (a int, b int NOT NULL); CREATE UNIQUE INDEX t_a ON t (a); "
        "CREATE UNIQUE INDEX t_b ON t (b) WHERE b > 0; CREATE UNIQUE INDEX t_c ON t ((b + 1))",
        "error", "REPLICA IDENTITY FULL",
    ),
    "identity nothing": (
        "CREATE TABLE t (a int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY NOTHING", "error",
        "REPLICA IDENTITY DEFAULT",
    ),
    "full without a key": ("CREATE TABLE t (a int); ALTER TABLE t REPLICA IDENTITY FULL", "warning", "PRIMARY KEY"),
    "large values": ("CREATE TABLE t (a int PRIMARY KEY, b text)", "note", "REPLICA IDENTITY FULL"),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLES)
def test_identity_and_keys(source: Connection, server: EmbeddedPostgres, tmp_path: Path, case: str) -> None:
    """What tells the rows of a table apart, and which statement makes it do."""
    statements, severity, words = TABLES[case]
    source.execute(statements)
    (finding,) = _of(_examined(server, tmp_path, "t"), "table public.t")
    assert (finding.severity, words in finding.remedy) == (severity, True), finding
    _mended(source, finding)
    left = _of(_examined(server, tmp_path, "t"), "table public.t")
    assert all(one.severity != "error" and one.expected != finding.expected for one in left)


def test_second_unique_keys(source: Connection, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """A unique key beside the primary one is named; the primary key alone, or the identity's index, is not."""
    source.execute("CREATE TABLE t (a int PRIMARY KEY, b int UNIQUE)")
    source.execute("CREATE TABLE u (a int PRIMARY KEY)")
    source.execute("CREATE TABLE v (a int NOT NULL UNIQUE)")
    source.execute("ALTER TABLE v REPLICA IDENTITY USING INDEX v_a_key")
    found = _examined(server, tmp_path, "t", "u", "v")
    (finding,) = [one for one in found if one.what.startswith("table")]
    assert (finding.what, "t_b_key" in finding.found) == ("table public.t", True)


def test_generated_columns_that_do_not_come(source: Connection, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """A stored one that the publication leaves out can be added; a virtual one is not in the log at all."""
    source.execute(
        "CREATE TABLE t (a int PRIMARY KEY, s int GENERATED ALWAYS AS (a + 1) STORED, "
        "v int GENERATED ALWAYS AS (a + 2) VIRTUAL)"
    )
    source.execute(f"CREATE PUBLICATION {PUBLICATION} FOR TABLE t WITH (publish_via_partition_root)")
    stored, virtual = _of(_examined(server, tmp_path, "t"), "column public.t.")
    assert (stored.what, stored.severity) == ("column public.t.s", "warning")
    assert (virtual.what, virtual.severity, virtual.remedy) == ("column public.t.v", "note", "")
    _mended(source, stored)
    assert _of(_examined(server, tmp_path, "t"), "column public.t.") == [virtual]


PUBLICATIONS = {
    "less than all": "CREATE PUBLICATION {0} FOR TABLE t, p WITH (publish = 'insert', publish_via_partition_root)",
    "partitions": "CREATE PUBLICATION {0} FOR TABLE t, p",
    "a table lacks": "CREATE PUBLICATION {0} FOR TABLE p WITH (publish_via_partition_root)",
}


@pytest.mark.parametrize("case", PUBLICATIONS)
def test_a_publication_that_lacks(source: Connection, server: EmbeddedPostgres, tmp_path: Path, case: str) -> None:
    """Operations, partitioned tables as one, tables that the role may not add: each with its statement."""
    source.execute("CREATE TABLE t (a int PRIMARY KEY)")
    source.execute("CREATE TABLE p (a int PRIMARY KEY) PARTITION BY RANGE (a)")
    source.execute(PUBLICATIONS[case].format(PUBLICATION))
    (finding,) = _of(_examined(server, tmp_path, "t", "p", user="reader"), "publication")
    assert finding.severity == "error"
    _mended(source, finding)
    assert not _of(_examined(server, tmp_path, "t", "p", user="reader"), "publication")


def test_a_transaction_that_stays_open(source: Connection, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """One that has written and stays open is told with its process, a prepared one with its name; others are not."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    with _open_transaction(server, "INSERT INTO t VALUES (1)"), _open_transaction(server, "SELECT 1"):
        with psycopg.connect(server.dsn("erp")) as other:
            other.execute("INSERT INTO t VALUES (2)")
            other.execute("PREPARE TRANSACTION 'left'")
        time.sleep(0.15)
        assert not _of(_examined(server, tmp_path, "t"), "transaction")
        found = _of(_examined(server, tmp_path, "t", transaction_seconds_max=0.1), "transaction")
        assert [finding.what.partition(" (")[0] for finding in found] == [
            "transaction of postgres", 'prepared transaction "left" in erp',
        ]  # fmt: skip
        for finding in found:
            _mended(source, finding)
        time.sleep(0.05)
        assert not _of(_examined(server, tmp_path, "t", transaction_seconds_max=0.1), "transaction")


@contextmanager
def _open_transaction(server: EmbeddedPostgres, statement: str) -> Iterator[None]:
    connection = psycopg.connect(server.dsn("erp"))
    try:
        connection.execute(statement.encode())
        yield
    finally:
        connection.close()


def test_a_slot_that_nobody_reads(source: Connection, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """It keeps log: a warning, and above the bound one more with the bytes; a slot of another kind is an error."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (SLOT,))
    (finding,) = _of(_examined(server, tmp_path, "t"), "slot doctor")
    assert (finding.severity, "nobody" in finding.found) == ("warning", True)
    source.execute("INSERT INTO t SELECT generate_series(1, 1000)")
    found = _of(_examined(server, tmp_path, "t", retained_bytes_max=1000), "slot doctor")
    assert ["of log kept for it" in one.expected for one in found] == [True, False]
    source.execute("SELECT pg_drop_replication_slot(%s)", (SLOT,))
    source.execute("SELECT pg_create_physical_replication_slot(%s)", (SLOT,))
    (finding,) = _of(_examined(server, tmp_path, "t"), "slot doctor")
    assert (finding.severity, "physical" in finding.found) == ("error", True)


SETTINGS = {
    "max_slot_wal_keep_size": ("100MB", "warning", {"spool_bytes": 512_000_000}),
    "idle_replication_slot_timeout": ("60s", "warning", {}),
    "logical_decoding_work_mem": ("64kB", "note", {}),
    "max_replication_slots": ("1", "warning", {}),
    "wal_level": ("replica", "error", {}),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_of_the_server(source: Connection, server: EmbeddedPostgres, tmp_path: Path, setting: str) -> None:
    """Retention below the spool, timeouts, memory, slots, the log's level: found, and gone after the statement."""
    value, severity, more = SETTINGS[setting]
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    source.execute(f"ALTER SYSTEM SET {setting} = '{value}'".encode())
    restarts = setting in ("wal_level", "max_replication_slots")
    _take_effect(server, source, restarts)
    with psycopg.connect(server.dsn("erp"), autocommit=True) as now:
        (finding,) = _of(_examined(server, tmp_path, "t", **more), setting)
        assert finding.severity == severity
        assert ("restart" in finding.remedy) == restarts
        _mended(now, finding)
        _take_effect(server, now, restarts)
    assert not _of(_examined(server, tmp_path, "t", retained_bytes_max=1, **more), setting)


def _take_effect(server: EmbeddedPostgres, connection: Connection, restarts: bool) -> None:
    if restarts:
        server.stop()
        server.start()
    else:
        connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.2)  # it is told to every session's process by a signal


def test_a_session_without_a_slot_is_no_standby(source: Connection, server: EmbeddedPostgres, tmp_path: Path) -> None:
    """A flow's replication session that has not begun, or has ended, does not make the server one with standbys."""
    source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    idle = psycopg.conninfo.make_conninfo(server.dsn("erp"), replication="database")
    session = psycopg.pq.PGconn.connect(idle.encode())
    try:
        assert session.exec_(b"IDENTIFY_SYSTEM").status == psycopg.pq.ExecStatus.TUPLES_OK
        assert source.execute("SELECT count(*) FROM pg_stat_replication").fetchone() == (1,)
        assert not [one for one in _examined(server, tmp_path, "t") if one.severity == "warning"]
    finally:
        session.finish()
