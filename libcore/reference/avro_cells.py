"""One Avro item: bytes to a tree with positions, a tree to the value of one cell; the heart of the reference of
libcore.avro."""

from __future__ import annotations

import base64
import ctypes
import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from libcore.avro_schema import FITS, Kind, Node, Part, Program
from libcore.decode_types import Encoding, ErrorCode, WireColumn
from libcore.errors import DataError
from libcore.reference import clock, decimal
from libcore.reference.cells import _JAVA_PRINT, UNSET, Cell, CellReader, unsent_literal
from libcore.reference.decimal import NotExact
from libcore.reference.json import Fault

DEPTH_MAX = 64
_ISO = (Encoding.ISO_DATE, Encoding.ISO_TIME, Encoding.ISO_TIMESTAMP, Encoding.ZONED_TIMESTAMP)


@dataclass(frozen=True)
class Item:
    """A value: its first byte behind its union branch, its kind, and what it holds.

    None, bool, int, float; bytes of a string, bytes, fixed or symbol; a list of items; of a map pairs of items; of a
    record pairs of part and item. `text` is where the bytes of a string begin.
    """

    start: int
    kind: Kind
    value: Any
    text: int = 0


class Parser:
    """Reads the bytes of one message by a program."""

    def __init__(self, program: Program, data: bytes, start: int) -> None:
        self._program, self._data, self.at = program, data, start

    def root(self) -> Item:
        """The whole body. Raises Fault SYNTAX or DEPTH where the bytes break."""
        item = self._item(self._program.nodes[self._program.root], 0)
        if self.at != len(self._data):
            raise Fault(ErrorCode.SYNTAX, self.at)
        return item

    def _long(self) -> int:
        first, bits = self.at, 0
        for place in range(10):
            if self.at == len(self._data):
                raise Fault(ErrorCode.SYNTAX, self.at)
            byte = self._data[self.at]
            bits |= (byte & 0x7F) << (7 * place)
            if place == 9 and byte > 1:
                break
            self.at += 1
            if byte < 0x80:
                return (bits >> 1) ^ -(bits & 1)
        raise Fault(ErrorCode.SYNTAX, first)

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self.at:
            raise Fault(ErrorCode.SYNTAX, len(self._data))
        self.at += size
        return self._data[self.at - size : self.at]

    def _sized(self) -> bytes:
        first, size = self.at, self._long()
        if not 0 <= size <= len(self._data) - self.at:
            raise Fault(ErrorCode.SYNTAX, first)
        return self._take(size)

    def _index(self, count: int) -> int:
        first, index = self.at, self._long()
        if not 0 <= index < count:
            raise Fault(ErrorCode.SYNTAX, first)
        return index

    def _block(self) -> int:
        first, count = self.at, self._long()
        if count == -(2**63):
            raise Fault(ErrorCode.SYNTAX, first)
        if count < 0:
            count, size_at, size = -count, self.at, self._long()
            if not 0 <= size <= len(self._data) - self.at:
                raise Fault(ErrorCode.SYNTAX, size_at)
        if count > len(self._data) - self.at:
            raise Fault(ErrorCode.SYNTAX, first)
        return count

    def _items(self, node: Node, depth: int) -> list[Any]:
        items: list[Any] = []
        while count := self._block():
            for _ in range(count):
                name = self._item(Node(Kind.STRING), depth) if node.kind is Kind.MAP else None
                item = self._item(self._program.nodes[node.first], depth)
                items.append(item if name is None else (name, item))
        return items

    def _item(self, node: Node, depth: int) -> Item:
        parts = self._program.parts
        while node.kind is Kind.UNION:
            node = self._program.nodes[parts[node.first + self._index(node.count)].node]
        start, kind = self.at, node.kind
        if kind is Kind.NULL:
            return Item(start, kind, None)
        if kind is Kind.BOOLEAN:
            byte = self._data[start : start + 1]
            if byte not in (b"\0", b"\1"):
                raise Fault(ErrorCode.SYNTAX, start)
            self.at += 1
            return Item(start, kind, byte == b"\1")
        if kind in (Kind.INT, Kind.LONG):
            number = self._long()
            if kind is Kind.INT and not -(2**31) <= number < 2**31:
                raise Fault(ErrorCode.SYNTAX, start)
            return Item(start, kind, number)
        if kind in (Kind.FLOAT, Kind.DOUBLE):
            form = "<f" if kind is Kind.FLOAT else "<d"
            return Item(start, kind, struct.unpack(form, self._take(struct.calcsize(form)))[0])
        if kind in (Kind.BYTES, Kind.STRING):
            value = self._sized()
            return Item(start, kind, value, self.at - len(value))
        if kind is Kind.FIXED:
            return Item(start, kind, self._take(node.count), start)
        if kind is Kind.ENUM:
            return Item(start, kind, parts[node.first + self._index(node.count)].name.encode())
        if depth >= DEPTH_MAX:
            raise Fault(ErrorCode.DEPTH, start)
        if kind is not Kind.RECORD:
            return Item(start, kind, self._items(node, depth + 1))
        fields = []
        for part in parts[node.first : node.first + node.count]:
            fields.append((part, self._item(self._program.nodes[part.node], depth + 1)))
        return Item(start, kind, fields)


