"""SQLite tables that are read again, where SQLite differs: rowids that move, appended rows only, no changes at all."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from connectors.base import requests
from connectors.base.guardian import Guardian, Pace
from connectors.sqlite.asked import AskedRows
from connectors.sqlite.chunks import WantedTable
from connectors.sqlite.database import describe
from connectors.sqlite.reader import FIRST
from tests.connectors.contract_source import Followed
from tests.connectors.request_parts import answered, ask
from tests.connectors.test_sqlite import database, pipeline
from tests.examples import TIMES

TEXT_KEY = "CREATE TABLE a (k TEXT PRIMARY KEY, n INT)"


@pytest.fixture(autouse=True)
def looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is found soon."""
    monkeypatch.setattr(requests, "_LOOK_S", 0.02)


@pytest.mark.parametrize("seed", range(3 * TIMES))
def test_vacuum_in_mid_table_loses_no_row(seed: int, tmp_path: Path) -> None:
    """Rows are deleted and the file is vacuumed between chunks, which gives rowids anew: every row comes right."""
    random = Random(seed)
    table = '[tables.a]\ntopic = "a"\nkey = ["k"]\n'  # SQLite keeps rowids where a table has an index
    with closing(database(tmp_path, "CREATE TABLE a (k TEXT, n INT)")) as connection:
        connection.executemany("INSERT INTO a VALUES (?, ?)", [(f"k{n}", n) for n in range(200)])
        followed = Followed(pipeline(tmp_path, table, "triggers", "batch_rows_max = 3"), tmp_path / "state")
        followed.until(lambda: len(followed.tables.get("a", {})) == 200)
        rows = followed.tables["a"]
        for key, row in rows.items():
            rows[key] = (row[0], -1, *row[2:])
        answer = ask(tmp_path / "state", "a")
        for left in (150, 90, 40):
            followed.until(lambda: sum(row[1] == -1 for row in rows.values()) < left)  # noqa: B023
            assert not answer.exists()
            some = [(f"k{n}",) for n in range(200) if random.random() < 0.1]
            connection.executemany("DELETE FROM a WHERE k = ?", some)
            connection.execute("VACUUM")
            if random.random() < 0.5:
                followed.crash()
                rows = followed.tables["a"]
        followed.until(answer.exists)
        truth = dict(connection.execute("SELECT k, n FROM a"))
        followed.until(lambda: {row[0]: row[1] for row in rows.values()} == truth)
        followed.close()
    assert answered(answer)["done"]


def test_rows_to_be_appended_come_once(tmp_path: Path) -> None:
    """With follow = "rowid" a request reads up to the greatest rowid that was brought: greater ones come as new."""
    with closing(database(tmp_path, "CREATE TABLE a (id INTEGER PRIMARY KEY, n INT)")) as connection:
        connection.executemany("INSERT INTO a VALUES (?, ?)", [(n, n) for n in range(1, 6)])
        found = describe(connection, "a")
        tables = {"a": WantedTable(found.source.table, found, {})}
        asked = AskedRows(connection, tables, 10, tmp_path, Pace(Guardian()), (), ())
        ask(tmp_path, "a", "n > 1 OR n < 0")
        part, whole, rows = asked.next((), {"a": 3}) or pytest.fail("nothing was asked for")
        assert (part, whole, rows) == (tables["a"], None, [(2, 2), (3, 3)])
        followed = Followed(pipeline(tmp_path, 'tables = ["a"]', "rowid"), tmp_path / "state")
        followed.until(lambda: len(followed.tables.get("a", {})) == 5)
        followed.tables["a"].clear()
        answer = ask(tmp_path / "state", "a")
        followed.until(lambda: answer.exists() and len(followed.tables["a"]) == 5)
        connection.execute("INSERT INTO a VALUES (6, 6)")
        followed.until(lambda: len(followed.tables["a"]) == 6)
        followed.close()


def test_a_database_that_is_not_followed(tmp_path: Path) -> None:
    """With follow = "nothing" what is asked for is all that comes behind the snapshot, an older state's too."""
    with closing(database(tmp_path, TEXT_KEY)) as connection:
        connection.execute("INSERT INTO a VALUES ('one', 1), ('two', 2)")
        followed = Followed(pipeline(tmp_path, 'tables = ["a"]'), tmp_path / "state")
        followed.until(lambda: len(followed.tables.get("a", {})) == 2)
        connection.execute("UPDATE a SET n = n * 10")
        for _ in range(5):
            followed.epoch()
        for name, state in followed._states.items():
            followed._states[name] = state[: len(FIRST) - 2]  # a version that could not be asked kept no more
        followed.crash()
        answer = ask(tmp_path / "state", "a", "n > 15")
        followed.until(answer.exists)
        followed.close()
    assert answered(answer) == {"done": True, "rows": 1}
    assert sorted(row[:2] for row in followed.tables["a"].values()) == [("one", 1), ("two", 20)]


@pytest.mark.parametrize("condition", ["n = ?", "n = 1; DELETE FROM a", "no_such_function(n)", "n >"])
def test_a_condition_that_cannot_be_asked(condition: str, tmp_path: Path) -> None:
    """No value for a parameter, a second statement, an unknown function: refused in its words; the flow goes on."""
    with closing(database(tmp_path, TEXT_KEY)) as connection:
        connection.execute("INSERT INTO a VALUES ('one', 1)")
        followed = Followed(pipeline(tmp_path, 'tables = ["a"]', "triggers"), tmp_path / "state")
        followed.until(lambda: len(followed.tables.get("a", {})) == 1)
        answer = ask(tmp_path / "state", "a", condition)
        followed.until(answer.exists)
        connection.execute("INSERT INTO a VALUES ('two', 2)")
        followed.until(lambda: len(followed.tables["a"]) == 2)
        followed.close()
    assert not answered(answer)["done"] and answered(answer)["error"]
