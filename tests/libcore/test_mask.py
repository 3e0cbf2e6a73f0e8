"""Masks: nothing in clear, equal values alike, the face as the reference; what does not fit is refused by name."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import mask_keyed
from libcore.errors import ConfigurationError, DataError
from libcore.mask import MaskRule, mask, mask_column, plan_mask
from libcore.reference import mask as reference
from libcore.schema import Column, Table, parse_type
from tests.libcore.batches import build, columns
from tests.libcore.strategies import EXAMPLES

KEY = bytes(range(32))
DATES = st.integers(-719_162, 2_932_896)
RULES = [
    ("string", MaskRule("hash", key=KEY)), ("bytes", MaskRule("hash", key=KEY)), ("int32", MaskRule("hash", key=KEY)),
    ("decimal(20,0)", MaskRule("hash", key=KEY)), ("string", MaskRule("token", key=KEY)),
    ("string", MaskRule("token", keep_last=2, key=KEY)), ("int16", MaskRule("token", key=KEY)),
    ("int64", MaskRule("token", key=KEY)), ("string", MaskRule("redact")), ("string", MaskRule("redact", keep_last=3)),
    ("bool", MaskRule("null")), ("string", MaskRule("prefix", characters=2)),
    ("int32", MaskRule("bucket", width=Decimal(1000))), ("decimal(18,4)", MaskRule("bucket", width=Decimal("0.25"))),
]  # fmt: skip


def outcome(function: Any, column: pa.Array, rule: MaskRule) -> Any:
    """What a mask gives, or that it refuses."""
    try:
        return function(column, rule).to_pylist()
    except (DataError, pa.ArrowInvalid):
        return "refused"


@pytest.mark.parametrize(("kind", "rule"), RULES, ids=[f"{rule.how} of {kind}" for kind, rule in RULES])
@settings(max_examples=EXAMPLES // 10)
@given(st.data())
def test_the_face_agrees_with_the_reference(kind: str, rule: MaskRule, data: st.DataObject) -> None:
    """Any column, NULLs, slices, repeats and the type's ends included, is masked as value by value."""
    column = data.draw(columns(parse_type(kind).arrow, 6))
    assert outcome(mask_column, column, rule) == outcome(reference.mask_column, column, rule)


@settings(max_examples=EXAMPLES // 2)
@given(
    st.lists(
        st.none() | st.text("09azAZ -.", max_size=40) | st.text("aä€\U00010348 ", max_size=20) | st.text(max_size=4),
        max_size=8,
    ),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 60),
)
def test_many_texts_get_the_tokens_that_each_gets_alone(
    texts: list[str | None], keep_last: int, skipped: int, piece_bytes: int
) -> None:
    """Whatever stands beside it, in slices, in pieces of any size, with several blocks a text, with NULLs."""
    column, rule = pa.array(texts, pa.utf8()).slice(skipped), MaskRule("token", keep_last=keep_last, key=KEY)
    with patch.object(mask_keyed, "_PIECE_BYTES", piece_bytes):
        found = mask_column(column, rule)
    found.validate(full=True)
    assert found.to_pylist() == [reference.keyed(text, rule, column.type) for text in column.to_pylist()]


