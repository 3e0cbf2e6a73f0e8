"""What the server sends in COPY mode, as Arrow: by the C reader where it is built, else by the driver's own calls."""

from __future__ import annotations

import re
import select
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import psycopg
import pyarrow as pa

from connectors.postgres.session import Connection
from libcore.errors import ConfigurationError, FatalError, TransientError
from libcore.pgoutput_types import MESSAGES

_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_ERROR_BYTES = 512
_OPEN, _ENDED, _BROKEN, _MALFORMED, _NO_MEMORY = range(5)


@dataclass(frozen=True)
class Taken:
    """What one call took.

    Args:
        messages: by pgoutput_types.MESSAGES; None where nothing came.
        keepalive_lsn: WAL end of a keepalive behind all messages, -1 where none came.
        wal_end: the greatest WAL end that was told, -1 where none was.
        reply: the server wants an answer.
        ended: the server ended the COPY behind these messages; what it says of it comes with the connection's result.
        last_begin, last_commit: indexes of the last message that begins, that commits a transaction; -1: none does.
    """

    messages: pa.RecordBatch | None
    keepalive_lsn: int = -1
    wal_end: int = -1
    reply: bool = False
    ended: bool = False
    last_begin: int = -1
    last_commit: int = -1


class Wire(Protocol):
    """Takes messages from one connection; one thread at a time."""

    def stream(self, rows_max: int, bytes_max: int, wait_ms: int) -> Taken:
        """What a walsender sent; waits at most so long for the first message. Raises TransientError, FatalError."""

    def rows(self, oid: int, forms: str, lsn: int, rows_max: int, bytes_max: int, wait_ms: int) -> Taken:
        """Rows of a binary COPY as INSERT messages of relation `oid`, as many as come within wait_ms.

        forms: "b" or "t" a column.
        """


@lru_cache(maxsize=1)
def _loaded() -> tuple[str, Any, Any]:
    try:
        from connectors.postgres._reader import ffi, lib
    except ImportError as error:
        return f"connectors.postgres._reader is not built ({error}); `make build` compiles it", None, None
    psycopg.pq.version()
    path = _library()
    if path is None:
        return "the driver's libpq cannot be told", None, None
    error_text = ffi.new("char[]", _ERROR_BYTES)
    if lib.hp_load(path.encode(), error_text, _ERROR_BYTES) != 0:
        return ffi.string(error_text).decode("utf-8", "replace"), None, None
    return "", ffi, lib


def _library() -> str | None:
    """The libpq that this process has loaded, where there is just one."""
    try:
        text = Path("/proc/self/maps").read_text("utf-8", "replace")
    except OSError:
        return None
    found = set(re.findall(r"(/\S*/libpq[-.][^/\n]*)$", text, re.M))
    return found.pop() if len(found) == 1 else None


def missing() -> str:
    """Why the C reader cannot serve, or "" where it can."""
    return _loaded()[0]


def wire(connection: Connection, reader: str = "auto") -> Wire:
    """The fastest reader there is for that connection; `reader`: "c" and "plain" insist. Raises ConfigurationError."""
    why = missing()
    if reader == "c" and why:
        raise ConfigurationError(f'source.postgres: reader = "c" cannot serve: {why}')
    return PlainWire(connection) if reader == "plain" or why else CWire(connection)


class CWire:
    """See copy_reader.h."""

    def __init__(self, connection: Connection) -> None:
        _, self._ffi, self._lib = _loaded()
        self._libpq = connection.pgconn
        self._event = self._ffi.new("hp_event *")
        self._started = self._ffi.new("int32_t *")

    def stream(self, rows_max: int, bytes_max: int, wait_ms: int) -> Taken:
        """See Wire.stream."""
        out = self._ffi.new("struct ArrowArray *")
        rows = self._lib.hp_stream(self._pointer(), rows_max, bytes_max, wait_ms, out, self._event)
        return self._taken(rows, out)

    def rows(self, oid: int, forms: str, lsn: int, rows_max: int, bytes_max: int, wait_ms: int) -> Taken:
        """See Wire.rows."""
        out, form = self._ffi.new("struct ArrowArray *"), forms.encode()
        rows = self._lib.hp_rows(
            self._pointer(), oid, form, len(form), lsn, rows_max, bytes_max, wait_ms, self._started, out, self._event
        )
        return self._taken(rows, out)

    def _pointer(self) -> int:
        pointer = getattr(self._libpq, "pgconn_ptr", None)  # missing in the driver's stubs
        if pointer is None:
            raise TransientError("source.postgres: the connection is closed")
        return int(pointer)

    def _taken(self, rows: int, out: Any) -> Taken:
        event = self._event
        messages = None
        if rows > 0:
            messages = pa.RecordBatch._import_from_c(int(self._ffi.cast("uintptr_t", out)), MESSAGES)
        _check(event.state if rows == 0 or event.state == _ENDED else _OPEN, self._libpq)
        ended, reply = event.state == _ENDED, bool(event.reply)
        return Taken(messages, event.keepalive_lsn, event.wal_end, reply, ended, event.last_begin, event.last_commit)


