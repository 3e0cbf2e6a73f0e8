"""Read Kafka topics: one source partition a topic partition, offsets kept by Bytewax's recovery store.

A call of next_batch takes what librdkafka has queued, at most batch_rows_max messages, and never waits: one worker
serves all its partitions in turn, so a partition that waits stops all others. With an epoch interval of 0 each call is
an epoch. While the cluster is away librdkafka reconnects with backoff, next_batch brings nothing, the lag is shown.

State of a partition: (1, next offset, decoder state).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.base import stop
from connectors.base.items import Item, Marker, Truncate
from connectors.base.metrics import LAG_MS, LAG_OFFSETS
from connectors.base.source import Decoder, Pacing
from connectors.kafka.cluster import Cluster
from connectors.kafka.config import BATCH_BYTES_MAX, KafkaConfig
from connectors.kafka.reader import KafkaReadError, Reader, ReaderFactory, reader_factory
from libcore.errors import ConfigurationError, FatalError

STATE_VERSION = 1
DecoderFactory = Callable[[str, int, object | None], Decoder]
"""(topic, partition, the state of a former decoder or None) -> a decoder."""

# librdkafka error numbers, by what they ask for; all others pass by themselves.
_GAP = {-140, 1}  # _AUTO_OFFSET_RESET, OFFSET_OUT_OF_RANGE
_REFUSED = {3, -188, -190, 29, 31, 58, -169}  # no such topic or partition, not authorized, not authenticated
_BROKEN = {-199, -198, -150, 87, 2}  # bad message, bad compression, fatal, invalid record, corrupt message

_BEAT_S = 1.0
_log = structlog.get_logger()


class KafkaSource(FixedPartitionedSource[Item, tuple[Any, ...]]):
    """Topics as a Bytewax source of Items.

    Args:
        config: the cluster, where to begin, bounds.
        topics: topic names; each must exist.
        decoder_factory: makes a partition's decoder.
        until_end: end at the high watermarks that the first fetch of each partition tells, instead of following it.
        known_topics: topics that the flow has read before. A partition of theirs without a position is new and begins
            at its first message. Topics of which this worker resumes a partition count as known by themselves.
        beating: topics whose idle partitions bring a Tick a second, for a step that watches time.
        prefix: in front of topics' names in metrics: the name of a source that is one of several, and a dot.
    """

    def __init__(
        self,
        config: KafkaConfig,
        topics: Sequence[str],
        decoder_factory: DecoderFactory,
        until_end: bool = False,
        known_topics: Collection[str] = (),
        beating: Collection[str] = (),
        prefix: str = "",
    ) -> None:
        if repeated := sorted({topic for topic in topics if list(topics).count(topic) > 1}):
            raise ConfigurationError(f"source.kafka: topic {repeated[0]} is read twice by one source")
        self._config, self._topics, self._decoder_factory = config, tuple(topics), decoder_factory
        self._until_end, self._known, self._beating = until_end, set(known_topics), frozenset(beating)
        self._prefix = prefix
        self._cluster: Cluster | None = None
        self._readers: ReaderFactory | None = None
        self._partition_count = 0
        self._open_count = 0

    def list_parts(self) -> list[str]:
        """ "topic/partition" of every partition there is now; new ones are found at a restart."""
        with _Logged("list partitions"):
            parts = [f"{topic}/{number}" for topic in self._topics for number in self._ask().partitions(topic)]
        self._partition_count = len(parts)
        return parts

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> KafkaPartition:
        """A partition that goes on where `resume_state` says, or begins where the configuration says."""
        topic, _, number = for_part.rpartition("/")
        with _Logged("open partition", step=step_id, part=for_part):
            partition = self._build(topic, int(number), resume_state)
        return partition

    def _build(self, topic: str, number: int, resume_state: tuple[Any, ...] | None) -> KafkaPartition:
        cluster = self._ask()
        offset, decoder_state = _unpacked(topic, number, resume_state)
        if offset is None:
            offset = cluster.first_offset(topic, number, resumed_topic=topic in self._known)
        else:
            self._known.add(topic)
            offset = cluster.resumed_offset(topic, number, offset)
        if self._readers is None:
            self._readers = reader_factory(self._config, max(1, self._partition_count))
            _log.info("kafka source", reader=self._readers.kind, partitions=self._partition_count)
        reader = self._readers.open(topic, number, offset)
        self._open_count += 1
        return KafkaPartition(
            topic=topic,
            number=number,
            config=self._config,
            cluster=cluster,
            reader=reader,
            decoder=self._decoder_factory(topic, number, decoder_state),
            next_offset=offset,
            until_end=self._until_end,
            closed=self._closed,
            beat_s=_BEAT_S if topic in self._beating else 0.0,
            prefix=self._prefix,
        )

    def _ask(self) -> Cluster:
        if self._cluster is None:
            self._cluster = Cluster(self._config)
        return self._cluster

    def _closed(self) -> None:
        self._open_count -= 1
        if self._open_count == 0:
            if self._readers is not None:
                self._readers.close()
            self._ask().close()
            self._readers = self._cluster = None


class KafkaPartition(StatefulSourcePartition[Item, tuple[Any, ...]]):
    """One topic partition inside a worker. Made by KafkaSource."""

    def __init__(
        self,
        *,
        topic: str,
        number: int,
        config: KafkaConfig,
        cluster: Cluster,
        reader: Reader,
        decoder: Decoder,
        next_offset: int,
        until_end: bool,
        closed: Callable[[], None],
        beat_s: float = 0.0,
        prefix: str = "",
    ) -> None:
        self._topic, self._number, self._cluster = topic, number, cluster
        self._reader, self._decoder, self._closed = reader, decoder, closed
        self._pacing = Pacing(config.batch_rows_max, beat_s=beat_s, partition=f"{topic}/{number}")
        self._next_offset, self._until_end = next_offset, until_end
        self._end_offset: int | None = None  # until_end: where to stop, once known
        self._decoder_state: object = decoder.state  # as of _next_offset
        self._queued: pa.RecordBatch | None = None  # taken from the reader, not yet decoded
        self._held: tuple[list[Item], int, int, object] | None = None  # decoded, waits for an epoch of its own
        self._newest_ms = -1
        self._high = -1  # the partition's next offset as last told by the broker
        self._lag_offsets = LAG_OFFSETS.labels(prefix + topic, str(number))
        self._lag_ms = LAG_MS.labels(prefix + topic, str(number))

    def next_batch(self) -> list[Item]:
        """Items of one epoch, or none; StopIteration after the end."""
        with _Logged("read", topic=self._topic, partition=self._number, offset=self._next_offset):
            if stop.requested() or self._at_end():
                return self._pacing.ending()
            items = self._step()
            self._show_lag()
            return items

    def next_awake(self) -> datetime | None:
        """See Pacing.next_awake."""
        return self._pacing.next_awake()

    def snapshot(self) -> tuple[Any, ...]:
        """(1, next offset, decoder state); closes the epoch."""
        self._pacing.closed()
        return (STATE_VERSION, self._next_offset, self._decoder_state)

    def close(self) -> None:
        """Gives the reader back, and the shared client with the last one."""
        self._reader.close()
        self._closed()

    def _at_end(self) -> bool:
        if not self._until_end:
            return False
        if self._end_offset is None:
            # Told with the first fetch. Not asked for: a broker's answer to that question may be older, or wrong
            # (Tansu counts a batch as one message).
            _, high = self._reader.watermarks()
            if high < 0:
                return False
            self._end_offset = high
        return self._next_offset >= self._end_offset

    def _step(self) -> list[Item]:
        room = self._pacing.room
        if room == 0 or (self._held is not None and not self._pacing.fresh):
            return self._pacing.idle()
        if self._held is not None:
            return self._release()
        if self._queued is None:
            self._queued = self._poll(room)
            if self._queued is None:
                return self._pacing.idle()
        messages = self._queued.slice(0, room)
        items, consumed = self._decoder.decode(messages)
        assert 0 < consumed <= messages.num_rows, (consumed, messages.num_rows)
        next_offset = messages.column("offset")[consumed - 1].as_py() + 1
        self._newest_ms = messages.column("timestamp_ms")[consumed - 1].as_py()
        self._queued = self._queued.slice(consumed) if consumed < self._queued.num_rows else None
        self._held = (items, consumed, next_offset, self._decoder.state)
        if any(isinstance(item, Marker) for item in items) and not self._pacing.fresh:
            return self._pacing.idle()
        return self._release()

    def _release(self) -> list[Item]:
        assert self._held is not None
        items, count, self._next_offset, self._decoder_state = self._held
        self._held = None
        if not items:
            return self._pacing.nothing(count)
        return self._pacing.rows(items, count, alone=any(isinstance(item, Truncate) for item in items))

    def _poll(self, room: int) -> pa.RecordBatch | None:
        try:
            messages = self._reader.poll(room, BATCH_BYTES_MAX)
        except KafkaReadError as error:
            self._handle(error)
            return None
        if messages is None:
            # Nothing is queued and the end was reached: transaction marks before it are passed, too.
            self._next_offset = max(self._next_offset, self._reader.end_offset)
            return None
        if self._end_offset is not None and messages.column("offset")[-1].as_py() >= self._end_offset:
            within = pc.sum(pc.less(messages.column("offset"), self._end_offset)).as_py()
            self._next_offset = self._end_offset if within == 0 else self._next_offset
            return messages.slice(0, within) if within else None
        return messages

    def _handle(self, error: KafkaReadError) -> None:
        place = f"{self._topic}/{self._number}"
        if error.code in _GAP:
            low, high = self._cluster.watermarks(self._topic, self._number)
            self._next_offset = self._cluster.over_gap(self._topic, self._number, self._next_offset, low, high)
            self._reader.seek(self._next_offset)
        elif error.code in _REFUSED:
            raise ConfigurationError(f"{place} at offset {self._next_offset}: {error}") from error
        elif error.code in _BROKEN:
            raise FatalError(f"{place} at offset {self._next_offset}: {error}") from error
        else:
            _log.warning("kafka", topic=self._topic, partition=self._number, offset=self._next_offset, error=str(error))

    def _show_lag(self) -> None:
        _, high = self._reader.watermarks()
        self._high = high if high >= 0 else self._high
        behind = max(0, self._high - self._next_offset)
        self._lag_offsets.set(behind)
        self._lag_ms.set(max(0.0, time.time() * 1000 - self._newest_ms) if behind and self._newest_ms >= 0 else 0.0)


class _Logged:
    """Logs what leaves the block as an error, with its place: in a cluster Bytewax loses the exception's text."""

    def __init__(self, doing: str, **place: object) -> None:
        self._doing, self._place = doing, place

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            _log.error("source failed", doing=self._doing, error=f"{type(error).__name__}: {error}", **self._place)


def _unpacked(topic: str, number: int, state: tuple[Any, ...] | None) -> tuple[int | None, object | None]:
    if state is None:
        return None, None
    if state[0] != STATE_VERSION or len(state) != 3:
        raise ConfigurationError(
            f"{topic}/{number}: expected recovery state of version {STATE_VERSION}, found {state[0]!r}: "
            "it was written by another version of headrace"
        )
    return state[1], state[2]


def list_topics(config: KafkaConfig) -> dict[str, int]:
    """Partition count by topic, of all topics the user may see. Raises TransientError, ConfigurationError."""
    cluster = Cluster(config)
    try:
        return cluster.topics()
    finally:
        cluster.close()
