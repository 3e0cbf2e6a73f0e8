"""Decoding envelopes: C agrees with the reference on everything, and both keep the rules one by one."""

from __future__ import annotations

import pickle
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import decode as face
from libcore.change import OP, POSITION, SOURCE_TS, UNSET, Op
from libcore.decode_types import Decoded, DecodeState, Encoding, EnvelopePlan, ErrorCode, WireColumn
from libcore.position import make, raised, split
from libcore.reference import decode as reference
from libcore.reference.values import plain
from libcore.schema import Table
from tests.libcore.batches import same
from tests.libcore.strategies import EXAMPLES, LEVELS, Batch, batches, message_batch
from tests.libcore.wire_values import wire_column

FACES = pytest.mark.parametrize(
    "decode", [face.decode_envelopes, reference.decode_envelopes], ids=["face", "reference"]
)
Decode = Any
ID, V = wire_column("id", "int64", Encoding.INT), wire_column("v", "string", Encoding.STRING)


_WRONG_BYTES = [bytes([byte]) for byte in b'"\\\\{}[],: \n\x000-.enux\xc3\x80\xff'] + [b""]


def plan_of(*columns: WireColumn, key: tuple[str, ...] = ("id",), **options: Any) -> EnvelopePlan:
    """A plan of those columns."""
    return EnvelopePlan(Table("erp.t", tuple(wire.column for wire in columns), key), columns, **options)


_FULL = (
    b'{"before":{"id":1,"v":"a"},"after":{"id":1,"v":"b\\u00e4","n":"-1.50"},'
    b'"source":{"version":"3.6","ts_us":1700000000000001,'
    b'"snapshot":"false","sequence":"[\\"12\\",\\"13\\"]","lsn":13},"transaction":null,"op":"u","ts_ms":1}'
)
_N = wire_column("n", "decimal(9,2)", Encoding.DECIMAL_TEXT)
FULL_MESSAGES = pytest.mark.parametrize(
    ("plan", "message"),
    [
        (plan_of(ID, V, _N, position="postgresql"), _FULL),
        (plan_of(ID, V, _N, key=(), position="postgresql"), _FULL),
        (plan_of(ID, V, _N, schema_bytes=b'{"t":[1]}'), b'{"schema":{"t":[1]},"payload":' + _FULL + b"}"),
        (plan_of(ID, V, _N, position="postgresql"), _FULL.replace(b'"op":"u"', b'"op":"d"')),
    ],
    ids=["keyed", "keyless", "wrapped", "delete"],
)


def told(decoded: Decoded) -> tuple[Any, ...]:
    """All that a call answers but the record and the errors' texts."""
    errors = [(error.message, error.byte_position, error.code) for error in decoded.errors]
    rest = (decoded.events, decoded.consumed, decoded.stop, decoded.unknown, decoded.state)
    return (errors, decoded.rows.to_pylist(), *rest)


def rows_of(decoded: Decoded) -> list[tuple[Any, ...]]:
    """(message, op, plain values, unset bits, position, source time) of each row."""
    record = decoded.record
    names = [name for name in record.schema.names if name not in (OP, POSITION, SOURCE_TS, UNSET)]
    values = zip(*(map(repr, plain(record.column(i))) for i in range(len(names))), strict=True)
    unset = record.column(UNSET).to_pylist() if UNSET in record.schema.names else [bytes(9)] * record.num_rows
    bits = [int.from_bytes(value, "little") for value in unset]
    places, times = record.column(POSITION).to_pylist(), plain(record.column(SOURCE_TS))
    return list(zip(decoded.rows.to_pylist(), plain(record.column(OP)), values, bits, places, times, strict=True))


@settings(max_examples=EXAMPLES)
@given(batches(), st.integers(0, 3))
def test_c_agrees_with_the_reference(batch: Batch, start: int) -> None:
    """Rows, NULLs, unset bits, errors, events, stops and state are the reference's, at every level of the machine."""
    messages = batch.record()
    start = min(start, messages.num_rows)
    expected = reference.decode_envelopes(batch.plan, messages, start, DecodeState())
    for level in LEVELS:
        found = face.decode_envelopes(batch.plan, messages, start, DecodeState(), level=level)
        found.record.validate()
        assert told(found) == told(expected)
        assert same(found.record, expected.record)
    assert all(error.text for error in found.errors)


