"""steady: a load that never grows, for half an hour through w2's joins; neither memory nor state files may grow.

    headrace bench steady --minutes 30

The key space is bounded: customers, orders and items are created, changed, moved, deleted and made again at a steady
pace, each kind as often as it goes. Once a second the memory of all workers and the bytes of the state segments are
sampled. The value is how much a line through the last two thirds of them rises or falls, in percent of their mean: the
greater of the two; a run of a few minutes has not settled and falls. `equal`: at the end the target is the join of what
is left.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench import generate, rig, truth, w2
from bench.measure import Result, memory_bytes, slope_percent
from bench.w1 import PARTITIONS, say
from bench.workload import TABLES, Emitter, Event

CUSTOMERS, ORDERS, ITEMS = 2_000, 50_000, 200_000
CHANGES_PER_SECOND = 8_000
BURST_SECONDS = 0.02
AIM_PERCENT = 1.0
LOAD_SECONDS_MAX, DRAIN_SECONDS_MAX = 600.0, 120.0
# the topics' own size is bounded too: half an hour would fill 9 GB
TOPIC_SETTINGS = {"retention.ms": "-1", "retention.bytes": "600000000", "segment.bytes": "100000000"}
_STATUSES = ("OPEN", "RELEASED", "SHIPPED", "CLOSED")
_COUNTRIES = ("TR", "DE", "FR", "GB")


class World(Emitter):
    """An ERP of a fixed size, whose rows are kept as JSON texts; None where a row is away."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = 1_760_000_000_000_000
        self.customers: list[str | None] = [None] * CUSTOMERS
        self.orders: list[str | None] = [None] * ORDERS
        self.items: list[str | None] = [None] * ITEMS
        self.keys = [""] * ITEMS  # of each item, which changes when it moves to another order

    def load(self) -> list[Event]:
        """Everything that is there at first: as many rows as there will be later, on average."""
        events = [*(self.customer(number) for number in range(CUSTOMERS) if self.draw() < 0.91)]
        events += [self.order(number) for number in range(ORDERS) if self.draw() < 0.91]
        for number in range(ITEMS):
            if self.draw() < 0.83:
                events += self.item(number)
        return events

    def change(self) -> list[Event]:
        """The next change: of an item mostly; two events where an item moves to another order."""
        self.now_us += 125
        chance = self.draw()
        if chance < 0.8:
            return self.item(self.below(ITEMS))
        return [self.order(self.below(ORDERS)) if chance < 0.995 else self.customer(self.below(CUSTOMERS))]

    def customer(self, number: int) -> Event:
        """It comes, goes, or changes its name or what no join takes."""
        before = self.customers[number]
        row = None
        if before is None or self.draw() >= 0.1:
            name, country = f"Öz {number} {self.below(3)}", _COUNTRIES[self.below(4)]
            limit = f"{self.below(10**6)}.{self.below(100):02d}"
            row = (
                f'{{"id":{number},"name":"{name}","country":"{country}","credit_limit":"{limit}"'
                f',"updated_at":{self.now_us}}}'
            )
        self.customers[number] = row
        return self.emit("customers", f'{{"id":{number}}}', before, row)

    def order(self, number: int) -> Event:
        """It comes, goes, or changes its status and its customer, which may be NULL or one that never was."""
        before = self.orders[number]
        row = None
        if before is None or self.draw() >= 0.1:
            chance = self.draw()
            customer = "null" if chance < 0.02 else str(CUSTOMERS + 7 if chance < 0.04 else self.below(CUSTOMERS))
            row = (
                f'{{"id":{number},"customer_id":{customer},"status":"{_STATUSES[self.below(4)]}","currency":"EUR"'
                f',"ordered_at":{self.now_us},"due_on":20300}}'
            )
        self.orders[number] = row
        return self.emit("orders", f'{{"id":{number}}}', before, row)

    def item(self, number: int) -> list[Event]:
        """It comes, goes, changes or moves."""
        before, key, chance = self.items[number], self.keys[number], self.draw()
        if before is not None and chance < 0.2:
            self.items[number] = None
            return [self.emit("items", key, before, None)]
        events = []
        if before is None or chance < 0.3:
            if before is not None:
                events.append(self.emit("items", key, before, None))
            before, key = None, f'{{"order_id":{self.below(ORDERS)},"line_no":{number}}}'
        note = "null" if self.draw() < 0.7 else '"partial – Teslim edilmedi"'
        row = (
            f'{key[:-1]},"sku":"MAT-{self.below(20000):06d}","quantity":{1 + self.below(49)}'
            f',"unit_price":"{self.below(5000)}.{self.below(10000):04d}","discount":"0.{self.below(40):02d}"'
            f',"note":{note},"created_at":{self.now_us}}}'
        )
        self.items[number], self.keys[number] = row, key
        return [*events, self.emit("items", key, before, row)]

    def emit(self, table: str, key: str, before: str | None, row: str | None) -> Event:
        """The event that leads from one row to the other."""
        op = "d" if row is None else "c" if before is None else "u"
        return self.event(table, op, key, before or "null", row or "null", self.now_us)

    def write(self, directory: Path) -> None:
        """What is left, as if it had just been made: files for bench/truth.py."""
        directory.mkdir(parents=True)
        keys = [f'{{"id":{number}}}' for number in range(max(CUSTOMERS, ORDERS))]
        kept = {"customers": (keys, self.customers), "orders": (keys, self.orders), "items": (self.keys, self.items)}
        for table in TABLES:
            with (directory / f"{table}.tsv").open("w", encoding="utf-8", newline="\n") as file:
                for key, row in zip(*kept[table], strict=False):
                    if row is not None:
                        file.write(f'{key}\t{{"op":"c","after":{row}}}\n')


