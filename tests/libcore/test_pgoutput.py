"""pgoutput: the C decoder gives the rows of the plain reference, for right and for hostile messages alike."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore import pgoutput_messages as messages
from libcore import position
from libcore.change import OP, POSITION, SOURCE_TS, TX, TX_ORDER, UNSET, Op
from libcore.decode_types import ErrorCode
from libcore.errors import ConfigurationError
from libcore.pgoutput import decode_pgoutput
from libcore.pgoutput_types import Kind, PgoutputDecoded, PgoutputPlan, PgoutputState, RelationPlan, Wire
from libcore.reference import pgoutput as reference
from libcore.reference.values import plain
from libcore.schema import Column, Table, parse_type
from tests.examples import TIMES
from tests.libcore import pgoutput_wire as wire
from tests.libcore.batches import check_sound, same
from tests.libcore.pgoutput_values import BINARIES, TEXTS, TYPES
from tests.libcore.strategies import SEEDS

ALL = Table(
    "erp.all", (Column("id", parse_type("int64")), *(Column(n, parse_type(t)) for n, (_, t) in TYPES.items())), ("id",)
)
ALL_PLAN = RelationPlan(16384, ALL, (Wire(Kind.INT, 0), *(Wire(k, i + 1) for i, (k, _) in enumerate(TYPES.values()))))
_ITEMS = (("name", "string"), ("id", "decimal(10,2)"), ("note", "string"), ("gone", "int32"))
ITEMS = Table("erp.items", tuple(Column(name, parse_type(text)) for name, text in _ITEMS), ("id", "name"))
ITEMS_WIRE = (Wire(Kind.NUMERIC, 1), Wire(Kind.TEXT, 0), Wire(Kind.OTHER), Wire(Kind.TEXT, 2))
ITEMS_PLAN = RelationPlan(16390, ITEMS, ITEMS_WIRE, b"\0\0\x40\x06seen before")
KEYLESS = Table("erp.log", (Column("a", parse_type("int32")), Column("b", parse_type("string"))))
KEYLESS_PLAN = RelationPlan(5, KEYLESS, (Wire(Kind.INT, 0), Wire(Kind.TEXT, 1)))
IGNORED_PLAN, REFUSED_PLAN = RelationPlan(9, None), RelationPlan(11, None, refused="a column was dropped")
PLAN = PgoutputPlan((ALL_PLAN, ITEMS_PLAN, KEYLESS_PLAN, IGNORED_PLAN, REFUSED_PLAN), generation=3, transactions=True)
GOLDEN = Path(__file__).parents[1] / "golden"
OIDS = [relation.oid for relation in PLAN.relations]


def _value(r: Random, name: str) -> Any:
    """A value of a column of the table of every type, right or hostile, NULL, or not sent."""
    if name == "id":
        return r.choice(("1", "2"))
    return r.choice((r.choice(TEXTS[name]), r.choice(BINARIES[name]), None, wire.UNCHANGED))


def _all_values(r: Random) -> list[Any]:
    """A row of the table of every type; at most two values are drawn from everything, so that most rows are good."""
    row: list[Any] = [r.choice(("1", "2")), *(TEXTS[name][0] for name in TYPES)]
    for name in r.choices(list(TYPES), k=r.randrange(3)):
        row[1 + list(TYPES).index(name)] = _value(r, name)
    return row


_ITEM = (
    ("1.5", "1.50", "2", None, wire.UNCHANGED, "x"),
    ("a", "b", b"a", None, wire.UNCHANGED),
    ("skipped", None),
    ("n", None, wire.UNCHANGED, b"\xff"),
)
_LOG = (("1", "2", None, "x"), ("a", None, wire.UNCHANGED))


def _change(seed: int, xid: int | None = None) -> bytes:
    """An insert, update or delete of any relation, with an old row, the old key or neither."""
    r = Random(seed)
    oid = r.choice((*OIDS, 16390, 16390, 5))

    def row() -> list[Any]:
        return _all_values(r) if oid == 16384 else [r.choice(few) for few in (_ITEM if oid == 16390 else _LOG)]

    kind = r.choice("IUUD")
    if kind == "I":
        return wire.insert(oid, row(), xid)
    given = r.choice(({}, {"old": row()}, {"key": row()}))
    if kind == "U":
        return wire.update(oid, row(), xid=xid, **given)
    return wire.delete(oid, xid=xid, **(given or {"key": row()}))


def _hostile(r: Random, payload: bytes) -> bytes:
    """A message with a byte changed, taken out, put behind it, or the rest cut off."""
    at = r.randrange(max(1, len(payload)))
    head, tail = payload[:at], payload[at + 1 :]
    return r.choice((head, head + tail, head + r.randbytes(1) + tail, payload + b"n"))


_OTHERS = (
    b"O" + bytes(8) + b"o\0", b"Y" + bytes(4) + b"\0t\0", wire.logical_message("p", b"content"), b"M\0", b"",
    b"R" + ITEMS_PLAN.description, wire.relation(77, [("a", 23, -1, True)]), wire.truncate([5]), wire.stream_start(3),
    wire.stream_commit(3, 4, 5), b"P", b"?",
)  # fmt: skip
_CHANGES = st.lists(SEEDS, max_size=4)


@st.composite
def _slots(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    """Messages of some transactions with their LSNs, some of them hostile; LSNs often repeat."""
    payloads: list[bytes] = []
    transactions, r = draw(st.lists(_CHANGES, max_size=3)), Random(draw(SEEDS))
    for seeds in transactions:
        commit_lsn = r.choice((50, 100, 200))
        payloads += [wire.begin(commit_lsn, 7, 5), *map(_change, seeds), wire.commit(commit_lsn, commit_lsn + 8)]
    if r.random() < 0.5:
        payloads.insert(r.randint(0, len(payloads)), r.choice(_OTHERS))
    if payloads and r.random() < 0.5:
        at = r.randrange(len(payloads))
        payloads[at] = _hostile(r, payloads[at])
    return payloads, [r.randint(40, 44) for _ in payloads]


def _check_same(found: PgoutputDecoded, expected: PgoutputDecoded) -> None:
    assert [batch.table for batch in found.batches] == [batch.table for batch in expected.batches]
    for mine, theirs in zip(found.batches, expected.batches, strict=True):
        check_sound(mine.record)
        assert same(mine.record, theirs.record), (mine.record.to_pydict(), theirs.record.to_pydict())
    for name in ("errors", "events", "redelivered", "consumed", "stop", "state"):
        assert getattr(found, name) == getattr(expected, name), name
    assert found.commits.equals(expected.commits)
    assert found.shares.equals(expected.shares)


@settings(max_examples=150 * TIMES)
@given(_slots(), st.booleans(), st.integers(1, 3), st.sampled_from([0, 1]))
def test_agrees_with_the_reference(slot: tuple[list[bytes], list[int]], creates: bool, start: int, level: int) -> None:
    """Any messages, right and hostile, begun anywhere: rows, errors, stops and state of the plain reference."""
    plan = PgoutputPlan(PLAN.relations, generation=3, creates=creates, transactions=creates)
    given_messages = wire.messages(*slot)
    for first in (0, min(start, len(slot[0]))):
        found = decode_pgoutput(plan, given_messages, first, level=level)
        _check_same(found, reference.decode_pgoutput(plan, given_messages, first, PgoutputState()))


@settings(max_examples=100 * TIMES)
@given(
    st.sampled_from(list(TYPES)),
    SEEDS | st.binary(max_size=20) | st.text(alphabet="0123456789-+.:e BC\\x", max_size=24),
)
def test_every_value_agrees_with_the_reference(name: str, value: int | bytes | str) -> None:
    """Each type's texts and binary forms, right and hostile: value or fault of the reference."""
    row: list[Any] = ["1", *[None] * len(TYPES)]
    row[1 + list(TYPES).index(name)] = _value(Random(value), name) if isinstance(value, int) else value
    given_messages = wire.messages([wire.begin(9), wire.insert(ALL_PLAN.oid, row)])
    _check_same(
        decode_pgoutput(PLAN, given_messages), reference.decode_pgoutput(PLAN, given_messages, 0, PgoutputState())
    )


