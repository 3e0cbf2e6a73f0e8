"""`headrace state` as a person uses it: on a pipeline that ran, on one that runs, and on what is none."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flows.state.look import read_manifests
from libcore.errors import ConfigurationError
from tests.flows.joined import History, fill, pipeline_text, read_lines

_ROOT = Path(__file__).parents[2]
_MATCH = "join_order_lines_orders_match"


class Pipeline:
    """A pipeline file with its topics and target."""

    def __init__(self, broker: str, dsn: str, folder: Path) -> None:
        self.broker, self.dsn, self.folder = broker, dsn, folder
        self.history = History(3, f"state-{uuid.uuid4().hex[:8]}")
        self.file = folder / "joined.toml"
        self.file.write_text(pipeline_text(self.history, broker), "utf-8")
        self._filled = False

    def fill(self, count: int) -> None:
        """More changes."""
        fill(self.broker, self.history, self.history.messages(count), make=not self._filled)
        self._filled = True

    def command(self, *arguments: str) -> list[str]:
        """The command line of `headrace ACTION FILE ...`."""
        action, *rest = arguments
        return [sys.executable, "-m", "control.cli", action, str(self.file), *rest]

    @property
    def environment(self) -> dict[str, str]:
        """With the target's dsn."""
        return {**os.environ, "TARGET_DSN": self.dsn}

    def headrace(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it."""
        return subprocess.run(
            self.command(*arguments), cwd=_ROOT, env=self.environment, capture_output=True, text=True, check=False
        )

    def json(self, *arguments: str) -> Any:
        """What `state FILE ... --json` prints."""
        done = self.headrace("state", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def pipeline(broker: str, postgres: str, tmp_path: Path) -> Pipeline:
    """A join of two topics that nobody has run yet."""
    return Pipeline(broker, postgres, tmp_path)


@pytest.mark.timeout(120)
def test_show_and_query_after_a_run(pipeline: Pipeline) -> None:
    """After a run show counts the rows of each store, and a query finds those that the messages come to."""
    pipeline.fill(600)
    done = pipeline.headrace("run", "--until-end")
    assert done.returncode == 0, done.stderr
    items, orders = pipeline.history.items, pipeline.history.orders
    shown = {one["table"]: one for one in pipeline.json("show")}
    facts, dimension = shown[f"{_MATCH}_facts"], shown[f"{_MATCH}_dimension"]
    assert facts["rows"] == sum(item["order_id"] is not None for item in items.values())
    assert dimension["rows"] == len(orders)
    assert 0 < dimension["slots"] <= min(64, len(orders)) and dimension["bytes"] > 0 and dimension["epoch"] > 0
    text = pipeline.headrace("state")  # show is what it does when nothing is said
    assert text.returncode == 0 and re.search(rf"{_MATCH}_dimension +{len(orders)} ", text.stdout), text.stdout
    found = pipeline.json("query", f"select id, status from {_MATCH}_dimension order by id")
    assert found == [{"id": number, "status": orders[number]["status"]} for number in sorted(orders)]
    text = pipeline.headrace("state", "query", f"select count(*) as n, null as nothing from {_MATCH}_dimension")
    assert (text.returncode, text.stdout.split()) == (0, ["n", "nothing", str(len(orders)), "NULL"])


@pytest.mark.timeout(120)
def test_show_and_query_beside_a_run(pipeline: Pipeline) -> None:
    """While the pipeline runs both answer, what they show grows with it, and the flow goes on undisturbed."""
    pipeline.fill(300)
    with subprocess.Popen(pipeline.command("run"), cwd=_ROOT, env=pipeline.environment) as running:
        try:
            orders = pipeline.history.orders
            _wait(lambda: read_lines(pipeline.dsn) == pipeline.history.lines())
            sql = f"select count(*) as n from {_MATCH}_dimension"
            before = len(orders)
            _wait(lambda: pipeline.json("query", sql) == [{"n": before}])
            pipeline.fill(2_000)
            while read_lines(pipeline.dsn) != pipeline.history.lines():  # segments are written and merged meanwhile
                assert running.poll() is None
                assert pipeline.json("show")
            _wait(lambda: pipeline.json("query", sql) == [{"n": len(orders)}])
            assert len(orders) > before and running.poll() is None
        finally:
            running.send_signal(signal.SIGTERM)
    assert running.returncode == 0


def _wait(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.timeout(120)
def test_what_does_not_fit_is_refused(pipeline: Pipeline) -> None:
    """No state, wrong SQL, SQL where none belongs: exit 78 with what was expected, and no file is touched."""
    none = pipeline.headrace("state", "show")
    assert none.returncode == 78 and "found none: this pipeline has not run yet" in none.stderr
    assert not (pipeline.folder / "var").exists()
    pipeline.fill(50)
    assert pipeline.headrace("run", "--until-end").returncode == 0
    for arguments, expected in (
        (("query", "select nothing from nowhere"), f"expected SQL over .*{_MATCH}_facts.*nowhere"),
        (("query", f"select nothing from {_MATCH}_facts"), "expected SQL over .*nothing"),
        (("query", "this is no SQL"), "expected SQL over .*syntax error"),
        (("query", ""), "expected SQL|expected one statement"),
        (("query",), "expected SQL behind `query`"),
        (("show", "select 1"), "expected no SQL behind `show`"),
    ):
        done = pipeline.headrace("state", *arguments)
        assert done.returncode == 78 and re.search(expected, done.stderr), (arguments, done.stderr)
        assert "Traceback" not in done.stderr


class _Code:
    """Pickles as a call of a function."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self._path),))


@pytest.mark.parametrize(
    ("snapshot", "found"),
    [
        (lambda path: pickle.dumps((1, 0, (_Code(path),))), "posix.mkdir"),
        (lambda path: pickle.dumps((2, 0, ())), r"\(2, 0, \(\)\)"),
        (lambda path: pickle.dumps((1, 0, (7,))), r"\(1, 0, \(7,\)\)"),
        (lambda path: b"\x80\x05garbage", ""),
    ],
)
def test_a_store_with_something_else_is_refused(snapshot: Callable[[Path], bytes], found: str, tmp_path: Path) -> None:
    """Code in a snapshot is not run; it, another version's manifest, and damaged bytes are refused with the step."""
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(tmp_path), "1"], check=True)
    touched = tmp_path / "touched"
    with closing(sqlite3.connect(tmp_path / "part-0.sqlite3")) as store:
        _snapshot(store, "joined.match.state", snapshot(touched))
        store.commit()
    with pytest.raises(ConfigurationError, match=rf"step joined.match.state: expected manifests .*found .*{found}"):
        read_manifests(tmp_path, "joined")
    assert not touched.exists()


