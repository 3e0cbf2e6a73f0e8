"""The C reader's Python face: librdkafka from confluent-kafka's own wheel, one client a worker, a queue a partition.

Contract and ownership: reader.h.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog

from connectors.base.source import RAW_SCHEMA
from connectors.kafka.config import KafkaConfig
from connectors.kafka.reader import UNKNOWN_OFFSET, KafkaReadError
from libcore.errors import ConfigurationError

_ERROR_BYTES = 512
FETCH_WAIT_MS = 20
_LOG_LEVELS = {0: 50, 1: 50, 2: 50, 3: 40, 4: 30, 5: 20, 6: 20, 7: 10}  # syslog -> logging

_log = structlog.get_logger()
_load_lock = threading.Lock()


def library_path() -> Path | None:
    """The librdkafka that confluent-kafka's wheel brought, None where the package was built against another one."""
    import confluent_kafka

    package = Path(confluent_kafka.__file__).parent
    folders = [package.with_name("confluent_kafka.libs"), package / ".dylibs", package]
    for folder in folders:
        for pattern in ("librdkafka*.so*", "librdkafka*.dylib"):
            if found := sorted(folder.glob(pattern)):
                return found[0]
    return None


def missing() -> str:
    """Why the C reader cannot serve, or "" where it can."""
    return _loaded()[0]


@lru_cache(maxsize=1)
def _loaded() -> tuple[str, Any, Any]:
    try:
        from connectors.kafka._reader import ffi, lib
    except ImportError as error:
        return f"connectors.kafka._reader is not built ({error}); `make build` compiles it", None, None
    path = library_path()
    if path is None:
        return "the confluent-kafka package carries no librdkafka of its own", None, None
    error_text = ffi.new("char[]", _ERROR_BYTES)
    with _load_lock:
        if lib.hr_load(str(path).encode(), error_text, _ERROR_BYTES) != 0:
            return ffi.string(error_text).decode("utf-8", "replace"), None, None
    return "", ffi, lib


def _text(value: Any) -> bytes:
    return (str(value).lower() if isinstance(value, bool) else str(value)).encode()


class CReaderFactory:
    """C readers of one worker, all on one client: one connection a broker, whatever the number of partitions."""

    kind = "c"

    def __init__(self, config: KafkaConfig, partitions: int) -> None:
        why, self._ffi, self._lib = _loaded()
        if why:
            raise ConfigurationError(f"source.kafka: the C reader cannot serve: {why}")
        # One request at a time goes to a broker. One that waits for partitions without news must not hold back a busy
        # partition whose queue was full when it was sent: so requests wait briefly.
        properties = {"fetch.wait.max.ms": FETCH_WAIT_MS if partitions > 1 else 500} | config.client_properties(
            partitions
        )
        properties.pop("group.id", None)  # this client neither joins nor asks for a group
        names = [self._ffi.new("char[]", name.encode()) for name in properties]
        values = [self._ffi.new("char[]", _text(value)) for value in properties.values()]
        error = self._ffi.new("char[]", _ERROR_BYTES)
        array = "const char *[]"
        self._client = self._lib.hr_client_new(
            self._ffi.new(array, names), self._ffi.new(array, values), len(names), error, _ERROR_BYTES
        )
        if self._client == self._ffi.NULL:
            raise ConfigurationError(f"source.kafka: {self._ffi.string(error).decode('utf-8', 'replace')}")

    def open(self, topic: str, partition: int, offset: int) -> CReader:
        """A reader that begins at that offset. Raises KafkaReadError."""
        error = self._ffi.new("char[]", _ERROR_BYTES)
        reader = self._lib.hr_reader_open(self._client, topic.encode(), partition, offset, error, _ERROR_BYTES)
        if reader == self._ffi.NULL:
            raise KafkaReadError(0, offset, self._ffi.string(error).decode("utf-8", "replace"))
        return CReader(self, reader)

    def log(self) -> None:
        """Hand the client's log lines on to the flow's log."""
        line = self._ffi.new("char[]", _ERROR_BYTES)
        while (level := self._lib.hr_client_log(self._client, line, _ERROR_BYTES)) >= 0:
            _log.log(_LOG_LEVELS.get(level, 20), "kafka client", line=self._ffi.string(line).decode("utf-8", "replace"))

    def close(self) -> None:
        """Ends the client; a second call does nothing."""
        client, self._client = self._client, self._ffi.NULL
        self._lib.hr_client_close(client)


class CReader:
    """One partition through a librdkafka queue of its own; see connectors.kafka.reader.Reader."""

    def __init__(self, factory: CReaderFactory, reader: Any) -> None:
        self._factory, self._reader = factory, reader
        self._ffi, self._lib = factory._ffi, factory._lib
        self._event = self._ffi.new("hr_event *")
        self._low, self._high = self._ffi.new("int64_t *"), self._ffi.new("int64_t *")
        self.end_offset = -1

    def poll(self, rows_max: int, bytes_max: int) -> pa.RecordBatch | None:
        """See Reader.poll."""
        array = self._ffi.new("struct ArrowArray *")
        rows = self._lib.hr_reader_poll(self._reader, rows_max, bytes_max, array, self._event)
        self.end_offset = max(self.end_offset, self._event.end_offset)
        if rows > 0:
            return pa.RecordBatch._import_from_c(int(self._ffi.cast("uintptr_t", array)), RAW_SCHEMA)
        self._factory.log()
        if rows < 0:
            raise MemoryError("no memory for a batch of Kafka messages")
        if self._event.code != 0:
            text = self._ffi.string(self._event.text).decode("utf-8", "replace")
            raise KafkaReadError(self._event.code, self._event.offset, text)
        return None

    def watermarks(self) -> tuple[int, int]:
        """See Reader.watermarks."""
        self._lib.hr_reader_watermarks(self._reader, self._low, self._high)
        return self._low[0], self._high[0]

    def seek(self, offset: int) -> None:
        """See Reader.seek."""
        error = self._ffi.new("char[]", _ERROR_BYTES)
        self.end_offset = self._event.end_offset = -1
        if self._lib.hr_reader_seek(self._reader, offset, error, _ERROR_BYTES) != 0:
            raise KafkaReadError(0, offset, self._ffi.string(error).decode("utf-8", "replace") or str(UNKNOWN_OFFSET))

    def close(self) -> None:
        """See Reader.close; a second call does nothing."""
        reader, self._reader = self._reader, self._ffi.NULL
        self._lib.hr_reader_close(reader)
