"""An Avro schema -> the Connect schema that it was made from: fields with types, logical names and parameters.

Sources: Confluent's AvroData (connect.name, connect.type, connect.parameters; optional = a union with null), and Avro
1.11, "Logical Types", for schemas that no Connect wrote. What has no Connect type (a union of several) counts as a
struct, which is kept as JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.formats.connect_schema import AVRO_TIMESTAMPS, DECIMAL
from libcore.avro_schema import full_name, parse
from libcore.errors import ConfigurationError

_PRIMITIVES = {
    "int": "int32", "long": "int64", "float": "float", "double": "double", "boolean": "boolean", "string": "string",
    "bytes": "bytes", "fixed": "bytes", "enum": "string", "map": "map", "null": "string",
}  # fmt: skip
_LOGICAL = {
    "date": "org.apache.kafka.connect.data.Date",
    "time-millis": "org.apache.kafka.connect.data.Time",
    "time-micros": "io.debezium.time.MicroTime",
    "timestamp-millis": AVRO_TIMESTAMPS + "timestamp-millis",
    "timestamp-micros": AVRO_TIMESTAMPS + "timestamp-micros",
    "timestamp-nanos": "io.debezium.time.NanoTimestamp",
    "local-timestamp-millis": "io.debezium.time.Timestamp",
    "local-timestamp-micros": "io.debezium.time.MicroTimestamp",
    "local-timestamp-nanos": "io.debezium.time.NanoTimestamp",
}


def connect_schema(text: str) -> dict[str, Any]:
    """The Connect schema of an Avro schema's JSON. Raises ConfigurationError where it is none."""
    try:
        return _Converter().field("", parse(text), "")
    except (RecursionError, TypeError, AttributeError, KeyError) as error:
        raise ConfigurationError(f"expected an Avro schema, found {text[:80]!r}: {error!r}") from error


class _Converter:
    def __init__(self) -> None:
        self._named: dict[str, tuple[Mapping[str, Any], str]] = {}
        self._open: set[str] = set()

    def field(self, name: str, schema: Any, namespace: str) -> dict[str, Any]:
        """One field, or the root."""
        if isinstance(schema, list):
            others = [branch for branch in schema if branch != "null"]
            if len(others) != 1:
                for branch in others:
                    self.field("", branch, namespace)  # it may define names
                return {"field": name, "type": "struct", "fields": [], "optional": len(others) < len(schema)}
            return self.field(name, others[0], namespace) | {"optional": len(others) < len(schema)}
        if isinstance(schema, str):
            if schema in _PRIMITIVES and schema not in ("fixed", "enum", "map"):
                return {"field": name, "type": _PRIMITIVES[schema], "optional": schema == "null"}
            return self._reference(name, schema, namespace)
        kind = schema["type"]
        if isinstance(kind, (dict, list)):
            return self.field(name, kind, namespace)
        if kind in ("record", "error", "enum", "fixed"):
            full = full_name(schema, namespace)
            self._named[full] = (schema, namespace)
            return self._complex(name, full)
        if kind == "array":
            items = self.field("item", schema["items"], namespace)
            return {"field": name, "type": "array", "items": items, "optional": False} | _meaning(schema)
        if kind == "map":
            self.field("", schema["values"], namespace)
        if kind not in _PRIMITIVES:
            return self._reference(name, kind, namespace)
        base = schema.get("connect.type") if kind in ("int", "bytes") else None
        plain = base if base in ("int8", "int16") else _PRIMITIVES[kind]
        return {"field": name, "type": plain, "optional": False} | _meaning(schema)

    def _reference(self, name: str, called: str, namespace: str) -> dict[str, Any]:
        for full in (called,) if "." in called else (f"{namespace}.{called}".lstrip("."), called):
            if full in self._named:
                return self._complex(name, full)
        raise ConfigurationError(f"field {name}: expected an Avro type, found {called!r}")

    def _complex(self, name: str, full: str) -> dict[str, Any]:
        schema, _ = self._named[full]
        kind = schema["type"]
        made = {"field": name, "optional": False} | _meaning(schema)
        if kind in ("enum", "fixed"):
            return made | {"type": _PRIMITIVES[kind]}
        if full in self._open:  # a type inside itself is JSON text, whatever it holds
            return made | {"type": "struct", "fields": []}
        self._open.add(full)
        inside = full.rpartition(".")[0]
        fields = [self.field(str(each["name"]), each["type"], inside) for each in schema["fields"]]
        self._open.discard(full)
        return made | {"type": "struct", "fields": fields}


def _meaning(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Connect's logical name and its parameters; Avro's own logical type where no Connect wrote the schema."""
    name, parameters = schema.get("connect.name"), dict(schema.get("connect.parameters") or {})
    logical = schema.get("logicalType")
    if logical == "decimal" and name in (None, DECIMAL):
        parameters.setdefault("scale", str(schema.get("scale", 0)))
        if name is None and "precision" in schema:  # Connect writes 64 where it does not know
            parameters.setdefault("connect.decimal.precision", str(schema["precision"]))
        name = DECIMAL
    elif logical == "uuid" and schema.get("type") == "string":
        name = name or "io.debezium.data.Uuid"
    elif name is None:
        name = _LOGICAL.get(str(logical))
    return ({"name": name} if name else {}) | ({"parameters": parameters} if parameters else {})
