"""The shape that a partition's rows have now: made from schema parts and declarations, kept in the recovery store."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from connectors.formats.binding import TopicBinding
from connectors.formats.connect_schema import DECIMAL, row_fields, wire_columns
from connectors.formats.declared import fitted, wire
from connectors.formats.envelope_peek import Peeked, decimals_as_numbers
from connectors.formats.evolution import evolve
from libcore.decode_types import Encoding, EnvelopePlan, WireColumn
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type

_log = structlog.get_logger()


class SchemaChangeRefused(Exception):
    """The new shape is not taken on; the text names table, changes, and the setting that accepts them."""


@dataclass(frozen=True)
class Shape:
    """Columns with their encodings, key, and whose positions the source carries."""

    columns: tuple[WireColumn, ...]
    key: tuple[str, ...]
    position: str

    def table(self, name: str) -> Table:
        """The table of such rows."""
        return Table(name, tuple(column.column for column in self.columns), self.key)

    def plan(self, binding: TopicBinding, schema_bytes: bytes | None) -> EnvelopePlan:
        """The plan for messages with that schema part (None: not wrapped)."""
        bare = schema_bytes is None or schema_bytes == b"null"
        return EnvelopePlan(
            table=self.table(binding.table),
            columns=self.columns,
            position=self.position,
            generation=binding.generation,
            schema_bytes=schema_bytes,
            placeholder=binding.placeholder,
            # Under a schema part the new field was seen there; ignored ones must not stop every message.
            creates=True,
            stop_on_unknown=bare and binding.new_column != "ignore",
        )

    def text(self) -> str:
        """Compact JSON for the recovery store; `read` is its inverse."""
        return json.dumps(
            [self.key, self.position, [_packed(column) for column in self.columns]], separators=(",", ":")
        )


def read(text: str) -> Shape:
    """A shape from its text."""
    key, position, columns = json.loads(text)
    return Shape(tuple(_unpacked(column) for column in columns), tuple(key), position)


def resolve(
    binding: TopicBinding,
    message: Peeked,
    key: tuple[str, ...],
    accepted: Shape | None,
    place: str,
    payloads: Iterable[dict[str, Any]] = (),
) -> Shape:
    """The shape of this message's rows, given the accepted one.

    Args:
        binding: the declarations and policies.
        message: a message of kind "row".
        payloads: envelopes of it and of messages after it, read as far as needed to tell how decimals are written.
        key: the key's columns, from the declaration or from a message key.
        accepted: the shape so far, None at the first message of all.
        place: topic, partition and offset, for the log.
    Raises: ConfigurationError where there is no accepted shape and none can be made; SchemaChangeRefused where the
        change from the accepted one is not taken on.
    """
    try:
        columns = _columns(binding, message, accepted, payloads)
        if accepted is None:
            shape = Shape(columns, key, message.position)
            shape.table(binding.table)  # checks that the key is among the columns
            return shape
    except ConfigurationError as error:
        if accepted is None:
            raise ConfigurationError(f"table {binding.table}, {place}: {error}") from error
        raise SchemaChangeRefused(
            f"table {binding.table}: {error}; declare the column anew in the pipeline file"
        ) from error
    if binding.columns is not None and binding.new_column != "add":
        # The file decides, not the messages: what it declares is the table, also where it was edited between two runs.
        return Shape(columns, key, message.position)
    evolution = evolve(accepted.table(binding.table), columns, key)
    if evolution.refused and binding.on_schema_change == "refuse":
        raise SchemaChangeRefused(
            f'table {binding.table}: {"; ".join(evolution.refused)}; on_schema_change = "follow" accepts such changes'
        )
    if evolution.taken or evolution.refused:
        _log.warning(
            "schema change taken on", table=binding.table, at=place, changes=[*evolution.taken, *evolution.refused]
        )
    return Shape(evolution.columns, accepted.key if set(key) == set(accepted.key) else key, message.position)


def _columns(
    binding: TopicBinding, message: Peeked, accepted: Shape | None, payloads: Iterable[dict[str, Any]]
) -> tuple[WireColumn, ...]:
    fields = row_fields(message.schema)
    if fields is None:
        if binding.columns is not None:
            return tuple(wire(column) for column in binding.columns)
        if accepted is not None:
            return accepted.columns
        raise ConfigurationError("the messages carry no schema part, so the pipeline file must declare the columns")
    decimals = [str(field["field"]) for field in fields if field.get("name") == DECIMAL]
    as_numbers = _as_numbers(binding, decimals, accepted, payloads)
    if binding.columns is None:
        return _without_news(binding, wire_columns(fields, decimals_as_numbers=as_numbers), accepted)
    return _declared(binding, fields, as_numbers)


def _as_numbers(
    binding: TopicBinding, decimals: list[str], accepted: Shape | None, payloads: Iterable[dict[str, Any]]
) -> bool:
    if binding.decimals != "auto":
        return binding.decimals == "number"
    seen = decimals_as_numbers(payloads, decimals) if decimals else False
    if seen is not None:
        return seen
    return accepted is not None and any(column.encoding is Encoding.DECIMAL_TEXT for column in accepted.columns)


def _without_news(
    binding: TopicBinding, columns: tuple[WireColumn, ...], accepted: Shape | None
) -> tuple[WireColumn, ...]:
    if accepted is None or binding.new_column == "add":
        return columns
    known = {column.column.name for column in accepted.columns}
    if binding.new_column == "refuse":
        _refuse_news(binding, [column.column.name for column in columns if column.column.name not in known])
    return tuple(column for column in columns if column.column.name in known)


def _declared(binding: TopicBinding, fields: Sequence[Mapping[str, Any]], as_numbers: bool) -> tuple[WireColumn, ...]:
    assert binding.columns is not None
    by_name = {str(field["field"]): field for field in fields}
    columns = []
    for declared in binding.columns:
        field = by_name.pop(declared.name, None)
        if field is not None:
            columns.append(fitted(declared, field, as_numbers))
        elif binding.on_schema_change == "follow":
            columns.append(wire(declared))  # its values count as not sent
        else:
            raise ConfigurationError(
                f"column {declared.name} is declared, but the schema part has only {[str(f['field']) for f in fields]}"
            )
    if binding.new_column == "refuse":
        _refuse_news(binding, list(by_name))
    if binding.new_column == "add":
        columns += wire_columns(list(by_name.values()), decimals_as_numbers=as_numbers)
    return tuple(columns)


def _refuse_news(binding: TopicBinding, names: list[str]) -> None:
    if names:
        raise SchemaChangeRefused(unknown_column(binding, names[0]))


def unknown_column(binding: TopicBinding, name: str) -> str:
    """Why a field that the table lacks is refused, and what helps."""
    return (
        f"table {binding.table}: column {name} is new; declare it in the pipeline file, "
        'or leave it out with on_new_column = "ignore"'
    )


def resumed(binding: TopicBinding, accepted: Shape) -> Shape:
    """The shape to begin with after a restart: the accepted one, except where the pipeline file now says otherwise."""
    key = accepted.key if binding.key is None else binding.key
    if binding.columns is None:
        return replace(accepted, key=key)
    known = {(column.column.name, column.column.type): column for column in accepted.columns}
    columns = tuple(known.get((declared.name, declared.type)) or wire(declared) for declared in binding.columns)
    return Shape(columns, key, accepted.position)


def _packed(wire_column: WireColumn) -> list[Any]:
    column, item = wire_column.column, wire_column.item
    return [
        column.name, str(column.type), column.nullable, int(wire_column.encoding), wire_column.wire_scale,
        wire_column.bit_length, None if item is None else _packed(item),
    ]  # fmt: skip


def _unpacked(packed: list[Any]) -> WireColumn:
    name, type_text, nullable, encoding, wire_scale, bit_length, item = packed
    return WireColumn(
        Column(name, parse_type(type_text), nullable),
        Encoding(encoding),
        wire_scale,
        bit_length,
        None if item is None else _unpacked(item),
    )
