"""Fields as SAP's dictionary has them, and those tables of SAP's own that the fake brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from decimal import Decimal
from typing import Any

LETTERS = {
    "CHAR": "C", "CLNT": "C", "LANG": "C", "CUKY": "C", "UNIT": "C", "NUMC": "N", "DATS": "D", "TIMS": "T", "DEC": "P",
    "CURR": "P", "QUAN": "P", "FLTP": "F", "RAW": "X", "INT1": "b", "INT2": "s", "INT4": "I", "INT8": "8", "STRG": "g",
}  # fmt: skip
"""DATATYPE -> the letter of INTTYPE."""
NUMBERS = ("DEC", "CURR", "QUAN", "INT1", "INT2", "INT4", "INT8")


@dataclass(frozen=True)
class Field:
    """One field."""

    name: str
    datatype: str
    length: int
    decimals: int = 0
    key: bool = False
    reference_table: str = ""
    reference_field: str = ""
    conversion: str = ""

    def as_list(self) -> list[Any]:
        """For JSON."""
        return list(astuple(self))

    @property
    def affinity(self) -> str:
        """SQLite's."""
        return "REAL" if self.datatype == "FLTP" else "INTEGER" if self.datatype.startswith("INT") else "TEXT"

    def internal(self, value: Any) -> Any:
        """A value as ABAP keeps it; None is the initial one."""
        if self.datatype.startswith("INT"):
            return int(value or 0)
        if self.datatype == "FLTP":
            return float(value or 0)
        if self.datatype in NUMBERS:
            return str(value) if isinstance(value, str) else f"{Decimal(value or 0):.{self.decimals}f}"
        if self.datatype == "NUMC":
            return str(value or 0).rjust(self.length, "0")
        if self.datatype in ("DATS", "TIMS"):
            return str(value or "0" * self.length)
        text = "" if value is None else str(value)
        if self.datatype == "RAW":  # its length counts bytes
            return text[: 2 * self.length]
        return (text if self.datatype == "STRG" else text[: self.length]).rstrip(" ")

    def rendered(self, value: Any, *, text: bool = False) -> str:
        """A value in a row of RFC_READ_TABLE, as long as the field: of a RAW half the digits, but in rows of text."""
        if self.datatype == "RAW":
            return str(value) if text else str(value)[: self.length].ljust(self.length)
        if self.datatype in NUMBERS:
            digits = str(value)
            digits = f"{digits[1:]}-" if digits.startswith("-") else digits
            # a packed number that does not fit loses its front, and an asterisk says so
            return digits.rjust(self.length) if len(digits) <= self.length else "*" + digits[-(self.length - 1) :]
        if self.datatype == "FLTP":
            return f"{value:22.16E}".rjust(self.length)
        # a character of ABAP is half of one that UTF-16 writes as two
        return str(value) + " " * (self.length - len(str(value).encode("utf-16-le")) // 2)

    def dfies(self, position: int) -> dict[str, Any]:
        """A row of DFIES."""
        return {
            "FIELDNAME": self.name, "POSITION": f"{position:04d}", "KEYFLAG": "X" if self.key else "",
            "DATATYPE": self.datatype, "LENG": f"{self.length:06d}", "DECIMALS": f"{self.decimals:06d}",
            "INTTYPE": LETTERS.get(self.datatype, "C"), "REFTABLE": self.reference_table,
            "REFFIELD": self.reference_field, "CONVEXIT": self.conversion, "ROLLNAME": "", "DOMNAME": "",
        }  # fmt: skip


CLIENT = Field("MANDT", "CLNT", 3, key=True)
CURRENCIES = {"JPY": 0, "KRW": 0, "HUF": 0, "BHD": 3, "KWD": 3, "TND": 3, "USDN": 5}
REMOTE = ("RFC_READ_TABLE", "CHANGE_POINTERS_READ", "CHANGE_POINTERS_STATUS_WRITE", "BAPI_TRANSACTION_COMMIT")
"""Functions that can be called from outside. Whether SAP's own for change pointers can is a matter of the release."""
TABLES: Mapping[str, tuple[Field, ...]] = {
    "DD02L": (Field("TABNAME", "CHAR", 30, key=True), Field("AS4LOCAL", "CHAR", 1, key=True),
              Field("TABCLASS", "CHAR", 8)),
    "DD03L": (Field("TABNAME", "CHAR", 30, key=True), Field("FIELDNAME", "CHAR", 30, key=True),
              Field("AS4LOCAL", "CHAR", 1, key=True), Field("POSITION", "NUMC", 4, key=True),
              Field("KEYFLAG", "CHAR", 1), Field("DATATYPE", "CHAR", 4), Field("LENG", "NUMC", 6),
              Field("DECIMALS", "NUMC", 6), Field("REFTABLE", "CHAR", 30), Field("REFFIELD", "CHAR", 30)),
    "TCDOB": (Field("OBJECT", "CHAR", 15, key=True), Field("TABNAME", "CHAR", 30, key=True)),
    "T000": (CLIENT, Field("MTEXT", "CHAR", 25)),
    "TCURX": (Field("CURRKEY", "CUKY", 5, key=True), Field("CURRDEC", "INT1", 3)),
    "TFDIR": (Field("FUNCNAME", "CHAR", 30, key=True), Field("FMODE", "CHAR", 1)),
    "CDHDR": (Field("MANDANT", "CLNT", 3, key=True), Field("OBJECTCLAS", "CHAR", 15, key=True),
              Field("OBJECTID", "CHAR", 90, key=True), Field("CHANGENR", "CHAR", 10, key=True),
              Field("UDATE", "DATS", 8), Field("UTIME", "TIMS", 6), Field("CHANGE_IND", "CHAR", 1)),
    "CDPOS": (Field("MANDANT", "CLNT", 3, key=True), Field("OBJECTCLAS", "CHAR", 15, key=True),
              Field("OBJECTID", "CHAR", 90, key=True), Field("CHANGENR", "CHAR", 10, key=True),
              Field("TABNAME", "CHAR", 30, key=True), Field("TABKEY", "CHAR", 70, key=True),
              Field("FNAME", "CHAR", 30, key=True), Field("CHNGIND", "CHAR", 1, key=True)),
    "BDCP2": (CLIENT, Field("MESTYPE", "CHAR", 30, key=True), Field("CPIDENT", "CHAR", 10, key=True),
              Field("PROCESS", "CHAR", 1), Field("TABNAME", "CHAR", 30), Field("TABKEY", "CHAR", 254),
              Field("FLDNAME", "CHAR", 30), Field("CDCHGID", "CHAR", 1)),
    "TBDA2": (CLIENT, Field("MESTYP", "CHAR", 30, key=True), Field("ACTIVE", "CHAR", 1)),
}  # fmt: skip
