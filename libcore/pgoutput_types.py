"""The words of decoding pgoutput messages: plan, state, results; shared by C face and reference."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

import pyarrow as pa

from libcore.change import TX, TX_ORDER, ChangeBatch, arrow_schema
from libcore.decode_types import ErrorCode
from libcore.position import COUNTER_BYTES, FIRST, GENERATION_BYTES
from libcore.schema import Table

MESSAGES = pa.schema(
    [pa.field("payload", pa.binary(), nullable=False), pa.field("wal_start", pa.int64(), nullable=False)]
)
"""The input: one row an XLogData, its body (from the message's kind on) and the LSN in its header."""


class Kind(enum.IntEnum):
    """What a value is at the source; which types each fills stands in include/libcore/pgoutput.h."""

    BOOL = 1
    INT = 2
    OID = 3
    FLOAT = 4
    TEXT = 5
    JSONB = 6
    NUMERIC = 7
    BYTEA = 8
    DATE = 9
    TIME = 10
    TIMESTAMP = 11
    TIMESTAMPTZ = 12
    UUID = 13
    INTERVAL = 14
    TIMETZ = 15
    BITS = 16
    OTHER = 17


FILLS: dict[Kind, frozenset[str]] = {
    Kind.BOOL: frozenset({"bool"}),
    Kind.INT: frozenset({"int16", "int32", "int64", "interval_us"}),
    Kind.OID: frozenset({"int64"}),
    Kind.FLOAT: frozenset({"float32", "float64"}),
    Kind.NUMERIC: frozenset({"decimal", "numeric"}),
    Kind.BYTEA: frozenset({"bytes"}),
    Kind.DATE: frozenset({"date"}),
    Kind.TIME: frozenset({"time"}),
    Kind.TIMESTAMP: frozenset({"timestamp"}),
    Kind.TIMESTAMPTZ: frozenset({"timestamptz"}),
}
"""Column types that a kind may fill; every kind that is not listed fills those of TEXTS."""
TEXTS = frozenset({"string", "uuid", "json", "xml", "interval", "timetz", "bits", "array"})


@dataclass(frozen=True)
class Wire:
    """A column as the relation sends it: what it is, and the index of the table's column that it fills (-1: none)."""

    kind: Kind
    column: int = -1


@dataclass(frozen=True)
class RelationPlan:
    """How the changes of one relation become rows.

    Args:
        oid: the relation's number in the messages.
        table: the table of the rows; None: its changes are passed over.
        wire: the relation's columns in its order. A table's column that none of them fills is unset in each row.
        refused: why its changes must not be read: each becomes an error with this text.
        description: its R message from the oid on (without kind and xid); the same one again is passed over.
    """

    oid: int
    table: Table | None
    wire: tuple[Wire, ...] = ()
    description: bytes = b""
    refused: str = ""


@dataclass(frozen=True)
class PgoutputPlan:
    """How the messages of a slot become rows.

    Args:
        relations: the relations known so far, of different oids.
        generation: the source's generation (libcore/position.py).
        creates: rows of inserts into a table with a key are Op.INSERT instead of Op.UPSERT.
        transactions: two more columns, change.TX ("xid:commit lsn") and change.TX_ORDER; and Decoded.shares.
        streamed: the messages are those of one streamed transaction, each with its xid; the state is of its commit.
        aborted: with `streamed`: rows of these xids are passed over.
    """

    relations: tuple[RelationPlan, ...] = ()
    generation: int = 0
    creates: bool = True
    transactions: bool = False
    streamed: bool = False
    aborted: frozenset[int] = frozenset()


def decoded_schema(table: Table, with_unset: bool, transactions: bool) -> pa.Schema:
    """The Arrow schema of what a relation's changes are decoded to."""
    schema = arrow_schema(table, with_unset)
    return schema.append(pa.field(TX, pa.string())).append(pa.field(TX_ORDER, pa.int64())) if transactions else schema


@dataclass(frozen=True)
class PgoutputState:
    """What decoding keeps from call to call of one slot.

    Args:
        after: position of the last change decoded; what comes at or below it is dropped.
        open: inside a transaction; the rest says which one and how far.
        xid, commit_lsn, commit_us: the transaction; its time in microseconds since 1970.
        lsn, count: LSN of its last change, and changes of that LSN so far.
        changes: (oid, messages in it so far) of relations that had any.
    """

    after: bytes = FIRST
    open: bool = False
    xid: int = 0
    commit_lsn: int = 0
    commit_us: int = 0
    lsn: int = 0
    count: int = 0
    changes: tuple[tuple[int, int], ...] = ()

    def begun(self, xid: int, commit_lsn: int, commit_us: int) -> PgoutputState:
        """At the first message of a transaction."""
        return PgoutputState(self.after, True, xid, commit_lsn, commit_us)

    def ended(self) -> PgoutputState:
        """Behind the transaction."""
        return replace(self, open=False)

    def counted(self, lsn: int) -> PgoutputState:
        """With one more change, at that LSN; `position` is then its position."""
        if lsn > self.lsn or self.count == 0:
            return replace(self, lsn=max(lsn, self.lsn), count=1)
        return replace(self, count=self.count + 1)

    def changed(self, oid: int) -> PgoutputState:
        """With one more message of that relation."""
        counts = dict(self.changes)
        counts[oid] = counts.get(oid, 0) + 1
        return replace(self, changes=tuple(sorted(counts.items())))

    def position(self, generation: int, second: int = 0) -> bytes:
        """The position of the last counted change; `second` for more than one thing in a message."""
        order = (self.lsn << 8 * COUNTER_BYTES) + (self.count - 1) * 2 + second
        head = generation.to_bytes(GENERATION_BYTES, "big") + self.commit_lsn.to_bytes(10, "big")
        return head + order.to_bytes(18, "big")

    @property
    def transaction(self) -> str:
        """The transaction's name, as in change.TX."""
        return f"{self.xid}:{self.commit_lsn}"


@dataclass(frozen=True)
class ChangeError:
    """A message that gave no row.

    Args:
        message: 0-based index in the input.
        byte_position: 0-based byte in it.
        code: why.
        text: one sentence for a person.
        oid: its relation, None where the message could not be told apart.
        transaction: its transaction's name, "" outside of one.
        number: its number among the messages of its relation in the transaction, from 1.
    """

    message: int
    byte_position: int
    code: ErrorCode
    text: str
    oid: int | None = None
    transaction: str = ""
    number: int = 0


COMMITS = pa.schema([(name, pa.int64()) for name in ("message", "xid", "commit_lsn", "end_lsn", "commit_us")])
"""Transactions that ended: the index of the C message, and what it says; commit_us: microseconds since 1970."""
SHARES = pa.schema([(name, pa.int64()) for name in ("commit", "relation", "count")])
"""Messages of a relation (index in the plan) in a transaction (row of COMMITS)."""


@dataclass(frozen=True)
class PgoutputDecoded:
    """What one call decoded.

    Args:
        batches: the rows, one batch a relation, in the order of their first rows; records by `decoded_schema`.
        errors: messages that gave no row, in order.
        commits, shares: see COMMITS and SHARES; the latter only with plan.transactions.
        events: indexes of logical messages (M).
        redelivered: changes dropped because they were decoded before.
        consumed: messages done, counted from 0 of the input.
        stop: why the call ended before message `consumed`: "relation", "unknown", "truncate", "stream", "prepared",
            "broken" (then the last error says why), or None at the end.
        state: to be given to the next call.
    """

    batches: list[ChangeBatch]
    errors: list[ChangeError]
    commits: pa.RecordBatch
    shares: pa.RecordBatch
    events: list[int]
    redelivered: int
    consumed: int
    stop: str | None
    state: PgoutputState


STOPS = (None, "relation", "unknown", "truncate", "stream", "prepared", "broken")
_REASONS = {
    ErrorCode.SYNTAX: "the message does not go on as its relation says",
    ErrorCode.UTF8: "not valid UTF-8 (client_encoding must be UTF8)",
    ErrorCode.TYPE: "not the text, or no known binary form, of its type",
    ErrorCode.RANGE: "the value is out of range",
    ErrorCode.SCALE: "the value has more fraction digits than the column keeps",
    ErrorCode.KEY: "a key column has no value; a key other than the replica identity's needs REPLICA IDENTITY FULL",
    ErrorCode.OP: "expected a message of the protocol that fits here",
    ErrorCode.BEFORE: "a table without a key needs the whole row before (REPLICA IDENTITY FULL)",
}


def describe(code: ErrorCode, position: int, payload: bytes, relation: RelationPlan | None, wire: int) -> str:
    """One sentence for a person: where, what was expected, the bytes found."""
    if relation is not None and relation.refused:
        return relation.refused
    where = "" if relation is None or relation.table is None else f"table {relation.table.name}: "
    if relation is not None and relation.table is not None and wire >= 0:
        column = relation.table.columns[relation.wire[wire].column]
        where += f"column {column.name} ({column.type} from {relation.wire[wire].kind.name}): "
    if code in (ErrorCode.KEY, ErrorCode.BEFORE):
        return f"{where}{_REASONS[code]}"
    found = payload[position : position + 40].decode("utf-8", "backslashreplace")
    return f"{where}{_REASONS[code]}; found {found!r} at byte {position} of {len(payload)}"
