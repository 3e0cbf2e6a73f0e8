"""Truncates, cleared columns and fences that all parts agree on, in a real PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from connectors.base.items import ClearColumn, Fence
from connectors.base.target import WaitForParts
from connectors.postgres.apply import PostgresPart
from libcore.errors import FatalError
from libcore.schema import Table
from tests.connectors.changes import batch, config, segment_of, table, target

ITEMS, OTHERS = table("items"), table("others")
MARK = [("items", "topic:0:7")]
DROPPED = [ClearColumn("items", "name", "topic:0:7:name")]
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


def names(dsn: str, table_name: str = "items") -> dict[int, str | None]:
    with psycopg.connect(dsn) as connection:
        return dict(connection.execute(f"SELECT id, name FROM {table_name}").fetchall())


@pytest.mark.parametrize(("cleared", "free"), BOTH)
def test_a_column_is_cleared_between_all_earlier_and_all_later_rows(
    postgres: str, parts: tuple[PostgresPart, PostgresPart], cleared: Table, free: Table
) -> None:
    """Rows of every part from before the drop lose the value, rows from behind it wait and keep theirs."""
    ahead, behind = parts
    drop = [ClearColumn(cleared.name, "name", "topic:0:7:name")]
    ahead.apply(1, segment_of(batch(cleared, [{"id": 1, "name": "old"}]), markers=drop))
    ahead.apply(2, segment_of(batch(free, [{"id": 5, "name": "free"}])))
    later = segment_of(batch(cleared, [{"id": 3, "name": "new"}]))
    with pytest.raises(WaitForParts):
        ahead.apply(3, later)
    assert not ahead.settle() and names(postgres, cleared.name) == {1: "old"}
    behind.apply(1, segment_of(batch(cleared, [{"id": 2, "name": "old"}]), markers=drop))
    while not all([part.settle() for part in parts]):
        assert names(postgres, cleared.name) in ({1: "old", 2: "old"}, {1: None, 2: None})
    ahead.apply(3, later)
    behind.apply(2, segment_of(batch(cleared, [{"id": 4, "name": "new"}])))
    assert names(postgres, cleared.name) == {1: None, 2: None, 3: "new", 4: "new"}
    assert names(postgres, free.name) == {5: "free"}
    for part in parts:
        part.close()


def test_a_replayed_or_interrupted_clear_ends_right(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[PostgresPart, PostgresPart]
) -> None:
    """Sessions that end behind the marker finish it when they are back; its replay takes nothing from later rows."""
    for number, part in enumerate(parts):
        part.apply(1, segment_of(batch(ITEMS, [{"id": number, "name": "old"}]), markers=DROPPED))
        part.close()
    made = target(config(postgres, tmp_path, monkeypatch), ITEMS, OTHERS, parts=2)
    again = made.open(0), made.open(1)
    for part in again:
        part.progress()
    while not all([part.settle() for part in again]):
        continue
    for number, part in enumerate(again):
        part.apply(2, segment_of(batch(ITEMS, [{"id": number + 2, "name": "new"}])))
        part.apply(3, segment_of(markers=DROPPED))
    assert all([part.settle() for part in again])
    assert names(postgres) == {0: None, 1: None, 2: "new", 3: "new"}
    for part in again:
        part.close()


def test_not_null_is_lifted_from_a_dropped_column(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column of the target that may not be NULL becomes one that may, so that later rows without it fit."""
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE items (id int8 PRIMARY KEY, name text NOT NULL)")
    part = target(config(postgres, tmp_path, monkeypatch), ITEMS).open(0)
    part.apply(1, segment_of(batch(ITEMS, [{"id": 1, "name": "old"}]), markers=DROPPED))
    part.apply(2, segment_of(batch(table("items", ("id",), id="int64"), [{"id": 2}])))
    assert names(postgres) == {1: None, 2: None}
    part.close()


