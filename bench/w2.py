"""w2: order lines, joined from three topics and kept in a PostgreSQL table right after every change of any side.

    order_lines = items JOIN orders ON order_id = orders.id JOIN customers ON customer_id = customers.id

inner, by the item's key. Ours and a peer read the same events (2 partitions a topic) and write the same rows, in turn,
`pairs` times; the rates are events of all three topics over the whole wall time, start included, and medians.

w2 is beside Pathway, w2-naive beside Bytewax used row by row, w2-null the same without a target and without the start,
w2-hard with orders that change their customer, NULL and dangling references, and rows that go and come back, where only
the naive peer can follow: in Pathway a null drops the whole event.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import generate, rig, truth
from bench.measure import MemoryProbe, Result
from bench.peers import environment
from bench.rig import Run
from bench.w1 import PARTITIONS, say, without_start
from bench.workload import TABLES
from connectors.kafka.topics import create_topics

RESULT = "order_lines"
TOPICS = {table: f"erp.public.{table}" for table in TABLES}
EMPTY = {table: f"erp.nothing.{table}" for table in TABLES}
WRAPPED = {table: f"erp.wrapped.{table}" for table in TABLES}
STEPS = """
[[step]]
join = "items"
with = "orders"
on = { order_id = "id" }
take = ["status", "customer_id"]
[[step]]
join = "items"
with = "customers"
on = { customer_id = "id" }
take = { name = "customer_name", country = "country" }
as = "order_lines"
"""
_PEERS = Path(__file__).parent / "peers"
NAIVE = ("bytewax==0.21.1", "confluent-kafka==2.16.1", "orjson==3.11.4", "psycopg[binary]==3.3.9")
PATHWAY = ("pathway==0.33.0",)
PATHWAY_THREADS = 2
QUIET_SECONDS, QUIET_BYTES = 2.0, 4_000  # so long without so much of new log, and Pathway may be done
PATHWAY_SECONDS_MAX = 600.0
PATHWAY_TABLE = """
CREATE TABLE pathway_lines (order_id bigint, line_no bigint, sku text, quantity bigint, unit_price text, discount text,
    note text, created_at bigint, status text, customer_id bigint, customer_name text, country text,
    PRIMARY KEY (order_id, line_no));
CREATE VIEW order_lines AS SELECT order_id, line_no, sku, quantity, unit_price, discount, nullif(note, '') AS note,
    timestamp 'epoch' + created_at * interval '1 microsecond' AS created_at, status, customer_id, customer_name, country
    FROM pathway_lines
"""


@dataclass(frozen=True, slots=True)
class Load:
    """A workload in topics."""

    data: Path
    topics: Mapping[str, str]
    events: int


@dataclass(frozen=True, slots=True)
class Bench:
    """The started parts, filled."""

    servers: str
    broker: str
    dsn: str
    connection: Any
    load: Load
    scratch: Path
    processes: int

    def fill(self, items: int, topics: Mapping[str, str], form: generate.Form | None = None) -> Load:
        """Another workload, or the same in another form, into topics of its own."""
        data = generate.cached(items)
        counts = generate.produce(self.servers, data, topics, PARTITIONS, form=form)
        return Load(data, topics, sum(counts.values()))


@dataclass(frozen=True, slots=True)
class Peer:
    """What ours is compared with.

    Args:
        name: with its settings, for the output.
        load: what it reads.
        run: one run into an empty target, or without one.
        prepare: makes the empty target.
    """

    name: str
    load: Load
    run: Callable[[], tuple[float, float]]
    prepare: Callable[[], None]


@contextmanager
def bench(items: int, processes: int, hard: bool = False) -> Iterator[Bench]:
    """Broker and PostgreSQL up, the topics filled."""
    import psycopg

    data = generate.cached(items, hard)
    with (
        rig.broker() as broker,
        rig.postgres(track_commit_timestamp=True) as postgres,
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch,
        psycopg.connect(postgres.dsn(), autocommit=True) as connection,
    ):
        counts = generate.produce(broker.servers, data, TOPICS, PARTITIONS)
        create_topics(broker.servers, dict.fromkeys(EMPTY.values(), PARTITIONS))
        load = Load(data, TOPICS, sum(counts.values()))
        name = rig.broker_name(broker)
        yield Bench(broker.servers, name, postgres.dsn(), connection, load, Path(scratch), processes)


def pipeline(path: Path, servers: str, topics: Mapping[str, str], *, sink: str = "postgres", **more: str) -> Path:
    """The pipeline file of order_lines; its state lies beside it. `more`: see rig.pipeline."""
    tables = {table: (table, None, topic) for table, topic in topics.items()}
    return rig.pipeline(path, servers, tables, sink=sink, steps=STEPS, **more)


def ours(parts: Bench, sink: str, topics: Mapping[str, str] = TOPICS) -> tuple[Run, Path]:
    """One `headrace run --until-end` with a new state directory; the run and its state."""
    shutil.rmtree(parts.scratch / "ours", ignore_errors=True)
    file = pipeline(parts.scratch / "ours", parts.servers, topics, sink=sink)
    arguments, variables = rig.headrace_run(file, parts.dsn, parts.processes)
    state = file.parent / "state"
    return rig.run(arguments, parts.scratch / "ours.log", {**variables, "HEADRACE_STATE_DIR": str(state)}), state


# -- the peers ---------------------------------------------------------------------------------------------------------


def naive(parts: Bench) -> Peer:
    """bench/peers/naive_bytewax.py, on the same events."""
    environment.python("naive", NAIVE)

    def run() -> tuple[float, float]:
        done, said = run_naive(parts, with_target=True)
        assert said["events"] == parts.load.events, (said, parts.load)
        return done.seconds, done.peak_mb

    name = "naive Bytewax: rows, orjson, dicts, COPY, upsert; no recovery"
    return Peer(name, parts.load, run, lambda: rig.clear(parts.connection, RESULT))


def run_naive(parts: Bench, with_target: bool) -> tuple[Run, dict[str, float]]:
    """One run of the naive peer; the run and what it says about itself."""
    python = environment.python("naive", NAIVE)
    arguments = [str(python), str(_PEERS / "naive_bytewax.py"), "--servers", parts.servers]
    arguments += ["--topics", json.dumps(dict(parts.load.topics))]
    done = rig.run(arguments + (["--dsn", parts.dsn] if with_target else []), parts.scratch / "naive.log")
    return done, json.loads(done.output.strip().splitlines()[-1])


def wrapped(key: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A message as Pathway reads Debezium: {"payload": ...}, and no null in the row."""
    return b'{"payload":%s}' % key, b'{"payload":%s}' % value.replace(b'"note":null', b'"note":""')


