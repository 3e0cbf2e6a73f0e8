"""The command line says what is wrong with the right exit code, and shows what lies in the state directory."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner, Result

from control import pipeline
from control.cli.main import app
from control.cli.support import quiet_logs
from control.dead_letters import text_of
from control.progress import Progress, Rate, progress_text, summary_text
from control.runner import Result as RunResult
from control.status import Totals, WorkerStatus, worker_path
from control.worker_log import Cause
from flows import build, json_file, process
from libcore.dead_letter import DEAD_LETTERS

_ROOT = Path(__file__).parents[2]
_PIPELINE = """
name = "orders"
[source.kafka]
servers = "127.0.0.1:1"
[tables.items]
topic = "erp.public.items"
key = ["id"]
[tables.items.columns]
id = "int64"
price = "decimal(18,4)"
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A valid pipeline file."""
    path = tmp_path / "orders.toml"
    path.write_text(_PIPELINE, "utf-8")
    return path


def _headrace(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@given(st.lists(st.tuples(st.floats(0.1, 5), st.integers(0, 10**6)), min_size=2))
def test_the_rate_lies_between_the_slowest_and_the_fastest_step(steps: list[tuple[float, int]]) -> None:
    """Events a second over a window is an average of what the steps in it had, and never negative."""
    rate, seconds, count, found = Rate(), 0.0, 0, []
    for duration, events in steps:
        seconds, count = seconds + duration, count + events
        found.append(rate.add(seconds, count))
    fastest = max(events / duration for duration, events in steps)
    assert found[0] == 0 and all(0 <= value <= fastest * 1.001 + 1e-6 for value in found)


@given(st.binary())
def test_raw_bytes_are_shown_without_loss(value: bytes) -> None:
    """UTF-8 is shown as it is, anything else as base64, so that each text stands for one value only."""
    text = text_of(value)
    assert text.encode() == value or text.startswith("base64:")


def test_help_names_every_command_with_examples() -> None:
    """`headrace` and each command explain themselves, each with an example to copy."""
    top = _headrace("--help")
    assert top.exit_code == 0
    for command in ("run", "check", "status", "verify", "bench", "demo", "version", "dead-letters"):
        assert command in top.output
        found = _headrace(*(["dead-letters", "list"] if command == "dead-letters" else [command]), "--help")
        assert found.exit_code == 0 and "Example" in found.output and f"headrace {command}" in found.output


def test_the_module_is_the_command(file: Path) -> None:
    """`python -m control.cli` does what `headrace` does, exit code included."""
    arguments = [sys.executable, "-m", "control.cli", "check", str(file)]
    done = subprocess.run(arguments, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "no errors" in done.stdout) == (0, True)


@pytest.mark.parametrize("command", ["check", "run", "status", "verify"])
def test_every_error_of_a_file_is_told_with_its_line(file: Path, command: str) -> None:
    """A wrong file ends every command with 78, and names file, line, expected and found."""
    file.write_text(_PIPELINE.replace('"orders"', "7").replace('"int64"', '"int65"'), "utf-8")
    found = _headrace(command, file)
    assert found.exit_code == 78
    text = re.sub(r"\s+", " ", found.output)
    assert "orders.toml:2:" in text and "int65" in text and "expected" in text


def test_run_tells_what_only_the_workers_find(file: Path) -> None:
    """A fault that the supervisor does not look for itself is told whole all the same, with 78 and no restart."""
    file.write_text(_PIPELINE.replace('"int64"', '"int65"'), "utf-8")
    found = _headrace("run", file)
    assert found.exit_code == 78 and "0 restarts" in found.output
    assert re.search(r"headrace: .*orders\.toml:\d+: .*int65", found.output)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """A file that is not there is a configuration error that names it."""
    found = _headrace("run", tmp_path / "none.toml")
    assert found.exit_code == 78 and "none.toml" in found.output


def test_state_lies_where_the_workers_look(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor's quick look at a file and the workers' full reading mean the same directory and variables."""
    for chosen in (None, "elsewhere", str(file.parent / "absolute")):
        if chosen is not None:
            file.write_text(f'state_dir = "{chosen}"\n{_PIPELINE}', "utf-8")
        quick = pipeline.start_plan(file)
        assert quick.state_dir == build.state_directory(build.load(str(file)), str(file)).resolve()
        assert quick.state_dir == pipeline.plan(file).state_dir
    monkeypatch.setenv(build.STATE_ENVIRONMENT, str(file.parent / "chosen"))
    assert pipeline.start_plan(file).state_dir == file.parent.resolve() / "chosen" == pipeline.plan(file).state_dir
    assert (pipeline.STATE_ENVIRONMENT, pipeline.METRICS_ENVIRONMENT) == (
        build.STATE_ENVIRONMENT,
        process.PORT_ENVIRONMENT,
    )


def test_status_shows_workers_and_sums(file: Path) -> None:
    """Status adds up what the workers wrote, and says whether the supervisor lives."""
    assert "no worker has run yet" in _headrace("status", file).output
    run = file.parent / "var" / "orders" / "run"
    run.mkdir(parents=True)
    for worker in (0, 1):
        status = {"worker": worker, "events": 1000 * (worker + 1), "lag_ms": 50 * worker, "started_at": 1.0}
        json_file.write(worker_path(run.parent, worker), status)
    json_file.write(run / "supervisor.json", {"pid": os.getpid(), "started_at": 1.0})
    found = json.loads(_headrace("status", file, "--json").output)
    assert (found["totals"]["events"], found["totals"]["lag_ms"]) == (3000, 50)
    assert found["supervisor"]["running"] is True
    assert "3,000" in _headrace("status", file).output


