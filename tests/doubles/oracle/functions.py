"""Oracle's SQL functions, as far as a connector calls them, for SQLite; values as types.py keeps them."""

from __future__ import annotations

import re
import sqlite3
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

_TIME = re.compile(r"(-?)(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d))?(?:\.(\d+))?(?: ([+-]\d\d):(\d\d))?")
_PART = re.compile(
    r'"[^"]*"|SYYYY|YYYY|MM|DD|HH24|MI|SSSSS|SS|FF\d?|TZH|TZM|TZR|[^A-Z"]+', re.IGNORECASE
)  # the parts of a format


def to_char(value: object, form: str | None = None, nls: str | None = None) -> str | None:
    """TO_CHAR of a number (format TM9, or none), a time (with a format), an interval or a text."""
    if value is None:
        return None
    if isinstance(value, float) and not (form or "").upper().startswith("TM"):
        return f"{value:.16E}"
    if isinstance(value, int | float) or form is None or form.upper().startswith("TM"):
        text = str(value)
        return text.replace("0.", ".", 1) if re.match(r"-?0\.", text) else text
    found = _TIME.fullmatch(str(value))
    if found is None:
        raise ValueError(f"ORA-01481: invalid number format model {form!r}")
    return _time(found, form)


def _time(found: re.Match[str], form: str) -> str:
    sign, year, month, day, hour, minute, second, fraction, zone_hour, zone_minute = found.groups()
    whole = {
        "YYYY": f"{int(year):04d}",
        "SYYYY": f"{'-' if sign else ' '}{int(year):04d}",
        "MM": month,
        "DD": day,
        "HH24": hour or "00",
        "MI": minute or "00",
        "SS": second or "00",
        "TZH": zone_hour or "+00",
        "TZM": zone_minute or "00",
        "TZR": f"{zone_hour or '+00'}:{zone_minute or '00'}",
    }
    pieces = []
    for part in _PART.findall(form):
        upper = part.upper()
        if upper.startswith("FF") and fraction is None:
            raise ValueError("ORA-01821: date format not recognized: a DATE has no fraction")
        if upper.startswith("FF"):
            pieces.append(f"{fraction or '':0<9}"[: int(upper[2:] or 6)])
        else:
            pieces.append(part.strip('"') if part.startswith('"') else whole.get(upper, part))
    return "".join(pieces)


def _hex(value: bytes | None) -> str | None:
    return None if value is None else bytes(value).hex().upper()


def _from_hex(value: str | None) -> bytes | None:
    return None if value is None else bytes.fromhex(value)


def _number(value: object, *_: object) -> int | str | None:
    if value is None:
        return None
    number = Decimal(str(value))
    return int(number) if number == int(number) and abs(number) < 1 << 62 else str(number)


def _time_text(value: str | None, form: str | None = None, nls: str | None = None) -> str | None:
    """TO_DATE and TO_TIMESTAMP of a text in ISO order."""
    if value is None:
        return None
    found = _TIME.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"ORA-01861: literal does not match format string {form!r}: {value!r}")
    fraction = f".{found[8]:0<9}" if found[8] else ""
    text = f"{found[1]}{found[2]}-{found[3]}-{found[4]} {found[5] or '00'}:{found[6] or '00'}:{found[7] or '00'}"
    return text + fraction + (f" {found[9]}:{found[10]}" if found[9] else "")


def _timestamp(value: str | None, form: str | None = None, nls: str | None = None) -> str | None:
    text = _time_text(value, form, nls)
    if text is None or "." in text:
        return text
    whole, zone = text[:19], text[19:]
    return f"{whole}.000000000{zone}"


def _in_utc(value: str | None) -> str | None:
    """A time with its offset, without it; years before 1 are left to Oracle."""
    if value is None:
        return None
    whole, fraction, sign, hours, minutes = value[:19], value[19:29], value[30], value[31:33], value[34:36]
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    return f"{datetime.fromisoformat(whole) - offset}{fraction}"


def _decode(*arguments: Any) -> Any:
    value, pairs = arguments[0], arguments[1:]
    for place in range(0, len(pairs) - 1, 2):
        if pairs[place] == value:
            return pairs[place + 1]
    return pairs[-1] if len(pairs) % 2 else None


def register(connection: sqlite3.Connection) -> None:
    """Make them known to a connection."""
    pure = {"deterministic": True}
    for count in (1, 2, 3):
        connection.create_function("TO_CHAR", count, to_char, **pure)
        connection.create_function("TO_DATE", count, _time_text, **pure)
        connection.create_function("TO_TIMESTAMP", count, _timestamp, **pure)
        connection.create_function("TO_TIMESTAMP_TZ", count, _timestamp, **pure)
        connection.create_function("TO_NUMBER", count, _number, **pure)
    connection.create_function("RAWTOHEX", 1, _hex, **pure)
    connection.create_function("HEXTORAW", 1, _from_hex, **pure)
    connection.create_function("ROWIDTOCHAR", 1, lambda value: value, **pure)
    connection.create_function("CHARTOROWID", 1, lambda value: value, **pure)
    connection.create_function("TO_CLOB", 1, lambda value: value, **pure)
    connection.create_function("SYS_EXTRACT_UTC", 1, _in_utc, **pure)
    connection.create_function("NVL", 2, lambda one, other: other if one is None else one, **pure)
    connection.create_function("NVL2", 3, lambda one, there, none: none if one is None else there, **pure)
    connection.create_function("GREATEST", -1, lambda *all: None if None in all else max(all), **pure)
    connection.create_function("LEAST", -1, lambda *all: None if None in all else min(all), **pure)
    connection.create_function("DECODE", -1, _decode, **pure)
    connection.create_function("LENGTHB", 1, lambda v: None if v is None else len(str(v).encode()), **pure)
    connection.create_function("CONCAT", 2, lambda one, other: f"{one or ''}{other or ''}" or None, **pure)