def pathway(parts: Bench, items: int) -> Peer:
    """bench/peers/pathway_w2.py on the same events, wrapped."""
    environment.python("pathway", PATHWAY)
    load = parts.fill(items, WRAPPED, wrapped)
    name = f"{PATHWAY[0].replace('==', ' ')}: {PATHWAY_THREADS} threads, money as text, no persistence"

    def prepare() -> None:
        rig.clear(parts.connection)
        parts.connection.execute(PATHWAY_TABLE)

    return Peer(name, load, lambda: run_pathway(parts, load), prepare)


def run_pathway(parts: Bench, load: Load) -> tuple[float, float]:
    """One run, ended when its target is the truth; seconds up to its last commit, and peak memory in MB."""
    from psycopg.conninfo import conninfo_to_dict

    python = environment.python("pathway", PATHWAY)
    words = " ".join(f"{key}={value}" for key, value in conninfo_to_dict(parts.dsn).items())
    arguments = [str(python), str(_PEERS / "pathway_w2.py"), "--servers", parts.servers, "--dsn", words]
    arguments += ["--table", "pathway_lines", "--topics", json.dumps(dict(load.topics))]
    begun, log = time.time(), parts.scratch / "pathway.log"
    process = rig.start(arguments, log, {"PATHWAY_THREADS": str(PATHWAY_THREADS)})
    try:
        with MemoryProbe(process.pid) as memory:
            while not _is_quiet(parts) or not _is_equal(parts, load):
                if process.poll() is not None:
                    raise SystemExit(f"bench: Pathway ended by itself:\n{log.read_text(errors='replace')[-4000:]}")
                if time.time() - begun > PATHWAY_SECONDS_MAX:
                    return PATHWAY_SECONDS_MAX, memory.peak_mb
    finally:
        rig.kill_session(process)
    # it never ends by itself: the newest row says when its transaction was committed
    query = (
        "SELECT min(at), max(at) FROM (SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin)) at FROM pathway_lines)"
    )
    first, last = parts.connection.execute(query).fetchone()
    say(f"         first rows that are left after {float(first) - begun:.2f} s")
    return float(last) - begun, memory.peak_mb


def _is_quiet(parts: Bench) -> bool:
    """Wait a while; whether rows are there and hardly anything was written meanwhile."""

    def position() -> int:
        query = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
        return int(parts.connection.execute(query).fetchone()[0])

    before = position()
    time.sleep(QUIET_SECONDS)
    some = parts.connection.execute("SELECT EXISTS (SELECT FROM pathway_lines)").fetchone()[0]
    return bool(some) and position() - before < QUIET_BYTES