@pytest.mark.parametrize("how", ["month", "year"])
@pytest.mark.parametrize("kind", ["date", "timestamp", "timestamptz", "timestamp_ns"])
@settings(max_examples=EXAMPLES // 10)
@given(days=st.lists(st.none() | DATES | st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=3), rest=st.integers(0))
def test_times_are_floored_as_by_the_calendar(how: str, kind: str, days: list[int | None], rest: int) -> None:
    """Every day from the year 1 to 9999 begins its month and year; one outside is refused."""
    arrow = parse_type(kind).arrow
    a_day = 1 if kind == "date" else 86_400 * (10**9 if arrow.unit == "ns" else 10**6)
    values = [None if day is None else day * a_day + rest % a_day for day in days]
    values = [None if value is None or not -(2**63) <= value < 2**63 else value for value in values]
    column, rule = build(arrow, values), MaskRule(how)
    assert _plain(mask_column, column, rule) == _plain(reference.mask_column, column, rule)


@pytest.mark.parametrize(("how", "first"), [("month", datetime.date(1677, 10, 1)), ("year", datetime.date(1678, 1, 1))])
def test_a_first_day_that_nanoseconds_cannot_hold_is_refused(how: str, first: datetime.date) -> None:
    """They begin within September 1677: the first of that month or year is none of them, and no day of 2261."""
    least = (first - datetime.date(1970, 1, 1)).days * 86_400 * 10**9
    for function in (mask_column, reference.mask_column):
        for value, expected in ((least, [least]), (least + 1, [least]), (least - 1, "refused"), (-(2**63), "refused")):
            column = build(parse_type("timestamp_ns").arrow, [value])
            assert _plain(function, column, MaskRule(how)) == expected


def _plain(function: Any, column: pa.Array, rule: MaskRule) -> Any:
    try:
        found = function(column, rule)
    except DataError:
        return "refused"
    return found.view(pa.int32() if pa.types.is_date32(column.type) else pa.int64()).to_pylist()


@given(st.text(max_size=40), st.integers(0, 5))
def test_a_token_keeps_the_format(text: str, keep_last: int) -> None:
    """A digit stays a digit, a letter one of its case, what lies beyond ASCII becomes a letter, all others stay."""
    (token,) = mask_column(pa.array([text]), MaskRule("token", keep_last=keep_last, key=KEY)).to_pylist()

    def form(value: str) -> str:
        value = re.sub(r"[^\x00-\x7f]", "a", value)
        return re.sub(r"[A-Z]", "A", re.sub(r"[a-z]", "a", re.sub(r"[0-9]", "0", value)))

    shown = keep_last if len(text) >= 2 * keep_last else 0
    assert form(token[: len(token) - shown]) == form(text[: len(text) - shown])
    assert token[len(token) - shown :] == text[len(text) - shown :]


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_s_token_has_as_many_digits(value: int) -> None:
    """Sign and digits stay, in any type that holds it: 41 becomes a number from 10 to 99."""
    for bits, kind in ((16, pa.int16()), (32, pa.int32()), (64, pa.int64())):
        if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            (token,) = mask_column(pa.array([value], kind), MaskRule("token", key=KEY)).to_pylist()
            assert len(str(abs(token))) == len(str(abs(value))) and (token >= 0 or value < 0)


def test_tokens_and_hashes_hang_on_the_key_and_hide_the_value() -> None:
    """Equal values are alike, another key gives others, and of a thousand hashes no two meet."""
    names = pa.array([f"Customer {number}" for number in range(1000)] * 2)
    for how in ("hash", "token"):
        first = mask_column(names, MaskRule(how, key=KEY)).to_pylist()
        other = mask_column(names, MaskRule(how, key=KEY[::-1])).to_pylist()
        assert first[:1000] == first[1000:]
        assert not set(first) & set(other) and not set(first) & set(names.to_pylist())
        assert how == "token" or len(set(first)) == 1000


def test_the_masks_of_known_values_stay() -> None:
    """Masked rows of one release match those of the next: these were written by the first."""
    assert mask_column(pa.array(["Müller", ""]), MaskRule("hash", key=KEY)).to_pylist() == [
        "5fedc94a9ca17527a2b0e9af1c52f826",
        "3daf97bce7888fd59773c66bf647459c",
    ]
    tokens = mask_column(pa.array(["DE89 3704 0044 0532 0130 00", "Zoë-Ann"]), MaskRule("token", key=KEY)).to_pylist()
    assert tokens == ["VV29 8161 4036 4896 3598 52", "Jkz-Lfh"]
    assert mask_column(pa.array([4711, -9]), MaskRule("token", key=KEY)).to_pylist() == [7319, -7]
    shown = mask_column(pa.array(["DE89370400440532013000", "abc"]), MaskRule("redact", keep_last=4)).to_pylist()
    assert shown == ["***3000", "***"]
    assert mask_column(pa.array([-1, 1999], pa.int32()), MaskRule("bucket", width=Decimal(1000))).to_pylist() == [
        -1000,
        1000,
    ]


CUSTOMERS = Table(
    "customers",
    tuple(
        Column(name, parse_type(kind), name != "id")
        for name, kind in {"id": "int64", "name": "string", "born": "date", "limit": "decimal(10,2)"}.items()
    ),
    ("id",),
)


def test_a_batch_keeps_all_that_is_not_masked() -> None:
    """Only named columns change; a hash makes text of a key; control columns are handed on."""
    from libcore.change import arrow_schema

    rules = {"id": MaskRule("hash", key=KEY), "name": MaskRule("redact")}
    plan = plan_mask(CUSTOMERS, rules, "masked")
    assert (
        str(plan.result.column("id").type) == "string" and plan.result.name == "masked" and plan.result.key == ("id",)
    )
    row = {"id": 1, "name": "Ann", "born": None, "limit": Decimal("1.50"), "__op": 1, "__position": bytes(32)}
    record = pa.RecordBatch.from_pylist([row, {**row, "name": None, "__op": 2}], schema=arrow_schema(CUSTOMERS))
    found = mask(plan, record)
    assert found.schema == arrow_schema(plan.result)
    assert found.column("name").to_pylist() == ["***", None]
    assert found.select(["born", "limit", "__op"]).equals(record.select(["born", "limit", "__op"]))
    assert "0001" not in repr(rules["id"]) and "key=" not in repr(rules["id"])


@pytest.mark.parametrize(
    ("column", "rule", "message"),
    [
        ("nmae", MaskRule("redact"), "expected columns of"),
        ("name", MaskRule("blur"), "expected one of hash, token"),
        ("limit", MaskRule("token", key=KEY), "expected a column that `token` takes, found decimal(10,2)"),
        ("id", MaskRule("token", key=KEY), "expected `hash` for a key column, found `token`"),
        ("name", MaskRule("hash"), "expected a secret for `hash`"),
        ("name", MaskRule("prefix"), "expected `characters`, at least 1"),
        ("limit", MaskRule("bucket"), "expected a `width` above 0, found None"),
        ("limit", MaskRule("bucket", width=Decimal("0.001")), "that a decimal(10,2) can hold"),
        ("limit", MaskRule("bucket", width=Decimal("NaN")), "expected a `width` above 0"),
    ],
)
def test_a_rule_that_does_not_fit_is_refused(column: str, rule: MaskRule, message: str) -> None:
    """The error names table, column, what was expected and what was found."""
    with pytest.raises(ConfigurationError) as caught:
        plan_mask(CUSTOMERS, {column: rule}, "masked")
    assert message in str(caught.value)


def test_an_error_names_no_value() -> None:
    """What cannot be masked is not shown by the error that says so."""
    with pytest.raises(DataError) as caught:
        mask_column(build(pa.date32(), [2_932_897]), MaskRule("year"), "born")
    assert str(caught.value) == "born: year: expected the years 1 to 9999, found a value outside"
