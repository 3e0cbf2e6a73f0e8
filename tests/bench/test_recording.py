"""A recording comes out of the broker as it was written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.recording import RECORDINGS, Recorded, produce, read


@pytest.mark.parametrize("name", ["sp", "ns"])
def test_the_recordings_are_whole(name: str) -> None:
    """Both recordings hold the same tables, deletes, tombstones and the two partitions of the source's topics."""
    messages = list(read(RECORDINGS / f"{name}.ndjson"))
    assert {message.partition for message in messages} == {0, 1}
    assert any(message.value is None for message in messages)
    assert f"{name}.public.items" in {message.topic for message in messages}


def test_partitions_and_order_are_kept(broker: str, tmp_path: Path) -> None:
    """Each partition gives back its messages in their order, NULL values included."""
    from confluent_kafka import Consumer, TopicPartition

    sent = [Recorded("recorded.a", number % 2, b"k", None if number == 3 else b"%d" % number) for number in range(6)]
    lines = [
        {"topic": m.topic, "partition": m.partition, "key": "k", "value": m.value and m.value.decode()} for m in sent
    ]
    (tmp_path / "r.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    assert produce(broker, tmp_path / "r.ndjson") == {"recorded.a": 6}
    for partition in (0, 1):
        consumer = Consumer({"bootstrap.servers": broker, "group.id": "none", "enable.auto.commit": False})
        consumer.assign([TopicPartition("recorded.a", partition, 0)])
        values: list[bytes | None] = []
        while len(values) < 3:
            values += [message.value() for message in consumer.consume(3 - len(values), 1.0)]
        consumer.close()
        assert values == [message.value for message in sent if message.partition == partition]
