"""A look into one Debezium message in plain Python: only where a plan has to be made, never for every message."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from libcore.errors import ConfigurationError, DataError

_WRAPPED = re.compile(rb'\s*\{\s*"schema"\s*:\s*')
_POSITIONS = ("postgresql", "oracle", "sqlserver")
# Python refuses integers of more than 4,300 digits; here no value counts, only what is there.
_DECODER = json.JSONDecoder(parse_int=lambda digits: int(digits) if len(digits) < 20 else 0)


@dataclass(frozen=True)
class Peeked:
    """One message, opened.

    Args:
        kind: "row" (op c, r, u, d), "truncate", or "event": nothing for a table.
        payload: the envelope; {} where there is none.
        schema_bytes: the schema part's bytes as they stand, None for a message that is not wrapped.
        schema: the schema part, parsed; None where there is none, or it is null.
    """

    kind: str
    payload: dict[str, Any]
    schema_bytes: bytes | None
    schema: dict[str, Any] | None

    @property
    def position(self) -> str:
        """Whose positions the source block carries, in the words of EnvelopePlan.position."""
        source = self.payload.get("source")
        connector = source.get("connector") if isinstance(source, dict) else None
        return connector if connector in _POSITIONS else "none"


def peek(value: bytes | None) -> Peeked:
    """Open a message. Raises DataError with the byte position where it is no JSON object or its op is unknown."""
    if value is None:
        return Peeked("event", {}, None, None)
    document = _parsed(value)
    schema_bytes = schema_part(value)
    schema = document.get("schema") if schema_bytes is not None else None
    payload = document.get("payload") if schema_bytes is not None else document
    if payload is None:
        return Peeked("event", {}, schema_bytes, schema)
    if not isinstance(payload, dict):
        raise DataError(f"SYNTAX: expected an envelope, found a {type(payload).__name__}", byte_position=0)
    return Peeked(kind_of(payload), payload, schema_bytes, schema)


def kind_of(payload: dict[str, Any]) -> str:
    """What an envelope is for a table: see Peeked.kind. Raises DataError where its op is unknown."""
    kind = {"c": "row", "r": "row", "u": "row", "d": "row", "t": "truncate", "m": "event"}.get(str(payload.get("op")))
    if kind is None:
        if "op" in payload or not ("ts_ms" in payload or {"status", "id"} <= payload.keys()):
            found = str(payload.get("op"))[:40]
            raise DataError(f"OP: expected an envelope with op c, r, u, d, t or m, found op {found}", byte_position=0)
        return "event"  # heartbeats and transaction metadata have none
    return kind


def schema_part(value: bytes) -> bytes | None:
    """The bytes of the schema part of a wrapped message, None where its first field is not "schema"."""
    match = _WRAPPED.match(value)
    if match is None:
        return None
    text = value[match.end() :].decode("utf-8")
    _, end = _DECODER.raw_decode(text)
    return text[:end].encode("utf-8")


def key_fields(key: bytes | None, topic: str) -> tuple[tuple[str, ...], dict[str, Any] | None]:
    """(the key's field names, its schema part or None); a null key has no fields: the table is keyless.

    Raises: ConfigurationError where the key is not a JSON object.
    """
    if key is None:
        return (), None
    try:
        document = _DECODER.decode(key.decode("utf-8"))
    except (ValueError, RecursionError):  # refused below, like every key that is no object
        document = None
    if isinstance(document, dict) and next(iter(document), None) == "schema" and "payload" in document:
        schema = document["schema"]
        if isinstance(schema, dict) and schema.get("type") == "struct":
            return tuple(str(field["field"]) for field in schema["fields"]), schema
        document = document["payload"]
    if not isinstance(document, dict):
        raise ConfigurationError(
            f"topic {topic}: expected message keys that are JSON objects; name the key in the pipeline file"
        )
    return tuple(document), None


def decimals_as_numbers(payloads: Iterable[dict[str, Any]], names: list[str]) -> bool | None:
    """Whether Decimal fields come as JSON numbers (decimal.format=NUMERIC), by the first one that is not null.

    None where all are null. The schema part is the same in both formats, so only a value can tell.
    """
    for payload in payloads:
        for row in (payload.get("after"), payload.get("before")):
            for name in names:
                value = row.get(name) if isinstance(row, dict) else None
                if value is not None:
                    return not isinstance(value, str)
    return None


def _parsed(value: bytes) -> dict[str, Any]:
    try:
        document = _DECODER.decode(value.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError("UTF8: the value is not UTF-8", byte_position=error.start) from error
    except json.JSONDecodeError as error:
        position = len(error.doc[: error.pos].encode("utf-8"))
        raise DataError(f"SYNTAX: {error.msg}", byte_position=position) from error
    except RecursionError as error:
        raise DataError("DEPTH: nested too deeply", byte_position=0) from error
    if not isinstance(document, dict):
        raise DataError("SYNTAX: expected a JSON object", byte_position=0)
    return document
