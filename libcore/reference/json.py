"""Strict JSON (RFC 8259, UTF-8) read byte by byte, with the exact byte of a fault; the reference of libcore.json."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pyarrow as pa

from libcore.decode_types import ErrorCode

DEPTH_MAX = 64
"""Brackets that may be open at once."""

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_HEX = b"0123456789abcdefABCDEF"
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class Fault(Exception):
    """Something is wrong at a byte of the text in hand."""

    def __init__(self, code: ErrorCode, position: int) -> None:
        self.code, self.position = code, position
        super().__init__(f"{code.name} at byte {position}")


@dataclass
class Node:
    """A JSON value and where it stands.

    Args:
        kind: "object", "array", "string", "number", "true", "false" or "null".
        start, end: its first byte and the one behind it.
        members: of an object: (position of the name's quote, the name or None where it has a lone surrogate, value).
        items: of an array: its values.
    """

    kind: str
    start: int
    end: int = -1
    members: list[tuple[int, bytes | None, Node]] = field(default_factory=list)
    items: list[Node] = field(default_factory=list)

    def raw(self, data: bytes) -> bytes:
        """The value's bytes as they stand."""
        return data[self.start : self.end]

    def first(self, name: bytes) -> Node | None:
        """The first member of that name, or None."""
        return next((value for _, member, value in self.members if member == name), None)


def validate(values: pa.BinaryArray) -> list[tuple[int, int]]:
    """(code, byte position) of each value: (0, -1) where it is valid JSON or NULL, else SYNTAX, UTF8 or DEPTH."""
    answers = []
    for value in values.to_pylist():
        try:
            if value is not None:
                parse(value)
            answers.append((0, -1))
        except Fault as fault:
            answers.append((int(fault.code), fault.position))
    return answers


def parse(data: bytes) -> Node:
    """The document in `data`. Raises Fault: UTF8 first, then SYNTAX or DEPTH, whichever byte comes first."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Fault(ErrorCode.UTF8, error.start) from error
    node = _value(data, _skip_space(data, 0), 0)
    end = _skip_space(data, node.end)
    if end < len(data):
        raise Fault(ErrorCode.SYNTAX, end)
    return node


def text(data: bytes, node: Node) -> bytes:
    """The text of a string node as UTF-8. Raises Fault SURROGATE at the backslash of the first lone surrogate."""
    return _unescape(data, node.start + 1, node.end - 1)


def _skip_space(data: bytes, at: int) -> int:
    return _SPACE.match(data, at).end()  # type: ignore[union-attr]  # it matches anywhere


def _expect(data: bytes, at: int, wanted: bytes) -> None:
    """One of the bytes `wanted` must stand at `at`; a text cut short is at fault at its length."""
    if at >= len(data) or data[at] not in wanted:
        raise Fault(ErrorCode.SYNTAX, at)


def _value(data: bytes, at: int, depth: int) -> Node:
    """The value whose first byte is at `at`; `depth` brackets are open."""
    _expect(data, at, b'{["-0123456789tfn')
    first = data[at : at + 1]
    if first in b"{[":
        if depth == DEPTH_MAX:
            raise Fault(ErrorCode.DEPTH, at)
        return _object(data, at, depth + 1) if first == b"{" else _array(data, at, depth + 1)
    if first == b'"':
        return Node("string", at, _string_end(data, at))
    if first in b"tfn":
        word = {b"t": b"true", b"f": b"false", b"n": b"null"}[first]
        for offset in range(len(word)):
            _expect(data, at + offset, word[offset : offset + 1])
        return Node(word.decode(), at, at + len(word))
    return Node("number", at, _number_end(data, at))


def _object(data: bytes, at: int, depth: int) -> Node:
    node = Node("object", at)
    at = _skip_space(data, at + 1)
    if data[at : at + 1] == b"}":
        node.end = at + 1
        return node
    while True:
        _expect(data, at, b'"')
        quote, at = at, _string_end(data, at)
        try:
            name: bytes | None = _unescape(data, quote + 1, at - 1)
        except Fault:  # a name with a lone surrogate is nobody's name
            name = None
        at = _skip_space(data, at)
        _expect(data, at, b":")
        value = _value(data, _skip_space(data, at + 1), depth)
        node.members.append((quote, name, value))
        at = _skip_space(data, value.end)
        _expect(data, at, b",}")
        if data[at : at + 1] == b"}":
            node.end = at + 1
            return node
        at = _skip_space(data, at + 1)


def _array(data: bytes, at: int, depth: int) -> Node:
    node = Node("array", at)
    at = _skip_space(data, at + 1)
    if data[at : at + 1] == b"]":
        node.end = at + 1
        return node
    while True:
        value = _value(data, at, depth)
        node.items.append(value)
        at = _skip_space(data, value.end)
        _expect(data, at, b",]")
        if data[at : at + 1] == b"]":
            node.end = at + 1
            return node
        at = _skip_space(data, at + 1)


def _string_end(data: bytes, at: int) -> int:
    """Behind the closing quote of the string whose opening quote is at `at`."""
    at += 1
    while True:
        at = _PLAIN.match(data, at).end()  # type: ignore[union-attr]
        _expect(data, at, b'"\\')
        if data[at : at + 1] == b'"':
            return at + 1
        at += 1
        _expect(data, at, b'"\\/bfnrtu')
        if data[at : at + 1] == b"u":
            for offset in range(1, 5):
                _expect(data, at + offset, _HEX)
            at += 4
        at += 1


def _number_end(data: bytes, at: int) -> int:
    if data[at : at + 1] == b"-":
        at += 1
    _expect(data, at, b"0123456789")
    at = at + 1 if data[at : at + 1] == b"0" else _digits_end(data, at)
    if data[at : at + 1] == b".":
        at = _digits_end(data, at + 1)
    if data[at : at + 1] in (b"e", b"E"):
        at += 1
        if data[at : at + 1] in (b"+", b"-"):
            at += 1
        at = _digits_end(data, at)
    return at


def _digits_end(data: bytes, at: int) -> int:
    """Behind the digits at `at`, one at least."""
    _expect(data, at, b"0123456789")
    return _DIGITS.match(data, at).end()  # type: ignore[union-attr]


def _unescape(data: bytes, at: int, end: int) -> bytes:
    """The inside of a valid string, at..end, as UTF-8."""
    parts = []
    while at < end:
        slash = data.find(b"\\", at, end)
        if slash < 0:
            parts.append(data[at:end])
            break
        parts.append(data[at:slash])
        letter = data[slash + 1 : slash + 2]
        at = slash + 2
        if letter != b"u":
            parts.append(_ESCAPES.get(letter, letter))
            continue
        code = int(data[at : at + 4], 16)
        at += 4
        if 0xD800 <= code < 0xDC00 and data[at : at + 2] == b"\\u":
            low = int(data[at + 2 : at + 6], 16)
            if 0xDC00 <= low < 0xE000:
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
                at += 6
        if 0xD800 <= code < 0xE000:
            raise Fault(ErrorCode.SURROGATE, slash)
        parts.append(chr(code).encode("utf-8"))
    return b"".join(parts)