def test_what_a_worker_writes_is_what_status_reads(tmp_path: Path) -> None:
    """The fields of a status file are those that the supervisor knows, so that a renamed one fails here."""
    written = process.snapshot(0, 1.0)
    assert {name for name in WorkerStatus.__dataclass_fields__ if name not in written} == set()


def _letter(**values: object) -> dict[str, object]:
    empty: dict[str, object] = {column.name: None for column in DEAD_LETTERS.columns}
    base = {"flow": "orders", "step": "decode", "table_name": "public.items", "topic": "erp.items", "partition": 3}
    return {**empty, **base, "reason": "data", "failed_at": datetime(2026, 1, 2, tzinfo=UTC), **values}


def _write_letters(file: Path) -> None:
    folder = file.parent / "var" / "orders" / "dead-letters"
    folder.mkdir(parents=True)
    bad = _letter(message_offset=7, error="expected an integer", byte_position=12, raw_value=b'{"id": "x"}')
    later = {**bad, "failed_at": datetime(2026, 1, 3, tzinfo=UTC)}
    parked = _letter(message_offset=9, reason="parked", error="waits behind 7", raw_value=b"\xff\x00")
    schema = pa.schema([(column.name, column.type.arrow) for column in DEAD_LETTERS.columns])
    pq.write_table(pa.Table.from_pylist([bad], schema), folder / "a.parquet")
    pq.write_table(pa.Table.from_pylist([later, parked], schema), folder / "b.parquet")


def test_dead_letters_are_listed_once_shown_whole_and_exported(file: Path) -> None:
    """A letter written twice by a crash is one letter; it is shown with its message, and exported in three formats."""
    assert "no dead letters" in _headrace("dead-letters", "list", file).output
    _write_letters(file)
    listed = json.loads(_headrace("dead-letters", "list", file, "--json").output)
    assert [letter["letter"] for letter in listed] == ["erp.items:3:7", "erp.items:3:9"]
    assert "2 of 2 dead letters" in _headrace("dead-letters", "list", file).output
    shown = _headrace("dead-letters", "show", file, "erp.items:3:7").output
    assert '{"id": "x"}' in shown and "expected an integer" in shown
    parked = json.loads(_headrace("dead-letters", "list", file, "--reason", "parked", "--json").output)
    assert [letter["raw_value"] for letter in parked] == ["base64:/wA="]
    for ending in ("parquet", "csv", "ndjson"):
        target = file.parent / f"out.{ending}"
        assert _headrace("dead-letters", "export", file, target).exit_code == 0 and target.stat().st_size > 0
    assert pl.read_parquet(file.parent / "out.parquet")["raw_value"].to_list() == [b'{"id": "x"}', b"\xff\x00"]


def test_a_letter_or_format_that_is_not_there_is_refused(file: Path) -> None:
    """An unknown letter and an unknown file ending are configuration errors that say what was expected."""
    _write_letters(file)
    assert _headrace("dead-letters", "show", file, "erp.items:0:0").exit_code == 78
    found = _headrace("dead-letters", "export", file, file.parent / "out.xlsx")
    assert found.exit_code == 78 and "ndjson, csv, parquet" in found.output


def test_a_command_leaves_the_logging_of_its_process(file: Path) -> None:
    """Who calls a command inside a process of their own goes on to log where they did, and at the level they did."""
    before = structlog.get_config()
    assert _headrace("check", file).exit_code == 0 and structlog.get_config() == before
    file.write_text(_PIPELINE.replace('"int64"', '"int65"'), "utf-8")
    for command in ("check", "verify"):
        assert _headrace(command, file).exit_code == 78 and structlog.get_config() == before
    with pytest.raises(KeyError), quiet_logs(logging.ERROR):
        assert structlog.get_config() != before
        raise KeyError
    assert structlog.get_config() == before


def test_bench_hands_over_or_says_what_is_missing() -> None:
    """A measure that does not exist ends with an error and not with a traceback of ours."""
    found = _headrace("bench", "no-such-measure")
    assert found.exit_code != 0 and not isinstance(found.exception, AttributeError | ImportError)


def test_version_names_the_parts() -> None:
    """The versions include the engine's and which core serves."""
    found = json.loads(_headrace("version", "--json").output)
    assert found["bytewax"] == "0.21.1" and found["core"] in ("c", "python")


def test_progress_is_plain_lines_outside_of_a_terminal() -> None:
    """Without a terminal a run prints whole lines, the first one at once, and warnings as they come."""
    nowhere = open(os.devnull, "w")  # noqa: SIM115
    console = Console(record=True, force_terminal=False, width=200, quiet=False, file=nowhere)
    with Progress(console) as progress:
        progress.update(Totals(events=5, spool_bytes=2_000_000, backpressure=True), 61.0, 1)
        progress.update(Totals(events=9), 61.5, 1)
        progress.line(1, "2026 [warning] slow")
    text = console.export_text()
    assert text.splitlines() == [
        progress_text(Totals(events=5, spool_bytes=2_000_000, backpressure=True), 0.0, 61.0, 1),
        "worker 1: 2026 [warning] slow",
    ]
    assert "spool 2.0 MB (waiting for the target)" in text and "1 restarts" in text


def test_the_summary_says_how_it_ended() -> None:
    """A failed run's last line carries the original error; a good one's the rate."""
    failed = summary_text(RunResult(1, Totals(), 2.0, 3, Cause("FatalError", "another writer")))
    assert "FatalError: another writer" in failed and "3 restarts" in failed
    assert "500 events/s" in summary_text(RunResult(0, Totals(events=1000), 2.0, 0))
