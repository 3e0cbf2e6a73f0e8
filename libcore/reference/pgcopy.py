"""PostgreSQL binary COPY of include/libcore/pgcopy.h in plain Python."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from libcore.pgcopy_types import HEADER, TRAILER, Encoded, Kind, Reason, errors_of, kinds
from libcore.reference.values import plain
from libcore.schema import ColumnType

_DAYS, _MICROSECONDS = 10957, 946684800000000  # from 1970 to 2000, where PostgreSQL's time begins
_DATE_RANGE = range(-2451545 + _DAYS, 2145031949 + _DAYS)
_STAMP_FIRST = -211813488000000000 + _MICROSECONDS
_DAY_US = 86400000000
_INT32, _INT64 = (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1)
_NUMBER = re.compile(rb"(-?)([0-9]+)(?:\.([0-9]+))?")
_SPECIAL = {b"NaN": 0xC000, b"Infinity": 0xD000, b"-Infinity": 0xF000}
_UUID = re.compile(rb"(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}")
_INTEGER_DIGITS_MAX, _SCALE_MAX = 131072, 0x3FFF


class _Refused(Exception):
    """A value that cannot go; carries the reason."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason


def _require(holds: bool, reason: Reason) -> None:
    if not holds:
        raise _Refused(reason)


def _date(day: int) -> bytes:
    if day in _INT32:
        return struct.pack(">i", day)
    _require(day in _DATE_RANGE, Reason.RANGE)
    return struct.pack(">i", day - _DAYS)


def _time(time_us: int) -> bytes:
    _require(0 <= time_us <= _DAY_US, Reason.RANGE)
    return struct.pack(">q", time_us)


def _stamp(stamp_us: int) -> bytes:
    _require(stamp_us >= _STAMP_FIRST, Reason.RANGE)
    return struct.pack(">q", stamp_us - _MICROSECONDS)


def _whole(value_ns: int) -> int:
    _require(value_ns % 1000 == 0, Reason.PRECISION)
    return value_ns // 1000


def _stamp_us(stamp_us: int) -> bytes:
    return struct.pack(">q", stamp_us) if stamp_us in _INT64 else _stamp(stamp_us)


def numeric(unscaled: int, scale: int) -> bytes:
    """numeric_recv's form of unscaled / 10**scale, without the length word."""
    rest = abs(unscaled) * 10 ** (-scale % 4)
    groups: list[int] = []
    weight = -((scale + 3) // 4) - 1
    while rest:
        rest, group = divmod(rest, 10000)
        weight += 1
        if groups or group:
            groups.append(group)
    if not groups:
        return struct.pack(">hhHH", 0, 0, 0, scale)
    sign = 0x4000 if unscaled < 0 else 0
    return struct.pack(f">HhHH{len(groups)}H", len(groups), weight, sign, scale, *reversed(groups))


def _numeric_text(text: bytes) -> bytes:
    if text in _SPECIAL:
        return struct.pack(">hhHH", 0, 0, _SPECIAL[text], 0)
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise _Refused(Reason.BAD_NUMBER)
    sign, integer, fraction = match[1], match[2].lstrip(b"0"), match[3] or b""
    _require(len(integer) <= _INTEGER_DIGITS_MAX and len(fraction) <= _SCALE_MAX, Reason.RANGE)
    # In pieces, because int() of a long text is refused by Python's own limit of 4300 digits.
    digits, unscaled = integer + fraction, 0
    for at in range(0, len(digits), 4000):
        piece = digits[at : at + 4000]
        unscaled = unscaled * 10 ** len(piece) + int(piece)
    return numeric(-unscaled if sign else unscaled, len(fraction))


def _uuid(text: bytes) -> bytes:
    inner = text[1:-1] if text[:1] == b"{" and text[-1:] == b"}" else text
    _require(_UUID.fullmatch(inner) is not None, Reason.BAD_UUID)
    return bytes.fromhex(inner.replace(b"-", b"").decode())


def _text(text: bytes) -> bytes:
    _require(0 not in text, Reason.NUL)
    return text


def _writer(kind: Kind, data_type: pa.DataType) -> Callable[[Any], bytes]:
    if kind == Kind.INT:
        code = {16: ">h", 32: ">i", 64: ">q"}[data_type.bit_width]
        return lambda value: struct.pack(code, value)
    if kind == Kind.FLOAT:
        code = {32: ">f", 64: ">d"}[data_type.bit_width]
        return lambda value: struct.pack(code, value)
    if kind == Kind.DECIMAL:
        return lambda value: numeric(value, data_type.scale)
    writers: dict[Kind, Callable[[Any], bytes]] = {
        Kind.BOOL: lambda value: b"\1" if value else b"\0",
        Kind.CHAR: lambda value: struct.pack("b", value),
        Kind.DATE: _date,
        Kind.TIME_US: _time,
        Kind.TIME_NS: lambda value: _time(_whole(value)),
        Kind.STAMP_US: _stamp_us,
        Kind.STAMP_NS: lambda value: _stamp(_whole(value)),
        Kind.NUMERIC: _numeric_text,
        Kind.UUID: _uuid,
        Kind.TEXT: _text,
        Kind.BYTES: bytes,
    }
    return writers[kind]


def encode(record: pa.RecordBatch, types: Sequence[ColumnType | None], framed: bool = True) -> Encoded:
    """See libcore.pgcopy.encode."""
    column_kinds = kinds(record.schema, tuple(types))
    writers = [_writer(kind, field.type) for kind, field in zip(column_kinds, record.schema, strict=True)]
    columns = [plain(record.column(index)) for index in range(record.num_columns)]
    out = bytearray(HEADER if framed else b"")
    found: list[tuple[int, int, int]] = []
    for row in range(record.num_rows):
        tuple_bytes = bytearray(struct.pack(">H", len(columns)))
        try:
            for index, column in enumerate(columns):
                tuple_bytes += _field(writers[index], column[row])
        except _Refused as refused:
            found.append((row, index, refused.reason))
        else:
            out += tuple_bytes
    if framed:
        out += TRAILER
    return Encoded(pa.py_buffer(bytes(out)), record.num_rows - len(found), errors_of(record, found))


def _field(writer: Callable[[Any], bytes], value: Any) -> bytes:
    if value is None:
        return b"\xff\xff\xff\xff"
    data = writer(value)
    return struct.pack(">I", len(data)) + data
