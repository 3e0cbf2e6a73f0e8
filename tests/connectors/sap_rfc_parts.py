"""The fake SAP system as tests use it: the contract's tables in it, and pipeline files over it."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.connectors.contract_source import IDLE, TABLE, Followed, Rows
from tests.doubles.sap_rfc import SHIM
from tests.doubles.sap_rfc.standard import CLIENT, Field
from tests.doubles.sap_rfc.system import System
from tests.habits import code

PASSWORD = "HEADRACE_TEST_SAP_PASSWORD"
ENVIRONMENT = {PASSWORD: "secret", "PYTHONPATH": f"{SHIM}:{code.ROOT}"}
NARROW = {"et_data": False, "get_sorted": False, "wide": False}
"""A release whose only function has rows of 512 characters, in no order."""
READERS: dict[str, dict[str, Any]] = {
    "narrow": NARROW, "wide": NARROW | {"wide": True, "shuffled": True}, "texts": {"get_sorted": False}, "new": {},
}  # fmt: skip
"""Releases by what their best function does: rows of 512, of 30,000 characters in any order, texts, texts by key."""
_COLUMNS = 'key = ["id"]\ncolumns = {{ id = "int64", name = "string", price = "decimal(18,4)"{} }}\n'


def section(path: Path, **settings: Any) -> str:
    """The source's section of a pipeline file; values as TOML writes them."""
    text = f'[source.sap_rfc]\nashost = "{path}"\nclient = "100"\nuser = "HEADRACE"\npasswd = "env:{PASSWORD}"\n'
    return text + "".join(f"{name} = {value}\n" for name, value in ({"poll_s": 0.02} | settings).items())


class Items:
    """The contract's tables in an SAP system; a row holds what ABAP makes of it: NULL is initial, no blanks behind.

    Args:
        directory: for its file and the pipeline file.
        name: the field `name`. more: settings of the source. system: settings of the system.
    """

    def __init__(self, directory: Path, name: Field, *, more: dict[str, Any] | None = None, **system: Any) -> None:
        self._directory, self._more = directory, more or {}
        self._columns = _COLUMNS.format(', filler = "string"' if name.datatype == "CHAR" else "")
        self.path = directory / "sap.db"
        with closing(System.create(self.path, **system)) as made:
            for table in (TABLE, IDLE):
                fields = [CLIENT, Field("id", "NUMC", 10, key=True), name, Field("price", "DEC", 18, 4)]
                filler = [Field("filler", "CHAR", 250)] if name.datatype == "CHAR" else []
                made.add_table(table, [*fields, *filler], object_class=f"Z_{table.upper()}")

    def pipeline(self, sink: str = "[sink.null]\n", **settings: Any) -> Path:
        """See SourceSystem."""
        text = 'name = "sap"\n' + section(self.path, initial_null="true", **self._more | settings)
        text += "".join(f'[tables.{name}]\ntopic = "{name}"\n{self._columns}' for name in (TABLE, IDLE)) + sink
        file = self._directory / "sap.toml"
        file.write_text(text, "utf-8")
        return file

    def write(self, rows: Rows, deleted: tuple[int, ...] = ()) -> None:
        """See SourceSystem."""
        with closing(System(self.path)) as system:
            made = [{"id": key, "name": name, "price": price} for key, name, price in rows.values()]
            system.write({TABLE: made}, {TABLE: [{"id": key} for key in deleted]})

    def rows(self) -> Rows:
        """See SourceSystem."""
        with closing(System(self.path)) as system:
            found = system.select(f'SELECT "id", "name", "price" FROM "t {TABLE}"')
        return {int(key): (int(key), name or None, Decimal(price) or None) for key, name, price in found}


VBAK = (
    CLIENT, Field("VBELN", "CHAR", 10, key=True, conversion="ALPHA"), Field("ERDAT", "DATS", 8),
    Field("ERZET", "TIMS", 6), Field("AEDAT", "DATS", 8), Field("AUART", "CHAR", 4), Field("WAERK", "CUKY", 5),
    Field("NETWR", "CURR", 15, 2, reference_table="VBAK", reference_field="WAERK"), Field("GUID", "RAW", 16),
)  # fmt: skip
VBAP = (
    CLIENT, Field("VBELN", "CHAR", 10, key=True, conversion="ALPHA"), Field("POSNR", "NUMC", 6, key=True),
    Field("ARKTX", "CHAR", 40), Field("KWMENG", "QUAN", 15, 3, reference_table="VBAP", reference_field="VRKME"),
    Field("VRKME", "UNIT", 3), Field("NETPR", "CURR", 11, 2, reference_table="VBAK", reference_field="WAERK"),
)  # fmt: skip
KEYED = [CLIENT, Field("A", "CHAR", 60, key=True), Field("B", "INT4", 10, key=True), Field("C", "NUMC", 4, key=True),
         Field("V", "CHAR", 10)]  # fmt: skip
HALVES = [CLIENT, Field("ID", "CHAR", 4, key=True), Field("LEFT", "CHAR", 300), Field("RIGHT", "CHAR", 300),
          Field("VERSION", "NUMC", 6)]  # fmt: skip


class Sales:
    """Sales orders and their items, as SAP has them.

    Args:
        directory: for the files. system: settings of the system.
    """

    def __init__(self, directory: Path, **system: Any) -> None:
        self._directory, self.path = directory, directory / "sap.db"
        self.system = System.create(self.path, **system)
        self.system.add_table("VBAK", VBAK, object_class="VERKBELEG")
        self.system.add_table("VBAP", VBAP, object_class="VERKBELEG")

    def order(self, number: int, **values: Any) -> None:
        """A sales order, written with its change document."""
        row = {"VBELN": f"{number:010d}", "ERDAT": "20240229", "AUART": "TA", "WAERK": "EUR"} | values
        self.system.write({"VBAK": [row]})

    def pipeline(self, *tables: str, extra: str = "", sink: str = "[sink.null]\n", **settings: Any) -> Path:
        """A pipeline file over some tables; `extra`: settings of each of them."""
        file = self._directory / "sales.toml"
        head = "" if extra else f"tables = {list(tables)}\n"
        text = f'name = "sales"\n{head}' + section(self.path, **settings)
        text += "".join(f'[tables.{name}]\ntopic = "{name}"\n{extra}' for name in tables if extra) + sink
        file.write_text(text, "utf-8")
        return file


def drained(file: Path, directory: Path) -> Followed:
    """A pipeline's source, read to its end."""
    followed = Followed(file, directory, until_end=True)
    followed.drained()
    return followed


def named(followed: Followed, table: str) -> list[dict[str, Any]]:
    """The rows of a table in the order of its key, by column."""
    names = followed.columns.get(table, [])
    rows = followed.tables.get(table, {})
    return [dict(zip(names, rows[key], strict=True)) for key in sorted(rows)]
