"""Debezium messages in Avro of one topic partition -> items, as connectors/formats/debezium.py has them for JSON.

The writer's schema says what a schema part says there; it is named by the id in front of each value, and a registry
keeps it. Another id ends a call of the decoder in C, and the shape is resolved anew. Keys have schemas of their own,
which are asked for when a row needs a key. Keys that no Avro wrote are not looked at: their tombstones say nothing that
the delete before them did not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from connectors.base.schema_registry import SchemaRegistry
from connectors.formats.avro_connect import connect_schema
from connectors.formats.binding import TopicBinding
from connectors.formats.connect_schema import key_names
from connectors.formats.debezium import DebeziumDecoder
from connectors.formats.envelope_peek import Peeked, kind_of
from libcore.avro import AvroPlan, AvroSchema, Framing, decode_avro, read_message, schema_id
from libcore.avro_schema import resolve
from libcore.decode_types import Decoded, EnvelopePlan
from libcore.errors import ConfigurationError, DataError

_NO_ID = (1 << 32) - 1  # registries count from 1, in 31 bits


class AvroDecoder(DebeziumDecoder):
    """See connectors.base.source.Decoder.

    Args:
        topic, partition, binding, state, flow: as DebeziumDecoder; `decimals` of the binding says nothing in Avro.
        registry: where the schemas are.
        framing: how many bytes the ids have.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        binding: TopicBinding,
        state: object | None = None,
        *,
        registry: SchemaRegistry,
        framing: Framing = Framing.CONFLUENT,
        flow: str = "",
    ) -> None:
        self._registry, self._framing = registry, framing
        self._schemas: dict[int, dict[str, Any]] = {}
        self._compiled: AvroPlan | None = None
        self._compiled_from: EnvelopePlan | None = None
        self._key_writer: AvroSchema | None = None
        super().__init__(topic, partition, replace(binding, decimals="base64"), state, flow=flow)

    def _decoded(self, plan: EnvelopePlan, messages: pa.RecordBatch, start: int) -> Decoded:
        if self._compiled is None or self._compiled_from is not plan:
            self._compiled, self._compiled_from = self._compile(plan), plan
        done = decode_avro(self._compiled, self._with_keys(messages), start, self._decode_state)
        if done.stop != "key_schema":
            return done
        self._learn_key(plan, messages.column("key")[done.consumed].as_py())
        return replace(done, stop=None)  # the caller goes on where this call ended

    def _compile(self, plan: EnvelopePlan) -> AvroPlan:
        writer = AvroSchema('"null"', _NO_ID)  # after a restart no value was seen yet: the first one stops the call
        if plan.schema_bytes is not None:
            number = int(plan.schema_bytes)
            writer = AvroSchema(self._registry.schema(number), number)
        rows = replace(plan, schema_bytes=None, carried=None, stop_on_unknown=False)
        return AvroPlan(rows, writer, self._key_writer, self._framing)

    def _learn_key(self, plan: EnvelopePlan, key: bytes) -> None:
        """Take the schema of that key on; one that gives no key makes a dead letter of the message."""
        number = schema_id(key, self._framing)
        self._key_writer, self._compiled = AvroSchema('"null"', number), None
        try:
            self._key_writer = AvroSchema(self._registry.schema(number), number)
            resolve(self._compile(plan))
        except (DataError, ConfigurationError):
            self._key_writer = AvroSchema('"null"', number)

    def _with_keys(self, messages: pa.RecordBatch) -> pa.RecordBatch:
        """The messages, without their keys where another format wrote them (a string, or JSON)."""
        keys = messages.column("key")
        first = next((key for key in keys if key.is_valid), None)
        if first is None or first.as_py()[:1] == b"\0":
            return messages
        return messages.set_column(0, messages.schema.field(0), pa.nulls(messages.num_rows, pa.binary()))

    def _peek(self, value: bytes | None) -> Peeked:
        if value is None:
            return Peeked("event", {}, None, None)
        number = schema_id(value, self._framing)
        payload = read_message(AvroSchema(self._registry.schema(number), number), self._framing, value)
        if payload is None:
            return Peeked("event", {}, None, None)
        if not isinstance(payload, dict):
            raise DataError("TYPE: expected a record", byte_position=0)
        return Peeked(kind_of(payload), payload, str(number).encode(), self._schema(number))

    def _schema(self, number: int) -> dict[str, Any]:
        if number not in self._schemas:
            self._schemas[number] = connect_schema(self._registry.schema(number))
        return self._schemas[number]

    def _payloads(self, messages: pa.RecordBatch, start: int) -> Iterator[dict[str, Any]]:
        return iter(())  # they tell how JSON writes decimals

    def _key(self, messages: pa.RecordBatch, index: int) -> tuple[str, ...]:
        key = messages.column("key")[index].as_py()
        if self._binding.key is not None or key is None or key[:1] != b"\0":
            return super()._key(messages, index)
        try:
            return key_names(self._schema(schema_id(key, self._framing)))
        except DataError as error:
            raise ConfigurationError(f"topic {self._topic}: its keys: {error.message}") from error
