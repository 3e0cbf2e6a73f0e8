"""Questions to the cluster that wait for an answer: partitions, watermarks, offsets of a moment; at the start."""

from __future__ import annotations

import re
from typing import Any

import structlog

from connectors.base import retry
from connectors.kafka.config import KafkaConfig, StartOffset, StartTimestamp
from libcore.errors import ConfigurationError, HeadraceError, TransientError

_ANSWER_S, _AGAIN_S = 5.0, 0.5
TOPIC_WAIT_S = 5.0  # a topic made a moment ago may not be known to every broker
_PROPERTY = re.compile(r'property "([^"]+)"')

_log = structlog.get_logger()


class _NotThere(TransientError):
    """The cluster answers, and does not know the topic, or not yet."""


class ClientLog:
    """What confluent-kafka logs to, in place of the standard error stream: the flow's own log."""

    def log(self, level: int, text: str, *arguments: object) -> None:
        """A line of librdkafka, as logging.Logger.log takes it."""
        _log.log(level, "kafka client", line=text % arguments if arguments else text)


def new_consumer(properties: dict[str, Any]) -> Any:
    """A confluent_kafka.Consumer. Raises ConfigurationError that names a refused property, never its value."""
    from confluent_kafka import Consumer, KafkaException

    try:
        return Consumer(properties, logger=ClientLog())
    except KafkaException as error:
        name = _PROPERTY.search(str(error))
        text = f"refuses the name or the value of property {name[1]}" if name else "refuses the properties"
    raise ConfigurationError(f"source.kafka: librdkafka {text}")


