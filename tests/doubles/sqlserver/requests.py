"""What a client asks for: procedure calls and transaction requests, their parameters in the double's own form."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.types import CHUNKED, WIDE, SqlType, parse_type
from tests.doubles.sqlserver.wire import declaration, wide_text

PROCEDURES = {10: "sp_executesql", 11: "sp_prepare", 12: "sp_execute", 13: "sp_prepexec", 15: "sp_unprepare"}
_FIXED = {0x1F: 0, 0x30: 1, 0x32: 1, 0x34: 2, 0x38: 4, 0x3A: 4, 0x3B: 4, 0x3C: 8, 0x3D: 8, 0x3E: 8, 0x7A: 4, 0x7F: 8}
_SIZED = (0x24, 0x26, 0x68, 0x6D, 0x6E, 0x6F)
_PLP_NULL = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True)
class Argument:
    """A parameter of a call: its name with the @ (or nothing), its value as the double keeps it, its declared type."""

    name: str
    value: Any
    kind: SqlType
    output: bool


@dataclass(frozen=True)
class Call:
    """A remote procedure call."""

    procedure: str
    arguments: list[Argument]


class Reader:
    """Reads little-endian fields of a message, one after the other."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, size: int) -> bytes:
        self.at += size
        if self.at > len(self.data):
            raise SqlError(4002, "The incoming tabular data stream (TDS) protocol stream is incorrect.")
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, characters: int) -> str:
        return wide_text(self.take(2 * characters))

    def more(self) -> bool:
        return self.at < len(self.data)

    def plp(self) -> bytes | None:
        """A value in chunks; None for NULL."""
        if self.number(8) == _PLP_NULL:
            return None
        chunks = []
        while size := self.number(4):
            chunks.append(self.take(size))
        return b"".join(chunks)


def after_headers(message: bytes) -> Reader:
    """What follows the ALL_HEADERS block."""
    return Reader(message, int.from_bytes(message[:4], "little"))


def read_batch(message: bytes) -> str:
    """The text of a SQL batch."""
    reader = after_headers(message)
    return wide_text(message[reader.at :])


def read_transaction(message: bytes) -> tuple[int, int]:
    """The kind of a transaction request (5 begin, 7 commit, 8 roll back), and the isolation level a begin asks for."""
    reader = after_headers(message)
    kind = reader.number(2)
    return kind, reader.number(1) if kind == 5 and reader.more() else 0


def read_calls(message: bytes) -> list[Call]:
    """All calls of a message: drivers send many at once for arrays of parameters."""
    reader, calls = after_headers(message), []
    while reader.more():
        length = reader.number(2)
        name = PROCEDURES.get(reader.number(2), "?") if length == 0xFFFF else reader.text(length)
        reader.take(2)
        arguments: list[Argument] = []
        while reader.more():
            if (characters := reader.number(1)) in (0x80, 0xFE, 0xFF):
                break
            arguments.append(_argument(reader, reader.text(characters)))
        calls.append(Call(name.removeprefix("sys.").removeprefix("[sys]."), arguments))
    return calls


def _argument(reader: Reader, name: str) -> Argument:
    status, token = reader.number(1), reader.number(1)
    kind, value = _value(reader, token)
    return Argument(name, value, kind, bool(status & 1))


def _value(reader: Reader, token: int) -> tuple[SqlType, Any]:
    if token in _FIXED:
        return _number(token, reader.take(_FIXED[token]))
    if token in _SIZED:
        size = reader.number(1)
        return _number(token, reader.take(reader.number(1)), size)
    if token in (0x6A, 0x6C):
        reader.take(1)
        precision, scale = reader.number(1), reader.number(1)
        return SqlType("decimal", 0, precision, scale), _decimal(reader.take(reader.number(1)), scale)
    if token in (0x28, 0x29, 0x2A, 0x2B):
        scale = reader.number(1) if token != 0x28 else 0
        return _moment(token, scale, reader.take(reader.number(1)))
    if token in (0xA7, 0xAF, 0xE7, 0xEF, 0xA5, 0xAD):
        return _characters(reader, token)
    if token in (0x22, 0x23, 0x63):
        return _long(reader, token)
    if token == 0x62:
        reader.take(4)
        return parse_type("sql_variant"), reader.take(reader.number(4)) or None
    raise SqlError(8009, f"The double cannot read a parameter of type 0x{token:02x}.")


