"""The keys that were brought of a table, on disk: what a comparison with the system's keys shows as deleted or missed.

A file of JSON lines, a list of keys each, is added to before the rows go on: it holds at least the keys that the target
has. After a comparison a new file stands beside it, and takes its place when the deletes that it showed are durable:
until then a crash finds the old one, and the same deletes again.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection
from pathlib import Path

from connectors.base import durable
from connectors.sap.rfc_where import Key


def forget(directory: Path, table: str) -> None:
    """Remove the keys of a table that is compared no more: those that come from now on would not be among them."""
    gone = [path for path, _ in _files(directory, table)]
    for path in gone:
        path.unlink()
    if gone:
        durable.sync_directory(directory)


def _files(directory: Path, table: str) -> list[tuple[Path, int]]:
    """A table's files, and the number of the comparison that each is of; 0: the one that holds."""
    holds = _path_of(directory, table)
    waiting = [(path, int(path.suffixes[-2][1:])) for path in directory.glob(f"{holds.stem}.[0-9]*.jsonl")]
    return [(path, 0) for path in (holds,) if path.exists()] + waiting


def _path_of(directory: Path, table: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", table)
    return directory / f"keys-{name}.jsonl"


def _append(path: Path, line: str) -> None:
    """The line, and a new file's name, are on the disk when this returns."""
    known = path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if not known:
        durable.sync_directory(path.parent)


class KeyLog:
    """The keys of one table that the target has, or may have.

    Args:
        directory: where the files are; made where it is missing.
        table: its name.
        number: of the newest comparison in the recovery store: a file of a later one is not durable, and goes.
    """

    def __init__(self, directory: Path, table: str, number: int) -> None:
        durable.make_directory(directory)
        self._path = _path_of(directory, table)
        self._waiting = {number: path for path, number in _files(directory, table) if number}  # of comparisons
        self.durable(number)
        while self._waiting:
            self._waiting.popitem()[1].unlink()
        self._cut()

    def _cut(self) -> None:
        """Take off a line that a crash cut short: the next one would go on behind it."""
        if self._path.exists():
            with self._path.open("r+b") as file:
                whole = sum(len(line) for line in file if line.endswith(b"\n"))
                file.truncate(whole)

    @property
    def exists(self) -> bool:
        """Whether keys are kept here."""
        return self._path.exists()

    def add(self, keys: Collection[Key], *, sure: bool = True) -> None:
        """Keys of rows that go on next; on disk when this returns.

        sure: a crash brings the rows again by itself. Else only a comparison would, which must not take them for there.
        """
        line = json.dumps(list(keys) if sure else {"perhaps": list(keys)}) + "\n"
        for path in (self._path, *self._waiting.values()):
            _append(path, line)

    def all(self) -> tuple[set[Key], set[Key]]:
        """(keys that the target has once all that was read is durable, keys that it may have besides)."""
        sure, perhaps = set[Key](), set[Key]()
        if self._path.exists():
            with self._path.open(encoding="utf-8") as file:
                for line in file:
                    found = json.loads(line)
                    if isinstance(found, dict):
                        perhaps.update(map(tuple, found["perhaps"]))
                    else:
                        sure.update(map(tuple, found))
        return sure, perhaps - sure

    def compared(self, keys: Collection[Key], number: int) -> None:
        """What the system had at a comparison; holds from when that one is durable."""
        path = self._path.with_suffix(f".{number}.jsonl")
        path.unlink(missing_ok=True)
        _append(path, json.dumps(list(keys)) + "\n")  # its deletes may be durable before it takes the old one's place
        self._waiting[number] = path

    def durable(self, number: int) -> None:
        """The comparison of that number is in the recovery store."""
        for one in sorted(self._waiting):  # the newest stays; two wait where one began before the former was durable
            if one <= number:
                durable.put(self._waiting.pop(one), self._path)
