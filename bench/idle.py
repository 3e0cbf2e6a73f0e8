"""idle-partitions: what a busy partition keeps of its rate beside 11 idle ones of the same topic.

Two topics hold the same messages, one with a single partition, the other with all of them in the first of 12. A
pipeline that follows (an idle partition that has ended costs nothing) reads each into the null sink, in turn, `pairs`
times. Its counter of messages, and nothing else (a page of all metrics costs more the more partitions there are), is
read every 20 ms; the rate is taken between a quarter of the messages, when what was fetched during the start is used
up, and the end.
"""

from __future__ import annotations

import re
import signal
import statistics
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench import generate, rig
from bench.measure import MemoryProbe, Result
from bench.w1 import say
from flows.ports import free_port

PARTITIONS = 12
ALONE, AMONG_IDLE = "erp.public.alone", "erp.public.among_idle"
SAMPLE_SECONDS = 0.02
SECONDS_MAX = 600.0
AIM = 0.9

Samples = list[tuple[float, int]]
_PAGE = "metrics?name[]=headrace_events_total"
_EVENTS = re.compile(rb"^headrace_events_total\{[^}]*\} ([0-9.e+]+)$", re.M)


def counted(metrics: bytes) -> int:
    """The messages read so far, from the text of /metrics."""
    return int(sum(float(value) for value in _EVENTS.findall(metrics)))


def rate(samples: Samples, events: int) -> float:
    """Messages a second between the first sample at or above a quarter of `events` and the last rise of the counter.

    Args:
        samples: (seconds, messages so far), in order.
    Raises ValueError where the counter did not rise after the quarter: too few messages for the pace of the samples.
    """
    behind = [sample for sample in samples if sample[1] >= events / 4]
    if not behind or behind[0][1] == behind[-1][1]:
        raise ValueError(f"samples: expected a rise after {events // 4:,} messages, found {len(behind)} samples there")
    (begun, first), last = behind[0], behind[-1][1]
    ended = next(second for second, count in behind if count == last)
    return (last - first) / (ended - begun)


def follow(file: Path, scratch: Path, events: int) -> tuple[float, float, bool]:
    """Run the pipeline until it has read `events` messages: (messages a second, peak MB, whether there were no more).

    Raises SystemExit with the log's end where it does not get there.
    """
    port, log = free_port(), scratch / "ours.log"
    arguments, environment = rig.headrace_run(file, "", until_end=False)
    with tempfile.TemporaryDirectory(dir=scratch) as state:
        environment = {**environment, "HEADRACE_STATE_DIR": state}
        process = rig.start([*arguments, "--metrics-port", str(port)], log, environment)
        try:
            with MemoryProbe(process.pid) as memory:
                samples = _samples(f"http://127.0.0.1:{port}/{_PAGE}", events, lambda: process.poll() is None)
            if samples and samples[-1][1] >= events:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        finally:
            rig.kill_session(process)
        if process.returncode != 0:
            raise SystemExit(f"bench: headrace run ended with {process.returncode}:\n{log.read_text()[-4000:]}")
        return rate(samples, events), memory.peak_mb, rig.status_sum(Path(state), "events") == events


def _samples(url: str, events: int, lives: Callable[[], bool]) -> Samples:
    samples: Samples = []
    deadline = time.monotonic() + SECONDS_MAX
    while lives() and time.monotonic() < deadline and (not samples or samples[-1][1] < events):
        time.sleep(SAMPLE_SECONDS)
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                samples.append((time.monotonic(), counted(answer.read())))
        except (urllib.error.URLError, OSError):  # it starts
            continue
    return samples


def idle_partitions(items: int, pairs: int, processes: int) -> Result:
    """Messages a second beside idle partitions and alone; the ratio is the median over the pairs."""
    from connectors.kafka.topics import Producer, create_topics

    data = generate.cached(items)
    among: list[float] = []
    alone: list[float] = []
    memory, equal = 0.0, True
    with rig.broker() as broker, tempfile.TemporaryDirectory(prefix="headrace-bench-") as name:
        scratch = Path(name)
        create_topics(broker.servers, {ALONE: 1, AMONG_IDLE: PARTITIONS})
        producer = Producer(broker.servers, generate.PRODUCER)
        for topic in (ALONE, AMONG_IDLE):
            count = producer.write(topic, ((*line, 0) for line in generate.read(data / "items.tsv")))
        producer.flush(600)
        say(f"idle-partitions: {count:,} messages in one partition, alone and beside {PARTITIONS - 1} idle ones")
        files = {
            topic: rig.pipeline(scratch / topic, broker.servers, {"items": ("items", None, topic)}, sink="null")
            for topic in (ALONE, AMONG_IDLE)
        }
        for pair in range(pairs):
            # the order changes, so that neither always runs on the warmer caches
            for topic in (ALONE, AMONG_IDLE) if pair % 2 == 0 else (AMONG_IDLE, ALONE):
                found, peak_mb, whole = follow(files[topic], scratch, count)
                (alone if topic == ALONE else among).append(found)
                memory, equal = max(memory, peak_mb), equal and whole
            say(f"  pair {pair + 1} beside idle ones {among[-1]:9,.0f}, alone {alone[-1]:9,.0f} messages/s")
        kind = rig.broker_name(broker)
    ratios = [ours / theirs for ours, theirs in zip(among, alone, strict=True)]
    return Result(
        "idle-partitions",
        statistics.median(among),
        "messages/s",
        f"the same partition alone; at least {AIM} is wanted; {kind}",
        statistics.median(alone),
        statistics.median(ratios),
        memory,
        equal,
    )