def _is_equal(parts: Bench, load: Load) -> bool:
    return truth.check(parts.connection, RESULT, load.data, RESULT).equal


# -- the measures ------------------------------------------------------------------------------------------------------


def versus(name: str, parts: Bench, peer: Peer, pairs: int) -> Result:
    """Median of `pairs` interleaved pairs; the target is compared with the truth after every run of ours and theirs."""
    ours_s: list[float] = []
    peer_s: list[float] = []
    memory, equal, peer_equal = 0.0, True, True
    load = parts.load
    say(f"{name}: {load.events:,} events, {parts.broker}, PostgreSQL with fsync, {parts.processes} process(es)")
    say(f"  beside {peer.name}")
    for pair in range(pairs):
        # the order changes, so that neither always runs on the warmer caches
        for mine in (True, False) if pair % 2 == 0 else (False, True):
            if mine:
                rig.clear(parts.connection)
                done = ours(parts, "postgres")[0]
                seconds, peak_mb = done.seconds, done.peak_mb
            else:
                peer.prepare()
                seconds, peak_mb = peer.run()
            read = load if mine else peer.load
            compared = truth.check(parts.connection, RESULT, read.data, RESULT)
            if mine:
                equal, memory = equal and compared.equal, max(memory, peak_mb)
            else:
                peer_equal = peer_equal and compared.equal
            (ours_s if mine else peer_s).append(seconds)
            say(
                f"  pair {pair + 1} {'headrace' if mine else 'peer    '} {seconds:6.2f} s "
                f"{read.events / seconds:9,.0f} events/s {peak_mb:5.0f} MB  {compared}"
            )
    rig.clear(parts.connection)
    start = ours(parts, "postgres", EMPTY)[0].seconds
    median = statistics.median(ours_s)
    without = f"{load.events / max(median - start, 1e-9):,.0f} events/s"
    say(f"  start of headrace alone (empty topics): {start:.2f} s; without it {without}")
    mine_rate, peer_rate = load.events / median, peer.load.events / statistics.median(peer_s)
    label = f"{peer.name}; {parts.broker}" + ("" if peer_equal else "; the peer's rows are NOT the truth")
    return Result(name, mine_rate, "events/s", label, peer_rate, mine_rate / peer_rate, memory, equal)


def w2(items: int, pairs: int, processes: int) -> Result:
    """Beside Pathway; where Apache Kafka is not to be had beside the naive peer, as Pathway needs consumer groups."""
    with bench(items, processes) as parts:
        groups = parts.broker == "Apache Kafka"
        return versus("w2", parts, pathway(parts, items) if groups else naive(parts), pairs)


def w2_naive(items: int, pairs: int, processes: int) -> Result:
    """Beside the naive peer."""
    with bench(items, processes) as parts:
        return versus("w2-naive", parts, naive(parts), pairs)


def w2_hard(items: int, pairs: int, processes: int) -> Result:
    """The hard workload, beside the naive peer."""
    with bench(items, processes, hard=True) as parts:
        return versus("w2-hard", parts, naive(parts), pairs)


def w2_null(items: int, pairs: int, processes: int) -> Result:
    """Without a target, start excluded: how fast events are read, decoded, joined and spooled."""
    ours_s: list[float] = []
    peer_s: list[float] = []
    memory, equal = 0.0, True
    with bench(items, processes) as parts:
        peer = naive(parts)
        start = statistics.median(ours(parts, "null", EMPTY)[0].seconds for _ in range(min(3, pairs)))
        say(f"w2-null: {parts.load.events:,} events, {parts.broker}; start {start:.2f} s, taken off")
        for pair in range(pairs):
            done, state = ours(parts, "null")
            seen = rig.status_sum(state, "events")
            equal = equal and seen == parts.load.events
            ours_s.append(without_start(done.seconds, start))
            memory = max(memory, done.peak_mb)
            theirs, said = run_naive(parts, with_target=False)
            peer_s.append(said["seconds"] - said["start_seconds"])
            say(
                f"  pair {pair + 1} headrace {parts.load.events / ours_s[-1]:9,.0f} events/s ({seen:,} seen), "
                f"naive {parts.load.events / peer_s[-1]:9,.0f} events/s; {done.peak_mb:.0f} and {theirs.peak_mb:.0f} MB"
            )
        mine, other = parts.load.events / statistics.median(ours_s), parts.load.events / statistics.median(peer_s)
        label = f"{peer.name}; no target; {parts.broker}"
    return Result("w2-null", mine, "events/s", label, other, mine / other, memory, equal)
