"""Writes pgoutput messages as PostgreSQL does: the inverse of what is tested, for tests and bench alike."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa

from libcore.pgoutput_types import MESSAGES

UNCHANGED = object()
"""A value that the source did not send (TOAST)."""
Value = str | bytes | None | object
"""Text, binary form, NULL or UNCHANGED."""


def tuple_data(values: Sequence[Value]) -> bytes:
    """A tuple of these values."""
    out = struct.pack(">H", len(values))
    for value in values:
        if value is None:
            out += b"n"
        elif value is UNCHANGED:
            out += b"u"
        else:
            form, data = (b"t", value.encode()) if isinstance(value, str) else (b"b", value)
            assert isinstance(data, bytes)
            out += form + struct.pack(">I", len(data)) + data
    return out


def begin(commit_lsn: int, xid: int = 7, since_2000_us: int = 0) -> bytes:
    """B."""
    return b"B" + struct.pack(">QqI", commit_lsn, since_2000_us, xid)


def commit(commit_lsn: int, end_lsn: int, since_2000_us: int = 0) -> bytes:
    """C."""
    return b"C\0" + struct.pack(">QQq", commit_lsn, end_lsn, since_2000_us)


def _kind(letter: bytes, xid: int | None) -> bytes:
    return letter + (b"" if xid is None else struct.pack(">I", xid))


def insert(oid: int, new: Sequence[Value], xid: int | None = None) -> bytes:
    """I; xid: as inside of a streamed transaction."""
    return _kind(b"I", xid) + struct.pack(">I", oid) + b"N" + tuple_data(new)


def update(
    oid: int,
    new: Sequence[Value],
    *,
    key: Sequence[Value] | None = None,
    old: Sequence[Value] | None = None,
    xid: int | None = None,
) -> bytes:
    """U, with the old key or the old row."""
    middle = b"" if key is None else b"K" + tuple_data(key)
    middle += b"" if old is None else b"O" + tuple_data(old)
    return _kind(b"U", xid) + struct.pack(">I", oid) + middle + b"N" + tuple_data(new)


def delete(
    oid: int, *, key: Sequence[Value] | None = None, old: Sequence[Value] | None = None, xid: int | None = None
) -> bytes:
    """D."""
    found = b"K" + tuple_data(key) if key is not None else b"O" + tuple_data(old or ())
    return _kind(b"D", xid) + struct.pack(">I", oid) + found


def truncate(oids: Sequence[int], flags: int = 0, xid: int | None = None) -> bytes:
    """T."""
    return _kind(b"T", xid) + struct.pack(f">IB{len(oids)}I", len(oids), flags, *oids)


def relation(
    oid: int,
    columns: Sequence[tuple[str, int, int, bool]],
    *,
    schema: str = "public",
    table: str = "items",
    identity: str = "d",
    xid: int | None = None,
) -> bytes:
    """R; columns are (name, type oid, typmod, part of the replica identity)."""
    out = _kind(b"R", xid) + struct.pack(">I", oid) + f"{schema}\0{table}\0{identity}".encode()
    out += struct.pack(">H", len(columns))
    for name, type_oid, typmod, is_key in columns:
        out += bytes([is_key]) + name.encode() + b"\0" + struct.pack(">Ii", type_oid, typmod)
    return out


def logical_message(prefix: str, content: bytes, lsn: int = 0, transactional: bool = False) -> bytes:
    """M."""
    head = b"M" + struct.pack(">BQ", transactional, lsn) + prefix.encode() + b"\0"
    return head + struct.pack(">I", len(content)) + content


def stream_start(xid: int, first: bool = True) -> bytes:
    """S."""
    return b"S" + struct.pack(">IB", xid, first)


STREAM_STOP = b"E"


def stream_commit(xid: int, commit_lsn: int, end_lsn: int, since_2000_us: int = 0) -> bytes:
    """Small c."""
    return b"c" + struct.pack(">IBQQq", xid, 0, commit_lsn, end_lsn, since_2000_us)


def stream_abort(xid: int, subxid: int) -> bytes:
    """A."""
    return b"A" + struct.pack(">II", xid, subxid)


def messages(payloads: Sequence[bytes], lsns: Sequence[int] | None = None) -> pa.RecordBatch:
    """The input of the decoder; without LSNs each message stands 8 behind the one before."""
    lsns = [1000 + 8 * i for i in range(len(payloads))] if lsns is None else lsns
    return pa.RecordBatch.from_arrays([pa.array(payloads, pa.binary()), pa.array(lsns, pa.int64())], schema=MESSAGES)
