"""flows/pipelines/erp as they stand, each read from a double of its system by its own connector."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pytest

from flows import spec
from flows.spec import TableSpec
from flows.testing import run_flow
from tests.connectors.sap_rfc_parts import ENVIRONMENT, PASSWORD
from tests.doubles.oracle.database import OracleDatabase
from tests.doubles.oracle.install import install
from tests.doubles.sap_rfc.standard import CLIENT, Field
from tests.doubles.sap_rfc.system import System
from tests.flows.canonical import Business, Rows
from tests.flows.erp_flows import PIPELINES
from tests.flows.test_canonical import canonical

Row = dict[str, Any]
Key = tuple[Any, ...]


class Erp(Protocol):
    """A system with the tables of a pipeline file."""

    def write(self, table: str, rows: Sequence[Row], deleted: Sequence[Row]) -> None:
        """Upserts and deletes in one of them."""


def kinds(settings: TableSpec) -> dict[str, str]:
    """Column -> type, as the file declares them."""
    return {name: str(kind) for name, kind in (settings.columns or {}).items()}


class Ebs:
    """On the double of Oracle: identifiers and quantities are NUMBERs there, dates have a time."""

    TYPES: Mapping[str, str] = {
        "string": "VARCHAR2(60)", "int64": "NUMBER(15)", "timestamp": "DATE", "decimal(15,3)": "NUMBER",
        "decimal(18,5)": "NUMBER",
    }  # fmt: skip

    def __init__(self, database: OracleDatabase, tables: Mapping[str, TableSpec]) -> None:
        self._database, self._tables = database, tables
        self._numbers = {
            (table, name) for table, one in tables.items() for name in one.columns or () if name.endswith("_ID")
        }
        for table, settings in tables.items():
            columns = [
                (name, "NUMBER(15)" if (table, name) in self._numbers else self.TYPES[kind])
                for name, kind in kinds(settings).items()
            ]
            database.create_table(str(settings.topic), columns, settings.key or ())

    def write(self, table: str, rows: Sequence[Row], deleted: Sequence[Row]) -> None:
        """See Erp."""
        settings = self._tables[table]
        made = [self._stored(table, row) for row in rows]
        gone = [key_of(settings, self._stored(table, row)) for row in deleted]
        self._database.write(str(settings.topic), made, gone)

    def _stored(self, table: str, row: Row) -> Row:
        numbers = {name for name in row if (table, name) in self._numbers and row[name] is not None}
        return {name: int(value) if name in numbers else value for name, value in row.items()}


class Sap:
    """On the fake of pyrfc, every table but EKBE with change documents."""

    LENGTHS: Mapping[str, int] = {
        "KUNNR": 10, "VBELN": 10, "POSNR": 6, "EBELN": 10, "EBELP": 5, "ZEKKN": 2, "VGABE": 1, "GJAHR": 4, "BELNR": 10,
        "BUZEI": 4,
    }  # fmt: skip

    def __init__(self, system: System, tables: Mapping[str, TableSpec]) -> None:
        self._system, self._tables = system, tables
        for settings in tables.values():
            fields = [self._field(settings, name, kind) for name, kind in kinds(settings).items()]
            beside = {"VBAP": [Field("WAERK", "CUKY", 5)], "EKBE": [Field("CPUDT", "DATS", 8)]}
            documents = "" if settings.topic == "EKBE" else f"Z_{settings.topic}"
            system.add_table(str(settings.topic), [*fields, *beside.get(str(settings.topic), [])], documents)

    def write(self, table: str, rows: Sequence[Row], deleted: Sequence[Row]) -> None:
        """See Erp."""
        name = str(self._tables[table].topic)
        beside = {"VBAP": {"WAERK": "EUR"}, "EKBE": {"CPUDT": self._system.clock.date()}}
        more: Row = beside.get(name, {})
        self._system.write({name: [self._stored(row | more) for row in rows]}, {name: list(deleted)})

    @classmethod
    def _field(cls, settings: TableSpec, name: str, kind: str) -> Field:
        table, key = str(settings.topic), name in (settings.key or ())
        if name == "MANDT":
            return CLIENT
        if name == "NETWR":
            return Field(name, "CURR", 15, 2, reference_table="VBAP" if table == "VBAP" else "EKKO",
                         reference_field="WAERK" if table == "VBAP" else "WAERS")  # fmt: skip
        if kind.startswith("decimal"):
            return Field(name, "QUAN", 15, 3)
        if name in ("WAERK", "WAERS"):
            return Field(name, "CUKY", 5)
        return Field(name, "DATS", 8) if kind == "date" else Field(name, "CHAR", cls.LENGTHS.get(name, 40), key=key)

    @staticmethod
    def _stored(row: Row) -> Row:
        return {name: f"{value:%Y%m%d}" if isinstance(value, date) else value for name, value in row.items()}


def key_of(settings: TableSpec, row: Row) -> Key:
    return tuple(row[name] for name in settings.key or ())


def tell(erp: Erp, tables: Mapping[str, TableSpec], before: Rows, after: Rows) -> None:
    """Write what differs; tables whose rows name others come in any order."""
    for table, settings in tables.items():
        had, has = ({key_of(settings, row): row for name, row in rows if name == table} for rows in (before, after))
        changed = [row for key, row in has.items() if had.get(key) != row]
        erp.write(table, changed, [row for key, row in had.items() if key not in has])


def follow(system: str, directory: Path, erp: Erp, told: Any, dsn: str, **settings: Any) -> int:
    """Run the pipeline file as it is before and after a day of changes, and compare; how many rows there are."""
    file = PIPELINES / "erp" / f"{system}.toml"
    tables = spec.load(file).tables
    more = "".join(f", {name}={value!r}" for name, value in settings.items())
    business = Business.drawn(Random(11))
    later = business.changed(Random(12))
    environment = {**os.environ, "WAREHOUSE_DSN": dsn}
    before: Rows = []
    for one in (business, later):
        tell(erp, tables, before, told(one))
        before = told(one)
        codes = run_flow(f"flows.build:flow({str(file)!r}, until_end=True{more})", directory, environment=environment)
        assert codes == [0], (directory / "process-0.log").read_text()[-4000:]
        found = canonical(dsn)
        assert found == one.truth()
    return sum(map(len, found.values()))


def test_ebs_by_logminer(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """oracle_ebs.toml over the double of LogMiner gives the business's tables."""
    tables = spec.load(PIPELINES / "erp" / "oracle_ebs.toml").tables
    install(monkeypatch, tmp_path / "ebs.db")
    for name in ("DSN", "USER", "PASSWORD"):
        monkeypatch.setenv(f"EBS_{name}", os.environ[f"ORACLE_{name}"])
    erp = Ebs(OracleDatabase(tmp_path / "ebs.db"), tables)
    pace = {"source__oracle__poll_s": 0.05, "source__oracle__settle_s": 0.0}
    assert follow("oracle_ebs", tmp_path, erp, Business.oracle_ebs, postgres, **pace) > 150


def test_sap_by_rfc(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sap.toml over the fake of pyrfc gives the business's tables."""
    tables = spec.load(PIPELINES / "erp" / "sap.toml").tables
    for name, value in {**ENVIRONMENT, "SAP_USER": "HEADRACE", "SAP_PASSWORD": ENVIRONMENT[PASSWORD]}.items():
        monkeypatch.setenv(name, value)
    erp = Sap(System.create(tmp_path / "sap.db"), tables)
    pace = {"source__sap_rfc__poll_s": 0.05, "source__sap_rfc__compare_seconds": 0.05}
    path = {"source__sap_rfc__ashost": str(tmp_path / "sap.db")}
    assert follow("sap", tmp_path, erp, Business.sap, postgres, **pace, **path) > 150
