"""The rare messages of pgoutput, in Python: relations, types, truncates, borders of streamed transactions."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from libcore.errors import DataError

EPOCH_US = 946684800000000
"""Microseconds from 1970 to 2000, where PostgreSQL's time begins."""


@dataclass(frozen=True)
class RelationColumn:
    """A column of an R message; is_key: part of the replica identity (with FULL all are)."""

    name: str
    type_oid: int
    typmod: int
    is_key: bool


@dataclass(frozen=True)
class Relation:
    """An R message. identity: replica identity d (primary key), n (nothing), f (full), i (an index)."""

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[RelationColumn, ...]


@dataclass(frozen=True)
class LogicalMessage:
    """An M message (pg_logical_emit_message). lsn: where it stands in the log."""

    transactional: bool
    lsn: int
    prefix: str
    content: bytes


@dataclass(frozen=True)
class StreamCommit:
    """A c message: a streamed transaction is committed. commit_us: microseconds since 1970."""

    xid: int
    commit_lsn: int
    end_lsn: int
    commit_us: int


class _Reader:
    """Reads big-endian fields in order."""

    def __init__(self, payload: bytes, at: int) -> None:
        self._payload, self._at = payload, at

    def take(self, code: str) -> tuple[int, ...]:
        size = struct.calcsize(code)
        if len(self._payload) < self._at + size:
            raise self.fault(f"{size} bytes more")
        self._at += size
        return struct.unpack_from(code, self._payload, self._at - size)

    def text(self) -> str:
        end = self._payload.find(b"\0", self._at)
        if end < 0:
            raise self.fault("a name that ends with a 0 byte")
        try:
            found = self._payload[self._at : end].decode()
        except UnicodeDecodeError as error:
            raise self.fault("a name in UTF-8 (client_encoding)") from error
        self._at = end + 1
        return found

    def rest(self) -> bytes:
        found, self._at = self._payload[self._at :], len(self._payload)
        return found

    def end(self) -> None:
        if self._at != len(self._payload):
            raise self.fault("its end")

    def fault(self, expected: str) -> DataError:
        return DataError(
            f"pgoutput message {self._payload[:1]!r}: expected {expected} at byte {self._at} of {len(self._payload)}",
            byte_position=self._at,
        )


def _body(payload: bytes, streamed: bool) -> _Reader:
    return _Reader(payload, 5 if streamed else 1)


def description(payload: bytes, streamed: bool = False) -> bytes:
    """An R message without its kind and xid: what RelationPlan.description wants."""
    return payload[5 if streamed else 1 :]


def read_relation(payload: bytes, streamed: bool = False) -> Relation:
    """An R message; `streamed`: of a streamed transaction. This and all below raise DataError where it is cut short."""
    reader = _body(payload, streamed)
    (oid,) = reader.take(">I")
    schema, name = reader.text(), reader.text()
    identity, count = reader.take(">BH")
    columns = []
    for _ in range(count):
        (flags,) = reader.take(">B")
        column = reader.text()
        type_oid, typmod = reader.take(">Ii")
        columns.append(RelationColumn(column, type_oid, typmod, bool(flags & 1)))
    reader.end()
    return Relation(oid, schema or "pg_catalog", name, chr(identity), tuple(columns))


def read_type(payload: bytes, streamed: bool = False) -> tuple[int, str, str]:
    """A Y message: (oid, schema, name); of a domain the base type's name."""
    reader = _body(payload, streamed)
    (oid,) = reader.take(">I")
    schema, name = reader.text(), reader.text()
    reader.end()
    return oid, schema or "pg_catalog", name


def read_truncate(payload: bytes, streamed: bool = False) -> tuple[int, ...]:
    """The oids of a T message, in its order."""
    reader = _body(payload, streamed)
    count, _ = reader.take(">IB")
    oids = reader.take(f">{count}I") if count * 4 <= len(payload) else ()
    if len(oids) != count:
        raise reader.fault(f"{count} relations")
    reader.end()
    return oids


def read_message(payload: bytes, streamed: bool = False) -> LogicalMessage:
    """An M message."""
    reader = _body(payload, streamed)
    flags, lsn = reader.take(">BQ")
    prefix = reader.text()
    (size,) = reader.take(">I")
    content = reader.rest()
    if len(content) != size:
        raise reader.fault(f"{size} bytes of content")
    return LogicalMessage(bool(flags & 1), lsn, prefix, content)


def read_stream_start(payload: bytes) -> int:
    """The xid of an S message."""
    reader = _Reader(payload, 1)
    xid, _ = reader.take(">IB")
    reader.end()
    return xid


def read_stream_abort(payload: bytes) -> tuple[int, int]:
    """(xid, subxid) of an A message; equal: all of the transaction. With protocol 4 an LSN and a time may follow."""
    xid, subxid = _Reader(payload, 1).take(">II")
    return xid, subxid


def read_stream_commit(payload: bytes) -> StreamCommit:
    """A c message."""
    reader = _Reader(payload, 1)
    xid, _, commit_lsn, end_lsn, since_2000_us = reader.take(">IBQQq")
    reader.end()
    return StreamCommit(xid, commit_lsn, end_lsn, since_2000_us + EPOCH_US)
