"""The document step on what a real connector sent: recorded Debezium streams with their transaction topic."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

from connectors.base.items import Item
from connectors.base.source import RAW_SCHEMA
from connectors.formats.binding import TopicBinding
from connectors.formats.debezium import DebeziumDecoder
from connectors.formats.declared import declared_column
from connectors.formats.transactions import TransactionDecoder
from flows.document_spec import DocumentSpec
from flows.operators.document import Documents
from libcore.change import ChangeBatch
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, FatalError
from tests.flows.recorded import DECLARED, messages, payload


def batch(found: list[dict[str, Any]]) -> pa.RecordBatch:
    """Recorded messages as a source hands them to a decoder."""
    columns: list[list[Any]] = [[None if not m[name] else m[name].encode() for m in found] for name in ("key", "value")]
    columns += [[m["offset"] for m in found], [m["timestamp"] for m in found]]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, RAW_SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA)


def binding(stream: str, topic: str) -> TopicBinding:
    """The table of a topic, with declared columns where the messages bring none."""
    if stream == "sp":
        return TopicBinding(topic, on_truncate="ignore", on_schema_change="follow", transactions=True)
    key, columns = DECLARED[topic.removeprefix(f"{stream}.public.")]
    declared = tuple(declared_column(name, kind) for name, kind in columns.items())
    return TopicBinding(topic, declared, tuple(key), on_truncate="ignore", transactions=True)


def decoded(decoder: Any, record: pa.RecordBatch) -> list[Item]:
    """All items of a partition."""
    items: list[Item] = []
    while record.num_rows:
        found, consumed = decoder.decode(record)
        items, record = items + found, record.slice(consumed)
    return items


def marks_in_order(stream: str) -> list[dict[str, Any]]:
    """The transaction topic's messages as they would stand in one partition: they were recorded in two."""
    found = [message for message in messages(stream) if message["topic"] == f"{stream}.transaction"]

    def place(message: dict[str, Any]) -> tuple[int, bool]:
        envelope = payload(message["value"])
        assert envelope is not None
        return int(envelope["id"].rpartition(":")[2]), envelope["status"] == "BEGIN"

    return sorted(found, key=place)


@pytest.mark.parametrize("stream", ["ns", "sp"])
def test_every_recorded_transaction_becomes_complete(stream: str) -> None:
    """Each recorded change finds its transaction and each END its changes, whether rows or marks come first."""
    data: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for message in messages(stream):
        if ".public." in message["topic"]:
            data.setdefault((message["topic"], message["partition"]), []).append(message)
    topics = sorted({topic for topic, _ in data})
    spec = DocumentSpec(transaction_topic=f"{stream}.transaction", on_bad_row="apply")
    for marks_first in (True, False):
        stage = Documents(spec.rules("recorded", topics))
        marks = TransactionDecoder(f"{stream}.transaction", 0).decode(batch(marks_in_order(stream)))[0]
        rows: list[Item] = []
        for (topic, number), found in data.items():
            rows += decoded(DebeziumDecoder(topic, number, binding(stream, topic)), batch(found))
        out = [item for part in ([marks, rows] if marks_first else [rows, marks]) for item in stage.on_items(part)]
        assert stage.pending.rows == len(stage.pending.transactions) == len(stage.ends) == 0
        count = sum(item.row_count for item in out if isinstance(item, ChangeBatch) and item.table != DEAD_LETTERS)
        assert count == sum(
            item.row_count for item in rows if isinstance(item, ChangeBatch) and item.table.name in topics
        )
        assert stage.keeper.meta.released == sum('"status":"END"' in m["value"] for m in marks_in_order(stream))


def test_a_message_that_is_no_mark_stops_the_flow() -> None:
    """Passing over it could tear a transaction: the error names its place and what stands there."""
    message = {"key": "{}", "value": json.dumps({"status": "END", "id": "1:2"}), "offset": 7, "timestamp": 0}
    with pytest.raises(FatalError, match="t:0:7: expected a transaction mark"):
        TransactionDecoder("t", 0).decode(batch([message]))


def test_a_second_partition_is_refused() -> None:
    """In two partitions the order of transactions is unknown."""
    with pytest.raises(ConfigurationError, match="expected one partition"):
        TransactionDecoder("t", 1)