def plain_message(program: Program, data: bytes, start: int) -> Any:
    """A message as Python values. Raises DataError with the byte position where the bytes break."""
    try:
        return _plain(Parser(program, data, start).root())
    except Fault as fault:
        text = f"{fault.code.name}: the bytes are no message of the writer's schema"
        raise DataError(text, byte_position=fault.position) from fault


def _plain(item: Item) -> Any:
    if item.kind is Kind.RECORD:
        return {part.name: _plain(value) for part, value in item.value}
    if item.kind is Kind.ARRAY:
        return [_plain(value) for value in item.value]
    if item.kind is Kind.MAP:
        return {_plain(name): _plain(value) for name, value in item.value}
    if item.kind in (Kind.STRING, Kind.ENUM):
        return item.value.decode("utf-8", "replace")
    return item.value


def utf8(item: Item) -> bytes:
    """A string's bytes. Raises Fault UTF8 at the first malformed sequence."""
    try:
        item.value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault(ErrorCode.UTF8, item.text + error.start) from error
    return bytes(item.value)


def double_text(value: float, single: bool) -> bytes:
    """The shortest digits that read back as the same double (or float), as Python's repr sets them."""
    for precision in range(17):
        text = f"{value:.{precision}e}"
        back = float(text)
        if back == value or (single and ctypes.c_float(back).value == value):
            break
    digits, _, exponent_text = text.lstrip("-").partition("e")
    digits, exponent = digits.replace(".", "").rstrip("0") or "0", int(exponent_text)
    sign = "-" if math.copysign(1.0, value) < 0 else ""
    if exponent < -4 or exponent >= 16:
        fraction = f".{digits[1:]}" if digits[1:] else ""
        return f"{sign}{digits[0]}{fraction}e{exponent:+03d}".encode()
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}".encode()
    return f"{sign}{digits[: exponent + 1].ljust(exponent + 1, '0')}.{digits[exponent + 1 :] or '0'}".encode()


_WORDS = {math.inf: b"Infinity", -math.inf: b"-Infinity"}