def _in_pieces(plan: EnvelopePlan, messages: pa.RecordBatch, sizes: list[int]) -> tuple[Any, ...]:
    """Rows, errors and events of calls with so many messages each; a message that raises a stop is passed over."""
    rows, errors, events, stops = [], [], [], []
    at, turn, state = 0, 0, DecodeState()
    while at < messages.num_rows:
        size = sizes[turn % len(sizes)]
        decoded = face.decode_envelopes(plan, messages.slice(at, size), 0, pickle.loads(pickle.dumps(state)))
        rows += [(row[0] + at, *row[1:]) for row in rows_of(decoded)]
        errors += [(error.message + at, error.byte_position, error.code) for error in decoded.errors]
        events += [(message + at, kind) for message, kind in decoded.events]
        stops += [(at + decoded.consumed, decoded.stop)] if decoded.stop else []
        at, turn, state = at + decoded.consumed + bool(decoded.stop), turn + 1, decoded.state
    return rows, errors, events, stops, state


@FULL_MESSAGES
def test_one_wrong_byte_anywhere(plan: EnvelopePlan, message: bytes) -> None:
    """A byte changed, lost or doubled at every place of a message, behind a good one like it: both still agree."""
    r = Random(len(message))
    pairs: list[tuple[bytes | None, bytes | None]] = []
    for at in range(len(message)):
        for wrong in (*r.sample(_WRONG_BYTES, 3), message[at : at + 1] * 2):
            pairs += [(None, message), (None, message[:at] + wrong + message[at + 1 :])]
        pairs.append((None, message[:at]))
    while pairs:
        messages = message_batch(pairs)
        expected, found = reference.decode_envelopes(plan, messages), face.decode_envelopes(plan, messages)
        assert told(found) == told(expected)
        assert same(found.record, expected.record)
        pairs = pairs[expected.consumed + 1 :]


