"""One cell of a SAP row as one plain value: the kinds of include/libcore/sapfmt.h, one function each."""

from __future__ import annotations

import base64
import binascii
import datetime
import math
import re
from typing import Any

from libcore.decode_types import ErrorCode
from libcore.reference import decimal
from libcore.sapfmt_types import Kind, SapCode, SapField

_PLAIN = re.compile(rb"[0-9]+\.?[0-9]*|\.[0-9]+")
_FLOAT = re.compile(rb"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_STAMP = re.compile(rb" *([0-9]{1,14})(?:\.([0-9]+))?")
_ODATA_DATE = re.compile(rb"/Date\((-?[0-9]+)([+-][0-9]+)?\)/")
_ODATA_TIME = re.compile(rb"PT(?=.)(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)(?:\.([0-9]+))?S)?", re.S)
_LIMITS = {Kind.INT1: (0, 255), Kind.INT2: (-(2**15), 2**15 - 1), Kind.INT4: (-(2**31), 2**31 - 1),
           Kind.INT8: (-(2**63), 2**63 - 1)}  # fmt: skip
_BITS = {"int16": 16, "int32": 32, "int64": 64}
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_CODES = {ErrorCode.SCALE: SapCode.SCALE, ErrorCode.RANGE: SapCode.RANGE, ErrorCode.TYPE: SapCode.TYPE}
_HUGE = 2**256  # what C computes magnitudes in


class Bad(Exception):
    """A cell that is not of its kind's form, or does not fit the column."""

    def __init__(self, code: SapCode) -> None:
        self.code = code
        super().__init__(code.name)


def read_value(field: SapField, cell: bytes) -> Any:
    """The plain value (libcore.reference.values) of a cell; None for NULL. Raises Bad."""
    if field.kind == Kind.PACKED:
        return _packed(field, cell)
    cell = cell.rstrip(b" ")
    return _READERS[field.kind](field, cell)


def _char(field: SapField, cell: bytes) -> bytes | None:
    return None if field.initial_null and not cell else cell


def _numc(field: SapField, cell: bytes) -> bytes | int | None:
    if field.initial_null and not cell.strip(b"0"):
        return None
    if cell and re.fullmatch(rb"[0-9]+", cell) is None:
        raise Bad(SapCode.TYPE)
    if field.type.name not in _BITS:
        return cell
    return _within(_integer(cell), field) if cell else None


def _integer(digits: bytes) -> int:
    """The integer of digits, or one that fits nowhere where there are too many."""
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) < 100 else 10**100


def _within(value: int, field: SapField) -> int:
    bits = _BITS[field.type.name]
    low, high = _LIMITS.get(field.kind, (-(2**63), 2**63 - 1))
    if not max(low, -(2 ** (bits - 1))) <= value <= min(high, 2 ** (bits - 1) - 1):
        raise Bad(SapCode.RANGE)
    return value


def _days(digits: str) -> int:
    try:
        return datetime.date(int(digits[:4]), int(digits[4:6]), int(digits[6:])).toordinal() - _EPOCH
    except ValueError as error:
        raise Bad(SapCode.INVALID_DATS) from error


def _seconds(digits: str) -> int:
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if hours > 23 or minutes > 59 or seconds > 59:
        raise Bad(SapCode.INVALID_TIMS)
    return hours * 3600 + minutes * 60 + seconds


def _dats(field: SapField, cell: bytes) -> int | None:
    if not cell or cell == b"00000000":
        return None
    if re.fullmatch(rb"[0-9]{8}", cell) is None:
        raise Bad(SapCode.INVALID_DATS)
    return _days(cell.decode())


def unit_digits(field: SapField) -> int:
    """Fraction digits of the column's unit: 6 or 9."""
    data_type = field.type.arrow
    return 9 if data_type.unit == "ns" else 6


def _tims(field: SapField, cell: bytes) -> int | None:
    if not cell:
        return None
    if re.fullmatch(rb"[0-9]{6}", cell) is None:
        raise Bad(SapCode.INVALID_TIMS)
    seconds = _seconds(cell.decode())
    return None if field.initial_null and seconds == 0 else int(seconds * 10 ** unit_digits(field))


def _fraction(digits: bytes | None, field: SapField) -> tuple[int, bool]:
    """Units of the column, and whether digits other than 0 are lost."""
    unit = unit_digits(field)
    text = (digits or b"").ljust(unit, b"0")
    return int(text[:unit]), bool(text[unit:].strip(b"0"))


def _timestamp(field: SapField, cell: bytes) -> int | None:
    if not cell:
        return None
    match = _STAMP.fullmatch(cell)
    if match is None:
        raise Bad(SapCode.TYPE)
    if not cell.strip(b" .0"):
        return None
    digits = match[1].decode().zfill(14)
    day, second = _days(digits[:8]), _seconds(digits[8:])
    fraction, lost = _fraction(match[2], field)
    if lost:
        raise Bad(SapCode.SCALE)
    return _fits64((day * 86400 + second) * 10 ** unit_digits(field) + fraction)


