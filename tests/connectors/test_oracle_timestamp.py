"""Mode timestamp: rows that set a time column, over crashes, late commits and times that are equal or lie ahead."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connectors.base import requests
from connectors.oracle.asked import AskedRows
from flows import build, reading
from libcore.errors import ConfigurationError
from tests.connectors.contract_source import Followed
from tests.connectors.oracle_parts import opened, pipeline
from tests.connectors.request_parts import ask
from tests.doubles.oracle.database import OracleDatabase

SETTINGS = 'mode = "timestamp"\ntimestamp_column = "AT"\ntimestamp_overlap_s = 10\n'
COLUMNS = [("ID", "NUMBER(10)"), ("NAME", "VARCHAR2(4000)")]
KINDS = ["DATE", "TIMESTAMP(6)"]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OracleDatabase:
    """An empty table ERP.ITEMS with a time column of one of the types."""
    return opened(tmp_path, monkeypatch, [*COLUMNS, ("AT", request.param)])


def put(database: OracleDatabase, second: int, *rows: tuple[int, str]) -> None:
    """Rows that set the time to so many seconds of a day, committed now."""
    at = f"2026-01-01 00:{second // 60:02d}:{second % 60:02d}"
    database.write("ERP.ITEMS", [{"ID": number, "NAME": name, "AT": at} for number, name in rows])


def names(followed: Followed) -> dict[int, Any]:
    """What a target holds."""
    return {key: row[1] for key, row in followed.rows("ITEMS").items()}


def truth(database: OracleDatabase) -> dict[Any, Any]:
    """What the database holds."""
    return {row["ID"]: row["NAME"] for row in database.truth("ERP.ITEMS")}


def more(followed: Followed) -> int:
    """Rows that still come."""
    return sum(max(0, followed.epoch()) for _ in range(20))


def test_late_commits_and_crashes(database: OracleDatabase, tmp_path: Path) -> None:
    """Whatever commits up to the overlap late comes, whenever the flow dies; and what was brought comes only once."""
    random, second = Random(1), 100
    put(database, second, *((number, "a") for number in range(10)))
    followed = Followed(pipeline(tmp_path, SETTINGS + "batch_rows_max = 3\n"), tmp_path / "state")
    followed.until(lambda: len(names(followed)) == 10)
    for turn in range(12):
        second += random.choice((0, 1, 7, 100))
        put(database, second, *((random.randrange(20), f"b{turn}.{place}") for place in range(random.choice((1, 4)))))
        for _ in range(random.randrange(4)):
            followed.epoch()
        if turn % 3 == 1:
            followed.crash()
        put(database, second - random.randrange(10), (random.randrange(20), f"late {turn}"))
        followed.until(lambda: names(followed) == truth(database))
    assert more(followed) == 0
    followed.close()


def test_a_second_change_of_the_same_time(database: OracleDatabase, tmp_path: Path) -> None:
    """A row that changes again within the time that it has already comes again, also behind a restart."""
    put(database, 5, (1, "a"))
    followed = Followed(pipeline(tmp_path, SETTINGS), tmp_path / "state")
    put(database, 20, (1, "b"), (2, "b"))
    followed.until(lambda: names(followed) == truth(database))
    put(database, 20, (1, "c"))
    followed.until(lambda: names(followed) == truth(database))
    followed.crash()
    put(database, 20, (2, "d"), (3, "d"))
    followed.until(lambda: names(followed) == truth(database))
    assert more(followed) == 0
    followed.close()


def test_a_row_dated_into_the_future_hides_nothing(database: OracleDatabase, tmp_path: Path) -> None:
    """Changes behind a row whose time lies ahead of the database's clock come, and that row only once."""
    put(database, 5, (1, "a"))
    database.write("ERP.ITEMS", [{"ID": 7, "NAME": "wrong", "AT": "9999-12-31 00:00:00"}])
    followed = Followed(pipeline(tmp_path, SETTINGS), tmp_path / "state")
    followed.until(lambda: names(followed) == truth(database))
    database.write("ERP.ITEMS", [{"ID": 1, "NAME": "b", "AT": "2026-01-02 03:04:05"}])
    followed.until(lambda: names(followed) == truth(database))
    assert more(followed) == 0
    followed.crash()
    database.write("ERP.ITEMS", [{"ID": 8, "NAME": "wrong, too", "AT": "9999-12-31 00:00:00"}])
    database.write("ERP.ITEMS", [{"ID": 2, "NAME": "c", "AT": "2026-01-02 03:04:04"}])
    followed.until(lambda: names(followed) == truth(database))
    followed.close()


def test_a_row_that_was_asked_for_between_two_changes(
    database: OracleDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row read again as it was between two looks, and set back since, with the same time, ends as it is."""
    monkeypatch.setattr(requests, "_LOOK_S", 0.02)
    put(database, 20, (1, "a"))
    followed = Followed(pipeline(tmp_path, SETTINGS), tmp_path / "state")
    followed.until(lambda: names(followed) == truth(database))
    answer, read, seen = tmp_path / "state" / "run" / "request-one.json", AskedRows.next, threading.Event()

    def between(*given: Any) -> Iterator[Any]:
        if not asked.exists() or answer.exists():
            return
        put(database, 20, (1, "b"))
        pieces = list(read(*given))  # none before its directory was looked at
        yield from pieces
        assert not pieces or seen.wait(60)  # in the reading thread, which looks at nothing meanwhile
        put(database, 20, (1, "a"))

    asked = tmp_path / "state" / "requests" / "one.json"
    monkeypatch.setattr(AskedRows, "next", between)
    assert ask(tmp_path / "state", "ITEMS") == answer
    followed.until(lambda: names(followed) == {1: "b"})
    seen.set()
    followed.until(lambda: names(followed) == {1: "a"})
    followed.close()
    assert truth(database) == {1: "a"}


@pytest.mark.parametrize(
    ("kind", "column", "found"),
    [("TIMESTAMP(6) WITH TIME ZONE", "AT", "WITH TIME ZONE"), ("DATE", "NONE", "found none"), ("DATE", "", "a column")],
)
def test_a_column_that_cannot_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, column: str, found: str
) -> None:
    """The column must be there, and be a time without a zone; the error says what was found."""
    opened(tmp_path, monkeypatch, [*COLUMNS, ("AT", kind)])
    file = str(pipeline(tmp_path, SETTINGS.replace('"AT"', f'"{column}"')))
    loaded = build.load(file)
    source = reading.make_source(
        loaded, reading.bind(loaded, file), until_end=True, path=file, directory=tmp_path / "state"
    )
    part = source.build_part("source", "oracle", None)
    with pytest.raises(ConfigurationError, match=found):
        while True:
            part.next_batch()
    part.close()
