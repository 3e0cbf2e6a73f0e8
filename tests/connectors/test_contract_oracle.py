"""The contract of every source, for Oracle: flashback snapshot, then LogMiner, against the double of tests/doubles."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from tests.connectors.contract_history import HistoryContract
from tests.connectors.contract_source import (
    IDLE,
    TABLE,
    ChangesContract,
    Followed,
    Rows,
    RowsContract,
    check_killed_and_rescaled,
    some_rows,
)
from tests.doubles.oracle.database import OracleDatabase
from tests.doubles.oracle.install import install

MODES = ("logminer", "logminer_committed", "trigger_log")


class OracleSystem:
    """A database of two instances; '' is NULL in it, as in every Oracle."""

    def __init__(self, directory: Path, mode: str, name_type: str = "VARCHAR2(4000)") -> None:
        self._directory, self.mode = directory, mode
        self.database = OracleDatabase(directory / "oracle.db", threads=2)
        for name in (TABLE, IDLE):
            columns = [("id", "NUMBER(10)"), ("name", name_type), ("price", "NUMBER(18,4)")]
            self.database.create_table(f"ERP.{name}", columns, ["id"])
            if mode == "trigger_log":
                self.database.keep_log(f"ERP.{name}")

    def pipeline(self, sink: str = "[sink.null]\n", **settings: object) -> Path:
        login = "".join(f'{name} = "env:ORACLE_{name.upper()}"\n' for name in ("dsn", "user", "password"))
        text = f'name = "ora"\ntables = ["items", "idle"]\n[source.oracle]\n{login}mode = "{self.mode}"\n'
        text += 'default_schema = "ERP"\npoll_s = 0.02\nsettle_s = 0\n'
        text += "".join(f"{name} = {value}\n" for name, value in settings.items())
        file = self._directory / "ora.toml"
        file.write_text(text + sink, "utf-8")
        return file

    def write(self, rows: Rows, deleted: tuple[int, ...] = ()) -> None:
        name = f"ERP.{TABLE}"
        upserts = [dict(zip(("id", "name", "price"), row, strict=True)) for row in rows.values()]
        places = self.database.places(name)
        if len(deleted) == 1 and len(rows) == 1:
            transaction = self.database.begin(2)
            transaction.update(name, places[deleted], upserts[0])
            transaction.commit()
        else:
            self.database.write(name, upserts, [(key,) for key in deleted])

    def rows(self) -> Rows:
        found = self.database.truth(f"ERP.{TABLE}")
        return {row["id"]: (row["id"], row["name"], _price(row["price"])) for row in found}  # type: ignore[misc]


def _price(kept: object) -> Decimal | None:
    return None if kept is None else Decimal(str(kept))


@pytest.fixture(params=MODES)
def system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OracleSystem:
    """An empty database, read in one of the modes."""
    install(monkeypatch, tmp_path / "oracle.db")
    return OracleSystem(tmp_path, request.param)


class TestOracle(RowsContract, ChangesContract, HistoryContract):
    """Oracle keeps the whole contract, whoever puts transactions together."""

    def test_big_values(self, system: OracleSystem, tmp_path: Path) -> None:
        """A text of two million characters, which only a CLOB can be, arrives whole, among small ones."""
        directory = tmp_path / "big"
        directory.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch:
            install(monkeypatch, directory / "oracle.db")
            big = OracleSystem(directory, system.mode, "CLOB")
            super().test_big_values(big, tmp_path)
            assert len(big.rows()) == 5


def test_rows_of_both_instances_in_one_order(system: OracleSystem, tmp_path: Path) -> None:
    """A row that two instances change in turn has the last value; what one of them rolls back is not seen."""
    system.write(some_rows(Random(1), 0, 10))
    followed = Followed(system.pipeline(), tmp_path / "state")
    followed.until(lambda: followed.rows() == system.rows())
    place = system.database.places("ERP.items")[(3,)]
    for number in range(10):
        transaction = system.database.begin(1 + number % 2)
        transaction.update("ERP.items", place, {"name": f"by {number}"})
        mark = transaction.savepoint()
        transaction.update("ERP.items", place, {"name": "never"})
        transaction.rollback_to(mark)
        transaction.commit()
        if number % 4 == 3:
            system.database.log.switch(1 + number % 2)
    other = system.database.begin(2)
    other.delete("ERP.items", place)
    other.rollback()
    followed.until(lambda: followed.rows() == system.rows())
    followed.close()
    assert followed.rows()[3][1] == "by 9"
    assert followed.letters == []


def test_a_long_transaction_shows_at_its_commit(system: OracleSystem, tmp_path: Path) -> None:
    """Rows of an open transaction are not seen, over log switches and a crash; at the commit all of them are."""
    system.write(some_rows(Random(1), 0, 10))
    followed = Followed(system.pipeline(batch_rows_max=100), tmp_path / "state")
    followed.until(lambda: len(followed.rows()) == 10)
    transaction = system.database.begin(2)
    for number in range(1000, 1600):
        transaction.insert("ERP.items", {"id": number})
        if number % 200 == 0:
            system.database.log.switch(2)
            system.write({5: (5, f"at {number}", None)})
            followed.until(lambda: followed.rows()[5][1] == f"at {number}")  # noqa: B023
            followed.crash()
    assert len(followed.rows()) == 10
    transaction.commit()
    followed.until(lambda: len(followed.rows()) == 610)
    followed.close()
    assert followed.rows() == system.rows()


def test_killed_and_rescaled(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in snapshot and stream and started again as two processes, target and database are equal."""
    install(monkeypatch, tmp_path / "oracle.db")
    monkeypatch.setenv("TARGET_DSN", postgres)
    system, random = OracleSystem(tmp_path, "logminer"), Random(8)
    system.write(some_rows(random, 0, 2000))

    def more() -> None:
        system.write(some_rows(random, 1900, 300), tuple(range(10 + len(system.rows()) % 7, 60)))

    check_killed_and_rescaled(system, tmp_path, postgres, more)
    assert 0 < len(system.rows()) < 2200