def json_text(item: Item) -> bytes:
    """A value as compact JSON. Raises Fault UTF8."""
    kind, value = item.kind, item.value
    if kind is Kind.NULL:
        return b"null"
    if kind is Kind.BOOLEAN:
        return b"true" if value else b"false"
    if kind in (Kind.INT, Kind.LONG):
        return b"%d" % value
    if kind in (Kind.FLOAT, Kind.DOUBLE):
        if math.isnan(value) or math.isinf(value):
            return b'"%b"' % _WORDS.get(value, b"NaN")
        return double_text(value, kind is Kind.FLOAT)
    if kind in (Kind.BYTES, Kind.FIXED):
        return b'"%b"' % base64.b64encode(value)
    if kind in (Kind.STRING, Kind.ENUM):
        return _quoted(utf8(item) if kind is Kind.STRING else value)
    if kind is Kind.ARRAY:
        return b"[" + b",".join(json_text(each) for each in value) + b"]"
    if kind is Kind.MAP:
        return b"{" + b",".join(json_text(name) + b":" + json_text(each) for name, each in value) + b"}"
    return b"{" + b",".join(_quoted(part.name.encode()) + b":" + json_text(each) for part, each in value) + b"}"


def _quoted(text: bytes) -> bytes:
    return json.dumps(text.decode("utf-8"), ensure_ascii=False).encode()


