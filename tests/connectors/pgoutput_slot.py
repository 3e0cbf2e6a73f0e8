"""Reads a logical replication slot of a real PostgreSQL with psycopg's libpq wrapper: XLogData as it comes."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Iterator

import psycopg
import pyarrow as pa
from psycopg.pq import ExecStatus

from libcore.pgoutput_types import MESSAGES

OPTIONS = "-c datestyle=ISO -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=3 -c timezone=UTC"


def create_slot(dsn: str, slot: str) -> None:
    """A slot of pgoutput, dropped by `drop_slot`."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,))


def drop_slot(dsn: str, slot: str) -> None:
    """Nothing happens where there is none."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
                           "WHERE slot_name = %s", (slot,))  # fmt: skip


def end_mark(dsn: str) -> None:
    """A logical message behind all that was committed so far; flushed, so the slot sends it."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_logical_emit_message(false, 'end', '', true)")


def read_slot(dsn: str, slot: str, publication: str, *, start_lsn: int = 0, **options: str) -> pa.RecordBatch:
    """Everything up to the end mark, from `start_lsn` or the slot's confirmed position; confirms nothing.

    The options are pgoutput's: proto_version, streaming, binary.
    """
    end_mark(dsn)
    payloads: list[bytes] = []
    lsns: list[int] = []
    for lsn, payload in _stream(dsn, slot, publication, start_lsn, options):
        payloads.append(payload)
        lsns.append(lsn)
        if payload[:1] == b"M" and b"end\0" in payload[:16]:
            break
    return pa.RecordBatch.from_arrays([pa.array(payloads, pa.binary()), pa.array(lsns, pa.int64())], schema=MESSAGES)


def _stream(dsn: str, slot: str, publication: str, lsn: int, options: dict[str, str]) -> Iterator[tuple[int, bytes]]:
    given = {"proto_version": "2", "messages": "true", **options, "publication_names": publication}
    text = ", ".join(f"{name} '{value}'" for name, value in given.items())
    deadline = time.monotonic() + 60
    with psycopg.connect(dsn, replication="database", autocommit=True, options=OPTIONS) as connection:
        libpq = connection.pgconn
        command = f"START_REPLICATION SLOT {slot} LOGICAL {lsn >> 32:X}/{lsn & 0xFFFFFFFF:X} ({text})"
        libpq.send_query(command.encode())
        result = libpq.get_result()
        assert result is not None and result.status == ExecStatus.COPY_BOTH, libpq.error_message
        while time.monotonic() < deadline:
            size, data = libpq.get_copy_data(1)
            if size == 0:
                select.select([libpq.socket], [], [], 0.05)
                libpq.consume_input()
            elif bytes(data[:1]) == b"w":
                yield struct.unpack(">q", data[1:9])[0], bytes(data[25:])
        raise AssertionError("the slot did not come to the end mark in 60 s")
