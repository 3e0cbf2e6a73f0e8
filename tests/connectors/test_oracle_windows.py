"""Windows that close over a table of an Oracle database: its one partition tells how far the time has come."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows import build, reading
from tests.connectors.oracle_parts import LOGIN
from tests.connectors.window_parts import closed, has_read, hourly, run_until
from tests.doubles.oracle.database import OracleDatabase
from tests.doubles.oracle.install import environment, install

BY = "CUSTOMER"
PIPELINE = f"""name = "hourly"
[source.oracle]
{LOGIN}default_schema = "ERP"
poll_s = 0.02
settle_s = 0
[tables.orders]
topic = "ORDERS"
{hourly("orders", BY, "AT")}"""
COLUMNS = [("ID", "NUMBER(10)"), ("CUSTOMER", "VARCHAR2(20)"), ("AT", "TIMESTAMP(6)")]


def order(number: int, at: str, customer: str) -> dict[str, object]:
    """A row."""
    return {"ID": number, "CUSTOMER": customer, "AT": f"2026-03-02 {at}:00"}


def test_windows_close(postgres: str, tmp_path: Path) -> None:
    """Rows of the snapshot close nothing, changes do; an open window stays open over a kill."""
    database = OracleDatabase(tmp_path / "oracle.db", threads=2)
    database.create_table("ERP.ORDERS", COLUMNS, ["ID"])
    database.write("ERP.ORDERS", [order(0, "12:00", "later")])
    file = tmp_path / "hourly.toml"
    file.write_text(PIPELINE, "utf-8")
    rows = [order(1, "08:10", "a"), order(2, "08:50", "a"), order(3, "09:10", "b"), order(4, "10:05", "a")]

    def written_behind_the_snapshot() -> bool:
        if rows and has_read(tmp_path):
            database.write("ERP.ORDERS", rows)
            rows.clear()
        return not rows

    given = environment(tmp_path / "oracle.db")
    run_until(file, postgres, lambda: written_behind_the_snapshot() and len(closed(postgres, BY)) == 2, **given)
    assert closed(postgres, BY) == [("a", "08:00:00", 2), ("b", "09:00:00", 1)]
    database.write("ERP.ORDERS", [order(5, "10:40", "a"), order(6, "11:00", "a")])
    run_until(file, postgres, lambda: len(closed(postgres, BY)) == 3, **given)
    assert closed(postgres, BY) == [("a", "08:00:00", 2), ("a", "10:00:00", 2), ("b", "09:00:00", 1)]
    database.close()


@pytest.mark.parametrize("mode", ["logminer", "logminer_committed", "trigger_log", "timestamp"])
def test_a_table_is_of_the_one_partition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """In each mode the partition that a table says to come from is the one that the source has."""
    install(monkeypatch, tmp_path / "oracle.db")
    OracleDatabase(tmp_path / "oracle.db").create_table("ERP.ORDERS", COLUMNS, ["ID"])
    file = tmp_path / "hourly.toml"
    file.write_text(PIPELINE.replace("settle_s = 0\n", f'settle_s = 0\nmode = "{mode}"\n'), "utf-8")
    pipeline = build.load(str(file))
    bindings = reading.bind(pipeline, str(file))
    source = reading.make_source(pipeline, bindings, until_end=True, path=str(file), directory=tmp_path / "state")
    assert source.list_parts() == [binding.partition for binding in bindings] == ["oracle"]