class PlainWire:
    """The same by psycopg's wrapper of libpq, a Python object a message."""

    def __init__(self, connection: Connection) -> None:
        self._libpq = connection.pgconn
        self._started = False

    def stream(self, rows_max: int, bytes_max: int, wait_ms: int) -> Taken:
        """See Wire.stream."""
        payloads: list[bytes] = []
        lsns: list[int] = []
        size, keepalive, wal_end, reply, ended = 0, -1, -1, False, False
        while len(payloads) < rows_max and size < bytes_max and not reply:
            data, ended = self._next(0 if payloads else wait_ms / 1000)
            if data is None:
                break
            if data[:1] == b"k":
                keepalive = struct.unpack(">q", data[1:9])[0]
                wal_end, reply = max(wal_end, keepalive), data[17] != 0
            elif data[:1] == b"w" and len(data) > 25:
                start, end = struct.unpack(">qq", data[1:17])
                payloads.append(data[25:])
                lsns.append(start)
                size, wal_end, keepalive = size + len(data) - 25, max(wal_end, end), -1
            else:
                _check(_MALFORMED, self._libpq)
        begins = [index for index, payload in enumerate(payloads) if payload[:1] == b"B"]
        commits = [index for index, payload in enumerate(payloads) if payload[:1] in (b"C", b"c")]
        last = max(begins, default=-1), max(commits, default=-1)
        return Taken(_messages(payloads, lsns), keepalive, wal_end, reply, ended, *last)

    def rows(self, oid: int, forms: str, lsn: int, rows_max: int, bytes_max: int, wait_ms: int) -> Taken:
        """See Wire.rows."""
        payloads: list[bytes] = []
        size, ended = 0, False
        until = monotonic() + wait_ms / 1000
        while len(payloads) < rows_max and size < bytes_max:
            data, ended = self._next(max(0.0, until - monotonic()))
            if data is None:
                break
            if not self._started:
                if data[:11] != _SIGNATURE or len(data) < 19:
                    _check(_MALFORMED, self._libpq)
                data = data[19 + struct.unpack(">I", data[15:19])[0] :]
                self._started = True
            if data and data != b"\xff\xff":
                payloads.append(self._row(data, oid, forms))
                size += len(payloads[-1])
        return Taken(_messages(payloads, [lsn] * len(payloads)), ended=ended)

    def _row(self, data: bytes, oid: int, forms: str) -> bytes:
        out = [b"I", oid.to_bytes(4, "big"), b"N", data[:2]]
        at = 2
        if int.from_bytes(data[:2], "big") != len(forms):
            _check(_MALFORMED, self._libpq)
        for form in forms:
            size = int.from_bytes(data[at : at + 4], "big", signed=True)
            out += [b"n"] if size < 0 else [form.encode(), data[at : at + 4 + size]]
            at += 4 + max(size, 0)
        if at != len(data):
            _check(_MALFORMED, self._libpq)
        return b"".join(out)

    def _next(self, wait_s: float) -> tuple[bytes | None, bool]:
        """(a message or None, whether the COPY is over)."""
        for attempt in range(2):
            try:
                size, data = self._libpq.get_copy_data(1)
                if size == -1:
                    return None, True
                if size > 0:
                    return bytes(data), False
                if attempt == 0:
                    select.select([self._libpq.socket], [], [], wait_s)
                    self._libpq.consume_input()
            except psycopg.Error as error:
                raise TransientError(f"source.postgres: {str(error).strip()}") from error
        return None, False


def _messages(payloads: list[bytes], lsns: list[int]) -> pa.RecordBatch | None:
    if not payloads:
        return None
    return pa.RecordBatch.from_arrays([pa.array(payloads, pa.binary()), pa.array(lsns, pa.int64())], schema=MESSAGES)


def _check(state: int, libpq: Any) -> None:
    if state == _BROKEN:
        raise TransientError(f"source.postgres: {libpq.error_message.decode('utf-8', 'replace').strip()}")
    if state == _NO_MEMORY:
        raise MemoryError("no memory for a batch of PostgreSQL messages, or one above 2 GiB")
    if state == _MALFORMED:
        raise FatalError("source.postgres: expected COPY data of a walsender or a binary COPY, found something else")