def _number(token: int, raw: bytes, declared: int = 0) -> tuple[SqlType, Any]:
    size = declared or len(raw)
    if token in (0x3B, 0x3E, 0x6D):
        value: Any = struct.unpack("<f" if size == 4 else "<d", raw)[0] if raw else None
        return SqlType("real" if size == 4 else "float"), value
    if token in (0x3C, 0x7A, 0x6E):
        kind = parse_type("money" if size == 8 else "smallmoney")
        order = raw if len(raw) < 8 else raw[4:] + raw[:4]
        return kind, _plain(int.from_bytes(order, "little", signed=True), 4) if raw else None
    if token in (0x3A, 0x3D, 0x6F):
        return SqlType("datetime" if size == 8 else "smalldatetime"), _old_datetime(raw) if raw else None
    if token == 0x24:
        return SqlType("uniqueidentifier"), str(UUID(bytes_le=raw)).upper() if raw else None
    if token in (0x32, 0x68):
        return SqlType("bit"), int(raw != b"\0") if raw else None
    kind = SqlType({1: "tinyint", 2: "smallint", 4: "int", 8: "bigint"}.get(size, "int"))
    return kind, int.from_bytes(raw, "little", signed=size > 1) if raw else None


def _plain(number: int, scale: int) -> str:
    """A scaled integer in the digits it is kept in."""
    digits = str(abs(number)).rjust(scale + 1, "0")
    text = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
    return f"-{text}" if number < 0 else text


def _decimal(raw: bytes, scale: int) -> str | None:
    if not raw:
        return None
    number = int.from_bytes(raw[1:], "little")
    return _plain(number if raw[0] else -number, scale)


def clock(units: int) -> str:
    """Units of 100 ns since midnight as a time of day."""
    seconds, fraction = divmod(units, 10_000_000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:07}"


def _old_datetime(raw: bytes) -> str:
    if len(raw) == 8:
        days, ticks = struct.unpack("<iI", raw)
        units = round(ticks * 100_000 / 3)
    else:
        days, minutes = struct.unpack("<HH", raw)
        units = minutes * 600_000_000
    return f"{date.fromordinal(693_596 + days)} {clock(units)}"


def _moment(token: int, scale: int, raw: bytes) -> tuple[SqlType, Any]:
    name = {0x28: "date", 0x29: "time", 0x2A: "datetime2", 0x2B: "datetimeoffset"}[token]
    kind = SqlType(name, 0, 0, scale)
    if not raw:
        return kind, None
    width = 0 if token == 0x28 else 3 if scale < 3 else 4 if scale < 5 else 5
    units = int.from_bytes(raw[:width], "little") * 10 ** (7 - scale)
    if token == 0x29:
        return kind, clock(units)
    days = int.from_bytes(raw[width : width + 3], "little")
    if token == 0x28:
        return kind, str(date.fromordinal(days + 1))
    if token == 0x2A:
        return kind, f"{date.fromordinal(days + 1)} {clock(units)}"
    minutes = int.from_bytes(raw[width + 3 :], "little", signed=True)
    days, units = divmod(days * 864_000_000_000 + units + minutes * 600_000_000, 864_000_000_000)
    sign, minutes = "-" if minutes < 0 else "+", abs(minutes)
    return kind, f"{date.fromordinal(days + 1)} {clock(units)} {sign}{minutes // 60:02}:{minutes % 60:02}"


def _characters(reader: Reader, token: int) -> tuple[SqlType, Any]:
    declared = reader.number(2)
    if token not in (0xA5, 0xAD):
        reader.take(5)
    raw: bytes | None
    if declared == 0xFFFF:
        raw = reader.plp()
    else:
        length = reader.number(2)
        raw = None if length == 0xFFFF else reader.take(length)
    name = {0xA7: "varchar", 0xAF: "char", 0xE7: "nvarchar", 0xEF: "nchar", 0xA5: "varbinary", 0xAD: "binary"}[token]
    wide = token in (0xE7, 0xEF)
    kind = SqlType(name, -1 if declared == 0xFFFF else max(1, declared // 2 if wide else declared))
    if raw is None or token in (0xA5, 0xAD):
        return kind, raw
    return kind, wide_text(raw) if wide else raw.decode("cp1252", "replace")


def _long(reader: Reader, token: int) -> tuple[SqlType, Any]:
    reader.take(4 if token == 0x22 else 9)
    length = reader.number(4)
    kind = {0x22: "varbinary(max)", 0x23: "varchar(max)", 0x63: "nvarchar(max)"}[token]
    if length == 0xFFFFFFFF:
        return parse_type(kind), None
    raw = reader.take(length)
    if token == 0x22:
        return parse_type(kind), raw
    return parse_type(kind), raw.decode("cp1252", "replace") if token == 0x23 else wide_text(raw)


def decode(kind: SqlType, encoded: bytes) -> Any:
    """A value as it stands in a row, in the double's own form again."""
    reader = Reader(encoded)
    if kind.length < 0 or kind.name in CHUNKED:
        raw = reader.plp()
    elif kind.name in ("text", "ntext", "image"):
        raw = encoded[29:] if encoded != b"\0" else None
    elif kind.name == "sql_variant":
        raw = encoded[4:] or None
    else:
        return _value(Reader(declaration(kind)[1:] + encoded), declaration(kind)[0])[1]
    if raw is None or kind.family == "binary":
        return raw
    return wide_text(raw) if kind.name in WIDE else raw.decode("cp1252", "replace")
