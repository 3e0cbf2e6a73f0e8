"""Rows that PostgreSQL refuses: found, kept, parked behind; the rest goes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base.dead_letters import Failure, raw_messages
from connectors.base.source import RAW_SCHEMA
from connectors.postgres.dead_letters import read_row
from libcore.errors import CapacityError
from tests.connectors.changes import batch, config, segment_of, table, target

CHECKED = table("checked", id="int64", name="string")
MAKE = "CREATE TABLE checked (id int8 PRIMARY KEY, name text CHECK (name <> 'bad'))"
TWICE = table("twice", id="int64", name="string")
MAKE_TWICE = "CREATE TABLE twice (id int8 PRIMARY KEY, name text UNIQUE)"
LETTERS = "SELECT key_text, reason FROM headrace_dead_letters WHERE resolved_at IS NULL ORDER BY id"


def run(dsn: str, *statements: str) -> list[Any]:
    with psycopg.connect(dsn) as connection:
        cursor = None
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor is not None and cursor.description else []


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.sampled_from(["bad", "good", "nul\0", None]), min_size=1, max_size=30))
def test_exactly_the_refused_rows_are_left_out(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str | None]
) -> None:
    """Whatever rows of a segment are bad, they become dead letters and all others go in, with the progress."""
    run(postgres, "DROP TABLE IF EXISTS checked, headrace_dead_letters, headrace_progress, headrace_tables", MAKE)
    part = target(config(postgres, tmp_path, monkeypatch), CHECKED).open(0)
    part.apply(1, segment_of(batch(CHECKED, [{"id": index, "name": name} for index, name in enumerate(names)])))
    part.close()
    bad = [index for index, name in enumerate(names) if name in ("bad", "nul\0")]
    assert {row[0] for row in run(postgres, "SELECT id FROM checked")} == set(range(len(names))) - set(bad)
    assert sorted(run(postgres, LETTERS)) == sorted((f'{{"id": {index}}}', "data") for index in bad)
    assert run(postgres, "SELECT seq FROM headrace_progress") == [(1,)]


def test_later_changes_of_a_key_park_behind_it(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order per key holds for dead letters too, also after a restart; other keys pass."""
    run(postgres, MAKE)
    made = target(config(postgres, tmp_path, monkeypatch), CHECKED)
    part = made.open(0)
    part.apply(1, segment_of(batch(CHECKED, [{"id": 1, "name": "bad"}, {"id": 2, "name": "x"}])))
    part.close()
    part = made.open(0)
    part.apply(2, segment_of(batch(CHECKED, [{"id": 1, "name": "fine"}, {"id": 2, "op": "d"}, {"id": 3}])))
    part.apply(3, segment_of(batch(CHECKED, [{"id": 1, "op": "d"}])))
    part.close()
    assert run(postgres, LETTERS) == [('{"id": 1}', reason) for reason in ("data", "parked", "parked")]
    assert run(postgres, "SELECT id FROM checked") == [(3,)]


