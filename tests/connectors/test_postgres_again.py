"""Tables of a PostgreSQL read again on a running flow: several chunks at a time, some columns only, within bounds."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.base import request_progress, requests
from connectors.base.guardian import Guardian, Pace
from connectors.formats.declared import declared_column
from connectors.postgres import slot as slots
from connectors.postgres import slot_requests
from connectors.postgres.source_config import PostgresGuardian
from tests.connectors.request_parts import answered, ask
from tests.connectors.slot_parts import Flow, differences, sessions_counted, source_rows
from tests.connectors.test_postgres_source import Writer, _equal, _items
from tests.examples import TIMES

Connection = psycopg.Connection[Any]


@pytest.fixture
def source(postgres: str) -> Iterator[Connection]:
    """A session with the source database."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a hundred rows, what is asked and how far it is told at once."""
    monkeypatch.setattr(requests, "_LOOK_S", 0.02)
    monkeypatch.setattr(slot_requests, "CHUNK_ROWS", 100)
    monkeypatch.setattr(request_progress, "_EVERY_S", 0.0)


@pytest.mark.parametrize("columns", [[], ["n"]])
@pytest.mark.parametrize("seed", range(TIMES))
def test_chunks_at_a_time_under_a_writer(
    source: Connection, postgres: str, tmp_path: Path, seed: int, columns: list[str]
) -> None:
    """What a target has wrong comes right while a writer goes on, crashed in mid-table, and no row comes in halves."""
    _items(source, 1500)
    source.execute("ALTER TABLE items ALTER note SET STORAGE EXTERNAL")
    flow = Flow(postgres, tmp_path, ["public.items"], batch_rows_max=70, parallel=3)
    flow.run()
    for row in flow.target.rows["public.items"].values():
        row[2] = -1
    writer = Writer(postgres, seed)
    writer.start()
    answer = ask(tmp_path, "public.items", columns=columns)
    flow.until_under_crashes(answer.exists, random.Random(seed))
    writer.stop()
    assert flow.run()
    _equal(flow, "items")
    assert answered(answer)["done"] and list(tmp_path.glob("run/*progress*")) == []
    flow.close()


@pytest.mark.parametrize(("moment", "read_by"), [("before", "stream"), ("behind", "stream"), ("before", "functions")])
def test_changes_around_the_chunks(
    source: Connection, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, read_by: str
) -> None:
    """What commits between the stream's place and the chunks', or behind the chunks': each row ends as it is.

    A row is inserted, one deleted and inserted again, one updated, one deleted, one gets another key; the stream brings
    that only behind the chunks. A row that the target has lost stays lost, as one column is not a row.
    """
    _items(source, 600)
    flow = Flow(postgres, tmp_path, ["public.items"], parallel=2, read_by=read_by)
    flow.run()
    rows = flow.target.rows["public.items"]
    for row in rows.values():
        row[2] = -1
    del rows[(190, b"l0")]
    changes = [
        "INSERT INTO items VALUES (1, 'new', 7, 'whole')",
        "DELETE FROM items WHERE id = 2",
        "INSERT INTO items VALUES (2, 'l0', 8, 'again')",
        "UPDATE items SET n = 9 WHERE id = 3",
        "DELETE FROM items WHERE id = 4",
        "UPDATE items SET id = 5000 WHERE id = 5",
    ]
    made, open_ones, planned = slots.create, slots.writing, slot_requests.next_bound

    def change(where: str) -> None:
        while where == moment and changes:
            source.execute(changes.pop(0).encode())

    def create(*given: Any, **named: Any) -> Iterator[Any]:
        change("before")
        return made(*given, **named)

    def writing(connection: Connection) -> frozenset[str]:
        change("before")  # the sessions that read are opened behind it
        return open_ones(connection)

    def next_bound(*given: Any) -> Any:
        change("behind")
        return planned(*given)

    monkeypatch.setattr(slots, "create", create)
    monkeypatch.setattr(slots, "writing", writing)
    monkeypatch.setattr(slot_requests, "next_bound", next_bound)
    answer = ask(tmp_path, "public.items", columns=["n", "id"])
    flow.open(until_end=False)
    flow.until(answer.exists)
    flow.crash()
    assert not changes and flow.run()
    wanted = [row for row in source_rows(postgres, "items") if row[:2] != [190, b"l0"]]
    assert differences(wanted, flow.target.table("public.items")) == ([], [])
    flow.close()


def test_a_column_that_joined(source: Connection, postgres: str, tmp_path: Path) -> None:
    """A column that the source's table gained while the flow ran, which no change has told of, is filled in alone."""
    _items(source, 400)
    flow = Flow(postgres, tmp_path, ["public.items"], parallel=2)
    flow.run()
    for row in flow.target.rows["public.items"].values():
        row[3] = b"mine"
    flow.open(until_end=False)
    source.execute("UPDATE items SET n = -3 WHERE id = 7")
    flow.until(lambda: -3 in {row[2] for row in flow.target.table("public.items")})  # what it knows of tables is old
    source.execute("ALTER TABLE items ADD weight int DEFAULT 5")
    answer = ask(tmp_path, "public.items", columns=["weight"])
    flow.until(answer.exists)
    source.execute("UPDATE items SET weight = 6 WHERE id = 7")
    flow.crash()
    assert flow.run() and answered(answer) == {"done": True, "rows": 400}
    note = "CASE WHEN id = 7 THEN note ELSE 'mine' END"
    wanted = source_rows(postgres, "items", f"id, line, n, {note}, weight")
    assert differences(wanted, flow.target.table("public.items")) == ([], [])
    flow.close()


