"""T-SQL's functions: those computed here, value by value, and those that are a look into the double's own tables."""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from typing import Any
from uuid import UUID, uuid4

from tests.doubles.sqlserver.dialect import plain_name
from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.requests import clock, decode
from tests.doubles.sqlserver.types import COLLATIONS, WIDE, SqlType, moment_ticks, parse_type
from tests.doubles.sqlserver.wire import wide_bytes, wide_text

_DAY = 864_000_000_000
ZERO_LSN = bytes(10)
# LSNs are numbers of ten bytes; the double counts up in this unit, so that they look as they do in a log
_FILE = 0x2A


def lsn(number: int) -> bytes:
    """The LSN of a number the double has counted to."""
    return struct.pack(">IIH", _FILE + (number >> 44), number >> 12 & 0xFFFFFFFF, number & 0xFFF)


def convert(value: Any, source: str, target: str, style: int = 0) -> Any:
    """CONVERT: a value of one type as it is kept in another. Raises SqlError 241, 245, 8115 where it cannot be."""
    if value is None:
        return None
    kind = parse_type(target)
    return _CONVERSIONS[kind.family](value, parse_type(source), kind, style)


def _to_int(value: Any, source: SqlType, kind: SqlType, style: int) -> int:
    if isinstance(value, bytes):
        return int.from_bytes(value[-8:], "big")
    try:
        number = int(Decimal(str(value).strip() or "0"))
    except InvalidOperation:
        text = f"Conversion failed when converting the {source.name} value '{value}' to data type {kind.name}."
        raise SqlError(245, text) from None
    if kind.name == "bit":
        return int(number != 0)
    low, high = (0, 255) if kind.name == "tinyint" else (-(1 << 8 * kind.bytes - 1), (1 << 8 * kind.bytes - 1) - 1)
    if not low <= number <= high:
        raise SqlError(8115, f"Arithmetic overflow error converting expression to data type {kind.name}.")
    return number


def _to_float(value: Any, source: SqlType, kind: SqlType, style: int) -> float:
    number = float(value)
    return struct.unpack("<f", struct.pack("<f", number))[0] if kind.name == "real" else number


def _to_decimal(value: Any, source: SqlType, kind: SqlType, style: int) -> str:
    with localcontext(prec=80):
        try:
            number = Decimal(str(value)).quantize(Decimal(1).scaleb(-kind.scale), ROUND_HALF_UP)
        except InvalidOperation:
            raise SqlError(8114, f"Error converting data type {source.name} to numeric.") from None
        if abs(number) >= Decimal(10) ** (kind.precision - kind.scale):
            raise SqlError(8115, f"Arithmetic overflow error converting {source.name} to data type {kind.name}.")
    text = f"{number:f}"
    return text[1:] if number == 0 and text[0] == "-" else text


def _to_text(value: Any, source: SqlType, kind: SqlType, style: int) -> str:
    text = _as_text(value, source, kind, style)
    if 0 <= kind.length < len(text) and kind.length:
        if source.family in ("int", "decimal", "float"):
            raise SqlError(8115, f"Arithmetic overflow error converting {source.name} to data type {kind.name}.")
        text = text[: kind.length]
    return text.ljust(kind.length) if kind.name in ("char", "nchar") else text


def _as_text(value: Any, source: SqlType, kind: SqlType, style: int) -> str:
    if source.name == "hierarchyid":
        return hierarchy_text(value)
    if isinstance(value, bytes):
        if style in (1, 2):
            return ("0x" if style == 1 else "") + value.hex().upper()
        return value.decode("utf-16-le" if kind.name in WIDE else "cp1252", "replace")
    if source.family == "time":
        return time_text(value, source, style)
    if source.name in ("money", "smallmoney"):
        return _to_decimal(value, source, parse_type("decimal(19,4)" if style == 2 else "decimal(19,2)"), 0)
    if source.family == "float":
        return f"{value:.17g}" if style == 3 else f"{value:.6g}"
    return str(value)


