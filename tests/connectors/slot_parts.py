"""Drives a slot's source partition by hand, epoch by epoch, into tables that apply what it brings."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import psycopg

from connectors import registry
from connectors.base.database import SourceContext
from connectors.base.items import ClearColumn, Item, Truncate
from connectors.formats.binding import TopicBinding
from connectors.postgres.source import PostgresChanges
from connectors.postgres.source_config import PostgresSourceConfig
from libcore.change import OP, TX, TX_ORDER, UNSET, ChangeBatch, Op
from libcore.reference.values import plain
from libcore.transaction_mark import END, TRANSACTION_MARKS, from_batch

SECONDS_MAX = 30.0


class Target:
    """Tables by name, as a target that applied the items has them: rows by key, or counted where there is none."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[tuple[Any, ...], list[Any]]] = {}
        self.counts: dict[str, Counter[tuple[Any, ...]]] = {}
        self.letters: list[str] = []
        self.truncates = 0
        self.clears: list[str] = []
        self.transactions = 0
        self.shares: Counter[tuple[str, str]] = Counter()  # changes by transaction and table that END marks tell of
        self.brought: set[tuple[str, str, int]] = set()  # transaction, table and number of each change that came

    def copy(self) -> Target:
        """As it is now."""
        other = Target()
        other.rows = {name: {key: list(row) for key, row in rows.items()} for name, rows in self.rows.items()}
        other.counts = {name: Counter(count) for name, count in self.counts.items()}
        return other

    def apply(self, items: list[Item]) -> None:
        """Apply an epoch."""
        for item in items:
            if isinstance(item, Truncate):
                self.truncates += 1
                self.rows.pop(item.table, None)
                self.counts.pop(item.table, None)
            elif isinstance(item, ClearColumn):
                self.clears.append(item.column)
            elif isinstance(item, ChangeBatch) and item.table.name == "headrace_dead_letters":
                self.letters += item.record.column("error").to_pylist()
            elif isinstance(item, ChangeBatch) and item.table == TRANSACTION_MARKS:
                marks = from_batch(item)
                self.transactions += sum(mark.collection is None for mark in marks)
                told = [mark for mark in marks if mark.kind == END and mark.collection is not None]
                self.shares |= Counter({(mark.transaction, mark.collection or ""): mark.count or 0 for mark in told})
            elif isinstance(item, ChangeBatch):
                self._take(item)

    def _take(self, batch: ChangeBatch) -> None:
        if TX in batch.record.schema.names:
            numbers = (batch.record.column(name).to_pylist() for name in (TX, TX_ORDER))
            self.brought |= {(tx, batch.table.name, number) for tx, number in zip(*numbers, strict=True) if tx}
        columns = [plain(batch.record.column(column.name)) for column in batch.table.columns]
        unset = batch.record.column(UNSET).to_pylist() if batch.has_unset else None
        rows = self.rows.setdefault(batch.table.name, {})
        count = self.counts.setdefault(batch.table.name, Counter())
        for row, op in enumerate(batch.record.column(OP).to_pylist()):
            values = [column[row] for column in columns]
            if not batch.table.key:
                count[tuple(values)] += -1 if op == Op.DELETE else 1
                continue
            key = tuple(values[index] for index in batch.table.key_indexes)
            if op == Op.DELETE:
                rows.pop(key, None)
            if op == Op.DELETE or (op == Op.UPDATE and key not in rows):
                continue
            if unset is not None and any(unset[row]):
                old = rows.get(key, ["LOST"] * len(values))
                old = old + [None] * (len(values) - len(old))  # a column that the table gained is NULL at first
                lacks = [bool(unset[row][i // 8] >> i % 8 & 1) for i in range(len(values))]
                values = [old[i] if lacks[i] else v for i, v in enumerate(values)]
            rows[key] = values

    def table(self, name: str) -> list[list[Any]]:
        """Its rows, in order; of a table without a key each as often as it is there."""
        if self.counts.get(name):
            assert min(self.counts[name].values()) >= 0, self.counts[name]
            return sorted([list(row) for row in self.counts[name].elements()], key=repr)
        return sorted(self.rows.get(name, {}).values(), key=repr)


class Flow:
    """A source over tables of a database, its recovery state, and a target; a crash goes back to the last epoch.

    Args:
        bindings: TopicBinding's arguments for all tables. options: PostgresSourceConfig's.
    """

    def __init__(
        self, dsn: str, directory: Path, tables: list[str], *, bindings: dict[str, Any] | None = None, **options: Any
    ) -> None:
        self.dsn = dsn
        (directory / "dsn").write_text(dsn, "utf-8")
        given: dict[str, Any] = {"slot": f"slot_{dsn.rpartition('/')[2]}", **options}
        self.config = PostgresSourceConfig(dsn=f"file:{directory / 'dsn'}", **given)
        self.context = SourceContext(flow="flow", directory=directory, decoder=registry.decoder)
        self.changes = PostgresChanges(self.config, self.context)
        self.tables, self.settings = tables, bindings or {}
        self.target = Target()
        self.state: Any = None
        self.states: dict[int, Any] = {}
        self.part: Any = None

    def open(self, *, until_end: bool = True, part: int = 0) -> None:
        """Start behind the last epoch. `part`: which of the slots."""
        described = self.changes.describe(self.tables)
        bound = {table.name: TopicBinding(table.name, **self.settings) for table in described}
        source = self.changes.source(described, bound, until_end=until_end)
        self.changes.close()  # as a flow does: what describes has no session while rows are read
        self.part = source.build_part("step", source.list_parts()[part], self.state)

    def epoch(self) -> bool:
        """One epoch into the target; False at the end."""
        try:
            items = self.part.next_batch()
        except StopIteration:
            return False
        self.target.apply(items)
        self.state = self.part.snapshot()
        awake = self.part.next_awake()
        if not items and awake is not None:
            time.sleep(max(0.0, (awake - datetime.now(UTC)).total_seconds()))
        return True

    def until(self, reached: Callable[[], bool]) -> None:
        """Epochs, one after the other, up to a moment that must come."""
        deadline = time.monotonic() + SECONDS_MAX
        while not reached():
            assert self.epoch()
            assert time.monotonic() < deadline, "it did not come"

    def until_under_crashes(self, reached: Callable[[], bool], chance: Random) -> None:
        """The same from a start on, with up to four crashes at any moment; ends with one."""
        crashes = 0
        self.open(until_end=False)
        while not reached():
            assert self.epoch()
            if crashes < 4 and chance.random() < 0.1:
                self.crash()
                self.open(until_end=False)
                crashes += 1
        self.crash()

    def crash(self) -> None:
        """Leave as a killed worker does; what its epochs brought stays."""
        self.part.close()

    def run(self, epochs: int = 1 << 30) -> bool:
        """Start, go on for so many epochs or to the end, and leave; whether the end was reached."""
        self.open()
        deadline = time.monotonic() + SECONDS_MAX
        try:
            for _ in range(epochs):
                if not self.epoch():
                    return True
                assert time.monotonic() < deadline, "the slot did not come to its end"
            return False
        finally:
            self.crash()

    def run_all(self) -> bool:
        """Each slot to its end, one after the other."""
        ended = []
        for part in range(1 + len(self.config.slots)):
            self.state = self.states.get(part)
            self.open(part=part)
            while self.epoch():
                continue
            self.crash()
            self.states[part] = self.state
            ended.append(part)
        return bool(ended)

    def close(self) -> None:
        """Drop slot and publication."""
        self.changes.drop()
        self.changes.close()


def source_rows(dsn: str, table: str, columns: str = "*") -> list[list[Any]]:
    """A table's rows as Target.table has them: texts as bytes, as `plain` gives them."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(f"SELECT {columns} FROM {table}").fetchall()
    return sorted([[v.encode() if isinstance(v, str) else v for v in row] for row in found], key=repr)


def differences(wanted: list[list[Any]], found: list[list[Any]]) -> tuple[list[str], list[str]]:
    """The first rows that only one of both has, cut to a line each: whole tables of large values cannot be read."""
    lost, other = Counter(map(repr, wanted)), Counter(map(repr, found))
    return [row[:100] for row in (lost - other).elements()][:5], [row[:100] for row in (other - lost).elements()][:5]


@contextmanager
def sessions_counted(dsn: str) -> Iterator[list[int]]:
    """How many sessions a flow has in the database, time and again while the block runs."""
    seen, ended = [0], threading.Event()

    def count() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            while not ended.is_set():
                found = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name LIKE 'headrace %'"
                ).fetchone()
                seen.append(found[0] if found else 0)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        yield seen
    finally:
        ended.set()
        counter.join()
