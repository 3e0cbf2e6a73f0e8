"""What must outlast a power failure does: the bytes of a file, and the name that leads to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors.base import durable, json_file
from connectors.base.spool import Spool
from connectors.files.folder import Ledger, Seen
from connectors.files.whole import KeyDifference
from connectors.postgres.dead_letters import Letters, write_parquet
from connectors.sap.idoc_spool import Spool as IdocSpool
from connectors.sap.rfc_keys import KeyLog
from flows.state.segments import SegmentStore
from flows.state.store import open_store
from tests.connectors.changes import batch, table

ITEMS = table()


class Disk:
    """A directory on a disk that keeps, when the power fails, what was synced and nothing else: the worst case.

    Args:
        root: the directory; there already.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._bytes: dict[int, bytes] = {}  # by inode
        self._names: dict[int, dict[str, int]] = {}  # inode of a directory -> inodes by name
        self._directories = set[int]()
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        path, inode = Path(f"/proc/self/fd/{descriptor}").resolve(), os.fstat(descriptor).st_ino
        if path.is_dir():
            self._names[inode] = {entry.name: entry.stat().st_ino for entry in path.iterdir()}
            self._directories |= {entry.stat().st_ino for entry in path.iterdir() if entry.is_dir()}
        else:
            self._bytes[inode] = path.read_bytes()

    def fail(self) -> None:
        """The power fails, and comes back."""
        inode = self._root.stat().st_ino
        former = self._root.rename(self._root.with_name("former"))  # its inodes stay taken
        self._restore(inode, self._root)
        shutil.rmtree(former)

    def _restore(self, inode: int, path: Path) -> None:
        path.mkdir()
        for name, entry in self._names.get(inode, {}).items():
            if entry in self._bytes:
                (path / name).write_bytes(self._bytes[entry])
            elif entry in self._directories:
                self._restore(entry, path / name)
            else:
                (path / name).touch()  # a name without its bytes


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Disk, Path]:
    """An empty disk, and its path."""
    root = tmp_path / "disk"
    root.mkdir()
    return Disk(root, monkeypatch), root


def rows() -> pa.RecordBatch:
    return batch(ITEMS, [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]).record


Kept = tuple[Callable[[], object], object]
"""What finds again, and what it must find."""


def of_json(root: Path) -> Kept:
    json_file.write(root / "one.json", {"a": 1}, durably=True)
    json_file.write(root / "one.json", {"a": 2}, durably=True)
    return lambda: json_file.read(root / "one.json", None), {"a": 2}


def of_spool(root: Path) -> Kept:
    file = Spool(root, "flow", 0, 1 << 20).write(1, [(ITEMS, rows())], {})
    return lambda: Spool(root, "flow", 0, 1 << 20).read(file).row_count, 2


def of_segments(root: Path) -> Kept:
    store = SegmentStore(root / "segments", "step", 0)
    name = store.new_name()
    size = store.write(name, [(ITEMS, rows())], {})
    return lambda: (root / "segments" / name).stat().st_size, size


def of_store(root: Path) -> Kept:
    store = open_store(root / "state", "name", "sink", 8, 2)
    store.remember_route("items", single_part=True)
    store.remember_table(ITEMS)
    store.remember_topics(["one"])

    def found() -> object:
        again = open_store(root / "state", "name", "sink", 8, 2)
        return again, again.route("items"), again.table(ITEMS.name), again.topics()

    return found, (store, True, ITEMS, {"one"})


def of_ledger(root: Path) -> Kept:
    ledger = Ledger(root / "files", None)
    for name in ("a.csv", "b.csv"):
        ledger.add(Seen(name, 1, 2))
    place = ledger.place
    ledger.close()
    return lambda: list(Ledger(root / "files", place).entries), ["a.csv", "b.csv"]


def of_whole_files(root: Path) -> Kept:
    columns = rows()
    first = KeyDifference(ITEMS, root / "files", 1, None)
    first.see([columns.column(column.name) for column in ITEMS.columns])
    name = first.finish()

    def found() -> object:
        second = KeyDifference(ITEMS, root / "files", 2, name)
        gone = [piece[0].to_pylist() for piece in second.gone("second.csv", 1.0, 10)]
        second.close()
        return gone

    return found, [[1, 2]]


def of_keys(root: Path) -> Kept:
    log = KeyLog(root / "sap_rfc", "T", 0)
    log.add([("1",), ("2",)])
    log.compared([("2",)], 1)
    log.add([("3",)])
    log.durable(1)
    log.add([("4",)], sure=False)
    return lambda: KeyLog(root / "sap_rfc", "T", 1).all(), ({("2",), ("3",)}, {("4",)})


def of_comparison(root: Path) -> Kept:
    log = KeyLog(root / "sap_rfc", "T", 0)
    log.add([("1",), ("2",)])
    log.compared([("2",)], 1)  # and the recovery store has it, but nobody was told
    return lambda: KeyLog(root / "sap_rfc", "T", 1).all(), ({("2",)}, set())


def of_idocs(root: Path) -> Kept:
    folder = root / "sources" / "one" / "idocs"
    IdocSpool(folder, bytes_max=1 << 20, kept=1_000).close()
    return folder.is_dir, True  # SQLite syncs what is in it by itself


def of_dead_letters(root: Path) -> Kept:
    letters = Letters("flow")
    letters.rows.append({"reason": "data", "table_name": "items"})
    write_parquet(root / "letters", "flow", 0, 1, letters)
    return lambda: parquet.read_table(root / "letters")["reason"].to_pylist(), ["data"]


KEPT = [
    of_json, of_spool, of_segments, of_store, of_ledger, of_whole_files, of_keys, of_comparison, of_idocs,
    of_dead_letters,
]  # fmt: skip


@pytest.mark.parametrize("keep", KEPT)
def test_outlasts_a_power_failure(disk: tuple[Disk, Path], keep: Callable[[Path], Kept]) -> None:
    """What a recovery state may name is found after a power failure as it was left."""
    found, expected = keep(disk[1])
    disk[0].fail()
    assert found() == expected


def test_a_name_alone_is_not_kept(disk: tuple[Disk, Path]) -> None:
    """The disk of these tests forgets what was not synced: a file without its name, and a name without its bytes."""
    root = disk[1]
    (root / "unnamed").write_text("x")
    with (root / "unnamed").open("rb") as file:
        os.fsync(file.fileno())
    json_file.write(root / "old.json", 1, durably=True)
    (root / "empty").write_text("x")
    durable.sync_directory(root)
    (root / "unnamed").rename(root / "renamed")
    disk[0].fail()
    assert {path.name: path.read_bytes() for path in root.iterdir()} == {
        "unnamed": b"x", "old.json": b"1", "empty": b"",
    }  # fmt: skip
