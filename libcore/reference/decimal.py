"""Exact decimals between text, two's complement bytes and Arrow, with Python's unbounded integers; nothing is ever
rounded. The reference of libcore.decimal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from libcore.decode_types import ErrorCode
from libcore.errors import HeadraceError
from libcore.reference.values import plain

NUMERIC_DIGITS_MAX = 20_000
"""Digits of an expanded numeric text."""
BYTES_MAX = 8320
"""Bytes of an integer on the wire, sign bytes stripped; more than any number of 20,000 digits has."""

_NUMBER = re.compile(rb"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?")
_INFINITY = {b"Infinity": b"Infinity", b"+Infinity": b"Infinity", b"-Infinity": b"-Infinity",
             b"POSITIVE_INFINITY": b"Infinity", b"NEGATIVE_INFINITY": b"-Infinity"}  # fmt: skip
_EXPONENT_MAX = 10**12  # beyond it every answer is the same
_CHUNK = 4000  # digits that Python turns into an int and back at once (its limit is 4,300)


class NotExact(Exception):
    """A number that does not fit: TYPE (none at all), SCALE or RANGE."""

    def __init__(self, code: ErrorCode) -> None:
        self.code = code
        super().__init__(code.name)


@dataclass(frozen=True)
class _Number:
    """(-1)^negative * digits * 10^exponent; digits is ASCII, leading zeros and all."""

    negative: bool
    digits: bytes
    exponent: int


def unscaled_from_text(text: bytes, precision: int, scale: int) -> int:
    """The integer that decimal(precision, scale) stores for a text. Raises NotExact; SCALE is told before RANGE."""
    number = _take_apart(text)
    if isinstance(number, bytes):  # NaN or an infinity: no decimal holds them
        raise NotExact(ErrorCode.RANGE)
    return _rescaled(number, precision, scale)


def unscaled_from_bytes(data: bytes, wire_scale: int, precision: int, scale: int) -> int:
    """The same for a big-endian two's complement integer at `wire_scale`; no bytes mean 0. Raises NotExact."""
    return _rescaled(_from_bytes(data, wire_scale), precision, scale)


def numeric_from_text(text: bytes) -> bytes:
    """Canonical text: optional '-', no needless zeros in front, no exponent, fraction as given. Raises NotExact."""
    number = _take_apart(text)
    return number if isinstance(number, bytes) else _canonical(number)


def numeric_from_bytes(data: bytes, scale: int) -> bytes:
    """Canonical text of a big-endian two's complement integer at `scale`. Raises NotExact."""
    return _canonical(_from_bytes(data, scale))


def _take_apart(text: bytes) -> _Number | bytes:
    """The number in a text, or b"NaN", b"Infinity", b"-Infinity"."""
    if text in (b"NaN", b"NAN"):
        return b"NaN"
    if text in _INFINITY:
        return _INFINITY[text]
    match = _NUMBER.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise NotExact(ErrorCode.TYPE)
    fraction = match[3] or b""
    return _Number(match[1] == b"-", match[2] + fraction, _exponent(match[4]) - len(fraction))


def _exponent(text: bytes | None) -> int:
    if text is None:
        return 0
    digits = text.lstrip(b"+-").lstrip(b"0")
    size = int(digits or b"0") if len(digits) <= 13 else _EXPONENT_MAX
    size = min(size, _EXPONENT_MAX)
    return -size if text[:1] == b"-" else size


def _from_bytes(data: bytes, scale: int) -> _Number:
    while len(data) > 1 and ((data[0] == 0 and data[1] < 0x80) or (data[0] == 0xFF and data[1] >= 0x80)):
        data = data[1:]
    if len(data) > BYTES_MAX:
        raise NotExact(ErrorCode.RANGE)
    value = int.from_bytes(data, "big", signed=True)
    return _Number(value < 0, _digits(abs(value)), -scale)


def _digits(value: int) -> bytes:
    """Decimal digits of a value >= 0, also above the size that str() takes."""
    parts = []
    while value >= 10**_CHUNK:
        value, rest = divmod(value, 10**_CHUNK)
        parts.append(b"%0*d" % (_CHUNK, rest))
    parts.append(b"%d" % value)
    return b"".join(reversed(parts))


