"""Raw batches for tests of the Debezium decoder: from the recordings, or made by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from connectors.base.items import Item
from connectors.base.source import RAW_SCHEMA
from connectors.formats.debezium import DebeziumDecoder
from libcore.change import ChangeBatch
from libcore.dead_letter import DEAD_LETTERS

GOLDEN = Path(__file__).parent.parent / "golden"
SOURCE = {"connector": "postgresql", "snapshot": "false", "ts_us": 1_760_000_000_123_456, "schema": "public"}


@lru_cache(maxsize=2)
def recordings(name: str) -> dict[tuple[str, int], pa.RecordBatch]:
    """Raw messages by (topic, partition) of a recording: "ns" (schemas off) or "sp" (schemas on)."""
    parts: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for line in (GOLDEN / "debezium" / f"{name}.ndjson").read_text("utf-8").splitlines():
        message = json.loads(line)
        parts.setdefault((message["topic"], message["partition"]), []).append(message)
    return {
        part: raw([(m["key"], m["value"]) for m in messages], [m["offset"] for m in messages])
        for part, messages in parts.items()
    }


def raw(messages: Iterable[tuple[Any, Any]], offsets: Iterable[int] | None = None) -> pa.RecordBatch:
    """Raw messages from (key, value): bytes and text as they are, None as NULL, all else as compact JSON."""
    pairs = list(messages)
    arrays = [
        pa.array([_encoded(key) for key, _ in pairs], pa.binary()),
        pa.array([_encoded(value) for _, value in pairs], pa.binary()),
        pa.array(list(offsets) if offsets is not None else range(len(pairs)), pa.int64()),
        pa.array([1_760_000_000_000] * len(pairs), pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA)


def _encoded(value: Any) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))).encode()


def envelope(after: Any, *, op: str = "c", before: Any = None, lsn: int | None = None) -> dict[str, Any]:
    """A PostgreSQL envelope without a schema part."""
    source = SOURCE | ({} if lsn is None else {"lsn": lsn, "sequence": json.dumps([str(lsn - 1), str(lsn)])})
    return {"before": before, "after": after, "source": source, "op": op, "ts_ms": 1_760_000_000_200}


def schema_part(fields: list[dict[str, Any]], name: str = "t") -> dict[str, Any]:
    """An envelope's schema part around the fields of a row."""
    row = {"type": "struct", "fields": fields, "optional": True, "name": f"{name}.Value"}
    return {
        "type": "struct",
        "fields": [row | {"field": "before"}, row | {"field": "after"}, {"type": "string", "field": "op"}],
        "name": f"{name}.Envelope",
    }


def field(called: str, base: str, *, optional: bool = True, **more: Any) -> dict[str, Any]:
    """A field of a row's schema."""
    return {"type": base, "optional": optional, "field": called, **more}


def wrapped(schema: dict[str, Any], after: Any, **more: Any) -> dict[str, Any]:
    """An envelope inside its schema part."""
    return {"schema": schema, "payload": envelope(after, **more)}


def drain(decoder: DebeziumDecoder, messages: pa.RecordBatch) -> list[Item]:
    """All items of the messages, given again and again as a source does."""
    items: list[Item] = []
    while messages.num_rows:
        brought, consumed = decoder.decode(messages)
        assert 0 < consumed <= messages.num_rows
        items += brought
        messages = messages.slice(consumed)
    return items


def rows(items: list[Item]) -> list[dict[str, Any]]:
    """The decoded rows among items, as plain dictionaries with all control columns; dates and timestamps as integers.

    Python's own dates end at the years 1 and 9999 and have no infinity.
    """
    batches = [item for item in items if isinstance(item, ChangeBatch) and item.table != DEAD_LETTERS]
    return [row for batch in batches for row in _plain(batch.record).to_pylist()]


def _plain(record: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for column in record.columns:
        if pa.types.is_date32(column.type):
            column = column.cast(pa.int32())
        columns.append(column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column)
    return pa.RecordBatch.from_arrays(columns, names=record.schema.names)


def values(items: list[Item]) -> list[dict[str, Any]]:
    """The decoded rows without control columns."""
    return [{name: value for name, value in row.items() if not name.startswith("__")} for row in rows(items)]


def letters(items: list[Item]) -> list[dict[str, Any]]:
    """The dead letters among items."""
    batches = [item for item in items if isinstance(item, ChangeBatch) and item.table == DEAD_LETTERS]
    return [row for batch in batches for row in batch.record.to_pylist()]
