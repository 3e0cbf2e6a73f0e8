"""A change stream recorded from a real Debezium, brought into topics as it was: same partitions, same order.

One JSON object a line: topic, partition, offset, key, value (texts, or null). Offsets start at 0 anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RECORDINGS = Path(__file__).resolve().parents[1] / "tests" / "golden" / "debezium"
"""sp.ndjson: messages with their schema part; ns.ndjson: without. The SQL that made them lies beside."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One message."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


def read(path: Path) -> Iterator[Recorded]:
    """The messages of a recording, in their order. Raises OSError where the file is missing."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            message = json.loads(line)
            key, value = (None if text is None else text.encode() for text in (message["key"], message["value"]))
            yield Recorded(message["topic"], message["partition"], key, value)


def produce(servers: str, path: Path) -> dict[str, int]:
    """Make the recording's topics and fill them; message count by topic. Raises TransientError for what is refused."""
    from connectors.kafka.topics import Producer, create_topics

    messages = list(read(path))
    partitions: dict[str, int] = {}
    counts: dict[str, int] = {}
    for message in messages:
        partitions[message.topic] = max(partitions.get(message.topic, 1), message.partition + 1)
        counts[message.topic] = counts.get(message.topic, 0) + 1
    create_topics(servers, partitions)
    producer = Producer(servers)
    for message in messages:
        producer.write(message.topic, [(message.key, message.value, message.partition)])
    producer.flush()
    return counts
