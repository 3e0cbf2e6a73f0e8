"""What goes back to a client: result sets, counts and errors as tokens, in the order in which statements ran."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from tests.doubles.sqlserver import wire
from tests.doubles.sqlserver.errors import SqlError
from tests.doubles.sqlserver.types import SqlType

SELECT, INSERT, DELETE, UPDATE = 0xC1, 0xC3, 0xC4, 0xC5
_DONE, _DONE_PROCEDURE, _DONE_IN_PROCEDURE = 0xFD, 0xFE, 0xFF
_MORE, _ERROR, _COUNT, _ATTENTION = 0x1, 0x2, 0x10, 0x20


@dataclass(frozen=True)
class Field:
    """A column of an answer; `encoded`: its values already are what goes over the wire."""

    name: str
    kind: SqlType
    encoded: bool = False
    nullable: bool = True


def encode_rows(fields: Sequence[Field], rows: Sequence[Sequence[Any]]) -> bytes:
    """ROW tokens, a column at a time: this is what a change table is served with."""
    columns: list[Iterable[bytes]] = [repeat(b"\xd1")]
    for field, values in zip(fields, zip(*rows, strict=True), strict=True):
        if not field.encoded:
            columns.append(wire.encode_column(field.kind, values))
        elif None in values:
            missing = wire.null(field.kind)
            columns.append([missing if value is None else value for value in values])
        else:
            columns.append(values)
    return b"".join(chain.from_iterable(zip(*columns, strict=False)))


class Answer:
    """The answer to one message, sent while it is made.

    Args:
        send: takes bytes of the token stream.
        procedure: whether it answers a remote procedure call, whose tokens are others.
    """

    def __init__(self, send: Callable[[bytes], None], procedure: bool = False) -> None:
        self._send, self._procedure = send, procedure
        self._held: tuple[int, int, int] | None = None  # the last DONE: whether more follows is not known before

    def _release(self) -> None:
        if self._held is not None:
            status, command, count = self._held
            token = _DONE_IN_PROCEDURE if self._procedure else _DONE
            self._send(struct.pack("<BHHQ", token, status | _MORE, command, count))
            self._held = None

    def rows(self, fields: Sequence[Field], batches: Iterable[Sequence[Sequence[Any]]]) -> int:
        """A result set. Returns its rows."""
        self._release()
        head = b"".join(wire.metadata(field.name, field.kind, field.nullable) for field in fields)
        self._send(struct.pack("<BH", 0x81, len(fields)) + head)
        count = 0
        for batch in batches:
            if batch:
                self._send(encode_rows(fields, batch))
                count += len(batch)
        self._held = (_COUNT, SELECT, count)
        return count

    def count(self, command: int, rows: int) -> None:
        """What a statement without a result set did."""
        self._release()
        self._held = (_COUNT, command, rows)

    def error(self, error: SqlError) -> None:
        """A statement failed; the rest of the batch does not run."""
        self._release()
        self._send(_message(0xAA, error))
        self._held = (_ERROR, 0, 0)

    def returned(self, values: Sequence[tuple[str, SqlType, Any]]) -> None:
        """The status of a procedure and its output parameters."""
        self._release()
        tokens = [b"\x79\0\0\0\0"]
        for ordinal, (name, kind, value) in enumerate(values):
            encoded = name.encode("utf-16-le")
            head = struct.pack("<BHB", 0xAC, ordinal, len(encoded) // 2) + encoded + struct.pack("<BIH", 1, 0, 0)
            tokens.append(head + wire.declaration(kind) + wire.encode_column(kind, [value])[0])
        self._send(b"".join(tokens))

    def finish(self, more: bool = False) -> None:
        """The last token. `more`: another call of the same message is answered next."""
        if self._procedure:
            status = self._held[0] & _ERROR if self._held else 0
            self._release()
            self._send(struct.pack("<BHHQ", _DONE_PROCEDURE, status | more, 0xE0, 0))
        else:
            self._send(struct.pack("<BHHQ", _DONE, *(self._held or (0, 0, 0))))
        self._held = None


def attention() -> bytes:
    """What acknowledges a cancellation."""
    return struct.pack("<BHHQ", _DONE, _ATTENTION, 0, 0)


def transaction(kind: int, new: bytes, old: bytes) -> bytes:
    """A transaction began (8), was committed (9) or rolled back (10): the token with its descriptor, and a DONE."""
    body = bytes([kind, len(new)]) + new + bytes([len(old)]) + old
    return b"\xe3" + struct.pack("<H", len(body)) + body + struct.pack("<BHHQ", _DONE, 0, 0, 0)


def _message(token: int, error: SqlError) -> bytes:
    text = str(error)[:2000].encode("utf-16-le", "replace")
    server = "double".encode("utf-16-le")
    body = struct.pack("<IBBH", error.number, 1, error.severity, len(text) // 2) + text
    body += bytes([len(server) // 2]) + server + b"\0" + struct.pack("<I", 1)
    return struct.pack("<BH", token, len(body)) + body
