"""The columns that a row carries: decoding ends before a row that has others than the plan says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import decode as face
from libcore.decode_types import Encoding, EnvelopePlan, ErrorCode
from libcore.errors import ConfigurationError
from libcore.reference import decode as reference
from libcore.reference.json import parse
from libcore.schema import Table
from tests.examples import TIMES
from tests.libcore.batches import same
from tests.libcore.strategies import message_batch
from tests.libcore.wire_values import wire_column

FACES = pytest.mark.parametrize(
    "decode", [face.decode_envelopes, reference.decode_envelopes], ids=["face", "reference"]
)
NAMES = ("id", "a", "b", "a name of more than sixty-four bytes, which is too long to be remembered")
COLUMNS = tuple(wire_column(name, "int64", Encoding.INT) for name in NAMES)


def plan_of(carried: tuple[str, ...] | None, key: tuple[str, ...] = ("id",)) -> EnvelopePlan:
    """A plan of all columns that expects some of them."""
    return EnvelopePlan(Table("t", tuple(wire.column for wire in COLUMNS), key), COLUMNS, carried=carried)


def created(*names: str, op: str = "c", before: str = "null") -> bytes:
    """A change whose row has these fields, each of value 1."""
    fields = ",".join(f'"{name}":1' for name in names)
    return f'{{"before":{before},"after":{{{fields}}},"op":"{op}"}}'.encode()


@st.composite
def rows(draw: st.DrawFn) -> list[bytes]:
    """Changes in a few forms that come again and again, as they do at a source."""
    orders = st.permutations([*NAMES, "unknown", "other"]).flatmap(
        lambda order: st.integers(0, len(order)).map(lambda count: order[:count])
    )
    forms = draw(st.lists(orders, min_size=1, max_size=4))
    kinds = st.tuples(st.sampled_from(forms), st.sampled_from("ccud"), st.sampled_from(["null", '{"a":1,"id":1}']))
    return [created(*form, op=op, before=before) for form, op, before in draw(st.lists(kinds, max_size=12))]


@settings(max_examples=300 * TIMES, deadline=None)
@given(rows(), st.sampled_from([("id",), ()]), st.permutations(NAMES), st.integers(0, 4))
def test_both_faces_end_before_the_same_row(
    values: list[bytes], key: tuple[str, ...], order: list[str], count: int
) -> None:
    """C and reference agree call by call, also where each call expects what the row that ended the last one carries."""
    plan, start = plan_of(tuple(order[:count]), key), 0
    messages = message_batch([(b'{"id":1}', value) for value in values])
    while start < len(values):
        ours, expected = (each.decode_envelopes(plan, messages, start) for each in (face, reference))
        assert same(ours.record, expected.record)
        assert (ours.consumed, ours.stop) == (expected.consumed, expected.stop)
        if ours.stop is None:
            return
        assert ours.stop == "columns"
        found = [name for name in parse(values[ours.consumed]).first(b"after").members]  # type: ignore[union-attr]
        carried = tuple(name.decode() for _, name, _ in found if name.decode() in NAMES)
        assert carried != plan.carried  # so it does not end before that row again
        plan, start = replace(plan, carried=carried), ours.consumed


@FACES
def test_a_row_with_other_columns_ends_the_call(decode: Any) -> None:
    """One that lacks a column, has another one or has them in another order; unknown fields, deletes, tombstones and
    placeholders pass."""
    good, more = created("id", "a"), created("unknown", "id", "other", "a")
    null = b'{"before":null,"after":{"id":1,"a":null},"op":"u"}'
    delete = b'{"before":{"id":1},"after":null,"op":"d"}'
    for other in (created("id"), created("id", "a", "b"), created("a", "id"), created("id", "b"), created()):
        values = [good, more, good, null, delete, None, other, good]
        decoded = decode(plan_of(("id", "a")), message_batch([(b'{"id":1}', value) for value in values]))
        assert (decoded.consumed, decoded.stop, decoded.unknown, decoded.errors) == (6, "columns", "", [])
        assert decoded.rows.to_pylist() == list(range(6))


@FACES
def test_a_fault_comes_first(decode: Any) -> None:
    """A value that is wrong makes an error of its row whatever the row carries; a missing key comes behind."""
    wrong = b'{"before":null,"after":{"id":"x"},"op":"c"}'
    decoded = decode(plan_of(("id", "a")), message_batch([(None, wrong), (None, created("a"))]))
    assert [(error.message, error.code) for error in decoded.errors] == [(0, ErrorCode.TYPE)]
    assert (decoded.consumed, decoded.stop) == (1, "columns")


def test_carried_columns_are_columns() -> None:
    """A name that the table lacks, or one named twice, is refused."""
    for carried in (("id", "gone"), ("id", "id")):
        with pytest.raises(ConfigurationError, match="each once"):
            face.decode_envelopes(plan_of(carried), message_batch([]))
