"""Dates and times between the wire's integers, ISO text and a column's unit: proleptic Gregorian days by counting, no
leap seconds, no zones but a written offset. Part of the reference of libcore.decode."""

from __future__ import annotations

import re

from libcore.decode_types import Encoding, ErrorCode
from libcore.reference.decimal import NotExact

INFINITY_US, MINUS_INFINITY_US = 2**63 - 1, -(2**63)
PGJDBC_INFINITY, PGJDBC_MINUS_INFINITY = 9223372036825200000, -9223372036832400000
"""What pgjdbc gives for infinity (org.postgresql.PGStatement), in milliseconds, and Debezium passes on: until 2026 as
microseconds, and then a thousandth of it where a column counts milliseconds."""
DAYS_INFINITY, DAYS_MINUS_INFINITY = 2**31 - 1, -(2**31)
_DEBEZIUM_DAYS = {-2147472692: DAYS_INFINITY, 2146033979: DAYS_INFINITY, -2147472691: DAYS_MINUS_INFINITY}
"""Debezium's infinite dates: 32 bits of days since 2000, counted from 1970; since 2026 +5877611-06-21 for infinity."""
_INFINITE_US = {
    scale * sentinel: infinity
    for scale in (1, 1000)
    for sentinel, infinity in ((PGJDBC_INFINITY, INFINITY_US), (PGJDBC_MINUS_INFINITY, MINUS_INFINITY_US))
}

_DAY_SECONDS = 86_400
_ERA_DAYS = 146_097  # of 400 years
_EPOCH_DAYS = 719_528  # from 0000-01-01 to 1970-01-01
_WIRE_DIGITS = {
    Encoding.TIME_MS: 3, Encoding.TIME_US: 6, Encoding.TIME_NS: 9,
    Encoding.TIMESTAMP_MS: 3, Encoding.TIMESTAMP_US: 6, Encoding.TIMESTAMP_NS: 9,
}  # fmt: skip
_DATE = rb"(?P<sign>[+-]?)(?P<year>[0-9]{4,9})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?"
_OFFSET = rb"(?:Z|(?P<east>[+-])(?P<hours>[0-9]{2}):(?P<minutes>[0-9]{2}))"
_INFINITE = (Encoding.ZONED_TIMESTAMP, Encoding.ISO_TIMESTAMP, Encoding.NAMED_TIMESTAMP)
_ISO = {
    Encoding.ZONED_TIMESTAMP: re.compile(_DATE + rb"T" + _TIME + _OFFSET),
    Encoding.NAMED_TIMESTAMP: re.compile(_DATE + rb"T" + _TIME + _OFFSET + rb"(?: .*)?", re.S),
    Encoding.ISO_DATE: re.compile(_DATE.replace(b"9}", b"7}") + rb"Z?"),
    Encoding.ISO_TIME: re.compile(_TIME + rb"Z?"),
    Encoding.ISO_TIMESTAMP: re.compile(_DATE + rb"T" + _TIME + rb"Z?"),
}
TEXTS = frozenset(_ISO)
"""Encodings that come as ISO text."""


def from_integer(encoding: Encoding, value: int, digits: int) -> int:
    """A TIME_* or TIMESTAMP_* integer in units of 10^-digits (6 or 9) seconds. Raises NotExact."""
    wire_digits = _WIRE_DIGITS[encoding]
    if encoding in (Encoding.TIME_MS, Encoding.TIME_US, Encoding.TIME_NS):
        if not 0 <= value <= _DAY_SECONDS * 10**wire_digits:
            raise NotExact(ErrorCode.RANGE)
    elif digits == 6:
        if encoding == Encoding.TIMESTAMP_NS and value in (INFINITY_US, MINUS_INFINITY_US):
            return value
        if encoding != Encoding.TIMESTAMP_NS and (us := value * 10 ** (6 - wire_digits)) in _INFINITE_US:
            return _INFINITE_US[us]
    if wire_digits > digits:
        if value % 10 ** (wire_digits - digits):
            raise NotExact(ErrorCode.SCALE)
        return value // 10 ** (wire_digits - digits)
    return _in_int64(value * 10 ** (digits - wire_digits))


