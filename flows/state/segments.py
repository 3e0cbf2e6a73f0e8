"""Where state segments lie: a directory on the local disk or any pyarrow file system (a shared volume, S3).

    <directory>/<step>-<process>-<number, 8 digits>-<16 hex digits>.seg     bytes of libcore.segment, never changed
    <directory>/<that name>.<process>-<hex>.freed                           JSON: slots that need the file no more

A name is never used again: the hex digits are random. A file is durable when `write` returns: synced on a disk, put in
whole on an object store. It holds rows of many slots, which may live in several processes after a rescale; so each
process says which of its slots need a file no more, and whoever finds that all of them said so deletes it.

The keys to an object store are the AWS SDK's business (environment, files, roles): none stand in a location.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog
from pyarrow import fs

from connectors.base.durable import make_directory, sync_directory
from flows.state.location import WITHOUT_KEYS, at_once, has_keys
from libcore import segment
from libcore.errors import ConfigurationError, CorruptionError, FatalError, TransientError
from libcore.schema import Table

SLOTS = "slots"
"""Entry of a segment's metadata: {store: [[slot, first row, rows], ...]}. It has every slot that names the segment."""


_TAIL_BYTES = 1 << 16  # one request: a footer with 64 slots of a few stores has about 3 kB
_LOG = structlog.get_logger()


