"""Keyed hashes and text tokens of many values at once: hashlib's primitive for each value, all else column by column.

A keyed state is begun once and copied for each value, which costs less than setting the key anew. What comes out is
value by value that of reference/mask.py.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

_WORDS = 16  # of four bytes in a block, one for each character
_BEYOND = r"[^\x00-\x7f]"
_PIECE_BYTES = 1 << 18  # texts whose characters are spread out in memory together
_NONE, _ONE = pa.scalar(0, pa.int64()), pa.scalar(1, pa.int64())


def _by_byte(numbers: dict[str, int]) -> pa.Int64Array:
    """The number of the digits ("0"), the small ("a") and the capital letters ("A") at their codes; 0 elsewhere."""
    found = [0] * 256
    for first, count in (("0", 10), ("a", 26), ("A", 26)):
        found[ord(first) : ord(first) + count] = [numbers[first]] * count
    return pa.array(found, pa.int64())


_LETTERS = _by_byte({"0": 10, "a": 26, "A": 26})
_FIRST = _by_byte({first: ord(first) for first in "0aA"})


def hashes(values: pa.BinaryArray, key: bytes) -> pa.StringArray:
    """32 hexadecimal digits for each value; none of them is NULL."""
    begun = hashlib.blake2b(key=key, digest_size=16)
    digits = binascii.hexlify(b"".join(_digests(begun, values.to_pylist())))
    fixed = pa.Array.from_buffers(pa.binary(32), len(values), [None, pa.py_buffer(digits)])
    return fixed.cast(pa.binary()).cast(pa.utf8())


def text_tokens(values: pa.StringArray, key: bytes, keep_last: int) -> pa.StringArray:
    """A token for each text; none is NULL, and where characters stay, all are of ASCII."""
    # a character beyond ASCII is treated as a small letter, of one byte
    forms = values if pc.all(pc.string_is_ascii(values)).as_py() else pc.replace_substring_regex(values, _BEYOND, "a")
    pieces = [_tokens(values.slice(*piece), forms.slice(*piece), key, keep_last) for piece in _pieces(forms)]
    return pa.concat_arrays(pieces) if pieces else values


def _digests(begun: hashlib.blake2b, values: Sequence[bytes]) -> Iterator[bytes]:
    for value in values:
        state = begun.copy()
        state.update(value)
        yield state.digest()


def _pieces(values: pa.StringArray) -> Iterator[tuple[int, int]]:
    """(first, number) of runs of texts of at most _PIECE_BYTES together, or of one text."""
    ends = pc.cumulative_sum(pc.binary_length(values).cast(pa.int64()))
    start = done = 0
    while start < len(values):
        fitting = pc.sum(pc.less_equal(ends, pa.scalar(done + _PIECE_BYTES, pa.int64()))).as_py()
        stop = max(start + 1, fitting)
        yield start, stop - start
        start, done = stop, ends[stop - 1].as_py()


def _tokens(values: pa.StringArray, forms: pa.StringArray, key: bytes, keep_last: int) -> pa.StringArray:
    """The tokens of `values`, which look like `forms`, of ASCII.

    Character i, of those that change, is chosen by word i % 16 of block i // 16: (word * letters) >> 32.
    """
    whole = pa.Int32Array.from_buffers(pa.int32(), len(forms) + 1, [None, forms.buffers()[1]], offset=forms.offset)
    offsets, size = pc.subtract(whole, whole[0]), whole[-1].as_py() - whole[0].as_py()
    if not size:
        return values
    codes = pa.UInt8Array.from_buffers(pa.uint8(), size, [None, forms.buffers()[2]], offset=whole[0].as_py())
    text = pc.list_parent_indices(pa.ListArray.from_arrays(offsets, codes))
    starts, ends = offsets[:-1].cast(pa.int64()), offsets[1:].cast(pa.int64())
    letters = _changing(_LETTERS.take(codes), text, starts, ends, keep_last)
    changes = pc.greater(letters, _NONE)
    count = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(changes.cast(pa.int64()))])
    before = count.take(starts)
    blocks = pc.divide(pc.add(pc.subtract(count.take(ends), before), pa.scalar(_WORDS - 1, pa.int64())), _WORDS)
    words = _words(values.cast(pa.binary()).to_pylist(), blocks.to_pylist(), key)
    if not len(words):
        return values
    first = pc.subtract(pc.multiply(pc.subtract(pc.cumulative_sum(blocks), blocks), _WORDS), before)
    place = pc.if_else(changes, pc.add(first.take(text), count[:-1]), _NONE)
    chosen = pc.shift_right(pc.multiply(words.take(place).cast(pa.int64()), letters), pa.scalar(32, pa.int64()))
    made = pc.if_else(changes, pc.add(_FIRST.take(codes), chosen).cast(pa.uint8()), codes)
    return pa.StringArray.from_buffers(len(values), offsets.buffers()[1], made.buffers()[1])


def _changing(letters: pa.Array, text: pa.Array, starts: pa.Array, ends: pa.Array, keep_last: int) -> pa.Array:
    """The number of letters to choose from for each character; 0 for those at the end of their text that stay."""
    if not keep_last:
        return letters
    kept = pa.scalar(keep_last, pa.int64())
    is_long = pc.greater_equal(pc.subtract(ends, starts), pc.multiply(kept, pa.scalar(2, pa.int64())))
    end = pc.if_else(is_long, pc.subtract(ends, kept), ends)
    number = pc.subtract(pc.cumulative_sum(pa.repeat(_ONE, len(letters))), _ONE)
    return pc.if_else(pc.less(number, end.take(text)), letters, _NONE)


def _words(values: Sequence[bytes], blocks: Sequence[int], key: bytes) -> pa.UInt32Array:
    """The words of so many blocks for each value: of keyed hashes of the block's number and the value."""
    numbered = []
    for number in range(max(blocks)):
        numbered.append(hashlib.blake2b(number.to_bytes(4, "little"), key=key, digest_size=4 * _WORDS))
    made = []
    for value, count in zip(values, blocks, strict=True):
        for begun in numbered[:count]:
            state = begun.copy()
            state.update(value)
            made.append(state.digest())
    return pa.UInt32Array.from_buffers(pa.uint32(), _WORDS * len(made), [None, pa.py_buffer(b"".join(made))])
