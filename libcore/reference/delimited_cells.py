"""Fields of text records to values, one at a time with Python's own numbers: part of the reference of delimited files,
fixed-width files and IDocs."""

from __future__ import annotations

import base64
import binascii
import math
import re
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from libcore.decode_types import Encoding
from libcore.delimited_types import Kind, LineCode, TextColumn, Trim, codec, encoded, rows_schema
from libcore.reference import clock
from libcore.reference.decimal import NotExact, decimal_array, numeric_from_text, unscaled_from_text
from libcore.reference.values import single_of_text

_BLANKS = b" \t"
_CONTROL = {ord(a): b for a, b in zip("bfnrtv0", b"\b\f\n\r\t\v\0", strict=True)}
_MONTHS = [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"]
_ISO = {Kind.DATE: Encoding.ISO_DATE, Kind.TIME: Encoding.ISO_TIME, Kind.TIMESTAMP: Encoding.ISO_TIMESTAMP,
        Kind.TIMESTAMPTZ: Encoding.ZONED_TIMESTAMP}  # fmt: skip
_TEXT_MAX = 63
_INTEGER_BITS = {"int16": 16, "int32": 32, "int64": 64, "interval_us": 64}


class Fault(Exception):
    """A record gives no row: why, and the byte of the record to blame."""

    def __init__(self, code: LineCode, position: int = 0, column: int = -1) -> None:
        self.code, self.position, self.column = code, position, column
        super().__init__(code.name)


@dataclass(frozen=True)
class Field:
    """A field's bytes as they stand in the record, and where they begin."""

    raw: bytes
    position: int
    quoted: bool = False
    escaped: bool = False


@dataclass(frozen=True)
class Escapes:
    """How escapes inside a field are resolved; bytes, b"" for none."""

    quote: bytes = b""
    escape: bytes = b""
    doubled: bool = False
    letters: bool = False
    quoted_nulls: bool = False


def unescape(escapes: Escapes, raw: bytes, quoted: bool) -> bytes:
    """A field's bytes without its escapes."""
    out, i = bytearray(), 0
    while i < len(raw):
        byte = raw[i : i + 1]
        i += 1
        if byte == escapes.escape and i < len(raw):
            out.append(_CONTROL.get(raw[i], raw[i]) if escapes.letters else raw[i])
            i += 1
            continue
        if quoted and escapes.doubled and byte == escapes.quote and raw[i : i + 1] == byte:
            i += 1
        out += byte
    return bytes(out)


class Cells:
    """Turns fields into the rows of one output.

    Args:
        columns: what is read.
        escapes: how escapes are resolved.
        points: a single-byte encoding's code points, None for UTF-8.
        encode: the words of a plan as the file writes them.
    """

    def __init__(
        self, columns: tuple[TextColumn, ...], escapes: Escapes, points: tuple[int, ...] | None, encoding: str
    ):
        self._columns, self._escapes, self._points = columns, escapes, points
        self._nulls = [set(encoded(text.null_words, encoding)) for text in columns]
        self._true = [{_fold(word) for word in encoded(text.true_words, encoding)} for text in columns]
        self._false = [{_fold(word) for word in encoded(text.false_words, encoding)} for text in columns]
        self._thousands = [text.thousands.encode(codec(encoding)) for text in columns]
        self._values: list[list[Any]] = [[] for _ in columns]
        self._lines: list[int] = []
        self._offsets: list[int] = []

    def take(self, fields: list[Field], line: int, offset: int) -> None:
        """Keep a row. Raises Fault for the first column that gives no value."""
        row = []
        for index, (text, field) in enumerate(zip(self._columns, fields, strict=True)):
            try:
                value = self._value(index, text, field)
            except NotExact as error:
                raise Fault(LineCode(int(error.code)), field.position, index) from None
            except Fault as fault:
                raise Fault(fault.code, field.position, index) from None
            if value is None and not text.column.nullable:
                raise Fault(LineCode.NULL, field.position, index)
            row.append(value)
        for values, value in zip(self._values, row, strict=True):
            values.append(value)
        self._lines.append(line)
        self._offsets.append(offset)

    @property
    def rows(self) -> int:
        """Rows kept."""
        return len(self._lines)

    def record(self) -> pa.RecordBatch:
        """The rows, by rows_schema."""
        schema = rows_schema(self._columns)
        arrays = [_array(values, field.type) for values, field in zip(self._values, schema, strict=False)]
        arrays += [pa.array(self._lines, pa.int64()), pa.array(self._offsets, pa.int64())]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _value(self, index: int, text: TextColumn, field: Field) -> Any:
        raw, is_text = field.raw, text.kind == Kind.TEXT
        if not field.quoted and (not is_text or text.trim == Trim.BOTH):
            raw = raw.strip(_BLANKS)
        if text.trim == Trim.RIGHT:
            raw = raw.rstrip(b" ")
        if raw in self._nulls[index] and (not field.quoted or self._escapes.quoted_nulls):
            return None
        data = unescape(self._escapes, raw, field.quoted) if field.escaped else raw
        if is_text:
            return self._text(data)
        data = data.strip(_BLANKS) if field.quoted else data
        if text.kind == Kind.BOOL:
            return _bool(self._true[index], self._false[index], data)
        if text.kind in (Kind.HEX, Kind.BASE64):
            return _bytes(text.kind, data)
        if not data:
            return None
        if text.kind in _ISO:
            return _clock(text, data)
        return _number(text, normalise(text, self._thousands[index], data))

    def _text(self, data: bytes) -> str:
        if self._points is None:
            try:
                return data.decode("utf-8")
            except UnicodeDecodeError:
                raise Fault(LineCode.UTF8) from None
        found = [self._points[byte] for byte in data]
        if 65535 in found:
            raise Fault(LineCode.UTF8)
        return "".join(map(chr, found))


def _array(values: list[Any], data_type: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(data_type):
        return decimal_array(values, data_type)
    if pa.types.is_date32(data_type):
        return pa.array(values, pa.int32()).view(data_type)
    if pa.types.is_time64(data_type) or pa.types.is_timestamp(data_type):
        return pa.array(values, pa.int64()).view(data_type)
    return pa.array(values, data_type)


def _fold(word: bytes) -> bytes:
    return word.lower()  # of bytes: ASCII letters alone


def _bool(true: set[bytes], false: set[bytes], data: bytes) -> bool | None:
    if _fold(data) in true:
        return True
    if _fold(data) in false:
        return False
    if data:
        raise Fault(LineCode.TYPE)
    return None


def _bytes(kind: Kind, data: bytes) -> bytes:
    try:
        if kind == Kind.BASE64:
            made = binascii.a2b_base64(data, strict_mode=True) if data else b""
            if base64.b64encode(made) != data:
                raise Fault(LineCode.TYPE)
            return made
        data = data.removeprefix(b"\\x")
        if not re.fullmatch(rb"[0-9a-fA-F]*", data):
            raise Fault(LineCode.TYPE)
        return binascii.unhexlify(data)
    except binascii.Error:
        raise Fault(LineCode.TYPE) from None


def normalise(text: TextColumn, thousands: bytes, data: bytes) -> bytes:
    """[-]digits[.digits][e...], [-]Infinity or NaN of a number as a column writes it. Raises Fault TYPE."""
    sign = b""
    if data[:1] in (b"-", b"+"):
        sign, data = data[:1], data[1:]
    elif text.trailing_sign and data[-1:] in (b"-", b"+"):
        sign, data = data[-1:], data[:-1]
    minus = b"-" if sign == b"-" else b""
    if data == b"Infinity" or (data == b"NaN" and not sign):
        if text.implied_decimals:
            raise Fault(LineCode.TYPE)
        return minus + data
    group = rb"|[0-9]{1,3}(?:%s[0-9]{3})+" % re.escape(thousands) if thousands else b""
    match = re.fullmatch(
        rb"((?:[0-9]+%s)?)(%s([0-9]*))?([eE][+-]?[0-9]+)?" % (group, re.escape(text.decimal.encode())), data
    )
    if match is None or not (match[1] or match[3]):
        raise Fault(LineCode.TYPE)
    whole = match[1].replace(thousands, b"") if thousands else match[1]
    fraction = b"." + match[3] if match[3] else b""
    exponent = b"e" + match[4][1:] if match[4] else b""
    if text.implied_decimals:
        if match[2] is not None or exponent:
            raise Fault(LineCode.TYPE)
        exponent = b"e-%02d" % text.implied_decimals
    return minus + (whole or b"0") + fraction + exponent


def _number(text: TextColumn, data: bytes) -> Any:
    kind, column_type = text.kind, text.column.type
    if kind == Kind.DECIMAL:
        return unscaled_from_text(data, column_type.precision, column_type.scale)
    if kind == Kind.NUMERIC:
        return numeric_from_text(data).decode()
    if kind == Kind.INT:
        value, bits = unscaled_from_text(data, 38, 0), _INTEGER_BITS[column_type.name]
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise Fault(LineCode.RANGE)
        return value
    number = float(data)
    endless = data.endswith(b"Infinity")
    if number in (float("inf"), float("-inf")) and not endless:
        raise Fault(LineCode.RANGE)
    if column_type.name == "float32" and math.isfinite(number):
        number = single_of_text(data)
        if math.isinf(number):
            raise Fault(LineCode.RANGE)
    return number


def _clock(text: TextColumn, data: bytes) -> int:
    if len(data) > _TEXT_MAX:
        raise Fault(LineCode.TYPE)
    if text.pattern is not None:
        data = _rewritten(text, data)
    elif text.kind in (Kind.TIMESTAMP, Kind.TIMESTAMPTZ):
        data = data.replace(b" ", b"T", 1)
    return clock.from_text(_ISO[text.kind], data, text.digits)


_TWO, _ONE_OR_TWO = rb"([0-9]{2})", rb"([0-9]{1,2})"


def _rewritten(text: TextColumn, data: bytes) -> bytes:
    """The ISO text of what the pattern finds. Raises Fault TYPE."""
    items, pattern, letters = text.items, b"", []
    for i in range(0, len(items), 2):
        if items[i] == 0:
            pattern += re.escape(items[i + 1 : i + 2])
            continue
        letter = items[i + 1 : i + 2].decode()
        following = items[i + 2 : i + 4]
        both = bool(following) and (following[:1] == b"%" or following[1:].isdigit())
        letters.append(letter)
        pattern += {
            "Y": rb"([0-9]{4})", "b": rb"([A-Za-z]{3})", "f": rb"([0-9]++)",
            "z": rb"(Z|[+-][0-9]{2}(?::?+[0-9]{2}|(?![0-9:])))"
        }.get(letter, _TWO if both else rb"([0-9]{1,2}+)")  # fmt: skip
    match = re.fullmatch(pattern, data, re.S)
    if match is None:
        raise Fault(LineCode.TYPE)
    found = dict(zip(letters, match.groups(), strict=True))
    if "b" in found:
        if found["b"].lower() not in _MONTHS:
            raise Fault(LineCode.TYPE)
        found["m"] = b"%02d" % (_MONTHS.index(found["b"].lower()) + 1)
    date = b"-".join([found.get("Y", b""), *(found.get(part, b"").rjust(2, b"0") for part in "md")])
    time = b":".join(found.get(part, b"").rjust(2, b"0") for part in "HMS")
    time += b"." + found["f"] if "f" in found else b""
    if text.kind == Kind.DATE:
        return date
    if text.kind == Kind.TIME:
        return time
    return date + b"T" + time + (_zone(found["z"]) if "z" in found else b"")


def _zone(text: bytes) -> bytes:
    if text == b"Z":
        return b"+00:00"
    return text[:3] + b":" + (text[3:].lstrip(b":") or b"00")
