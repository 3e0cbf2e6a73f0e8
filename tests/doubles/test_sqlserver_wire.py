"""Values as TDS carries them: what is encoded is read again, and the bytes are those of the protocol's document."""

from __future__ import annotations

import re
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.requests import Reader, clock, decode, read_calls
from tests.doubles.sqlserver.types import COLLATIONS, parse_type
from tests.doubles.sqlserver.wire import PLP_NULL, declaration, encode_column, null, wide_bytes, wide_text

_DAYS = st.dates().map(str)
_TEXTS = st.text(st.characters(codec="utf-8", max_codepoint=0x10F7FF), max_size=40)


def _digits(precision: int, scale: int) -> st.SearchStrategy[str]:
    whole = 10**precision - 1
    return st.integers(-whole, whole).map(lambda number: f"{Decimal(number).scaleb(-scale):.{scale}f}")


def _clocks(scale: int) -> st.SearchStrategy[str]:
    step = 10 ** (7 - scale)
    return st.integers(0, 864_000_000_000 // step - 1).map(lambda units: clock(units * step))


def _moments(scale: int) -> st.SearchStrategy[str]:
    return st.tuples(_DAYS, _clocks(scale)).map(" ".join)


def _offsets(scale: int) -> st.SearchStrategy[str]:
    days = st.dates(date.min + timedelta(2), date.max - timedelta(2)).map(str)
    zones = st.integers(-840, 840).map(lambda m: f"{'-' if m < 0 else '+'}{abs(m) // 60:02}:{abs(m) % 60:02}")
    return st.tuples(days, _clocks(scale), zones).map(" ".join)


_VALUES = {
    "bit": st.integers(0, 1), "tinyint": st.integers(0, 255), "smallint": st.integers(-(1 << 15), (1 << 15) - 1),
    "int": st.integers(-(1 << 31), (1 << 31) - 1), "bigint": st.integers(-(1 << 63), (1 << 63) - 1),
    "real": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "float": st.floats(allow_nan=False, allow_infinity=False), "money": _digits(18, 4), "smallmoney": _digits(9, 4),
    "decimal(9,0)": _digits(9, 0), "decimal(18,4)": _digits(18, 4), "numeric(28,28)": _digits(28, 28),
    "decimal(38,10)": _digits(38, 10), "date": _DAYS, "time(0)": _clocks(0), "time(7)": _clocks(7),
    "datetime2(3)": _moments(3), "datetime2(7)": _moments(7), "datetimeoffset(7)": _offsets(7),
    "uniqueidentifier": st.uuids().map(lambda guid: str(guid).upper()), "nvarchar(40)": _TEXTS.map(lambda t: t[:20]),
    "nvarchar(max)": _TEXTS, "ntext": _TEXTS, "xml": _TEXTS, "varchar(40)": st.text("abcü€ ", max_size=40),
    "varchar(max)": st.text("abcü€ ", max_size=40), "varbinary(50)": st.binary(max_size=50),
    "varbinary(max)": st.binary(max_size=50), "image": st.binary(max_size=50),
    "binary(10)": st.binary(min_size=10, max_size=10),
    "rowversion": st.binary(min_size=8, max_size=8), "hierarchyid": st.binary(max_size=50),
    "geography": st.binary(max_size=50),
}  # fmt: skip
_TYPED = st.sampled_from(sorted(_VALUES)).flatmap(lambda name: st.tuples(st.just(name), _VALUES[name] | st.none()))


@given(_TYPED)
def test_what_is_encoded_is_read_again(typed: tuple[str, object]) -> None:
    """A value of any type, NULL too, comes back from its bytes in a row exactly as it was."""
    kind = parse_type(typed[0])
    (encoded,) = encode_column(kind, [typed[1]])
    assert decode(kind, encoded) == typed[1]
    assert (encoded == null(kind)) == (typed[1] is None)


@pytest.mark.parametrize(
    ("kind", "value", "encoded"),
    [
        ("int", -2, "04 fe ff ff ff"),
        ("decimal(18,4)", "-1.5000", "09 00 98 3a 00 00 00 00 00 00"),
        ("money", "-0.0001", "08 ff ff ff ff ff ff ff ff"),
        ("date", "0001-01-02", "03 01 00 00"),
        ("datetime2(7)", "9999-12-31 23:59:59.9999999", "08 ff bf 69 2a c9 da b9 37"),
        ("datetime", "2026-09-06 12:34:56.0000000", "08 bd b4 00 00 40 59 cf 00"),
        ("datetimeoffset(0)", "2000-01-01 00:00:00.0000000 +01:00", "08 70 43 01 06 24 0b 3c 00"),
        ("uniqueidentifier", "6F9619FF-8B86-D011-B42D-00C04FC964FF",
         "10 ff 19 96 6f 86 8b 11 d0 b4 2d 00 c0 4f c9 64 ff"),
        ("nvarchar(4)", "ü😀", "06 00 fc 00 3d d8 00 de"),
        ("nvarchar(max)", "a", "02 00 00 00 00 00 00 00 02 00 00 00 61 00 00 00 00 00"),
        ("binary(3)", b"\x01", "03 00 01 00 00"),
    ],
)  # fmt: skip
def test_the_bytes_of_a_value(kind: str, value: object, encoded: str) -> None:
    """Values have the bytes that the protocol's document gives them."""
    assert encode_column(parse_type(kind), [value])[0].hex(" ") == encoded


def test_null_of_a_max_type_is_not_empty() -> None:
    """NULL of a MAX type is a mark of eight bytes, an empty text is a value without chunks."""
    kind = parse_type("nvarchar(max)")
    assert encode_column(kind, [None, ""]) == [PLP_NULL, bytes(12)]
    assert [decode(kind, encoded) for encoded in (PLP_NULL, bytes(12))] == [None, ""]


@given(st.lists(st.integers(0, 0xFFFF), max_size=20))
def test_any_units_of_utf_16_are_kept(units: list[int]) -> None:
    """Text of any 16-bit units, halves of pairs among them, comes back unit by unit."""
    raw = b"".join(unit.to_bytes(2, "little") for unit in units)
    kept = wide_text(raw)
    kept.encode()  # SQLite can hold it
    if not re.search("[\U0010f800-\U0010ffff]", raw.decode("utf-16-le", "surrogatepass")):
        assert wide_bytes(kept) == raw


@given(st.lists(_offsets(7), min_size=2, max_size=2))
def test_moments_compare_in_utc(pair: list[str]) -> None:
    """Two moments compare as they follow one another, whatever their offsets are."""
    one, other = (encode_column(parse_type("datetimeoffset(7)"), [value])[0] for value in pair)
    ticks = [
        int.from_bytes(e[6:9], "little") * 864_000_000_000 + int.from_bytes(e[1:6], "little") for e in (one, other)
    ]
    assert COLLATIONS["moment"](*pair) == (ticks[0] > ticks[1]) - (ticks[0] < ticks[1])


def test_a_message_that_is_cut_short() -> None:
    """A call whose bytes end too early is an error of the protocol, not a value."""
    whole = bytes.fromhex("04000000 ffff 0a00 0000 00 00") + declaration(parse_type("nvarchar(9)")) + b"\x08\x00ab"
    with pytest.raises(SqlError, match="protocol stream is incorrect"):
        read_calls(whole)
    with pytest.raises(SqlError, match="protocol stream is incorrect"):
        Reader(b"abc").take(4)
    with pytest.raises(ValueError, match="no type"):
        parse_type("cursor")