def test_a_letter_holds_the_row_and_its_place(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row can be read back with its table; flow, part, seq and the database's own words are kept."""
    run(postgres, MAKE)
    part = target(config(postgres, tmp_path, monkeypatch), CHECKED).open(0)
    part.apply(1, segment_of(batch(CHECKED, [{"id": 1, "name": "bad"}])))
    part.close()
    fields = "flow, step, table_name, part, seq, error, raw_value"
    flow, step, name, number, seq, error, raw = run(postgres, f"SELECT {fields} FROM headrace_dead_letters")[0]
    assert (flow, step, name, number, seq) == ("flow", "apply", "checked", 0, 1) and "23514" in error
    shape, row = read_row(raw)
    assert shape == CHECKED and row.column("name").to_pylist() == ["bad"]


def test_letters_of_the_decoder_pass_through(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead letters that come with the rows go to the table once, in the same transaction, and to a Parquet file."""
    import pyarrow as pa

    folder = tmp_path / "letters"
    raw = pa.RecordBatch.from_pylist(
        [{"key": b'{"id": 1}', "value": b"{not json", "offset": 7, "timestamp_ms": 0}], schema=RAW_SCHEMA
    )
    letters = raw_messages(
        [Failure(0, "expected a value", 1)], raw, flow="flow", step="decode", table="checked", topic="t", partition=3
    )
    part = target(config(postgres, tmp_path, monkeypatch, dead_letters_dir=folder), CHECKED).open(0)
    segment = segment_of(letters, batch(CHECKED, [{"id": 1}]))
    part.apply(1, segment)
    assert part.apply(1, segment).repeated
    part.close()
    assert run(postgres, "SELECT step, topic, partition, message_offset, raw_value FROM headrace_dead_letters") == [
        ("decode", "t", 3, 7, b"{not json")
    ]
    assert run(postgres, "SELECT id FROM checked") == [
        (1,)
    ]  # a bad message parks nothing: its key is not known for sure
    assert [path.name for path in folder.iterdir()] == ["flow-0-000000000001.parquet"]
    assert pq.read_table(folder / "flow-0-000000000001.parquet").column("error").to_pylist() == ["expected a value"]


def test_rows_of_a_table_without_a_key_park_by_their_values(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delete of a row that was refused parks too, so it removes no other copy."""
    keyless = table("log", (), a="int32", b="string")
    run(postgres, "CREATE TABLE log (a int, b text CHECK (b <> 'bad'))")
    part = target(config(postgres, tmp_path, monkeypatch), keyless).open(0)
    part.apply(1, segment_of(batch(keyless, [{"a": 1, "b": "bad"}, {"a": 1, "b": "x"}, {"a": 1, "b": "x"}])))
    part.apply(2, segment_of(batch(keyless, [{"a": 1, "b": "bad", "op": "d"}, {"a": 1, "b": "x", "op": "d"}])))
    part.close()
    assert run(postgres, "SELECT * FROM log") == [(1, "x")]
    assert [reason for _, reason in run(postgres, LETTERS)] == ["data", "parked"]


def test_a_swapped_unique_value_goes_in(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows that exchanged a unique value in one segment stand in each other's way in any order; both go in."""
    run(postgres, MAKE_TWICE)
    part = target(config(postgres, tmp_path, monkeypatch), TWICE).open(0)
    part.apply(1, segment_of(batch(TWICE, [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])))
    applied = part.apply(2, segment_of(batch(TWICE, [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}])))
    part.apply(3, segment_of(batch(TWICE, [{"id": 3, "name": "b"}, {"id": 1, "op": "d"}])))
    part.close()
    assert applied.dead_letters == 0 and run(postgres, LETTERS) == []
    assert run(postgres, "SELECT * FROM twice ORDER BY id") == [(2, "a"), (3, "b")]


def test_a_conflict_is_tried_again_after_the_next_segment(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose way is blocked waits one segment, through a restart; then it goes in, or is a dead letter."""
    run(postgres, MAKE_TWICE)
    made = target(config(postgres, tmp_path, monkeypatch), TWICE)
    part = made.open(0)
    part.apply(1, segment_of(batch(TWICE, [{"id": 1, "name": "a"}, {"id": 5, "name": "e"}])))
    part.apply(2, segment_of(batch(TWICE, [{"id": 2, "name": "a"}, {"id": 6, "name": "e"}, {"id": 7, "name": "g"}])))
    assert run(postgres, LETTERS) == [('{"id": 2}', "conflict"), ('{"id": 6}', "conflict")]
    part.close()
    part = made.open(0)
    part.apply(3, segment_of(batch(TWICE, [{"id": 1, "op": "d"}])))
    part.apply(4, segment_of(batch(TWICE, [{"id": 6, "name": "free"}])))
    part.close()
    assert run(postgres, "SELECT * FROM twice ORDER BY id") == [(2, "a"), (5, "e"), (7, "g")]
    assert run(postgres, LETTERS) == [('{"id": 6}', "data"), ('{"id": 6}', "parked")]


def test_a_change_of_a_waiting_key_decides(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the next segment brings for the key is folded into the waiting row, so that the last state goes in."""
    run(postgres, MAKE_TWICE)
    part = target(config(postgres, tmp_path, monkeypatch), TWICE).open(0)
    part.apply(1, segment_of(batch(TWICE, [{"id": 1, "name": "a"}])))
    part.apply(2, segment_of(batch(TWICE, [{"id": 2, "name": "a"}], 10)))
    part.apply(3, segment_of(batch(TWICE, [{"id": 2, "name": "c"}], 20)))
    part.close()
    assert run(postgres, "SELECT * FROM twice ORDER BY id") == [(1, "a"), (2, "c")] and run(postgres, LETTERS) == []


def test_children_and_parents_go_in_whatever_their_order(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a foreign key rows go in parents first and out children first; a parent one segment late is waited for."""
    parent, child = table("parent", id="int64"), table("child", id="int64", parent_id="int64")
    run(postgres, "CREATE TABLE parent (id int8 PRIMARY KEY)")
    run(postgres, "CREATE TABLE child (id int8 PRIMARY KEY, parent_id int8 REFERENCES parent)")
    part = target(config(postgres, tmp_path, monkeypatch), child, parent).open(0)
    part.apply(1, segment_of(batch(child, [{"id": 1, "parent_id": 1}]), batch(parent, [{"id": 1}])))
    part.apply(2, segment_of(batch(child, [{"id": 2, "parent_id": 2}])))
    part.apply(3, segment_of(batch(parent, [{"id": 2}])))
    part.apply(4, segment_of(batch(parent, [{"id": 1, "op": "d"}]), batch(child, [{"id": 1, "op": "d"}])))
    part.close()
    assert run(postgres, "SELECT * FROM child") == [(2, 2)] and run(postgres, "SELECT * FROM parent") == [(2,)]
    assert run(postgres, LETTERS) == []


def test_a_deferred_constraint_singles_out_its_row(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A constraint that speaks up only at COMMIT does not take the whole segment with it."""
    run(postgres, "CREATE TABLE parent (id int8 PRIMARY KEY)", "INSERT INTO parent VALUES (1)")
    run(
        postgres,
        "CREATE TABLE child (id int8 PRIMARY KEY, parent_id int8 REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
    )
    child = table("child", id="int64", parent_id="int64")
    part = target(config(postgres, tmp_path, monkeypatch), child).open(0)
    part.apply(1, segment_of(batch(child, [{"id": 1, "parent_id": 1}, {"id": 2, "parent_id": 9}])))
    part.close()
    assert run(postgres, "SELECT id FROM child") == [(1,)] and run(postgres, LETTERS) == [('{"id": 2}', "conflict")]


def test_too_many_letters_stop_the_flow(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound the segment stays out as a whole, and the message names the setting and a row."""
    run(postgres, MAKE)
    part = target(config(postgres, tmp_path, monkeypatch, dead_letters_max=3), CHECKED).open(0)
    with pytest.raises(
        CapacityError, match=r"4 rows are refused or parked, dead_letters_max is 3; last: checked: .*23514"
    ):
        part.apply(1, segment_of(batch(CHECKED, [{"id": index, "name": "bad"} for index in range(4)])))
    part.close()
    assert run(postgres, LETTERS) == [] and run(postgres, "SELECT seq FROM headrace_progress") == [(0,)]


def test_a_truncate_frees_the_parked_keys(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a truncate nothing of the table waits: its keys begin anew."""
    run(postgres, MAKE)
    part = target(config(postgres, tmp_path, monkeypatch), CHECKED).open(0)
    part.apply(1, segment_of(batch(CHECKED, [{"id": 1, "name": "bad"}])))
    part.apply(2, segment_of(truncates=[("checked", "t:0:1")]))
    while not part.settle():
        continue
    part.apply(3, segment_of(batch(CHECKED, [{"id": 1, "name": "fine"}])))
    part.close()
    assert run(postgres, "SELECT * FROM checked") == [(1, "fine")] and run(postgres, LETTERS) == []