@settings(max_examples=60 * TIMES)
@given(_CHANGES, _CHANGES, st.sampled_from([None, 8, 11]))
def test_streamed_messages_agree_with_the_reference(kept: list[int], other: list[int], aborted: int | None) -> None:
    """Messages of a streamed transaction: the same rows, without those of subtransactions that were rolled back."""
    payloads = [wire.stream_start(8), *(_change(seed, 8) for seed in kept), wire.STREAM_STOP]
    payloads += [wire.stream_start(8, False), *(_change(seed, 11) for seed in other), wire.STREAM_STOP]
    plan = PgoutputPlan(PLAN.relations, streamed=True, aborted=frozenset({aborted} - {None}))
    state = PgoutputState().begun(8, 100, 5)
    found = decode_pgoutput(plan, wire.messages(payloads), 0, state)
    _check_same(found, reference.decode_pgoutput(plan, wire.messages(payloads), 0, state))
    if aborted == 8 and not other:
        assert found.batches == []


@settings(max_examples=60 * TIMES)
@given(_slots(), st.integers(0, 20))
def test_a_call_may_end_inside_a_transaction(slot: tuple[list[bytes], list[int]], border: int) -> None:
    """Two calls, cut anywhere, give the rows and commits of one."""
    payloads, lsns = slot
    border = min(border, len(payloads))
    whole = decode_pgoutput(PLAN, wire.messages(payloads, lsns))
    first = decode_pgoutput(PLAN, wire.messages(payloads[:border], lsns[:border]))
    if first.stop is not None:
        assert (first.consumed, first.stop) == (whole.consumed, whole.stop)
        return
    second = decode_pgoutput(PLAN, wire.messages(payloads, lsns), border, first.state)
    assert (second.consumed, second.stop, second.state) == (whole.consumed, whole.stop, whole.state)
    assert _positions([*first.batches, *second.batches]) == _positions(whole.batches)
    assert first.commits.num_rows + second.commits.num_rows == whole.commits.num_rows
    assert first.errors + second.errors == whole.errors


