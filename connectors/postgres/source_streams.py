"""Large transactions that are still open at the source wait here on disk, a file each, until their commit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa

from libcore.pgoutput_types import MESSAGES

_READ_BYTES = 64 << 20  # of one call: few rows may be gigabytes, more than one batch takes
_Part = tuple[int, int, int]  # first message, byte offset, bytes


class FileStreams:
    """A StreamStore (connectors/formats/pgoutput_streams.py) in a directory of its own, emptied when it is made.

    Nothing is flushed: what was not consumed is sent again behind a restart.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        self._parts: dict[int, list[_Part]] = {}
        self._ends: dict[int, tuple[int, int]] = {}  # messages and bytes so far

    def append(self, xid: int, messages: pa.RecordBatch) -> None:
        """Add messages behind those of that transaction."""
        data = messages.serialize()
        count, size = self._ends.get(xid, (0, 0))
        with self._path(xid).open("ab") as file:
            file.write(data)
        self._parts.setdefault(xid, []).append((count, size, data.size))
        self._ends[xid] = (count + messages.num_rows, size + data.size)

    def read(self, xid: int, start: int, rows_max: int) -> pa.RecordBatch:
        """At most `rows_max` messages from the start-th on, fewer where they are large; none at the end."""
        parts = self._parts.get(xid, [])
        low, high = 0, len(parts)
        while low < high:  # the last part that begins at or before start
            middle = (low + high) // 2
            low, high = (middle + 1, high) if parts[middle][0] <= start else (low, middle)
        if low == 0 or start >= self._ends[xid][0]:
            return pa.RecordBatch.from_arrays([pa.array([], column.type) for column in MESSAGES], schema=MESSAGES)
        found, taken, held = [], 0, 0
        with self._path(xid).open("rb") as file:
            for first, offset, size in parts[low - 1 :]:
                if taken >= rows_max or held >= _READ_BYTES:
                    break
                file.seek(offset)
                batch = pa.ipc.read_record_batch(pa.py_buffer(file.read(size)), MESSAGES)
                batch = batch.slice(max(0, start - first), rows_max - taken)
                found.append(batch)
                taken, held = taken + batch.num_rows, held + batch.nbytes
        return found[0] if len(found) == 1 else pa.concat_batches(found)

    def drop(self, xid: int) -> None:
        """Forget the transaction."""
        self._parts.pop(xid, None)
        self._ends.pop(xid, None)
        self._path(xid).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _path(self, xid: int) -> Path:
        return self._directory / f"{xid}.messages"
