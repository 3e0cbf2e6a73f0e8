"""kill -9 of real processes: a table without a key shows every row that is lost or doubled."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psycopg
from bytewax.recovery import init_db_dir

from control.embedded import EmbeddedPostgres
from flows.ports import free_ports

ROWS = 700  # per partition; a run without a kill has about fifty epochs


def start(state: Path, dsn: str, count: int, die_at: int = 0) -> list[subprocess.Popen]:
    """The flow in `count` processes."""
    settings = {"STATE": str(state), "ROWS": str(ROWS), "PARTS": "3", "DIE_AT": str(die_at)}
    env = {**os.environ, "HEADRACE_TEST_DSN": dsn, **settings}
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(count))
    command = [sys.executable, "-m", "bytewax.run", "tests.connectors.sink_flow:flow", "-r", str(state / "recovery")]
    command += ["-s", "0", "-b", "0"]
    root = Path(__file__).parents[2]
    processes = []
    for index in range(count):
        place = ["-i", str(index), "-a", addresses] if count > 1 else []
        with (state / f"log-{index}").open("ab") as log:
            processes.append(subprocess.Popen([*command, *place], env=env, cwd=root, stdout=log, stderr=log))
    return processes


def rows_in(dsn: str) -> tuple[int, int]:
    """Rows and distinct rows of the ledger; nothing before the first start has made it."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT to_regclass('ledger')").fetchone() == (None,):
            return (0, 0)
        row = connection.execute("SELECT count(*), count(DISTINCT (partition, number)) FROM ledger").fetchone()
        assert row is not None
        return row


def kill_when_it_moves(processes: list[subprocess.Popen], dsn: str, victims: int) -> None:
    """kill -9 at a random moment after the target has got new rows; the others end by themselves, or are killed."""
    before, deadline = rows_in(dsn)[0], time.monotonic() + 20
    while rows_in(dsn)[0] == before and time.monotonic() < deadline and all(p.poll() is None for p in processes):
        time.sleep(0.01)
    time.sleep(random.uniform(0, 0.3))
    for process in random.sample(processes, min(victims, len(processes))):
        process.kill()
    for process in processes:
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def finish(state: Path, dsn: str, count: int) -> None:
    """Let it run to the end."""
    for process in start(state, dsn, count):
        assert process.wait(60) == 0, (state / "log-0").read_text()[-3000:]


def made(tmp_path: Path) -> Path:
    """A state directory."""
    (tmp_path / "recovery").mkdir()
    init_db_dir(tmp_path / "recovery", 2)
    return tmp_path


def test_kill_9_and_another_process_count_lose_and_double_nothing(postgres: str, tmp_path: Path) -> None:
    """Killed with 2, 1 and 3 processes and finished with 2: the ledger has every number once."""
    state = made(tmp_path)
    trail = []
    for count, victims in ((2, 1), (1, 1), (3, 3)):
        kill_when_it_moves(start(state, postgres, count), postgres, victims)
        trail.append(rows_in(postgres)[0])
    finish(state, postgres, 2)
    assert rows_in(postgres) == (3 * ROWS, 3 * ROWS), trail
    assert 0 < trail[0] < 3 * ROWS


def test_a_death_between_segment_and_durable_epoch(postgres: str, tmp_path: Path) -> None:
    """The most delicate moment, hit each time: a segment is on disk and its epoch is not yet durable."""
    state = made(tmp_path)
    for die_at in (1, 5, 10):
        process = start(state, postgres, 1, die_at)[0]
        assert process.wait(30) == -9, (state / "log-0").read_text()[-3000:]
    finish(state, postgres, 1)
    assert rows_in(postgres) == (3 * ROWS, 3 * ROWS)


def test_a_target_that_is_killed_and_comes_back_is_equal(tmp_path: Path) -> None:
    """PostgreSQL itself dies with -9 in the middle; the flow waits, goes on by itself and ends with every row once."""
    state = made(tmp_path)
    with EmbeddedPostgres() as server:
        dsn = server.dsn()
        process = start(state, dsn, 1)[0]
        deadline = time.monotonic() + 20
        while not 0 < rows_in(dsn)[0] < 3 * ROWS and time.monotonic() < deadline:
            time.sleep(0.01)
        server.kill()
        time.sleep(0.3)
        server.start()
        assert process.wait(60) == 0, (state / "log-0").read_text()[-3000:]
        assert rows_in(dsn) == (3 * ROWS, 3 * ROWS)
    assert "retry" in (state / "log-0").read_text()
