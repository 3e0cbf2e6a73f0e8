"""A redo literal to the value of one cell: numbers, texts, dates and intervals; part of the reference of
libcore.redo."""

from __future__ import annotations

import binascii
import math
import re
from typing import Any, Final

import pyarrow as pa

from libcore.decode_types import Encoding, ErrorCode
from libcore.redo_types import Form, RedoCode, RedoColumn
from libcore.reference import clock, decimal
from libcore.reference.decimal import NotExact
from libcore.reference.redo_statement import Fault, Literal, Part
from libcore.reference.values import single_of_text


class _Mark:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


UNSET: Final = _Mark("UNSET")
"""The statement does not say the value."""
LOST: Final = _Mark("LOST")
"""The statement has a value that nobody can know."""

Cell = Any
"""int, bool, float, bytes (texts too), None for NULL, UNSET or LOST; decimals unscaled, dates and times in their
unit."""

_FLOAT = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_FLOAT_WORD = re.compile(rb"([+-]?)inf(?:inity)?|nan", re.I)
_ESCAPE = re.compile(rb"\\\\|\\([0-9A-Fa-f]{4})|''|[^\\]", re.S)
_FORMAT = re.compile(rb"S?YYYY-MM-DD(?: HH24:MI:SS(?:\.FF[1-9]?)?(?: ?(?:TZH:TZM|TZR))?)?")
_TIMESTAMP = re.compile(rb"(?P<date>[^ T]*)(?P<behind>[ T] *(?P<time>[0-9:.]*) *(?P<zone>.*))?", re.S)
_DATE = re.compile(rb"(?P<sign>[+-]?)(?P<year>[0-9]{4})(?![0-9])(?P<rest>.{0,12})", re.S)
_OFFSET = re.compile(rb"[+-][0-9]{2}:[0-9]{2}")
_MONTHS = re.compile(rb"([+-]?)([0-9]{1,9})-([0-9]{1,2})")
_DAYS = re.compile(rb"([+-]?)([0-9]{1,9}) ([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{0,9}))?")
_TIME_BYTES_MAX = 64
_BAD_ESCAPE = -1
_MONTH_US = 2_629_800_000_000  # a twelfth of 365.25 days
_DAY_US = 86_400_000_000
_DATES = ("to_date", "to_timestamp", "to_timestamp_tz", "to_timestamp_itz")
_INTERVALS = ("to_yminterval", "to_dsinterval")
_BITS = {pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}


class _Zone(Exception):
    """An offset that is missing, named, or of no use."""


def cell(column: RedoColumn, literal: Literal, local_is_utc: bool) -> Cell:
    """The value of a literal in that column. Raises Fault."""
    kind, plain_text = literal.kind, pa.types.is_string(column.column.type.arrow) and column.form != Form.LITERAL
    if kind == "null":
        return None
    if kind == "unknown" or (kind == "hextoraw" and literal.json and plain_text):
        return LOST
    if kind == "empty" and column.empty_is_unset:
        return UNSET
    try:
        return _value(column, literal, local_is_utc)
    except NotExact as error:
        raise Fault(RedoCode(error.code), literal.start) from error
    except _Zone as error:
        raise Fault(RedoCode.ZONE, literal.start) from error


def _type_error() -> NotExact:
    return NotExact(ErrorCode.TYPE)


def _value(column: RedoColumn, literal: Literal, local_is_utc: bool) -> Cell:
    arrow, form, part, kind = column.column.type.arrow, column.form, literal.parts[0], literal.kind
    if form in (Form.INTERVAL, Form.INTERVAL_US):
        if kind not in (*_INTERVALS, "text"):
            raise _type_error()
        is_months, size = _interval(part)
        return _interval_text(is_months, size) if form == Form.INTERVAL else _interval_us(is_months, size)
    if pa.types.is_time64(arrow):
        if kind != "text":
            raise _type_error()
        return clock.from_text(Encoding.ISO_TIME, part.text, _digits(arrow))
    if pa.types.is_date32(arrow) or pa.types.is_timestamp(arrow):
        return _date(column, literal, local_is_utc)
    if pa.types.is_binary(arrow):
        return _bytes(literal)
    if pa.types.is_string(arrow) and form != Form.NUMERIC:
        return _literal_text(literal) if form == Form.LITERAL else _text(literal)
    if kind not in ("text", "bare"):
        raise _type_error()
    return _number(arrow, form, part.text)


