"""What every source that is read directly must keep, whatever the system: run by a subclass for each of them.

A system is a small adapter (`SourceSystem`): it makes its tables, writes changes, tells what is in them, and has a
pipeline file. `Followed` drives its source as a worker does, an epoch a call, and crashes it wherever a test likes:
what came in the open epoch and in the last closed one is forgotten, and a new partition goes on from the state before.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, Protocol

import psycopg

from connectors.base.items import Tick, Truncate
from flows import build, reading
from flows.testing import run_flow
from flows.verify import verify
from libcore.change import ChangeBatch, Op
from libcore.dead_letter import DEAD_LETTERS

SHORT = re.compile(r".*[./]")
"""What a system puts in front of a table's own name: a schema, a service."""
Row = tuple[int, str | None, Decimal | None]
Rows = dict[int, Row]
TABLE, IDLE = "items", "idle"
QUIET_S, PATIENCE_S = 0.4, 20.0


class SourceSystem(Protocol):
    """A system with a table `items` (id, name, price) by id, and an empty table `idle` of the same columns."""

    def pipeline(self, sink: str = "[sink.null]\n", **settings: Any) -> Path:
        """The pipeline file over both tables; `settings` of the source: batch_rows_max, ..."""

    def write(self, rows: Rows, deleted: tuple[int, ...] = ()) -> None:
        """Upserts and deletes, committed together."""

    def rows(self) -> Rows:
        """What the table holds now."""


