"""`headrace run`, `status`, `verify`, `check --connect` as a person uses them, on a real broker and PostgreSQL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from connectors.kafka.topics import produce

_ROOT = Path(__file__).parents[2]


def _headrace(dsn: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "control.cli", *map(str, arguments)]
    environment = {**os.environ, "WAREHOUSE_DSN": dsn}
    return subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)


def _file(folder: Path, broker: str, topic: str) -> Path:
    path = folder / "orders.toml"
    path.write_text(
        f"""
name = "orders"
[source.kafka]
servers = "{broker}"
[tables.orders]
topic = "{topic}"
key = ["id"]
target = "orders"
[tables.orders.columns]
id = "int64"
status = "string"
[sink.postgres]
dsn = "env:WAREHOUSE_DSN"
""",
        "utf-8",
    )
    return path


def _change(number: int, status: str) -> tuple[bytes, bytes]:
    row = {"id": number, "status": status}
    return b'{"id":%d}' % number, json.dumps({"before": None, "after": row, "op": "c"}).encode()


def test_run_status_verify(broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path) -> None:
    """A run to the end of a topic leaves an equal table; a row changed behind its back is found, named, and exit 1."""
    name = topic(2)
    file = _file(tmp_path, broker, name)
    produce(broker, name, [_change(number, "OPEN") for number in range(100)])
    checked = _headrace(postgres, "check", file, "--connect")
    assert (checked.returncode, "1 tables" in checked.stdout) == (0, True), checked.stderr
    run = _headrace(postgres, "run", file, "--until-end")
    assert run.returncode == 0, run.stderr
    assert "100 events" in run.stderr and "100 rows applied" in run.stderr
    status = json.loads(_headrace(postgres, "status", file, "--json").stdout)
    assert status["totals"]["rows_applied"] == 100 and status["supervisor"]["exit_code"] == 0
    verified = _headrace(postgres, "verify", file, "--json")
    assert verified.returncode == 0, verified.stderr
    (table,) = json.loads(verified.stdout)["tables"]
    assert (table["equal"], table["missing"], table["extra"], table["different"]) == (100, 0, 0, 0)
    with psycopg.connect(postgres) as connection:
        connection.execute("UPDATE orders SET status = 'LOST' WHERE id = 7")
    found = _headrace(postgres, "verify", file)
    assert found.returncode == 1 and "id=7" in found.stdout and "LOST" in found.stdout


def test_what_is_missing_outside_of_the_file(broker: str, postgres: str, tmp_path: Path) -> None:
    """A topic that does not exist ends check and run with 78, and both name it."""
    file = _file(tmp_path, broker, "no-such-topic")
    for arguments in (("check", file, "--connect"), ("run", file, "--until-end")):
        found = _headrace(postgres, *arguments)
        assert found.returncode == 78 and "no-such-topic" in found.stderr
