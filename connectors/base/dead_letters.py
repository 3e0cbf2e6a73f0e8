"""Messages that could not pass -> a batch of the dead-letter table (libcore/dead_letter.py)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from connectors.base import metrics
from libcore.change import ChangeBatch, Op, arrow_schema
from libcore.dead_letter import DEAD_LETTERS
from libcore.position import make


@dataclass(frozen=True)
class Failure:
    """Why one raw message failed.

    Args:
        message: 0-based index in the raw batch.
        error: one sentence.
        byte_position: 0-based byte in the message's value, -1 where unknown.
    """

    message: int
    error: str
    byte_position: int = -1


def raw_messages(
    failures: Sequence[Failure],
    messages: pa.RecordBatch,
    *,
    flow: str,
    step: str,
    table: str,
    topic: str,
    partition: int,
) -> ChangeBatch:
    """Failed raw messages (connectors.base.source.RAW_SCHEMA) as dead letters, whole, in order; counts them too."""
    taken = messages.take(pa.array([failure.message for failure in failures], pa.int32()))
    count = len(failures)
    metrics.DEAD_LETTERS.labels(step).inc(count)
    offsets = taken.column("offset").to_pylist()
    columns = {
        "flow": [flow] * count,
        "step": [step] * count,
        "table_name": [table] * count,
        "topic": [topic] * count,
        "partition": [partition] * count,
        "message_offset": offsets,
        "key_text": [key_text(key) for key in taken.column("key").to_pylist()],
        "reason": ["data"] * count,
        "error": [failure.error for failure in failures],
        "byte_position": [failure.byte_position for failure in failures],
        "raw_key": taken.column("key"),
        "raw_value": taken.column("value"),
        "failed_at": [datetime.now(UTC)] * count,
        "__op": [int(Op.UPSERT)] * count,
        "__position": [make(0, 0, offset) for offset in offsets],
        "__source_ts": [None if ms < 0 else ms * 1000 for ms in taken.column("timestamp_ms").to_pylist()],
    }
    schema = arrow_schema(DEAD_LETTERS)
    arrays = [
        values if isinstance(values, pa.Array) else pa.array(values, schema.field(name).type)
        for name, values in columns.items()
    ]
    return ChangeBatch(DEAD_LETTERS, pa.RecordBatch.from_arrays(arrays, schema=schema))


def key_text(key: bytes | None) -> str | None:
    """A message key as compact JSON text, without a schema part around it; None where it is no JSON."""
    if key is None:
        return None
    try:
        value = json.loads(key)
    except (ValueError, RecursionError):  # not JSON, not UTF-8, or nested without end
        return None
    if isinstance(value, dict) and next(iter(value), None) == "schema" and "payload" in value:
        value = value["payload"]
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
