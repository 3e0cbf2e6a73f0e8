"""postgres-target-down: a target that is away under load; the log that the source keeps for the slot stays bounded.

    headrace bench postgres-target-down --minutes 30

A writer changes the source at 2,000 changes a second all the time. The target is stopped, and comes back after the
minutes. The pipeline's guardian has a bound for the log that the slot may keep, and drops the slot above it: then the
flow stops, and the measure fails. The value is the most that the slot kept. `equal`: a change that was made after the
target's return is visible in it, the writer still writing, and in the end both tables are the same.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import rig
from bench.measure import MemoryProbe, Result
from bench.postgres_parts import DDL, NAMES, Flow, compared
from bench.w1 import say
from connectors.postgres.slot_guard import note_path
from control.embedded import EmbeddedPostgres

CHANGES_PER_SECOND, BURST = 2_000, 100
RETAINED_MAX = 256_000_000
SPOOL_BYTES = 4_000_000_000
WARM_SECONDS, SAMPLE_SECONDS = 5.0, 0.5
_SETTINGS = f"""
[source.postgres.guardian]
retained_bytes_max = {RETAINED_MAX}
on_retained = "drop_slot"
"""
_INSERT = (
    "INSERT INTO items SELECT %s, g, 'sku ' || g, 1, g * 1.25, 0.01, repeat('n', g %% 40), now() "
    "FROM generate_series(1, 84) g"
)
_MARK = (
    "INSERT INTO items VALUES (-1, 0, 'mark', %s, 1, 0, NULL, now()) "
    "ON CONFLICT (order_id, line_no) DO UPDATE SET quantity = EXCLUDED.quantity"
)
_KEPT = (
    "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint, "
    "pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint FROM pg_replication_slots"
)


class Load(threading.Thread):
    """Transactions of 100 changes at a steady pace; each moves the mark, a row with the transaction's number."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self._dsn = dsn
        self.ended = threading.Event()
        self.number = 0
        self.error: Exception | None = None

    def run(self) -> None:
        """Write until ended."""
        try:
            self._write()
        except Exception as error:
            self.error = error

    def _write(self) -> None:
        import psycopg

        begun = time.monotonic()
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self.ended.wait(max(0.0, begun + self.number * BURST / CHANGES_PER_SECOND - time.monotonic())):
                number = self.number + 1
                with connection.transaction():
                    connection.execute(_INSERT, (number,))
                    connection.execute(
                        "UPDATE items SET quantity = 2 WHERE order_id = %s AND line_no <= 10", (number - 1,)
                    )
                    connection.execute("DELETE FROM items WHERE order_id = %s AND line_no > 79", (number - 1,))
                    connection.execute(_MARK, (number,))
                self.number = number


