"""A whole pipeline whose target is away: the spool takes what it may, the source keeps the rest, the file decides."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from control.cli.main import app
from control.embedded import EmbeddedPostgres
from control.status import read_workers

_ROOT = Path(__file__).parents[2]
_SECONDS = 100.0  # of a machine with other work
_FILE = """
name = "guarded"
tables = ["public.items"]
[source.postgres]
dsn = "env:GUARDED_SOURCE"
queued_bytes_max = 1048576
batch_rows_max = 1000
[source.postgres.guardian]
retained_bytes_max = 12000000
on_retained = "{}"
[sink.postgres]
dsn = "env:GUARDED_TARGET"
spool_bytes = 8_000_000
parts = 1
"""


@pytest.fixture
def target() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that may be stopped."""
    with EmbeddedPostgres(settings={"fsync": False}) as running:
        yield running


def _until(reached: Callable[[], bool], step: Callable[[], object] = lambda: time.sleep(0.1)) -> None:
    deadline = time.monotonic() + _SECONDS
    while not reached():
        assert time.monotonic() < deadline
        step()


def _status(file: Path) -> dict[str, Any]:
    return json.loads(CliRunner().invoke(app, ["status", str(file), "--json"]).stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("choice", ["wait", "drop_slot"])
def test_the_file_decides_what_is_done_with_kept_log(
    postgres: str, target: EmbeddedPostgres, tmp_path: Path, choice: str
) -> None:
    """wait: all of it arrives when the target is back. drop_slot: the slot goes, status and the next start say why."""
    file, state = tmp_path / "guarded.toml", tmp_path / "var" / "guarded"
    file.write_text(_FILE.format(choice), "utf-8")
    environment = {**os.environ, "GUARDED_SOURCE": postgres, "GUARDED_TARGET": target.dsn()}
    command = [sys.executable, "-m", "control.cli", "run", str(file), "--restarts-max", "0"]

    def start(*options: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, *options], cwd=_ROOT, env=environment, stderr=subprocess.PIPE)

    def there() -> bool:
        found = source.execute("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'headrace_guarded'")
        return found.fetchone() == (1,)

    with psycopg.connect(postgres, autocommit=True) as source:
        source.execute("CREATE TABLE items (id int PRIMARY KEY, x text)")
        source.execute("INSERT INTO items SELECT g, md5(g::text) FROM generate_series(1, 100) g")
        assert start("--until-end").wait(60) == 0
        target.stop()
        running = start()
        try:
            number = [0]

            def write() -> None:
                number[0] += 1
                source.execute(
                    "INSERT INTO items SELECT g, (SELECT string_agg(md5((g * i)::text), '') FROM generate_series(1, 8) "
                    "i) FROM generate_series(%s::int, %s::int) g",
                    (number[0] * 5000, number[0] * 5000 + 4999),
                )
                time.sleep(0.2)

            kept: list[int] = []

            def above() -> bool:
                kept.append(sum(worker.retained_bytes for worker in read_workers(state)))
                return kept[-1] > 12_000_000 or not there()

            _until(above, write)
            if choice == "drop_slot":
                _until(lambda: not there())
                assert "on_retained is drop_slot" in _status(file)["dropped_slots"][0]
                assert running.poll() is None  # what is in the spool is still to be applied
            else:
                time.sleep(1.5)
                assert there() and _status(file)["dropped_slots"] == []
            target.start()
            if choice == "wait":
                with psycopg.connect(target.dsn(), autocommit=True) as arrived:
                    _until(lambda: arrived.execute("SELECT count(*) FROM items").fetchone() == _count(source))
                running.send_signal(signal.SIGTERM)
                assert running.wait(60) == 0
            else:
                _, said = running.communicate(timeout=60)
                assert running.returncode == 1 and b"headrace source drop FILE" in said
        finally:
            running.kill()
            running.wait()
            source.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                "WHERE slot_name = 'headrace_guarded' AND NOT active"
            )


def _count(connection: psycopg.Connection[Any]) -> tuple[Any, ...] | None:
    return connection.execute("SELECT count(*) FROM items").fetchone()