@settings(max_examples=EXAMPLES)
@given(batches(), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_batch_borders_and_crashes_change_nothing(batch: Batch, sizes: list[int]) -> None:
    """Messages cut into any batches, the state pickled in between, give the rows, positions and errors of one call."""
    messages = batch.record()
    assert _in_pieces(batch.plan, messages, sizes) == _in_pieces(batch.plan, messages, [100])


@settings(max_examples=EXAMPLES)
@given(batches())
def test_neighbours_of_a_bad_message_go_on(batch: Batch) -> None:
    """Without the messages that are in error the others give the same rows, events and state."""
    whole = face.decode_envelopes(batch.plan, batch.record())
    bad = {error.message for error in whole.errors}
    kept = [index for index in range(len(batch.messages)) if index not in bad]
    rest = face.decode_envelopes(batch.plan, message_batch([batch.messages[index] for index in kept]))
    assert rest.errors == []
    assert [row[1:] for row in rows_of(rest)] == [row[1:] for row in rows_of(whole)]
    assert [(kept[index], kind) for index, kind in rest.events] == whole.events
    assert (rest.stop, rest.state) == (whole.stop, whole.state)
    assert all(error.byte_position <= len(batch.messages[error.message][1] or b"") for error in whole.errors)


def envelope(op: str = "c", before: str = "null", after: str = "null", source: str = "null") -> bytes:
    """A message's value."""
    return f'{{"before":{before},"after":{after},"source":{source},"op":"{op}","ts_ms":1}}'.encode()


@FACES
def test_example(decode: Decode) -> None:
    """Create, update with an unsent value, key change, delete and tombstone in a table with a key, and their places."""
    source = '{{"ts_us":5,"lsn":{},"sequence":"[\\"20\\",\\"0\\"]","snapshot":"false"}}'.format
    messages = [
        (b'{"id":1}', envelope("c", "null", '{"id":1,"v":"a"}', source(30))),
        (b'{"id":1}', envelope("u", "null", '{"v":"__debezium_unavailable_value","id":1}', source(31))),
        (b'{"id":2}', envelope("u", '{"id":1,"v":"a"}', '{"id":2}', source(29))),
        (b'{"id":2}', envelope("d", '{"id":2,"v":null}', "null", source(40))),
        (b'{"schema":{},"payload":{"id":2}}', None),
    ]
    decoded = decode(plan_of(ID, V, position="postgresql", generation=7), message_batch(messages))
    at = make(7, 20, 31)
    assert rows_of(decoded) == [
        (0, Op.UPSERT, ("1", "b'a'"), 0, make(7, 20, 30), 5),
        (1, Op.UPSERT, ("1", "None"), 0b10, at, 5),
        (2, Op.DELETE, ("1", "None"), 0, raised(at), 5),
        (2, Op.UPSERT, ("2", "None"), 0b10, raised(raised(at)), 5),
        (3, Op.DELETE, ("2", "None"), 0, make(7, 20, 40), 5),
        (4, Op.DELETE, ("2", "None"), 0, make(7, 20, 40, 1), None),
    ]
    assert told(decoded) == ([], [0, 1, 2, 2, 3, 4], [], 5, None, "", DecodeState(make(7, 20, 40, 1), -1))


@FACES
def test_keyless_tables_know_a_redelivered_tail(decode: Decode) -> None:
    """Once the source has gone back, rows that came before are dropped, as many of one record as there were."""

    def change(lsn: int, op: str, *rows: str) -> tuple[None, bytes]:
        source = f'{{"lsn":{lsn},"sequence":"[null,\\"1\\"]"}}'
        return None, envelope(op, *(f'{{"v":"{row}"}}' if row else "null" for row in rows), source)

    tail = [change(5, "c", "", "b"), change(5, "c", "", "b"), change(6, "u", "b", "x"), change(6, "d", "a", "")]
    messages = [
        change(4, "c", "", "a"),
        *tail,
        *tail,
        change(6, "c", "", "new"),
        change(7, "c", "", "last"),
        (None, None),
    ]
    decoded = decode(plan_of(V, key=(), position="postgresql"), message_batch(messages))
    upsert, delete = int(Op.UPSERT), int(Op.DELETE)
    assert [(row[0], row[1], row[2][0], split(row[4])[2:]) for row in rows_of(decoded)] == [
        (0, upsert, "b'a'", (4, 0)),
        (1, upsert, "b'b'", (5, 0)),
        (2, upsert, "b'b'", (5, 1)),
        (3, delete, "b'b'", (6, 0)),
        (3, upsert, "b'x'", (6, 1)),
        (4, delete, "b'a'", (6, 2)),
        (9, upsert, "b'new'", (6, 3)),
        (10, upsert, "b'last'", (7, 0)),
    ]
    dropped = [(index, "redelivered") for index in (5, 6, 7, 7, 8)]
    assert decoded.events == [*dropped, (11, "tombstone")]
    assert decoded.errors == []


@FACES
@pytest.mark.parametrize(
    ("flavour", "source", "expected"),
    [
        ("postgresql", '{"lsn":9,"sequence":"[\\"7\\",\\"8\\"]"}', make(0, 7, 9)),
        ("postgresql", '{"lsn":9,"sequence":"[null,\\"8\\"]","snapshot":null}', make(0, 0, 9)),
        ("postgresql", '{"lsn":9,"sequence":"[null,\\"8\\"]","snapshot":"last"}', None),
        ("postgresql", '{"lsn":null,"sequence":"[null,\\"8\\"]"}', None),
        ("oracle", '{"scn":"18446744073709551616","commit_scn":"12"}', make(0, 12, 2**64)),
        ("oracle", '{"scn":"1","commit_scn":null}', None),
        (
            "sqlserver",
            '{"commit_lsn":"0000002A:00000758:0005","change_lsn":"0000002a:00000758:0003","event_serial_no":2}',
            make(0, 0x2A_00000758_0005, 0x2A_00000758_0003 << 32 | 2),
        ),
        ("sqlserver", '{"commit_lsn":"00000025:00000d98:00a2","change_lsn":null,"event_serial_no":null}', None),
        ("none", '{"lsn":9,"sequence":"[\\"7\\",\\"8\\"]"}', None),
    ],
)
def test_positions_of_each_source(decode: Decode, flavour: str, source: str, expected: bytes | None) -> None:
    """Each flavour's fields give the position; rows without one get the last one raised."""
    messages = message_batch([(None, envelope("c", "null", '{"id":1}', source))])
    decoded = decode(plan_of(ID, position=flavour), messages)
    assert decoded.record.column(POSITION).to_pylist() == [expected or raised(bytes(32))]


GOOD = '{"id":1,"v":"a"}'


@FACES
@pytest.mark.parametrize(
    ("value", "code", "position"),
    [
        (b'{"after":{"id":"x"},\xff', ErrorCode.UTF8, 20),
        (b'{"after":{"id":"x"},', ErrorCode.SYNTAX, 20),
        (b'{"after":{"id":"x","id":1}} ]', ErrorCode.SYNTAX, 28),
        (b'{"op":"c","after":{"v":' + b"[" * 64, ErrorCode.DEPTH, 23 + 62),
        (b'{"op":"c","after":{"id":1,"v":1,"id":2}}', ErrorCode.TYPE, 30),
        (b'{"op":"c","after":{"id":1,"id":2,"v":1}}', ErrorCode.DUPLICATE, 26),
        (b'{"op":"c","after":{"id":1,"\\u0069d":2}}', ErrorCode.DUPLICATE, 26),
        (b'{"op":"c","op":"u","after":{"id":1}}', ErrorCode.DUPLICATE, 10),
        (b'{"op":"c","after":{"id":1},"source":{"ts_us":1,"ts_us":1}}', ErrorCode.DUPLICATE, 47),
        (b'{"op":"c","after":{"id":1},"source":{"ts_us":"1"}}', ErrorCode.TYPE, 45),
        (b'{"op":"c","after":{"id":1},"source":{"ts_ms":9223372036854775807}}', ErrorCode.RANGE, 45),
        (b'{"op":"c","after":{"id":1},"source":[]}', ErrorCode.TYPE, 36),
        (b'{"op":"c","after":{"v":"ab\\ud800","id":1}}', ErrorCode.SURROGATE, 26),
        (b'{"op":"c","after":{"v":"\\ud83d\\u0041","id":1}}', ErrorCode.SURROGATE, 24),
        (b'{"op":"c","after":{"id":1.0}}', ErrorCode.TYPE, 24),
        (b'{"op":"c","after":{"id":9223372036854775808}}', ErrorCode.RANGE, 24),
        (b'{"op":"c","after":7}', ErrorCode.TYPE, 18),
        (b'{"op":"c","after":{"v":"a"}}', ErrorCode.KEY, 0),
        (b'{"op":"c","after":{"id":null,"v":"a"}}', ErrorCode.KEY, 0),
        (b'{"op":"c","after":null}', ErrorCode.KEY, 0),
        (b'{"op":"d","before":null}', ErrorCode.KEY, 0),
        (b'{"op":"x","after":{"id":1}}', ErrorCode.OP, 0),
        (b'{"op":null,"ts_ms":1}', ErrorCode.OP, 0),
        (b'{"before":1}', ErrorCode.OP, 0),
        (b"[]", ErrorCode.TYPE, 0),
        (b" 5", ErrorCode.TYPE, 1),
        (b"", ErrorCode.SYNTAX, 0),
    ],
)
def test_errors_come_by_precedence_at_their_byte(decode: Decode, value: bytes, code: ErrorCode, position: int) -> None:
    """UTF8 before SYNTAX and DEPTH before the value fault that stands first before OP and KEY; neighbours go on."""
    good = (None, envelope("c", "null", GOOD))
    decoded = decode(plan_of(ID, V), message_batch([good, (None, value), good]))
    assert [(error.message, error.code, error.byte_position) for error in decoded.errors] == [(1, code, position)]
    assert decoded.rows.to_pylist() == [0, 2]


@FACES
def test_keyless_tables_need_the_whole_row(decode: Decode) -> None:
    """Without a key an update or delete needs `before`, and no value may be unsent; a missing column is NULL."""
    unsent = '{"v":"__debezium_unavailable_value"}'
    values = [envelope("d"), envelope("u", "null", '{"v":"a"}'), envelope("c", "null", unsent), envelope("d", "{}")]
    decoded = decode(plan_of(V, key=()), message_batch([(None, value) for value in values]))
    assert [(error.message, error.code) for error in decoded.errors] == [(i, ErrorCode.BEFORE) for i in range(3)]
    assert [row[:4] for row in rows_of(decoded)] == [(3, Op.DELETE, ("None",), 0)]


@FACES
def test_stops_come_before_their_message(decode: Decode) -> None:
    """A truncate, another schema part and an unknown column end the call; what stood before is decoded."""
    good = envelope("c", "null", GOOD)
    unknown = envelope("c", "null", '{"id":1,"v":"a","n\\u0065w":{}}')
    for value, stop, name in [
        (envelope("t"), "truncate", ""),
        (b'{"schema":1}', "schema", ""),
        (unknown, "unknown", "new"),
    ]:
        decoded = decode(
            plan_of(ID, V, stop_on_unknown=True), message_batch([(None, good), (None, value), (None, good)])
        )
        assert (decoded.consumed, decoded.stop, decoded.unknown, decoded.rows.to_pylist()) == (1, stop, name, [0])
    wrapped = b'{"schema":{"a":[]},"payload":' + good + b"}"
    decoded = decode(plan_of(ID, V, schema_bytes=b'{"a":[]}'), message_batch([(None, wrapped), (None, good)]))
    assert (decoded.consumed, decoded.stop, decoded.rows.to_pylist()) == (1, "schema", [0])


@FACES
def test_messages_that_are_no_rows(decode: Decode) -> None:
    """Heartbeats, transaction metadata, logical messages and tombstones without a key are events, not errors."""
    values = [b'{"ts_ms":1}', b'{"status":"BEGIN","id":"1:2","ts_ms":1}', b'{"op":"m","message":{}}', None]
    decoded = decode(plan_of(ID, V), message_batch([(None, value) for value in values]))
    assert decoded.events == [(0, "heartbeat"), (1, "transaction"), (2, "message"), (3, "tombstone")]
    assert (decoded.errors, decoded.record.num_rows, decoded.consumed) == ([], 0, 4)


@FACES
def test_deletes_find_their_key(decode: Decode) -> None:
    """The key comes from `before` where it is whole, else from the message's key, wrapped or not; else KEY."""
    by_key, no_key = b'{"schema":null,"payload":{"id":7}}', b'{"schema":7}'
    messages = [
        (by_key, envelope("d", '{"id":1}')), (by_key, envelope("d", '{"id":null,"v":3}')), (b'{"id":7}', envelope("d")),
        (b"{", envelope("d")), (b'{"id":"7"}', None), (no_key, None), (b'{"id":7,"id":7}', envelope("d")),
    ]  # fmt: skip
    decoded = decode(plan_of(ID, V), message_batch(messages))
    assert [(row[0], row[2][0]) for row in rows_of(decoded)] == [(0, "1"), (1, "7"), (2, "7")]
    assert [(e.message, e.byte_position, e.code) for e in decoded.errors] == [
        (i, 0, ErrorCode.KEY) for i in range(3, 7)
    ]
    named = decode(
        plan_of(wire_column("schema", "int64", Encoding.INT), key=("schema",)), message_batch([(no_key, None)])
    )
    assert [row[2] for row in rows_of(named)] == [("7",)]


@FACES
def test_a_row_of_ten_megabytes(decode: Decode) -> None:
    """A huge value passes whole, NUL bytes and astral letters too."""
    text = "\\u0000\\ud83d\\ude00" + "ä" * 5_000_000
    decoded = decode(plan_of(ID, V), message_batch([(None, envelope("c", "null", f'{{"id":1,"v":"{text}"}}'))]))
    assert decoded.record.column(1).to_pylist() == ["\0😀" + "ä" * 5_000_000]
