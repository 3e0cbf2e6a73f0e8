"""What the tests of the Oracle source share: a database of the double, its pipeline file, rows as LogMiner tells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.oracle import sql
from connectors.oracle.catalog import OracleTable, WantedTable
from connectors.oracle.types import OracleColumn
from tests.connectors.contract_source import Followed
from tests.doubles.oracle.database import OracleDatabase
from tests.doubles.oracle.install import install

LOGIN = "".join(f'{name} = "env:ORACLE_{name.upper()}"\n' for name in ("dsn", "user", "password"))
ITEMS = [("ID", "NUMBER(10)"), ("NAME", "VARCHAR2(4000)"), ("AT", "TIMESTAMP(6)")]


def opened(
    directory: Path, monkeypatch: pytest.MonkeyPatch, columns: Sequence[tuple[str, str]] = ITEMS
) -> OracleDatabase:
    """A database with an empty table ERP.ITEMS by ID, in the driver's place for the rest of the test."""
    install(monkeypatch, directory / "oracle.db")
    database = OracleDatabase(directory / "oracle.db")
    database.create_table("ERP.ITEMS", columns, ["ID"])
    return database


def pipeline(directory: Path, settings: str = "", table: str = "") -> Path:
    """A pipeline file over ITEMS; `settings` of the source, `table` of [tables.ITEMS]."""
    file = directory / "ora.toml"
    file.write_text(
        f'name = "ora"\n[source.oracle]\n{LOGIN}default_schema = "ERP"\npoll_s = 0.02\nsettle_s = 0\n{settings}'
        f"[sink.null]\n[tables.ITEMS]\n{table}",
        "utf-8",
    )
    return file


def column(name: str, data_type: str, precision: int | None = None, scale: int | None = None) -> OracleColumn:
    """A column as the dictionary tells it."""
    return OracleColumn(name, data_type, precision, scale, 22, name != "ID", 1)


def wanted(*columns: OracleColumn) -> WantedTable:
    """The table ERP.T by ID, as it is."""
    found = OracleTable("T", "ERP", "T", columns, (), ("ID",), 7)
    return WantedTable(found.described().table, found)


def mined(rows: Sequence[dict[str, Any]]) -> pa.RecordBatch:
    """Rows of V$LOGMNR_CONTENTS; what a row does not say is 0 or NULL."""
    zero = {"SCN": 0, "CSF": 0, "ROLLBACK": 0, "STATUS": 0, "THREAD#": 1}
    columns = [pa.array([(zero | row).get(field.name) for row in rows], field.type) for field in sql.CONTENTS_SCHEMA]
    return pa.RecordBatch.from_arrays(columns, schema=sql.CONTENTS_SCHEMA)


def names(followed: Followed) -> dict[int, Any]:
    """The second column by key, of what a target holds."""
    return {key: row[1] for key, row in followed.rows("ITEMS").items()}


def truth(database: OracleDatabase) -> dict[Any, Any]:
    """The same of the database."""
    return {row["ID"]: row["NAME"] for row in database.truth("ERP.ITEMS")}


def write(
    database: OracleDatabase, first: int, count: int, name: str, deleted: tuple[tuple[object, ...], ...] = ()
) -> None:
    """Rows, and deletes, in one transaction."""
    database.write("ERP.ITEMS", [{"ID": first + number, "NAME": name} for number in range(count)], deleted)
