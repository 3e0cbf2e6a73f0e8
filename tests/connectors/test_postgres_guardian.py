"""What a source database is spared, on a real PostgreSQL: sessions, query seconds, rows a second, hours, kept log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY

from connectors.base.guardian import BusinessHours, Guardian, Pace
from connectors.postgres import slot as slots
from connectors.postgres.source_config import PostgresGuardian
from libcore.errors import FatalError
from tests.connectors.slot_parts import Flow, sessions_counted, source_rows

Connection = psycopg.Connection[Any]
_SECONDS = 20.0


@pytest.fixture
def source(postgres: str) -> Iterator[Connection]:
    """A session with a source database that has a table of 20,000 rows."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, x text)")
        connection.execute("INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g")
        connection.execute("ANALYZE t")
        yield connection


def _until(reached: Callable[[], bool], step: Callable[[], object] = lambda: time.sleep(0.02)) -> None:
    deadline = time.monotonic() + _SECONDS
    while not reached():
        assert time.monotonic() < deadline
        step()


def _flow(dsn: str, directory: Path, guardian: PostgresGuardian, **options: Any) -> Flow:
    return Flow(dsn, directory, ["public.t"], guardian=guardian, **options)


def _metric(name: str, flow: Flow) -> float:
    return REGISTRY.get_sample_value(name, {"partition": str(flow.config.slot)}) or 0.0


# ---- the bounds by themselves ----


def test_a_pace_lets_through_what_was_asked_for() -> None:
    """However rows come, so many of them take as long as the rate says, but for the last piece."""
    clock = [0.0]
    pace = Pace(Guardian(rows_per_second_max=100), monotonic=lambda: clock[0])
    for rows in (50, 1, 1000, 7, 300):
        clock[0] += pace.wait_s
        pace.read(rows)
    assert clock[0] == pytest.approx((50 + 1 + 1000 + 7) / 100)
    assert Pace(Guardian()).wait_s == 0


@pytest.mark.parametrize(
    ("moment", "within"),
    [
        ("2026-11-20T05:59", False),  # Friday, 06:59 in Berlin
        ("2026-11-20T06:00", True),
        ("2026-11-20T17:59", True),
        ("2026-11-20T18:00", False),
        ("2026-11-21T10:00", False),  # Saturday
        ("2026-07-20T05:00", True),  # in summer an hour earlier
    ],
)
def test_hours_are_of_their_own_zone(moment: str, within: bool) -> None:
    """07:00 to 19:00 on workdays in Berlin, whatever the machine's zone is and through summer time."""
    hours = BusinessHours(begin="07:00", end="19:00", zone="Europe/Berlin")
    seconds = datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()
    assert hours.within(seconds) == within
    assert hours.allow(seconds) != within
    assert hours.model_copy(update={"snapshots": "inside"}).allow(seconds) == within


@pytest.mark.parametrize(("hour", "day", "within"), [(23, 20, True), (3, 21, True), (6, 21, False), (3, 20, False)])
def test_hours_over_midnight_belong_to_the_day_they_begin_on(hour: int, day: int, within: bool) -> None:
    """22:00 to 06:00 on Fridays lasts into Saturday, and does not begin on Thursday."""
    hours = BusinessHours(begin="22:00", end="06:00", zone="UTC", days=("fri",))
    assert hours.within(datetime(2026, 11, day, hour, tzinfo=UTC).timestamp()) == within


def test_an_unknown_zone_is_refused() -> None:
    """The zone has no default, and a wrong name is said."""
    with pytest.raises(ValueError, match="Europe/Berlin, found 'Berlin'"):
        BusinessHours(begin="07:00", end="19:00", zone="Berlin")


# ---- on the server ----


def test_sessions_stay_within_their_bound(source: Connection, postgres: str, tmp_path: Path) -> None:
    """While ten sessions were asked for to read the snapshot, never more than sessions_max are open."""
    flow = _flow(postgres, tmp_path, PostgresGuardian(sessions_max=6), parallel=10, chunk_rows=500, batch_rows_max=500)
    with sessions_counted(postgres) as seen:
        assert flow.run()
    assert 4 <= max(seen) <= 6
    assert flow.target.table("public.t") == source_rows(postgres, "t")
    flow.close()