class Cluster:
    """One client for such questions; closed when the source is.

    Args:
        config: where the cluster is; connect_s_max bounds the wait for it.
    """

    def __init__(self, config: KafkaConfig) -> None:
        self._config = config
        self._refusal = ""
        self._wait_s, self._answer_s = config.connect_s_max, min(_ANSWER_S, config.connect_s_max)
        self._consumer = new_consumer(config.client_properties(1) | {"error_cb": self._failed})

    def _failed(self, error: Any) -> None:
        from confluent_kafka import KafkaError

        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED):
            self._refusal = error.str()

    def partitions(self, topic: str) -> list[int]:
        """The topic's partition numbers. Raises ConfigurationError where it does not exist, TransientError."""

        def known() -> list[int]:
            metadata = self._ask(
                f"partitions of {topic}", lambda: self._consumer.list_topics(topic, timeout=self._answer_s)
            )
            found = metadata.topics.get(topic)
            if found is None or found.error is not None or not found.partitions:
                code, text = (
                    (found.error.code(), found.error.str())
                    if found is not None and found.error is not None
                    else (3, "not there")
                )
                if code == _code("TOPIC_AUTHORIZATION_FAILED"):
                    raise ConfigurationError(f"topic {topic}: {text}; the user needs READ and DESCRIBE on it")
                raise _NotThere(f"topic {topic}: {text}")
            return sorted(found.partitions)

        try:
            return retry.call(f"find topic {topic}", known, total_s=TOPIC_WAIT_S)
        except _NotThere as error:
            raise ConfigurationError(
                f"{error}; expected it at {self._config.servers}: create it or correct its name"
            ) from error

    def topics(self) -> dict[str, int]:
        """Partition count by topic, of all topics the user may see."""
        metadata = self._ask("topics", lambda: self._consumer.list_topics(timeout=self._answer_s))
        return {name: len(found.partitions) for name, found in metadata.topics.items() if found.error is None}

    def watermarks(self, topic: str, partition: int) -> tuple[int, int]:
        """(lowest offset there is, offset of the next message) now."""
        from confluent_kafka import TopicPartition

        place = TopicPartition(topic, partition)
        low, high = self._ask(
            f"watermarks of {topic}/{partition}",
            lambda: self._consumer.get_watermark_offsets(place, timeout=self._answer_s),
        )
        return low, high

    def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        """Offset of the first message at or after that moment, None where all are older."""
        from confluent_kafka import TopicPartition

        asked = [TopicPartition(topic, partition, timestamp_ms)]
        found = self._ask(
            f"offset by time of {topic}/{partition}",
            lambda: self._consumer.offsets_for_times(asked, timeout=self._answer_s),
        )
        if found[0].error is not None:
            raise TransientError(f"{topic}/{partition}: offset by time: {found[0].error.str()}")
        return found[0].offset if found[0].offset >= 0 else None

    def first_offset(self, topic: str, partition: int, *, resumed_topic: bool) -> int:
        """Where a partition without a position begins.

        Args:
            resumed_topic: other partitions of the topic have a position: this one is new, so all of it was written
                after the flow began, and it begins at its first message whatever `start` says.
        Raises: ConfigurationError where start = {offset} is no longer in the partition and on_gap is "stop".
        """
        low, high = self.watermarks(topic, partition)
        start = "earliest" if resumed_topic else self._config.start
        if isinstance(start, StartOffset):
            return start.offset if start.offset >= low else self.over_gap(topic, partition, start.offset, low, high)
        if isinstance(start, StartTimestamp):
            offset = self.offset_at(topic, partition, start.timestamp_ms)
            return high if offset is None else offset
        return low if start == "earliest" else high

    def resumed_offset(self, topic: str, partition: int, offset: int) -> int:
        """Where a partition goes on whose position is `offset`: there, or where on_gap says if retention took it.

        An offset beyond the end (a topic made anew) shows at the first fetch only: the answer here may be older.
        Raises: ConfigurationError for on_gap = "stop".
        """
        low, high = self.watermarks(topic, partition)
        return offset if offset >= low else self.over_gap(topic, partition, offset, low, high)

    def over_gap(self, topic: str, partition: int, offset: int, low: int, high: int) -> int:
        """What on_gap says about an offset that the broker refuses; the offset itself where it is there after all.

        Raises: ConfigurationError (logged) for on_gap = "stop", with the offsets and the ways out.
        """
        if low <= offset <= high:
            return offset
        if offset < low:
            what = (
                f"{low - offset} messages from offset {offset} on are gone (retention): the topic now begins at {low}"
            )
        else:
            what = f"offset {offset} is not there: the topic ends at {high}, so it was made anew or lost its tail"
        place = f"{topic}/{partition}"
        if self._config.on_gap == "stop":
            _log.error("gap in the topic", topic=topic, partition=partition, offset=offset, low=low, high=high)
            raise ConfigurationError(
                f"{place}: {what}. Rows may be missing in the target: load it anew, "
                'or accept the loss with on_gap = "earliest" (or "latest")'
            )
        chosen = low if self._config.on_gap == "earliest" else high
        _log.warning(
            "gap in the topic accepted",
            topic=topic,
            partition=partition,
            offset=offset,
            low=low,
            high=high,
            next=chosen,
        )
        return chosen

    def close(self) -> None:
        """Ends the client."""
        self._consumer.close()

    def _ask(self, what: str, question: Any) -> Any:
        from confluent_kafka import KafkaException

        def once() -> Any:
            try:
                self._consumer.poll(0)  # serves error_cb
                return question()
            except KafkaException as error:
                self._consumer.poll(0)
                raise self._meaning(what, error.args[0]) from error

        try:
            answer = retry.call(what, once, total_s=self._wait_s)
        except TransientError:
            # the next question, for another partition, is asked once: other sources of the worker wait for its answer
            self._wait_s, self._answer_s = 0.0, min(_AGAIN_S, self._config.connect_s_max)
            raise
        self._wait_s, self._answer_s = self._config.connect_s_max, min(_ANSWER_S, self._config.connect_s_max)
        return answer

    def _meaning(self, what: str, error: Any) -> HeadraceError:
        place = f"source.kafka at {self._config.servers}: {what}"
        if self._refusal:
            return ConfigurationError(f"{place}: {self._refusal}; check security.protocol, sasl.* and ssl.*")
        if error.code() in (_code("TOPIC_AUTHORIZATION_FAILED"), _code("CLUSTER_AUTHORIZATION_FAILED")):
            return ConfigurationError(f"{place}: {error.str()}")
        return TransientError(f"{place}: {error.str()}")


def _code(name: str) -> int:
    from confluent_kafka import KafkaError

    return int(getattr(KafkaError, name))
