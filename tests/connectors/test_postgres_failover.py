"""A real primary and its standby: one is killed, the other promoted, and the flow goes on with nothing lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from control.cli.main import app
from tests.connectors.postgres_pair import Pair, tables, waited

_ROOT = Path(__file__).parents[2]
_FILE = """
name = "pair"
tables = ["public.*"]

[source.postgres]
dsn = "env:PAIR_SOURCE"
chunk_rows = 500

[sink.postgres]
dsn = "env:PAIR_TARGET"
table = "{table}"
"""


class Writer(threading.Thread):
    """Changes both tables at whichever server is the primary, until it is stopped; counts the commits of each server.

    `commits`: by port. What a server answered before it died may be lost with it; that is no matter of the flow.
    """

    def __init__(self, dsn: str) -> None:
        super().__init__(daemon=True)
        self._dsn, self.ended, self.commits = dsn + "?target_session_attrs=read-write", threading.Event(), {}

    def run(self) -> None:
        """Write."""
        number = 0
        while not self.ended.is_set():
            try:
                with psycopg.connect(self._dsn, autocommit=True) as connection:
                    while not self.ended.wait(0.001):
                        number += 1
                        self._change(connection, number)
                        port = connection.info.port
                        self.commits[port] = self.commits.get(port, 0) + 1
            except psycopg.OperationalError:
                self.ended.wait(0.05)

    def _change(self, connection: psycopg.Connection[Any], number: int) -> None:
        with connection.transaction():
            connection.execute("UPDATE items SET n = n + 1 WHERE id %% 50 = %s", (number % 50,))
            connection.execute("DELETE FROM items WHERE id = %s", (number * 7 % 3000,))
            connection.execute("INSERT INTO items VALUES (%s, %s) ON CONFLICT DO NOTHING", (number * 11 % 3000, number))
            connection.execute("INSERT INTO log VALUES (%s, 'x')", (number,))

    def stop(self) -> None:
        """End it."""
        self.ended.set()
        self.join()


def _rows(dsn: str, table: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        try:
            return connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall()
        except psycopg.errors.UndefinedTable:
            return []


def test_a_primary_is_killed_under_a_flow_and_a_writer(
    postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`headrace run` goes on at the promoted standby, in the same process; each row is there once, as it is there."""
    file, log = tmp_path / "pair.toml", tmp_path / "log"
    file.write_text(_FILE, "utf-8")
    with Pair() as pair:
        monkeypatch.setenv("PAIR_SOURCE", pair.dsn())
        monkeypatch.setenv("PAIR_TARGET", postgres)
        tables(pair.primary.dsn(), 3000)
        writer = Writer(pair.dsn())
        writer.start()
        command = [sys.executable, "-m", "control.cli", "run", str(file), "--restarts-max", "0"]
        with log.open("w") as stderr:
            flow = subprocess.Popen(command, cwd=_ROOT, env=dict(os.environ), stderr=stderr)
        try:
            waited(lambda: _rows(postgres, "log"), "the stream")
            pair.slot_synced("headrace_pair")
            pair.fail_over()
            waited(lambda: writer.commits.get(pair.standby.port, 0) > 50, "writes at the new primary")
            writer.stop()
            for table in ("items", "log"):
                wanted = _rows(pair.standby.dsn(), table)
                waited(lambda: _rows(postgres, table) == wanted, f"{table}, see {log}")  # noqa: B023
            flow.send_signal(signal.SIGINT)
            assert flow.wait(30) == 0, log.read_text()
        finally:
            writer.ended.set()
            flow.kill()
            flow.wait()
        assert writer.commits[pair.primary.port] > 0
        assert "another server took over" in log.read_text()
        assert json.loads(CliRunner().invoke(app, ["verify", str(file), "--json"]).stdout)["equal"]