def test_rows_come_at_their_pace(source: Connection, postgres: str, tmp_path: Path) -> None:
    """20,000 rows at 10,000 a second take two seconds, but for the last piece."""
    guardian = PostgresGuardian(rows_per_second_max=10_000)
    flow = _flow(postgres, tmp_path, guardian, chunk_rows=1000, batch_rows_max=1000)
    begun = time.monotonic()
    assert flow.run()
    assert time.monotonic() - begun > 1.8
    assert flow.target.table("public.t") == source_rows(postgres, "t")
    flow.close()


def test_a_query_that_takes_too_long_is_asked_in_smaller_pieces(
    source: Connection, postgres: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that take longer than a query may come all the same, in queries that are given up and made smaller."""
    source.execute("CREATE TABLE slow (id int PRIMARY KEY, x text, y char(50))")
    source.execute("ALTER TABLE slow ALTER x SET STORAGE MAIN")
    source.execute("INSERT INTO slow SELECT g, repeat('x', 10000), '' FROM generate_series(1, 2000) g")
    source.execute("ANALYZE slow")
    # rows that are taken slowly hold the query up, as a busy server does
    guardian = PostgresGuardian(rows_per_second_max=1500, query_seconds_max=0.3)
    flow = Flow(
        postgres, tmp_path, ["public.slow"], guardian=guardian, chunk_rows=3000, parallel=1, batch_rows_max=50,
        queued_bytes_max=1 << 20,
    )  # fmt: skip
    assert flow.run()
    assert "query_seconds_max" in capsys.readouterr().out
    assert flow.target.table("public.slow") == source_rows(postgres, "slow")
    flow.close()


def test_a_snapshot_waits_for_its_hours(
    source: Connection, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before them nothing is made at the source; where they end in the middle no session stays; then it goes on."""
    now = datetime.now(UTC)
    hours = BusinessHours(
        begin=(now - timedelta(hours=1)).time(), end=(now + timedelta(hours=1)).time(), zone="UTC",
        days=("mon", "tue", "wed", "thu", "fri", "sat", "sun"),
    )  # fmt: skip
    allowed = [False]
    monkeypatch.setattr(BusinessHours, "allow", lambda self, seconds: allowed[0])
    guardian = PostgresGuardian(business_hours=hours, rows_per_second_max=10_000)
    flow = _flow(postgres, tmp_path, guardian, chunk_rows=2000, batch_rows_max=500)
    flow.open()
    deadline = time.monotonic() + 0.7
    while time.monotonic() < deadline:
        flow.epoch()
    assert slots.find(source, str(flow.config.slot)) is None
    allowed[0] = True
    _until(lambda: len(flow.target.table("public.t")) > 3000, flow.epoch)
    allowed[0] = False
    for _ in range(40):
        flow.epoch()
    read = len(flow.target.table("public.t"))
    assert 3000 < read < 20_000
    holding = source.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_xmin IS NOT NULL "
        "AND pid <> pg_backend_pid()"
    ).fetchone()
    assert holding == (0,)
    source.execute("UPDATE t SET x = 'later' WHERE id % 3 = 0")
    allowed[0] = True
    while flow.epoch():
        continue
    flow.crash()
    assert flow.target.table("public.t") == source_rows(postgres, "t")
    flow.close()


def _fill(connection: Connection, rows: int = 3000) -> None:
    connection.execute(f"UPDATE t SET x = x || 'y' WHERE id <= {rows}".encode())


