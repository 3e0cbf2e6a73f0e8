"""`headrace rollout` as a person uses it: what it shows of a state directory, its rows, its reset, its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from control.cli.main import app
from flows.rollout_store import RolloutStore
from libcore.rollout import DIFFERENCE, State

PIPELINE = """
name = "shown"
state_dir = "state"
[source.kafka]
servers = "127.0.0.1:1"
[tables.items]
[sink.null]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A pipeline file; its state directory is `state` beside it."""
    path = tmp_path / "shown.toml"
    path.write_text(PIPELINE, "utf-8")
    return path


def headrace(file: Path, *arguments: str) -> Result:
    """`headrace rollout FILE ...`."""
    return CliRunner().invoke(app, ["rollout", str(file), *arguments])


def rolled_back(file: Path) -> None:
    """A rollout of two processes, rolled back by the second."""
    first, second = (RolloutStore(file.parent / "state", "call-items", "v1", number) for number in (0, 1))
    first.save(State(stage=2, clean=17, old_ns=1000, new_ns=1500, rows=12345))
    rows = pa.record_batch({"differs": ["x"], "input.id": [777], "old.x": [778], "new.x": [None]})
    second.roll_back(State(reason=DIFFERENCE, why="1 of 9 rows differ, in x"), rows)
    second.save(State(stage=1, reason=DIFFERENCE, why="1 of 9 rows differ, in x"))


def test_it_shows_how_far_each_process_is(file: Path) -> None:
    """Stage, clean batches, rows and the time beside the old one's; nothing where nothing ran."""
    assert "no step with a `candidate` has run" in headrace(file).output
    RolloutStore(file.parent / "state", "call-items", "v1", 0).save(State(2, 17, 1000, 1500, 12345))
    RolloutStore(file.parent / "state", "call-items", "v1", 1).save(State(4, 3, 0, 0, 9))
    shown = headrace(file).output.splitlines()
    assert [line.split() for line in shown[1:3]] == [
        ["call-items", "v1", "0", "75", "%", "17", "12,345", "1.50"],
        ["call-items", "v1", "1", "100", "%,", "promoted", "3", "9"],
    ]
    (data,) = json.loads(headrace(file, "--json").stdout)
    assert [worker["percent"] for worker in data["workers"]] == [75, 100] and data["rollback"] is None


def test_it_shows_why_and_the_rows(file: Path) -> None:
    """After a rollback every process is shown as rolled back, with the reason, and the rows with both answers."""
    rolled_back(file)
    shown = headrace(file).output
    assert shown.count("rolled back") == 3 and "by process 1: 1 of 9 rows differ, in x" in shown
    rows = headrace(file, "rows").output
    assert "input.id" in rows and rows.splitlines()[-1].split() == ["x", "777", "778", "NULL"]
    assert json.loads(headrace(file, "rows", "call-items", "--json").stdout) == [
        {"differs": "x", "input.id": 777, "old.x": 778, "new.x": None}
    ]


def test_a_reset_is_for_what_is_rolled_back(file: Path) -> None:
    """It names what begins again; a second one, or another name, is an error that says what there is."""
    rolled_back(file)
    wrong = headrace(file, "reset", "call-orders")
    assert wrong.exit_code == 78 and "found call-items (rolled back)" in wrong.output
    assert headrace(file, "reset", "call-items").output.strip() == "begins again: call-items"
    assert headrace(file, "reset").exit_code == 78
    unknown = headrace(file, "show", "call-items")
    assert unknown.exit_code == 78 and "rollout: expected one of none, found 'call-items'" in unknown.output
