"""w1: a million item events from a Kafka topic into a PostgreSQL table by key, beside the hand-written script.

Both read the same topic (2 partitions) and write the same table in the same PostgreSQL, in turn, `pairs` times; the
figures are medians over the whole wall time of the command, start included. w1-null is the same without a target, and
without the start: a run over an empty topic is taken off ours, the script says its own.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import generate, rig, truth
from bench.measure import Result
from bench.rig import Run
from connectors.kafka.topics import create_topics

TOPIC, EMPTY = "erp.public.items", "erp.public.nothing"
PARTITIONS = 2
PEER = "script: confluent-kafka, polars, COPY, upsert; 1 process"


@dataclass(frozen=True, slots=True)
class Bench:
    """The started parts, filled."""

    servers: str
    broker: str
    dsn: str
    connection: Any
    data: Path
    events: int
    scratch: Path
    processes: int


@contextmanager
def bench(items: int, processes: int) -> Iterator[Bench]:
    """Broker and PostgreSQL up, the topic filled."""
    import psycopg

    data = generate.cached(items)
    with (
        rig.broker() as broker,
        rig.postgres() as postgres,
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch,
    ):
        counts = generate.produce(broker.servers, data, {"items": TOPIC}, PARTITIONS)
        create_topics(broker.servers, {EMPTY: PARTITIONS})
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            yield Bench(
                broker.servers,
                rig.broker_name(broker),
                postgres.dsn(),
                connection,
                data,
                counts[TOPIC],
                Path(scratch),
                processes,
            )


def ours(parts: Bench, sink: str, topic: str = TOPIC) -> tuple[Run, Path]:
    """One `headrace run --until-end` with a new state directory; the run and its state."""
    shutil.rmtree(parts.scratch / "ours", ignore_errors=True)
    file = rig.pipeline(parts.scratch / "ours", parts.servers, {"items": ("items", None, topic)}, sink=sink)
    arguments, environment = rig.headrace_run(file, parts.dsn, parts.processes)
    state = file.parent / "state"
    return rig.run(arguments, parts.scratch / "ours.log", {**environment, "HEADRACE_STATE_DIR": str(state)}), state


def peer(parts: Bench, with_target: bool) -> tuple[Run, dict[str, float]]:
    """One run of the script; the run and what it says about itself."""
    arguments = [sys.executable, "-m", "bench.peers.script", "--servers", parts.servers, "--topic", TOPIC]
    done = rig.run(arguments + (["--dsn", parts.dsn] if with_target else []), parts.scratch / "peer.log")
    return done, json.loads(done.output.strip().splitlines()[-1])


def without_start(seconds: float, start: float) -> float:
    """What is left of a run's seconds; SystemExit where a start alone took as long, as no rate can be told then."""
    if seconds <= start:
        raise SystemExit(
            f"bench: expected a run longer than a start, found {seconds:.2f} s and {start:.2f} s: more --items, or a "
            "machine with less to do"
        )
    return seconds - start


def say(text: str) -> None:
    """A line for people; the result alone goes to standard output."""
    print(text, file=sys.stderr, flush=True)


def w1(items: int, pairs: int, processes: int) -> Result:
    """Median of `pairs` interleaved pairs; the target is compared with the truth after every run of ours and theirs."""
    ours_s: list[float] = []
    peer_s: list[float] = []
    memory, equal = 0.0, True
    with bench(items, processes) as parts:
        say(f"w1: {parts.events:,} events, {parts.broker}, PostgreSQL with fsync, {processes} process(es)")
        for pair in range(pairs):
            # the order changes, so that neither always runs on the warmer caches
            for mine in (True, False) if pair % 2 == 0 else (False, True):
                rig.clear(parts.connection, None if mine else "items")
                done = ours(parts, "postgres")[0] if mine else peer(parts, with_target=True)[0]
                compared = truth.check(parts.connection, "items", parts.data, "items")
                equal = equal and compared.equal
                (ours_s if mine else peer_s).append(done.seconds)
                memory = max(memory, done.peak_mb) if mine else memory
                say(
                    f"  pair {pair + 1} {'headrace' if mine else 'script  '} {done.seconds:6.2f} s "
                    f"{parts.events / done.seconds:9,.0f} events/s {done.peak_mb:5.0f} MB  {compared}"
                )
        rig.clear(parts.connection)
        start = ours(parts, "postgres", EMPTY)[0].seconds
        events, name = parts.events, parts.broker
    median, theirs_s = statistics.median(ours_s), statistics.median(peer_s)
    without = f"{events / max(median - start, 1e-9):,.0f} events/s"
    say(f"  start of headrace alone (an empty topic): {start:.2f} s; without it {without}")
    return Result(
        "w1", events / median, "events/s", f"{PEER}; {name}", events / theirs_s, theirs_s / median, memory, equal
    )


def w1_null(items: int, pairs: int, processes: int) -> Result:
    """The same without a target, start excluded: how fast events are read, decoded, routed and spooled."""
    ours_s: list[float] = []
    peer_s: list[float] = []
    memory, equal = 0.0, True
    with bench(items, processes) as parts:
        start = statistics.median(ours(parts, "null", EMPTY)[0].seconds for _ in range(min(3, pairs)))
        say(f"w1-null: {parts.events:,} events, {parts.broker}; start {start:.2f} s, taken off")
        for pair in range(pairs):
            done, state = ours(parts, "null")
            seen = rig.status_sum(state, "events")
            equal = equal and seen == parts.events
            ours_s.append(without_start(done.seconds, start))
            memory = max(memory, done.peak_mb)
            theirs, said = peer(parts, with_target=False)
            peer_s.append(said["seconds"] - said["start_seconds"])
            say(
                f"  pair {pair + 1} headrace {parts.events / ours_s[-1]:9,.0f} events/s ({seen:,} seen), "
                f"script {parts.events / peer_s[-1]:9,.0f} events/s; {done.peak_mb:.0f} and {theirs.peak_mb:.0f} MB"
            )
        events, name = parts.events, parts.broker
    mine, other = statistics.median(ours_s), statistics.median(peer_s)
    return Result(
        "w1-null", events / mine, "events/s", f"{PEER}, no target; {name}", events / other, other / mine, memory, equal
    )
