"""Which files of a table are complete and not yet read, in name order; what was read is remembered by its bytes."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import structlog

from connectors.base import durable
from connectors.files.config import FileTable
from libcore.errors import CapacityError, ConfigurationError, FatalError, TransientError

HEAD_BYTES = 64 << 10
_WARN_S = 60.0
_log = structlog.get_logger()


@dataclass(frozen=True)
class Seen:
    """A file as it was found.

    Args:
        name: in its directory. size: bytes. mtime_ns: when it was last written, nanoseconds since 1970.
        digest: of its first and last 64 KiB and its size; "" where it was not taken.
    """

    name: str
    size: int
    mtime_ns: int
    digest: str = ""

    def same_stat(self, other: Seen) -> bool:
        """Whether size and time say that nothing was written since."""
        return (self.size, self.mtime_ns) == (other.size, other.mtime_ns)


def digest_of(file: BinaryIO, size: int) -> str:
    """32 hex digits over size, head and tail of an opened file."""
    value = blake2b(size.to_bytes(8, "big"), digest_size=16)
    file.seek(0)
    value.update(file.read(min(size, HEAD_BYTES)))
    file.seek(max(0, size - HEAD_BYTES))
    value.update(file.read(min(size, HEAD_BYTES)))
    file.seek(0)
    return value.hexdigest()


def number_of(name: str) -> int:
    """The number of a ledger or a file of keys: KIND-NUMBER-HEX, six digits at least."""
    return int(name.split("-")[1])


class Ledger:
    """The files that were read, in order; on disk where there is a directory, so that a state only names a line.

    Args:
        directory: where it is kept; None: in memory only.
        place: (file name, lines) of a former ledger, whose further lines count for nothing.
    Raises: FatalError where that file lacks lines.
    """

    def __init__(self, directory: Path | None, place: tuple[str, int] | None) -> None:
        self.entries: dict[str, Seen] = {}
        self._directory, self._number, self._lines = directory, 1, 0
        if place is not None and directory is not None:
            self._load(directory / place[0], place[1])
            self._number = number_of(place[0]) + 1
        self._name = f"ledger-{self._number:06d}-{secrets.token_hex(4)}.jsonl"
        self._file: BinaryIO | None = None

    def _load(self, path: Path, count: int) -> None:
        try:
            lines = path.read_bytes().splitlines()[:count]
        except FileNotFoundError:
            lines = []
        if len(lines) < count:
            raise FatalError(
                f"{path}: expected {count} remembered files, found {len(lines)}: the state directory is older than the "
                "recovery store, or another; restore both together, or begin anew with another state_dir"
            )
        for line in lines:
            self._keep(Seen(*json.loads(line)))

    def _keep(self, seen: Seen) -> None:
        self.entries.pop(seen.name, None)  # the newest reading stands last
        self.entries[seen.name] = seen

    @property
    def place(self) -> tuple[str, int]:
        """Names what is remembered now; for the recovery state."""
        if self._directory is not None and self._file is None:
            self._begin()
        return self._name, self._lines

    def add(self, seen: Seen) -> None:
        """Remember a file, durably."""
        self._keep(seen)
        if self._directory is None:
            self._lines += 1
        elif self._file is None:
            self._begin()
        else:
            self._write([seen])

    def forget(self, there: Iterable[str], most: int) -> None:
        """Above `most` files forget the oldest that are gone. Raises CapacityError where too many are there."""
        if len(self.entries) <= most:
            return
        present = set(there)
        gone = [name for name in self.entries if name not in present]
        for name in gone[: len(self.entries) - most * 9 // 10]:
            del self.entries[name]
        if len(self.entries) > most:
            raise CapacityError(
                f"source.files.remembered_max: expected at most {most} files in the folder that were read before, "
                f"found {len(self.entries)}: take old ones away, or raise it"
            )
        self.close()
        self._number += 1
        self._name = f"ledger-{self._number:06d}-{secrets.token_hex(4)}.jsonl"
        self._begin()

    def close(self) -> None:
        """Close the file; what it holds stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> None:
        """A file of one's own, so that a process that should be dead cannot write into it."""
        self._lines = 0
        if self._directory is None:
            self._lines = len(self.entries)
            return
        durable.make_directory(self._directory)
        self._file = (self._directory / self._name).open("ab")
        self._write(list(self.entries.values()))
        durable.sync_directory(self._directory)

    def _write(self, entries: list[Seen]) -> None:
        assert self._file is not None
        for seen in entries:
            line = json.dumps([seen.name, seen.size, seen.mtime_ns, seen.digest])
            self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._lines += len(entries)


