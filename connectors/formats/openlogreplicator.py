"""OpenLogReplicator's own JSON, one topic for all tables -> batches of changes, dead letters, truncates.

libcore.openlogreplicator parts the tables, libcore.decode does the rows. A row's position is its message's offset and
its place in the message, so that nothing has to be kept. State: (1,).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from connectors.base.dead_letters import Failure, raw_messages
from connectors.base.items import Item, Truncate
from connectors.base.metrics import BATCHES, DECODE_ERRORS, EVENTS
from connectors.base.source import RAW_SCHEMA
from connectors.formats.binding import TopicBinding
from connectors.formats.openlogreplicator_plan import TimeForms, plan
from connectors.formats.shape import unknown_column
from libcore.change import OP, UNSET, ChangeBatch, Op, op_is, unset_bytes
from libcore.decode import decode_envelopes
from libcore.decode_types import Decoded
from libcore.errors import ConfigurationError, FatalError
from libcore.openlogreplicator import Split, split
from libcore.schema import Table

STATE = (1,)
_TRUNCATE = re.compile(r"\s*truncate\b", re.I)
_MOVED = "KEY: its key changed and it lacks columns: expected all of them (column = 2 in OpenLogReplicator's format)"
_EARLY = "RANGE: a time before the year 1, which OpenLogReplicator does not write as Oracle has it"
_YEAR_1_US = -62_135_596_800_000_000

_log = structlog.get_logger()


class OpenLogReplicatorDecoder:
    """See connectors.base.source.Decoder.

    Args:
        topic, partition: where the messages come from; the topic has one partition.
        bindings: "OWNER.TABLE" -> its table and policies; changes of others are passed over.
        state: a former decoder's state, None at the first start.
        flow: the pipeline's name, for dead letters.
    Raises: ConfigurationError for another partition than the first, and for a column of a type that is not written.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        bindings: Mapping[str, TopicBinding],
        state: object | None = None,
        *,
        flow: str = "",
    ) -> None:
        if partition > 0:
            raise ConfigurationError(
                f"topic {topic}: expected one partition, found more: the order of changes is known in one only"
            )
        if state not in (None, STATE):
            raise ConfigurationError(f"{topic}/{partition}: expected decoder state {STATE}, found {state!r}")
        self._topic, self._flow = topic, flow
        self._names = sorted(bindings)
        self._bindings = [bindings[name] for name in self._names]
        self._plans = list(map(plan, self._bindings))
        self._times = [TimeForms(each.table) for each in self._plans]

    @property
    def state(self) -> object:
        """Nothing is kept."""
        return STATE

    def decode(self, messages: pa.RecordBatch) -> tuple[list[Item], int]:
        """See Decoder.decode. Raises FatalError at a truncate that stops, ConfigurationError for times in a form that
        is not read."""
        found = split(self._names, messages)
        for index in found.ddl:
            if (binding := self._truncates(messages, index)) is None:
                continue
            if index == 0:
                return self._truncated(binding, messages), 1
            messages = messages.slice(0, index)  # what came before it goes out first
            found = split(self._names, messages)
            break
        items: list[Item] = []
        if found.errors:
            items.append(self._letters(self._topic, _unread(messages, found), messages))
        start = 0
        for place, count in enumerate(found.counts):
            if count:
                items += self._rows(place, _raw(found.changes.slice(start, count)))
                start += count
        return items, messages.num_rows

    # ---- rows ----

    def _rows(self, place: int, changes: pa.RecordBatch) -> Iterator[Item]:
        """The changes of one table as batches, and those that give no row as dead letters."""
        self._check_times(place, changes)
        binding, rows = self._bindings[place], self._plans[place]
        EVENTS.labels(binding.table).inc(changes.num_rows)
        BATCHES.labels(binding.table).inc()
        start, failures = 0, list[Failure]()
        while start < changes.num_rows:
            done, early = _without_early(rows.table, decode_envelopes(rows, changes, start))
            record, moved = _settled(rows.table, done, whole=bool(binding.whole))
            failures += [Failure(bad.message, f"{bad.code.name}: {bad.text}", bad.byte_position) for bad in done.errors]
            failures += [Failure(index, _EARLY) for index in early]
            failures += [Failure(index, _MOVED) for index in moved]
            if record.num_rows:
                yield ChangeBatch(rows.table, record)
            start = done.consumed
            if done.stop == "unknown":
                failures.append(Failure(start, unknown_column(binding, done.unknown)))
                start += 1
        if failures:
            yield self._letters(binding.table, sorted(failures, key=lambda one: one.message), changes)

    def _letters(self, table: str, failures: Sequence[Failure], messages: pa.RecordBatch) -> ChangeBatch:
        DECODE_ERRORS.labels(table).inc(len(failures))
        return raw_messages(
            failures, messages, flow=self._flow, step="decode", table=table, topic=self._topic, partition=0
        )

    def _check_times(self, place: int, changes: pa.RecordBatch) -> None:
        try:
            self._times[place].check(changes, self._topic)
        except ConfigurationError as error:
            _log.error("times in a form that is not read", table=self._names[place], error=str(error))
            raise

    # ---- DDL ----

    def _truncates(self, messages: pa.RecordBatch, index: int) -> TopicBinding | None:
        """The table that a message with DDL truncates, where that is not to be ignored; all else is passed over."""
        for change in _payload(messages, index):
            if change["op"] != "ddl":
                continue
            binding, statement = self._named(change), str(change.get("sql"))
            if binding is not None and binding.on_truncate != "ignore" and _TRUNCATE.match(statement):
                return binding
            _log.warning("DDL passed over", at=self._place(messages, index), statement=statement[:200])
        return None

    def _named(self, change: Mapping[str, Any]) -> TopicBinding | None:
        schema = change.get("schema") or {}
        name = ".".join(str(schema[part]) for part in ("owner", "table") if part in schema)
        return self._bindings[self._names.index(name)] if name in self._names else None

    def _truncated(self, binding: TopicBinding, messages: pa.RecordBatch) -> list[Item]:
        """Answer the truncate in the first message."""
        place = self._place(messages, 0)
        if binding.on_truncate == "apply" and len(_payload(messages, 0)) == 1:
            EVENTS.labels(binding.table).inc()
            return [Truncate(binding.table, place)]
        text = (
            f'table {binding.table}: TRUNCATE at {place}; on_truncate = "ignore" passes over it, "apply" empties the '
            "target where its message holds nothing else"
        )
        _log.error("truncate", table=binding.table, at=place, error=text)
        raise FatalError(text)

    def _place(self, messages: pa.RecordBatch, index: int) -> str:
        return f"{self._topic}:0:{messages.column('offset')[index].as_py()}"


