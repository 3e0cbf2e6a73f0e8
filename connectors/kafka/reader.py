"""Readers of one topic partition: what both have in common, which one serves, and the plain one.

The plain reader takes messages with confluent-kafka's consume(), an object a message; the C reader (c_reader.py) copies
them into Arrow buffers without the GIL. Same batches, same errors, same tests.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import pyarrow as pa

from connectors.base.source import RAW_SCHEMA
from connectors.kafka.cluster import new_consumer
from connectors.kafka.config import KafkaConfig

CONSUME_MESSAGES = 1000
"""Messages a call of consume(): measured fastest; 5,000 and more are slower."""
UNKNOWN_OFFSET = -1001
_EMPTY: tuple[int, int] = (UNKNOWN_OFFSET, UNKNOWN_OFFSET)


class KafkaReadError(Exception):
    """The client reported an error for the partition, after all messages before it were handed out.

    Args:
        code: librdkafka's error number (below 0: of the client, above: of the broker).
        offset: the offset it names, UNKNOWN_OFFSET where it names none.
        text: the client's sentence.
    """

    def __init__(self, code: int, offset: int, text: str) -> None:
        self.code, self.offset, self.text = code, offset, text
        super().__init__(f"{text} (librdkafka error {code})")


class Reader(Protocol):
    """Messages of one partition, in offset order. One thread at a time."""

    @property
    def end_offset(self) -> int:
        """The newest end of the partition that was reached: the offset after its last message, -1 where none yet."""

    def poll(self, rows_max: int, bytes_max: int) -> pa.RecordBatch | None:
        """What is queued, by RAW_SCHEMA, or None: at most that many messages and, unless one alone is larger, bytes.

        Never waits. Raises KafkaReadError for an error of the partition.
        """

    def watermarks(self) -> tuple[int, int]:
        """(lowest offset, next offset) as last told by the broker, without asking it; UNKNOWN_OFFSET where unknown."""

    def seek(self, offset: int) -> None:
        """Drop what is queued and go on at an offset."""

    def close(self) -> None:
        """Give everything back; waits for the client's threads."""


class ReaderFactory(Protocol):
    """Makes the readers of a worker; `kind` is "c" or "plain"."""

    kind: str

    def open(self, topic: str, partition: int, offset: int) -> Reader:
        """A reader that begins at that offset. Raises KafkaReadError."""

    def close(self) -> None:
        """After all its readers."""


def reader_factory(config: KafkaConfig, partitions: int) -> ReaderFactory:
    """The fastest factory that the build and the configuration allow.

    Args:
        partitions: how many readers the worker will have; they share queued_bytes_max.
    Raises: ConfigurationError where reader = "c" cannot be served.
    """
    from connectors.kafka import ahead, c_reader
    from libcore.errors import ConfigurationError

    missing = "a property is a Python callback" if config.needs_python else c_reader.missing()
    if config.reader == "c" and missing:
        raise ConfigurationError(f'source.kafka: reader = "c" cannot serve: {missing}')
    if config.reader == "plain" or missing:
        return PlainReaderFactory(config, partitions)
    factory = c_reader.CReaderFactory(config, partitions)
    # the plain readers hold the interpreter's lock: a thread of its own would gain them nothing
    return factory if partitions < ahead.PARTITIONS_MIN else ahead.AheadReaderFactory(factory, config)


class PlainReaderFactory:
    """Plain readers: one confluent-kafka Consumer a partition, because a Consumer has one queue for all of its own."""

    kind = "plain"

    def __init__(self, config: KafkaConfig, partitions: int) -> None:
        self._properties = config.client_properties(partitions)

    def open(self, topic: str, partition: int, offset: int) -> PlainReader:
        """A reader that begins at that offset."""
        return PlainReader(new_consumer(dict(self._properties)), topic, partition, offset)

    def close(self) -> None:
        """Nothing is shared."""


class PlainReader:
    """One partition through Consumer.assign and consume; nothing is committed."""

    def __init__(self, consumer: Any, topic: str, partition: int, offset: int) -> None:
        self._consumer, self._topic, self._partition = consumer, topic, partition
        self._held: deque[Any] = deque()
        self.end_offset = -1
        self._assign(offset)

    def _assign(self, offset: int) -> None:
        from confluent_kafka import TopicPartition

        self._consumer.assign([TopicPartition(self._topic, self._partition, offset)])

    def poll(self, rows_max: int, bytes_max: int) -> pa.RecordBatch | None:
        """See Reader.poll."""
        taken: list[Any] = []
        size = 0
        while len(taken) < rows_max:
            if not self._held and not self._fetch():
                break
            message = self._held[0]
            if message.error() is not None:
                if not taken:
                    self._held.popleft()
                    error = message.error()
                    offset = message.offset()
                    raise KafkaReadError(error.code(), UNKNOWN_OFFSET if offset is None else offset, error.str())
                break
            size += len(message)
            if taken and size > bytes_max:
                break
            taken.append(self._held.popleft())
        return _record(taken) if taken else None

    def _fetch(self) -> bool:
        from confluent_kafka import KafkaError

        messages = self._consumer.consume(CONSUME_MESSAGES, 0)
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self.end_offset = max(self.end_offset, message.offset())
            else:
                self._held.append(message)
        return bool(self._held)

    def watermarks(self) -> tuple[int, int]:
        """See Reader.watermarks."""
        from confluent_kafka import TopicPartition

        found = self._consumer.get_watermark_offsets(TopicPartition(self._topic, self._partition), cached=True)
        return _EMPTY if found is None else found

    def seek(self, offset: int) -> None:
        """See Reader.seek."""
        self._held.clear()
        self.end_offset = -1
        self._assign(offset)

    def close(self) -> None:
        """See Reader.close."""
        self._held.clear()
        self._consumer.close()


def _record(messages: list[Any]) -> pa.RecordBatch:
    times = [message.timestamp() for message in messages]
    columns = [
        pa.array([message.key() for message in messages], pa.binary()),
        pa.array([message.value() for message in messages], pa.binary()),
        pa.array([message.offset() for message in messages], pa.int64()),
        pa.array([milliseconds if kind else -1 for kind, milliseconds in times], pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=RAW_SCHEMA)
