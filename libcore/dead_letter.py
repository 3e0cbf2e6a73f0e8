"""A row that could not pass, kept whole: as an ordinary keyless, append-only table.

Because dead letters are a ChangeBatch of their own table, they travel through the exchange, the spool and the applier
like every other change: none is lost or doubled by a crash either.
"""

from __future__ import annotations

from libcore.schema import Column, Table, parse_type

_TEXT, _INT = parse_type("string"), parse_type("int64")

DEAD_LETTERS = Table(
    "headrace_dead_letters",
    (
        Column("flow", _TEXT),
        Column("step", _TEXT),  # where it failed: decode, shape, apply, ...
        Column("table_name", _TEXT),
        Column("topic", _TEXT),
        Column("partition", parse_type("int32")),
        Column("message_offset", _INT),
        Column("key_text", _TEXT),  # the row's key as JSON text, where it is known
        Column("reason", _TEXT),  # data | parked: the row itself is bad, or it waits behind one that is
        Column("error", _TEXT),
        Column("byte_position", _INT),  # 0-based byte in raw_value, -1 where unknown
        Column("raw_key", parse_type("bytes")),
        Column(
            "raw_value", parse_type("bytes")
        ),  # the message as it came, or the row as an Arrow IPC stream (step apply)
        Column("failed_at", parse_type("timestamptz")),
    ),
)
