"""The Kafka source against Apache Kafka, where Java is: retention gaps, start by time, a broker killed and back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.kafka.topics import create_topics, produce
from control.embedded import ApacheKafka
from libcore.errors import ConfigurationError
from tests.connectors.conftest import READERS
from tests.connectors.kafka_parts import epochs, partition, source, texts, until

# Tansu neither deletes records nor refuses an offset, so these claims need the original; conftest.py leaves the module
# out where there is no Java.
pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture(scope="module")
def kafka() -> Iterator[ApacheKafka]:
    """One Apache Kafka for this module; it keeps its log on disk."""
    with ApacheKafka() as broker:
        yield broker


@pytest.fixture
def cut_topic(kafka: ApacheKafka, reader: str, request: pytest.FixtureRequest) -> str:
    """A topic of 100 texts whose first 40 are gone."""
    name = f"cut-{abs(hash(request.node.name))}"
    create_topics(kafka.servers, {name: 1})
    produce(kafka.servers, name, [(b"k", str(number).encode(), 0) for number in range(100)])
    delete_before(kafka, name, 40)
    return name


def delete_before(kafka: ApacheKafka, name: str, offset: int) -> None:
    """What retention does."""
    client = AdminClient({"bootstrap.servers": kafka.servers})
    for answer in client.delete_records([TopicPartition(name, 0, offset)]).values():
        answer.result(30)


def read_all(made: Any, name: str, state: Any) -> list[str]:
    """All texts to the end."""
    with partition(made, f"{name}/0", state) as part:
        return [text for items, _ in epochs(part) for text in texts(items)]


def test_a_retention_gap_is_refused(kafka: ApacheKafka, cut_topic: str, reader: str) -> None:
    """A position that retention has passed stops the start and names what is lost and the ways out."""
    with (
        pytest.raises(ConfigurationError, match=r"30 messages from offset 10 on are gone .*on_gap = \"earliest\""),
        partition(source(kafka.servers, [cut_topic], reader=reader), f"{cut_topic}/0", (1, 10, 0)),
    ):
        pass
    assert read_all(source(kafka.servers, [cut_topic], reader=reader, until_end=True), cut_topic, (1, 40, 0))[0] == "40"


def test_on_gap_goes_on_where_it_says(kafka: ApacheKafka, cut_topic: str, reader: str) -> None:
    """on_gap "earliest" goes on at the first message left, "latest" at the end."""
    made = source(kafka.servers, [cut_topic], reader=reader, until_end=True, on_gap="earliest")
    assert read_all(made, cut_topic, (1, 10, 0)) == [str(number) for number in range(40, 100)]
    made = source(kafka.servers, [cut_topic], reader=reader, until_end=True, on_gap="latest")
    assert read_all(made, cut_topic, (1, 10, 0)) == []


def test_a_position_beyond_the_end_is_a_gap(kafka: ApacheKafka, cut_topic: str, reader: str) -> None:
    """A topic made anew ends before the position: refused in the running flow, or gone on with as on_gap says."""
    with (
        pytest.raises(ConfigurationError, match=r"offset 5000 is not there: the topic ends at 100"),
        partition(source(kafka.servers, [cut_topic], reader=reader), f"{cut_topic}/0", (1, 5000, 0)) as part,
    ):
        until(part, lambda items: len(items) > 0)
    made = source(kafka.servers, [cut_topic], reader=reader, on_gap="earliest")
    with partition(made, f"{cut_topic}/0", (1, 5000, 0)) as part:
        items, state = until(part, lambda items: len(texts(items)) == 60)
    assert texts(items)[0] == "40"
    assert state[1] == 100


def test_a_gap_that_opens_in_mid_stream_is_seen(kafka: ApacheKafka, reader: str) -> None:
    """Messages deleted in front of a running flow, before it fetched them, stop it by name."""
    name = f"mid-{reader}"
    create_topics(kafka.servers, {name: 1})
    produce(kafka.servers, name, [(b"k", b"x" * 100_000, 0) for _ in range(100)])
    made = source(kafka.servers, [name], reader=reader, queued_bytes_max=1 << 20, batch_rows_max=2)
    with partition(made, f"{name}/0") as part:
        until(part, lambda items: len(texts(items)) >= 2)
        delete_before(kafka, name, 100)
        with pytest.raises(ConfigurationError, match=r"messages from offset \d+ on are gone \(retention\)"):
            until(part, lambda items: len(texts(items)) == 100)


def test_start_by_time_and_at_the_end(kafka: ApacheKafka, reader: str) -> None:
    """start = {timestamp} begins at the first message written then or later, latest at the end."""
    name = f"time-{reader}"
    create_topics(kafka.servers, {name: 1})
    produce(kafka.servers, name, [(b"k", b"before", 0)])
    with partition(source(kafka.servers, [name], reader=reader), f"{name}/0") as part:
        items, _ = until(part, lambda items: len(texts(items)) == 1)
    moment = items[0].record.num_rows
    assert moment == 1
    for start, expected in (
        ({"timestamp": "2001-01-01T00:00:00Z"}, ["before"]),
        ({"timestamp": "2100-01-01T00:00:00"}, []),
        ("latest", []),
    ):
        made = source(kafka.servers, [name], reader=reader, start=start, until_end=True)
        assert read_all(made, name, None) == expected


def test_a_killed_broker_comes_back(kafka: ApacheKafka) -> None:
    """kill -9 of the broker in mid-stream: the flow waits, reconnects by itself, and no message is lost or doubled."""
    create_topics(kafka.servers, {"killed": 1})
    produce(kafka.servers, "killed", [(b"k", str(number).encode(), 0) for number in range(300)])

    def enough(count: int) -> Callable[[list[Any]], bool]:
        return lambda items: len(texts(items)) >= count

    with contextlib.ExitStack() as stack:
        parts = {
            kind: stack.enter_context(
                partition(source(kafka.servers, ["killed"], reader=kind, batch_rows_max=50), "killed/0")
            )
            for kind in READERS
        }
        got = {kind: texts(until(part, enough(100))[0]) for kind, part in parts.items()}
        kafka.kill()
        for kind, part in parts.items():
            got[kind] += [text for _, (items, _) in zip(range(10), epochs(part), strict=False) for text in texts(items)]
        kafka.start()
        produce(kafka.servers, "killed", [(b"k", str(number).encode(), 0) for number in range(300, 320)])
        for kind, part in parts.items():
            got[kind] += texts(until(part, enough(320 - len(got[kind])))[0])
    assert got == {kind: [str(number) for number in range(320)] for kind in READERS}
