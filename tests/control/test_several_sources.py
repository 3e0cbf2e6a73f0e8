"""Several sources in one pipeline, real parts: one that fails does not stop the others, and nothing is lost by it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from control.embedded import EmbeddedPostgres
from tests.control.several_parts import Running

_TARGETS = {"public.items", "public.visits", "public.prices", "public.priced"}
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


class Both(Running):
    """Three sources; `erp` is on a server that may be killed, under a role that may lose its rights."""

    def __init__(self, folder: Path, erp: EmbeddedPostgres, crm: str, target: str) -> None:
        self.folder, self.erp, self.crm = folder, erp, crm
        (folder / "drop").mkdir()
        self.admin = erp.create_database(folder.name[:20].rstrip("0123456789_"))
        self.role = f"reader_{self.admin.rpartition('/')[2]}"
        dsn = self.admin.replace("postgres@", f"{self.role}@")
        super().__init__(folder, _FILE, target, {"BOTH_ERP": dsn, "BOTH_CRM": crm, "BOTH_TARGET": target})
        for database in (self.admin, crm):
            self.write(database, "CREATE TABLE items (item int PRIMARY KEY, n int)")
            self.write(database, "INSERT INTO items SELECT g, g FROM generate_series(1, 20) g")
        self.drop(1, range(1, 15), 7)

    def grant(self) -> None:
        """Give the role that the pipeline logs in as what it needs."""
        self.write(self.admin, f"ALTER ROLE {self.role} REPLICATION SUPERUSER")

    def drop(self, number: int, items: range, price: int) -> None:
        """A new file of prices."""
        part = self.folder / "drop" / "part.tmp"
        part.write_text("item,price\n" + "".join(f"{item},{price}\n" for item in items), "utf-8")
        part.rename(self.folder / "drop" / f"prices-{number}.csv")


@pytest.fixture
def both(tmp_path: Path, erp: EmbeddedPostgres, postgres_server: EmbeddedPostgres) -> Iterator[Both]:
    """The pipeline, not started; killed at the end."""
    names = [f"{name}_{os.getpid()}_{tmp_path.name[14:24]}" for name in ("crm", "target")]
    with Both(tmp_path, erp, *(postgres_server.create_database(name) for name in names)) as made:
        yield made
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
    assert both.verified() == _TARGETS


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
    assert both.verified() == _TARGETS