@settings(max_examples=60 * TIMES)
@given(_slots(), st.integers(0, 20))
def test_what_comes_again_gives_nothing_new(slot: tuple[list[bytes], list[int]], border: int) -> None:
    """After a stop anywhere the slot sends its transactions again: no row and no error is lost or doubled."""
    payloads, lsns = slot
    whole = decode_pgoutput(PLAN, wire.messages(payloads, lsns))
    border = min(border, whole.consumed)
    first = decode_pgoutput(PLAN, wire.messages(payloads[:border], lsns[:border]))
    again = decode_pgoutput(PLAN, wire.messages(payloads, lsns), 0, PgoutputState(first.state.after))
    assert _positions([*first.batches, *again.batches]) == _positions(whole.batches)
    told = [error for error in [*first.errors, *again.errors] if error.oid is not None]
    assert told == [error for error in whole.errors if error.oid is not None]


def _positions(batches: list[Any]) -> list[tuple[str, bytes]]:
    return sorted((b.table.name, p) for b in batches for p in b.record.column(POSITION).to_pylist())


def _decode(*payloads: bytes, plan: PgoutputPlan = PLAN, lsns: list[int] | None = None) -> PgoutputDecoded:
    return decode_pgoutput(plan, wire.messages([wire.begin(0x500, 42, 10), *payloads], lsns))


def test_a_transaction_reads_as_one_would_say_it() -> None:
    """Insert, update without TOAST, key change, delete: ops, values, unset bits, positions, time, transaction."""
    done = _decode(
        wire.insert(16390, ["1.50", "a", "-", "one"]),
        wire.update(16390, ["1.5", "a", "-", wire.UNCHANGED]),
        wire.update(16390, ["2.5", "a", "-", wire.UNCHANGED], key=["1.50", "a", None, None]),
        wire.delete(16390, key=["2.50", "a", None, None]),
        wire.commit(0x500, 0x510),
        lsns=[0, 100, 100, 108, 116, 0x500],
    )
    (batch,) = done.batches
    rows = batch.record.to_pydict()
    assert rows[OP] == [Op.INSERT, Op.UPSERT, Op.DELETE, Op.UPSERT, Op.DELETE]
    assert [str(value) for value in rows["id"]] == ["1.50", "1.50", "1.50", "2.50", "2.50"]
    assert rows["note"] == ["one", None, None, None, None]
    assert rows[UNSET] == [b"\x08", b"\x0c", b"\0", b"\x0c", b"\0"]  # the relation has no column `gone`
    assert [position.split(p) for p in rows[POSITION]] == [
        (3, 0x500, 100, 0), (3, 0x500, 100, 2), (3, 0x500, 108, 0), (3, 0x500, 108, 1), (3, 0x500, 116, 0),
    ]  # fmt: skip
    assert plain(batch.record.column(SOURCE_TS)) == [946684800000010] * 5
    assert rows[TX] == ["42:1280"] * 5
    assert rows[TX_ORDER] == [1, 2, 3, 3, 4]
    assert done.commits.to_pylist() == [
        {"message": 5, "xid": 42, "commit_lsn": 0x500, "end_lsn": 0x510, "commit_us": 946684800000010}
    ]
    assert done.shares.to_pylist() == [{"commit": 0, "relation": 1, "count": 4}]


def test_other_bytes_of_the_same_key_are_no_move() -> None:
    """1.50 and 1.5 are one decimal(10,2): the update stays one upsert."""
    done = _decode(wire.update(16390, ["1.5", "a", "-", "n"], key=["1.50", "a", None, None]))
    assert done.batches[0].record.column(OP).to_pylist() == [Op.UPSERT]


