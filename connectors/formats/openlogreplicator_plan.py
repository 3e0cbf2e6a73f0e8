"""How a table's columns stand in OpenLogReplicator's JSON: from the declared types, and the form of times looked at.

Numbers come as numbers, bytes as hexadecimal digits, times as texts in UTC (`timestamp` = 8 and `timestamp-tz` = 4 of
OpenLogReplicator's "format"; its default, nanoseconds as a number, looks like any other unit, so none is read).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from connectors.formats.binding import TopicBinding
from connectors.formats.declared import DeclaredColumn
from libcore.decode_types import Encoding, EnvelopePlan, WireColumn
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table

LOOKED_AT = 100
"""Changes of a table that are looked at for the form of its times, each time a decoder begins."""
UNKNOWN = "?"
"""What OpenLogReplicator writes for a value that it cannot tell: a dead letter, no sign of a setting."""

_ENCODINGS = {
    "int16": Encoding.INT, "int32": Encoding.INT, "int64": Encoding.INT, "decimal": Encoding.DECIMAL_TEXT,
    "numeric": Encoding.NUMERIC_TEXT, "float32": Encoding.FLOAT, "float64": Encoding.FLOAT,
    "string": Encoding.STRING, "json": Encoding.STRING, "xml": Encoding.STRING, "bytes": Encoding.HEX,
    "timestamp": Encoding.ISO_TIMESTAMP, "timestamp_ns": Encoding.ISO_TIMESTAMP,
    "timestamptz": Encoding.NAMED_TIMESTAMP,
}  # fmt: skip
_OPTIONS = ("unit", "encoding", "scale", "length")
_TIME = re.compile(r"-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z(?P<zone> .+)?")


def wire(declared: DeclaredColumn) -> WireColumn:
    """The column and its encoding. Raises ConfigurationError for a type or an option that is not written so."""
    encoding = _ENCODINGS.get(declared.type.name)
    if encoding is None:
        raise ConfigurationError(
            f"column {declared.name}: expected a type that OpenLogReplicator writes ({', '.join(_ENCODINGS)}), "
            f"found {declared.type}"
        )
    if given := [option for option in _OPTIONS if getattr(declared, option) is not None]:
        raise ConfigurationError(
            f"column {declared.name}: expected a type alone beside OpenLogReplicator, found {given[0]}"
        )
    return WireColumn(Column(declared.name, declared.type, declared.nullable), encoding)


def plan(binding: TopicBinding) -> EnvelopePlan:
    """How the changes of a table are read."""
    assert binding.columns is not None and binding.key, "the pipeline file has both: its spec asks for them"
    columns = tuple(map(wire, binding.columns))
    return EnvelopePlan(
        table=Table(binding.table, tuple(column.column for column in columns), binding.key),
        columns=columns,
        position="oracle",
        generation=binding.generation,
        placeholder=binding.placeholder,
        stop_on_unknown=binding.new_column == "refuse",
        creates=True,
    )


class TimeForms:
    """Looks at the first values of a table's times, so that a setting that was forgotten stops the flow at once."""

    def __init__(self, table: Table) -> None:
        self._unseen = {column.name: column for column in table.columns if pa.types.is_timestamp(column.type.arrow)}
        self._left = LOOKED_AT

    def check(self, changes: pa.RecordBatch, topic: str) -> None:
        """Raise ConfigurationError where a time is not in the form that is read.

        Args:
            changes: columns value and offset of changes of the table.
            topic: for the message.
        """
        if not self._unseen or self._left <= 0:
            return
        looked = changes.slice(0, self._left)
        self._left -= looked.num_rows
        for value, offset in zip(looked.column("value").to_pylist(), looked.column("offset").to_pylist(), strict=True):
            change = json.loads(value, parse_int=str, parse_float=str)  # numbers may be of any length
            for column in list(self._unseen.values()):
                given = _value(change, column.name)
                if given is None:
                    continue
                del self._unseen[column.name]
                match = _TIME.fullmatch(given)
                if match is None or (match["zone"] and column.type.name != "timestamptz"):
                    raise _unfit(column, given, f"{topic}:0:{offset}")


def _value(change: Mapping[str, Any], name: str) -> str | None:
    """The first value of that column in a change, None where there is none that tells something."""
    for side in ("after", "before"):
        row = change.get(side)
        given = row.get(name) if isinstance(row, dict) else None
        if given not in (None, UNKNOWN):
            return str(given)
    return None


def _unfit(column: Column, given: str, place: str) -> ConfigurationError:
    zoned = column.type.name == "timestamptz"
    setting = "timestamp = 8, timestamp-tz = 4" if zoned else "timestamp = 8"
    example = "2026-01-31T12:00:00.123456789Z" + (" Europe/Warsaw" if zoned else "")
    return ConfigurationError(
        f"{place}: column {column.name} is {column.type}: expected a text such as {example!r} ({setting} in "
        f'the "format" of OpenLogReplicator), found {given[:60]!r}'
    )
