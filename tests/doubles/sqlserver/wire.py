"""Values on the wire: how TDS 7.4 declares each type, and the bytes of its values, a column at a time.

MAX types and xml travel in chunks of their own form (PLP), whose NULL is not an empty one.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from datetime import date
from functools import lru_cache
from typing import Any
from uuid import UUID

from tests.doubles.sqlserver.types import CHUNKED, OF_CLR, WIDE, SqlType, decimal_bytes, moment_ticks

COLLATION = bytes.fromhex("0904d00034")
PLP_NULL = b"\xff" * 8
_DAY = 864_000_000_000  # units of 100 ns
_BEFORE_1900, _USER_TYPE_ROWVERSION = 693_595, 80
_PRIVATE = 0x10F800 - 0xD800
_HALVES, _KEPT_HALVES = re.compile("[\ud800-\udfff]"), re.compile("[\U0010f800-\U0010ffff]")
Encode = Callable[[Any], bytes]


def declaration(kind: SqlType) -> bytes:
    """TYPE_INFO of a column of this type."""
    name = kind.name
    if name in _PLAIN:
        return _PLAIN[name]
    if name in ("decimal", "numeric"):
        return bytes([0x6A if name == "decimal" else 0x6C, decimal_bytes(kind.precision), kind.precision, kind.scale])
    if name in ("time", "datetime2", "datetimeoffset"):
        return bytes([{"time": 0x29, "datetime2": 0x2A, "datetimeoffset": 0x2B}[name], kind.scale])
    if name in ("text", "ntext", "image"):
        table = struct.pack("<BH", 1, 0)  # one part, without a name
        token, largest = {"text": (0x23, 0x7FFFFFFF), "ntext": (0x63, 0x7FFFFFFE), "image": (0x22, 0x7FFFFFFF)}[name]
        return struct.pack("<BI", token, largest) + (b"" if name == "image" else COLLATION) + table
    if name in OF_CLR:
        of_net, longest = OF_CLR[name]
        assembly = f"Microsoft.SqlServer.Types.{of_net}, Microsoft.SqlServer.Types"
        parts = b"".join(bytes([len(text)]) + text.encode("utf-16-le") for text in ("", "sys", name))
        return (
            struct.pack("<BH", 0xF0, longest & 0xFFFF)
            + parts
            + struct.pack("<H", len(assembly))
            + assembly.encode("utf-16-le")
        )
    token = {"char": 0xAF, "varchar": 0xA7, "nchar": 0xEF, "nvarchar": 0xE7, "varbinary": 0xA5}.get(name, 0xAD)
    size = 0xFFFF if kind.length < 0 else kind.length * (2 if name in WIDE else 1)
    return struct.pack("<BH", token, size) + (b"" if token in (0xA5, 0xAD) else COLLATION)


_PLAIN = {
    "bit": b"\x68\x01", "tinyint": b"\x26\x01", "smallint": b"\x26\x02", "int": b"\x26\x04", "bigint": b"\x26\x08",
    "real": b"\x6d\x04", "float": b"\x6d\x08", "money": b"\x6e\x08", "smallmoney": b"\x6e\x04", "date": b"\x28",
    "datetime": b"\x6f\x08", "smalldatetime": b"\x6f\x04", "uniqueidentifier": b"\x24\x10", "xml": b"\xf1\x00",
    "sql_variant": b"\x62\x49\x1f\x00\x00",
}  # fmt: skip


def metadata(name: str, kind: SqlType, nullable: bool = True) -> bytes:
    """A column's entry in COLMETADATA."""
    encoded = name.encode("utf-16-le")
    user_type = _USER_TYPE_ROWVERSION if kind.name == "rowversion" else 0
    head = struct.pack("<IH", user_type, 0x08 | nullable)
    return head + declaration(kind) + bytes([len(encoded) // 2]) + encoded


@lru_cache(maxsize=1024)
def null(kind: SqlType) -> bytes:
    """NULL as a value of this type."""
    if kind.length < 0 or kind.name in CHUNKED:
        return PLP_NULL
    if kind.name in ("char", "varchar", "nchar", "nvarchar", "binary", "varbinary", "rowversion"):
        return b"\xff\xff"
    return bytes(4) if kind.name == "sql_variant" else b"\0"


def encode_column(kind: SqlType, values: Sequence[Any]) -> list[bytes]:
    """The values of a column, each as it stands in a row."""
    encode, missing = encoder(kind), null(kind)
    return [missing if value is None else encode(value) for value in values]


@lru_cache(maxsize=1024)
def encoder(kind: SqlType) -> Encode:
    """What encodes a value that is not NULL."""
    name = kind.name
    if kind.length < 0 or name in CHUNKED:
        return lambda value: _chunked(_raw(kind, value))
    if name in ("text", "ntext", "image"):
        return lambda value: _pointed(_raw(kind, value))
    if name in ("binary", "rowversion"):  # LSNs of all changes are such
        head = struct.pack("<H", kind.length)
        return lambda value: head + value.ljust(kind.length, b"\0")
    if name in ("char", "varchar", "nchar", "nvarchar", "varbinary"):
        return lambda value: _counted(_raw(kind, value))
    if name == "sql_variant":
        return lambda value: struct.pack("<I", len(value)) + value
    size = {"float": 8, "real": 4, "money": 8, "smallmoney": 4}.get(name, kind.bytes)
    if name in _PACKED:
        pack = struct.Struct("<B" + _PACKED[name]).pack
        return lambda value: pack(size, value)
    if name == "money":
        pack = struct.Struct("<BiI").pack
        return lambda value: pack(8, (number := _scaled(value)) >> 32, number & 0xFFFFFFFF)
    if name == "smallmoney":
        pack = struct.Struct("<Bi").pack
        return lambda value: pack(4, _scaled(value))
    if name in ("decimal", "numeric"):
        return _decimal(kind)
    if name == "uniqueidentifier":
        return lambda value: b"\x10" + UUID(value).bytes_le
    return lambda value: _with_size(_time(kind, value))


_PACKED = {"bit": "?", "tinyint": "B", "smallint": "h", "int": "i", "bigint": "q", "real": "f", "float": "d"}


def _with_size(raw: bytes) -> bytes:
    return bytes([len(raw)]) + raw


def _counted(raw: bytes) -> bytes:
    return struct.pack("<H", len(raw)) + raw


def _chunked(raw: bytes) -> bytes:
    if not raw:
        return bytes(12)
    return struct.pack("<QI", len(raw), len(raw)) + raw + bytes(4)


def _pointed(raw: bytes) -> bytes:
    return b"\x10" + bytes(24) + struct.pack("<I", len(raw)) + raw


def _raw(kind: SqlType, value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if kind.name in WIDE:
        raw = wide_bytes(str(value))
        return raw.ljust(2 * kind.length, b" \0") if kind.name == "nchar" and len(raw) < 2 * kind.length else raw
    raw = str(value).encode("cp1252", "replace")
    return raw.ljust(kind.length) if kind.name == "char" else raw


def wide_text(raw: bytes) -> str:
    """UTF-16 as text; half a pair, which SQL Server keeps and SQLite does not, as a character of private use."""
    text = raw.decode("utf-16-le", "surrogatepass")
    return _HALVES.sub(lambda half: chr(ord(half[0]) + _PRIVATE), text) if _HALVES.search(text) else text


def wide_bytes(text: str) -> bytes:
    """Text as UTF-16, halves of pairs among it."""
    raw = text.encode("utf-16-le")
    if b"\xfe\xdb" in raw or b"\xff\xdb" in raw:
        raw = _KEPT_HALVES.sub(lambda kept: chr(ord(kept[0]) - _PRIVATE), text).encode("utf-16-le", "surrogatepass")
    return raw


def _scaled(value: str) -> int:
    return int(value.replace(".", ""))  # kept with all digits of its scale


def _decimal(kind: SqlType) -> Encode:
    size = decimal_bytes(kind.precision)
    negative, positive = bytes([size, 0]), bytes([size, 1])

    def encode(value: str) -> bytes:
        number = int(value.replace(".", ""))
        if number < 0:
            return negative + (-number).to_bytes(size - 1, "little")
        return positive + number.to_bytes(size - 1, "little")

    return encode


@lru_cache(maxsize=65536)
def _ordinal(text: str) -> int:
    return date.fromisoformat(text).toordinal() - 1


def _clock(text: str) -> int:
    """Units of 100 ns of `HH:MM:SS.fffffff`."""
    seconds = int(text[:2]) * 3600 + int(text[3:5]) * 60 + int(text[6:8])
    return seconds * 10_000_000 + int(text[9:16] or 0)


def _time(kind: SqlType, value: str) -> bytes:
    """The bytes of a date or a time."""
    name, scale = kind.name, kind.scale
    width = 3 if scale < 3 else 4 if scale < 5 else 5
    step = 10 ** (7 - scale)
    if name == "date":
        return _ordinal(value[:10]).to_bytes(3, "little")
    if name == "time":
        return (_clock(value) // step).to_bytes(width, "little")
    if name == "datetimeoffset":
        days, clock = divmod(moment_ticks(value), _DAY)
        minutes = (int(value[-5:-3]) * 60 + int(value[-2:])) * (-1 if value[-6] == "-" else 1)
        return (clock // step).to_bytes(width, "little") + days.to_bytes(3, "little") + struct.pack("<h", minutes)
    days, clock = _ordinal(value[:10]), _clock(value[11:])
    if name == "datetime2":
        return (clock // step).to_bytes(width, "little") + days.to_bytes(3, "little")
    if name == "smalldatetime":
        return struct.pack("<HH", days - _BEFORE_1900, clock // 600_000_000)
    return struct.pack("<iI", days - _BEFORE_1900, round(clock * 300 / 10_000_000))