class Pacer(threading.Thread):
    """Sends the world's changes at a steady pace until it is told to end."""

    def __init__(self, servers: str, world: World) -> None:
        super().__init__(daemon=True)
        from connectors.kafka.topics import Producer

        self._producer = Producer(servers, {**generate.PRODUCER, "linger.ms": 5})
        self._world = world
        self.ended = threading.Event()
        self.events = 0
        self.late_s = 0.0

    def send(self, events: Iterable[Event]) -> None:
        """Queue events for their topics."""
        for table, key, value in events:
            self._producer.write(w2.TOPICS[table], ((key.encode(), value.encode()),))
            self.events += 1

    def flush(self) -> None:
        """Wait until the broker has them all."""
        self._producer.flush(120)

    def run(self) -> None:
        """A burst every BURST_SECONDS; one that is late is made up for."""
        begun, due_s, sent = time.monotonic(), 0.0, self.events
        while not self.ended.wait(max(0.0, begun + due_s - time.monotonic())):
            self.late_s = max(self.late_s, time.monotonic() - begun - due_s)
            due_s += BURST_SECONDS
            while self.events - sent < due_s * CHANGES_PER_SECOND:
                self.send(self._world.change())
        self.flush()


class Samples(threading.Thread):
    """Once a second the workers' memory and the state segments' bytes."""

    def __init__(self, process: subprocess.Popen[bytes], segments: Path) -> None:
        super().__init__(daemon=True)
        self._process, self._segments = process, segments
        self.ended = threading.Event()
        self.memory: list[tuple[float, float]] = []
        self.state: list[tuple[float, float]] = []

    def run(self) -> None:
        """Sample until ended."""
        begun = time.monotonic()
        while not self.ended.wait(1.0):
            now = time.monotonic() - begun
            self.memory.append((now, float(sum(map(memory_bytes, rig.workers(self._process))))))
            self.state.append((now, float(sum(size(path) for path in self._segments.glob("*.seg")))))


