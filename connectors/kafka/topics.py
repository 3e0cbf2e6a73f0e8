"""Make topics and fill them: for demos, tests and benches; a pipeline itself never writes to its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from libcore.errors import TransientError

Message = tuple[bytes | None, bytes | None] | tuple[bytes | None, bytes | None, int]
"""Key, value and, where it matters, the partition."""

_ANSWER_SECONDS = 30.0
_QUEUE_FULL_WAIT_SECONDS = 0.05


def create_topics(servers: str, topics: Mapping[str, int], *, settings: Mapping[str, str] | None = None) -> None:
    """Create topics and wait until each is there.

    Args:
        servers: bootstrap servers, "host:port,...".
        topics: partition count by topic name.
        settings: topic settings, such as {"retention.ms": "-1"}, the same for all.
    Raises: TransientError with the broker's text, also where a topic exists already.
    """
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    wanted = [NewTopic(name, count, 1, config=dict(settings or {})) for name, count in topics.items()]
    for name, answer in client.create_topics(wanted, operation_timeout=_ANSWER_SECONDS).items():
        try:
            answer.result(_ANSWER_SECONDS)
        except KafkaException as error:
            raise TransientError(f"topic {name}: {error.args[0].str()}") from error


def delete_topics(servers: str, names: Iterable[str]) -> None:
    """Delete topics and wait for the answer; TransientError with the broker's text where one is refused."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": servers, "log_level": 0})
    for name, answer in client.delete_topics(list(names), operation_timeout=_ANSWER_SECONDS).items():
        try:
            answer.result(_ANSWER_SECONDS)
        except KafkaException as error:
            raise TransientError(f"topic {name}: {error.args[0].str()}") from error


class Producer:
    """Writes messages into topics; `flush` waits until the broker has all of them.

    Args:
        servers: bootstrap servers, "host:port,...".
        settings: librdkafka settings that win over the ones here.
    """

    def __init__(self, servers: str, settings: Mapping[str, str | int | float | bool] | None = None) -> None:
        from confluent_kafka import Producer as Client

        defaults: dict[str, str | int | float | bool] = {
            "bootstrap.servers": servers,
            "linger.ms": 20,
            "batch.size": 1_000_000,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 262_144,
            # One request at a time: otherwise a retry may reorder two changes of one key.
            "max.in.flight.requests.per.connection": 1,
            "log_level": 0,
        }
        self._client = Client({**defaults, **(settings or {})})
        self._failures: list[str] = []

    def write(self, topic: str, messages: Iterable[Message]) -> int:
        """Queue messages for a topic and return how many; blocks while the client's queue is full.

        A message without a partition goes where the hash of its key says (librdkafka's default partitioner).
        """
        count = 0
        for message in messages:
            partition = message[2] if len(message) == 3 else -1
            self._queue(topic, message[0], message[1], partition)
            count += 1
            if count % 10_000 == 0:
                self._client.poll(0)
        return count

    def _queue(self, topic: str, key: bytes | None, value: bytes | None, partition: int) -> None:
        while True:
            try:
                self._client.produce(topic, value, key, partition, on_delivery=self._delivered)
                return
            except BufferError:
                self._client.poll(_QUEUE_FULL_WAIT_SECONDS)

    def _delivered(self, error: object, message: object) -> None:
        if error is not None:
            self._failures.append(str(error))

    def flush(self, seconds: float = 120.0) -> None:
        """Wait until the broker has every message; TransientError with the first failure otherwise."""
        left = self._client.flush(seconds)
        if self._failures:
            raise TransientError(f"{len(self._failures)} messages were refused, the first: {self._failures[0]}")
        if left:
            raise TransientError(f"{left} messages were not acknowledged within {seconds:.0f} s")


def produce(servers: str, topic: str, messages: Iterable[Message]) -> int:
    """Write messages into one topic, wait for the broker, and return how many there were."""
    producer = Producer(servers)
    count = producer.write(topic, messages)
    producer.flush()
    return count
