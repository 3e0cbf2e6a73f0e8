"""SQL Server's data types: their declarations, and the one form in which the double keeps a value of each.

A value is kept as SQLite can hold and order it: integers and floats as they are, binary as bytes, everything else as
text: decimals with all digits of their scale, dates and times with seven digits of the second whatever the declared
scale is, GUIDs in capitals. A collation of each column makes them compare as in SQL Server.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache

from sqlglot import exp

INTEGERS = {"bit": 1, "tinyint": 1, "smallint": 2, "int": 4, "bigint": 8}
DECIMALS = {"decimal", "numeric", "money", "smallmoney"}
FLOATS = {"real", "float"}
TEXTS = {"char", "varchar", "nchar", "nvarchar", "text", "ntext", "xml"}
WIDE = {"nchar", "nvarchar", "ntext", "xml"}
OF_CLR = {"hierarchyid": ("SqlHierarchyId", 892), "geometry": ("SqlGeometry", -1), "geography": ("SqlGeography", -1)}
BINARIES = {"binary", "varbinary", "image", "rowversion", "sql_variant", *OF_CLR}
CHUNKED = {"xml", *OF_CLR}
TIMES = {"date", "time", "datetime", "smalldatetime", "datetime2", "datetimeoffset"}
SCALED_TIMES = {"time", "datetime2", "datetimeoffset"}
LARGE = {"text", "ntext", "image", "xml", "geometry", "geography"}
_FIXED = {"money": (19, 4), "smallmoney": (10, 4)}
_NAMES = {
    "integer": "int", "dec": "decimal", "sysname": "nvarchar(128)", "timestamp": "rowversion", "double": "real",
    "uuid": "uniqueidentifier", "variant": "sql_variant", "utinyint": "tinyint",
    "timestamptz": "datetimeoffset", "longtext": "ntext",
}  # fmt: skip


@dataclass(frozen=True)
class SqlType:
    """A declared type: length in characters or bytes (-1: MAX), precision and scale where the type has them."""

    name: str
    length: int = 0
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        if self.name in ("decimal", "numeric"):
            return f"{self.name}({self.precision},{self.scale})"
        if self.name in SCALED_TIMES:
            return f"{self.name}({self.scale})"
        if self.length and self.name not in LARGE:
            return f"{self.name}({'max' if self.length < 0 else self.length})"
        return self.name

    @property
    def large(self) -> bool:
        """Whether values live outside of the row: change tables leave them out where an update did not touch them."""
        return self.length < 0 or self.name in LARGE

    @property
    def family(self) -> str:
        """What values are kept and compared as: int, float, decimal, text, time or binary; guid."""
        for family, names in _FAMILIES.items():
            if self.name in names:
                return family
        return "guid"

    @property
    def column(self) -> str:
        """The type and collation of a SQLite column that holds such values."""
        return _COLUMNS[self.family]

    @property
    def bytes(self) -> int:
        """sys.columns.max_length."""
        if self.length < 0 or self.name in ("xml", "geometry", "geography"):
            return -1
        if self.name in ("nchar", "nvarchar"):
            return 2 * self.length
        if self.name in ("decimal", "numeric"):
            return decimal_bytes(self.precision)
        return self.length or _SIZES.get(self.name, 8)


_FAMILIES = {"int": INTEGERS, "float": FLOATS, "decimal": DECIMALS, "text": TEXTS, "time": TIMES, "binary": BINARIES}
_COLUMNS = {
    "int": "INTEGER", "float": "REAL", "decimal": "TEXT COLLATE number", "text": "TEXT COLLATE words",
    "time": "TEXT COLLATE moment", "binary": "BLOB", "guid": "TEXT COLLATE guid",
}  # fmt: skip
_SIZES = INTEGERS | {
    "real": 4, "date": 3, "time": 5, "smalldatetime": 4, "datetimeoffset": 10, "uniqueidentifier": 16,
    "smallmoney": 4, "sql_variant": 8016, "text": 16, "ntext": 16, "image": 16, "hierarchyid": 892, "geometry": -1,
    "geography": -1,
}  # fmt: skip


def decimal_bytes(precision: int) -> int:
    """The bytes of a decimal on the wire, its sign included."""
    return 5 if precision <= 9 else 9 if precision <= 19 else 13 if precision <= 28 else 17


@lru_cache(maxsize=4096)
def parse_type(text: str) -> SqlType:
    """The type of a declaration such as `decimal(18,4)` or `nvarchar(max)`. Raises ValueError for an unknown one."""
    found = re.fullmatch(r"\s*\[?(\w+)\]?\s*(?:\(\s*(max|\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*", text, re.IGNORECASE)
    if found is None:
        raise ValueError(f"no type: {text!r}")
    name, first, second = found[1].lower(), (found[2] or "").lower(), int(found[3] or 0)
    if name in _NAMES:
        return parse_type(_NAMES[name] + (f"({first})" if first else ""))
    number = -1 if first == "max" else int(first or 0)
    if name in _FIXED:
        return SqlType(name, 0, *_FIXED[name])
    if name in ("decimal", "numeric"):
        return SqlType(name, 0, number or 18, second)
    if name in SCALED_TIMES:
        return SqlType(name, 0, 0, number if first else 7)
    if name == "float":
        return SqlType("real" if 0 < number <= 24 else "float")
    if name == "rowversion":
        return SqlType(name, 8)
    if name in ("char", "varchar", "nchar", "nvarchar", "binary", "varbinary"):
        return SqlType(name, number or 1)
    if name not in INTEGERS | _SIZES and name not in TIMES | TEXTS:
        raise ValueError(f"no type: {text!r}")
    return SqlType(name)


def from_tree(kind: exp.DataType) -> SqlType:
    """The type of a parsed declaration; a length that CAST leaves out is 30."""
    name = kind.args["kind"] if kind.this == exp.DataType.Type.USERDEFINED else kind.this.value
    parameters = ",".join(part.name for part in kind.expressions)
    return parse_type(f"{name}({parameters})" if parameters else str(name))


# ---- how values compare


@lru_cache(maxsize=65536)
def _number(text: str) -> Decimal:
    return Decimal(text)


@lru_cache(maxsize=65536)
def moment_ticks(text: str) -> int:
    """Units of 100 ns since the year 1, in UTC where there is an offset; a time alone counts from midnight."""
    offset = re.search(r" ?([+-])(\d\d):(\d\d)$|Z$", text)
    minutes = 0
    if offset:
        text = text[: offset.start()]
        minutes = (int(offset[2]) * 60 + int(offset[3])) * (-1 if offset[1] == "-" else 1) if offset[1] else 0
    whole, _, fraction = text.replace("T", " ").partition(".")
    if len(whole) == 8 and whole.isdigit():
        whole = f"{whole[:4]}-{whole[4:6]}-{whole[6:]}"
    if len(whole) <= 8 and whole[2:3] == ":":
        whole = f"0001-01-01 {whole}"
    at = datetime.fromisoformat(whole) - datetime.min - timedelta(minutes=minutes)
    return (at.days * 86_400 + at.seconds) * 10_000_000 + int(fraction.ljust(7, "0")[:7] or 0)


@lru_cache(maxsize=65536)
def _guid(text: str) -> bytes:
    """SQL Server orders GUIDs by their last group first."""
    digits = bytes.fromhex(text.strip("{}").replace("-", ""))
    return digits[10:] + digits[8:10] + digits[7:5:-1] + digits[5:3:-1] + digits[3::-1]


@lru_cache(maxsize=65536)
def _words(text: str) -> str:
    """Case and blanks at the end do not count, as in the collation that SQL Server has by default."""
    return text.rstrip(" ").casefold()


def _comparison(key: Callable[[str], object]) -> Callable[[str, str], int]:
    def compare(left: str, right: str) -> int:
        if left == right:
            return 0
        one, other = key(left), key(right)
        return (one > other) - (one < other)  # type: ignore[operator]

    return compare


COLLATIONS = {
    "number": _comparison(_number),
    "moment": _comparison(moment_ticks),
    "guid": _comparison(_guid),
    "words": _comparison(_words),
}
