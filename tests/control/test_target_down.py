"""A pipeline that is started again while its target is down: it drains its source into the spool, then catches up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest

from connectors.kafka.topics import produce
from control.embedded import EmbeddedPostgres
from control.status import Totals, read_workers, totals
from flows.operators.shape import Shaper, TableShape
from libcore.schema import Column, Table, parse_type
from tests.connectors.changes import batch

_ROOT = Path(__file__).parents[2]
_TABLES = ("orders", "invoices", "customers")
_SECONDS = 50.0  # a start that waited for the target would take longer for the first table alone


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that may be stopped."""
    with EmbeddedPostgres(settings={"fsync": False}) as running:
        yield running


def _file(folder: Path, broker: str, names: Mapping[str, str], sink: str = "") -> Path:
    lines = ['name = "down"', "[source.kafka]", f'servers = "{broker}"']
    for table, topic in names.items():
        lines += [f"[tables.{table}]", f'topic = "{topic}"', 'key = ["id"]', f'target = "{table}"']
        lines += [f"[tables.{table}.columns]", 'id = "int64"', 'status = "string"']
    path = folder / "down.toml"
    path.write_text("\n".join([*lines, "[sink.postgres]", 'dsn = "env:WAREHOUSE_DSN"', sink, ""]), "utf-8")
    return path


def _changes(ids: Iterable[int], status: str) -> list[tuple[bytes, bytes]]:
    rows = [{"id": number, "status": status} for number in ids]
    return [(b'{"id":%d}' % row["id"], json.dumps({"before": None, "after": row, "op": "c"}).encode()) for row in rows]


def _start(file: Path, dsn: str, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "control.cli", "run", str(file), *options]
    environment = {**os.environ, "WAREHOUSE_DSN": dsn}
    return subprocess.Popen(command, cwd=_ROOT, env=environment, stderr=subprocess.DEVNULL)


def _until(state: Path, reached: Callable[[Totals], bool]) -> Totals:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        if reached(found := totals(read_workers(state))):
            return found
        time.sleep(0.05)
    raise AssertionError(f"not reached within {_SECONDS} s: {found}")


def _of_part_1() -> int:
    """A key whose rows go through the second of two parts."""
    table = Table("orders", (Column("id", parse_type("int64")),), ("id",))
    routed = Shaper("down", lambda name: TableShape(), 64, 2)([batch(table, [{"id": number}]) for number in range(100)])
    return next(number for number, (part, _) in enumerate(routed) if part == "1")


@pytest.mark.parametrize("processes", [1, 2])
def test_a_restart_drains_the_source_while_the_target_is_down(
    broker: str, topic: Callable[[int], str], server: EmbeddedPostgres, tmp_path: Path, processes: int
) -> None:
    """A flow that ran before starts without its target and reads its topics to their ends; nothing is lost after it."""
    names = {table: topic(2) for table in _TABLES}
    file, state, dsn = _file(tmp_path, broker, names), tmp_path / "var" / "down", server.dsn()
    for name in names.values():
        produce(broker, name, _changes(range(100), "OPEN"))
    assert _start(file, dsn, "--until-end").wait(60) == 0
    server.stop()
    for name in names.values():
        produce(broker, name, _changes(range(70, 150), "PAID"))
    running = _start(file, dsn, "--processes", str(processes))
    try:
        drained = _until(state, lambda found: found.workers == processes and found.events == 240)
        assert drained.rows_applied == 0 and running.poll() is None
        server.start()
        _until(state, lambda found: found.rows_applied == 240)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()
    with psycopg.connect(dsn) as connection:
        for table in _TABLES:
            rows = connection.execute(f"SELECT status, count(*) FROM {table} GROUP BY status ORDER BY status")
            assert rows.fetchall() == [("OPEN", 70), ("PAID", 80)]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_table_that_goes_another_way_keeps_its_order(
    broker: str, topic: Callable[[int], str], server: EmbeddedPostgres, tmp_path: Path, processes: int
) -> None:
    """`single_part` that comes to the file while segments wait: newer rows, in one part, wait for the older of all."""
    name, dsn, locked = topic(processes), server.dsn(), _of_part_1()
    file, state = _file(tmp_path, broker, {"orders": name}, "parts = 2"), tmp_path / "var" / "down"
    produce(broker, name, _changes(range(100), "OPEN"))
    assert _start(file, dsn, "--until-end").wait(60) == 0
    server.stop()
    produce(broker, name, _changes(range(100), "PAID"))
    running = _start(file, dsn)
    try:
        _until(state, lambda found: found.events == 100 and found.spool_bytes > 0)
        time.sleep(1.0)  # the epoch is durable
    finally:
        running.kill()
        running.wait()
    server.start()
    produce(broker, name, _changes([number for number in range(100) if number != locked], "DONE"))
    file.write_text(file.read_text("utf-8").replace("[tables.orders]", "[tables.orders]\nsingle_part = true"), "utf-8")
    with psycopg.connect(dsn) as connection:
        connection.execute("SELECT FROM orders WHERE id = %s FOR UPDATE", (locked,))
        running = _start(file, dsn, "--until-end", "--processes", str(processes))
        try:
            _until(state, lambda found: found.events == 99)
            time.sleep(2.0)  # what does not wait is applied by now
            connection.rollback()
            assert running.wait(60) == 0
        finally:
            running.kill()
            running.wait()
        rows = connection.execute("SELECT status, count(*) FROM orders GROUP BY status ORDER BY status")
        assert rows.fetchall() == [("DONE", 99), ("PAID", 1)]