@dataclass
class Watch:
    """Samples what the slot keeps and what the spool holds, and says at once what went wrong."""

    connection: Any
    process: subprocess.Popen[bytes]
    flow: Flow
    load: Load
    kept_max: int = 0
    behind_max: int = 0
    spool_max: int = 0

    def look(self) -> None:
        """One sample. Raises SystemExit where the flow, the slot or the writer is gone."""
        if self.load.error is not None:
            raise SystemExit(f"bench: the writer ended: {self.load.error}")
        row = self.connection.execute(_KEPT).fetchone()
        note = note_path(self.flow.state, "headrace_bench")
        if self.process.poll() is not None or row is None or row[0] is None or (note is not None and note.exists()):
            raise SystemExit(
                f"bench: the flow or its slot is gone; it kept at most {self.kept_max:,} bytes of log:\n"
                + self.flow.log_end()
            )
        self.kept_max, self.behind_max = max(self.kept_max, row[0]), max(self.behind_max, row[1])
        self.spool_max = max(self.spool_max, _spool_bytes(self.flow.state / "spool"))

    def until(self, seconds: float) -> None:
        """Samples for that long."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look()
            time.sleep(SAMPLE_SECONDS)

    def until_seen(self, target: str, number: int, seconds_max: float) -> float:
        """Seconds until the target shows the mark of that transaction. Raises SystemExit where it never does."""
        import psycopg

        begun = time.monotonic()
        with psycopg.connect(target, autocommit=True) as there:
            while True:
                self.look()
                row = None
                if there.execute("SELECT to_regclass('public.items')").fetchone() != (None,):
                    row = there.execute("SELECT quantity FROM items WHERE order_id = -1").fetchone()
                if row is not None and row[0] >= number:
                    return time.monotonic() - begun
                if time.monotonic() - begun > seconds_max:
                    raise SystemExit(
                        f"bench: transaction {number:,} is not in the target after {seconds_max:.0f} s, found "
                        f"{row and row[0]}:\n{self.flow.log_end()}"
                    )
                time.sleep(SAMPLE_SECONDS)


def postgres_target_down(items: int, pairs: int, processes: int, minutes: float) -> Result:
    """The most that the slot kept, in MB, beside the bound in the pipeline file."""
    with (
        rig.postgres() as source,
        rig.postgres() as target,
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch,
    ):
        return target_down(Path(scratch), source.create_database("source"), target, minutes * 60, processes)


def target_down(
    directory: Path,
    source: str,
    target: EmbeddedPostgres,
    seconds: float,
    processes: int = 1,
    warm_seconds: float = WARM_SECONDS,
) -> Result:
    """The measure, with an empty source database, and a target server that it stops and starts."""
    import psycopg

    to = target.create_database("target")
    flow = Flow(directory, source, to, source_settings=_SETTINGS, sink_settings=f"spool_bytes = {SPOOL_BYTES}")
    with closing(psycopg.connect(source, autocommit=True)) as connection:
        connection.execute(DDL)
        connection.execute(_MARK, (0,))
        process, load = flow.start(processes), Load(source)
        watch = Watch(connection, process, flow, load)
        try:
            with MemoryProbe(process.pid) as memory:
                _away(watch, target, to, seconds, warm_seconds)
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            load.ended.set()
            rig.kill_session(process)
        flow.run(processes, 300)
        with closing(psycopg.connect(to, autocommit=True)) as there:
            found = compared(connection, there, "items", NAMES)
    say(
        f"  {load.number * BURST:,} changes; the slot kept at most {watch.kept_max / 1e6:.1f} MB, confirmed at most "
        f"{watch.behind_max / 1e6:.1f} MB behind; the spool at most {watch.spool_max / 1e6:.0f} MB; {found}"
    )
    kept_mb, bound_mb = watch.kept_max / 1e6, RETAINED_MAX / 1e6
    text = f"the bound of its guardian; the target {seconds / 60:g} minutes away at {CHANGES_PER_SECOND:,} changes/s"
    return Result(
        "postgres-target-down", kept_mb, "MB kept", text, bound_mb, bound_mb / kept_mb, memory.peak_mb, found.equal
    )


def _away(watch: Watch, target: EmbeddedPostgres, to: str, seconds: float, warm_seconds: float) -> None:
    """The target there, away, and there again; the writer is stopped at the end."""
    deadline = time.monotonic() + 60
    streaming = "SELECT count(*) FROM pg_stat_replication WHERE state IN ('catchup', 'streaming')"
    while watch.connection.execute(streaming).fetchone() == (0,):
        if watch.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"bench: the flow does not stream:\n{watch.flow.log_end()}")
        time.sleep(0.1)
    load = watch.load
    load.start()
    watch.until(warm_seconds)
    watch.until_seen(to, 1, 60)
    target.stop()
    away_at = load.number
    watch.until(seconds)
    written = (load.number - away_at) * BURST
    target.start()
    caught_up = watch.until_seen(to, load.number, 120 + seconds)
    watch.until(warm_seconds)
    load.ended.set()
    load.join()
    watch.until_seen(to, load.number, 120)
    say(
        f"postgres-target-down: {seconds / 60:g} minutes away, {written:,} changes meanwhile "
        f"({written / seconds:,.0f}/s); caught up {caught_up:.1f} s after its return"
    )


def _spool_bytes(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*.seg"):
        try:
            total += path.stat().st_size
        except OSError:  # deleted while we looked
            continue
    return total