def _unread(messages: pa.RecordBatch, found: Split) -> list[Failure]:
    """Messages that could not be taken apart."""
    values = messages.column("value")
    return [
        Failure(
            index,
            f"{code.name}: expected a message of OpenLogReplicator, found {values[index].as_py()[at : at + 40]!r}",
            at,
        )
        for index, at, code in found.errors
    ]


def _raw(changes: pa.RecordBatch) -> pa.RecordBatch:
    """Changes as raw messages, which have keys."""
    return pa.RecordBatch.from_arrays([pa.nulls(len(changes), pa.binary()), *changes.columns], schema=RAW_SCHEMA)


def _payload(messages: pa.RecordBatch, index: int) -> list[dict[str, Any]]:
    """The changes of a message that holds DDL: there are few, so plain Python reads them."""
    message = json.loads(messages.column("value")[index].as_py(), parse_int=str, parse_float=str)
    payload: list[dict[str, Any]] = message["payload"]
    return payload


def _without_early(table: Table, done: Decoded) -> tuple[Decoded, list[int]]:
    """The rows of changes without a time before the year 1, and the other changes.

    By the source of 1.9.0 it counts the years before 1 without a year 0, and times of the day in them backwards.
    """
    early = pa.array([False] * len(done.rows), pa.bool_())
    for index, column in enumerate(table.columns):
        if pa.types.is_timestamp(column.type.arrow) and column.type.arrow.unit == "us":  # no nanoseconds reach so far
            times_us = done.record.column(index).cast(pa.int64())
            early = pc.or_(early, pc.fill_null(pc.less(times_us, _YEAR_1_US), False))
    if not pc.any(early).as_py():
        return done, []
    changes = pc.unique(done.rows.filter(early))
    kept = pc.invert(pc.is_in(done.rows, value_set=changes))
    return replace(done, record=done.record.filter(kept), rows=done.rows.filter(kept)), changes.to_pylist()


def _settled(table: Table, done: Decoded, *, whole: bool) -> tuple[pa.RecordBatch, list[int]]:
    """The rows with what a missing column means here, and the changes that no row can be made of.

    A new row lacks the columns that are NULL. A changed row lacks those that did not change: it is an Op.UPDATE, which
    makes no row of a part, except for steps (`whole`), whose state has the rest. One whose key changed may lack none:
    nothing has them under the new key.
    """
    record = done.record
    if UNSET not in record.schema.names:
        return record, []
    none = pa.scalar(bytes(unset_bytes(table)), pa.binary(unset_bytes(table)))
    unset = pc.if_else(op_is(record, Op.INSERT), none, record.column(UNSET))
    partial = pc.not_equal(unset, none)
    if not pc.any(partial).as_py():
        return record.select([name for name in record.schema.names if name != UNSET]), []
    record = record.set_column(record.schema.get_field_index(UNSET), record.schema.field(UNSET), unset)
    if not whole:
        ops = pc.if_else(partial, pa.scalar(int(Op.UPDATE), pa.int8()), record.column(OP))
        record = record.set_column(record.schema.get_field_index(OP), record.schema.field(OP), ops)
    second = pc.equal(done.rows[1:], done.rows[:-1])  # behind the delete of the same change's old key
    moved = done.rows[1:].filter(pc.and_(second, partial[1:]))
    if len(moved):
        record = record.filter(pc.invert(pc.is_in(done.rows, moved)))
    return record, moved.to_pylist()
