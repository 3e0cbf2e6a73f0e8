"""Reads ahead of busy partitions into memory that all of a worker's partitions share.

librdkafka's queues have a bound each: 12 partitions within 64 MB have 5 MB each, used up in 10 ms by a busy one, which
then waits for the broker while its neighbours' shares lie unused (0.57 of its rate alone; with 10 MB each 0.79). So a
thread empties the queues of partitions that bring messages, while the worker is busy with the batch before. A partition
without news costs it nothing.
"""

from __future__ import annotations

import threading
from collections import deque

import pyarrow as pa

from connectors.kafka.config import KafkaConfig
from connectors.kafka.reader import Reader, ReaderFactory

PARTITIONS_MIN = 5
"""Fewer have 16 MB each of librdkafka's, as much as an epoch takes: there the copies cost more than they bring."""
BYTES_MAX = 40 << 20
"""What is read ahead at most, all partitions together; with librdkafka's queues below 128 MB."""
_CHUNK_ROWS, _CHUNK_BYTES = 8_192, 4 << 20
_PAUSE_S = 0.002  # between two looks at empty queues
_LOOKS_MAX = 20  # at an empty queue, before its partition counts as idle: longer than a fetch takes


class AheadReaderFactory:
    """Readers of another factory, read ahead; see connectors.kafka.reader.ReaderFactory."""

    def __init__(self, inner: ReaderFactory, config: KafkaConfig) -> None:
        self._inner, self._ahead = inner, ReadAhead(min(BYTES_MAX, config.queued_bytes_max))
        self.kind = inner.kind

    def open(self, topic: str, partition: int, offset: int) -> AheadReader:
        """See ReaderFactory.open."""
        return AheadReader(self._inner.open(topic, partition, offset), self._ahead)

    def close(self) -> None:
        """See ReaderFactory.close."""
        self._ahead.close()
        self._inner.close()


class ReadAhead:
    """The thread of one worker, and how much its readers hold. It begins with the first busy reader."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self._busy: list[AheadReader] = []
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def busy(self, reader: AheadReader) -> None:
        """This reader brings messages: fill it."""
        with self._changed:
            if reader in self._busy or self._closed.is_set():
                return
            self._busy.append(reader)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kafka-read-ahead", daemon=True)
                self._thread.start()

    def idle(self, reader: AheadReader) -> None:
        """Leave this reader alone."""
        with self._changed:
            if reader in self._busy:
                self._busy.remove(reader)

    def holds(self, size: int) -> None:
        """So many bytes more are held; below 0: fewer."""
        with self._changed:
            self._bytes += size
            if size < 0:
                self._changed.notify()

    def close(self) -> None:
        """End the thread; before the readers' client is closed."""
        self._closed.set()
        with self._changed:
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._closed.is_set() or (self._busy and self._bytes < self._bytes_max))
                readers = list(self._busy)
            found = 0
            for reader in readers:
                found += self._bytes < self._bytes_max and reader.fill()
            if not found:
                self._closed.wait(_PAUSE_S)


class AheadReader:
    """A Reader that takes from another one, part of it beforehand; see connectors.kafka.reader.Reader.

    Args:
        inner: used by this one alone, under its lock.
        ahead: the thread that fills it.
    """

    def __init__(self, inner: Reader, ahead: ReadAhead) -> None:
        self._inner, self._ahead = inner, ahead
        self._lock = threading.Lock()
        self._chunks: deque[tuple[pa.RecordBatch, int]] = deque()  # and the bytes that the whole of it holds
        self._error: Exception | None = None  # raised behind the chunks
        self._looks = 0
        self._closed = False
        self.end_offset = -1

    def poll(self, rows_max: int, bytes_max: int) -> pa.RecordBatch | None:
        """See Reader.poll; a batch holds more than `bytes_max` where that is less than one chunk."""
        with self._lock:
            if self._chunks:
                return self._taken(rows_max, bytes_max)
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            messages = self._inner.poll(rows_max, bytes_max)
            self.end_offset = self._inner.end_offset  # all before it was handed out
        if messages is not None:
            self._ahead.busy(self)
        return messages

    def _taken(self, rows_max: int, bytes_max: int) -> pa.RecordBatch:
        taken: list[pa.RecordBatch] = []
        rows = size = freed = 0
        while self._chunks and rows < rows_max:
            whole, held = self._chunks[0]
            chunk = whole.slice(0, rows_max - rows)
            if taken and size + chunk.nbytes > bytes_max:
                break
            taken.append(chunk)
            rows, size = rows + chunk.num_rows, size + chunk.nbytes
            self._chunks.popleft()
            if chunk.num_rows < whole.num_rows:
                self._chunks.appendleft((whole.slice(chunk.num_rows), held))
            else:
                freed += held
        self._ahead.holds(-freed)
        return taken[0] if len(taken) == 1 else pa.concat_batches(taken)

    def fill(self) -> bool:
        """Take a chunk beforehand; whether there was one. Called by the thread."""
        with self._lock:
            if self._closed or self._error is not None:
                self._ahead.idle(self)
                return False
            try:
                chunk = self._inner.poll(_CHUNK_ROWS, _CHUNK_BYTES)
            except Exception as error:
                self._error = error
                return False
            self._looks = 0 if chunk is not None else self._looks + 1
            if chunk is None:
                if self._looks > _LOOKS_MAX:
                    self._looks = 0
                    self._ahead.idle(self)
                return False
            self._chunks.append((chunk, chunk.nbytes))
            self._ahead.holds(chunk.nbytes)
            return True

    def watermarks(self) -> tuple[int, int]:
        """See Reader.watermarks."""
        return self._inner.watermarks()

    def seek(self, offset: int) -> None:
        """See Reader.seek."""
        with self._lock:
            self._dropped()
            self._inner.seek(offset)
            self.end_offset = self._inner.end_offset

    def close(self) -> None:
        """See Reader.close."""
        self._ahead.idle(self)
        with self._lock:
            self._closed = True
            self._dropped()
            self._inner.close()

    def _dropped(self) -> None:
        self._ahead.holds(-sum(held for _, held in self._chunks))
        self._chunks.clear()
        self._error = None
