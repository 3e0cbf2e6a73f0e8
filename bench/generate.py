"""The workload into files and Kafka topics: the same arguments give the same bytes on every machine.

    python -m bench.generate OUT N_ITEMS [hard]

writes OUT/{customers,orders,items}.tsv, one `key<TAB>value` a line, in log order per table; bench/workload.py says what
is in them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.workload import TABLES, VERSION, events
from connectors.kafka.topics import Producer, create_topics

PRODUCER: dict[str, str | int | float | bool] = {
    "partitioner": "murmur2_random",
    "queue.buffering.max.messages": 200_000,
    "compression.type": "none",
}

Form = Callable[[bytes, bytes], tuple[bytes, bytes]]
"""From a key and a value to the key and the value of another form of the same message."""


def write(directory: Path, items: int, hard: bool = False) -> None:
    """Write DIRECTORY/{customers,orders,items}.tsv. Raises ValueError for fewer than 40 items."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        put: dict[str, Callable[[str], int]] = {}
        for table in TABLES:
            path = directory / f"{table}.tsv"
            put[table] = stack.enter_context(path.open("w", encoding="utf-8", newline="\n", buffering=1 << 20)).write
        for table, key, value in events(items, hard):
            put[table](f"{key}\t{value}\n")


def cache_root() -> Path:
    """Where the measures keep what is made once: HEADRACE_CACHE, default ~/.cache/headrace."""
    return Path(os.environ.get("HEADRACE_CACHE") or Path.home() / ".cache" / "headrace")


def cached(items: int, hard: bool = False) -> Path:
    """The directory with that workload's files, written at the first call.

    It lies under cache_root(), named by all that decides the bytes; a million items take 0.8 GB.
    """
    root = cache_root()
    directory = root / f"workload-{VERSION}-{items}{'-hard' if hard else ''}"
    if not directory.exists():
        root.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f"{directory.name}.", dir=root))
        try:
            write(fresh, items, hard)
            fresh.chmod(0o755)
            # the rename makes it whole or absent; another process that was faster wrote the same bytes
            fresh.rename(directory)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            if not directory.exists():
                raise
    return directory


def read(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of every line of a file that write() made."""
    with open(path, "rb", buffering=1 << 20) as file:
        for line in file:
            key, _, value = line.rstrip(b"\n").partition(b"\t")
            yield key, value


def produce(
    servers: str,
    directory: Path,
    topics: Mapping[str, str],
    partitions: int,
    settings: Mapping[str, str] | None = None,
    form: Form | None = None,
) -> dict[str, int]:
    """Create a topic for each table and fill it from write()'s files: {table: topic} -> {topic: messages}.

    A key always goes into the same partition (murmur2, as the Java client does), and the order within a partition is
    the log's. `settings` are the topics'; `form` makes other messages for a peer that needs them. Raises TransientError
    where the broker refuses.
    """
    create_topics(servers, dict.fromkeys(topics.values(), partitions), settings=settings)
    producer = Producer(servers, PRODUCER)
    counts = {}
    for table, topic in topics.items():
        lines = read(directory / f"{table}.tsv")
        counts[topic] = producer.write(topic, lines if form is None else (form(key, value) for key, value in lines))
    producer.flush()
    return counts


def main(arguments: list[str]) -> int:
    """The command line of this module; the exit code."""
    if len(arguments) not in (2, 3) or arguments[2:] not in ([], ["hard"]):
        print("usage: python -m bench.generate OUT N_ITEMS [hard]", file=sys.stderr)
        return 2
    write(Path(arguments[0]), int(arguments[1]), arguments[2:] == ["hard"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
