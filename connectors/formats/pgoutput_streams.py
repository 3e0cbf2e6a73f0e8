"""Streamed transactions wait here, message by message, until their commit says that they count."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from libcore.errors import CapacityError
from libcore.pgoutput_messages import StreamCommit
from libcore.pgoutput_types import MESSAGES


class StreamStore(Protocol):
    """Keeps the messages of open streamed transactions, for the time of one connection: what is not committed and
    consumed is sent again behind a restart, so nothing of it has to outlive the process."""

    def append(self, xid: int, messages: pa.RecordBatch) -> None:
        """Add messages (by pgoutput_types.MESSAGES) behind those of that transaction."""

    def read(self, xid: int, start: int, rows_max: int) -> pa.RecordBatch:
        """At most `rows_max` messages from the start-th on (0-based); none at the end. Fewer is no end."""

    def drop(self, xid: int) -> None:
        """Forget the transaction; nothing happens where there is none."""


class MemoryStreams:
    """A StreamStore in memory, for short streams and tests.

    Args:
        bytes_max: bound of all payloads; above it CapacityError.
    """

    def __init__(self, bytes_max: int = 256_000_000) -> None:
        self._bytes_max = bytes_max
        self._parts: dict[int, list[pa.RecordBatch]] = {}
        self._bytes: dict[int, int] = {}

    def append(self, xid: int, messages: pa.RecordBatch) -> None:
        """See StreamStore.append. Raises CapacityError."""
        self._bytes[xid] = self._bytes.get(xid, 0) + messages.nbytes
        if sum(self._bytes.values()) > self._bytes_max:
            raise CapacityError(
                f"streamed transactions: {len(self._bytes)} are open and take more than {self._bytes_max:,} bytes; "
                "spool them to disk, or turn streaming off"
            )
        self._parts.setdefault(xid, []).append(messages)

    def read(self, xid: int, start: int, rows_max: int) -> pa.RecordBatch:
        """See StreamStore.read."""
        for part in self._parts.get(xid, ()):
            if start < part.num_rows:
                return part.slice(start, rows_max)
            start -= part.num_rows
        return _nothing()

    def drop(self, xid: int) -> None:
        """See StreamStore.drop."""
        self._parts.pop(xid, None)
        self._bytes.pop(xid, None)


def _nothing() -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], column.type) for column in MESSAGES], schema=MESSAGES)


@dataclass
class Streams:
    """Which streamed transactions are open, and which is being given out."""

    store: StreamStore
    open: int | None = None  # the block in work is this transaction's
    aborted: dict[int, set[int]] = field(default_factory=dict)
    commit: StreamCommit | None = None  # being given out
    given: int = 0  # messages of it so far

    def abort(self, xid: int, subxid: int) -> None:
        """A transaction, or a part of it, was rolled back."""
        if xid == subxid:
            self.aborted.pop(xid, None)
            self.store.drop(xid)
        else:
            self.aborted.setdefault(xid, set()).add(subxid)

    def begins(self, commit: StreamCommit) -> None:
        """From now on its messages are given out."""
        self.commit, self.given = commit, 0

    def ends(self) -> None:
        """All of them were."""
        assert self.commit is not None
        self.aborted.pop(self.commit.xid, None)
        self.store.drop(self.commit.xid)
        self.commit = None
