"""Plays a seed: its history in the double's database, the connector beside it, a step at a time and killed at will."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doubles.oracle import schedule as s
from tests.doubles.oracle import store
from tests.doubles.oracle.database import OracleDatabase
from tests.doubles.oracle.follow import Follower
from tests.doubles.oracle.install import install
from tests.doubles.oracle.log import Record
from tests.doubles.oracle.transaction import Transaction, Values
from tests.doubles.oracle.types import Stored

_PIPELINE = """name = "seed"
[source.oracle]
dsn = "env:ORACLE_DSN"
user = "env:ORACLE_USER"
password = "env:ORACLE_PASSWORD"
mode = "{mode}"
chunk_rows = {chunk_rows}
batch_rows_max = {batch_rows_max}
window_scns_min = {window_scns}
window_scns_max = {window_max}
settle_s = 0
on_lost = "{on_lost}"
transaction_bytes_max = 65536
[sink.null]
[tables.items]
topic = "ERP.ITEMS"
on_truncate = "apply"
on_schema_change = "follow"
[tables.pairs]
topic = "ERP.PAIRS"
on_truncate = "apply"
on_schema_change = "follow"
[tables.loose]
topic = "ERP.LOOSE"
"""
Row = tuple[Stored, ...]


class Player:
    """One seed's database and its users.

    Args:
        directory: for its file.
    """

    def __init__(self, directory: Path, schedule: s.Schedule) -> None:
        self.database = OracleDatabase(directory / "oracle.db", threads=2, positional=schedule.positional)
        self.database.setting("committed_undo", "stripped" if schedule.stripped else "both")
        for name, (columns, key) in s.TABLES.items():
            logging = "ALL" if schedule.whole or name != s.PAIRS else "PRIMARY KEY"
            self.database.create_table(name, columns, key, logging=logging)
        file = directory / "seed.toml"
        text = _PIPELINE.format(**vars(schedule), window_max=max(schedule.window_scns, 1000))
        file.write_text(text, "utf-8")
        self.follower = Follower(file, directory / "state")
        self._open: dict[int, Transaction] = {}
        self._marks: dict[int, list[int]] = {}
        self._keys: dict[tuple[str, Row], int] = {}  # which transaction has touched a key

    def play(self, event: s.Event) -> None:
        """One event; nothing where it does not fit (any more)."""
        getattr(self, f"_{type(event).__name__.lower()}")(event)

    def end(self) -> None:
        """All transactions end, all redo comes, and the connector reads it."""
        for slot in sorted(self._open):
            self._end(s.End(slot, slot % 2 == 0))
        self._settle()
        self.follower.drain()

    def _settle(self) -> None:
        for thread in (1, 2):
            self.database.log.flush(thread)

    # -- what users do

    def _transaction(self, slot: int) -> Transaction:
        if slot not in self._open:
            self._open[slot] = self.database.begin(slot % 2 + 1)
            self._marks[slot] = []
        return self._open[slot]

    def _change(self, event: s.Change) -> None:
        transaction, table = self._transaction(event.slot), self.database.tables[event.table]
        transaction.step, transaction.unsupported, transaction.basic = event.step, event.unsupported, event.basic
        if not self._lock(transaction, event.table, event.key):
            return
        place, values = self._place(transaction, event.table, event.key), dict(event.values or ())
        to = event.to if table.key or "K" not in values else (values["K"],)
        if to is not None and not self._lock(transaction, event.table, to):
            return
        if event.values is None:
            if place is not None:
                transaction.delete(event.table, place)
        elif place is None:
            key = dict(zip(table.key or ("K",), event.key, strict=True))
            transaction.insert(event.table, values | key)
        else:
            if to is not None and table.key and self._place(transaction, event.table, to) is None:
                values |= dict(zip(table.key, to, strict=True))
            transaction.update(event.table, place, values, bare=event.bare)

    def _edit(self, event: s.Edit) -> None:
        transaction = self._transaction(event.slot)
        if self._lock(transaction, s.ITEMS, event.key):
            place = self._place(transaction, s.ITEMS, event.key)
            row = None if place is None else transaction.row(s.ITEMS, place)
            if place is not None and row is not None and row["NOTE"] is not None:
                transaction.edit(s.ITEMS, place, "NOTE", event.how, event.text)

    def _turn(self, event: s.Turn) -> None:
        transaction, table = self._transaction(event.slot), self.database.tables[event.table]
        mine = [key for key in event.keys if self._lock(transaction, event.table, key)]
        found = {place: key for key in mine if (place := self._place(transaction, event.table, key)) is not None}
        keys = [*found.values()]
        for place, to in zip(found, keys[1:] + keys[:1], strict=True):
            if len(found) > 1:
                transaction.update(event.table, place, dict(zip(table.key, to, strict=True)))

    def _lock(self, transaction: Transaction, name: str, key: tuple[object, ...]) -> bool:
        """Whether a key is the transaction's until it ends: whoever is later would wait for it."""
        return self._keys.setdefault((name, self._kept(name, key)), transaction.id) == transaction.id

    def _kept(self, name: str, key: tuple[object, ...]) -> Row:
        table = self.database.tables[name]
        columns = table.key or ("K",)
        return tuple(table.column(column).stored(value) for column, value in zip(columns, key, strict=True))

    def _place(self, transaction: Transaction, name: str, key: tuple[object, ...]) -> str | None:
        """Where the transaction sees a row of that key; None: nowhere."""
        columns, wanted = self.database.tables[name].key or ("K",), self._kept(name, key)
        seen: dict[str, Values | None] = dict(self.database.rows[name])
        seen |= {place: row for (of, place), row in transaction.changed.items() if of == name}
        for place, row in seen.items():
            if row is not None and tuple(row[column] for column in columns) == wanted:
                return place
        return None

    def _savepoint(self, event: s.Savepoint) -> None:
        if event.slot in self._open:
            self._marks[event.slot].append(self._open[event.slot].savepoint())

    def _back(self, event: s.Back) -> None:
        if self._marks.get(event.slot):
            self._open[event.slot].short = event.short
            self._open[event.slot].rollback_to(self._marks[event.slot].pop())

    def _end(self, event: s.End) -> None:
        transaction, _ = self._open.pop(event.slot, None), self._marks.pop(event.slot, None)
        if transaction is None:
            return
        if event.commit:
            transaction.commit(same=event.same)
        else:
            transaction.rollback()
        self._keys = {key: owner for key, owner in self._keys.items() if owner != transaction.id}

    def _noise(self, event: s.Noise) -> None:
        transaction = self._transaction(event.slot)
        transaction.noise(Record(0, "INTERNAL"))
        transaction.noise(Record(5, "DDL", "analyze", s.ITEMS, info="INTERNAL DDL (PlSql=0 RecDep=1)"))
        transaction.noise(Record(1, "INSERT", "/* No SQL_REDO for temporary tables */", s.OTHER))
        transaction.noise(Record(25, "SELECT_FOR_UPDATE", "select", s.ITEMS))

    # -- what administrators do

    def _switch(self, event: s.Switch) -> None:
        self.database.log.switch(event.thread, archive=event.archive)

    def _archive(self, event: s.Archive) -> None:
        self.database.log.archive()

    def _lag(self, event: s.Lag) -> None:
        if event.held:
            self.database.log.freeze(event.thread)
        else:
            self.database.log.flush(event.thread)

    def _free(self, name: str) -> None:
        """DDL waits for the transactions that hold rows of its table."""
        for slot, transaction in sorted(self._open.items()):
            if any(table == name for table, _ in transaction.changed):
                self._end(s.End(slot, commit=True))

    def _truncated(self, event: s.Truncated) -> None:
        self._free(event.table)
        self.database.truncate(event.table)

    def _column(self, event: s.Column) -> None:
        table = self.database.tables[event.table]
        if event.name not in [column.name for column in table.columns]:
            self._free(event.table)
            self.database.add_column(event.table, event.name, "NUMBER(5)", event.default)

    def _dropped(self, event: s.Dropped) -> None:
        if event.name in [column.name for column in self.database.tables[event.table].columns]:
            self._free(event.table)
            self.database.drop_column(event.table, event.name)

    def _purge(self, event: s.Purge) -> None:
        """Logs older than what is open and than what the connector had read when it was durable."""
        (scn,) = self.database.connection.execute("SELECT scn FROM clock").fetchone()
        oldest = self._oldest()
        self._settle()
        self.follower.drain()
        self.database.log.archive()
        self.database.log.purge(min(scn, oldest or scn))

    def _oldest(self) -> int | None:
        """Where the oldest open transaction began."""
        found = self.database.connection.execute("SELECT min(start_scn) FROM txn WHERE NOT ended").fetchone()
        return None if found[0] is None else int(found[0])

    def _overtaken(self, event: s.Overtaken) -> None:
        if event.gap:
            self.database.begin().missing()
        else:
            self.database.log.archive()
            self.database.log.purge(store.FOREVER)

    # -- what befalls the connector

    def _fault(self, event: s.Fault) -> None:
        self.database.fail(event.pattern, event.code, skip=event.skip)

    def _read(self, event: s.Read) -> None:
        for _ in range(event.steps):
            self.follower.step()

    def _kill(self, event: s.Kill) -> None:
        self.follower.kill(event.lost)

    # -- what is found

    def differences(self) -> list[str]:
        """A line for each row that is not as the truth has it."""
        lines = [f"a dead letter: {letter}" for letter in self.follower.fold.letters]
        for name in s.READ:
            table = self.database.tables[name]
            names = [column.name for column in table.columns]
            truth = Counter(tuple(row[column] for column in names) for row in self.database.truth(name))
            found: Counter[Row] = Counter()
            for row, count in self.follower.fold.rows(name).items():
                values = dict(row)
                found[tuple(column.stored(values.get(column.name)) for column in table.columns)] += count
            lines += [f"{name} lacks {count} x {row}" for row, count in (truth - found).items()]
            lines += [f"{name} has {count} x {row}" for row, count in (found - truth).items()]
        return [line[:400] for line in lines]


def run(schedule: s.Schedule) -> list[str]:
    """Play a seed; what is wrong, a line each. Raises what the connector raises."""
    with _place() as directory, pytest.MonkeyPatch.context() as monkeypatch:
        install(monkeypatch, directory / "oracle.db")
        for name in ("_IDLE_S", "_QUIET_S"):  # a position is told as soon as it moves
            monkeypatch.setattr(f"connectors.oracle.stream.{name}", 0.0)
        player = Player(directory, schedule)
        try:
            for event in schedule.events:
                player.play(event)
            player.end()
            return player.differences()
        finally:
            player.follower.close()
            player.database.close()


@contextmanager
def _place() -> Iterator[Path]:
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(prefix="oracle-", dir=memory if memory.is_dir() else None))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
