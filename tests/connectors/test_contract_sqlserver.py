"""The contract of every source, for SQL Server: change tables and change tracking, over the ODBC drivers there are.

The drivers and the wire are real; behind them is the double of tests/doubles/sqlserver.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.connectors.contract_history import HistoryContract
from tests.connectors.contract_source import (
    ChangesContract,
    Followed,
    RowsContract,
    check_killed_and_rescaled,
    some_rows,
)
from tests.connectors.sqlserver_parts import WAYS, SqlServerSystem
from tests.doubles.sqlserver import SqlServerDouble


@pytest.fixture(params=WAYS, ids=["-".join(way) for way in WAYS])
def system(
    request: pytest.FixtureRequest, sqlserver: SqlServerDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SqlServerSystem]:
    """An empty database, followed in one of the ways."""
    made = SqlServerSystem(sqlserver, tmp_path, *request.param)
    monkeypatch.setenv("ERP_DSN", made.dsn)
    yield made
    made.close()


class TestSqlServer(RowsContract, ChangesContract, HistoryContract):
    """SQL Server keeps the whole contract."""


def test_a_key_that_moves_far(system: SqlServerSystem, tmp_path: Path) -> None:
    """Keys that one statement moves stand there once, under the new ones."""
    system.write(some_rows(Random(1), 0, 20))
    followed = Followed(system.pipeline(), tmp_path / "state")
    followed.until(lambda: followed.rows() == system.rows())
    system.run("UPDATE dbo.items SET id = id + 1000 WHERE id < 10")
    followed.until(lambda: followed.rows() == system.rows())
    followed.close()
    assert len(followed.rows()) == 20


@pytest.mark.parametrize("system", [WAYS[0], WAYS[-1]], ids=["cdc", "change_tracking"], indirect=True)
def test_killed_and_rescaled(
    system: SqlServerSystem, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in snapshot and stream and started again as two processes, target and database are equal."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    random = Random(8)
    system.write(some_rows(random, 0, 2000))

    def more() -> None:
        system.write(some_rows(random, 1900, 300), tuple(range(10 + len(system.rows()) % 7, 60)))

    check_killed_and_rescaled(system, tmp_path, postgres, more)
    assert 0 < len(system.rows()) < 2200