def size(path: Path) -> int:
    """Bytes of a file; 0 for one that was merged away while we looked."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def last_two_thirds(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The samples after the first third, in which a flow may still settle."""
    return samples[len(samples) // 3 :]


def wait_equal(
    connection: Any, world: World, directory: Path, process: subprocess.Popen[bytes], limit_s: float
) -> float:
    """Seconds until the target is what the world has now; SystemExit where it does not come to that."""
    world.write(directory)
    begun = time.monotonic()
    while True:
        compared = truth.check(connection, w2.RESULT, directory, w2.RESULT)
        waited = time.monotonic() - begun
        if compared.equal:
            return waited
        if waited > limit_s or process.poll() is not None:
            raise SystemExit(f"bench: {waited:.0f} s after the last event: {compared}")
        time.sleep(0.5)


def steady(items: int, pairs: int, processes: int, minutes: float = 30.0) -> Result:
    """The slope in percent; the lines for people tell memory and state files apart, rise and fall."""
    import psycopg

    from connectors.kafka.topics import create_topics

    world = World()
    with (
        rig.broker() as broker,
        rig.postgres() as postgres,
        tempfile.TemporaryDirectory(prefix="headrace-steady-") as name,
        psycopg.connect(postgres.dsn(), autocommit=True) as connection,
    ):
        scratch = Path(name)
        create_topics(broker.servers, dict.fromkeys(w2.TOPICS.values(), PARTITIONS), settings=TOPIC_SETTINGS)
        connection.execute(truth.ddl(w2.RESULT))
        file = w2.pipeline(scratch / "ours", broker.servers, w2.TOPICS)
        arguments, environment = rig.headrace_run(file, postgres.dsn(), processes, until_end=False)
        environment["HEADRACE_STATE_DIR"] = str(scratch / "state")
        pacer = Pacer(broker.servers, world)
        process = rig.start(arguments, scratch / "ours.log", environment)
        try:
            pacer.send(world.load())
            pacer.flush()
            loaded_s = wait_equal(connection, world, scratch / "loaded", process, LOAD_SECONDS_MAX)
            say(f"steady: {pacer.events:,} rows, visible after {loaded_s:.0f} s, {rig.broker_name(broker)}")
            say(f"  now {minutes:g} minutes with {CHANGES_PER_SECOND:,} events/s")
            samples = Samples(process, scratch / "state" / "segments")
            samples.start()
            pacer.start()
            ended_early = _ends_within(process, minutes * 60)
            pacer.ended.set()
            pacer.join()
            samples.ended.set()
            samples.join()
            if ended_early:
                log = (scratch / "ours.log").read_text(errors="replace")
                raise SystemExit(f"bench: headrace run ended with code {process.returncode}:\n{log[-4000:]}")
            drained_s = wait_equal(connection, world, scratch / "left", process, DRAIN_SECONDS_MAX)
            process.send_signal(signal.SIGTERM)
            if process.wait(60) != 0:
                raise SystemExit(f"bench: headrace run ended with code {process.returncode} after SIGTERM")
        finally:
            rig.kill_session(process)
        compared = truth.check(connection, w2.RESULT, scratch / "left", w2.RESULT)
    return judge(samples, pacer, drained_s, compared)


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def judge(samples: Samples, pacer: Pacer, drained_s: float, compared: truth.Comparison) -> Result:
    """From the samples to the result."""
    memory, state = last_two_thirds(samples.memory), last_two_thirds(samples.state)
    rises = {"memory": slope_percent(memory), "state": slope_percent(state)}
    peak_mb = max(amount for _, amount in samples.memory) / 1e6
    say(f"  {pacer.events:,} events, a burst {pacer.late_s:.2f} s late at most; all visible after {drained_s:.1f} s")
    say(f"  workers' memory {memory[0][1] / 1e6:.0f} -> {memory[-1][1] / 1e6:.0f} MB, {rises['memory']:+.2f} %")
    say(f"  state segments {state[0][1] / 1e6:.1f} -> {state[-1][1] / 1e6:.1f} MB, {rises['state']:+.2f} %; {compared}")
    # a fall is no leak, but a run that has not settled shows nothing either
    value = max(map(abs, rises.values()))
    label = f"the aim: under 1 %; {CHANGES_PER_SECOND:,} events/s"
    ratio = AIM_PERCENT / max(value, 0.01)
    return Result("steady", value, "% off flat", label, AIM_PERCENT, ratio, peak_mb, compared.equal)
