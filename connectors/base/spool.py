"""The spool of one sink part: immutable segment files on disk, and the manifest that names those still needed.

    <directory>/<flow>-<part>-<seq, 12 digits>-<16 hex digits>.seg       bytes of libcore.segment

The hex digits are random, so a name is never used twice: after a crash the same seq is written again with other rows,
and a late process must not be able to mix the two up. A file is on the disk (fsync of file and directory) before its
manifest is given to Bytewax, and is deleted only when no durable manifest names it any more.

Bound: what the newest manifest names is kept at or below half of `bytes_max`, and one segment at or below a quarter.
Files that leave the manifest stay until the epoch of that manifest is durable, so at most half + two segments lie on
the disk at a time, which is the bound.
"""

from __future__ import annotations

import os
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog

from connectors.base.durable import sync_directory
from connectors.base.metrics import SPOOL_DISK_BYTES
from connectors.base.target import markers_of
from libcore import segment
from libcore.errors import CapacityError, CorruptionError, FatalError
from libcore.schema import Table

_LOG = structlog.get_logger()
_STATE_VERSION = 1
# Giving back a segment of 2 MB takes the file system 0.5 ms, a tenth of what a worker needs for the rows in it.
_DELETER = ThreadPoolExecutor(1, "spool-delete")


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One file of the spool. `bytes` is its size on disk, `markers` how many truncates and cleared columns it ends
    with."""

    seq: int
    name: str
    bytes: int
    rows: int
    markers: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a part's recovery state says: the last seq written, and the files not yet known to be applied, in order."""

    store_id: str
    seq: int = 0
    files: tuple[SegmentFile, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes on disk of the files named."""
        return sum(file.bytes for file in self.files)

    def to_state(self) -> tuple[Any, ...]:
        """A plain tuple for the recovery store, so that no class name is pickled."""
        files = tuple((file.seq, file.name, file.bytes, file.rows, file.markers) for file in self.files)
        return (_STATE_VERSION, self.store_id, self.seq, files)

    @classmethod
    def from_state(cls, state: tuple[Any, ...]) -> Manifest:
        """Read what `to_state` gave. Raises FatalError for a version that this release does not know."""
        if not isinstance(state, tuple) or len(state) != 4 or state[0] != _STATE_VERSION:
            raise FatalError(
                f"recovery state of a sink part: expected version {_STATE_VERSION}, found {state!r}; "
                "it was written by another release, go on with that one"
            )
        return cls(state[1], state[2], tuple(SegmentFile(*file) for file in state[3]))


class Spool:
    """The files of one part. Used by the worker thread, `read` also by the applier's; deletes have their own.

    Args:
        directory: shared by all processes of the flow; made where missing.
        flow: the flow's name. part: the sink part's number.
        bytes_max: bound of this part in bytes.
    """

    def __init__(self, directory: Path, flow: str, part: int, bytes_max: int) -> None:
        self.directory, self.flow, self.part, self.bytes_max = directory, flow, part, bytes_max
        self._pattern = re.compile(rf"{re.escape(flow)}-{part}-(\d{{12}})-[0-9a-f]{{16}}\.seg")
        self._lock = threading.Lock()
        self._on_disk: dict[str, int] = {}
        self._deleting: list[Future[None]] = []
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def bytes(self) -> int:
        """Bytes of this part's files on disk."""
        with self._lock:
            return sum(self._on_disk.values())

    @property
    def backlog_bytes_max(self) -> int:
        """Bytes of files that a manifest may name before the flow waits for the target."""
        return self.bytes_max // 2

    def open(self, manifest: Manifest) -> None:
        """Take over the files of a durable manifest and delete every other file of this part.

        Raises FatalError where a file named is missing or has another size.
        """
        named = {file.name: file for file in manifest.files}
        found = {
            path.name: path.stat().st_size for path in self.directory.iterdir() if self._pattern.fullmatch(path.name)
        }
        self._on_disk = dict(found)
        self.delete([name for name in found if name not in named])
        self.await_deletes()
        for name, file in named.items():
            if found.get(name) != file.bytes:
                size = "no file" if name not in found else f"{found[name]} bytes"
                raise FatalError(
                    f"spool {self.directory / name}: expected {file.bytes} bytes as the recovery store says, "
                    f"found {size}; every process must see the state directory that belongs to this recovery store"
                )
        self._show()

    def write(
        self, seq: int, tables: Sequence[tuple[Table, pa.RecordBatch]], metadata: Mapping[str, Any]
    ) -> SegmentFile:
        """Write one segment; when this returns it survives a power cut.

        Raises CapacityError where the bound has no room for it; nothing is left on disk then.
        """
        data = memoryview(segment.write(tables, metadata))
        self._check_room(data.nbytes)
        name = f"{self.flow}-{self.part}-{seq:012d}-{secrets.token_hex(8)}.seg"
        descriptor = os.open(self.directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with self._lock:
            self._on_disk[name] = data.nbytes
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(self.directory)
        self._show()
        rows = sum(record.num_rows for _, record in tables)
        return SegmentFile(seq, name, data.nbytes, rows, len(markers_of(metadata)))

    def read(self, file: SegmentFile) -> segment.Segment:
        """Open a segment over a memory map. Raises CorruptionError naming the file."""
        path = self.directory / file.name
        try:
            with pa.memory_map(str(path)) as source:
                return segment.read(source.read_buffer())
        except CorruptionError as error:
            raise CorruptionError(f"spool {path}: {error}") from error
        except FileNotFoundError as error:
            raise FatalError(f"spool {path}: the file is gone before it was applied") from error

    def delete(self, names: Sequence[str]) -> None:
        """Delete files that no durable manifest names, in the background; one that is gone already is no error."""
        for future in [future for future in self._deleting if future.done()]:
            future.result()  # an error of the disk ends the flow here
            self._deleting.remove(future)
        if names:
            self._deleting.append(_DELETER.submit(self._unlink, tuple(names)))

    def _unlink(self, names: Sequence[str]) -> None:
        for name in names:
            (self.directory / name).unlink(missing_ok=True)
            with self._lock:
                self._on_disk.pop(name, None)
        self._show()

    def await_deletes(self) -> None:
        """Wait until what `delete` was given is gone. Raises OSError where the disk refused it."""
        for future in self._deleting:
            future.result()
        self._deleting = []

    def _check_room(self, size: int) -> None:
        if self.bytes + size > self.bytes_max:
            self.await_deletes()
        if size <= self.bytes_max // 4 and self.bytes + size <= self.bytes_max:
            return
        _LOG.error("the spool has no room", flow=self.flow, part=self.part, segment_bytes=size, spool_bytes=self.bytes)
        raise CapacityError(
            f"spool of flow {self.flow}, part {self.part}: a segment of {size:,} bytes beside {self.bytes:,} "
            f"bytes on disk does not fit {self.bytes_max:,} bytes (spool_bytes_max / parts; one may take a quarter): "
            f"raise spool_bytes_max to at least {4 * max(size, self.bytes // 2):,} x parts, "
            "or lower the source's rows per batch"
        )

    def _show(self) -> None:
        SPOOL_DISK_BYTES.labels(str(self.part)).set(self.bytes)


def _write_all(descriptor: int, data: memoryview) -> None:
    data = data.cast("B")
    while data.nbytes:
        data = data[os.write(descriptor, data) :]
