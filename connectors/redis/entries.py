"""Entries of a stream -> raw messages as the Debezium decoder takes them.

Debezium Server writes an event as one field (compact: the key's JSON is the field's name) or as the fields `key` and
`value` (extended); "default" stands for none. An entry of plain fields is made into an envelope of the declared
columns; `__op` says c, u or d.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from connectors.base.source import RAW_SCHEMA
from connectors.redis.server import Id, offset

Entry = tuple[Id, list[tuple[bytes, bytes]]]
Message = tuple[bytes | None, bytes | None]
_NONE = b"default"
_NUMBER = re.compile(rb"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_TEXTS = ("string", "uuid", "xml", "interval", "timetz", "decimal", "numeric", "bytes", "bits")
_BOOLS = {b"1": b"true", b"0": b"false"}


def debezium(fields: Sequence[tuple[bytes, bytes]]) -> Message:
    """Key and value of a Debezium Server's entry; what is none of them becomes a dead letter in the decoder."""
    found = dict(fields)
    if len(fields) == 2 and found.keys() == {b"key", b"value"}:
        key, value = found[b"key"], found[b"value"]
    elif len(fields) == 1:
        key, value = fields[0]
    else:
        return None, b"expected one field, or key and value"
    return (None if key == _NONE else key), (None if value == _NONE else value)


def flat(columns: Sequence[Any], key: Sequence[str]) -> Callable[[Sequence[tuple[bytes, bytes]]], Message]:
    """What makes an envelope of plain fields; a field that is not there is NULL."""
    kinds = {column.name.encode(): column.type.name for column in columns}
    names = {name: json.dumps(name.decode()).encode() for name in kinds}

    def envelope(fields: Sequence[tuple[bytes, bytes]]) -> Message:
        found: Mapping[bytes, bytes] = dict(fields)
        op = found.get(b"__op", b"u")
        wanted = [name.encode() for name in key] if op == b"d" else list(kinds)
        parts = [
            names[name] + b":" + (_json(found[name], kinds[name]) if name in found else b"null") for name in wanted
        ]
        row = b"{" + b",".join(parts) + b"}"
        before, after = (row, b"null") if op == b"d" else (b"null", row)
        return None, b'{"before":%b,"after":%b,"op":%b}' % (before, after, _text(op))

    return envelope


def _json(value: bytes, kind: str) -> bytes:
    if kind == "json":
        return value
    if kind == "bool":
        return _BOOLS.get(value, value if value in (b"true", b"false") else _text(value))
    return _text(value) if kind in _TEXTS or not _NUMBER.fullmatch(value) else value


def _text(value: bytes) -> bytes:
    try:
        return json.dumps(value.decode(), ensure_ascii=False).encode()
    except UnicodeDecodeError:
        return b'"' + value + b'"'  # no UTF-8: the decoder refuses the row, with its bytes


def raw(entries: Sequence[Entry], message: Callable[[Sequence[tuple[bytes, bytes]]], Message], stream: str) -> Any:
    """A batch of RAW_SCHEMA."""
    pairs = [message(fields) for _, fields in entries]
    arrays = [
        pa.array([key for key, _ in pairs], pa.binary()),
        pa.array([value for _, value in pairs], pa.binary()),
        pa.array([offset(identity, stream) for identity, _ in entries], pa.int64()),
        pa.array([identity[0] for identity, _ in entries], pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA)