class Followed:
    """A pipeline's source, driven by hand, and what a target would hold."""

    def __init__(self, file: Path, directory: Path, *, until_end: bool = False) -> None:
        self._file, self._directory, self._until_end = str(file), directory, until_end
        self._pipeline = build.load(self._file)
        self._states: dict[str, Any] = {}
        self._closed: list[tuple[list[Any], dict[str, Any]]] = []  # epochs that are not durable yet
        self.tables: dict[str, dict[Any, tuple[Any, ...]]] = {}
        self.copies: dict[str, Counter[tuple[Any, ...]]] = {}
        self.letters: list[dict[str, Any]] = []
        self.columns: dict[str, list[str]] = {}
        self.open()

    def open(self) -> None:
        """Partitions that go on from the durable states."""
        bindings = reading.bind(self._pipeline, self._file)
        source = reading.make_source(
            self._pipeline, bindings, until_end=self._until_end, path=self._file, directory=self._directory
        )
        self._parts = {name: source.build_part("source", name, self._states.get(name)) for name in source.list_parts()}

    def follow(self, file: Path) -> None:
        """Go on with another pipeline file from the durable states."""
        self._file, self._pipeline = str(file), build.load(str(file))
        self.open()

    def epoch(self) -> int:
        """One epoch of all partitions; how many rows it brought, -1: all have ended. The former one is durable now."""
        items, alive = [], dict(self._parts)
        for name, part in self._parts.items():
            try:
                items += part.next_batch()
            except StopIteration:
                alive.pop(name)
                part.close()
        states = {name: part.snapshot() for name, part in alive.items()}
        self._parts = alive
        self._closed.append((items, states))
        while len(self._closed) > (1 if alive else 0):
            self._make_durable()
        return sum(len(item) for item in items if isinstance(item, ChangeBatch)) if alive else -1

    def _make_durable(self) -> None:
        items, states = self._closed.pop(0)
        for item in items:
            self._apply(item)
        self._states |= states

    def crash(self) -> None:
        """Lose the process in the middle of an epoch, the one before not durable yet; go on from the durable states."""
        self._closed.clear()
        for part in self._parts.values():
            part.next_batch()
            part.close()
        self.open()

    def edited(self) -> None:
        """The file was changed: end, and start again by it."""
        self.close()
        self._pipeline = build.load(self._file)
        self.open()

    def until(self, reached: Callable[[], bool]) -> None:
        """Epochs until something is so."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            assert time.monotonic() < deadline, {name: len(rows) for name, rows in self.tables.items()}
            if self.epoch() < 1:
                time.sleep(0.005)

    def drained(self) -> None:
        """Epochs to the end, where the source ends by itself."""
        while self.epoch() >= 0:
            time.sleep(0.002)

    def close(self) -> None:
        """End all partitions as a worker does that is told to: its last epoch is durable."""
        for part in self._parts.values():
            part.close()
        while self._closed:
            self._make_durable()

    def rows(self, table: str = TABLE) -> Rows:
        """What a target holds, in the columns of the contract."""
        rows: Any = {key[0]: row[:3] for key, row in self.tables.get(table, {}).items()}
        return rows

    def _apply(self, item: Any) -> None:
        if isinstance(item, Truncate):
            self.tables.pop(SHORT.sub("", item.table), None)
            self.copies.pop(SHORT.sub("", item.table), None)
        if not isinstance(item, ChangeBatch):
            assert isinstance(item, Tick | Truncate), item
            return
        if item.table == DEAD_LETTERS:
            self.letters += item.record.to_pylist()
            return
        width, name = len(item.table.columns), SHORT.sub("", item.table.name)
        self.columns[name] = [column.name for column in item.table.columns]
        values = zip(*(column.to_pylist() for column in item.record.columns), strict=True)
        for row in values:
            key = tuple(row[index] for index in item.table.key_indexes)
            if not item.table.key:
                self.copies.setdefault(name, Counter())[row[:width]] += 1 if row[width] != Op.DELETE else -1
            elif row[width] == Op.DELETE:
                self.tables.setdefault(name, {}).pop(key, None)
            elif row[width] != Op.UPDATE or key in self.tables.get(name, {}):
                former = (*self.tables.setdefault(name, {}).get(key, ()), *(None,) * width)
                unset = int.from_bytes(row[-1], "little") if item.has_unset else 0  # such a column keeps its value
                kept = zip(row[:width], former[:width], strict=True)
                self.tables[name][key] = tuple(old if unset >> at & 1 else new for at, (new, old) in enumerate(kept))


def some_rows(random: Random, first: int, count: int) -> Rows:
    """Rows of ids from `first` on, with NULLs and awkward texts among them."""
    names = [None, "", "a", "quote \" and ; and ' and ,", "line\nend", "ü€😀", "null", "\\N", " x "]
    return {
        number: (number, random.choice(names), random.choice([None, Decimal(random.randint(-(10**9), 10**9)) / 10000]))
        for number in range(first, first + count)
    }


class RowsContract:
    """Rows arrive, all of them, once, and with the values they have."""

    def test_all_rows_arrive(self, system: SourceSystem, tmp_path: Path) -> None:
        """What several transactions wrote before the start is there at the end, value by value; nothing is refused."""
        random = Random(1)
        for first in range(0, 900, 300):
            system.write(some_rows(random, first, 300))
        followed = Followed(system.pipeline(batch_rows_max=70), tmp_path / "state", until_end=True)
        followed.drained()
        assert followed.rows() == system.rows()
        assert len(followed.rows()) == 900
        assert followed.letters == []

    def test_equal_under_a_writer(self, system: SourceSystem, tmp_path: Path) -> None:
        """A writer that goes on through snapshot, hand-over and stream: in the end both sides are equal."""
        system.write(some_rows(Random(2), 0, 400))
        ended = threading.Event()

        def write() -> None:
            random = Random(3)
            for _ in range(25):
                system.write(some_rows(random, random.randrange(500), 5))
                time.sleep(0.004)
            ended.set()

        followed = Followed(system.pipeline(batch_rows_max=40), tmp_path / "state")
        writer = threading.Thread(target=write)
        writer.start()
        followed.until(ended.is_set)
        writer.join()
        followed.until(lambda: followed.rows() == system.rows())
        followed.close()
        assert followed.rows() == system.rows()

    def test_a_crash_at_any_epoch_changes_nothing(self, system: SourceSystem, tmp_path: Path) -> None:
        """Crashed after one epoch in three, in snapshot, hand-over and stream, every row is there with its value."""
        random = Random(4)
        system.write(some_rows(random, 0, 200))
        followed = Followed(system.pipeline(batch_rows_max=30), tmp_path / "state")
        for step in range(24):
            followed.epoch()
            if step % 4 == 3:
                system.write(some_rows(random, random.randrange(250), 10))
            if step % 3 == 2:
                time.sleep(0.02)  # something is read ahead, and lost
                followed.crash()
        followed.until(lambda: followed.rows() == system.rows())
        followed.close()
        assert followed.rows() == system.rows()

    def test_big_values(self, system: SourceSystem, tmp_path: Path) -> None:
        """A text of two million characters arrives whole, among small ones."""
        big: Rows = {number: (number, "x€" * 1_000_000 if number == 2 else "y", None) for number in range(5)}
        system.write(big)
        followed = Followed(system.pipeline(), tmp_path / "state", until_end=True)
        followed.drained()
        assert followed.rows() == system.rows() == big

    def test_idle_tables_hold_nothing_back(self, system: SourceSystem, tmp_path: Path) -> None:
        """A table without a row stays empty and keeps no other waiting; what was read does not come again."""
        followed = Followed(system.pipeline(), tmp_path / "state")
        system.write(some_rows(Random(5), 0, 20))
        followed.until(lambda: followed.rows() == system.rows())
        system.write({3: (3, "again", None)})
        followed.until(lambda: followed.rows() == system.rows())
        brought = 0
        for _ in range(30):
            brought += max(0, followed.epoch())
            time.sleep(0.005)
        followed.close()
        assert (followed.rows(IDLE), brought) == ({}, 0)


class ChangesContract:
    """Rows that go and come again."""

    def test_deletes_and_inserts_again(self, system: SourceSystem, tmp_path: Path) -> None:
        """A row that is deleted goes, one that comes again has its new values, across crashes."""
        random = Random(6)
        system.write(some_rows(random, 0, 120))
        followed = Followed(system.pipeline(batch_rows_max=25), tmp_path / "state")
        followed.until(lambda: followed.rows() == system.rows())
        for _ in range(4):
            gone = tuple(random.sample(sorted(system.rows()), 30))
            system.write({}, gone)
            followed.epoch()
            system.write(some_rows(random, min(gone), 8))
            followed.crash()
        followed.until(lambda: followed.rows() == system.rows())
        followed.close()
        assert 0 < len(followed.rows()) < 120

    def test_a_key_changes(self, system: SourceSystem, tmp_path: Path) -> None:
        """A row under a new key stands there once, under the new one."""
        system.write({1: (1, "a", None), 2: (2, "b", None)})
        followed = Followed(system.pipeline(), tmp_path / "state")
        followed.until(lambda: followed.rows() == system.rows())
        system.write({9: (9, "a", None)}, (1,))
        followed.until(lambda: followed.rows() == system.rows())
        followed.close()
        assert followed.rows() == {2: (2, "b", None), 9: (9, "a", None)}


def check_killed_and_rescaled(
    system: SourceSystem,
    directory: Path,
    dsn: str,
    write_more: Callable[[], None],
    *,
    batch_rows_max: int = 100,
    comparable: bool = True,
) -> None:
    """Real processes into a real PostgreSQL: killed with SIGKILL in snapshot and stream, started again as two.

    `write_more`: writes changes between the starts. The target's environment variable is TARGET_DSN. `comparable`: the
    source can be read again, so `verify` is asked, too.
    """
    sink = '[sink.postgres]\ndsn = "env:TARGET_DSN"\n'
    file = system.pipeline(sink, batch_rows_max=batch_rows_max)
    environment = {"TARGET_DSN": dsn}

    def count() -> int:
        with psycopg.connect(dsn, autocommit=True) as connection:
            if connection.execute("SELECT to_regclass('public.items') IS NULL").fetchall() == [(True,)]:
                return -1
            return connection.execute("SELECT count(*) FROM items").fetchall()[0][0]

    flow = f"flows.build:flow('{file}')"
    killed = run_flow(flow, directory, environment=environment, kill_after_s=0.0, ready=lambda: count() > 0)
    write_more()
    killed += run_flow(flow, directory, environment=environment, kill_after_s=0.0, ready=lambda: count() >= 900)
    write_more()
    ended = run_flow(f"flows.build:flow('{file}', until_end=True)", directory, processes=2, environment=environment)
    log = (directory / "process-0.log").read_text()[-3000:]
    assert (killed, ended) == ([-9, -9], [0, 0]), log
    with psycopg.connect(dsn, autocommit=True) as connection:
        found = {row[0]: row for row in connection.execute("SELECT id, name, price FROM items").fetchall()}
    assert found == system.rows()
    if not comparable:
        return
    report = verify(str(file))
    assert report.equal, list(report.lines())
    assert {SHORT.sub("", table.source) for table in report.tables} == {TABLE, IDLE}
