"""Oracle's column types: how the double keeps their values, and how LogMiner writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property

Stored = int | float | str | bytes | None

LOBS = ("CLOB", "NCLOB", "BLOB")
LOB_INLINE_BYTES_MAX = 3964  # larger ones lie outside of the row, and come as LOB rows
STRING_BYTES_MAX = 4000  # longer ones (MAX_STRING_SIZE = EXTENDED) come in rows of their own, too
_TYPE = re.compile(r"([A-Z][A-Z0-9_ ]*?)\s*(?:\(\s*(\*|-?\d+)\s*(?:(?:,\s*(-?\d+))|CHAR|BYTE)?\s*\))?((?: [A-Z].*)?)")
_TIME = re.compile(r"(-?\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{0,9}))?(?: ([+-]\d\d:\d\d))?")


@dataclass(frozen=True)
class OracleColumn:
    """A column.

    Args:
        name: as the dictionary has it.
        type: as in CREATE TABLE, "NUMBER(10,2)".
        nullable: false for a key's.
    """

    name: str
    type: str
    nullable: bool = True

    @cached_property
    def _parsed(self) -> tuple[str, str | None, str | None, str]:
        text = self.type.upper()
        if text.startswith("INTERVAL"):
            return ("INTERVAL DAY" if "DAY" in text else "INTERVAL YEAR"), None, None, ""
        found = _TYPE.fullmatch(text)
        assert found is not None, self.type
        return found[1], found[2], found[3], found[4].strip()

    @property
    def kind(self) -> str:
        """The type's bare name; TIMESTAMP, TIMESTAMP WITH TIME ZONE and ... LOCAL TIME ZONE apart."""
        name, _, _, behind = self._parsed
        return f"{name} {behind}".strip()

    @property
    def precision(self) -> int | None:
        """Digits of a NUMBER or FLOAT, None where it has none; of others the length."""
        _, first, _, _ = self._parsed
        return None if first in (None, "*") else int(first)

    @property
    def scale(self) -> int | None:
        """Of a NUMBER; None where it has none. Of times the fraction's digits."""
        name, first, second, _ = self._parsed
        if name == "TIMESTAMP":
            return 6 if first is None else int(first)
        if name != "NUMBER":
            return None
        return int(second) if second is not None else (0 if first is not None else None)

    @property
    def data_type(self) -> str:
        """What ALL_TAB_COLUMNS.DATA_TYPE says."""
        if self.kind.startswith("TIMESTAMP"):
            return self.kind.replace("TIMESTAMP", f"TIMESTAMP({self.scale})")
        if self.kind.startswith("INTERVAL"):
            return "INTERVAL DAY(2) TO SECOND(6)" if "DAY" in self.kind else "INTERVAL YEAR(2) TO MONTH"
        return self.kind

    @property
    def small_integer(self) -> bool:
        """Whether all values fit 64 bits."""
        return self.kind == "NUMBER" and self.scale == 0 and (self.precision or 38) <= 18

    @property
    def affinity(self) -> str:
        """The SQLite column's type; numbers that are kept as text are compared as numbers."""
        if self.small_integer:
            return "INTEGER"
        if self.kind in ("NUMBER", "FLOAT"):
            return "TEXT COLLATE ORACLE_NUMBER"
        if self.kind in ("BINARY_DOUBLE", "BINARY_FLOAT"):
            return "REAL"
        return "BLOB" if self.kind in ("RAW", "BLOB") else "TEXT"

    def stored(self, value: object) -> Stored:
        """A value as the double keeps it: '' is NULL, numbers exact, times with nine digits behind the second."""
        if value is None or value == "":
            return None
        if self.small_integer:
            return int(value)  # type: ignore[call-overload]
        if self.kind in ("NUMBER", "FLOAT"):
            return plain(Decimal(str(value)))
        if self.kind == "DATE":
            return _time(value)[:-10]
        return _time(value) if self.kind.startswith("TIMESTAMP") else value  # type: ignore[return-value]

    def literal(self, value: Stored) -> str:
        """A kept value as LogMiner writes it in a statement."""
        if value is None:
            return "NULL"
        if self.kind in ("NUMBER", "FLOAT"):
            return f"'{_bare(str(value))}'"
        if self.kind in ("BINARY_DOUBLE", "BINARY_FLOAT"):
            return f"'{float(value):.16E}'"
        if isinstance(value, bytes):
            return f"HEXTORAW('{value.hex()}')"
        text = str(value)
        if self.kind == "DATE":
            return f"TO_DATE('{text}', 'YYYY-MM-DD HH24:MI:SS')"
        if self.kind.startswith("TIMESTAMP"):
            function = {"": "", "WITH TIME ZONE": "_TZ", "WITH LOCAL TIME ZONE": "_ITZ"}[self.kind[10:]]
            return f"TO_TIMESTAMP{function}('{self._fraction(text)}')"
        if self.kind.startswith("INTERVAL"):
            return f"TO_{'DS' if 'DAY' in self.kind else 'YM'}INTERVAL('{text}')"
        if self.kind == "XMLTYPE":
            return "XMLType(:1)"
        if self.kind in ("NVARCHAR2", "NCHAR", "NCLOB") and not text.isascii():
            return unistr(text)
        return quoted(text)

    def _fraction(self, text: str) -> str:
        whole, _, rest = text.partition(".")
        digits, _, zone = rest.partition(" ")
        return f"{whole}.{digits[: self.scale]}{' ' + zone if zone else ''}"

    @property
    def extended(self) -> bool:
        """Whether it is a string that may be longer than 4,000 bytes."""
        return self.kind == "VARCHAR2" and (self.precision or 0) > STRING_BYTES_MAX

    def outside(self, value: Stored) -> bool:
        """Whether the value lies outside of its row: a LOB, a long string, or an XML document."""
        if value is None or not (self.kind in LOBS or self.extended):
            return value is not None and self.kind == "XMLTYPE"
        size = len(value) if isinstance(value, bytes) else len(str(value).encode())
        return size > (STRING_BYTES_MAX if self.extended else LOB_INLINE_BYTES_MAX)


def plain(number: Decimal) -> str:
    """A number without exponent and needless zeros."""
    text = f"{number:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _bare(text: str) -> str:
    """Without the zero in front of the point, as Oracle writes it."""
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _time(value: object) -> str:
    if isinstance(value, datetime):
        zone = value.strftime("%z")
        value = f"{value:%Y-%m-%d %H:%M:%S.%f}" + (f" {zone[:3]}:{zone[3:5]}" if zone else "")
    found = _TIME.fullmatch(str(value))
    assert found is not None, value
    year, month, day, hour, minute, second, digits, zone = found.groups()
    text = f"{int(year):0{5 if year.startswith('-') else 4}d}-{month}-{day} {hour}:{minute}:{second}"
    return f"{text}.{(digits or ''):0<9}" + (f" {zone}" if zone else "")


def quoted(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def unistr(text: str) -> str:
    """UNISTR of a text's UTF-16 units."""
    units = text.encode("utf-16-be")
    pieces = []
    for place in range(0, len(units), 2):
        unit = int.from_bytes(units[place : place + 2], "big")
        pieces.append(chr(unit) if 32 <= unit < 127 and unit not in (39, 92) else f"\\{unit:04X}")
    return f"UNISTR('{''.join(pieces)}')"
