"""Strategies: JSON texts, hostile bytes, and batches of Debezium messages with the plan that reads them.

Messages go wrong on purpose, but seldom: most of a batch are good and alike, as in life, so that a decoder that
predicts the next message from the last one is surprised at every place. They are made from seeds that Hypothesis draws:
fifty times as fast as drawing every choice, and a failure still shrinks to its plan and its messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import pyarrow as pa
from hypothesis import strategies as st

from libcore import json
from libcore.decode_types import EnvelopePlan
from libcore.errors import HeadraceError
from libcore.schema import Table
from tests.examples import TIMES
from tests.libcore.wire_values import any_column, column_text, quoted

EXAMPLES = 200 * TIMES
"""Examples of a property."""


def _levels() -> list[int]:
    found = [0]
    for level in (1, 2, 3):
        try:
            json.validate(pa.array([b"1"], pa.binary()), level=level)
            found.append(level)
        except HeadraceError:
            break
    return found


LEVELS = _levels()
"""Which code C can take on this machine: 0 its fastest, then scalar, SSE4.2, AVX2 as far as they are there."""
SEEDS = st.integers(0, 2**64 - 1)
SPACES = st.sampled_from([b""] * 12 + [b" ", b"\n", b"\t \r\n"])
_TOKENS = (
    b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"null", b"true", b"false", b"nul", b"-", b"0", b"01", b"1", b"1.",
    b".5", b"1e", b"1E+2", b"-0.0", b'"a"', b'"\\u00e4"', b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\\x"', b'"\x00"',
    b"\xc3\xa4", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe2\x28\xa1", b"\xff", b" ", b"\n",
    b"\x0b", b"NaN", b"\xef\xbb\xbf", b"//", b"'",
)  # fmt: skip


def json_numbers() -> st.SearchStrategy[bytes]:
    """Texts of numbers that JSON allows: integers of any size, fractions, exponents."""
    digits = st.integers(0, 10**25).map(lambda n: b"%d" % n)
    fraction = st.text("0123456789", min_size=1, max_size=20).map(lambda text: b"." + text.encode())
    exponent = st.builds(
        lambda letter, sign, size: letter + sign + b"%d" % size,
        st.sampled_from([b"e", b"E"]),
        st.sampled_from([b"", b"+", b"-"]),
        st.integers(0, 400),
    )
    parts = (st.sampled_from([b"", b"-"]), digits, st.just(b"") | fraction, st.just(b"") | exponent)
    return st.builds(lambda *texts: b"".join(texts), *parts)


def json_texts() -> st.SearchStrategy[bytes]:
    """Valid JSON documents with whitespace where it may stand."""
    strings = st.builds(quoted, st.text(max_size=12), st.sampled_from([0, 0, 1, 2]))
    leaves = st.sampled_from([b"null", b"true", b"false", b"0", b"-0"]) | json_numbers() | strings

    def spaced(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        value = st.builds(lambda a, text, b: a + text + b, SPACES, inner, SPACES)
        member = st.builds(lambda a, name, b, text: a + name + b + b":" + text, SPACES, strings, SPACES, value)
        return st.builds(lambda items: b"[" + b",".join(items) + b"]", st.lists(value, max_size=4)) | st.builds(
            lambda items: b"{" + b",".join(items) + b"}", st.lists(member, max_size=4)
        )

    return st.builds(lambda a, text, b: a + text + b, SPACES, st.recursive(leaves, spaced, max_leaves=12), SPACES)


def mutated(r: Random, data: bytes) -> bytes:
    """The bytes with one or two wounds: cut short, a byte changed, a piece removed, doubled, or a token put in."""
    for _ in range(r.randint(1, 2)):
        at, size = r.randint(0, len(data)), r.randint(1, 6)
        match r.randrange(5):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + r.randbytes(1) + data[at + 1 :]
            case 2:
                data = data[:at] + data[at + size :]
            case 3:
                data = data[: at + size] + data[at:]
            case _:
                data = data[:at] + r.choice(_TOKENS) + data[at:]
    return data


def wounded(texts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Those texts, mutated."""
    return st.builds(lambda seed, text: mutated(Random(seed), text), SEEDS, texts)