def _fits64(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise Bad(SapCode.RANGE)
    return value


def _odata_date(field: SapField, cell: bytes) -> int | None:
    if not cell:
        return None
    match = _ODATA_DATE.fullmatch(cell)
    if match is None:
        raise Bad(SapCode.TYPE)
    negative = match[1].startswith(b"-")
    size = _integer(match[1].lstrip(b"-")) * 10 ** (unit_digits(field) - 3)
    return _fits64(-size if negative else size)


def _odata_time(field: SapField, cell: bytes) -> int | None:
    if not cell:
        return None
    match = _ODATA_TIME.fullmatch(cell)
    if match is None:
        raise Bad(SapCode.TYPE)
    seconds = sum(_integer(match[k] or b"0") * size for k, size in ((1, 3600), (2, 60), (3, 1)))
    if seconds >= 86400:
        raise Bad(SapCode.INVALID_TIMS)
    fraction, lost = _fraction(match[4], field)
    if lost:
        raise Bad(SapCode.SCALE)
    return int(seconds * 10 ** unit_digits(field) + fraction)


def _signed(cell: bytes) -> tuple[bool, bytes]:
    """Whether a number is below 0, and its text without blanks and sign. Raises Bad for two signs or a '*'."""
    text = cell.lstrip(b" ")
    before = text[:1] in (b"-", b"+") and text[:1]
    text = text[1:] if before else text
    after = text[-1:] in (b"-", b"+") and text[-1:]
    text = text[:-1] if after else text
    if b"*" in cell:
        raise Bad(SapCode.OVERFLOWED_NUMBER)
    if before and after:
        raise Bad(SapCode.TYPE)
    return b"-" in (before, after), text


def _number(field: SapField, cell: bytes) -> int | bytes | None:
    if not cell:
        return None
    negative, text = _signed(cell)
    if _PLAIN.fullmatch(text) is None:
        raise Bad(SapCode.TYPE)
    if not text.strip(b"0.") and field.initial_null:
        return None
    signed = b"-" + text if negative else text
    try:
        if field.type.name == "numeric":
            return decimal.numeric_from_text(signed)
        return decimal.unscaled_from_text(signed, field.type.precision, field.type.scale)
    except decimal.NotExact as error:
        raise Bad(_CODES[error.code]) from error


def _fltp(field: SapField, cell: bytes) -> float | None:
    if not cell:
        return None
    negative, text = _signed(cell)
    if _FLOAT.fullmatch(text) is None:
        raise Bad(SapCode.TYPE)
    value = float(text)
    if math.isinf(value):
        raise Bad(SapCode.RANGE)
    if value == 0.0 and field.initial_null:
        return None
    return -value if negative else value


def _int(field: SapField, cell: bytes) -> int | None:
    if not cell:
        return None
    negative, text = _signed(cell)
    if re.fullmatch(rb"[0-9]+", text) is None:
        raise Bad(SapCode.TYPE)
    value = _within(-_integer(text) if negative else _integer(text), field)
    return None if value == 0 and field.initial_null else value


def _raw(field: SapField, cell: bytes) -> bytes | None:
    if not cell:
        return None
    if len(cell) % 2 or re.fullmatch(rb"[0-9A-Fa-f]+", cell) is None:
        raise Bad(SapCode.TYPE)
    value = bytes.fromhex(cell.decode())
    return None if field.initial_null and not any(value) else value


def _bool(field: SapField, cell: bytes) -> bool | None:
    if cell not in (b"", b"X", b"-"):
        raise Bad(SapCode.TYPE)
    return None if cell == b"-" else cell == b"X"


def _packed(field: SapField, cell: bytes) -> int | None:
    digits = cell.hex()
    if not cell or (field.length and len(cell) != field.length) or digits[-1] not in "cdf":
        raise Bad(SapCode.TYPE)
    if not digits[:-1].isdecimal():
        raise Bad(SapCode.TYPE)
    size = _integer(digits[:-1].encode())
    if size >= _HUGE:
        raise Bad(SapCode.RANGE)
    by = field.type.scale - field.decimals
    size, rest = (size * 10**by, 0) if by >= 0 else divmod(size, 10**-by)
    if rest:
        raise Bad(SapCode.SCALE)
    if size >= 10**field.type.precision:
        raise Bad(SapCode.RANGE)
    if size == 0 and field.initial_null:
        return None
    return -size if digits[-1] == "d" else size


def _alpha_in(field: SapField, cell: bytes) -> bytes | None:
    if field.initial_null and not cell:
        return None
    text = cell.lstrip(b" ")
    return text.rjust(field.length, b"0") if re.fullmatch(rb"[0-9]+", text) else text


def _alpha_out(field: SapField, cell: bytes) -> bytes | None:
    if field.initial_null and not cell:
        return None
    return (cell.lstrip(b"0") or b"0") if re.fullmatch(rb"[0-9]+", cell) else cell


def _base64(field: SapField, cell: bytes) -> bytes | None:
    if not cell:
        return None
    try:
        data = base64.b64decode(cell, validate=True)
    except binascii.Error as error:
        raise Bad(SapCode.TYPE) from error
    if base64.b64encode(data) != cell:  # bits that no encoder writes
        raise Bad(SapCode.TYPE)
    return data


_READERS = {
    Kind.CHAR: _char, Kind.NUMC: _numc, Kind.DATS: _dats, Kind.TIMS: _tims, Kind.NUMBER: _number, Kind.FLTP: _fltp,
    Kind.INT1: _int, Kind.INT2: _int, Kind.INT4: _int, Kind.INT8: _int, Kind.RAW: _raw, Kind.BOOL: _bool,
    Kind.TIMESTAMP: _timestamp, Kind.ALPHA_IN: _alpha_in, Kind.ALPHA_OUT: _alpha_out, Kind.ODATA_DATE: _odata_date,
    Kind.ODATA_TIME: _odata_time, Kind.BASE64: _base64,
}  # fmt: skip
