"""One JSON value to the value of one cell, for every encoding; the heart of the reference of libcore.decode."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import uuid
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from libcore.decode_types import Encoding, ErrorCode, WireColumn
from libcore.errors import ConfigurationError
from libcore.reference import clock, decimal
from libcore.reference.decimal import NotExact
from libcore.reference.json import Fault, Node, text
from libcore.reference.values import single_of_text


class _Unset:
    """The source did not send this value."""


UNSET: Final = _Unset()

Cell = Any
"""int, bool, float, bytes (texts too), None for NULL, or UNSET; decimals unscaled, dates and times in their unit."""

_INTEGER = re.compile(rb"-?[0-9]+")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2})*")
# Debezium has lost an array's inner arrays already and writes what Java prints for them.
_JAVA_PRINT = re.compile(rb"\[+(?:L[^;]+;|[BCDFIJSZ])@[0-9a-f]+")
_FLOAT_WORDS = {b"NaN": float("nan"), b"Infinity": float("inf"), b"-Infinity": float("-inf")}
_INT_BITS = {pa.int16(): 16, pa.int32(): 32, pa.int64(): 64}


class CellReader:
    """Reads the values of one column.

    Args:
        wire: the column and its encoding.
        placeholder: the text that stands for a value the source did not send.
    Raises: ConfigurationError where the encoding does not fill the column's type.
    """

    def __init__(self, wire: WireColumn, placeholder: bytes) -> None:
        self._wire, self._placeholder = wire, placeholder
        self._type = wire.column.type.arrow
        method, fills = _READERS[wire.encoding]
        if not fills(self._type) or (wire.encoding == Encoding.ARRAY) != (wire.item is not None):
            name, encoding = wire.column.name, Encoding(wire.encoding).name
            raise ConfigurationError(f"column {name}: encoding {encoding} does not fill {wire.column.type}")
        self._digits = 9 if getattr(self._type, "unit", "us") == "ns" else 6
        self._item = None if wire.item is None else CellReader(wire.item, b"")
        self._unsent = unsent_literal(wire.item, placeholder) if wire.item is not None and placeholder else None
        self._read: Callable[[bytes, Node], Cell] = getattr(self, "_" + method)

    def read(self, data: bytes, node: Node) -> Cell:
        """The value at `node` of the document `data`. Raises Fault at its first byte, or SURROGATE inside it."""
        if node.kind == "null":
            return None
        try:
            return self._read(data, node)
        except NotExact as error:
            raise Fault(error.code, node.start) from error

    def _text(self, data: bytes, node: Node) -> bytes:
        if node.kind != "string":
            raise NotExact(ErrorCode.TYPE)
        return text(data, node)

    def _text_or_number(self, data: bytes, node: Node) -> bytes:
        return node.raw(data) if node.kind == "number" else self._text(data, node)

    def _integer(self, data: bytes, node: Node, bits: int = 64) -> int:
        raw = node.raw(data)
        if node.kind != "number" or not _INTEGER.fullmatch(raw):
            raise NotExact(ErrorCode.TYPE)
        value = int(raw) if len(raw) <= 20 else 2**64
        if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            raise NotExact(ErrorCode.RANGE)
        return value

    def _int(self, data: bytes, node: Node) -> int:
        return self._integer(data, node, _INT_BITS[self._type])

    def _bool(self, data: bytes, node: Node) -> bool:
        if node.kind not in ("true", "false"):
            raise NotExact(ErrorCode.TYPE)
        return node.kind == "true"

    def _float(self, data: bytes, node: Node) -> float:
        if node.kind == "number":
            value = float(node.raw(data))
            if value in (float("inf"), float("-inf")):
                raise NotExact(ErrorCode.RANGE)
            if self._type == pa.float32():  # nearest, and infinite where a float ends
                value = single_of_text(node.raw(data))
        else:
            word = self._text(data, node)
            if word not in _FLOAT_WORDS:
                raise NotExact(ErrorCode.TYPE)
            value = _FLOAT_WORDS[word]
        return value

    def _string(self, data: bytes, node: Node) -> Cell:
        value = self._text(data, node)
        return UNSET if value in (self._placeholder, self._placeholder_object()) and self._placeholder else value

    def _placeholder_object(self) -> bytes:
        """How an hstore whose value was not sent is written."""
        return b'{"%b":"%b"}' % (self._placeholder, self._placeholder)

    def _base64(self, data: bytes, node: Node) -> Cell:
        value = self._text(data, node)
        if self._placeholder and value == base64.b64encode(self._placeholder):
            return UNSET
        return _strict_base64(value)

    def _hex(self, data: bytes, node: Node) -> Cell:
        value = self._text(data, node)
        if not _HEX.fullmatch(value):
            raise NotExact(ErrorCode.TYPE)
        return bytes.fromhex(value.decode())

    def _bits(self, data: bytes, node: Node) -> Cell:
        value = self._base64(data, node)
        if value is UNSET:
            return UNSET
        number, length = int.from_bytes(value, "little"), self._wire.bit_length
        if number >> length:
            raise NotExact(ErrorCode.RANGE)
        return format(number, f"0{length}b").encode() if length else b""

    def _decimal_text(self, data: bytes, node: Node) -> Cell:
        value = self._text_or_number(data, node)
        if self._is_placeholder(node, value):
            return UNSET
        return decimal.unscaled_from_text(value, self._type.precision, self._type.scale)

    def _numeric_text(self, data: bytes, node: Node) -> Cell:
        value = self._text_or_number(data, node)
        return UNSET if self._is_placeholder(node, value) else decimal.numeric_from_text(value)

    def _is_placeholder(self, node: Node, value: bytes) -> bool:
        return node.kind == "string" and bool(self._placeholder) and value == self._placeholder

    def _decimal_base64(self, data: bytes, node: Node) -> int:
        if node.kind == "number":  # the converter's decimal.format=NUMERIC
            return decimal.unscaled_from_text(node.raw(data), self._type.precision, self._type.scale)
        value = _strict_base64(self._text(data, node))
        return decimal.unscaled_from_bytes(value, self._wire.wire_scale, self._type.precision, self._type.scale)

    def _struct(self, data: bytes, node: Node) -> tuple[bytes, int]:
        """(bytes, scale) of {"scale": int, "value": base64}."""
        if node.kind != "object":
            raise NotExact(ErrorCode.TYPE)
        scale, value = None, None
        for _, name, member in node.members:
            if name == b"scale":
                scale = self._integer(data, member, 32)
            elif name == b"value":
                value = member
        if scale is None or value is None:
            raise NotExact(ErrorCode.TYPE)
        return _strict_base64(self._text(data, value)), scale

    def _numeric_struct(self, data: bytes, node: Node) -> bytes:
        return decimal.numeric_from_bytes(*self._struct(data, node))

    def _decimal_struct(self, data: bytes, node: Node) -> int:
        value, scale = self._struct(data, node)
        return decimal.unscaled_from_bytes(value, scale, self._type.precision, self._type.scale)

    def _days(self, data: bytes, node: Node) -> int:
        return clock.from_days(self._integer(data, node, 32))

    def _clock(self, data: bytes, node: Node) -> int:
        return clock.from_integer(self._wire.encoding, self._integer(data, node), self._digits)

    def _iso(self, data: bytes, node: Node) -> int:
        return clock.from_text(self._wire.encoding, self._text(data, node), self._digits)

    def _raw_json(self, data: bytes, node: Node) -> Cell:
        if node.kind == "string":
            return self._string(data, node)
        raw = node.raw(data)
        return UNSET if self._placeholder and raw == self._placeholder_object() else raw

    def _array(self, data: bytes, node: Node) -> Cell:
        if node.kind != "array":
            raise NotExact(ErrorCode.TYPE)
        listed = b"[" + b",".join(b"%d" % byte for byte in self._placeholder) + b"]"
        if node.raw(data) in (b'["%b"]' % self._placeholder, listed) and self._placeholder:
            return UNSET
        assert self._item is not None
        literal = b"{" + b",".join(self._item.element(data, item) for item in node.items) + b"}"
        return UNSET if literal == self._unsent else literal

    def element(self, data: bytes, node: Node) -> bytes:
        """The value as an element of a PostgreSQL array literal. Raises Fault."""
        if node.kind == "array":
            raise Fault(ErrorCode.ARRAY, node.start)
        if node.kind == "string" and _JAVA_PRINT.fullmatch(text(data, node)):
            raise Fault(ErrorCode.ARRAY, node.start)
        value = self.read(data, node)
        if value is None:
            return b"NULL"
        encoding = self._wire.encoding
        if encoding in (Encoding.STRING, Encoding.RAW_JSON):
            return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        if encoding in (Encoding.BASE64, Encoding.HEX):
            return b'"\\\\x%b"' % value.hex().encode()
        if encoding == Encoding.BOOL:
            return b"t" if value else b"f"
        if encoding == Encoding.FLOAT:
            return self._text_or_number(data, node)
        if pa.types.is_decimal(self._type):
            return decimal.unscaled_text(value, self._type.scale)
        if encoding in clock.TEXTS:
            return b'"%b"' % text(data, node)
        return value if isinstance(value, bytes) else self._plain_text(value).encode()

    def _plain_text(self, value: int) -> str:
        if pa.types.is_date32(self._type):
            return clock.date_text(value)
        if pa.types.is_time64(self._type):
            return clock.time_text(value, self._digits)
        if pa.types.is_timestamp(self._type):
            return clock.timestamp_text(value, self._digits)
        return str(value)


def unsent_literal(item: WireColumn, placeholder: bytes) -> bytes | None:
    """The literal of an array that was not sent, in the form of its elements: the UUID of the placeholder's name, its
    bytes, or a number for each of its bytes."""
    encoding, column = item.encoding, item.column.type
    if encoding == Encoding.STRING:
        digest = hashlib.md5(placeholder, usedforsecurity=False).digest()
        return b'{"%b"}' % str(uuid.UUID(bytes=digest, version=3)).encode()
    if encoding == Encoding.BASE64:
        return b'{"\\\\x%b"}' % placeholder.hex().encode()
    if encoding == Encoding.FLOAT:
        numbers = [b"%d.0" % byte for byte in placeholder]
    elif encoding in (Encoding.NUMERIC_STRUCT, Encoding.NUMERIC_TEXT):
        numbers = [b"%d" % byte for byte in placeholder]
    elif encoding in (Encoding.DECIMAL_TEXT, Encoding.DECIMAL_BASE64):
        zeros = column.scale - item.wire_scale if encoding == Encoding.DECIMAL_BASE64 else 0
        if not 0 <= zeros <= 76:
            return None
        numbers = [decimal.unscaled_text(byte * 10**zeros, column.scale) for byte in placeholder]
    else:
        return None
    return b"{" + b",".join(numbers) + b"}"


def _strict_base64(value: bytes) -> bytes:
    """Standard alphabet, padded, no bits that an encoder does not write. Raises NotExact."""
    try:
        data = base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise NotExact(ErrorCode.BASE64) from error
    if base64.b64encode(data) != value:
        raise NotExact(ErrorCode.BASE64)
    return data


def _is_int(data_type: pa.DataType) -> bool:
    return data_type in _INT_BITS


def _is_float(data_type: pa.DataType) -> bool:
    return data_type in (pa.float32(), pa.float64())


# The method that reads an encoding, and the Arrow types that it fills.
_READERS: dict[Encoding, tuple[str, Callable[[pa.DataType], bool]]] = {
    Encoding.INT: ("int", _is_int),
    Encoding.BOOL: ("bool", pa.types.is_boolean),
    Encoding.FLOAT: ("float", _is_float),
    Encoding.STRING: ("string", pa.types.is_string),
    Encoding.BASE64: ("base64", pa.types.is_binary),
    Encoding.DECIMAL_TEXT: ("decimal_text", pa.types.is_decimal),
    Encoding.DECIMAL_BASE64: ("decimal_base64", pa.types.is_decimal),
    Encoding.NUMERIC_TEXT: ("numeric_text", pa.types.is_string),
    Encoding.NUMERIC_STRUCT: ("numeric_struct", pa.types.is_string),
    Encoding.DATE_DAYS: ("days", pa.types.is_date32),
    Encoding.TIME_MS: ("clock", pa.types.is_time64),
    Encoding.TIME_US: ("clock", pa.types.is_time64),
    Encoding.TIME_NS: ("clock", pa.types.is_time64),
    Encoding.TIMESTAMP_MS: ("clock", pa.types.is_timestamp),
    Encoding.TIMESTAMP_US: ("clock", pa.types.is_timestamp),
    Encoding.TIMESTAMP_NS: ("clock", pa.types.is_timestamp),
    Encoding.ZONED_TIMESTAMP: ("iso", pa.types.is_timestamp),
    Encoding.ISO_DATE: ("iso", pa.types.is_date32),
    Encoding.ISO_TIME: ("iso", pa.types.is_time64),
    Encoding.ISO_TIMESTAMP: ("iso", pa.types.is_timestamp),
    Encoding.BITS: ("bits", pa.types.is_string),
    Encoding.RAW_JSON: ("raw_json", pa.types.is_string),
    Encoding.ARRAY: ("array", pa.types.is_string),
    Encoding.DECIMAL_STRUCT: ("decimal_struct", pa.types.is_decimal),
    Encoding.HEX: ("hex", pa.types.is_binary),
    Encoding.NAMED_TIMESTAMP: ("iso", pa.types.is_timestamp),
}
