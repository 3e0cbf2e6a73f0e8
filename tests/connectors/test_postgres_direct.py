"""Rows that the source calls new go straight into a real PostgreSQL; a wrong hint costs time and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.postgres import direct
from libcore.compact import compact
from libcore.schema import Table
from tests.connectors.changes import batch, config, segment_of, table, target
from tests.connectors.test_postgres_apply import ONE_SERVER

ITEMS = table("direct_items", ("a", "b"), a="int32", b="string", x="decimal(12,3)", y="timestamp")
CAST = table("direct_cast", ("a",), a="int32", z="json")
changes = st.lists(st.tuples(st.sampled_from("cud"), st.integers(1, 6), st.integers(0, 9)), max_size=40)


def row(op: str, a: int, value: int) -> dict[str, Any]:
    return {"op": op, "a": a, "b": "k", "x": None if op == "d" else value}


def segment(of: Table, rows: list[dict[str, Any]], first: int = 1) -> Any:
    made = batch(of, rows, first)
    return segment_of(type(made)(of, compact(made.record, of)))


def found(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT a, x::int FROM direct_items ORDER BY a").fetchall()


@ONE_SERVER
@given(history=changes, borders=st.lists(st.integers(0, 40), max_size=5), rows_min=st.sampled_from([1, 2, 200]))
def test_a_hint_right_or_wrong_leaves_the_last_state(
    postgres: str, tmp_path: Path, history: list[Any], borders: list[int], rows_min: int
) -> None:
    """Inserts of rows that are there, updates of rows that are not: the table holds the last state all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "_ROWS_MIN", rows_min)
        part = target(config(postgres, tmp_path, patch), ITEMS).open(0)
        try:
            with psycopg.connect(postgres) as connection:
                connection.execute("TRUNCATE direct_items")
            seq = part.progress().seq
            cuts = sorted({0, len(history), *(border for border in borders if border < len(history))})
            for start, end in itertools.pairwise(cuts):
                seq += 1
                part.apply(seq, segment(ITEMS, [row(*change) for change in history[start:end]], start + 1))
        finally:
            part.close()
    last = {a: value for op, a, value in history if op != "d"}
    for op, a, value in history:
        last.pop(a, None)
        if op != "d":
            last[a] = value
    assert found(postgres) == sorted(last.items())


def test_new_rows_do_not_pass_the_staging_table(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment of new rows is copied straight in; one update among them goes by MERGE, in the same transaction."""
    copied: list[bool] = []
    plain = direct.Direct.copy

    def watched(self: direct.Direct, *arguments: Any) -> bool:
        copied.append(plain(self, *arguments))
        return copied[-1]

    monkeypatch.setattr(direct.Direct, "copy", watched)
    part = target(config(postgres, tmp_path, monkeypatch), ITEMS).open(0)
    first = part.progress().seq + 1
    part.apply(first, segment(ITEMS, [row("c", a, a) for a in range(300)]))
    part.apply(first + 1, segment(ITEMS, [row("c", a, a) for a in range(300, 600)] + [row("u", 7, 70), row("d", 8, 0)]))
    assert copied == [True, True]
    assert found(postgres) == [(a, 70 if a == 7 else a) for a in range(600) if a != 8]
    part.close()


def test_a_conflict_pauses_the_tries(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replayed inserts are merged; after each conflict twice as many segments pass before the next try."""
    tried: list[bool] = []
    plain = direct.Direct.copy

    def watched(self: direct.Direct, *arguments: Any) -> bool:
        tried[-1] = True
        return plain(self, *arguments)

    monkeypatch.setattr(direct.Direct, "copy", watched)
    part = target(config(postgres, tmp_path, monkeypatch), ITEMS).open(0)
    rows = [row("c", a, a) for a in range(300)]
    for seq in range(part.progress().seq + 1, part.progress().seq + 10):
        tried.append(False)
        part.apply(seq, segment(ITEMS, rows))
    assert tried == [True, True, False, True, False, False, True, False, False]
    assert found(postgres) == [(a, a) for a in range(300)]
    part.close()


def test_a_column_that_needs_a_cast_is_not_copied(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """jsonb has another binary form than the staged text: such a table always goes through staging."""
    part = target(config(postgres, tmp_path, monkeypatch), CAST).open(0)
    part.apply(part.progress().seq + 1, segment(CAST, [{"op": "c", "a": a, "z": '{"k": 1}'} for a in range(250)]))
    with psycopg.connect(postgres) as connection:
        (count,) = connection.execute("SELECT count(*) FROM direct_cast WHERE z->>'k' = '1'").fetchone() or (0,)
    assert count == 250
    part.close()


def test_a_row_that_the_table_refuses_is_found_the_usual_way(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check constraint refuses one of 300 new rows: it becomes a dead letter, the others go in."""
    made = target(config(postgres, tmp_path, monkeypatch), ITEMS)
    with psycopg.connect(postgres) as connection:
        connection.execute("ALTER TABLE direct_items ADD CHECK (x <> 77)")
    part = made.open(0)
    applied = part.apply(part.progress().seq + 1, segment(ITEMS, [row("c", a, a) for a in range(300)]))
    assert (applied.rows, applied.dead_letters) == (299, 1)
    assert found(postgres) == [(a, a) for a in range(300) if a != 77]
    part.close()
