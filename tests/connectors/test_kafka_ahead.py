"""Reading ahead changes when messages are taken, never which, in what order, or what is said between them."""

from __future__ import annotations

import threading
import time

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base.source import RAW_SCHEMA
from connectors.kafka.ahead import BYTES_MAX, AheadReader, ReadAhead
from connectors.kafka.reader import KafkaReadError

PATIENCE_S = 20.0
Script = list[int | None]
"""What an inner reader brings, call by call: so many messages, 0 for none, None for an error."""


class Scripted:
    """A Reader that brings what is written down; notes where two threads meet in it."""

    def __init__(self, script: Script, offset: int = 0, size: int = 10) -> None:
        self._script, self._offset, self._size, self._errors = list(script), offset, size, 0
        self._inside = threading.Lock()
        self.end_offset, self.closed = -1, False

    def poll(self, rows_max: int, bytes_max: int) -> pa.RecordBatch | None:
        assert self._inside.acquire(blocking=False), "two threads at a time"
        try:
            assert not self.closed
            if not self._script:
                self.end_offset = self._offset
                return None
            count = self._script.pop(0)
            if count is None:
                self._errors += 1
                raise KafkaReadError(self._errors, self._offset, "said so")
            if count > rows_max:
                self._script.insert(0, count - rows_max)
            return batch(self._offset_after(min(count, rows_max)), self._size) if count else None
        finally:
            self._inside.release()

    def _offset_after(self, count: int) -> range:
        self._offset += count
        return range(self._offset - count, self._offset)

    def watermarks(self) -> tuple[int, int]:
        return 0, self._offset

    def seek(self, offset: int) -> None:
        self._offset, self.end_offset = offset, -1

    def close(self) -> None:
        self.closed = True


def batch(offsets: range, size: int) -> pa.RecordBatch:
    values = [b"%d" % offset + bytes(size) for offset in offsets]
    columns = [values, values, list(offsets), [0] * len(values)]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, RAW_SCHEMA, strict=True)], schema=RAW_SCHEMA
    )


def read(reader: AheadReader, total: int, errors: int, rows_max: int) -> list[int]:
    """Offsets in the order of polls, an error as its number below 0, until all is there."""
    found: list[int] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < total + errors:
        assert time.monotonic() < deadline, found
        try:
            messages = reader.poll(rows_max, 1 << 20)
        except KafkaReadError as error:
            found.append(-error.code)
            continue
        if messages is not None:
            assert 0 < messages.num_rows <= rows_max
            found += messages.column("offset").to_pylist()
    return found


@given(st.lists(st.one_of(st.integers(0, 40), st.none()), max_size=25), st.integers(1, 50))
def test_messages_and_errors_come_as_the_inner_reader_brings_them(script: Script, rows_max: int) -> None:
    """Whatever comes in whatever pieces: the same offsets and errors, in the same places; then the end."""
    expected: list[int] = []
    offset = errors = 0
    for count in script:
        if count is None:
            errors += 1
            expected.append(-errors)
        else:
            expected += range(offset, offset + count)
            offset += count
    ahead = ReadAhead(BYTES_MAX)
    reader = AheadReader(Scripted(script), ahead)
    try:
        assert read(reader, offset, errors, rows_max) == expected
        deadline = time.monotonic() + PATIENCE_S
        while reader.end_offset != offset:
            assert reader.poll(rows_max, 1 << 20) is None
            assert time.monotonic() < deadline
    finally:
        reader.close()
        ahead.close()


def test_what_is_held_has_a_bound_for_all_readers() -> None:
    """Three busy partitions nobody polls hold one chunk above the bound at most; what is taken makes room."""
    bound, size = 300_000, 1000
    ahead = ReadAhead(bound)
    inner = [Scripted([50] * 200, size=size) for _ in range(3)]
    readers = [AheadReader(one, ahead) for one in inner]
    chunk = batch(range(50), size).nbytes
    try:
        for reader in readers:
            assert reader.poll(10, 1 << 20) is not None
        deadline = time.monotonic() + PATIENCE_S
        while ahead._bytes < bound:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(0.05)
        assert ahead._bytes <= bound + chunk
        assert [len(read(reader, 9_990, 0, 100)) for reader in readers] == [9_990] * 3
        assert ahead._bytes == 0
    finally:
        for reader in readers:
            reader.close()
        ahead.close()


def test_a_seek_drops_what_was_read_ahead() -> None:
    """After a seek the next message is the one asked for, and no error from before it comes."""
    ahead = ReadAhead(BYTES_MAX)
    reader = AheadReader(Scripted([5, 5, 5, None, 7]), ahead)
    try:
        assert reader.poll(5, 1 << 20) is not None
        deadline = time.monotonic() + PATIENCE_S
        while reader._error is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        reader.seek(1000)
        assert read(reader, 7, 0, 100) == list(range(1000, 1007))
    finally:
        reader.close()
        ahead.close()


def test_a_thread_that_fails_says_so_in_poll() -> None:
    """No error is lost in the thread, whatever its kind."""

    class Broken(Scripted):
        def poll(self, rows_max: int, bytes_max: int) -> pa.RecordBatch | None:
            if threading.current_thread() is not threading.main_thread():
                raise MemoryError("no memory for a batch")
            return super().poll(rows_max, bytes_max)

    ahead = ReadAhead(BYTES_MAX)
    reader = AheadReader(Broken([3] * 1000), ahead)
    try:
        with pytest.raises(MemoryError):
            for _ in range(500):
                reader.poll(3, 1 << 20)
                time.sleep(0.001)
    finally:
        reader.close()
        ahead.close()
