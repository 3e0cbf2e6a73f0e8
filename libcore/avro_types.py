"""The words of decoding Avro: the writer's schema, the plan, and how a message is framed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from libcore.decode_types import EnvelopePlan, ErrorCode, WireColumn

__all__ = ["AvroPlan", "AvroSchema", "Framing", "describe"]


class Framing(enum.IntEnum):
    """What stands before an Avro body: nothing, or a 0 byte and the schema's id of so many bytes, big endian."""

    NONE = 0
    CONFLUENT = 4
    APICURIO = 8


@dataclass(frozen=True)
class AvroSchema:
    """A writer's schema.

    Args:
        text: its JSON.
        id: its number in the registry, as it stands in the messages; without framing it does not count.
    """

    text: str
    id: int = 0


@dataclass(frozen=True)
class AvroPlan:
    """How the messages of one topic that one writer schema wrote become rows of one table.

    Args:
        rows: the table, its columns with their encodings, and all that is the same for JSON (schema_bytes, carried and
            stop_on_unknown are not: the schema says them before the first message).
        writer: the schema of the values. key_writer: that of the keys; None: not known yet.
        framing: what stands before the bodies.
        flat: the value is the row itself, not an envelope: every message is an UPSERT, without position and time.
        aliases: column -> other names of it in the writer's schema; its own name wins.
        defaults: column -> the value (as pyarrow takes it) of rows whose writer does not know the column; without one
            the column is unset there.
    """

    rows: EnvelopePlan
    writer: AvroSchema
    key_writer: AvroSchema | None = None
    framing: Framing = Framing.CONFLUENT
    flat: bool = False
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


_REASONS = {
    ErrorCode.SYNTAX: "the bytes are no message of the writer's schema",
    ErrorCode.UTF8: "not valid UTF-8",
    ErrorCode.DEPTH: "expected at most 64 records, arrays and maps inside one another",
    ErrorCode.TYPE: "the value is of the wrong kind",
    ErrorCode.RANGE: "the value is out of range",
    ErrorCode.SCALE: "the value has more fraction digits than the column keeps",
    ErrorCode.KEY: "neither the row nor the message's key gives every key column a value",
    ErrorCode.OP: "expected op c, r, u, d, t or m, a heartbeat or a transaction mark",
    ErrorCode.BEFORE: "a table without a key needs the whole row in before (replica identity full)",
    ErrorCode.ARRAY: "an array of more than one dimension is not carried",
}


def describe(code: ErrorCode, position: int, value: bytes, column: WireColumn | None) -> str:
    """One sentence for a person: where, what was expected, the bytes found."""
    where = ""
    if column is not None:
        where = f"column {column.column.name} ({column.column.type} from {column.encoding.name}): "
    if code in (ErrorCode.KEY, ErrorCode.OP, ErrorCode.BEFORE):
        return f"{where}{_REASONS[code]}"
    found = value[position : position + 20].hex(" ") or "the end"
    return f"{where}{_REASONS[code]}; found {found} at byte {position} of {len(value)}"
