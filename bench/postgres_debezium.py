"""postgres-debezium-snapshot, postgres-debezium-stream: [source.postgres] beside Debezium, and beside the bare server.

Ours is `headrace run` as users run it, into the null sink, its start (a run with nothing to read) taken off. Debezium
is its embedded engine, whose records are counted as they are, without Kafka, from its first batch to its last: the
fastest that it has; as JSON, which is what leaves a JVM, stands in the lines for people. Beside both stand a bare COPY
and a bare walsender, whose messages are thrown away. All take turns on one server, over the same table.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import rig
from bench.measure import Result
from bench.peers import debezium
from bench.postgres_parts import DDL, ROWS, TRANSACTION_ROWS, Flow, change, drop_slot, fill
from bench.postgres_source import copied, received
from bench.w1 import say, without_start

AIM_SNAPSHOT, AIM_STREAM, AIM_BARE = 8.0, 4.0, 0.7
_STARTS = 3  # runs with nothing to read, of which the fastest is taken off
SLOT, PEER_SLOT = "headrace_bench", "debezium"


@dataclass
class _Parts:
    """A server with a source and an empty one, and what was found."""

    connection: Any
    dsn: str
    nothing: str
    scratch: Path
    ours_s: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)
    peer_s: dict[debezium.Format, list[float]] = field(default_factory=lambda: {"connect": [], "json": []})
    peak_mb: float = 0.0
    equal: bool = True

    def ours(self, flow: Flow, start_s: float, rows: int) -> None:
        """One run of ours."""
        done = flow.run()
        seen = rig.status_sum(flow.state, "events")
        self.ours_s.append(without_start(done.seconds, start_s))
        self.peak_mb = max(self.peak_mb, done.peak_mb)
        self.equal = self.equal and seen == rows
        say(f"  headrace    {rows / self.ours_s[-1]:9,.0f}/s {done.peak_mb:5.0f} MB, {seen:,} seen")

    def peer(self, peer: debezium.Debezium, form: debezium.Format, rows: int) -> None:
        """One run of Debezium."""
        done = peer.count(rows)
        self.peer_s[form].append(done.seconds)
        self.equal = self.equal and done.rows == rows
        say(f"  Debezium    {rows / done.seconds:9,.0f}/s {done.peak_mb:5.0f} MB, {done.rows:,} seen, as {form}")

    def bare(self, name: str, read: Callable[[], float], rows: int) -> None:
        """One run of the bare reader."""
        self.bare_s.append(read())
        say(f"  {name:11} {rows / self.bare_s[-1]:9,.0f}/s")

    def drop(self, slot: str) -> None:
        """Forget a slot and its publication."""
        drop_slot(self.connection, slot)
        self.connection.execute(f"DROP PUBLICATION IF EXISTS {slot}")

    def directory(self, name: str) -> Path:
        """A new directory in the place of an old one."""
        shutil.rmtree(self.scratch / name, ignore_errors=True)
        return self.scratch / name

    def result(self, name: str, bare: str, aim: float, rows: int) -> Result:
        """Medians."""
        ours, bare_s = statistics.median(self.ours_s), statistics.median(self.bare_s)
        part = f"{bare_s / ours:.2f} of {bare} (aim {AIM_BARE:g})"
        say(f"  ours is {part}")
        if not self.peer_s["connect"]:
            text = f"Debezium did not run: no Java 17 with compiler, or no Maven; {part}"
            return Result(name, rows / ours, "rows/s", text, rows / bare_s, bare_s / ours, self.peak_mb, self.equal)
        peer_s = statistics.median(self.peer_s["connect"])
        text = f"Debezium {debezium.VERSION}, its records counted (aim {aim:g} times); {part}"
        return Result(name, rows / ours, "rows/s", text, rows / peer_s, peer_s / ours, self.peak_mb, self.equal)


@contextmanager
def _parts() -> Iterator[_Parts]:
    import psycopg

    with rig.postgres() as server, tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch:
        dsn, nothing = server.create_database("source"), server.create_database("nothing")
        with psycopg.connect(nothing, autocommit=True) as connection:
            connection.execute(DDL)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(DDL)
            connection.execute("SET synchronous_commit = off")
            yield _Parts(connection, dsn, nothing, Path(scratch))
    if not debezium.available():
        say("  Debezium did not run: expected Java 17 with its compiler, and Maven once")


def debezium_snapshot(items: int, pairs: int, processes: int) -> Result:
    """Rows of a table a second, medians over the pairs; JSON in the first only."""
    say(f"postgres-debezium-snapshot: {items:,} rows")
    with _parts() as parts:
        fill(parts.connection, 1, items)
        parts.connection.execute("VACUUM ANALYZE items")
        parts.connection.execute("CHECKPOINT")
        starts = []
        for _ in range(_STARTS):
            starts.append(Flow(parts.directory("nothing"), parts.nothing, "").run().seconds)
            _drop_there(parts.nothing)
        say(f"  start of headrace, taken off: {min(starts):.2f} s")
        for pair in range(pairs):
            parts.bare("COPY", lambda: copied(parts.dsn), items)
            parts.ours(Flow(parts.directory("ours"), parts.dsn, ""), min(starts), items)
            parts.drop(SLOT)
            for form in _forms(pair):
                place = parts.directory("peer")
                parts.peer(debezium.Debezium(place, parts.dsn, PEER_SLOT, "public.items", form), form, items)
                parts.drop(PEER_SLOT)
        return parts.result("postgres-debezium-snapshot", "a bare COPY", AIM_SNAPSHOT, items)


def debezium_stream(items: int, pairs: int, processes: int) -> Result:
    """Changes a second, from slots behind which they lie; medians over the pairs; JSON in the first only."""
    transactions = max(1, items // TRANSACTION_ROWS)
    say(f"postgres-debezium-stream: {transactions * TRANSACTION_ROWS:,} changes in transactions of a thousand")
    with _parts() as parts:
        parts.connection.execute("INSERT INTO items " + ROWS.format(first=0, last=0))
        flow = Flow(parts.scratch / "ours", parts.dsn, "")
        flow.run()
        peers: dict[debezium.Format, debezium.Debezium] = {}
        for form in _forms(0):
            place = parts.scratch / f"peer-{form}"
            peers[form] = debezium.Debezium(place, parts.dsn, f"{PEER_SLOT}_{form}", "public.items", form)
            peers[form].count(1)
        starts = [flow.run().seconds for _ in range(_STARTS)]
        say(f"  start of headrace, taken off: {min(starts):.2f} s")
        for pair in range(pairs):
            # A server logs by itself, four times a minute, from where on a slot must be decoded; without it a start
            # decodes the pair before once more, which the bare slot, made just now, does not.
            parts.connection.execute("SELECT pg_log_standby_snapshot()")
            flow.run()
            parts.connection.execute("SELECT pg_create_logical_replication_slot('bare', 'pgoutput')")
            changes = change(parts.connection, pair * transactions, transactions)
            parts.connection.execute("CHECKPOINT")
            parts.bare("walsender", lambda: received(parts.dsn, changes), changes)  # noqa: B023 - called at once
            parts.drop("bare")
            parts.ours(flow, min(starts), changes)
            for form in _forms(pair):
                parts.peer(peers[form], form, changes)
            if pair == 0 and peers:
                parts.drop(f"{PEER_SLOT}_json")
        return parts.result("postgres-debezium-stream", "a bare walsender", AIM_STREAM, changes)


def _forms(pair: int) -> list[debezium.Format]:
    if not debezium.available():
        return []
    return ["connect", "json"] if pair == 0 else ["connect"]


def _drop_there(dsn: str) -> None:
    import psycopg

    with psycopg.connect(dsn, autocommit=True) as connection:
        drop_slot(connection, SLOT)
        connection.execute(f"DROP PUBLICATION IF EXISTS {SLOT}")
