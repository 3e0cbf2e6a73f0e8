"""One PostgreSQL value, in its text or its binary form, to the value of one cell; part of the reference of
libcore.pgoutput."""

from __future__ import annotations

import ctypes
import math
import re
import struct
from typing import Any

from libcore.decode_types import Encoding, ErrorCode
from libcore.pgoutput_types import Kind
from libcore.reference import clock, decimal
from libcore.reference.decimal import NotExact
from libcore.reference.values import single_of_text
from libcore.schema import ColumnType

_EPOCH_DAYS, _EPOCH_US, _DAY_US = 10957, 946684800000000, 86400000000
_BITS = {"int16": 16, "int32": 32, "int64": 64, "interval_us": 64}
_FLOAT = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?")
_FLOAT_WORDS = {b"NaN": math.nan, b"Infinity": math.inf, b"-Infinity": -math.inf}
_DATE = rb"(?P<year>[0-9]{4,7})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_TIME = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,6}))?"
_OFFSET = rb"(?P<side>[+-])(?P<hours>[0-9]{2})(?::(?P<minutes>[0-9]{2})(?::(?P<seconds>[0-9]{2}))?)?"
_TEXTS = {
    Kind.DATE: re.compile(_DATE + rb"(?P<bc> BC)?"),
    Kind.TIME: re.compile(_TIME),
    Kind.TIMESTAMP: re.compile(_DATE + rb" " + _TIME + rb"(?P<bc> BC)?"),
    Kind.TIMESTAMPTZ: re.compile(_DATE + rb" " + _TIME + _OFFSET + rb"(?P<bc> BC)?"),
}
_INFINITE = {Kind.DATE: 2**31, Kind.TIMESTAMP: 2**63, Kind.TIMESTAMPTZ: 2**63}
_ESCAPE = re.compile(rb"\\(\\|[0-3][0-7][0-7])|([^\\])", re.S)
_NUMERIC_WORDS = {0xC000: b"NaN", 0xD000: b"Infinity", 0xF000: b"-Infinity"}


def _require(holds: bool, code: ErrorCode = ErrorCode.TYPE) -> None:
    if not holds:
        raise NotExact(code)


def from_text(kind: Kind, column: ColumnType, text: bytes) -> Any:
    """The cell of a text. Raises NotExact."""
    if kind == Kind.BOOL:
        _require(text in (b"t", b"f"))
        return text == b"t"
    if kind in (Kind.INT, Kind.OID):
        _require(re.fullmatch(rb"-?[0-9]+", text) is not None)
        _require(len(text.lstrip(b"-")) <= 19, ErrorCode.RANGE)
        return _integer(int(text), column)
    if kind == Kind.FLOAT:
        return _float_text(text, column)
    if kind == Kind.NUMERIC:
        return _numeric(text, column)
    if kind == Kind.BYTEA:
        return _bytea(text)
    if kind in _TEXTS:
        return _moment(kind, text)
    return _utf8(text)


def from_binary(kind: Kind, column: ColumnType, data: bytes) -> Any:
    """The cell of a binary form. Raises NotExact."""
    reader = _BINARY.get(kind)
    _require(reader is not None)
    assert reader is not None
    return reader(data, column)


def _integer(value: int, column: ColumnType) -> int:
    half = 1 << (_BITS[column.name] - 1)
    _require(-half <= value < half, ErrorCode.RANGE)
    return value


def _float_text(text: bytes, column: ColumnType) -> float:
    if text in _FLOAT_WORDS:
        return _FLOAT_WORDS[text]
    _require(_FLOAT.fullmatch(text) is not None)
    value = single_of_text(text) if column.name == "float32" else float(text)
    _require(not math.isinf(value), ErrorCode.RANGE)
    return value


def _float(value: float, column: ColumnType) -> float:
    if column.name != "float32":
        return value
    single = ctypes.c_float(value).value
    _require(not math.isinf(single) or math.isinf(value), ErrorCode.RANGE)
    return single


def _numeric(text: bytes, column: ColumnType) -> Any:
    if column.name == "decimal":
        return decimal.unscaled_from_text(text, column.precision, column.scale)
    return decimal.numeric_from_text(text)


def _bytea(text: bytes) -> bytes:
    if text.startswith(b"\\x"):
        _require(re.fullmatch(rb"(?:[0-9a-fA-F]{2})*", text[2:]) is not None)
        return bytes.fromhex(text[2:].decode())
    _require(re.fullmatch(rb"(?:" + _ESCAPE.pattern + rb")*", text, re.S) is not None)
    return b"".join(_byte(match) for match in _ESCAPE.finditer(text))