def _digits(arrow: pa.DataType) -> int:
    return 9 if arrow.unit == "ns" else 6


# ---- texts and bytes ----


def _literal_text(literal: Literal) -> bytes:
    if literal.kind == "text":
        return literal.parts[0].text.replace(b"''", b"'")
    return literal.source


def _text(literal: Literal) -> bytes:
    part = literal.parts[0]
    if literal.kind in ("text", *_DATES, *_INTERVALS):
        return part.text.replace(b"''", b"'")
    if literal.kind == "bare":
        if part.text[:1].isalpha():
            raise _type_error()
        return part.text
    if literal.kind == "empty":
        return b""
    if not {one.kind for one in literal.parts} <= {"text", "unistr"}:
        raise _type_error()
    return _characters(literal)


def _characters(literal: Literal) -> bytes:
    """Texts and UNISTR texts put together; halves of a pair may stand in two of them."""
    out = bytearray()
    high: tuple[int, int] | None = None  # the unit, and where it stands
    for part in literal.parts:
        for position, unit, text in _units(part):
            if position == _BAD_ESCAPE:
                raise _type_error()
            is_low = unit is not None and 0xDC00 <= unit <= 0xDFFF
            if is_low != (high is not None):
                raise Fault(RedoCode.SURROGATE, high[1] if high else position)
            if unit is not None and 0xD800 <= unit <= 0xDBFF:
                high = (unit, position)
            elif high is not None and unit is not None:
                out += chr(0x10000 + (high[0] - 0xD800) * 0x400 + unit - 0xDC00).encode()
                high = None
            else:
                out += text if unit is None else chr(unit).encode()
    if high is not None:
        raise Fault(RedoCode.SURROGATE, high[1])
    return bytes(out)


def _units(part: Part) -> list[tuple[int, int | None, bytes]]:
    """(position, UTF-16 unit of an escape or None, bytes); of a plain text one entry."""
    if part.kind == "text":
        return [(part.start, None, part.text.replace(b"''", b"'"))] if part.text else []
    at = 0
    units: list[tuple[int, int | None, bytes]] = []
    while at < len(part.text):
        match = _ESCAPE.match(part.text, at)
        if match is None:
            units.append((_BAD_ESCAPE, None, b""))
            break
        units.append((part.text_start + at, int(match[1], 16) if match[1] else None, match[0][:1]))
        at = match.end()
    return units


def _bytes(literal: Literal) -> bytes:
    if literal.kind == "empty":
        return b""
    if {part.kind for part in literal.parts} != {"hextoraw"}:
        raise _type_error()
    try:
        return b"".join(binascii.unhexlify(part.text) for part in literal.parts)
    except binascii.Error as error:
        raise _type_error() from error


# ---- numbers ----


def _number(arrow: pa.DataType, form: Form, text: bytes) -> Cell:
    if form == Form.NUMERIC:
        return decimal.numeric_from_text(text)
    if pa.types.is_decimal(arrow):
        return decimal.unscaled_from_text(text, arrow.precision, arrow.scale)
    if pa.types.is_boolean(arrow):
        if text.lower() not in (b"0", b"1", b"true", b"false"):
            raise _type_error()
        return text.lower() in (b"1", b"true")
    if arrow in (pa.float32(), pa.float64()):
        return _float(arrow, text)
    value, bits = decimal.unscaled_from_text(text, 38, 0), _BITS[arrow]
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise NotExact(ErrorCode.RANGE)
    return value


def _float(arrow: pa.DataType, text: bytes) -> float:
    if _FLOAT_WORD.fullmatch(text):
        return float(text)
    if not _FLOAT.fullmatch(text):
        raise _type_error()
    value = float(text) if arrow == pa.float64() else single_of_text(text)
    if math.isinf(value):
        raise NotExact(ErrorCode.RANGE)
    return value


# ---- dates ----


def _date(column: RedoColumn, literal: Literal, local_is_utc: bool) -> int:
    arrow = column.column.type.arrow
    if literal.kind not in (*_DATES, "text"):
        raise _type_error()
    if pa.types.is_date32(arrow):
        value = _timestamp(literal, 6, False, local_is_utc)
        if value % _DAY_US:
            raise NotExact(ErrorCode.SCALE)
        return value // _DAY_US
    return _timestamp(literal, _digits(arrow), column.form == Form.ZONED, local_is_utc)


