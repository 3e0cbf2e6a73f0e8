"""Which server a flow goes on with after a failover, on real pairs; where it cannot, it names the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from connectors.postgres import slot as slots
from connectors.postgres.doctor_failover import failover_findings
from connectors.postgres.slot_timeline import Server, same_server
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_state import SlotState, unpacked
from control.embedded import EmbeddedPostgres
from libcore.errors import FatalError, TransientError
from tests.connectors.postgres_pair import STANDBY, Pair, tables
from tests.connectors.slot_parts import Flow, source_rows


def _until(flow: Flow, reached: Callable[[SlotState], bool]) -> None:
    flow.open()
    while flow.state is None or not reached(unpacked(flow.state)):
        assert flow.epoch()
    flow.crash()


def _synced(pair: Pair, flow: Flow) -> None:
    flow.open(until_end=False)
    pair.slot_synced(str(flow.config.slot), flow.epoch)
    flow.crash()


def test_the_former_primary_and_a_standby_are_not_read(tmp_path: Path) -> None:
    """Before it is promoted a standby is waited for; a former primary that is back is refused; the pair goes on."""
    with Pair() as pair:
        tables(pair.primary.dsn(), 100)
        flow = Flow(pair.dsn(), tmp_path, ["public.items", "public.log"], slot="kept")
        assert flow.run()
        _synced(pair, flow)
        with (
            psycopg.connect(pair.standby.dsn(), autocommit=True) as standby,
            pytest.raises(TransientError, match="once it is promoted"),
        ):
            slots.usable(standby, "kept", 0)
        pair.fail_over()
        with psycopg.connect(pair.standby.dsn(), autocommit=True) as connection:
            connection.execute("DELETE FROM items WHERE id > 90")
            connection.execute("INSERT INTO log VALUES (1, 'after')")
        assert flow.run()
        assert unpacked(flow.state).timeline == 2
        for table in ("items", "log"):
            assert flow.target.table(f"public.{table}") == source_rows(pair.standby.dsn(), table)
        pair.standby.stop()
        pair.primary.start()
        with pytest.raises(FatalError, match="a former primary answers"):
            flow.run()


def test_a_standby_that_lacks_what_was_read(tmp_path: Path) -> None:
    """Promoted behind the flow it is refused, also once its own log is longer than what the flow has read."""
    with Pair(synchronized=False) as pair:
        tables(pair.primary.dsn(), 100)
        flow = Flow(pair.dsn(), tmp_path, ["public.items", "public.log"], slot="ahead")
        flow.run()
        _synced(pair, flow)
        pair.standby.stop()
        with psycopg.connect(pair.primary.dsn(), autocommit=True) as connection:
            connection.execute("INSERT INTO items VALUES (1000, 1)")
        flow.run()
        pair.primary.kill()
        pair.standby.start()
        pair.standby.promote()
        with psycopg.connect(pair.standby.dsn(), autocommit=True) as connection:
            connection.execute("INSERT INTO items SELECT g, 2 FROM generate_series(2000, 9000) g")
        with pytest.raises(FatalError, match="lacks changes that the target has") as caught:
            flow.run()
        assert "headrace source drop" in str(caught.value)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """A pair that nobody kills, its logical slots not held back."""
    with Pair(synchronized=False) as running:
        yield running


def _found(pair: Pair, directory: Path, dsn: str = "") -> dict[str, str]:
    (directory / "dsn").write_text(dsn or pair.dsn(), "utf-8")
    config = PostgresSourceConfig(dsn=f"file:{directory / 'dsn'}", slot="kept")
    with psycopg.connect(pair.primary.dsn(), autocommit=True) as connection:
        return {finding.what: finding.remedy for finding in failover_findings(connection, config)}


def _run(server: EmbeddedPostgres, remedy: str) -> None:
    for statement in remedy.split(";"):
        if statement.strip() and not statement.strip().startswith("--"):
            server.execute(statement)


def test_doctor_says_what_a_failover_would_cost(pair: Pair, tmp_path: Path) -> None:
    """No synchronized standby, a slot that ends with its server, a standby that syncs none: each with its remedy."""
    found = _found(pair, tmp_path)
    assert list(found) == ["synchronized_standby_slots"]
    assert list(_found(pair, tmp_path, pair.primary.dsn())) == ["synchronized_standby_slots", "dsn"]
    _run(pair.primary, found["synchronized_standby_slots"])
    pair.until(pair.primary, "SELECT current_setting('synchronized_standby_slots')", STANDBY)
    pair.primary.execute("SELECT pg_create_logical_replication_slot('kept', 'pgoutput')")
    found = _found(pair, tmp_path)
    assert list(found) == ["slot kept"]
    with psycopg.connect(pair.primary.dsn() + "?replication=database", autocommit=True) as session:
        session.pgconn.exec_(found["slot kept"].partition(";")[0].encode())
    assert _found(pair, tmp_path) == {}


def test_doctor_finds_a_standby_that_is_away(pair: Pair, tmp_path: Path) -> None:
    """While a synchronized standby is down the flow is sent nothing; without its worker no slot is kept there."""
    pair.primary.execute(f"ALTER SYSTEM SET synchronized_standby_slots = '{STANDBY}'; SELECT pg_reload_conf()")
    pair.standby.stop()
    pair.until(pair.primary, f"SELECT NOT active FROM pg_replication_slots WHERE slot_name = '{STANDBY}'")
    assert {"synchronized_standby_slots", "standbys"} <= set(_found(pair, tmp_path))
    pair.standby.start()
    pair.primary.execute("ALTER SYSTEM RESET synchronized_standby_slots; SELECT pg_reload_conf()")


def test_rows_read_beside_the_log_are_remembered(postgres: str, tmp_path: Path) -> None:
    """Rows of a snapshot that a crash cut, those of a table that joined, values looked up: newer than the log read."""
    tables(postgres, 3000)
    flow = Flow(postgres, tmp_path, ["public.items"], chunk_rows=300, batch_rows_max=200)
    with psycopg.connect(postgres, autocommit=True) as connection:
        _until(flow, lambda state: state.after is not None)
        connection.execute("INSERT INTO log VALUES (1, 'x')")
        _until(flow, lambda state: state.seen_lsn > state.lsn == state.resume_lsn)
        state = unpacked(flow.state)
        assert flow.run()
        connection.execute("INSERT INTO log VALUES (2, 'x')")
    flow.tables = ["public.items", "public.log"]
    assert flow.run()
    joined = unpacked(flow.state).seen_lsn
    assert joined > state.seen_lsn
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("ALTER TABLE items ADD large text, ALTER large SET STORAGE EXTERNAL")
        connection.execute("UPDATE items SET large = repeat('x', 5000) WHERE id = 1")
        connection.execute("UPDATE items SET id = 5000 WHERE id = 1")
    assert flow.run()
    assert unpacked(flow.state).seen_lsn > joined
    flow.close()


def test_which_server_may_go_on() -> None:
    """The same timeline, or one that follows it from behind what was read: rows read beside the log count, too."""
    state = SlotState("snapshot", "7", 2, 100)
    now = Server("7", 4, "erp", {1: 50, 2: 150, 3: 170})
    assert same_server(replace(now, timeline=2), state) == state
    assert same_server(now, state) == replace(state, timeline=4)
    assert same_server(now, state.seen(150)).seen_lsn == 150
    for other, read, text in (
        (now, state.seen(151), "lacks changes"),
        (now, replace(state, lsn=151), "lacks changes"),
        (replace(now, timeline=1, ends={}), state, "a former primary"),
        (replace(now, system="8"), state, "system identifier 7"),
    ):
        with pytest.raises(FatalError, match=text):
            same_server(other, read)
