"""Debezium JSON messages of one topic partition -> batches of changes, dead letters, truncates, cleared columns.

libcore.decode does the rows; this module makes and changes its plan, from declared columns, from the schema part, or
from both, and keeps what a restart needs.
State: (1, last position, redelivery counter, shape text, refusal, fingerprint of the refusing binding).

A column that the rows had and have no more was dropped at the source, and one of PostgreSQL that stands behind its old
place was dropped and added again: no message says what became of the rows that do not change. Under "follow" a
ClearColumn goes out in front of the first row without it, or with the new one; see docs/decisions/0008.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import structlog

from connectors.base.dead_letters import Failure, raw_messages
from connectors.base.items import ClearColumn, Item, Truncate
from connectors.base.metrics import BATCHES, DECODE_ERRORS, EVENTS, REDELIVERED
from connectors.formats.binding import TopicBinding
from connectors.formats.declared import DeclaredColumn, declared_column
from connectors.formats.envelope_peek import Peeked, key_fields, peek
from connectors.formats.shape import SchemaChangeRefused, Shape, read, resolve, resumed, unknown_column
from connectors.formats.transactions import without_rows
from libcore.change import ChangeBatch
from libcore.decode import decode_envelopes
from libcore.decode_types import Decoded, DecodeState, EnvelopePlan
from libcore.errors import ConfigurationError, DataError, FatalError, HeadraceError

__all__ = ["DebeziumDecoder", "DeclaredColumn", "TopicBinding", "declared_column"]

STATE_VERSION = 1
PEEK_MESSAGES_MAX = 1000

_log = structlog.get_logger()


class DebeziumDecoder:
    """See connectors.base.source.Decoder.

    Args:
        topic, partition: where the messages come from.
        binding: the topic's table and its policies.
        state: a former decoder's state, None at the first start.
        flow: the pipeline's name, for dead letters.
    Raises: ConfigurationError where truncates are to be applied and the topic has more than one partition.
    """

    def __init__(
        self, topic: str, partition: int, binding: TopicBinding, state: object | None = None, *, flow: str = ""
    ) -> None:
        if binding.on_truncate == "apply" and partition > 0:
            raise ConfigurationError(
                f'table {binding.table}: on_truncate = "apply" needs a topic of one partition; {topic} has more, so '
                'the order of a truncate against its rows is unknown: use "stop" or "ignore"'
            )
        self._topic, self._partition, self._binding, self._flow = topic, partition, binding, flow
        self._shape: Shape | None = None
        self._plan: EnvelopePlan | None = None
        self._refused: str | None = None
        self._decode_state = DecodeState()
        if state is not None:
            self._resume(state)
        self._kept_text: str | None = None if self._shape is None else self._shape.text()
        self._events, self._batches = EVENTS.labels(binding.table), BATCHES.labels(binding.table)

    def _resume(self, state: Any) -> None:
        if state[0] != STATE_VERSION:
            raise ConfigurationError(
                f"{self._topic}/{self._partition}: expected decoder state {STATE_VERSION}, found {state[0]!r}"
            )
        _, position, redelivered, text, refused, fingerprint = state
        self._decode_state = DecodeState(position, redelivered)
        if text is not None:
            self._shape = resumed(self._binding, read(text))
            self._plan = self._shape.plan(self._binding, None)
        if fingerprint == self._binding.fingerprint:
            self._refused = refused

    @property
    def state(self) -> object:
        """Small, immutable, picklable; see the module's first lines."""
        last = self._decode_state
        return (
            STATE_VERSION, last.last_position, last.redelivered, self._kept_text, self._refused,
            self._binding.fingerprint if self._refused is not None else None,
        )  # fmt: skip

    def decode(self, messages: pa.RecordBatch) -> tuple[list[Item], int]:
        """See Decoder.decode. Raises FatalError at a truncate that stops, ConfigurationError where no plan fits."""
        items: list[Item] = []
        start, count, planned = 0, messages.num_rows, -1
        self._batches.inc()
        while start < count:
            if self._refused is not None:
                items += self._letters(messages, [Failure(index, self._refused) for index in range(start, count)])
                start = count
            elif self._plan is None:
                reached = self._begin(messages, start, items)
                if reached == start and self._plan is None and self._refused is None:
                    return self._truncated(messages, start, items)
                start = reached
            else:
                done = self._decoded(self._plan, messages, start)
                self._take(done, messages, items)
                start = done.consumed
                if done.stop in ("schema", "columns"):
                    message = self._peeked(messages, start, items)
                    if message is not None and message.kind == "truncate":
                        return self._truncated(messages, start, items)
                    if message is None or message.kind == "event":
                        start += 1
                    elif start == planned and done.stop == "columns":
                        self._plan = replace(self._plan, carried=None)  # Python sees no difference: do not ask again
                    elif start == planned:
                        items += self._letters(
                            messages, [Failure(start, "SYNTAX: its schema part cannot be told apart", 0)]
                        )
                        start += 1
                    elif start > 0 and self._lost(message):
                        self._events.inc(start)  # what came before goes out first, under the old shape
                        return items, start
                    else:
                        items += self._resolve(messages, start, message)
                        planned = start
                elif done.stop == "unknown":
                    self._refuse(unknown_column(self._binding, done.unknown), messages, start)
                elif done.stop == "truncate":
                    return self._truncated(messages, start, items)
        self._events.inc(start)
        return items, start

    def _decoded(self, plan: EnvelopePlan, messages: pa.RecordBatch, start: int) -> Decoded:
        return decode_envelopes(plan, messages, start, self._decode_state)

    def _take(self, done: Decoded, messages: pa.RecordBatch, items: list[Item]) -> None:
        self._decode_state = done.state
        assert self._plan is not None
        if done.record.num_rows:
            items.append(ChangeBatch(self._plan.table, done.record))
        if done.errors:
            failures = [
                Failure(error.message, f"{error.code.name}: {error.text}", error.byte_position) for error in done.errors
            ]
            items += self._letters(messages, failures)
        if redelivered := sum(kind == "redelivered" for _, kind in done.events):
            REDELIVERED.labels(self._binding.table).inc(redelivered)

    def _letters(self, messages: pa.RecordBatch, failures: list[Failure]) -> list[Item]:
        table = self._binding.table
        DECODE_ERRORS.labels(table).inc(len(failures))
        marks: list[Item] = []
        if self._binding.transactions:
            indexes, errors = [failure.message for failure in failures], [failure.error for failure in failures]
            marks = without_rows(messages, indexes, table, errors)
        return [
            *marks,
            raw_messages(
                failures,
                messages,
                flow=self._flow,
                step="decode",
                table=table,
                topic=self._topic,
                partition=self._partition,
            ),
        ]

    def _begin(self, messages: pa.RecordBatch, start: int, items: list[Item]) -> int:
        """Make the first plan. Returns `start` again where message `start` is a truncate, else how far it came.

        Before the first row a tombstone or a heartbeat has nothing to say: no row of this partition was ever sent on.
        """
        for index in range(start, messages.num_rows):
            message = self._peeked(messages, index, items)
            if message is None or message.kind == "event":
                continue
            if message.kind == "row":
                self._resolve(messages, index, message)
                return index
            return index
        return messages.num_rows

    def _peeked(self, messages: pa.RecordBatch, index: int, items: list[Item]) -> Peeked | None:
        try:
            return self._peek(messages.column("value")[index].as_py())
        except DataError as error:
            items += self._letters(messages, [Failure(index, error.message, error.byte_position)])
            return None

    def _peek(self, value: bytes | None) -> Peeked:
        return peek(value)

    def _payloads(self, messages: pa.RecordBatch, start: int) -> Iterator[dict[str, Any]]:
        return _payloads(messages, start)

    def _lost(self, message: Peeked) -> tuple[str, ...]:
        return self._shape.lost(self._binding, message) if self._shape is not None and self._binding.clears else ()

    def _resolve(self, messages: pa.RecordBatch, index: int, message: Peeked) -> list[Item]:
        """Take the message's shape on; what must stand in front of its rows."""
        place = self._place(messages, index)
        accepted = self._shape
        try:
            shape = resolve(
                self._binding, message, self._key(messages, index), accepted, place, self._payloads(messages, index)
            )
        except SchemaChangeRefused as refusal:
            self._refuse(str(refusal), messages, index)
            return []
        except HeadraceError as error:
            _log.error(
                "no plan for the messages", topic=self._topic, partition=self._partition, at=place, error=str(error)
            )
            raise
        self._plan = shape.plan(self._binding, message.schema_bytes)
        if shape != accepted:
            self._shape, self._kept_text = shape, shape.text()
            _log.info(
                "table shape", table=self._binding.table, at=place, key=list(shape.key), columns=len(shape.columns)
            )
        lost = () if accepted is None else accepted.lost(self._binding, message)
        if lost and not self._binding.clears:
            _log.warning(
                "a dropped column keeps its old values in the target: its place among the rows is known only in a "
                "topic of one partition that no step reads; set it to NULL there by hand",
                table=self._binding.table, at=place, columns=list(lost),
            )  # fmt: skip
            return []
        return [ClearColumn(self._binding.table, name, f"{place}:{name}") for name in lost]

    def _key(self, messages: pa.RecordBatch, index: int) -> tuple[str, ...]:
        if self._binding.key is not None:
            return self._binding.key
        names, _ = key_fields(messages.column("key")[index].as_py(), self._topic)
        return names

    def _refuse(self, text: str, messages: pa.RecordBatch, index: int) -> None:
        self._refused = text
        _log.error(
            "schema change refused",
            topic=self._topic,
            partition=self._partition,
            at=self._place(messages, index),
            error=text,
        )

    def _truncated(self, messages: pa.RecordBatch, index: int, items: list[Item]) -> tuple[list[Item], int]:
        """Answer a truncate at `index`; what came before it goes first, in a batch of its own."""
        if index > 0:
            self._events.inc(index)
            return items, index
        place, table = self._place(messages, 0), self._binding.table
        if self._binding.on_truncate == "stop":
            text = (
                f'table {table}: TRUNCATE at {place}; on_truncate = "ignore" passes over it, "apply" empties the target'
            )
            _log.error("truncate", table=table, at=place, error=text)
            raise FatalError(text)
        self._events.inc()
        if self._binding.on_truncate == "ignore":
            _log.warning("truncate ignored", table=table, at=place)
            return (items + without_rows(messages, [0], table) if self._binding.transactions else items), 1
        return [Truncate(table, place)], 1

    def _place(self, messages: pa.RecordBatch, index: int) -> str:
        return f"{self._topic}:{self._partition}:{messages.column('offset')[index].as_py()}"


def _payloads(messages: pa.RecordBatch, start: int) -> Iterator[dict[str, Any]]:
    """Envelopes from message `start` on, opened one by one as asked for; those that do not open are left out."""
    values = messages.column("value")
    for index in range(start, min(messages.num_rows, start + PEEK_MESSAGES_MAX)):
        try:
            message = peek(values[index].as_py())
        except DataError:
            continue  # it becomes a dead letter when its turn comes
        yield message.payload