class Folder:
    """The files of one table.

    Args:
        name: the table's.
        settings: its section.
        base: where a relative path begins.
        until_end: only files that are there at the first look count; those still being written then are left.
        remembered_max: see FilesConfig.
    """

    def __init__(
        self, name: str, settings: FileTable, base: Path, *, until_end: bool, remembered_max: int = 1 << 62
    ) -> None:
        self._name, self._settings, self._until_end, self._remembered_max = name, settings, until_end, remembered_max
        self._path, self._base = base / settings.path, base
        self.directory, self._pattern = split_path(settings.path, base)
        self._first: frozenset[str] | None = None  # until_end: the names of the first look
        self._stood: dict[str, tuple[Seen, float]] = {}  # as it was, since when
        self._accepted: dict[str, Seen] = {}  # touched, but of the same bytes as remembered
        self._warned_at = -_WARN_S
        self.waiting = 0  # files that are not read yet
        self.oldest_ns = 0  # the oldest of them, 0 where there is none

    def names(self) -> list[str]:
        """All files that belong to the table, by name. Raises TransientError where the directory cannot be listed."""
        return sorted(self._listed())

    def _listed(self) -> dict[str, Seen]:
        if self.directory != self._path:  # a directory that was away until now looked like a file's name
            self.directory, self._pattern = split_path(self._settings.path, self._base)
        found, markers = {}, self._settings.done_suffix if self._settings.complete == "done" else None
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if not self._belongs(entry.name, markers) or not entry.is_file():
                        continue
                    stat = entry.stat()
                    found[entry.name] = Seen(entry.name, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise TransientError(
                f"source.files.tables.{self._name}.path: {self.directory}: expected a directory that can be listed, "
                f"found: {error.strerror}"
            ) from error
        return found

    def _belongs(self, name: str, markers: str | None) -> bool:
        if markers is not None and name.endswith(markers):
            return False
        if not fnmatchcase(name, self._pattern):
            return False
        # a file that is named as it is was meant, whatever it is called
        return name == self._pattern or not any(fnmatchcase(name, pattern) for pattern in self._settings.ignore)

    def next(self, ledger: Ledger) -> tuple[Seen | None, bool]:
        """(the next complete file or None, whether nothing more comes).

        An unread file that is not complete holds back those of greater names: order is worth more than haste.
        Raises FatalError where a file that was read has other bytes now and that is to stop the flow.
        """
        files = self._listed()
        ledger.forget(files, self._remembered_max)
        if self._until_end and self._first is None:
            self._first = frozenset(files)
        self._stood = {name: stood for name, stood in self._stood.items() if name in files}
        fresh = [name for name in sorted(files) if not self._is_known(files[name], ledger)]
        self.waiting = len(fresh)
        self.oldest_ns = min((files[name].mtime_ns for name in fresh), default=0)
        settling = {name: self._is_complete(files[name], files) for name in fresh}
        for name in fresh:
            if self._until_end and self._first is not None and name not in self._first:
                continue
            if not settling[name]:
                return None, self._gives_up(name)
            if self._is_new(files[name], ledger):
                return files[name], False
        return None, self._until_end

    def _is_known(self, seen: Seen, ledger: Ledger) -> bool:
        known = ledger.entries.get(seen.name)
        if known is None:
            return False
        accepted = self._accepted.get(seen.name)
        return seen.same_stat(known) or (accepted is not None and seen.same_stat(accepted))

    def _is_complete(self, seen: Seen, files: dict[str, Seen]) -> bool:
        rule = self._settings.complete
        if rule == "renamed":
            return True
        if rule == "done":
            return (self.directory / (seen.name + self._settings.done_suffix)).exists()
        now = time.monotonic()
        former, since = self._stood.get(seen.name, (None, now))
        if former is None or not seen.same_stat(former):
            self._stood[seen.name] = (seen, now)
            # changed under our eyes in a run that is to end: it is left for the next one
            if former is not None and self._until_end:
                self._stood[seen.name] = (seen, float("inf"))
            since = self._stood[seen.name][1]
        return now - since >= self._settings.settle_s

    def _gives_up(self, name: str) -> bool:
        """A file is not complete; whether a run that is to end shall not wait for it."""
        if not self._until_end:
            if time.monotonic() - self._warned_at > _WARN_S:
                self._warned_at = time.monotonic()
                _log.info("waits for a file to be complete", table=self._name, file=name)
            return False
        left = self._settings.complete == "done" or self._stood[name][1] == float("inf")
        if left:
            _log.warning("a file is not complete: it and those behind it are left", table=self._name, file=name)
        return left

    def _is_new(self, seen: Seen, ledger: Ledger) -> bool:
        """Whether it was never read, or has other bytes now and shall be read again."""
        known = ledger.entries.get(seen.name)
        if known is None:
            return True
        try:
            with (self.directory / seen.name).open("rb") as file:
                digest = digest_of(file, seen.size)
        except OSError as error:
            raise TransientError(f"{self.directory / seen.name}: {error.strerror}") from error
        if digest == known.digest:
            self._accepted[seen.name] = seen
            return False
        policy = self._settings.replaced
        if policy == "read":
            _log.info("a file was replaced: it is read again", table=self._name, file=seen.name)
            return True
        if policy == "ignore":
            _log.warning("a file was replaced: ignored", table=self._name, file=seen.name)
            self._accepted[seen.name] = seen
            return False
        raise FatalError(
            f"source.files.tables.{self._name}: {self.directory / seen.name}: expected the {known.size} bytes "
            f"that were read before, found {seen.size} others; give new rows a new file name, put the file back as it "
            'was, or set on_replaced = "ignore"'
        )


def last_read(directory: Path) -> list[str]:
    """Names of the files that a flow has read, in its order, as far as its newest ledger tells; none without one."""
    ledgers = sorted(directory.glob("ledger-*.jsonl"), key=lambda path: (number_of(path.name), path.stat().st_mtime))
    names: dict[str, None] = {}
    for line in ledgers[-1].read_bytes().splitlines() if ledgers else []:
        try:
            name = json.loads(line)[0]
        except ValueError:
            break  # half a line of a process that was killed
        names.pop(name, None)
        names[name] = None
    return list(names)


def split_path(text: str, base: Path) -> tuple[Path, str]:
    """(directory, pattern of names) of a table's path."""
    path = base / text
    if text.endswith("/") or path.is_dir():
        return path, "*"
    if any(sign in str(Path(text).parent) for sign in "*?["):
        raise ConfigurationError(f"source.files: path {text!r}: expected a pattern in its last part only")
    return path.parent, path.name
