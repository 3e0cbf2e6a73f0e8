"""The masks of libcore/mask.py in plain Python, value by value: what verification computes masked columns with."""

from __future__ import annotations

import calendar
import datetime
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from libcore.errors import DataError
from libcore.reference.values import plain

if TYPE_CHECKING:
    from libcore.mask import MaskRule

_DIGITS, _SMALL, _CAPITAL = "0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALPHABETS = {character: letters for letters in (_DIGITS, _SMALL, _CAPITAL) for character in letters}
_BLOCK_CHARACTERS = 16


def keyed(value: Any, rule: MaskRule, kind: pa.DataType) -> Any:
    """A hash or a token of one value of a column of that type, as pyarrow gives it; None for None."""
    if value is None:
        return None
    if rule.how == "hash":
        data = value if isinstance(value, bytes) else str(value).encode()
        return hashlib.blake2b(data, key=rule.key, digest_size=16).hexdigest()
    if isinstance(value, str):
        return _text_token(value, rule.key, rule.keep_last)
    return _integer_token(value, rule.key, kind.bit_width)


def _block(number: int, data: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(number.to_bytes(4, "little") + data, key=key, digest_size=64).digest()


def _text_token(text: str, key: bytes, keep_last: int) -> str:
    """Character i, of those that change, is chosen by word i % 16 of block i // 16: (word * letters) >> 32."""
    data, block, changed, made = text.encode(), b"", 0, []
    end = len(text) - keep_last if len(text) >= 2 * keep_last else len(text)
    for character in text[:end]:
        letters = _ALPHABETS.get(character) or ("" if character < "\x80" else _SMALL)
        if not letters:
            made.append(character)
            continue
        if changed % _BLOCK_CHARACTERS == 0:
            block = _block(changed // _BLOCK_CHARACTERS, data, key)
        at = 4 * (changed % _BLOCK_CHARACTERS)
        made.append(letters[int.from_bytes(block[at : at + 4], "little") * len(letters) >> 32])
        changed += 1
    return "".join(made) + text[end:]


def _integer_token(value: int, key: bytes, bits: int) -> int:
    """Another integer of the same sign and number of digits, within the type of so many bits."""
    digits = len(str(abs(value)))
    low = 10 ** (digits - 1) if digits > 1 else 0
    high = min(10**digits, 2 ** (bits - 1))
    token = low + int.from_bytes(_block(0, str(value).encode(), key)[:16], "little") % (high - low)
    return -token if value < 0 else token


def mask_column(column: pa.Array, rule: MaskRule) -> pa.Array:
    """See libcore.mask.mask_column."""
    if rule.how in ("hash", "token"):
        masked = [keyed(value, rule, column.type) for value in column.to_pylist()]
        return pa.array(masked, pa.utf8() if rule.how == "hash" else column.type)
    if rule.how == "null":
        return pa.array([None] * len(column), column.type)
    if rule.how in ("redact", "prefix"):
        change = _redacted(rule.keep_last) if rule.how == "redact" else lambda text: text[: rule.characters]
        return pa.array([None if text is None else change(text) for text in column.to_pylist()], pa.utf8())
    if rule.how == "bucket":
        return _buckets(column, rule)
    return _floored(column, rule.how)


def _redacted(keep_last: int) -> Callable[[str], str]:
    return lambda text: "***" + (text[-keep_last:] if keep_last and len(text) >= 2 * keep_last else "")


def _buckets(column: pa.Array, rule: MaskRule) -> pa.Array:
    assert rule.width is not None, "plan_mask saw to it"
    scale = column.type.scale if pa.types.is_decimal(column.type) else 0
    width = int(rule.width.scaleb(scale))
    values = [None if value is None else value // width * width for value in plain(column)]
    if pa.types.is_decimal(column.type):
        if any(value is not None and abs(value) >= 10**column.type.precision for value in values):
            raise DataError("a bucket outside of the type")
        raw = b"".join((value or 0).to_bytes(16, "little", signed=True) for value in values)
        valid = pa.array([value is not None for value in values], pa.bool_())
        return pa.Array.from_buffers(column.type, len(values), [valid.buffers()[1], pa.py_buffer(raw)])
    return pa.array(values, column.type)  # ArrowInvalid where one does not fit


def _floored(column: pa.Array, unit: str) -> pa.Array:
    is_date = pa.types.is_date32(column.type)
    a_day = 1 if is_date else 86_400 * (10**9 if column.type.unit == "ns" else 10**6)
    made = [None if value is None else _first_day(value // a_day, unit) * a_day for value in plain(column)]
    if any(value is not None and value < -(2**63) for value in made):
        raise DataError("a first day outside of the type")
    return pa.array(made, pa.int32() if is_date else pa.int64()).view(column.type)


def _first_day(day: int, unit: str) -> int:
    """The number of the first day of that day's month or year."""
    ordinal = day + datetime.date(1970, 1, 1).toordinal()
    if not 1 <= ordinal <= datetime.date.max.toordinal():
        raise DataError("a date outside of the calendar")
    found = datetime.date.fromordinal(ordinal)
    passed = found.day - 1
    if unit == "year":
        passed += sum(calendar.monthrange(found.year, month)[1] for month in range(1, found.month))
    return day - passed
