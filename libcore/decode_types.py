"""The words of decoding: what a caller says about the wire, and what comes back; shared by C face and reference."""

from __future__ import annotations

import enum
from dataclasses import dataclass

import pyarrow as pa

from libcore.change import TX, TX_ORDER, arrow_schema
from libcore.position import FIRST
from libcore.schema import Column, Table


class Encoding(enum.IntEnum):
    """How a column's value is written in JSON; what each accepts and fills stands in include/libcore/envelope.h."""

    INT = 1
    BOOL = 2
    FLOAT = 3
    STRING = 4
    BASE64 = 5
    DECIMAL_TEXT = 6
    DECIMAL_BASE64 = 7
    NUMERIC_TEXT = 8
    NUMERIC_STRUCT = 9
    DATE_DAYS = 10
    TIME_MS = 11
    TIME_US = 12
    TIME_NS = 13
    TIMESTAMP_MS = 14
    TIMESTAMP_US = 15
    TIMESTAMP_NS = 16
    ZONED_TIMESTAMP = 17
    ISO_DATE = 18
    ISO_TIME = 19
    ISO_TIMESTAMP = 20
    BITS = 21
    RAW_JSON = 22
    ARRAY = 23
    DECIMAL_STRUCT = 24
    HEX = 25
    NAMED_TIMESTAMP = 26


class ErrorCode(enum.IntEnum):
    """Why a message gave no row."""

    SYNTAX = 1
    UTF8 = 2
    DEPTH = 3
    DUPLICATE = 4
    TYPE = 5
    RANGE = 6
    SCALE = 7
    SURROGATE = 8
    KEY = 9
    OP = 10
    BEFORE = 11
    BASE64 = 12
    ARRAY = 13


@dataclass(frozen=True)
class WireColumn:
    """A table's column and its encoding on the wire.

    Args:
        column: the column as the table has it.
        encoding: how its value is written.
        wire_scale: DECIMAL_BASE64: the scale of the integer on the wire.
        bit_length: BITS: how many bits the text has.
        item: ARRAY: the element's encoding.
    """

    column: Column
    encoding: Encoding
    wire_scale: int = 0
    bit_length: int = 0
    item: WireColumn | None = None


@dataclass(frozen=True)
class EnvelopePlan:
    """How the messages of one topic become rows of one table.

    Args:
        table: the table of the rows.
        columns: one entry per table column, in the same order.
        position: whose positions `source` carries: postgresql, oracle, sqlserver or none.
        generation: the source's generation (libcore/position.py).
        schema_bytes: the schema part's bytes that wrapped messages must carry; None: messages are not wrapped.
        placeholder: the text that stands for a value the source did not send.
        stop_on_unknown: stop before a message whose row has a field that the table lacks.
        creates: rows of op c and r of a table with a key are Op.INSERT instead of Op.UPSERT.
        transactions: two more columns behind all others, change.TX and change.TX_ORDER; tombstones give no deletes.
        carried: the table's columns that `after` has, in its order; stop before one that has others. None: not looked
            at.
    """

    table: Table
    columns: tuple[WireColumn, ...]
    position: str = "none"
    generation: int = 0
    schema_bytes: bytes | None = None
    placeholder: str = "__debezium_unavailable_value"
    stop_on_unknown: bool = False
    creates: bool = False
    transactions: bool = False
    carried: tuple[str, ...] | None = None


def decoded_schema(plan: EnvelopePlan, with_unset: bool) -> pa.Schema:
    """The Arrow schema of what the plan's messages are decoded to."""
    schema = arrow_schema(plan.table, with_unset)
    return (
        schema.append(pa.field(TX, pa.string())).append(pa.field(TX_ORDER, pa.int64())) if plan.transactions else schema
    )


@dataclass(frozen=True)
class DecodeState:
    """What decoding keeps from batch to batch of one partition: the last position, and the redelivery counter
    of keyless tables (-1: no redelivered tail is being dropped)."""

    last_position: bytes = FIRST
    redelivered: int = -1


@dataclass(frozen=True)
class RowError:
    """A message that gave no row.

    Args:
        message: 0-based index in the input.
        byte_position: 0-based byte in the message's value.
        code: why.
        text: one sentence for a person.
    """

    message: int
    byte_position: int
    code: ErrorCode
    text: str


@dataclass(frozen=True)
class Decoded:
    """What one call decoded.

    Args:
        record: the rows, by decoded_schema; __unset only where a bit is set.
        rows: int32, the message index of each row.
        errors: messages that gave no row, in order, one each.
        events: (message index, "heartbeat" | "transaction" | "message" | "tombstone" | "redelivered") of messages that
            rightly gave no row, or dropped one.
        consumed: messages done, counted from 0 of the input.
        stop: why the call ended before message `consumed`: "schema", "truncate", "unknown", "columns", or None at
            the end.
        unknown: the unknown field's name where stop is "unknown", else "".
        state: to be given to the next call.
    """

    record: pa.RecordBatch
    rows: pa.Int32Array
    errors: list[RowError]
    events: list[tuple[int, str]]
    consumed: int
    stop: str | None
    unknown: str
    state: DecodeState
