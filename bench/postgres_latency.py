"""latency-postgres: from a commit at the source to visible in the target, at 10,000 changes a second, p50 and p99.

The measure of latency.py with a database in the broker's place: each hundredth change is a probe, whose row carries the
moment just before its transaction of 100 changes was sent.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

from bench import rig
from bench.latency import AIM_MS, BURST, CHANGES_PER_SECOND, PROBE_KEYS, WARM_SECONDS, look
from bench.measure import MemoryProbe, Result, percentile
from bench.w1 import say

SECONDS = 20.0
_PIPELINE = """
name = "latency"
[source.postgres]
dsn = "env:BENCH_SOURCE_DSN"
[tables.items]
topic = "public.items"
[sink.postgres]
dsn = "env:BENCH_DSN"
"""
_DDL = (
    "CREATE TABLE items (order_id int, line_no int, sku text, quantity int, unit_price numeric(18,4), note text, "
    "created_at timestamptz, PRIMARY KEY (order_id, line_no))"
)


class Pacer(threading.Thread):
    """Writes transactions of 100 changes, one each 10 ms: new rows, some of them updated later, and one probe."""

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self._dsn = dsn
        self.ended = threading.Event()
        self.waiting: list[deque[int]] = [deque() for _ in range(PROBE_KEYS)]
        self.changes, self.late_ms = 0, 0.0

    def run(self) -> None:
        """Write until ended."""
        import psycopg

        begun, bursts = time.monotonic(), 0
        insert = (
            "INSERT INTO items SELECT %s, g, 'sku ' || g, 1, g * 1.25, repeat('n', g %% 40), now() "
            "FROM generate_series(1, %s) g"
        )
        mark = (
            "INSERT INTO items VALUES (-1, %s, 'probe', 1, 1, NULL, to_timestamp(%s::numeric / 1000000)) "
            "ON CONFLICT (order_id, line_no) DO UPDATE SET created_at = EXCLUDED.created_at"
        )
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self.ended.is_set():
                due = begun + bursts * BURST / CHANGES_PER_SECOND
                self.late_ms = max(self.late_ms, (time.monotonic() - due) * 1000)
                self.ended.wait(max(0.0, due - time.monotonic()))
                now_us = time.time_ns() // 1000
                self.waiting[bursts % PROBE_KEYS].append(now_us)
                with connection.transaction():
                    connection.execute(insert, (bursts, BURST - 21))
                    connection.execute("UPDATE items SET quantity = 2 WHERE order_id = %s AND line_no <= 20", (bursts,))
                    connection.execute(mark, (bursts % PROBE_KEYS, now_us))
                bursts += 1
                self.changes += BURST


def latency_postgres(items: int, pairs: int, processes: int) -> Result:
    """p99 in ms; p50 and the pace stand in the lines for people."""
    import psycopg

    with rig.postgres() as postgres, tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch:
        source, target = postgres.create_database("source"), postgres.create_database("target")
        with psycopg.connect(source, autocommit=True) as connection:
            connection.execute(_DDL)
            connection.execute("INSERT INTO items VALUES (-2, 0, 'first', 1, 1, NULL, now())")
        file = Path(scratch) / "pipeline.toml"
        file.write_text(_PIPELINE, "utf-8")
        arguments, environment = rig.headrace_run(file, target, processes, until_end=False)
        environment["BENCH_SOURCE_DSN"] = source
        log = Path(scratch) / "ours.log"
        process = rig.start(arguments, log, environment)
        pacer = Pacer(source)
        try:
            with psycopg.connect(target, autocommit=True) as connection, MemoryProbe(process.pid) as memory:
                while not connection.execute("SELECT to_regclass('public.items')").fetchone()[0]:  # type: ignore[index]
                    time.sleep(0.1)
                time.sleep(1.0)
                seen: list[tuple[int, float]] = []
                begun_us = time.time_ns() // 1000
                pacer.start()
                deadline = time.monotonic() + WARM_SECONDS + SECONDS
                while time.monotonic() < deadline or any(pacer.waiting):
                    if time.monotonic() > deadline:
                        pacer.ended.set()
                    if time.monotonic() > deadline + 60:
                        raise SystemExit(f"bench: {sum(map(len, pacer.waiting))} probes are not visible after 60 s")
                    look(connection, pacer, seen)  # type: ignore[arg-type]
                    time.sleep(0.001)
                pacer.join()
                process.send_signal(signal.SIGTERM)
                process.wait(60)
                rows = "SELECT count(*), sum(quantity) FROM items"
                with psycopg.connect(source) as other:
                    equal = other.execute(rows).fetchone() == connection.execute(rows).fetchone()
        finally:
            rig.kill_session(process)
    latencies = [latency for sent_at, latency in seen if sent_at - begun_us > WARM_SECONDS * 1e6]
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    say(
        f"latency-postgres: {pacer.changes:,} changes at {CHANGES_PER_SECOND:,}/s (late at most {pacer.late_ms:.0f} ms)"
    )
    say(f"  {len(latencies):,} probes: p50 {p50:.0f} ms, p99 {p99:.0f} ms, greatest {max(latencies):.0f} ms")
    peer = "the aim: p99 under 1 s"
    return Result("latency-postgres", p99, "ms, p99", peer, AIM_MS, AIM_MS / p99, memory.peak_mb, equal)
