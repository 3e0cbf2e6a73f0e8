"""Single columns of tables that are read again, how far that is, and how fast: SQL Server, Oracle, SAP by RFC, SQLite.

The first three over their doubles; what PostgreSQL does stands in test_postgres_again.py.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connectors.base import guardian, json_file, request_progress, requests
from tests.connectors import asked_parts
from tests.connectors.asked_parts import CONDITIONS, PLACES, Marked, sap_items, silently, ways
from tests.connectors.contract_source import Followed, Rows, SourceSystem, some_rows
from tests.connectors.request_parts import answered, ask
from tests.connectors.sap_rfc_parts import Items
from tests.connectors.sqlserver_parts import WAYS

kind, system = asked_parts.kind, asked_parts.system
NARROW = ("sap_rfc", "narrow")
MINE = Decimal(-7)
SYSTEMS = [PLACES[0], ("oracle", "logminer"), ("sap_rfc", "documents"), ("sqlite", "triggers")]


@pytest.fixture(autouse=True)
def told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request is found soon, and how far it is stands in its file behind every chunk."""
    monkeypatch.setattr(requests, "_LOOK_S", 0.02)
    monkeypatch.setattr(request_progress, "_EVERY_S", 0.0)


def told(answer: Path) -> Iterator[dict[str, Any]]:
    """How far a request is by its file, where that is there; `answer`: where its answer comes."""
    if (found := json_file.read(answer.with_suffix(".progress.json"), None)) is not None:
        yield found


def filled(system: SourceSystem) -> None:
    """200 rows of which no document tells: those come again and again, whole, for as long as they overlap."""
    rows = some_rows(Random(1), 0, 200)
    if isinstance(system, Items):
        silently(system, rows)
    else:
        system.write(rows)


def bounded(system: SourceSystem, kind: str, bounds: str, **settings: Any) -> Path:
    """A pipeline file whose source has a guardian."""
    return system.pipeline(f"[source.{kind}.guardian]\n{bounds}\n[sink.null]\n", **settings)


def with_setting(file: Path, kind: str, setting: str) -> Path:
    """The pipeline file with one more setting of the table."""
    text, topic = file.read_text("utf-8"), f'topic = "{CONDITIONS[kind][0]}"\n'
    if topic not in text:
        text = re.sub(r"^tables = .*\n", "", text, flags=re.M) + f"[tables.items]\n{topic}"
    file.write_text(text.replace(topic, f"{topic}{setting}\n"), "utf-8")
    return file


def settled(followed: Followed, system: SourceSystem) -> None:
    """Until the target has what the source has, and nothing comes a second time: a log that triggers keep does that."""
    followed.until(lambda: followed.rows() == system.rows())
    idle = 0
    while idle < 30:
        idle = 0 if followed.epoch() > 0 else idle + 1
        time.sleep(0.005)


@ways([*SYSTEMS[:2], ("sqlserver", WAYS[-1]), ("oracle", "trigger_log"), NARROW, SYSTEMS[-1]])
def test_one_column_under_a_writer(system: SourceSystem, kind: str, tmp_path: Path) -> None:
    """A column of what a target has comes right, and no other, a writer going on, crashed in mid-table; a row that it
    lost is not made of one column, and what the source writes comes whole."""
    filled(system)
    followed = Marked(system.pipeline(batch_rows_max=15, chunk_rows=15), tmp_path / "state")
    settled(followed, system)
    target = followed.tables["items"]
    for key, row in list(target.items()):
        target[key] = (row[0], "spoilt", MINE if key[0] >= 183 else row[2], *row[3:])
    for number in range(190, 200):
        del target[(number,)]
    ended = threading.Event()

    def write() -> None:  # ids up to 182 only
        random = Random(2)
        for number in range(12):
            system.write(some_rows(random, random.randrange(180), 3), (number * 3 + 40,))
            time.sleep(0.005)
        ended.set()

    def wanted() -> Rows:
        rows = {key: row for key, row in system.rows().items() if not 190 <= key < 200}
        return {key: (*row[:2], MINE if 183 <= key < 190 else row[2]) for key, row in rows.items()}

    def spoilt() -> int:
        return sum(row[1] == "spoilt" for row in followed.rows().values())

    answer = ask(tmp_path / "state", CONDITIONS[kind][0], columns=["name"])
    writer = threading.Thread(target=write)
    writer.start()
    for left in (150, 60):
        followed.until(lambda: spoilt() < left)  # noqa: B023
        assert not answer.exists()
        followed.crash()
    followed.until(ended.is_set)
    writer.join()
    followed.until(answer.exists)
    followed.until(lambda: followed.rows() == wanted())
    followed.close()
    assert answered(answer)["done"] and spoilt() == 0 and followed.letters == []


