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
from connectors.formats.evolution import dropped_columns, evolve
from libcore.decode_types import Encoding, EnvelopePlan, WireColumn
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type

_log = structlog.get_logger()
_MANY = "*"  # an origin: several source tables share the topic


class SchemaChangeRefused(Exception):
    """The new shape is not taken on; the text names table, changes, and the setting that accepts them."""


@dataclass(frozen=True)
class Shape:
    """Columns with their encodings, key, and whose positions the source carries.

    Args:
        carried: the columns that the last looked-at row had, in its order; None before there was one.
        origin: the source table of that row.
    """

    columns: tuple[WireColumn, ...]
    key: tuple[str, ...]
    position: str
    carried: tuple[str, ...] | None = None
    origin: str = ""

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
            transactions=binding.transactions,
            stop_on_unknown=bare and binding.new_column != "ignore",
            carried=self.carried or () if bare and binding.follows and self.origin != _MANY else None,
        )

    def lost(self, binding: TopicBinding, message: Peeked) -> tuple[str, ...]:
        """Columns that the rows before had and that were dropped at the source, perhaps added again since.

        Empty where the topic holds rows of several tables: one of them may just never have had the column.
        """
        names = _names(message)
        if not binding.follows or names is None or self.origin not in ("", _origin(message)):
            return ()
        former = self.carried
        if former is None:  # the state of an older release: the order of its columns says nothing
            former = tuple(column.column.name for column in self.columns) if binding.columns is None else ()
        ordered = self.carried is not None and self.position == message.position == "postgresql"
        return tuple(name for name in dropped_columns(former, names, ordered=ordered) if name not in self.key)

    def text(self) -> str:
        """Compact JSON for the recovery store; `read` is its inverse."""
        columns = [_packed(column) for column in self.columns]
        return json.dumps([self.key, self.position, columns, self.carried, self.origin], separators=(",", ":"))


def read(text: str) -> Shape:
    """A shape from its text, also from that of a release which did not keep what rows carried."""
    key, position, columns, *more = json.loads(text)
    shape = Shape(tuple(_unpacked(column) for column in columns), tuple(key), position)
    if not more:
        return shape
    return replace(shape, carried=None if more[0] is None else tuple(more[0]), origin=more[1])


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
    shape = _resolved(binding, message, key, accepted, place, payloads)
    known, names, origin = {column.column.name for column in shape.columns}, _names(message), _origin(message)
    carried = None if names is None else tuple(name for name in names if name in known)
    if accepted is not None:
        carried = accepted.carried if carried is None else carried
        if accepted.origin not in ("", origin, _MANY):
            _log.warning(
                "several source tables in one topic: columns that are dropped in one of them keep their values",
                table=binding.table, at=place, tables=[accepted.origin, origin],
            )  # fmt: skip
        origin = origin if accepted.origin in ("", origin) else _MANY
    return replace(shape, carried=carried, origin=origin)


def _names(message: Peeked) -> tuple[str, ...] | None:
    """The columns of the message's row, in its order; None where it does not say."""
    fields = row_fields(message.schema)
    if fields is not None:
        return tuple(str(field["field"]) for field in fields)
    after = message.payload.get("after")
    return tuple(after) if isinstance(after, dict) else None


def _origin(message: Peeked) -> str:
    source = message.payload.get("source")
    parts = [source.get(name) for name in ("db", "schema", "table")] if isinstance(source, dict) else []
    return ".".join(str(part) for part in parts if part is not None)


def _resolved(
    binding: TopicBinding,
    message: Peeked,
    key: tuple[str, ...],
    accepted: Shape | None,
    place: str,
    payloads: Iterable[dict[str, Any]],
) -> Shape:
    """Columns, key and position of `resolve`'s answer."""
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
    names = {column.column.name for column in columns}
    carried = None if accepted.carried is None else tuple(name for name in accepted.carried if name in names)
    return Shape(columns, key, accepted.position, carried, accepted.origin)


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