def test_the_old_row_gives_what_was_not_sent() -> None:
    """With REPLICA IDENTITY FULL an unchanged value is that of the old row, also in a table without a key."""
    done = _decode(
        wire.update(5, ["2", wire.UNCHANGED], old=["1", "long"]),
        wire.update(16390, ["1.5", "a", "-", wire.UNCHANGED], old=["1.5", "a", "-", "long"]),
    )
    log, items = (batch.record.to_pydict() for batch in done.batches)
    assert (log[OP], log["a"], log["b"]) == ([Op.DELETE, Op.UPSERT], [1, 2], ["long", "long"])
    assert UNSET not in log
    assert items["note"] == ["long"]
    assert items[UNSET] == [b"\x08"]


@pytest.mark.parametrize(
    ("payload", "code", "at"),
    [
        (wire.insert(16390, ["1", None, "-", "n"]), ErrorCode.KEY, 0),
        (wire.delete(16390, key=[None, "a", None, None]), ErrorCode.KEY, 0),
        (wire.update(5, ["1", "a"]), ErrorCode.BEFORE, 0),
        (wire.delete(5, key=["1", "a"]), ErrorCode.BEFORE, 0),
        (wire.insert(5, ["1x", "a"]), ErrorCode.TYPE, 13),
        (wire.insert(5, ["2147483648", "a"]), ErrorCode.RANGE, 13),
        (wire.insert(16390, ["1.001", "a", "-", "n"]), ErrorCode.SCALE, 13),
        (wire.insert(5, ["1", b"\xc0\x80"]), ErrorCode.UTF8, 19),
        (wire.insert(5, ["1"]), ErrorCode.SYNTAX, 6),
        (wire.insert(5, ["1", "a"])[:-1], ErrorCode.SYNTAX, 15),
        (wire.insert(5, ["1", "a"]) + b"x", ErrorCode.SYNTAX, 20),
    ],
)
def test_a_bad_change_is_an_error_and_its_neighbours_go_on(payload: bytes, code: ErrorCode, at: int) -> None:
    """Each fault is named at its byte, with its transaction and number; the next change is decoded."""
    good = wire.insert(int.from_bytes(payload[1:5], "big"), {5: ["1", "a"]}.get(payload[4], ["1", "a", "-", "n"]))
    done = _decode(good, payload, good)
    (error,) = done.errors
    assert (error.message, error.code, error.byte_position, error.number) == (2, code, at, 2)
    assert error.transaction == "42:1280"
    assert "table erp." in error.text
    assert done.batches[0].row_count == 2
    assert done.stop is None


@pytest.mark.parametrize(
    ("payload", "stop"),
    [
        (wire.insert(4711, ["1"]), "unknown"),
        (wire.relation(16390, [("id", 23, -1, True)]), "relation"),
        (wire.truncate([5, 16390]), "truncate"),
        (wire.stream_start(9), "stream"),
        (b"P\0", "prepared"),
        (b"?", "broken"),
        (b"", "broken"),
        (wire.begin(5), "broken"),
        (b"C\0", "broken"),
    ],
)
def test_a_call_ends_before_what_it_cannot_answer(payload: bytes, stop: str) -> None:
    """The message that stops is not consumed, what came before is."""
    done = _decode(wire.insert(5, ["1", "a"]), payload, wire.insert(5, ["2", "b"]))
    assert (done.consumed, done.stop) == (2, stop)
    assert done.batches[0].row_count == 1
    assert bool(done.errors) == (stop == "broken")


def test_a_change_outside_of_a_transaction_is_refused() -> None:
    """Without B there is no commit LSN, so no position: the call stops."""
    done = decode_pgoutput(PLAN, wire.messages([wire.insert(5, ["1", "a"])]))
    assert (done.consumed, done.stop) == (0, "broken")


def test_sizes() -> None:
    """No message, one, many that share columns of text with NULLs, and a slice in the middle of a batch."""
    assert decode_pgoutput(PLAN, wire.messages([])).batches == []
    rows = [wire.insert(5, [str(i), "x" * (i % 50)]) for i in range(3000)]
    many = wire.messages([wire.begin(9), *rows])
    record = decode_pgoutput(PLAN, many).batches[0].record
    assert record.column("a").to_pylist() == list(range(3000))
    part = decode_pgoutput(PLAN, many.slice(1000, 5), 0, PgoutputState().begun(1, 9, 0)).batches[0].record
    assert part.column("b").to_pylist() == ["x" * (i % 50) for i in range(999, 1004)]