class SegmentStore:
    """The segment files of one step. Used by the worker's thread, the merger's and those of EpochWrites.

    Args:
        location: a path, or a URI that pyarrow.fs knows ("s3://bucket/prefix?region=...").
        step: names the files. process: this process's number.
        make: make the directory where it is missing, which also shows whether the location can be written.
    Raises: ConfigurationError where it cannot, or where the URI holds keys; TransientError where nobody answers.
    """

    def __init__(self, location: str | Path, step: str, process: int, *, make: bool = True) -> None:
        self._location, self._step, self._process = str(location), step.replace("/", "_"), process
        self._number = 0
        self._pattern = re.compile(rf"{re.escape(self._step)}-\d+-\d{{8}}-[0-9a-f]{{16}}\.seg(\..+\.freed)?")
        if has_keys(self._location):
            raise ConfigurationError(f"state segments: expected a location {WITHOUT_KEYS}")
        try:
            uri = at_once(self._location) if "://" in self._location else Path(self._location).resolve().as_uri()
            self._files, self._directory = fs.FileSystem.from_uri(uri)
            self._local = isinstance(self._files, fs.LocalFileSystem)
            if make and self._local:
                make_directory(Path(self._directory))
            elif make:
                self._files.create_dir(self._directory, recursive=True)
        except (OSError, ValueError, pa.ArrowException) as error:
            if "AWS Error NETWORK_CONNECTION" in str(error):
                raise TransientError(f"state segments {self._location}: {error}") from error
            raise ConfigurationError(
                f"state segments {self._location}: expected a directory or a store that can be written, found: {error}"
            ) from error

    def new_name(self) -> str:
        """The name of a segment to be written."""
        self._number += 1
        return f"{self._step}-{self._process}-{self._number:08d}-{secrets.token_hex(8)}.seg"

    def write(self, name: str, parts: Sequence[tuple[Table, pa.RecordBatch]], metadata: Mapping[str, Any]) -> int:
        """Write one segment, durable when this returns. Returns its bytes."""
        data = segment.write(parts, metadata)
        self._put(name, data)
        return data.size

    def read(self, name: str) -> segment.Segment:
        """Open a segment; from the local disk as a memory map.

        Raises: FatalError where it is missing or damaged, TransientError where the store does not answer.
        """
        path = f"{self._directory}/{name}"
        try:
            if self._local:
                with pa.memory_map(path) as source:
                    return segment.read(source.read_buffer())
            with self._files.open_input_file(path) as source:
                return segment.read(source.read_buffer())
        except FileNotFoundError as error:
            raise FatalError(
                f"state segment {path}: expected a file that the recovery store names, found none; "
                "every process must see the state directory that belongs to this recovery store"
            ) from error
        except CorruptionError as error:
            raise FatalError(f"state segment {path}: {error}") from error
        except OSError as error:
            raise TransientError(f"state segment {path}: {error}") from error

    def slot_counts(self, name: str) -> dict[int, int]:
        """See `slot_counts`; from the segment's last bytes alone, which are not checked against its checksum.

        Raises: FileNotFoundError, CorruptionError where it was cut.
        """
        with self._opened(name) as source:
            size = source.size()
            tail = source.read_at(min(size, _TAIL_BYTES), max(0, size - _TAIL_BYTES))
            if (wanted := min(size, segment.tail_bytes(tail))) > len(tail):
                tail = source.read_at(wanted, size - wanted)
        return slot_counts(segment.read_metadata(tail))

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, with what was said about them; one that is gone already, or resists, is no error."""
        wanted = set(names)
        if not wanted:
            return
        for found in self._list():
            if found in wanted or (found.endswith(".freed") and _about(found) in wanted):
                try:
                    self._files.delete_file(f"{self._directory}/{found}")
                except FileNotFoundError:
                    continue
                except OSError as error:  # the next start finds it
                    _LOG.warning("a state segment could not be deleted", file=found, error=str(error))

    def free(self, name: str, slots: Iterable[int], all_slots: Iterable[int]) -> None:
        """Say that these slots need the file no more; delete it where with that no slot needs it."""
        unused, there = set(slots), set(all_slots)
        if not unused >= there:
            statement = f"{name}.{self._process}-{secrets.token_hex(4)}.freed"
            self._put(statement, pa.py_buffer(json.dumps(sorted(unused)).encode()))
            unused |= self.freed([name]).get(name, set())
        if unused >= there:
            self.delete([name])

    def freed(self, names: Iterable[str]) -> dict[str, set[int]]:
        """The slots that were said to need these files no more, of files about which something was said."""
        wanted, said = set(names), dict[str, set[int]]()
        for found in self._list():
            if found.endswith(".freed") and (name := _about(found)) in wanted:
                try:
                    with self._opened(found) as source:
                        said.setdefault(name, set()).update(json.loads(source.read()))
                except (FileNotFoundError, ValueError):
                    continue  # another process deletes, or writes it at this moment: it will see ours
        return said

    @contextmanager
    def _opened(self, name: str) -> Iterator[pa.NativeFile]:
        """A file to read. Raises FileNotFoundError also where an object goes while it is read."""
        path = f"{self._directory}/{name}"
        try:
            with self._files.open_input_file(path) as source:
                yield source
        except OSError as error:
            # of an object that was there when it was opened, S3 tells no more than that a request failed
            if self._files.get_file_info(path).type == fs.FileType.NotFound:
                raise FileNotFoundError(path) from error
            raise

    def wrote(self, name: str) -> bool:
        """Whether a segment was written by a process of this number."""
        return name.startswith(f"{self._step}-{self._process}-")

    def names(self) -> dict[str, int]:
        """All segment files of this step, by any process, and their bytes."""
        return {info.base_name: info.size or 0 for info in self._infos() if info.base_name.endswith(".seg")}

    def _infos(self) -> list[Any]:
        # Object stores have no directories: one without files is not found.
        found = self._files.get_file_info(fs.FileSelector(self._directory, allow_not_found=True))
        return [info for info in found if self._pattern.fullmatch(info.base_name)]

    def _list(self) -> list[str]:
        return [info.base_name for info in self._infos()]

    def _put(self, name: str, data: pa.Buffer) -> None:
        path = f"{self._directory}/{name}"
        if not self._local:
            try:
                with self._files.open_output_stream(path) as sink:
                    sink.write(data)
            except OSError as error:
                raise TransientError(f"state segment {path}: {error}") from error
            return
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            view = memoryview(data).cast("B")
            while view.nbytes:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(self._directory)


def _about(statement: str) -> str:
    """The segment that a statement is about."""
    return statement.rsplit(".", 2)[0]


def slot_counts(metadata: Mapping[str, Any]) -> dict[int, int]:
    """How many rows, of all stores, a segment with this metadata has of each slot that names it."""
    counts: dict[int, int] = {}
    for ranges in metadata[SLOTS].values():
        for slot, _, rows in ranges:
            counts[slot] = counts.get(slot, 0) + rows
    return counts


def slot_rows(opened: segment.Segment, slot: int) -> list[tuple[str, pa.RecordBatch]]:
    """(store, rows with __op) of one slot in a segment, in the order of writing."""
    found = []
    for table, record in opened.parts:
        for there, first, count in opened.metadata[SLOTS].get(table.name, ()):
            if there == slot and count:
                found.append((table.name, record.slice(first, count)))
    return found