def _rescaled(number: _Number, precision: int, scale: int) -> int:
    shift = number.exponent + scale  # the stored integer is digits * 10^shift
    digits = number.digits
    if shift < 0:
        cut = max(len(digits) + shift, 0)
        if digits[cut:].strip(b"0"):
            raise NotExact(ErrorCode.SCALE)
        digits, shift = digits[:cut], 0
    digits = digits.lstrip(b"0")
    if not digits:
        return 0
    if len(digits) + shift > precision:
        raise NotExact(ErrorCode.RANGE)
    value = int(digits) * 10**shift
    return -value if number.negative else value


def _canonical(number: _Number) -> bytes:
    digits, exponent = number.digits.lstrip(b"0"), number.exponent
    zero = not digits
    fraction_size = max(-exponent, 0)
    whole_size = 0 if zero else max(len(digits) + exponent, 0)
    if max(whole_size, 1) + fraction_size > NUMERIC_DIGITS_MAX:
        raise NotExact(ErrorCode.RANGE)
    if zero:
        whole, fraction = b"", b"0" * fraction_size
    elif exponent >= 0:
        whole, fraction = digits + b"0" * exponent, b""
    else:
        padded = digits.rjust(fraction_size, b"0")
        whole, fraction = padded[: len(padded) - fraction_size], padded[len(padded) - fraction_size :]
    sign = b"-" if number.negative and not zero else b""
    return sign + (whole or b"0") + (b"." + fraction if fraction else b"")


def decimal_array(unscaled: list[int | None], data_type: pa.DataType) -> pa.Array:
    """An Arrow decimal array of unscaled integers."""
    width = data_type.byte_width
    data = b"".join((value or 0).to_bytes(width, "little", signed=True) for value in unscaled)
    validity = pa.array([value is not None for value in unscaled], pa.bool_()).buffers()[1]
    return pa.Array.from_buffers(data_type, len(unscaled), [validity, pa.py_buffer(data)])


def _read(
    values: pa.Array, precision: int, scale: int, convert: Callable[[bytes], int]
) -> tuple[pa.Array, list[tuple[int, ErrorCode]]]:
    if not (1 <= precision <= 76 and 0 <= scale <= precision):
        raise HeadraceError(f"decimal({precision},{scale}): expected 1 <= precision <= 76 and 0 <= scale <= precision")
    data_type = pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)
    unscaled: list[int | None] = []
    errors = []
    for row, value in enumerate(plain(values)):
        try:
            unscaled.append(None if value is None else convert(value))
        except NotExact as error:
            unscaled.append(None)
            errors.append((row, error.code))
    return decimal_array(unscaled, data_type), errors


def from_text(values: pa.StringArray, precision: int, scale: int) -> tuple[pa.Array, list[tuple[int, ErrorCode]]]:
    """Texts to decimal(precision, scale): the array, NULL where a text is in error, and (row, code) of each error."""
    return _read(values, precision, scale, lambda text: unscaled_from_text(text, precision, scale))


def from_bytes(
    values: pa.BinaryArray, wire_scale: int, precision: int, scale: int
) -> tuple[pa.Array, list[tuple[int, ErrorCode]]]:
    """Big-endian two's complement integers at `wire_scale` to decimals; the rest as from_text."""
    return _read(values, precision, scale, lambda data: unscaled_from_bytes(data, wire_scale, precision, scale))


def unscaled_text(value: int, scale: int) -> bytes:
    """The text of an unscaled integer, with exactly `scale` fraction digits."""
    return _canonical(_Number(value < 0, _digits(abs(value)), -scale))


def to_text(values: pa.Array) -> pa.StringArray:
    """Decimals to text with exactly their type's fraction digits: "-1.50"."""
    scale = values.type.scale
    texts = [None if value is None else unscaled_text(value, scale).decode() for value in plain(values)]
    return pa.array(texts, pa.utf8())
