"""A pipeline with several sources as a process of its own, and what its target must come to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import psycopg
from typer.testing import CliRunner

from control.cli.main import app

_ROOT = Path(__file__).parents[2]
_SECONDS = 40.0


class Running:
    """The pipeline, not started; killed on leaving.

    Args:
        text: the pipeline file. environment: the secrets that it names.
    """

    def __init__(self, folder: Path, text: str, target: str, environment: Mapping[str, str]) -> None:
        self.file, self.log, self.target = folder / "several.toml", folder / "log", target
        self.file.write_text(text, "utf-8")
        self._environment = {**os.environ, **environment}
        self.running: subprocess.Popen[str] | None = None

    def write(self, dsn: str, statement: str) -> None:
        """Change a source."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement)

    def start(self, *options: str) -> None:
        """Start it."""
        command = [sys.executable, "-m", "control.cli", "run", str(self.file), "--restarts-max", "0", *options]
        with self.log.open("a") as log:
            self.running = subprocess.Popen(command, cwd=_ROOT, env=self._environment, stderr=log, text=True)

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        assert self.running is not None
        self.running.send_signal(signal.SIGINT)
        assert self.running.wait(30) == 0, self.log.read_text()

    def rows(self, dsn: str, statement: str) -> list[tuple[Any, ...]]:
        """Rows of a database; none where the table is not there yet."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            try:
                return connection.execute(statement + " ORDER BY 1").fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    def arrived(self, table: str, dsn: str) -> None:
        """Wait until a target table is the source's `items`."""
        wanted = self.rows(dsn, "SELECT item, n FROM items")
        self.until(lambda: self.rows(self.target, f"SELECT item, n FROM {table}") == wanted)

    def until(self, reached: Callable[[], bool]) -> None:
        """Wait for it while the flow lives."""
        deadline = time.monotonic() + _SECONDS
        while not reached():
            assert self.running is None or self.running.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        """What `headrace status` says."""
        found: dict[str, Any] = json.loads(CliRunner().invoke(app, ["status", str(self.file), "--json"]).stdout)
        return found

    def verified(self) -> set[str]:
        """The target's tables, where `headrace verify` finds them equal to the sources."""
        command = [sys.executable, "-m", "control.cli", "verify", str(self.file), "--json"]
        done = subprocess.run(command, cwd=_ROOT, env=self._environment, stdout=subprocess.PIPE, text=True, check=False)
        report = json.loads(done.stdout)
        assert report["equal"], report
        return {table["target"] for table in report["tables"]}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.running is not None and self.running.poll() is None:
            self.running.kill()
            self.running.wait()