def time_text(value: str, kind: SqlType, style: int) -> str:
    """A kept date or time with as many digits as its type has; style 126 with a T in it, 112 as yyyymmdd."""
    if style == 112:
        return value[:10].replace("-", "")
    if kind.name == "date":
        return value[:10]
    digits = {"datetime": 3, "smalldatetime": 3}.get(kind.name, kind.scale)
    head, _, rest = value.partition(".")
    fraction, offset = rest[:7], rest[7:]
    if kind.name == "datetime":  # kept in 1/300 s with seven digits: shown rounded to three
        fraction = str(round(int(fraction) / 10_000)).rjust(3, "0")
    text = head + (f".{fraction[:digits]}" if digits else "")
    return (text.replace(" ", "T", 1) + offset.strip()) if style in (126, 127) else text + offset


def _to_binary(value: Any, source: SqlType, kind: SqlType, style: int) -> bytes:
    if isinstance(value, int):
        size = INTEGER_BYTES.get(source.name, 8)
        raw = value.to_bytes(8, "big", signed=value < 0)[-size:]
        raw = raw.rjust(kind.length, b"\0") if kind.name == "binary" else raw
    elif isinstance(value, str) and style in (1, 2):
        raw = bytes.fromhex(value.removeprefix("0x"))
    elif kind.name == "hierarchyid":
        raw = value if isinstance(value, bytes) else hierarchy_bytes(value)
    elif kind.name == "sql_variant" and not isinstance(value, bytes):
        raw = b"\xe7\x07" + bytes.fromhex("0904d00034") + b"\x40\x1f" + str(value).encode("utf-16-le")
    elif source.name == "uniqueidentifier":
        raw = UUID(value).bytes_le
    else:
        raw = value if isinstance(value, bytes) else str(value).encode("utf-16-le" if source.name in WIDE else "cp1252")
    raw = raw[: kind.length] if kind.length > 0 else raw
    return raw.ljust(kind.length, b"\0") if kind.name == "binary" else raw


INTEGER_BYTES = {"bit": 1, "tinyint": 1, "smallint": 2, "int": 4, "bigint": 8}


def _to_guid(value: Any, source: SqlType, kind: SqlType, style: int) -> str:
    try:
        return str(UUID(bytes_le=value) if isinstance(value, bytes) else UUID(value)).upper()
    except ValueError:
        raise SqlError(8169, "Conversion failed when converting to uniqueidentifier.") from None


def _to_time(value: Any, source: SqlType, kind: SqlType, style: int) -> str:
    try:
        units = moment_ticks(value)
    except (ValueError, TypeError, OverflowError):
        raise SqlError(241, "Conversion failed when converting date and/or time from character string.") from None
    offset = re.search(r"([+-])(\d\d):(\d\d)$", value)
    minutes = (int(offset[2]) * 60 + int(offset[3])) * (-1 if offset[1] == "-" else 1) if offset else 0
    step = {"date": _DAY, "smalldatetime": 600_000_000, "datetime": 1}.get(kind.name, 10 ** (7 - kind.scale))
    local = units + minutes * 600_000_000
    local = local // step * step if kind.name == "date" else (local + step // 2) // step * step
    days, clock_units = divmod(local, _DAY)
    if kind.name == "datetime":
        clock_units = round(round(clock_units * 300 / 10_000_000) * 10_000_000 / 300)
    if kind.name == "time":
        return clock(clock_units)
    day = str(date.fromordinal(days + 1))
    if kind.name == "date":
        return day
    text = f"{day} {clock(clock_units)}"
    if kind.name != "datetimeoffset":
        return text
    return f"{text} {'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"


_CONVERSIONS = {
    "int": _to_int, "float": _to_float, "decimal": _to_decimal, "text": _to_text, "binary": _to_binary,
    "guid": _to_guid, "time": _to_time,
}  # fmt: skip