def _timestamp(literal: Literal, digits: int, zoned: bool, local_is_utc: bool) -> int:
    part = literal.parts[0]
    match = _TIMESTAMP.fullmatch(part.text.strip(b" "))
    assert match is not None
    time = b"00:00:00" if match["behind"] is None else match["time"].removesuffix(b".")
    zone, date = match["zone"] or b"", _DATE.fullmatch(match["date"])
    is_utc, is_offset = zone.lower() in (b"utc", b"gmt", b"z"), _OFFSET.fullmatch(zone) is not None
    known = not zone or is_utc or is_offset or zone[:1].isalpha()
    if (part.format is not None and not _FORMAT.fullmatch(part.format)) or not known:
        raise _type_error()
    if date is None or len(time) > _TIME_BYTES_MAX:
        raise _type_error()
    text = _iso_date(date) + b"T" + time
    fault = None
    try:
        value = clock.from_text(Encoding.ISO_TIMESTAMP, text, digits)
    except NotExact as error:
        if error.code == ErrorCode.TYPE:
            raise
        fault, value = error, 0
    is_utc = is_utc or (not zone and literal.kind == "to_timestamp_itz" and local_is_utc)
    if zone and not is_utc and not is_offset:
        raise _Zone
    if (not zone and not is_utc) if zoned else (zone or literal.kind == "to_timestamp_tz"):
        raise _Zone
    if int(date["year"]) == 0:
        raise NotExact(ErrorCode.RANGE)
    if zoned and is_offset:
        return clock.from_text(Encoding.ZONED_TIMESTAMP, text + zone, digits)
    if fault is not None:
        raise fault
    return value


def _iso_date(date: re.Match[bytes]) -> bytes:
    """The same date with a year 0 before the year 1."""
    year, negative = int(date["year"]), date["sign"] == b"-"
    return b"%s%04d%s" % (b"-" if negative else b"", year - (negative and year > 0), date["rest"])


# ---- intervals ----


def _interval(part: Part) -> tuple[bool, int]:
    """(whether it is months, their count or that of nanoseconds)."""
    is_months = part.kind == "to_yminterval" or (part.kind == "text" and part.text != b"" and b":" not in part.text)
    match = (_MONTHS if is_months else _DAYS).fullmatch(part.text)
    if match is None:
        raise _type_error()
    sign = -1 if match[1] == b"-" else 1
    if is_months:
        if int(match[3]) > 11:
            raise NotExact(ErrorCode.RANGE)
        return True, sign * (int(match[2]) * 12 + int(match[3]))
    hours, minutes, seconds = int(match[3]), int(match[4]), int(match[5])
    if hours > 23 or minutes > 59 or seconds > 59:
        raise NotExact(ErrorCode.RANGE)
    whole = ((int(match[2]) * 24 + hours) * 60 + minutes) * 60 + seconds
    return False, sign * (whole * 10**9 + int((match[6] or b"").ljust(9, b"0")))


def _interval_us(is_months: bool, size: int) -> int:
    if is_months:
        value = size * _MONTH_US
    elif size % 1000:
        raise NotExact(ErrorCode.SCALE)
    else:
        value = size // 1000
    if not -(2**63) <= value < 2**63:
        raise NotExact(ErrorCode.RANGE)
    return value


def _interval_text(is_months: bool, size: int) -> bytes:
    """ISO 8601, each part with the sign, parts of 0 left out."""
    sign, size = "-" if size < 0 else "", abs(size)

    def parts(pairs: list[tuple[int, str]]) -> str:
        return "".join(f"{sign}{number}{unit}" for number, unit in pairs if number)

    if is_months:
        date, time = parts([(size // 12, "Y"), (size % 12, "M")]), ""
    else:
        seconds, nanoseconds = divmod(size, 10**9)
        date = parts([(seconds // 86400, "D")])
        time = parts([(seconds // 3600 % 24, "H"), (seconds // 60 % 60, "M")])
        fraction = f".{nanoseconds:09d}".rstrip("0") if nanoseconds else ""
        if seconds % 60 or nanoseconds:
            time += f"{sign}{seconds % 60}{fraction}S"
    text = f"P{date}T{time}" if time else f"P{date}"
    return (text if len(text) > 1 else "PT0S").encode()