@ways(SYSTEMS)
def test_what_cannot_be_read_in_part_is_refused(system: SourceSystem, kind: str, tmp_path: Path) -> None:
    """A column that is not there, one that is not written, the key; all columns where rows are needed whole."""
    system.write(some_rows(Random(1), 0, 20))
    errors: dict[str, str] = {}
    for setting, several in (
        ('drop = ["price"]', {"no": "no", "dropped": "price", "key": "id"}),
        ('where = "id > 3"', {"whole": "name"}),
    ):
        state = tmp_path / next(iter(several))
        followed = Followed(with_setting(system.pipeline(), kind, setting), state)
        answers = {name: ask(state, CONDITIONS[kind][0], "", name, columns=[one]) for name, one in several.items()}
        followed.until(lambda: all(answer.exists() for answer in answers.values()))  # noqa: B023
        followed.close()
        errors |= {name: answered(answer)["error"] for name, answer in answers.items()}
    assert "expected columns of id, name" in errors["no"] and "found 'no'" in errors["no"]
    assert "expected columns of id, name" in errors["dropped"] and "found 'price'" in errors["dropped"]
    assert "expected a column beside its key" in errors["key"] and "found 'id'" in errors["key"]
    assert "expected no --column, found 'name': its `where` decides by whole rows" in errors["whole"]


@ways(SYSTEMS)
def test_how_far_it_is(system: SourceSystem, kind: str, tmp_path: Path) -> None:
    """A file says how many rows of about how many, behind a crash of those that are left; with a condition nobody
    knows how many, nor where the source has not counted. With the answer the file is gone."""
    system.write(some_rows(Random(1), 0, 200))
    state, (table, where) = tmp_path / "state", CONDITIONS[kind]
    file = bounded(system, kind, "rows_per_second_max = 800", chunk_rows=20, batch_rows_max=20)
    followed = Marked(file, state)
    followed.until(lambda: followed.rows() == system.rows())
    seen: list[dict[str, Any]] = []

    def durable() -> int:
        (kept,) = followed.durable.values()
        return kept[-2][0][5] if kept[-2] else 0

    def until(answer: Path, rows: int = 1000) -> list[dict[str, Any]]:
        def look() -> bool:
            seen.extend(told(answer))
            return answer.exists() or durable() >= rows

        seen.clear()
        followed.until(look)
        return list(seen)

    uncounted = until(ask(state, table, columns=["price"]))
    if kind == "oracle":
        system.database.gather_statistics("ERP.items")  # type: ignore[attr-defined]
    assert {one["expected"] for one in uncounted} == {None if kind == "oracle" else 200}
    answer = ask(state, table, "", "two")
    before, read = until(answer, 60), durable()
    followed.crash()
    behind = until(answer)
    assert {(one["expected"], one["table"]) for one in before} == {(200, table)}
    assert 60 <= read < 200 and behind[-1]["expected"] == 200 - read
    assert {one["expected"] for one in until(ask(state, table, where, "three"))} == {None}
    followed.close()
    assert list(state.glob("run/*progress*")) == []


@ways([*SYSTEMS, ("sap_rfc", "shuffled")])
def test_not_above_the_rate(system: SourceSystem, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no moment more rows than the rate allows since the begin, but for those of the turn that is read."""
    monkeypatch.setattr(guardian, "_BURST_S", 0.2)
    system.write(some_rows(Random(1), 0, 300))
    followed = Followed(bounded(system, kind, "rows_per_second_max = 500"), tmp_path / "state")
    followed.until(lambda: followed.rows() == system.rows())
    answer, above = ask(tmp_path / "state", CONDITIONS[kind][0], columns=["price"]), list[float]()

    def look() -> bool:
        above.extend(one["rows"] - 500 * (time.time() - one["begun_at"]) for one in told(answer))
        return answer.exists()

    followed.until(look)
    followed.close()
    assert answered(answer)["rows"] == 300
    assert len(above) > 5 and max(above) <= 500 * 0.2


def test_sap_does_not_know_what_it_brought_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row of which a column was read comes again by its document, also where it is as it was brought last, whole."""
    system = sap_items(tmp_path, monkeypatch)
    followed = Followed(system.pipeline(), tmp_path / "state")
    system.write({1: (1, "old", None)})
    settled(followed, system)
    silently(system, {1: (1, "new", None)})
    answer = ask(tmp_path / "state", "items", columns=["name"])
    followed.until(lambda: answer.exists() and followed.rows()[1][1] == "new")
    system.write({1: (1, "old", None)})
    followed.until(lambda: followed.rows()[1][1] == "old")
    followed.close()
    assert answered(answer) == {"done": True, "rows": 1}


def test_sap_compares_what_it_brought_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that the target lacks, of which a column was read, comes whole with the next comparison of all keys."""
    system = sap_items(tmp_path, monkeypatch)
    system.write({1: (1, "a", None)})
    followed = Followed(system.pipeline(compare_seconds=1.0), tmp_path / "state")
    followed.until(lambda: followed.rows() == system.rows())
    silently(system, {2: (2, "b", None)})
    answer = ask(tmp_path / "state", "items", columns=["name"])
    followed.until(answer.exists)
    followed.until(lambda: followed.rows() == system.rows())
    followed.close()
    assert answered(answer) == {"done": True, "rows": 2}


def test_sap_users_who_may_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the function that counts is not for this user the table is read all the same, of nobody knows how many."""
    system = sap_items(tmp_path, monkeypatch, denied_functions=["EM_GET_NUMBER_OF_ENTRIES"])
    system.write(some_rows(Random(1), 0, 40))
    followed = Followed(system.pipeline(batch_rows_max=4), tmp_path / "state")
    answer, expected = ask(tmp_path / "state", "items"), set[int | None]()

    def look() -> bool:
        expected.update(one["expected"] for one in told(answer))
        return answer.exists()

    followed.until(look)
    followed.close()
    assert answered(answer) == {"done": True, "rows": 40} and expected == {None}
