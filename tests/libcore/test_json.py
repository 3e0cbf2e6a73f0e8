"""JSON: C and reference judge every text alike, as Python's own reader does, and blame the first byte that is wrong."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libcore import json as face
from libcore.decode_types import ErrorCode
from libcore.reference import json as reference
from tests.libcore.strategies import EXAMPLES, LEVELS, hostile_bytes, json_texts

VALID = (0, -1)
Judge = Any


def _judge(judge: Judge, *texts: bytes | None) -> list[tuple[int, int]]:
    return judge(pa.array(texts, pa.binary()))


@settings(max_examples=EXAMPLES)
@given(st.lists(hostile_bytes() | st.none(), max_size=8), st.integers(0, 3))
def test_c_agrees_with_the_reference(texts: list[bytes | None], skipped: int) -> None:
    """C gives the codes and positions of the reference at every level of the machine, also for a slice of a column."""
    values = pa.array(texts, pa.binary())[min(skipped, len(texts)) :]
    expected = reference.validate(values)
    for level in LEVELS:
        assert face.validate(values, level=level) == expected


@settings(max_examples=EXAMPLES)
@given(hostile_bytes())
@example(b"")
@example(b"1" * 5000)
@example(b'"\x7f\xc2\x80"')
def test_valid_is_what_pythons_reader_takes(text: bytes) -> None:
    """A text is valid exactly where Python's json reads it, NaN words apart, or where only its depth is refused."""
    code, position = _judge(face.validate, text)[0]
    assert code == ErrorCode.DEPTH or (code == 0) == _python_reads(text)
    assert (position == -1) == (code == 0)


def _python_reads(text: bytes) -> bool:
    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        json.loads(text.decode("utf-8"), parse_constant=refuse, parse_int=str)
    except ValueError:
        return False
    return True


@settings(max_examples=EXAMPLES)
@given(hostile_bytes())
def test_the_text_before_the_fault_is_only_cut_short(text: bytes) -> None:
    """Up to the byte to blame a text lacks nothing but its rest: alone it is valid, or at fault at its very end."""
    code, position = _judge(face.validate, text)[0]
    if code == ErrorCode.SYNTAX:
        assert 0 <= position <= len(text)
        assert _judge(face.validate, text[:position])[0] in (VALID, (ErrorCode.SYNTAX, position))


@settings(max_examples=EXAMPLES)
@given(json_texts(), st.data())
def test_a_container_cut_anywhere_is_at_fault_at_its_end(text: bytes, data: st.DataObject) -> None:
    """Every true beginning of an array or object is cut short: SYNTAX at its length, or UTF8 inside a letter."""
    whole = b"[" + text + b"]"
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    code, position = _judge(face.validate, part)[0]
    assert (code, position) == (ErrorCode.SYNTAX, len(part)) or (code == ErrorCode.UTF8 and part[position] >= 0xC0)


@pytest.mark.parametrize("judge", [face.validate, reference.validate], ids=["face", "reference"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b' {"a":[1,-0.5e+3,null]} \n', VALID),
        (b'"\\ud800"', VALID),
        (b'{"a":1,"a":2}', VALID),
        (b"1" * 100_000, VALID),
        (b"", (ErrorCode.SYNTAX, 0)),
        (b"  ", (ErrorCode.SYNTAX, 2)),
        (b"01", (ErrorCode.SYNTAX, 1)),
        (b"[1,]", (ErrorCode.SYNTAX, 3)),
        (b'{"a":1,}', (ErrorCode.SYNTAX, 7)),
        (b"{a:1}", (ErrorCode.SYNTAX, 1)),
        (b"nulL", (ErrorCode.SYNTAX, 3)),
        (b"NaN", (ErrorCode.SYNTAX, 0)),
        (b"1.e5", (ErrorCode.SYNTAX, 2)),
        (b"-", (ErrorCode.SYNTAX, 1)),
        (b'"a\nb"', (ErrorCode.SYNTAX, 2)),
        (b'"a\x00"', (ErrorCode.SYNTAX, 2)),
        (b'"\\x"', (ErrorCode.SYNTAX, 2)),
        (b'"\\u12g4"', (ErrorCode.SYNTAX, 5)),
        (b'"\\u12', (ErrorCode.SYNTAX, 5)),
        (b'"abc', (ErrorCode.SYNTAX, 4)),
        (b"1 2", (ErrorCode.SYNTAX, 2)),
        (b"\xef\xbb\xbf1", (ErrorCode.SYNTAX, 0)),
        (b'{,"\xff"', (ErrorCode.UTF8, 3)),
        (b'"\xc3\xa4\xc3"', (ErrorCode.UTF8, 3)),
        (b'"\xed\xa0\x80"', (ErrorCode.UTF8, 1)),
        (b'"\xf4\x90\x80\x80"', (ErrorCode.UTF8, 1)),
        (b'"\xc0\xaf"', (ErrorCode.UTF8, 1)),
        (b'"\xe2\x82', (ErrorCode.UTF8, 1)),
    ],
)
def test_examples(judge: Judge, text: bytes, expected: tuple[int, int]) -> None:
    """Each rule of JSON once, with the byte to blame."""
    assert _judge(judge, text) == [expected]


@pytest.mark.parametrize("judge", [face.validate, reference.validate], ids=["face", "reference"])
def test_depth(judge: Judge) -> None:
    """64 open brackets are taken; the 65th is at fault, however deep the text goes on, and before what follows it."""
    mixed = b'[{"k":' * 32
    deep = [b"[" * 64 + b"]" * 64, mixed + b"1" + b"}]" * 32, mixed + b" [1", b"[" * 1_000_000, b"[]," * 3]
    depth = int(ErrorCode.DEPTH)
    assert _judge(judge, *deep) == [VALID, VALID, (depth, len(mixed) + 1), (depth, 64), (int(ErrorCode.SYNTAX), 2)]


def test_nulls_and_no_rows() -> None:
    """A NULL is valid, and a column without rows has no answers."""
    assert _judge(face.validate, None, b"x", None) == [VALID, (ErrorCode.SYNTAX, 0), VALID]
    assert _judge(face.validate) == []


def test_ten_megabytes() -> None:
    """A text of 10 MB is judged like a short one, by the fault in its last bytes too."""
    text = b'{"a":"' + b"\xc3\xa4" * 5_000_000 + b'"}'
    assert _judge(face.validate, text, text[:-1], text[:-3]) == [
        VALID,
        (ErrorCode.SYNTAX, len(text) - 1),
        (ErrorCode.UTF8, len(text) - 4),
    ]
