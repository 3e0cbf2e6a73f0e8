"""Truncates that all parts agree on, in a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from connectors.base.target import WaitForParts
from connectors.postgres.apply import PostgresPart
from libcore.errors import FatalError
from libcore.schema import Table
from tests.connectors.changes import batch, config, segment_of, table, target

ITEMS, OTHERS = table("items"), table("others")
MARK = [("items", "topic:0:7")]
BOTH = [(ITEMS, OTHERS), (OTHERS, ITEMS)]  # part 0 empties one of them, part 1 the other


def ids(dsn: str, name: str = "items") -> list[int]:
    with psycopg.connect(dsn) as connection:
        return [row[0] for row in connection.execute(f"SELECT id FROM {name} ORDER BY id")]


@pytest.fixture
def parts(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PostgresPart, PostgresPart]:
    """Both parts of a flow."""
    made = target(config(postgres, tmp_path, monkeypatch), ITEMS, OTHERS, parts=2)
    return made.open(0), made.open(1)


@pytest.mark.parametrize(("emptied", "free"), BOTH)
def test_the_table_is_emptied_between_all_earlier_and_all_later_rows(
    postgres: str, parts: tuple[PostgresPart, PostgresPart], emptied: Table, free: Table
) -> None:
    """Later rows of that table wait until every part has reached the truncate; other tables do not wait."""
    ahead, behind = parts
    mark = [(emptied.name, "topic:0:7")]
    ahead.apply(1, segment_of(batch(emptied, [{"id": 1}]), truncates=mark))
    ahead.apply(2, segment_of(batch(free, [{"id": 5}])))
    later = segment_of(batch(emptied, [{"id": 3}]))
    with pytest.raises(WaitForParts):
        ahead.apply(3, later)
    assert not ahead.settle() and ids(postgres, emptied.name) == [1]
    behind.apply(1, segment_of(batch(emptied, [{"id": 2}])))
    behind.apply(2, segment_of(truncates=mark))
    while not all([part.settle() for part in parts]):
        assert ids(postgres, emptied.name) in ([1, 2], [])
    ahead.apply(3, later)
    behind.apply(3, segment_of(batch(emptied, [{"id": 4}])))
    assert ids(postgres, emptied.name) == [3, 4] and ids(postgres, free.name) == [5]
    for part in parts:
        part.close()


def test_a_crash_in_between_changes_nothing(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[PostgresPart, PostgresPart]
) -> None:
    """Sessions that end after the markers know on their return what is still to be done."""
    for part in parts:
        part.apply(1, segment_of(batch(ITEMS, [{"id": 1}]), truncates=MARK))
        part.close()
    made = target(config(postgres, tmp_path, monkeypatch), ITEMS, OTHERS, parts=2)
    again = made.open(0), made.open(1)
    for part in again:
        part.progress()
    assert not all([part.settle() for part in again]) or ids(postgres) == []
    while not all([part.settle() for part in again]):
        continue
    assert ids(postgres) == []
    for part in again:
        part.close()


def test_a_replayed_truncate_is_recognised(postgres: str, parts: tuple[PostgresPart, PostgresPart]) -> None:
    """An identity that is done empties nothing a second time."""
    for part in parts:
        part.apply(1, segment_of(truncates=MARK))
    while not all([part.settle() for part in parts]):
        continue
    for part in parts:
        part.apply(2, segment_of(batch(ITEMS, [{"id": 1}]), truncates=MARK))
    assert all([part.settle() for part in parts]) and ids(postgres) == [1]
    for part in parts:
        part.close()


def test_a_referenced_table_is_emptied_too(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL refuses TRUNCATE for a table that others refer to; its rows go all the same."""
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE items (id int8 PRIMARY KEY, name text)")
        connection.execute("CREATE TABLE child (id int8 REFERENCES items)")
    part = target(config(postgres, tmp_path, monkeypatch), ITEMS).open(0)
    part.apply(1, segment_of(batch(ITEMS, [{"id": 1}]), truncates=MARK))
    assert part.settle() and ids(postgres) == []
    part.close()


def test_a_truncate_of_an_unknown_table_stops(parts: tuple[PostgresPart, PostgresPart]) -> None:
    """A marker for a table that the flow does not write is an error, not a guess."""
    with pytest.raises(FatalError, match="table nobody is not one of this flow's"):
        parts[0].apply(1, segment_of(truncates=[("nobody", "topic:0:7")]))
    for part in parts:
        part.close()