def test_snapshots_of_others_are_passed_over(tmp_path: Path) -> None:
    """What sources and sinks keep, and steps that keep nothing, is no state of steps, and is not unpickled."""
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(tmp_path), "1"], check=True)
    touched = tmp_path / "touched"
    with closing(sqlite3.connect(tmp_path / "part-0.sqlite3")) as store:
        _snapshot(store, "joined.source", pickle.dumps(_Code(touched)))
        _snapshot(store, "joined.latest.state", pickle.dumps(None))
        _snapshot(store, "joined.match.state", pickle.dumps((1, 5, ("a.seg", b"inline"))))
        store.commit()
    (state,) = read_manifests(tmp_path, "joined")
    assert (state.step, state.manifests, state.files) == ("match.state", {5: ("a.seg", b"inline")}, {"a.seg"})
    assert not touched.exists()


def _snapshot(store: sqlite3.Connection, step: str, data: bytes) -> None:
    """A snapshot of epoch 1, and the word of the one worker that epoch 1 is durable."""
    store.execute("INSERT OR IGNORE INTO exs (ex_num, worker_count, resume_epoch) VALUES (0, 1, 1)")
    store.execute("INSERT OR IGNORE INTO fronts (ex_num, worker_index, worker_frontier) VALUES (0, 0, 2)")
    store.execute("INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES (?, '0', 1, ?)", (step, data))
