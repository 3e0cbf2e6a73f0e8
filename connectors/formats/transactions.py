"""Debezium's transaction topic (provide.transaction.metadata) -> marks; and the transaction that a message names.

A mark is {"status": "BEGIN" | "END", "id", "event_count", "data_collections": [{"data_collection", "event_count"}],
"ts_ms"}, wrapped in a schema part or not. BEGIN says nothing that END does not. There are few marks, so plain Python
reads them. PostgreSQL's ids are "xid:lsn", with another lsn in each message: see `transaction_key`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import structlog

from connectors.base.items import Item
from connectors.base.metrics import BATCHES, EVENTS
from libcore.errors import ConfigurationError, FatalError
from libcore.transaction_mark import ARRIVED, END, LOST, Mark, to_batch

STATE = (1,)
_BEGIN = (b'"status":"BEGIN"', b'"status": "BEGIN"')

_log = structlog.get_logger()


class TransactionDecoder:
    """See connectors.base.source.Decoder: the messages of the transaction topic as batches of TRANSACTION_MARKS.

    Args:
        topic, partition: where the messages come from; a transaction topic has one partition.
        state: a former decoder's state.
    Raises: ConfigurationError for another partition than the first: the order of transactions would be unknown.
    """

    def __init__(self, topic: str, partition: int, state: object | None = None) -> None:
        if partition > 0:
            raise ConfigurationError(
                f"topic {topic}: expected one partition, found more: the order of transactions is known in one only"
            )
        if state not in (None, STATE):
            raise ConfigurationError(f"{topic}/{partition}: expected decoder state {STATE}, found {state!r}")
        self._topic, self._partition = topic, partition
        self._events, self._batches = EVENTS.labels(topic), BATCHES.labels(topic)

    @property
    def state(self) -> object:
        """Nothing is kept."""
        return STATE

    def decode(self, messages: pa.RecordBatch) -> tuple[list[Item], int]:
        """See Decoder.decode. Raises FatalError for a message that is no mark: passing over it could tear one."""
        marks: list[Mark] = []
        for value, offset in zip(
            messages.column("value").to_pylist(), messages.column("offset").to_pylist(), strict=True
        ):
            if value is None or any(text in value for text in _BEGIN):
                continue
            try:
                marks += _ended(_payload(value))
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
                place = f"{self._topic}:{self._partition}:{offset}"
                text = f"{place}: expected a transaction mark of Debezium, found {value[:80]!r} ({error!r})"
                _log.error("no transaction mark", at=place, error=text)
                raise FatalError(text) from error
        self._batches.inc()
        self._events.inc(messages.num_rows)
        return ([to_batch(marks)] if marks else []), messages.num_rows


def without_rows(
    messages: pa.RecordBatch, indexes: Sequence[int], table: str, errors: Sequence[str] | None = None
) -> list[Item]:
    """Marks for messages of a table's topic that gave no row: dead letters with `errors`, else rightly so.

    A message that is no JSON, or names no transaction, gives no mark: its transaction stays incomplete.
    """
    marks: list[Mark] = []
    for place, index in enumerate(indexes):
        try:
            named = _payload(messages.column("value")[index].as_py())["transaction"]
            transaction, number = str(named["id"]), int(named["data_collection_order"])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
        kind, error = (ARRIVED, None) if errors is None else (LOST, errors[place])
        marks.append(Mark(kind, transaction, table, number=number, error=error))
    return [to_batch(marks)] if marks else []


def _payload(value: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(value)
    return document["payload"] if next(iter(document), None) == "schema" else document


def _ended(payload: dict[str, Any]) -> list[Mark]:
    """The rows of an END mark; none for a BEGIN."""
    if payload["status"] == "BEGIN":
        return []
    if payload["status"] != "END":
        raise ValueError(f"status {payload['status']!r}")
    transaction, time_ms = str(payload["id"]), payload.get("ts_ms")
    time_us = None if time_ms is None else int(time_ms) * 1000
    marks = [Mark(END, transaction, None, int(payload["event_count"]), time_us=time_us)]
    for part in payload["data_collections"] or ():
        count = int(part["event_count"])
        marks.append(Mark(END, transaction, str(part["data_collection"]), count, time_us=time_us))
    return marks
