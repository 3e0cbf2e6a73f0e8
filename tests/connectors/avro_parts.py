"""Avro messages for tests of the decoder: recorded JSON messages as Confluent's converter would write them."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
from typing import Any

import fastavro
import pyarrow as pa

from connectors.base.source import RAW_SCHEMA
from libcore.errors import DataError

_PRIMITIVES = {
    "int8": "int", "int16": "int", "int32": "int", "int64": "long", "float": "float", "double": "double",
    "boolean": "boolean", "string": "string", "bytes": "bytes",
}  # fmt: skip


class Registry:
    """A registry in memory: it gives a number to each schema that is written, and answers by it."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._parsed: dict[int, Any] = {}

    def number(self, schema: Any) -> int:
        """The id of a schema, given at its first sight."""
        text = json.dumps(schema)
        if text not in self.texts:
            self.texts.append(text)
        return self.texts.index(text) + 1

    def schema(self, schema_id: int) -> str:
        """See SchemaRegistry.schema."""
        if not 1 <= schema_id <= len(self.texts):
            raise DataError(f"SCHEMA: no schema {schema_id}", byte_position=0)
        return self.texts[schema_id - 1]

    def framed(self, schema: Any, datum: Any) -> bytes:
        """A message: a 0 byte, the id, the body."""
        number = self.number(schema)
        if number not in self._parsed:
            self._parsed[number] = fastavro.parse_schema(json.loads(self.schema(number)))
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._parsed[number], datum)
        return b"\0" + struct.pack(">I", number) + out.getvalue()


def avro_schema(connect: dict[str, Any], names: set[str], path: str = "t") -> Any:
    """The Avro schema that AvroData makes of a Connect schema."""
    kind = connect["type"]
    meaning: dict[str, Any] = {}
    if connect.get("name"):
        meaning["connect.name"] = connect["name"]
    if connect.get("parameters"):
        meaning["connect.parameters"] = connect["parameters"]
    if kind == "struct":
        name = re.sub(r"\W", "_", str(connect.get("name") or path))
        made: Any = name
        if name not in names:
            names.add(name)
            fields = [
                {"name": field["field"], "type": avro_schema(field, names, f"{path}_{field['field']}")}
                for field in connect["fields"]
            ]
            made = {"type": "record", "name": name, "fields": fields, **meaning}
    elif kind == "array":
        made = {"type": "array", "items": avro_schema(connect["items"], names, f"{path}_item"), **meaning}
    elif kind == "map":
        made = {"type": "map", "values": avro_schema(connect["values"], names, f"{path}_value"), **meaning}
    else:
        made = {"type": _PRIMITIVES[kind], **meaning}
        if kind in ("int8", "int16"):
            made["connect.type"] = kind
        if str(connect.get("name")).endswith(".Decimal"):
            scale = int(connect["parameters"]["scale"])
            made |= {"scale": scale, "precision": 64}  # its logicalType would make fastavro want a Decimal
    return ["null", made] if connect.get("optional") else made


def avro_value(connect: dict[str, Any], value: Any) -> Any:
    """A value of a JSON message as fastavro takes it."""
    if value is None:
        return None
    kind = connect["type"]
    if kind == "struct":
        return {field["field"]: avro_value(field, value.get(field["field"])) for field in connect["fields"]}
    if kind == "array":
        return [avro_value(connect["items"], item) for item in value]
    if kind == "map":
        return {name: avro_value(connect["values"], item) for name, item in value.items()}
    if kind in ("float", "double") and isinstance(value, str):
        return float(value.replace("Infinity", "inf"))
    return base64.b64decode(value) if kind == "bytes" else value


def as_avro(messages: pa.RecordBatch, registry: Registry) -> pa.RecordBatch:
    """JSON messages with schema parts, in Avro."""
    columns = []
    for name in ("key", "value"):
        written = []
        for text in messages.column(name).to_pylist():
            document = None if text is None else json.loads(text)
            if document is None or document["payload"] is None:
                written.append(None)
                continue
            schema = avro_schema(document["schema"], set())
            written.append(registry.framed(schema, avro_value(document["schema"], document["payload"])))
        columns.append(pa.array(written, pa.binary()))
    return pa.RecordBatch.from_arrays([*columns, messages.column(2), messages.column(3)], schema=RAW_SCHEMA)
