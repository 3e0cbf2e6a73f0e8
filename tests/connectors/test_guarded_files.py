"""What files and SQLite databases are spared: a rate of rows, and hours in which nothing is read."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.base.background import Piece
from connectors.base.guardian import BusinessHours, Guardian, Pace, paced
from connectors.base.items import Item
from flows import direct, reading
from flows.build import load
from libcore.change import ChangeBatch

ROWS, RATE = 900, 3000
FILE = """
name = "guarded"
{source}
[tables.t]
topic = "t"
[sink.null]
"""
SOURCES = {
    "files": '[source.files]\npiece_bytes = 1024\nbatch_rows_max = 100\n{}\n[source.files.tables.t]\npath = "t.csv"\n'
    'format = "csv"\ncomplete = "renamed"\nkey = ["id"]\n[source.files.tables.t.columns]\nid = "int64"\nx = "string"',
    "sqlite": '[source.sqlite]\npath = "t.db"\nchunk_rows = 100\n{}',
}


@pytest.fixture(autouse=True)
def _rows(tmp_path: Path) -> None:
    rows = [(number, f"row {number}") for number in range(ROWS)]
    (tmp_path / "t.csv").write_text("".join(f"{number},{text}\n" for number, text in [("id", "x"), *rows]), "utf-8")
    with closing(sqlite3.connect(tmp_path / "t.db")) as database, database:
        database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
        database.executemany("INSERT INTO t VALUES (?, ?)", rows)


@contextmanager
def partition(directory: Path, kind: str, guardian: str) -> Iterator[Any]:
    """The table's partition, and what `verify` reads."""
    path = directory / "guarded.toml"
    path.write_text(FILE.format(source=SOURCES[kind].format(guardian)), "utf-8")
    pipeline = load(str(path))
    bindings = direct.bind(pipeline, str(path))
    source = reading.make_source(pipeline, bindings, until_end=True, path=str(path), directory=directory / "state")
    (part,) = source.list_parts()
    opened = source.build_part("source", part, None)
    try:
        yield opened, partial(reading.read_all, pipeline, bindings, str(path))
    finally:
        opened.close()


def rows_in(items: Iterable[Item]) -> int:
    return sum(item.row_count for item in items if isinstance(item, ChangeBatch))


@given(st.lists(st.none() | st.integers(1, 50), max_size=20))
def test_a_pace_changes_no_piece(found: list[int | None]) -> None:
    """Held to a rate the same pieces come in the same order, with nothing else but Nones between them."""
    pieces = [None if rows is None else Piece([], rows, (1, index)) for index, rows in enumerate(found)]
    seen = list(paced(iter(pieces), Pace(Guardian(rows_per_second_max=1_000_000))))
    assert [one for one in seen if one is not None] == [one for one in pieces if one is not None]


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_come_no_faster_than_the_guardian_lets_them(tmp_path: Path, kind: str) -> None:
    """All rows come, and take the time that their rate says, but for that of the last piece."""
    begun = time.monotonic()
    with partition(tmp_path, kind, f"guardian = {{ rows_per_second_max = {RATE} }}") as (opened, _):
        assert rows_in(reading.until_end_of(opened)) == ROWS
    assert time.monotonic() - begun >= (ROWS - 100) / RATE


@pytest.mark.parametrize("kind", SOURCES)
def test_nothing_is_read_in_business_hours(tmp_path: Path, kind: str) -> None:
    """Within the hours no row comes and the source lives; verify, which a person starts, reads all the same."""
    now = datetime.now(UTC)
    begin, end = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (-2, 2))
    days = '["mon", "tue", "wed", "thu", "fri", "sat", "sun"]'
    hours = f'{{ begin = "{begin}", end = "{end}", zone = "UTC", days = {days} }}'
    with partition(tmp_path, kind, f"guardian = {{ business_hours = {hours} }}") as (opened, read_all):
        for _ in range(20):
            assert rows_in(opened.next_batch()) == 0
            opened.snapshot()
            time.sleep(0.02)
        assert rows_in(read_all()) == ROWS


def test_a_time_that_is_none_is_refused() -> None:
    """A time of day is a time of TOML or text such as 07:00; anything else is named."""
    with pytest.raises(ValidationError, match=r"expected a time of day such as 07:00, found '7 pm'"):
        BusinessHours.model_validate({"begin": "7 pm", "end": "19:00", "zone": "UTC"})
