"""latency-kafka: from produce to visible in PostgreSQL at 10,000 changes a second, p50 and p99.

Every hundredth change is a probe: its row carries the moment at which it was handed to the producer, and a second
connection looks for it without pause. A probe that a later one of its key overtook became visible with that later one.
"""

from __future__ import annotations

import json
import signal
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from bench import generate, rig, truth
from bench.measure import MemoryProbe, Result, percentile
from bench.w1 import PARTITIONS, say

TOPIC = "erp.public.items"
CHANGES_PER_SECOND = 10_000
BURST = 100  # changes that are sent together, the first of them a probe: one each 10 ms
PROBE_KEYS = 8  # enough that every partition has some
WARM_SECONDS, SECONDS = 5.0, 30.0
AIM_MS = 1000.0


def probe(number: int, now_us: int) -> tuple[bytes, bytes]:
    """Key and value of a probe: an update of one of a few rows outside the workload's keys."""
    key = {"order_id": -1, "line_no": number % PROBE_KEYS}
    row = {
        **key,
        "sku": "probe",
        "quantity": 1,
        "unit_price": "1.0000",
        "discount": "0.00",
        "note": None,
        "created_at": now_us,
    }
    value = {
        "before": None,
        "after": row,
        "source": {"ts_us": now_us, "snapshot": "false"},
        "op": "u",
        "ts_ms": now_us // 1000,
    }
    return json.dumps(key).encode(), json.dumps(value).encode()


class Pacer(threading.Thread):
    """Produces the workload at a steady pace; what it has sent stands in a file, for the comparison at the end."""

    def __init__(self, servers: str, data: Path, sent: Path) -> None:
        super().__init__(daemon=True)
        from connectors.kafka.topics import Producer

        self._producer = Producer(servers, {**generate.PRODUCER, "linger.ms": 5})
        self._data, self._sent = data, sent
        self.ended = threading.Event()
        self.waiting: list[deque[int]] = [deque() for _ in range(PROBE_KEYS)]  # microseconds of the probes under way
        self.changes = 0
        self.late_ms = 0.0

    def run(self) -> None:
        """Send a burst every hundredth of a second until ended."""
        lines = generate.read(self._data / "items.tsv")
        begun, bursts = time.monotonic(), 0
        with self._sent.open("wb") as sent:
            while not self.ended.is_set():
                due = begun + bursts * BURST / CHANGES_PER_SECOND
                self.late_ms = max(self.late_ms, (time.monotonic() - due) * 1000)
                self.ended.wait(max(0.0, due - time.monotonic()))
                batch = [line for line, _ in zip(lines, range(BURST - 1), strict=False)]
                now_us = time.time_ns() // 1000
                self.waiting[bursts % PROBE_KEYS].append(now_us)
                self._producer.write(TOPIC, [probe(bursts, now_us), *batch])
                sent.writelines(key + b"\t" + value + b"\n" for key, value in batch)
                bursts += 1
                self.changes += BURST
        self._producer.flush()


def look(connection: Any, pacer: Pacer, latencies_ms: list[tuple[int, float]]) -> None:
    """One look at the target: (sent at, latency) of each probe that is visible now and was not before."""
    found = connection.execute(
        "SELECT line_no, (extract(epoch FROM created_at) * 1000000)::bigint FROM items WHERE order_id = -1"
    ).fetchall()
    now_us = time.time_ns() // 1000
    for number, newest in found:
        waiting = pacer.waiting[number]
        while waiting and waiting[0] <= newest:
            sent_at = waiting.popleft()
            latencies_ms.append((sent_at, (now_us - sent_at) / 1000))


def watch(connection: Any, pacer: Pacer, seconds: float) -> list[float]:
    """Produce for so long and look all the while; latencies in ms after the warm-up. SystemExit if probes are lost."""
    seen: list[tuple[int, float]] = []
    begun_us = time.time_ns() // 1000
    pacer.start()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        look(connection, pacer, seen)
        time.sleep(0.001)
    pacer.ended.set()
    pacer.join()
    deadline = time.monotonic() + 60
    while any(pacer.waiting):
        if time.monotonic() > deadline:
            raise SystemExit(f"bench: {sum(map(len, pacer.waiting))} probes are not visible after 60 s")
        look(connection, pacer, seen)
        time.sleep(0.001)
    return [latency for sent_at, latency in seen if sent_at - begun_us > WARM_SECONDS * 1e6]


def latency_kafka(items: int, pairs: int, processes: int) -> Result:
    """p99 in ms; p50 and the pace stand in the lines for people."""
    import psycopg

    from connectors.kafka.topics import create_topics

    data = generate.cached(items)
    with (
        rig.broker() as broker,
        rig.postgres() as postgres,
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch,
    ):
        create_topics(broker.servers, {TOPIC: PARTITIONS})
        file = rig.pipeline(Path(scratch) / "ours", broker.servers, {"items": ("items", None, TOPIC)})
        arguments, environment = rig.headrace_run(file, postgres.dsn(), processes, until_end=False)
        (Path(scratch) / "sent").mkdir()
        pacer = Pacer(broker.servers, data, Path(scratch) / "sent" / "items.tsv")
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(truth.ddl("items"))
            log = Path(scratch) / "ours.log"
            process = rig.start(arguments, log, environment)
            try:
                with MemoryProbe(process.pid) as memory:
                    time.sleep(3.0)  # a flow that is up, not one that starts
                    latencies = watch(connection, pacer, WARM_SECONDS + SECONDS)
                process.send_signal(signal.SIGTERM)
                if process.wait(60) != 0:
                    raise SystemExit(
                        f"bench: headrace run ended with code {process.returncode}:\n{log.read_text()[-4000:]}"
                    )
            finally:
                rig.kill_session(process)
            rows = "(SELECT * FROM items WHERE order_id >= 0) AS rows"
            compared = truth.check(connection, rows, Path(scratch) / "sent", "items")
            name = rig.broker_name(broker)
    p50, p99 = percentile(latencies, 0.5), percentile(latencies, 0.99)
    pace = f"{pacer.changes:,} changes at {CHANGES_PER_SECOND:,}/s (late at most {pacer.late_ms:.0f} ms)"
    say(f"latency-kafka: {pace}, {name}; {compared}")
    say(f"  {len(latencies):,} probes: p50 {p50:.0f} ms, p99 {p99:.0f} ms, greatest {max(latencies):.0f} ms")
    return Result(
        "latency-kafka",
        p99,
        "ms, p99",
        f"the aim: p99 under 1 s; {name}",
        AIM_MS,
        AIM_MS / p99,
        memory.peak_mb,
        compared.equal,
    )