def test_declared_columns_that_must_not_be_null(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Those that are not read are unset, not NULL; one that the file does not declare is not the pipeline's."""
    _items(source, 200)
    columns = tuple(
        declared_column(name, {"type": kind, "nullable": False})
        for name, kind in {"id": "int32", "line": "string", "n": "int64", "note": "string"}.items()
    )
    flow = Flow(postgres, tmp_path, ["public.items"], bindings={"columns": columns})
    flow.run()
    before = flow.target.table("public.items")
    source.execute("ALTER TABLE items ADD weight int")
    flow.open(until_end=False)
    answer = ask(tmp_path, "public.items", columns=["note"])
    flow.until(answer.exists)
    other = ask(tmp_path, "public.items", columns=["weight"], identity="two")
    flow.until(other.exists)
    flow.crash()
    assert answered(answer) == {"done": True, "rows": 200} and flow.target.letters == []
    assert flow.target.table("public.items") == before
    assert "expected columns of id, line, n, note; found 'weight'" in answered(other)["error"]
    flow.close()


def test_what_cannot_be_read_in_part_is_refused(source: Connection, postgres: str, tmp_path: Path) -> None:
    """Unknown columns, the key, columns of a table without one, of one that a step reads; a comment in a condition."""
    _items(source, 200)
    settings = {"whole": "a step reads it"}
    asked = [("no", "public.items", "", ["no"]), ("keyless", "public.log", "", ["a"])]
    asked += [("cut", "public.items", "1 = 1) -- the rest", []), ("key", "public.items", "", ["line", "id"])]
    errors: dict[str, str] = {}
    flow = Flow(postgres, tmp_path, ["public.items", "public.log"])
    flow.run()
    for bindings, several in (({"dropped": ("note",)}, asked), (settings, [("step", "public.items", "", ["n"])])):
        flow.settings = bindings
        flow.open(until_end=False)
        answers = {one[0]: ask(tmp_path, one[1], one[2], one[0], columns=one[3]) for one in several}
        flow.until(lambda: all(answer.exists() for answer in answers.values()))  # noqa: B023
        flow.crash()
        errors |= {name: answered(answer)["error"] for name, answer in answers.items()}
    assert "table public.items: expected columns of id, line, n; found 'no'" in errors["no"]
    assert "has no key" in errors["keyless"] and "syntax error" in errors["cut"]
    assert "table public.items: expected a column beside its key" in errors["key"] and "found 'line'" in errors["key"]
    assert "expected no --column, found 'n': a step reads it; read it whole" in errors["step"]
    flow.close()


def test_an_open_request_of_an_older_version(source: Connection, postgres: str, tmp_path: Path) -> None:
    """A state that names a request without columns goes on with all of them, behind its key."""
    _items(source, 600)
    flow = Flow(postgres, tmp_path, ["public.items"])
    flow.run()
    flow.target.rows["public.items"].clear()
    ask(tmp_path, "public.items")
    flow.state = (*flow.state[:11], (("one", "public.items", "", ("100", "l0")),), *flow.state[12:])
    flow.open(until_end=False)
    flow.until((tmp_path / "run" / "request-one.json").exists)
    flow.crash()
    wanted = source_rows(postgres, "(SELECT * FROM items WHERE (id, line) > (100, 'l0')) i")
    assert differences(wanted, flow.target.table("public.items")) == ([], [])
    flow.close()


def test_progress_is_told(source: Connection, postgres: str, tmp_path: Path) -> None:
    """While a table is read, a file says how many rows of how many; with the answer it is gone."""
    _items(source, 1000)
    flow = Flow(postgres, tmp_path, ["public.items"], batch_rows_max=50)
    flow.run()
    flow.open(until_end=False)
    answer, file = ask(tmp_path, "public.items", "n > 0"), tmp_path / "run" / "request-one.progress.json"
    told: list[dict[str, Any]] = []

    def look() -> bool:
        if file.exists():
            told.append(json.loads(file.read_text("utf-8")))
        return answer.exists()

    flow.until(look)
    flow.crash()
    rows = [one["rows"] for one in told]
    assert rows == sorted(rows) and len(set(rows)) > 3 and rows[-1] <= 1000 == answered(answer)["rows"]
    assert all(900 < one["expected"] < 1100 and one["table"] == "public.items" for one in told)
    assert not file.exists()
    flow.close()


def test_within_the_guardians_bounds(source: Connection, postgres: str, tmp_path: Path) -> None:
    """However many chunks at a time were asked for: no more sessions than allowed, and not above the rate."""
    _items(source, 3000)
    guardian = PostgresGuardian(sessions_max=6, rows_per_second_max=400)
    flow = Flow(postgres, tmp_path, ["public.items"], parallel=10, guardian=guardian, snapshot="never")
    flow.run()
    flow.open(until_end=False)
    answer, file = ask(tmp_path, "public.items", "n <= 800"), tmp_path / "run" / "request-one.progress.json"
    above: list[float] = []

    def look() -> bool:
        if file.exists():
            told = json.loads(file.read_text("utf-8"))
            above.append(told["rows"] - 400 * (time.time() - told["begun_at"]))
        return answer.exists()

    with sessions_counted(postgres) as seen:
        flow.until(look)
    flow.crash()
    assert answered(answer)["rows"] == 800
    assert len(above) > 10 and max(above) <= 2 * 100  # a turn of two chunks
    assert 5 <= max(seen) <= 6
    flow.close()


def test_a_turn_takes_no_more_than_a_rate_allows() -> None:
    """Two seconds of the rate at most, a fraction where queries took too long, one row at least."""
    assert Pace(Guardian()).most(50_000) == 50_000
    pace = Pace(Guardian(rows_per_second_max=100))
    assert (pace.most(50_000), pace.most(150)) == (200, 150)
    for _ in range(12):
        pace.too_long()
    assert (pace.most(50_000), pace.most(3)) == (48, 1)