def _byte(match: re.Match[bytes]) -> bytes:
    if match[2] is not None:
        return match[2]
    return b"\\" if match[1] == b"\\" else bytes([int(match[1], 8)])


def _utf8(text: bytes) -> bytes:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotExact(ErrorCode.UTF8) from error
    return text


def _moment(kind: Kind, text: bytes) -> int:
    """Days, or microseconds."""
    if kind in _INFINITE and text in (b"infinity", b"-infinity"):
        return -_INFINITE[kind] if text[:1] == b"-" else _INFINITE[kind] - 1
    match = _TEXTS[kind].fullmatch(text)
    _require(match is not None)
    assert match is not None
    parts = match.groupdict()
    value = 0
    if kind != Kind.TIME:
        value = _days(parts)
        if kind == Kind.DATE:
            _require(-(2**31) < value < 2**31 - 1, ErrorCode.RANGE)
            return value
    value = value * _DAY_US + _clock(parts, may_be_24=kind == Kind.TIME) - _east_us(parts)
    _require(-(2**63) < value < 2**63 - 1, ErrorCode.RANGE)
    return value


def _days(parts: dict[str, bytes]) -> int:
    year, month, day = int(parts["year"]), int(parts["month"]), int(parts["day"])
    _require(year > 0, ErrorCode.RANGE)
    cycles, rest = divmod(1 - year if parts["bc"] else year, 400)  # 400 years have always the same days
    iso = b"%04d-%02d-%02d" % (rest + 400, month, day)
    return clock.from_text(Encoding.ISO_DATE, iso, 6) + (cycles - 1) * 146097


def _clock(parts: dict[str, bytes], may_be_24: bool) -> int:
    hour, minute, second = int(parts["hour"]), int(parts["minute"]), int(parts["second"])
    fraction_us = int((parts["fraction"] or b"").ljust(6, b"0"))
    midnight = may_be_24 and (hour, minute, second, fraction_us) == (24, 0, 0, 0)
    _require((hour < 24 or midnight) and minute < 60 and second < 60, ErrorCode.RANGE)
    return (hour * 3600 + minute * 60 + second) * 1000000 + fraction_us


def _east_us(parts: dict[str, bytes]) -> int:
    if parts.get("side") is None:
        return 0
    hours, minutes, seconds = int(parts["hours"]), int(parts["minutes"] or 0), int(parts["seconds"] or 0)
    _require(hours < 24 and minutes < 60 and seconds < 60, ErrorCode.RANGE)
    return (hours * 3600 + minutes * 60 + seconds) * (-1000000 if parts["side"] == b"-" else 1000000)


# ---- binary forms ----


def _unpack(code: str, data: bytes) -> Any:
    _require(len(data) == struct.calcsize(code))
    return struct.unpack(code, data)[0]


def _bool_binary(data: bytes, column: ColumnType) -> bool:
    _require(data in (b"\0", b"\1"))
    return data == b"\1"


def _int_binary(data: bytes, column: ColumnType) -> int:
    _require(len(data) in (2, 4, 8))
    return _integer(int.from_bytes(data, "big", signed=True), column)


def _float_binary(data: bytes, column: ColumnType) -> float:
    value = _unpack(">f" if len(data) == 4 else ">d", data)
    return _float(math.nan if math.isnan(value) else value, column)


def _jsonb_binary(data: bytes, column: ColumnType) -> bytes:
    _require(data[:1] == b"\1")
    return _utf8(data[1:])