def from_text(encoding: Encoding, text: bytes, digits: int) -> int:
    """ISO text: days for ISO_DATE, else units of 10^-digits seconds. Raises NotExact: TYPE, then RANGE, then SCALE."""
    if encoding in _INFINITE and digits == 6:
        word = text.partition(b" ")[0] if encoding == Encoding.NAMED_TIMESTAMP else text
        if word == b"infinity":
            return INFINITY_US
        if word == b"-infinity":
            return MINUS_INFINITY_US
    match = _ISO[encoding].fullmatch(text)
    if match is None:
        raise NotExact(ErrorCode.TYPE)
    parts = match.groupdict()
    days = _days(parts) if "year" in parts else 0
    if "hour" not in parts:
        if not DAYS_MINUS_INFINITY <= days <= DAYS_INFINITY:
            raise NotExact(ErrorCode.RANGE)
        return from_days(days)
    seconds, fraction = _clock(parts, may_be_24="year" not in parts)
    offset = _offset(parts)
    units, lost = _fraction_units(fraction, digits)
    if lost:
        raise NotExact(ErrorCode.SCALE)
    value = (days * _DAY_SECONDS + seconds - offset) * 10**digits + units
    return _in_int64(_INFINITE_US.get(value, value) if digits == 6 else value)


def from_days(days: int) -> int:
    """Days since 1970 as a column has them: those that stand for an infinite date become the end values."""
    return _DEBEZIUM_DAYS.get(days, days)


def _in_int64(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise NotExact(ErrorCode.RANGE)
    return value


def _days(parts: dict[str, bytes]) -> int:
    year, month, day = int(parts["year"]), int(parts["month"]), int(parts["day"])
    year = -year if parts["sign"] == b"-" else year
    if not (1 <= month <= 12 and 1 <= day <= _month_days(year, month)):
        raise NotExact(ErrorCode.RANGE)
    era, year_of_era = divmod(year, 400)
    days = era * _ERA_DAYS + sum(366 if _is_leap(y) else 365 for y in range(year_of_era))
    days += sum(_month_days(year, m) for m in range(1, month)) + day - 1
    return days - _EPOCH_DAYS


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _month_days(year: int, month: int) -> int:
    if month == 2:
        return 29 if _is_leap(year) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def _clock(parts: dict[str, bytes], may_be_24: bool) -> tuple[int, bytes]:
    """(seconds of the day, fraction digits)."""
    hour, minute, second = int(parts["hour"]), int(parts["minute"]), int(parts["second"])
    fraction = parts["fraction"] or b""
    midnight = may_be_24 and (hour, minute, second) == (24, 0, 0) and not fraction.strip(b"0")
    if (hour > 23 and not midnight) or minute > 59 or second > 59:
        raise NotExact(ErrorCode.RANGE)
    return hour * 3600 + minute * 60 + second, fraction


def _offset(parts: dict[str, bytes]) -> int:
    """Seconds east of UTC."""
    if parts.get("east") is None:
        return 0
    hours, minutes = int(parts["hours"]), int(parts["minutes"])
    if hours > 23 or minutes > 59:
        raise NotExact(ErrorCode.RANGE)
    return (hours * 3600 + minutes * 60) * (-1 if parts["east"] == b"-" else 1)


def _fraction_units(fraction: bytes, digits: int) -> tuple[int, bool]:
    """A fraction in units of 10^-digits, and whether digits other than 0 were left over."""
    return int(fraction[:digits].ljust(digits, b"0")), bool(fraction[digits:].strip(b"0"))


def date_text(days: int) -> str:
    """ISO text of a date: 2024-02-29; years of four digits or more, before the year 0 with a '-'; or an infinity."""
    if days in (DAYS_INFINITY, DAYS_MINUS_INFINITY):
        return "infinity" if days > 0 else "-infinity"
    era, rest = divmod(days + _EPOCH_DAYS, _ERA_DAYS)
    year = era * 400
    while rest >= (366 if _is_leap(year) else 365):
        rest -= 366 if _is_leap(year) else 365
        year += 1
    month = 1
    while rest >= _month_days(year, month):
        rest -= _month_days(year, month)
        month += 1
    return f"{'-' if year < 0 else ''}{abs(year):04d}-{month:02d}-{rest + 1:02d}"


def time_text(value: int, digits: int) -> str:
    """ISO text of a time of the day in units of 10^-digits seconds; the fraction has all digits or is left out."""
    seconds, fraction = divmod(value, 10**digits)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:0{digits}d}" if fraction else text


def timestamp_text(value: int, digits: int) -> str:
    """ISO text of a timestamp in units of 10^-digits seconds, without a zone; infinity as PostgreSQL writes it."""
    if digits == 6 and value == INFINITY_US:
        return "infinity"
    if digits == 6 and value == MINUS_INFINITY_US:
        return "-infinity"
    days, rest = divmod(value, _DAY_SECONDS * 10**digits)
    return f"{date_text(days)}T{time_text(rest, digits)}"
