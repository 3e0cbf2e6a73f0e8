"""Splitting OpenLogReplicator's messages: C agrees with the reference on everything, and both keep the rules."""

from __future__ import annotations

from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import openlogreplicator as face
from libcore.decode_types import ErrorCode
from libcore.errors import ConfigurationError, HeadraceError
from libcore.openlogreplicator_types import Split
from libcore.reference import openlogreplicator as reference
from tests.libcore.olr_messages import TABLES, message
from tests.libcore.strategies import EXAMPLES, LEVELS, message_batch

FACES = pytest.mark.parametrize("split", [face.split, reference.split], ids=["face", "reference"])
C = ErrorCode


def batch(*values: str | bytes | None) -> Any:
    """Messages without keys, their offsets from 0 up."""
    return message_batch([(None, value.encode() if isinstance(value, str) else value) for value in values])


def told(made: Split) -> tuple[Any, ...]:
    """All that a call answers, as plain values."""
    return made.changes.to_pylist(), made.counts, made.others, made.ddl, made.errors


@settings(max_examples=EXAMPLES)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.05, 0.3]), st.sampled_from(LEVELS), st.integers(1, len(TABLES)))
def test_agrees_with_the_reference(seed: int, wild: float, level: int, count: int) -> None:
    """C and the reference part any batch of messages in the same way, whatever its offset, good or not."""
    r = Random(seed)
    messages = batch(*(message(r, wild) for _ in range(r.randint(0, 12))))
    for given_messages in (messages, messages.slice(min(1, messages.num_rows))):
        made = face.split(TABLES[:count], given_messages, level=level)
        made.changes.validate(full=True)
        assert told(made) == told(reference.split(TABLES[:count], given_messages))


CHANGE = '{"op":"c","schema":{"owner":"ERP","table":"%s"},"after":{"ID":%d}}'


@FACES
def test_a_transaction_is_parted_by_tables(split: Any) -> None:
    """Changes of a table come together, in their order, each behind its message's offset and its place in it."""
    items, orders = CHANGE % ("ITEMS", 1), CHANGE % ("ORDERS", 2)
    whole = f'{{"scn":5,"xid":"0x0002.012.00004162","payload":[{items},{orders},{CHANGE % ("OTHER", 3)},{items}]}}'
    marks = '{"scn":6,"payload":[{"op":"begin"}]}', '{"c_scn":6,"payload":[{"op":"commit"}]}'
    made = split(TABLES, batch(marks[0], whole, None, marks[1], f'{{"payload":[{items}]}}'))
    assert (made.counts, made.others, made.ddl, made.errors) == ([3, 1, 0, 0], 1, [], [])
    assert [row["value"].decode() for row in made.changes.to_pylist()] == [
        '{"source":{"commit_scn":"1","scn":"0"},' + items[1:],
        '{"source":{"commit_scn":"1","scn":"3"},' + items[1:],
        '{"source":{"commit_scn":"4","scn":"0"},' + items[1:],
        '{"source":{"commit_scn":"1","scn":"1"},' + orders[1:],
    ]
    assert made.changes.column("offset").to_pylist() == [1, 1, 4, 1]


@FACES
def test_names_of_tables_are_unescaped(split: Any) -> None:
    """A table whose name has slashes, which OpenLogReplicator escapes, is found by its name."""
    change = '{"op":"d","schema":{"owner":"SAPSR3","table":"\\/BIC\\/AZSD"},"before":{"ID":1}}'
    assert split(TABLES, batch(f'{{"payload":[{change}]}}')).counts == [0, 0, 1, 0]


@FACES
def test_statements_are_listed(split: Any) -> None:
    """A message with DDL is told once, whatever else it holds; a checkpoint is passed over."""
    ddl = '{"op":"ddl","schema":{"owner":"ERP","table":"ITEMS"},"sql":"alter table ITEMS add X number"}'
    check = '{"scn":1,"payload":[{"op":"chkpt","seq":1763,"offset":15872}]}'
    made = split(TABLES, batch(check, f'{{"payload":[{ddl},{CHANGE % ("ITEMS", 1)},{ddl}]}}'))
    assert (made.ddl, made.counts, made.errors) == ([1], [1, 0, 0, 0], [])


@FACES
@pytest.mark.parametrize(
    ("text", "code", "position"),
    [
        ("", C.SYNTAX, 0),
        ('{"payload":[', C.SYNTAX, 12),
        ('{"payload":[{"op":"c"}],"x":inf}', C.SYNTAX, 28),
        ("[]", C.TYPE, 0),
        ("{}", C.OP, 0),
        ('{"payload":{}}', C.TYPE, 11),
        ('{"payload":[1]}', C.TYPE, 12),
        ('{"payload":[],"payload":[]}', C.DUPLICATE, 14),
        ('{"payload":[{"op":"x"}]}', C.OP, 18),
        ('{"payload":[{"op":1}]}', C.TYPE, 18),
        ('{"payload":[{"schema":{}}]}', C.OP, 12),
        ('{"payload":[{"op":"c","schema":{"owner":"ERP"}}]}', C.TYPE, 12),
        ('{"payload":[{"op":"c","schema":{"table":1}}]}', C.TYPE, 40),
        ('{"payload":[{"op":"c","schema":{"table":"\\ud800"}}]}', C.SURROGATE, 41),
        ('{"payload":[{"op":"c","op":"c"}]}', C.DUPLICATE, 22),
        (b'{"payload":[{"op":"\xff"}]}', C.UTF8, 19),
    ],
)
def test_a_bad_message_leaves_its_neighbours(split: Any, text: str | bytes, code: C, position: int) -> None:
    """A message with a fault gives no change at all, and says where the fault is; those around it are parted."""
    good = f'{{"payload":[{CHANGE % ("ITEMS", 1)}]}}'
    made = split(TABLES, batch(good, text, good))
    assert made.errors == [(1, position, code)]
    assert made.changes.column("offset").to_pylist() == [0, 2]


@FACES
def test_a_transaction_is_bad_as_a_whole(split: Any) -> None:
    """Of a message whose last change is bad no change goes out."""
    text = f'{{"payload":[{CHANGE % ("ITEMS", 1)},{CHANGE % ("X", 1)},{{}}]}}'
    made = split(TABLES, batch(text))
    assert (made.counts, made.others, made.errors) == ([0] * 4, 0, [(0, text.rindex("{"), C.OP)])


@FACES
def test_wrong_tables_are_refused(split: Any) -> None:
    """None, a name without a byte, and names out of order or twice never reach the data."""
    for tables in ([], [""], ["B", "A"], ["A", "A"], ["x" * 1001]):
        with pytest.raises(ConfigurationError, match="expected"):
            face.split(tables, batch())
    assert split(["A"], batch()).counts == [0]


def test_a_negative_offset_is_refused() -> None:
    """An offset that no broker gives would make a position that cannot be read."""
    messages = batch("{}")
    below = messages.set_column(2, messages.schema.field(2), pa.array([-1], pa.int64()))
    with pytest.raises(HeadraceError, match="offset from 0 up"):
        face.split(TABLES, below)
