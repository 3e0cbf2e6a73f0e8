"""soak: 20 million events through a small spool into a slow target; memory must not grow, the spool keep its bound.

The workload's items run again and again, each time with higher log positions; the target's triggers make it take a
fixed time a row, so the spool is full and the flow waits nearly all the time. The memory of all processes is sampled
every 0.1 s: the value is how much a line through its last two thirds rises, in percent of their mean.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from bench import generate, rig, truth
from bench.measure import Result, slope_percent
from bench.w1 import PARTITIONS, say

TOPIC = "erp.public.items"
EVENTS = 20_000_000
SPOOL_BYTES = 32_000_000
SLEEP_US_PER_ROW = 45  # of each of the four parts' sessions: about 85 k rows/s together
SAMPLE_SECONDS = 0.05
AIM_PERCENT = 1.0

_POSITIONS = re.compile(rb'"sequence":"\[\\"(\d+)\\",\\"(\d+)\\"\]"(.*?)"lsn":\d+')
_SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_sleep((SELECT count(*) FROM fresh) * {us} / 1e6); RETURN NULL; END $$;
CREATE TRIGGER slow_insert AFTER INSERT ON items REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION slow();
CREATE TRIGGER slow_update AFTER UPDATE ON items REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION slow();
"""


def template(source: Path, path: Path) -> None:
    """The same lines with every log position as a mark and twelve digits: the mark becomes the round's number."""
    with path.open("wb", buffering=1 << 20) as file:
        for key, value in generate.read(source):
            match = _POSITIONS.search(value)
            assert match is not None, value
            flush, lsn = int(match[1]), int(match[2])
            marked = b'"sequence":"[\\"@%012d\\",\\"@%012d\\"]"%s"lsn":@%012d' % (flush, lsn, match[3], lsn)
            file.write(key + b"\t" + value[: match.start()] + marked + value[match.end() :] + b"\n")


def rounds(path: Path, events: int) -> Iterator[tuple[bytes, bytes]]:
    """`events` messages, round after round of the template."""
    left, number = events, 0
    while left > 0:
        number += 1
        mark = str(number).encode()
        for key, value in generate.read(path):
            yield key, value.replace(b"@", mark)
            left -= 1
            if left == 0:
                return


class SpoolProbe(threading.Thread):
    """Watches how many bytes of segments lie in a spool directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__(daemon=True)
        self._directory = directory
        self.ended = threading.Event()
        self.bytes_max = 0

    def run(self) -> None:
        """Sample until ended."""
        while not self.ended.wait(SAMPLE_SECONDS):
            self.bytes_max = max(self.bytes_max, sum(map(_size, self._directory.rglob("*"))))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # applied and deleted while we looked
        return 0


def soak(items: int, pairs: int, processes: int, events: int = EVENTS) -> Result:
    """The slope in percent; `equal` also says that the spool kept its bound. Whole rounds only, to compare."""
    import psycopg

    from connectors.kafka.topics import Producer, create_topics

    data = generate.cached(items)
    events = max(1, events // items) * items
    with (
        rig.broker() as broker,
        rig.postgres() as postgres,
        tempfile.TemporaryDirectory(prefix="headrace-soak-") as name,
    ):
        scratch = Path(name)
        template(data / "items.tsv", scratch / "template.tsv")
        create_topics(broker.servers, {TOPIC: PARTITIONS}, settings={"retention.ms": "-1"})
        producer = Producer(broker.servers, {**generate.PRODUCER, "compression.type": "lz4"})
        producer.write(TOPIC, rounds(scratch / "template.tsv", events))
        producer.flush(600)
        say(f"soak: {events:,} events are in the topic ({rig.broker_name(broker)})")
        with psycopg.connect(postgres.dsn(), autocommit=True) as connection:
            connection.execute(truth.ddl("items"))
            connection.execute(_SLOW.format(us=SLEEP_US_PER_ROW))
            settings = f"spool_bytes = {SPOOL_BYTES}"
            file = rig.pipeline(scratch / "ours", broker.servers, {"items": ("items", None, TOPIC)}, settings=settings)
            arguments, environment = rig.headrace_run(file, postgres.dsn(), processes)
            state = scratch / "state"
            spool = SpoolProbe(state / "spool")
            spool.start()
            done = rig.run(arguments, scratch / "ours.log", {**environment, "HEADRACE_STATE_DIR": str(state)}, 7200)
            spool.ended.set()
            spool.join()
            compared = truth.check(connection, "items", data, "items")
    last = [(second, float(amount)) for second, amount in done.samples if second > done.seconds / 3]
    # the last half second shows processes that end, not a leak
    value = slope_percent([sample for sample in last if sample[0] < done.seconds - 1.0])
    rate = f"{events / done.seconds:,.0f} events/s"
    say(f"  {done.seconds:.0f} s, {rate}, slope {value:+.2f} %, peak {done.peak_mb:.0f} MB")
    say(f"  spool at most {spool.bytes_max:,} bytes of {SPOOL_BYTES:,}; {compared}")
    held = compared.equal and spool.bytes_max <= SPOOL_BYTES * processes
    ratio = AIM_PERCENT / max(value, 0.01)
    return Result("soak", value, "% growth of memory", "the aim: under 1 %", AIM_PERCENT, ratio, done.peak_mb, held)
