"""`headrace snapshot` on a real pipeline of processes: killed in mid-table, some columns only, its progress told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from rich.console import Console
from typer.testing import CliRunner

from connectors.base.request_progress import RequestProgress
from control.cli import snapshot
from control.cli.main import app
from control.embedded import EmbeddedPostgres
from control.live_line import LiveLine
from control.requests import OpenRequest, asked_file, open_requests

_ROOT = Path(__file__).parents[2]
_SECONDS = 100.0  # of a machine with other work
_ROWS = 8000
_FILE = """
name = "again"
tables = ["public.items"]
[source.postgres]
dsn = "env:AGAIN_SOURCE"
parallel = 2
batch_rows_max = 500
[source.postgres.guardian]
rows_per_second_max = 1000
[sink.postgres]
dsn = "env:AGAIN_TARGET"
parts = 2
"""


class Running:
    """The pipeline; its processes are killed together, with -9."""

    def __init__(self, file: Path, environment: dict[str, str]) -> None:
        self._command = [sys.executable, "-m", "control.cli", "run", str(file)]
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            self._command, cwd=_ROOT, env=self._environment, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def kill(self) -> None:
        """End it as a power failure does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def running(postgres: str, postgres_server: EmbeddedPostgres, tmp_path: Path) -> Iterator[tuple[Running, Path, str]]:
    """A pipeline over a filled table, its file, and the target's dsn."""
    file, target = tmp_path / "again.toml", postgres_server.create_database("again_target")
    file.write_text(_FILE.replace("rows_per_second_max = 1000", ""), "utf-8")
    with psycopg.connect(postgres, autocommit=True) as source:
        source.execute("CREATE TABLE items (id int PRIMARY KEY, a text, b int)")
        source.execute(f"INSERT INTO items SELECT g, md5(g::text), g FROM generate_series(1, {_ROWS}) g".encode())
        source.execute("ANALYZE items")
    made = Running(file, {"AGAIN_SOURCE": postgres, "AGAIN_TARGET": target})
    try:
        made.start()
        _until(lambda: len(_rows(target)) == _ROWS)
        made.kill()
        file.write_text(_FILE, "utf-8")
        yield made, file, target
    finally:
        made.kill()
        with psycopg.connect(postgres, autocommit=True) as source:
            _until(lambda: _dropped(source))
        postgres_server.drop_database("again_target")


def _dropped(source: psycopg.Connection[Any]) -> bool:
    try:
        source.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name ~ 'again'")
    except psycopg.errors.ObjectInUse:
        return False
    return True


def _until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SECONDS
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _rows(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        try:
            return connection.execute("SELECT id, a, b FROM items ORDER BY id").fetchall()
        except psycopg.errors.UndefinedTable:
            return []


def _asked(file: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["snapshot", str(file), "--table", "public.items", *options])
    return result.exit_code, " ".join(result.output.split())


def _open(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(CliRunner().invoke(app, ["status", str(file), "--json"]).stdout)[
        "requests"
    ]
    return found


def test_a_column_read_again_over_a_kill(
    running: tuple[Running, Path, str], postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One column comes right over a kill -9 in mid-table, a row that the target lost is not made of it; then it comes
    whole. The command and `status` say how far it is, and a wrong column is refused with the table's columns."""
    pipeline, file, target = running
    with psycopg.connect(target, autocommit=True) as connection:
        connection.execute("UPDATE items SET b = -1, a = CASE WHEN id > 7000 THEN 'mine' ELSE a END")
        connection.execute("DELETE FROM items WHERE id <= 10")
    pipeline.start()
    code, said = _asked(file, "--column", "b")
    assert code == 0, said
    _until(lambda: any(one.rows for one in open_requests(file.parent / "var" / "again")))
    pipeline.kill()
    (told,) = _open(file)
    assert told["table"] == "public.items" and 0 < told["rows"] < _ROWS
    assert _ROWS * 0.9 < told["expected"] < _ROWS * 1.1
    with psycopg.connect(postgres, autocommit=True) as source:
        source.execute("UPDATE items SET b = -2 WHERE id % 1000 = 0")
        source.execute("DELETE FROM items WHERE id % 1000 = 1")
        source.execute("INSERT INTO items SELECT id, 'again', 0 FROM generate_series(2001, 8000, 1000) id")
    assert -1 in {b for _, _, b in _rows(target)}, "it was done before the kill"
    pipeline.start()
    _until(lambda: not _open(file))
    changed = (0, 1)  # what the source wrote came whole
    wanted = [(id, "mine" if id > 7000 and id % 1000 not in changed else a, b) for id, a, b in _rows(postgres)]
    wanted = [row for row in wanted if row[0] > 10]
    _until(lambda: _rows(target) == wanted)
    monkeypatch.setattr(snapshot, "_PLAIN_EVERY_S", 0.0)
    code, said = _asked(file, "--where", "id <= 10 OR id > 6000", "--wait", "60")
    assert code == 0 and "done: 2,009 rows" in said, said
    assert "public.items: " in said and " rows/s" in said
    _until(lambda: _rows(target) == _rows(postgres))
    code, said = _asked(file, "--column", "weight", "--wait", "60")
    assert code == 1 and "expected columns of id, a, b; found 'weight'" in said, said


def test_what_is_shown() -> None:
    """Rows of about how many, the rate since the begin, and when it will be done, or that nobody knows."""
    assert OpenRequest("1", "t").text(100.0) == "t: waits for its turn"
    assert (
        OpenRequest("1", "t", 5000, 20_000, 90.0).text(100.0) == "t: 5,000 of about 20,000 rows  500 rows/s  ETA 0:30"
    )
    assert OpenRequest("1", "t", 5000, None, 90.0).text(100.0) == "t: 5,000 rows  500 rows/s  ETA unknown"
    assert OpenRequest("1", "t", 0, 7, 90.0).text(100.0) == "t: 0 of about 7 rows  0 rows/s  ETA unknown"
    assert OpenRequest("1", "t", 7, 7, 93.0).text(100.0).endswith("ETA 0:00")
    assert OpenRequest("1", "t", 9, 7, 91.0).text(100.0) == "t: 9 rows, about 7 were expected  1 rows/s  ETA unknown"


def test_status_tells_of_open_requests(tmp_path: Path) -> None:
    """One that is being read, and one that waits; of a file that is no request nothing is said."""
    file, state = tmp_path / "again.toml", tmp_path / "var" / "again"
    file.write_text(_FILE, "utf-8")
    for name, text in {"one": '{"table": "public.items"}', "two": '{"table": "public.log"}', "no": "{"}.items():
        asked_file(state, name).parent.mkdir(parents=True, exist_ok=True)
        asked_file(state, name).write_text(text, "utf-8")
    RequestProgress(state / "run", "one", "public.items", 500).read(20)
    said = " ".join(CliRunner().invoke(app, ["status", str(file)]).output.split())
    assert "read again: public.items: 0 of about 500 rows" in said and "; request one" in said, said
    assert "read again: public.log: waits for its turn; request two" in said
    assert [one["request"] for one in _open(file)] == ["one", "two"]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_line_is_live_on_a_terminal(terminal: bool) -> None:
    """On a terminal each text takes the place of the one before; elsewhere only one in a while is printed."""
    written = StringIO()
    with LiveLine(Console(file=written, force_terminal=terminal, width=80)) as line:
        line.show("first")
        line.show("second")
    assert "first" in written.getvalue() and ("second" in written.getvalue()) == terminal