def test_a_plan_that_does_not_fit_is_refused() -> None:
    """A type that the kind cannot fill, a column filled twice, an oid twice: ConfigurationError."""
    for relations in (
        (RelationPlan(1, KEYLESS, (Wire(Kind.BOOL, 0),)),),
        (RelationPlan(1, KEYLESS, (Wire(Kind.INT, 0), Wire(Kind.INT, 0))),),
        (RelationPlan(1, KEYLESS, (Wire(Kind.INT, 2),)),),
        (KEYLESS_PLAN, KEYLESS_PLAN),
    ):
        with pytest.raises(ConfigurationError):
            decode_pgoutput(PgoutputPlan(relations), wire.messages([]))


def test_the_records_are_of_the_announced_schema() -> None:
    """A batch has the table's columns and the control columns, and owns its memory."""
    done = _decode(wire.insert(5, ["1", "a"]), plan=PgoutputPlan((KEYLESS_PLAN,)))
    assert done.batches[0].record.schema.names == ["a", "b", OP, POSITION, SOURCE_TS]
    assert isinstance(done.batches[0].record, pa.RecordBatch)


_HALF, _MOST = "1.000000059604644775390625", "3.40282356779733661637539395458142568448e38"
_SINGLES = {
    "7.038531e-26": "15ae43fd", _HALF: "3f800000", _HALF + "0000000000000000001": "3f800001",
    "-" + _HALF[:-1] + "4999999999999999999": "bf800000", "3.4028235677973366e38": "7f7fffff", _MOST: None,
    "7.006492321624085e-46": "00000000", "7.006492321624086e-46": "00000001",
}  # fmt: skip


def test_a_float_is_rounded_once() -> None:
    """A float4's text is the float nearest to it, also where its nearest double lies midway between two floats."""
    table = Table("t", (Column("id", parse_type("int64")), Column("f", parse_type("float32"))), ("id",))
    plan = PgoutputPlan((RelationPlan(5, table, (Wire(Kind.INT, 0), Wire(Kind.FLOAT, 1))),))
    done = _decode(*(wire.insert(5, ["1", text]) for text in _SINGLES), plan=plan)
    found = [struct.pack(">f", value).hex() for value in done.batches[0].record.column(1).to_pylist()]
    assert found == [bits for bits in _SINGLES.values() if bits]
    assert [error.code for error in done.errors] == [ErrorCode.RANGE]


def _recorded(name: str) -> pa.RecordBatch:
    """Messages of a real server as the fuzz driver takes them: a byte of flags, then length (u16) and body of each."""
    data, at = (GOLDEN / name).read_bytes(), 1
    payloads: list[bytes] = []
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        payloads.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return wire.messages(payloads)


@pytest.mark.parametrize("form", ["text", "binary"])
def test_recorded_messages_keep_their_meaning(form: str) -> None:
    """What PostgreSQL 18 once sent, in text and in binary form, gives the values that it was asked to store."""
    recorded = _recorded(f"pgoutput-{form}.bin")
    relation = messages.read_relation(recorded.column(0)[1].as_py())
    names = ["id", "d", "n", "ts", "tz", "y", "u", "iv", "da", "bi"]
    assert [column.name for column in relation.columns] == names
    kinds = [Kind.INT, Kind.NUMERIC, Kind.NUMERIC, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.BYTEA, Kind.UUID,
             Kind.INTERVAL, Kind.DATE, Kind.BITS]  # fmt: skip
    types = ["int32", "decimal(18,4)", "numeric", "timestamp", "timestamptz", "bytes", "uuid", "interval", "date",
             "bits"]  # fmt: skip
    table = Table("t", tuple(Column(n, parse_type(t)) for n, t in zip(names, types, strict=True)), ("id",))
    described = messages.description(recorded.column(0)[1].as_py())
    plan = PgoutputPlan((RelationPlan(relation.oid, table, tuple(Wire(k, i) for i, k in enumerate(kinds)), described),))
    done = decode_pgoutput(plan, recorded)
    _check_same(done, reference.decode_pgoutput(plan, recorded, 0, PgoutputState()))
    assert (done.stop, done.errors, done.commits.num_rows) == (None, [], 1)
    rows = [[plain(column)[row] for column in done.batches[0].record.columns[:10]] for row in range(2)]
    assert rows[0] == [
        1, -123456789, b"1000.50", 1709210096789000, 1709206496000000, b"\0\xff\\",
        b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", b"-10 mons -3 days +04:05:06.789", -62091, b"10110",
    ]  # fmt: skip
    assert rows[1] == [2, None, b"NaN", 2**63 - 1, -(2**63), b"", None, b"00:00:00", 2**31 - 1, b""]