def nested(depth: int) -> st.SearchStrategy[bytes]:
    """Arrays and objects inside one another, about `depth` of them, closed or not."""

    def build(kinds: list[bool], deeper: int, closed: bool) -> bytes:
        kinds = kinds * (depth // len(kinds) + 1)
        kinds = kinds[: depth + deeper]
        opened = b"".join(b"[" if kind else b'{"a":' for kind in kinds)
        return opened + b"1" + b"".join(b"]" if kind else b"}" for kind in reversed(kinds)) * closed

    return st.builds(build, st.lists(st.booleans(), min_size=1, max_size=5), st.integers(-2, 2), st.booleans())


def hostile_bytes() -> st.SearchStrategy[bytes]:
    """Bytes that are JSON, nearly JSON, deeply nested JSON, token soup or noise."""
    soup = st.lists(st.sampled_from(_TOKENS), max_size=12).map(b"".join)
    return st.one_of(
        json_texts(),
        wounded(json_texts()),
        nested(64),
        wounded(nested(64)),
        soup,
        st.binary(max_size=60),
    )


@dataclass
class Batch:
    """A plan and messages for it, as (key, value)."""

    plan: EnvelopePlan
    messages: list[tuple[bytes | None, bytes | None]]

    def record(self) -> pa.RecordBatch:
        """The messages as a source hands them over."""
        return message_batch(self.messages)


def message_batch(messages: list[tuple[bytes | None, bytes | None]]) -> pa.RecordBatch:
    """(key, value) pairs as the batch that decode_envelopes takes."""
    count = len(messages)
    return pa.RecordBatch.from_arrays(
        [
            pa.array([key for key, _ in messages], pa.binary()),
            pa.array([value for _, value in messages], pa.binary()),
            pa.array(range(count), pa.int64()),
            pa.array([0] * count, pa.int64()),
        ],
        names=["key", "value", "offset", "timestamp_ms"],
    )


@st.composite
def batches(draw: st.DrawFn, messages_max: int = 12) -> Batch:
    """A plan with some messages for it."""
    plan = any_plan(Random(draw(SEEDS)))
    last: list[bytes] = []
    return Batch(plan, [any_message(Random(seed), plan, last) for seed in draw(st.lists(SEEDS, max_size=messages_max))])


def any_plan(r: Random) -> EnvelopePlan:
    """A table of some columns of any encoding, with or without a key, schemas on or off, any flavour."""
    columns = {wire.column.name: wire for wire in (any_column(r) for _ in range(r.choice((1, 2, 3, 4, 5, 6, 14))))}
    key = tuple(r.sample(sorted(columns), min(len(columns), r.choice((0, 0, 1, 1, 2)))))
    return EnvelopePlan(
        Table("erp.t", tuple(wire.column for wire in columns.values()), key),
        tuple(columns.values()),
        position=r.choice(("none", "postgresql", "postgresql", "oracle", "sqlserver")),
        generation=r.choice((0, 0, 1, 2**32 - 1)),
        schema_bytes=r.choice((None, None, b'{"type":"struct","name":"E"}', b"null")),
        placeholder=r.choice(("__debezium_unavailable_value", "ph")),
        stop_on_unknown=r.random() < 0.2,
        creates=r.random() < 0.5,
        carried=r.choice(
            (None, None, None, tuple(columns), tuple(r.sample(list(columns), r.randint(0, len(columns)))))
        ),
        transactions=r.random() < 0.4,
    )


_SEQUENCES = (
    b'"[null,\\"7\\"]"',
    b'"[ null , \\"7\\" ] "',
    b'"[\\"5\\"]"',
    b'"[5,7]"',
    b'"x"',
    b'"\\ud800"',
    b"null",
    b"7",
)
_BAD_NUMBERS = (b"null", b"-1", b"1.5", b'"1"', b"9223372036854775808", b"{}", b"1e3", b"4294967296")
_BAD_TEXTS = (b"null", b"7", b'""', b'"x"', b'"1208925819614629174706176"', b'"\\udc00"', b'"\\u0037"', b"[]")


def _source(r: Random, flavour: str) -> bytes:
    """A source block whose positions are small, so that they meet and go back; seldom with a bad or missing field."""
    commit, order = r.randint(0, 4), r.randint(0, 3)
    fields = {
        b"connector": b'"x"',
        b"ts_ms": b"1760000000123",
        b"ts_us": b"1760000000%06d" % r.randrange(10**6),
        b"snapshot": r.choice(
            [b'"false"'] * 12 + [b"false", b"null", b'"true"', b'"last"', b"true", b"0", b'"f\\u0061lse"']
        ),
    }
    if flavour in ("postgresql", "none"):
        fields |= {b"lsn": b"%d" % order, b"sequence": b'"[\\"%d\\",\\"%d\\"]"' % (commit, order)}
    elif flavour == "oracle":
        fields |= {b"scn": b'"%d"' % order, b"commit_scn": b'"%d"' % commit}
    else:
        lsn = b'"0000002A:0000075%d:0003"'
        fields |= {b"commit_lsn": lsn % commit, b"change_lsn": lsn % order, b"event_serial_no": b"%d" % (order % 2)}
    if r.random() < 0.06:
        fields[r.choice(list(fields))] = r.choice(_SEQUENCES + _BAD_NUMBERS + _BAD_TEXTS)
    if r.random() < 0.06:
        del fields[r.choice(list(fields))]
    if r.random() < 0.03:
        fields = {b"ts_ms": b"%d" % r.choice((2**63 - 1, -(2**63), 2**63 // 1000, 2**63 // 1000 + 1, 0))}
    return _object(r, list(fields.items()))


def _transaction(r: Random) -> bytes:
    """A transaction block, or null; seldom with a bad or missing field."""
    if r.random() < 0.2:
        return r.choice((b"null", b"null", b"null", b"7", b"[]", b"{}"))
    number = b"%d" % r.randint(0, 3)
    fields = {b"id": b'"%d:%d"' % (r.randint(1, 3), r.randint(4, 6)), b"total_order": number}
    fields[b"data_collection_order"] = number
    if r.random() < 0.1:
        fields[r.choice(list(fields))] = r.choice(_BAD_NUMBERS + _BAD_TEXTS)
    return _object(r, list(fields.items()))


def _object(r: Random, members: list[tuple[bytes, bytes]]) -> bytes:
    """Members (name, value) as an object; seldom spaced, in another order, with a member doubled, lost, or escaped."""
    texts = [quoted(name.decode()) + b":" + value for name, value in members]
    space = b""
    if texts and r.random() < 0.12:
        at = r.randrange(len(texts))
        name, value = members[at]
        match r.randrange(6):
            case 0:
                texts.insert(r.randint(0, len(texts)), texts[at])
            case 1:
                del texts[at]
            case 2:
                texts[at] = quoted(name.decode(), 2) + b" : " + value
            case 3:
                r.shuffle(texts)
            case 4:
                space = r.choice((b" ", b"\n", b"\t \r\n"))
            case _:
                texts.insert(at, b'"un\\ud800known":1' if r.random() < 0.3 else b'"unk\\u006eown":{"a":[1]}')
    return b"{" + space + (space + b"," + space).join(texts) + space + b"}"


def any_row(r: Random, plan: EnvelopePlan, full: bool = True) -> bytes:
    """A row object of the plan's table; seldom with a column the table lacks; `full` False: the key columns only."""
    members = []
    for wire in plan.columns:
        key = wire.column.name in plan.table.key
        if key or full:
            members.append((wire.column.name.encode(), column_text(r, wire, plan.placeholder, key)))
    if r.random() < 0.06:
        members.append((r.choice((b"unknown", b"gr\xc3\xb6sse")), b'{"a":[1]}'))
    return _object(r, members)


def _change(r: Random, plan: EnvelopePlan, last: list[bytes]) -> bytes:
    """An envelope; `last` holds rows seen, so that befores and afters are equal at times."""
    op = r.choice([b'"c"'] * 8 + [b'"u"'] * 8 + [b'"d"'] * 6 + [b'"r"'] * 3)
    before = after = b"null"
    if op != b'"d"':
        after = r.choice(last) if last and r.random() < 0.3 else any_row(r, plan)
        last.append(after)
    if op in (b'"u"', b'"d"') and r.random() < 0.8:
        before = r.choice(last) if last and r.random() < 0.5 else any_row(r, plan, full=r.random() < 0.7)
    if r.random() < 0.03:
        before, after = r.choice(((after, before), (b"7", after), (before, b"[]"), (b"{}", b"{}"), (before, b"{}")))
    source = _source(r, plan.position) if r.random() < 0.95 else r.choice((b"null", b"1", b"{}"))
    if r.random() < 0.03:
        op = r.choice((b'"t"', b'"m"', b'"x"', b'""', b"null", b"1", b'"\\u0063"', b'"\\ud800"', b'"cc"'))
    members = [
        (b"before", before),
        (b"after", after),
        (b"source", source),
        (b"transaction", _transaction(r)),
        (b"op", op),
    ]
    return _object(r, [*members, (b"ts_ms", b"1760000000200")])


def _wrapped(r: Random, payload: bytes, schema: bytes | None) -> bytes:
    if r.random() < 0.02:
        schema = r.choice((None, b"{}", b"null", b'{"type":"struct","name":"F"}'))
    if r.random() < 0.02:
        payload = b"null"
    if schema is None:
        return payload
    if r.random() < 0.02:
        return b'{"schema":' + schema + b"}"
    if r.random() < 0.05:
        return b'{ "schema" : ' + schema + b' , "more":1, "payload":' + payload + b',"behind":[{}]}'
    return b'{"schema":' + schema + b',"payload":' + payload + b"}"


def any_key(r: Random, plan: EnvelopePlan) -> bytes | None:
    """A message's key: none, or the key columns, wrapped or not; seldom hostile."""
    if not plan.table.key or r.random() < 0.05:
        return None
    key = any_row(r, plan, full=False)
    if r.random() < 0.5:
        key = b'{"schema":{"type":"struct"},"payload":' + key + b"}"
    return mutated(r, key) if r.random() < 0.05 else key


def any_message(r: Random, plan: EnvelopePlan, last: list[bytes]) -> tuple[bytes | None, bytes | None]:
    """(key, value) of a message."""
    key, chance = any_key(r, plan), r.random()
    if chance < 0.02:
        return key, None
    if chance < 0.04:
        value = _object(r, [(b"status", b'"BEGIN"'), (b"id", b'"5:6"'), (b"ts_ms", b"1"), (b"event_count", b"null")])
    elif chance < 0.06:
        value = _object(r, [(b"ts_ms", b"1760000000123")])
    else:
        value = _change(r, plan, last)
    value = _wrapped(r, value, plan.schema_bytes)
    return key, mutated(r, value) if r.random() < 0.05 else value