def hierarchy_text(value: bytes) -> str:
    """ToString() of the hierarchyids that the double makes: it keeps the path itself behind a mark."""
    return value[1:].decode("ascii") if value else "/"


def hierarchy_bytes(path: str) -> bytes:
    """A hierarchyid of the double's own coding: SQL Server's is another."""
    return b"\x01" + path.encode("ascii") if path != "/" else b""


# ---- the rest


def _arithmetic(operator: str, left: Any, right: Any) -> str | None:
    if left is None or right is None:
        return None
    one, other = Decimal(str(left)), Decimal(str(right))
    with localcontext(prec=60):
        result = {"+": one + other, "-": one - other, "*": one * other}.get(operator)
        return f"{one / other if result is None else result:f}"


def now(kind: str) -> str:
    """The time in UTC, which is the double's zone, as a type keeps it."""
    text = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f") + "0"
    return convert(text, "datetime2(7)", kind)


def _parts(value: str) -> timedelta:
    return timedelta(microseconds=moment_ticks(value) / 10)


_UNITS = {"day": _DAY, "hour": 36_000_000_000, "minute": 600_000_000, "second": 10_000_000, "millisecond": 10_000}
_UNITS |= {"microsecond": 10}


def _date_difference(unit: str, first: str | None, last: str | None) -> int | None:
    if first is None or last is None:
        return None
    size = _UNITS[unit.lower()]
    return moment_ticks(last) // size - moment_ticks(first) // size


def _date_add(unit: str, count: int | None, value: str | None) -> str | None:
    if count is None or value is None:
        return None
    days, units = divmod(moment_ticks(value) + count * _UNITS[unit.lower()], _DAY)
    return f"{date.fromordinal(days + 1)} {clock(units)}"


def _bit_is_set(position: int | None, mask: bytes | None) -> int | None:
    if position is None or mask is None:
        return None
    return int.from_bytes(mask, "big") >> (position - 1) & 1


def _next_lsn(value: bytes | None, step: int) -> bytes | None:
    return None if value is None else (int.from_bytes(value, "big") + step).to_bytes(10, "big")


def _size(value: Any, kind: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bytes):
        return len(value)
    source = parse_type(kind)
    if source.family != "text":
        return source.bytes
    return len(wide_bytes(value)) if source.name in WIDE else len(value)


class Failures:
    """The SqlError that a function raised inside of a statement, which SQLite turns into words of its own."""

    def __init__(self) -> None:
        self._error: SqlError | None = None

    def take(self) -> SqlError | None:
        """The error, once."""
        error, self._error = self._error, None
        return error

    def remembering(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose errors are kept."""

        def run(*values: Any) -> Any:
            try:
                return function(*values)
            except SqlError as error:
                self._error = error
                raise

        return run


def register(connection: sqlite3.Connection) -> Failures:
    """Give a SQLite connection the functions and collations. Returns where their errors are found."""
    failures = Failures()
    for name, compare in COLLATIONS.items():
        connection.create_collation(name, compare)
    for name, count, function in (
        ("tds_convert", 4, convert),
        ("tds_decode", 2, lambda value, kind: None if value is None else decode(parse_type(kind), value)),
        ("tds_arithmetic", 3, _arithmetic),
        ("tds_now", 1, now),
        ("tds_difference", 3, _date_difference),
        ("tds_date_add", 3, _date_add),
        ("tds_size", 2, _size),
        ("tds_length", 1, lambda value: None if value is None else len(str(value).rstrip(" "))),
        ("tds_name", 1, lambda name: None if name is None else plain_name(name).lower()),
        ("tds_nchar", 1, lambda code: None if code is None else wide_text(struct.pack("<H", code))),
        ("tds_guid", 0, lambda: str(uuid4()).upper()),
        ("bit_is_set", 2, _bit_is_set),
        ("next_lsn", 2, _next_lsn),
        ("to_lsn", 1, lsn),
    ):
        connection.create_function(name, count, failures.remembering(function))
    return failures
