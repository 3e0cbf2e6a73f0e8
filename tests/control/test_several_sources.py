"""Several sources in one pipeline, real parts: one that fails does not stop the others, and nothing is lost by it."""

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

_ROOT = Path(__file__).parents[2]
_SECONDS = 40.0
_FILE = """
name = "both"

[source.postgres.erp]
dsn = "env:BOTH_ERP"

[source.postgres.crm]
dsn = "env:BOTH_CRM"

[source.files.tables.prices]
path = "drop/prices-*.csv"
format = "csv"
complete = "renamed"
key = ["item"]
[source.files.tables.prices.columns]
item = "int32"
price = "int32"

[tables.items]
source = "erp"
topic = "public.items"
write = true

[tables.visits]
source = "crm"
topic = "public.items"
target = "visits"

[tables.prices]
source = "files"
write = true

[[step]]
join = "items"
with = "prices"
on = { item = "item" }
take = ["price"]
how = "left"
as = "priced"

[sink.postgres]
dsn = "env:BOTH_TARGET"
parts = 2
table = "{table}"
"""


@pytest.fixture(scope="module")
def erp() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that may be killed."""
    with EmbeddedPostgres(settings={"fsync": False}) as running:
        yield running


class Both:
    """The pipeline with its three sources, and what the target must come to."""

    def __init__(self, folder: Path, erp: EmbeddedPostgres, crm: str, target: str) -> None:
        self.folder, self.erp, self.crm, self.target = folder, erp, crm, target
        self.file = folder / "both.toml"
        self.file.write_text(_FILE, "utf-8")
        (folder / "drop").mkdir()
        self.running: subprocess.Popen[str] | None = None
        self.log = folder / "log"
        self.admin = erp.create_database(folder.name[:20].rstrip("0123456789_"))
        self.role = f"reader_{self.admin.rpartition('/')[2]}"
        self.dsn = self.admin.replace("postgres@", f"{self.role}@")
        for dsn in (self.admin, crm):
            self.write(dsn, "CREATE TABLE items (item int PRIMARY KEY, n int)")
            self.write(dsn, "INSERT INTO items SELECT g, g FROM generate_series(1, 20) g")
        self.drop(1, range(1, 15), 7)

    def grant(self) -> None:
        """Give the role that the pipeline logs in as what it needs."""
        self.write(self.admin, f"ALTER ROLE {self.role} REPLICATION SUPERUSER")

    def write(self, dsn: str, statement: str) -> None:
        """Change a source."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(statement)

    def drop(self, number: int, items: range, price: int) -> None:
        """A new file of prices."""
        part = self.folder / "drop" / "part.tmp"
        part.write_text("item,price\n" + "".join(f"{item},{price}\n" for item in items), "utf-8")
        part.rename(self.folder / "drop" / f"prices-{number}.csv")

    def start(self, *options: str) -> None:
        """Start it."""
        names = {"BOTH_ERP": self.dsn, "BOTH_CRM": self.crm, "BOTH_TARGET": self.target}
        command = [sys.executable, "-m", "control.cli", "run", str(self.file), "--restarts-max", "0", *options]
        with self.log.open("a") as log:
            self.running = subprocess.Popen(command, cwd=_ROOT, env={**os.environ, **names}, stderr=log, text=True)

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


@pytest.fixture
def both(tmp_path: Path, erp: EmbeddedPostgres, postgres_server: EmbeddedPostgres) -> Iterator[Both]:
    """The pipeline, not started; killed at the end."""
    names = [f"{name}_{os.getpid()}_{tmp_path.name[14:24]}" for name in ("crm", "target")]
    made = Both(tmp_path, erp, *(postgres_server.create_database(name) for name in names))
    yield made
    if made.running is not None and made.running.poll() is None:
        made.running.kill()
        made.running.wait()
    with psycopg.connect(postgres_server.dsn(names[0]), autocommit=True) as connection:
        for _ in range(100):
            try:
                connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
                break
            except psycopg.errors.ObjectInUse:
                time.sleep(0.05)
    for name in names:
        postgres_server.drop_database(name)


def test_a_source_that_dies_does_not_stop_the_others(both: Both) -> None:
    """One server killed: the others' rows arrive, over a restart too; when it is back, all is equal, the join too."""
    both.write(both.admin, f"CREATE ROLE {both.role} LOGIN REPLICATION SUPERUSER")
    both.start()
    both.arrived("items", both.admin)
    both.arrived("visits", both.crm)
    both.erp.kill()
    both.write(both.crm, "UPDATE items SET n = n + 100 WHERE item < 10")
    both.drop(2, range(10, 18), 9)
    both.arrived("visits", both.crm)
    both.until(lambda: len(both.rows(both.target, "SELECT item FROM prices WHERE price = 9")) == 8)
    both.until(lambda: len(both.rows(both.target, "SELECT item FROM priced WHERE price = 9")) == 8)
    both.stop()
    both.start()
    both.write(both.crm, "DELETE FROM items WHERE item > 15")
    both.arrived("visits", both.crm)
    assert both.status()["failed_sources"] == {}
    both.erp.start()
    both.write(both.admin, "UPDATE items SET item = item + 1000 WHERE item % 3 = 0")
    both.arrived("items", both.admin)
    both.stop()
    assert _verified(both)


def test_a_source_that_fails_is_told_and_tried_again_at_the_next_start(both: Both) -> None:
    """Refused at the start it is named; a right taken away later stops its tables alone; given back, all goes on."""
    both.write(both.admin, f"CREATE ROLE {both.role} LOGIN")  # it may not stream
    both.start()
    assert both.running is not None and both.running.wait(30) == 78
    assert "partition=erp." in both.log.read_text().splitlines()[-1]
    both.grant()
    both.start()
    both.arrived("items", both.admin)
    both.arrived("visits", both.crm)
    both.write(both.admin, f"ALTER ROLE {both.role} NOSUPERUSER NOREPLICATION")
    both.write(both.admin, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{both.role}'")
    both.until(lambda: both.status()["failed_sources"] != {})
    assert list(both.status()["failed_sources"]) == ["erp"]
    both.until(lambda: both.status()["totals"]["failed_sources"] == ["erp"])
    both.write(both.admin, "UPDATE items SET n = -n")
    both.write(both.crm, "UPDATE items SET n = n * 2")
    both.arrived("visits", both.crm)
    both.stop()
    both.grant()
    both.start()
    both.arrived("items", both.admin)
    assert both.status()["failed_sources"] == {}
    both.stop()
    assert _verified(both)


def _verified(both: Both) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        for name, dsn in (("BOTH_ERP", both.dsn), ("BOTH_CRM", both.crm), ("BOTH_TARGET", both.target)):
            patch.setenv(name, dsn)
        report = json.loads(CliRunner().invoke(app, ["verify", str(both.file), "--json"]).stdout)
    assert {table["target"] for table in report["tables"]} == {
        "public.items",
        "public.visits",
        "public.prices",
        "public.priced",
    }
    return bool(report["equal"])
