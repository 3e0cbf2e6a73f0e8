"""What the tests of tables that are read again share: each system that can be asked, over its double, and a target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from connectors.base import requests
from libcore.change import POSITION, ChangeBatch
from tests.connectors.contract_source import Followed, Rows, SourceSystem
from tests.connectors.sap_rfc_parts import NARROW, PASSWORD, Items
from tests.connectors.sqlserver_parts import WAYS, SqlServerSystem
from tests.connectors.test_contract_oracle import MODES, OracleSystem
from tests.connectors.test_contract_sqlite import SqliteFile
from tests.doubles.oracle.install import install
from tests.doubles.sap_rfc import SHIM
from tests.doubles.sap_rfc.standard import Field
from tests.doubles.sap_rfc.system import System

SAP = {"documents": {}, "narrow": NARROW, "shuffled": NARROW | {"shuffled": True}}
PLACES = [("sqlserver", way) for way in WAYS] + [("oracle", mode) for mode in MODES]
PLACES += [("sap_rfc", "documents"), ("sap_rfc", "narrow"), ("sqlite", "triggers")]
CONDITIONS = {
    "sqlserver": ("dbo.items", "id < 120 OR id = 150"),
    "oracle": ("items", '"id" < 120 OR "id" = 150'),
    "sap_rfc": ("items", "id < '0000000120' or id = '0000000150'"),
    "sqlite": ("items", "id < 120 OR id = 150 -- and no more"),
}
"""What to ask for: the table's name, and a condition of 121 rows."""
REFUSALS = {"sqlserver": "no_column", "oracle": "NO_COLUMN", "sap_rfc": "NO_COLUMN", "sqlite": "no_column"}


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """Which system."""
    return str(request.param[0])


@pytest.fixture
def system(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SourceSystem]:
    """An empty table, followed in one way."""
    monkeypatch.setattr(requests, "_LOOK_S", 0.02)
    name, way = request.param
    if name == "sqlserver":
        made = SqlServerSystem(request.getfixturevalue("sqlserver"), tmp_path, *way)
        monkeypatch.setenv("ERP_DSN", made.dsn)
        yield made
        made.close()
    elif name == "oracle":
        install(monkeypatch, tmp_path / "oracle.db")
        yield OracleSystem(tmp_path, way)
    elif name == "sqlite":
        yield SqliteFile(tmp_path)
    else:
        yield sap_items(tmp_path, monkeypatch, **SAP[way])


def sap_items(directory: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> Items:
    """An empty table of an SAP system that this process may log on to."""
    monkeypatch.syspath_prepend(str(SHIM))
    monkeypatch.setenv(PASSWORD, "secret")
    return Items(directory, Field("name", "CHAR", 300), **settings)


def silently(system: Items, rows: Rows) -> None:
    """Upserts that no change document tells of."""
    with closing(System(system.path)) as silent:
        made = [{"id": key, "name": name, "price": price} for key, name, price in rows.values()]
        silent.write({"items": made}, documents=False)


def ways(places: list[tuple[str, Any]]) -> pytest.MarkDecorator:
    """A test over these systems."""
    names = [f"{name}-{way if isinstance(way, str) else '-'.join(way)}" for name, way in places]
    return pytest.mark.parametrize(("system", "kind"), [(one, one) for one in places], ids=names, indirect=True)


class Marked(Followed):
    """A target with a watermark a row: what stands before the newest change of its key is passed over."""

    def __init__(self, file: Path, directory: Path) -> None:
        self._marks: dict[Any, bytes] = {}
        super().__init__(file, directory)

    @property
    def durable(self) -> dict[str, Any]:
        """The states in the recovery store."""
        return self._states

    def _apply(self, item: Any) -> None:
        if isinstance(item, ChangeBatch) and item.table.key:
            keys = zip(*(item.record.columns[index].to_pylist() for index in item.table.key_indexes), strict=True)
            kept = []
            for key, position in zip(keys, item.record.column(POSITION).to_pylist(), strict=True):
                kept.append(position >= self._marks.get(key, b""))
                self._marks[key] = max(position, self._marks.get(key, b""))
            item = ChangeBatch(item.table, item.record.filter(pa.array(kept)))
        super()._apply(item)