def test_a_target_that_keeps_a_dropped_column_stops_the_flow(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a constraint holds on to the values, the error names table, column and reason; put right, it goes on."""
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE items (id int8 PRIMARY KEY, name text CONSTRAINT full_name CHECK (name > ''))")
        connection.execute("ALTER TABLE items ADD CONSTRAINT named CHECK (name IS NOT NULL)")
    part = target(config(postgres, tmp_path, monkeypatch), ITEMS).open(0)
    part.apply(1, segment_of(batch(ITEMS, [{"id": 1, "name": "old"}]), markers=DROPPED))
    with pytest.raises(
        FatalError, match=r"table items: column name was dropped at the source \(topic:0:7:name\).*named"
    ):
        part.settle()
    assert names(postgres) == {1: "old"}
    with psycopg.connect(postgres) as connection:
        connection.execute("ALTER TABLE items DROP CONSTRAINT named")
    assert part.settle() and names(postgres) == {1: None}
    part.close()


def test_a_column_that_the_target_lacks_needs_no_clearing(
    postgres: str, parts: tuple[PostgresPart, PostgresPart]
) -> None:
    """Nothing of it is there, so the parts just go on."""
    gone = ClearColumn("items", "gone", "topic:0:7:gone")
    for number, part in enumerate(parts):
        part.apply(1, segment_of(batch(ITEMS, [{"id": number, "name": "a"}]), markers=[gone]))
    while not all([part.settle() for part in parts]):
        continue
    assert names(postgres) == {0: "a", 1: "a"}
    for part in parts:
        part.close()


def test_a_row_in_conflict_does_not_bring_a_dropped_value_back(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that waits for the next segment because another one stands in its way loses the column with the rest."""
    with psycopg.connect(postgres) as connection:
        connection.execute("CREATE TABLE items (id int8 PRIMARY KEY, name text, code int8 UNIQUE)")
    coded = table("items", ("id",), id="int64", name="string", code="int64")
    part = target(config(postgres, tmp_path, monkeypatch), coded).open(0)
    part.apply(1, segment_of(batch(coded, [{"id": 1, "name": "old", "code": 7}])))
    part.apply(2, segment_of(batch(coded, [{"id": 2, "name": "old", "code": 7}]), markers=DROPPED))
    assert part.settle() and names(postgres) == {1: None}
    part.apply(3, segment_of(batch(coded, [{"id": 1, "op": "d"}])))
    assert names(postgres) == {2: None}
    part.close()


def test_records_of_an_older_release_get_the_new_column(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that knows truncates only is brought up to date by the preflight; what was pending still is."""
    target(config(postgres, tmp_path, monkeypatch), ITEMS)
    with psycopg.connect(postgres) as connection:
        connection.execute("INSERT INTO items (id) VALUES (1)")
        connection.execute("ALTER TABLE headrace_truncates DROP COLUMN cleared_column")
        connection.execute(
            "INSERT INTO headrace_truncates (flow, store_id, source_table, identity, part, seq) "
            "VALUES ('flow', 'store-1', 'items', 'topic:0:7', 0, 0)"
        )
    part = target(config(postgres, tmp_path, monkeypatch), ITEMS).open(0)
    part.progress()
    assert part.settle() and ids(postgres) == []
    part.close()


def test_rows_that_go_another_way_wait_for_those_that_went_the_former(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts: tuple[PostgresPart, PostgresPart]
) -> None:
    """Behind a fence a key's newer row waits in one part, over a crash too, until the other's older one is applied."""
    fence = [Fence("items", "route:1", single_part=True)]
    ahead, behind = parts
    ahead.apply(1, segment_of(markers=fence))
    later = segment_of(batch(ITEMS, [{"id": 7, "name": "new"}]))
    with pytest.raises(WaitForParts):
        ahead.apply(2, later)
    ahead.close()
    ahead = target(config(postgres, tmp_path, monkeypatch), ITEMS, OTHERS, parts=2).open(0)
    ahead.progress()
    behind.apply(1, segment_of(batch(ITEMS, [{"id": 7, "name": "old"}])))
    assert not ahead.settle()
    behind.apply(2, segment_of(markers=fence))
    while not all([part.settle() for part in (ahead, behind)]):
        assert names(postgres) == {7: "old"}
    ahead.apply(2, later)
    assert names(postgres) == {7: "new"}
    for part in (ahead, behind):
        part.close()
