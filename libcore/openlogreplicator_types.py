"""The words of splitting OpenLogReplicator's messages; shared by C face and reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from libcore.decode_types import ErrorCode
from libcore.errors import ConfigurationError

CHANGES = pa.schema(
    [
        pa.field("value", pa.binary()),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp_ms", pa.int64(), nullable=False),
    ]
)
"""Changes as messages for libcore.decode, but for the key, which they do not have."""

TABLES_MAX, NAME_BYTES_MAX = 10_000, 1000


@dataclass(frozen=True)
class Split:
    """What one call made.

    Args:
        changes: by CHANGES, table by table in the order asked for, those of one table in their order.
        counts: changes of each table.
        others: rows of other tables.
        ddl: 0-based indexes of messages that hold a DDL statement.
        errors: (0-based index of the message, 0-based byte in its value, why), one each at most; such a message gave
            no change.
    """

    changes: pa.RecordBatch
    counts: list[int]
    others: int
    ddl: list[int]
    errors: list[tuple[int, int, ErrorCode]]


def check_tables(tables: Sequence[str]) -> None:
    """Raise ConfigurationError unless these are 1 to 10,000 names of 1 to 1000 bytes, in ascending order, each once."""
    names = [name.encode() for name in tables]
    if not 1 <= len(names) <= TABLES_MAX:
        raise ConfigurationError(f"expected 1..{TABLES_MAX} tables, found {len(names)}")
    if wrong := [name for name in tables if not 1 <= len(name.encode()) <= NAME_BYTES_MAX]:
        raise ConfigurationError(f"expected tables' names of 1..{NAME_BYTES_MAX} bytes, found {wrong[0]!r}")
    if names != sorted(set(names)):
        raise ConfigurationError("expected tables' names in ascending order, each once")