def _numeric_binary(data: bytes, column: ColumnType) -> Any:
    _require(len(data) >= 8)
    count, weight, sign, scale = struct.unpack(">HhHH", data[:8])
    _require(len(data) == 8 + 2 * count and scale <= 0x3FFF)
    if sign in _NUMERIC_WORDS and count == 0:
        return _numeric(_NUMERIC_WORDS[sign], column)
    _require(sign in (0, 0x4000))
    groups = struct.unpack(f">{count}H", data[8:])
    _require(all(group < 10000 for group in groups))
    whole = b"".join(b"%04d" % _group(groups, weight - place) for place in range(max(weight, 0), -1, -1))
    places = max((scale + 3) // 4, count - 1 - weight, 0)
    fraction = b"".join(b"%04d" % _group(groups, weight + place) for place in range(1, places + 1))
    _require(not fraction[scale:].strip(b"0"))
    text = whole + (b"." + fraction[:scale] if scale else b"")
    return _numeric((b"-" if sign else b"") + text, column)


def _group(groups: tuple[int, ...], index: int) -> int:
    return groups[index] if 0 <= index < len(groups) else 0


def _date_binary(data: bytes, column: ColumnType) -> int:
    days = _unpack(">i", data)
    if days in (-(2**31), 2**31 - 1):
        return days
    _require(days + _EPOCH_DAYS < 2**31 - 1, ErrorCode.RANGE)
    return days + _EPOCH_DAYS


def _time_binary(data: bytes, column: ColumnType) -> int:
    time_us = _unpack(">q", data)
    _require(0 <= time_us <= _DAY_US, ErrorCode.RANGE)
    return time_us


def _stamp_binary(data: bytes, column: ColumnType) -> int:
    stamp_us = _unpack(">q", data)
    if stamp_us in (-(2**63), 2**63 - 1):
        return stamp_us
    _require(stamp_us + _EPOCH_US < 2**63 - 1, ErrorCode.RANGE)
    return stamp_us + _EPOCH_US


def _uuid_binary(data: bytes, column: ColumnType) -> bytes:
    _require(len(data) == 16)
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()


def _seconds(time_us: int) -> str:
    second, fraction_us = divmod(time_us, 1000000)
    return f"{second:02d}.{fraction_us:06d}".rstrip("0") if fraction_us else f"{second:02d}"


def _interval_binary(data: bytes, column: ColumnType) -> bytes:
    """As PostgreSQL prints it with IntervalStyle postgres (EncodeInterval)."""
    _require(len(data) == 16)
    time_us, days, months = struct.unpack(">qii", data)
    if (time_us, days, months) == (2**63 - 1, 2**31 - 1, 2**31 - 1):
        return b"infinity"
    if (time_us, days, months) == (-(2**63), -(2**31), -(2**31)):
        return b"-infinity"
    words: list[str] = []
    negative = False
    year = abs(months) // 12 * (-1 if months < 0 else 1)
    for value, unit in ((year, "year"), (months - 12 * year, "mon"), (days, "day")):
        if value:
            plus = "+" if negative and value > 0 else ""
            words.append(f"{plus}{value} {unit}{'' if value == 1 else 's'}")
            negative = value < 0
    if time_us or not words:
        minutes, rest_us = divmod(abs(time_us), 60000000)
        sign = "-" if time_us < 0 else "+" if negative else ""
        words.append(f"{sign}{minutes // 60:02d}:{minutes % 60:02d}:{_seconds(rest_us)}")
    return " ".join(words).encode()


def _timetz_binary(data: bytes, column: ColumnType) -> bytes:
    _require(len(data) == 12)
    time_us, west_s = struct.unpack(">qi", data)
    _require(0 <= time_us <= _DAY_US and -86400 < west_s < 86400, ErrorCode.RANGE)
    minutes, rest_us = divmod(time_us, 60000000)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}:{_seconds(rest_us)}{'+' if west_s <= 0 else '-'}"
    hours, minute, second = abs(west_s) // 3600, abs(west_s) // 60 % 60, abs(west_s) % 60
    text += f"{hours:02d}" + (f":{minute:02d}" if minute or second else "") + (f":{second:02d}" if second else "")
    return text.encode()


def _bits_binary(data: bytes, column: ColumnType) -> bytes:
    _require(len(data) >= 4)
    count = int.from_bytes(data[:4], "big")
    _require((count + 7) // 8 == len(data) - 4)
    return "".join(f"{byte:08b}" for byte in data[4:])[:count].encode()


_BINARY = {
    Kind.BOOL: _bool_binary,
    Kind.INT: _int_binary,
    Kind.OID: lambda data, column: _unpack(">I", data),
    Kind.FLOAT: _float_binary,
    Kind.TEXT: lambda data, column: _utf8(data),
    Kind.JSONB: _jsonb_binary,
    Kind.NUMERIC: _numeric_binary,
    Kind.BYTEA: lambda data, column: data,
    Kind.DATE: _date_binary,
    Kind.TIME: _time_binary,
    Kind.TIMESTAMP: _stamp_binary,
    Kind.TIMESTAMPTZ: _stamp_binary,
    Kind.UUID: _uuid_binary,
    Kind.INTERVAL: _interval_binary,
    Kind.TIMETZ: _timetz_binary,
    Kind.BITS: _bits_binary,
}
