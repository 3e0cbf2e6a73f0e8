"""The killing runs of [source.oracle]: from the simulator of tests/doubles, with a writer in two instances.

The simulator stands behind the driver's Python interface, in the process of each worker: there is no server that could
be killed by itself. A killed worker's sessions die with it, in the middle of a statement; database, redo and writer go
on in a file and outlive it. LogMiner's transactions are put together by the flow and by the database in turn.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.crash_direct import FollowedRig, ScriptWriter
from bench.crash_script import KEY_COLUMNS, Change, Row
from control.embedded import EmbeddedPostgres

_PIPELINE = """
name = "crash"
tables = ["items", "ledger"]
[source.oracle]
dsn = "env:ORACLE_DSN"
user = "env:ORACLE_USER"
password = "env:ORACLE_PASSWORD"
default_schema = "ERP"
mode = "{mode}"
chunk_rows = 200
batch_rows_max = 200
poll_s = 0.05
settle_s = 0
window_scns_min = 200
guardian.rows_per_second_max = {rows_per_second_max}
[sink.postgres]
dsn = "env:BENCH_DSN"
"""
MODES = ("logminer", "logminer_committed")
_TABLES = {
    "items": [("order_id", "NUMBER(9)"), ("line_no", "NUMBER(9)"), ("quantity", "NUMBER(9)"), ("note", "CLOB")],
    "ledger": [("account", "NUMBER(9)"), ("text", "VARCHAR2(20)")],
}
_KEYED = ("items",)  # a doubled or a lost row of the ledger cannot hide behind a key
_NOTE_CHARACTERS = 5_000  # such a CLOB lies outside of its row
_WAIT_S = 0.02
_KEPT_OPEN = 0.3  # how often a transaction of the second instance is open over several of the first one


class OracleWriter(ScriptWriter):
    """Two instances at work: one changes items, the other the ledger, their redo interleaved.

    Some statements are undone by a savepoint, some transactions rolled back, logs are switched, redo is flushed late.
    """

    def __init__(self, database: Any, rows: int, seed: int) -> None:
        super().__init__(rows, seed, note_characters=_NOTE_CHARACTERS)
        self._database = database
        self._places: dict[str, dict[Row, str]] = {name: {} for name in _TABLES}
        transaction = database.begin()
        for change in self.script.initial():
            self._apply(transaction, change)
        transaction.commit()
        self._second: Any = None

    def work(self) -> None:
        """See Writer.work; at the end nothing is open and all redo can be mined."""
        super().work()
        if self._second is not None:
            self._second.commit()
        for thread in (1, 2):
            self._database.log.flush(thread)

    def write(self) -> None:
        """See SteppedWriter.write."""
        self._administer()
        first = self._database.begin(1)
        self._second = self._second or self._database.begin(2)
        for change in self.script.transaction("items"):
            self._apply(first, change)
            self._undone(first)
            for entry in self.script.transaction("ledger"):
                self._apply(self._second, entry)
        if self.beat_is_due():
            self._apply(first, self.script.beat())
        first.commit()
        self._rolled_back()
        if self.chance.random() > _KEPT_OPEN:
            self._second.commit()
            self._second = None
        self.ended.wait(_WAIT_S)

    def _apply(self, transaction: Any, change: Change) -> None:
        table, places, width = f"ERP.{change.table}", self._places[change.table], KEY_COLUMNS[change.table]
        names = [name for name, _ in _TABLES[change.table]]
        for key in change.deleted:
            if (place := places.pop(key, None)) is not None:
                transaction.delete(table, place)
        for row in change.upserts:
            values = dict(zip(names, row, strict=True))
            if (place := places.get(row[:width])) is None:
                places[row[:width]] = transaction.insert(table, values)
            else:
                now = transaction.row(table, place)
                transaction.update(table, place, {name: one for name, one in values.items() if now[name] != one})

    def _undone(self, transaction: Any) -> None:
        """Now and then a statement that a savepoint takes back."""
        if self.chance.random() < 0.3:
            mark = transaction.savepoint()
            transaction.update("ERP.items", self._any_item(), {"quantity": -1})
            transaction.rollback_to(mark)

    def _rolled_back(self) -> None:
        """Now and then a whole transaction that comes to nothing."""
        if self.chance.random() < 0.1:
            transaction = self._database.begin(1)
            transaction.update("ERP.items", self._any_item(), {"quantity": -2})
            transaction.insert("ERP.items", {"order_id": -1, "line_no": self.transactions, "quantity": 0})
            transaction.rollback()

    def _any_item(self) -> str:
        places = self._places["items"]
        return places[0, 0] if self.chance.random() < 0.2 else self.chance.choice(list(places.values()))

    def _administer(self) -> None:
        log, thread = self._database.log, self.chance.randint(1, 2)
        what = self.chance.choices([None, log.switch, log.freeze, log.flush], [90, 2, 4, 4])[0]
        if what is not None:
            what(thread)


class OracleRig(FollowedRig):
    """The flow is the simulated database read directly into PostgreSQL, and no broker."""

    def __init__(self, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> None:
        super().__init__(postgres, rows, scratch)
        self._database: Any = None

    def begin(self) -> OracleWriter:
        """See DirectRig.begin."""
        from tests.doubles.oracle.database import OracleDatabase

        self._shut()
        self._database = OracleDatabase(self.scratch / f"oracle-{self.runs}.db", threads=2)
        for name, columns in _TABLES.items():
            key = [column for column, _ in columns[: KEY_COLUMNS[name]]] if name in _KEYED else []
            self._database.create_table(f"ERP.{name}", columns, key)
        return OracleWriter(self._database, self._rows, self.runs)

    def text(self) -> str:
        """See DirectRig.text."""
        return _PIPELINE.format(mode=MODES[self.runs % len(MODES)], rows_per_second_max=self.rows_per_second_max)

    def environment(self) -> dict[str, str]:
        """See Rig.environment."""
        from tests.doubles.oracle.install import environment

        return environment(self._database.path)

    def close(self) -> None:
        """See DirectRig.close."""
        super().close()
        self._shut()

    def _shut(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database.path.unlink()


def opened(stack: ExitStack, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> OracleRig:
    """The rig of this flow."""
    return OracleRig(postgres, rows, scratch)