class AvroCells:
    """Reads the values of one column.

    Args:
        wire: the column and its encoding.
        placeholder: the text that stands for a value the source did not send; b"" in an array.
    """

    def __init__(self, wire: WireColumn, placeholder: bytes) -> None:
        CellReader(wire, placeholder)  # checks that the encoding fills the type
        self._wire, self._placeholder = wire, placeholder
        self._type = wire.column.type.arrow
        self._digits = 9 if getattr(self._type, "unit", "us") == "ns" else 6
        self._item = None if wire.item is None else AvroCells(wire.item, b"")
        self._unsent = unsent_literal(wire.item, placeholder) if wire.item is not None and placeholder else None

    def read(self, item: Item) -> Cell:
        """The cell of a value. Raises Fault at its first byte, or UTF8 inside it."""
        if item.kind is Kind.NULL:
            return None
        encoding = self._wire.encoding
        if item.kind not in FITS[encoding]:
            raise Fault(ErrorCode.TYPE, item.start)
        try:
            return self._read(encoding, item)
        except NotExact as error:
            raise Fault(error.code, item.start) from error

    def _read(self, encoding: Encoding, item: Item) -> Cell:
        value, wire, column = item.value, self._wire, self._wire.column.type
        if self._placeholder and value == self._placeholder and self._stands_alone(encoding, item):
            return UNSET
        if encoding in (Encoding.INT, Encoding.DATE_DAYS):
            bits = self._type.bit_width
            if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
                raise NotExact(ErrorCode.RANGE)
            return clock.from_days(value) if encoding is Encoding.DATE_DAYS else value
        if encoding is Encoding.BOOL:
            return value
        if encoding is Encoding.FLOAT:
            return ctypes.c_float(float(value)).value if self._type == pa.float32() else float(value)
        if encoding is Encoding.STRING or (encoding is Encoding.RAW_JSON and item.kind is Kind.STRING):
            return self._text(item)
        if encoding is Encoding.BASE64:
            return value
        if encoding is Encoding.RAW_JSON:
            text = json_text(item)
            return UNSET if self._placeholder and text == self._placeholder_object() else text
        if encoding is Encoding.BITS:
            return self._bits(value)
        if encoding in (Encoding.DECIMAL_TEXT, Encoding.NUMERIC_TEXT):
            text = value if item.kind is Kind.STRING else b"%d" % value
            if encoding is Encoding.NUMERIC_TEXT:
                return decimal.numeric_from_text(text)
            return decimal.unscaled_from_text(text, column.precision, column.scale)
        if encoding is Encoding.DECIMAL_BASE64:
            return decimal.unscaled_from_bytes(value, wire.wire_scale, column.precision, column.scale)
        if encoding in (Encoding.NUMERIC_STRUCT, Encoding.DECIMAL_STRUCT):
            return self._struct(encoding, value)
        if encoding in _ISO:
            return clock.from_text(encoding, value, self._digits)
        if encoding is Encoding.ARRAY:
            return self._array(value)
        return clock.from_integer(encoding, value, self._digits)

    @staticmethod
    def _stands_alone(encoding: Encoding, item: Item) -> bool:
        """Whether the placeholder itself may stand for such a value."""
        if encoding is Encoding.RAW_JSON:
            return item.kind is Kind.STRING
        return item.kind in (Kind.STRING, Kind.BYTES, Kind.FIXED) and encoding not in _ISO

    def _placeholder_object(self) -> bytes:
        return b'{"%b":"%b"}' % (self._placeholder, self._placeholder)

    def _text(self, item: Item) -> Cell:
        if self._placeholder and item.value in (self._placeholder, self._placeholder_object()):
            return UNSET
        return item.value if item.kind is Kind.ENUM else utf8(item)

    def _bits(self, value: bytes) -> bytes:
        number, length = int.from_bytes(value, "little"), self._wire.bit_length
        if number >> length:
            raise NotExact(ErrorCode.RANGE)
        return format(number, f"0{length}b").encode() if length else b""

    def _struct(self, encoding: Encoding, fields: list[tuple[Part, Item]]) -> Cell:
        scale = value = None
        for part, item in fields:
            if part.role == 0 and item.kind in (Kind.INT, Kind.LONG):
                scale = item.value
            if part.role == 1 and item.kind in (Kind.BYTES, Kind.FIXED):
                value = item.value
        if scale is None or value is None:
            raise NotExact(ErrorCode.TYPE)
        if not -(2**31) <= scale < 2**31:
            raise NotExact(ErrorCode.RANGE)
        if encoding is Encoding.NUMERIC_STRUCT:
            return decimal.numeric_from_bytes(value, scale)
        column = self._wire.column.type
        return decimal.unscaled_from_bytes(value, scale, column.precision, column.scale)

    def _array(self, items: list[Item]) -> Cell:
        listed = [item.value if item.kind in (Kind.INT, Kind.LONG) else None for item in items]
        if self._placeholder and listed == list(self._placeholder):
            return UNSET
        assert self._item is not None
        faults, texts = [], []
        for item in items:
            try:
                texts.append(self._item.element(item))
            except Fault as fault:
                faults.append(fault)
        if not faults and self._placeholder and texts == [b'"%b"' % self._placeholder]:
            return UNSET
        if faults:
            raise min(faults, key=lambda fault: fault.position)
        literal = b"{" + b",".join(texts) + b"}"
        return UNSET if literal == self._unsent else literal

    def element(self, item: Item) -> bytes:
        """The value as an element of a PostgreSQL array literal. Raises Fault."""
        if item.kind is Kind.ARRAY or (item.kind is Kind.STRING and _JAVA_PRINT.fullmatch(item.value)):
            raise Fault(ErrorCode.ARRAY, item.start)
        value = self.read(item)
        if value is None:
            return b"NULL"
        encoding = self._wire.encoding
        if encoding in (Encoding.STRING, Encoding.RAW_JSON):
            return b'"%b"' % value.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        if encoding is Encoding.BASE64:
            return b'"\\\\x%b"' % value.hex().encode()
        if encoding is Encoding.BOOL:
            return b"t" if value else b"f"
        if encoding is Encoding.FLOAT:
            if math.isnan(value) or math.isinf(value):
                return _WORDS.get(value, b"NaN")
            return double_text(value, self._type == pa.float32())
        if pa.types.is_decimal(self._type):
            return decimal.unscaled_text(value, self._type.scale)
        if encoding in _ISO:
            return b'"%b"' % item.value
        return value if isinstance(value, bytes) else self._plain_text(value).encode()

    def _plain_text(self, value: int) -> str:
        if pa.types.is_date32(self._type):
            return clock.date_text(value)
        if pa.types.is_time64(self._type):
            return clock.time_text(value, self._digits)
        if pa.types.is_timestamp(self._type):
            return clock.timestamp_text(value, self._digits)
        return str(value)
