"""LogMiner sessions one after the other: how wide their windows are, and which logs each is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.oracle import sql
from connectors.oracle.config import OracleConfig
from connectors.oracle.mining import GAP_S, GAP_SCNS, Mining
from connectors.oracle.session import Session
from tests.connectors.oracle_parts import opened
from tests.doubles.oracle.database import OracleDatabase

WANTED = [("ERP", "ITEMS")]


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OracleDatabase:
    """An empty table ERP.ITEMS."""
    return opened(tmp_path, monkeypatch)


def config(**settings: object) -> OracleConfig:
    login = {name: f"env:ORACLE_{name.upper()}" for name in ("dsn", "user", "password")}
    given = {"settle_s": 0, "window_scns_min": 10, "window_scns_max": 80}
    return OracleConfig.model_validate({**login, **given, **settings})


class Clock:
    """Seconds that a test moves on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def mined(mining: Mining) -> tuple[int, int]:
    """One window: how many SCNs, how many rows."""
    low, high = mining.low, mining.window()
    rows = 0 if high <= low else sum(len(batch) for batch in mining.rows(WANTED, high))
    return high - low, rows


def burn(database: OracleDatabase, scns: int) -> None:
    """Others use up SCNs."""
    database.connection.execute("UPDATE clock SET scn = scn + ?, burned = burned + ?", [scns, scns])


def test_windows_grow_while_the_reader_is_behind(database: OracleDatabase) -> None:
    """Each window is twice as wide as the one before, up to the bound; once the reader has caught up they shrink."""
    settings = config()
    session = Session(settings)
    mining = Mining(session, settings, int(session.one(sql.CURRENT_SCN)[0]))
    burn(database, 400)
    widths = []
    while not mining.caught_up:
        widths.append(mined(mining)[0])
    assert widths[:6] == [10, 20, 40, 80, 80, 80]
    burn(database, 1000)
    assert mined(mining)[0] == 40
    session.close()


def test_a_gap_of_scns_is_one_window(database: OracleDatabase) -> None:
    """SCNs that jump in no time are mined at once; the same number over a longer time window by window."""
    settings, clock = config(), Clock()
    session = Session(settings)
    mining = Mining(session, settings, int(session.one(sql.CURRENT_SCN)[0]), monotonic=clock)
    burn(database, 5)
    mined(mining)
    burn(database, 2 * GAP_SCNS)
    clock.now += 1
    database.write("ERP.ITEMS", [{"ID": 1, "NAME": "behind the gap"}])
    burn(database, 5)
    width, rows = mined(mining)
    assert width > 2 * GAP_SCNS
    assert rows == 2  # the insert and its commit
    burn(database, 2 * GAP_SCNS)
    clock.now += GAP_S + 1
    assert mined(mining)[0] <= 80
    session.close()


def test_an_scn_is_mined_once_it_has_settled(database: OracleDatabase) -> None:
    """What is younger than `settle_s` waits: the log writer may not have written all of it."""
    settings, clock = config(settle_s=3.0), Clock()
    session = Session(settings)
    mining = Mining(session, settings, int(session.one(sql.CURRENT_SCN)[0]), monotonic=clock)
    database.write("ERP.ITEMS", [{"ID": 1, "NAME": "a"}])
    burn(database, 5)
    assert mined(mining) == (0, 0)
    clock.now = 2.9
    assert mined(mining) == (0, 0)
    clock.now = 3.0
    assert mined(mining)[1] == 2
    session.close()


def test_logs_are_chosen_anew_at_a_switch(database: OracleDatabase) -> None:
    """Over many switches, with logs archived, not archived yet and written over, every row is mined, and once."""
    settings = config()
    session = Session(settings)
    mining = Mining(session, settings, int(session.one(sql.CURRENT_SCN)[0]))
    rows = 0
    for number in range(9):
        database.write("ERP.ITEMS", [{"ID": number, "NAME": "a"}])
        database.log.switch(1, archive=number % 3 != 1)
        if number % 2:
            rows += mined(mining)[1]
    burn(database, 5)
    rows += sum(mined(mining)[1] for _ in range(8))
    mining.close()
    session.close()
    assert rows == 18