def test_the_position_grows_old_while_the_flow_stands_still(source: Connection, postgres: str, tmp_path: Path) -> None:
    """With nothing to do it is fresh; with a change that nobody takes it ages, until that is durable."""
    flow = _flow(postgres, tmp_path, PostgresGuardian())
    name = "headrace_source_position_age_seconds"
    flow.open(until_end=False)
    _until(lambda: len(flow.target.table("public.t")) == 20_000, flow.epoch)
    _until(lambda: _metric(name, flow) < 0.5, flow.epoch)
    _fill(source)
    _until(lambda: _metric(name, flow) > 1.0)  # no epoch: the worker waits for its target
    _until(lambda: _metric(name, flow) < 0.5, flow.epoch)
    flow.crash()
    assert REGISTRY.get_sample_value(name, {"partition": str(flow.config.slot)}) is None
    flow.close()


def test_kept_log_above_the_bound_is_told_and_waited_for(
    source: Connection, postgres: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """on_retained = wait: the metric shows what is kept, a warning says it once, and nothing is lost."""
    flow = _flow(postgres, tmp_path, PostgresGuardian(retained_bytes_max=1_000_000))
    flow.open(until_end=False)
    _until(lambda: len(flow.target.table("public.t")) == 20_000, flow.epoch)
    for _ in range(3):
        _fill(source)
    _until(lambda: _metric("headrace_source_retained_bytes", flow) > 1_000_000)
    time.sleep(1.2)
    assert capsys.readouterr().out.count("more log than retained_bytes_max") == 1

    def go_on() -> None:
        source.execute("SELECT pg_log_standby_snapshot()")  # what lets the slot forget comes by itself every 15 s
        flow.epoch()

    _until(lambda: _metric("headrace_source_retained_bytes", flow) < 1_000_000, go_on)
    flow.crash()
    assert flow.run()
    assert flow.target.table("public.t") == source_rows(postgres, "t")
    flow.close()


def test_a_slot_is_dropped_where_the_file_says_so(
    source: Connection, postgres: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """on_retained = drop_slot: the target is away, log piles up, the slot goes, and every later start says why."""
    flow = _flow(postgres, tmp_path, PostgresGuardian(retained_bytes_max=1_000_000, on_retained="drop_slot"))
    flow.open(until_end=False)
    _until(lambda: len(flow.target.table("public.t")) == 20_000, flow.epoch)
    assert slots.find(source, str(flow.config.slot)) is not None
    for _ in range(3):
        _fill(source)
    _until(lambda: slots.find(source, str(flow.config.slot)) is None)
    assert "on_retained is drop_slot" in capsys.readouterr().out
    assert "drop_slot" in (tmp_path / "run" / f"slot-{flow.config.slot}.json").read_text("utf-8")
    with pytest.raises(FatalError, match="on_retained is drop_slot"):
        _until(lambda: False, flow.epoch)
    flow.crash()
    with pytest.raises(FatalError, match="headrace source drop FILE"):
        flow.run()
    flow.state, flow.target = None, type(flow.target)()
    assert flow.run()
    assert flow.target.table("public.t") == source_rows(postgres, "t")
    assert not (tmp_path / "run" / f"slot-{flow.config.slot}.json").exists()
    flow.close()


def test_a_drop_that_was_cut_short_is_finished(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Killed between the note and the drop: the next start drops the slot before it says so."""
    flow = _flow(postgres, tmp_path, PostgresGuardian())
    assert flow.run()
    note = tmp_path / "run" / f"slot-{flow.config.slot}.json"
    note.parent.mkdir(exist_ok=True)
    note.write_text('{"error": "it was dropped"}', "utf-8")
    with pytest.raises(FatalError, match="it was dropped"):
        flow.run()
    assert slots.find(source, str(flow.config.slot)) is None
    flow.close()


def test_a_note_that_was_never_written_whole_stops_nothing(source: Connection, postgres: str, tmp_path: Path) -> None:
    """A disk that was full left the note of a drop empty: the slot was not dropped, so the flow goes on."""
    flow = _flow(postgres, tmp_path, PostgresGuardian())
    assert flow.run()
    note = tmp_path / "run" / f"slot-{flow.config.slot}.json"
    note.parent.mkdir(exist_ok=True)
    note.write_bytes(b"")
    assert flow.run()
    assert not note.exists() and slots.find(source, str(flow.config.slot)) is not None
    flow.close()
