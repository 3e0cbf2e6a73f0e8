"""COPY data as messages: the C reader and the driver's calls take the same from a real server, and refuse the same."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.postgres import source_streams, source_wire
from connectors.postgres.source_streams import FileStreams
from libcore.errors import FatalError
from libcore.pgoutput_types import MESSAGES

WIRES = ["plain", *([] if source_wire.missing() else ["c"])]


def _rows(dsn: str, query: str, forms: str, kind: str, rows_max: int = 1000) -> list[bytes]:
    """Payloads of a whole COPY."""
    found: list[bytes] = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.pgconn.exec_(f"COPY ({query}) TO STDOUT (FORMAT binary)".encode())
        wire, ended = source_wire.wire(connection, kind), False
        while not ended:
            taken = wire.rows(77, forms, 5, rows_max, 1 << 20, 100)
            ended = taken.ended
            if taken.messages is not None:
                assert taken.messages.num_rows <= rows_max
                assert set(taken.messages.column(1).to_pylist()) == {5}
                found += taken.messages.column(0).to_pylist()
        while connection.pgconn.get_result() is not None:
            continue
    return found


@pytest.mark.parametrize(
    "query", ["SELECT 1 WHERE false", "SELECT g, NULL, repeat('x', g) FROM generate_series(0, 3000) g"]
)
def test_both_readers_give_the_same_rows(postgres: str, query: str) -> None:
    """Nothing, and rows with NULLs and long values: I messages, byte for byte the same."""
    forms = "b" if "WHERE" in query else "btb"
    known = [_rows(postgres, query, forms, kind, 700) for kind in WIRES]
    assert all(one == known[0] for one in known)
    if len(forms) == 3:
        assert len(known[0]) == 3001
        assert known[0][2] == b"I\0\0\0MN\0\3b\0\0\0\4\0\0\0\2nb\0\0\0\2xx"


@pytest.mark.parametrize("kind", WIRES)
def test_a_call_brings_the_rows_that_come_within_its_wait(postgres: str, kind: str) -> None:
    """A server that sends four rows every 8 ms is not asked for each handful: what is done a batch is worth it."""
    slow = "SELECT repeat('x', 2000) FROM generate_series(1, 200) g, pg_sleep(0.002 * (g > 0)::int)"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.pgconn.exec_(f"COPY ({slow}) TO STDOUT (FORMAT binary)".encode())
        wire, sizes, ended = source_wire.wire(connection, kind), [], False
        while not ended:
            taken = wire.rows(77, "t", 5, 1000, 1 << 20, 20_000)
            ended = taken.ended
            sizes.append(0 if taken.messages is None else taken.messages.num_rows)
        while connection.pgconn.get_result() is not None:
            continue
    assert sum(sizes) == 200
    assert len(sizes) <= 10, sizes


@pytest.mark.parametrize("kind", WIRES)
def test_what_is_no_binary_copy_is_refused(postgres: str, kind: str) -> None:
    """Another number of columns, or a COPY of text, is no row of ours."""
    with pytest.raises(FatalError, match="binary COPY"):
        _rows(postgres, "SELECT 1, 2", "b", kind)
    with closing(psycopg.connect(postgres, autocommit=True)) as connection:
        connection.pgconn.exec_(b"COPY (SELECT repeat('x', 100)) TO STDOUT")
        with pytest.raises(FatalError, match="binary COPY"):
            source_wire.wire(connection, kind).rows(1, "b", 1, 10, 1000, 100)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.lists(st.binary(max_size=20), max_size=5)), max_size=12), st.data())
def test_streamed_messages_come_back_from_disk(parts: list[tuple[int, list[bytes]]], data: Any) -> None:
    """Whatever was appended for a transaction is read back from any place on, and gone when it is dropped."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        streams = FileStreams(Path(folder) / "streams")
        known: dict[int, list[bytes]] = {}
        for xid, payloads in parts:
            if payloads:
                lsns = pa.array(range(len(payloads)), pa.int64())
                streams.append(
                    xid, pa.RecordBatch.from_arrays([pa.array(payloads, pa.binary()), lsns], schema=MESSAGES)
                )
                known.setdefault(xid, []).extend(payloads)
        for xid, payloads in known.items():
            start = data.draw(st.integers(0, len(payloads)))
            count = data.draw(st.integers(1, 10))
            assert streams.read(xid, start, count).column(0).to_pylist() == payloads[start : start + count]
            streams.drop(xid)
            assert streams.read(xid, 0, 10).num_rows == 0


def test_large_streamed_messages_come_back_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows are asked for, one call reads no more of them than memory is to hold, and none is left out."""
    monkeypatch.setattr(source_streams, "_READ_BYTES", 25_000)
    streams = FileStreams(tmp_path / "streams")
    payloads = [bytes([number]) * 10_000 for number in range(20)]
    for payload in payloads:
        streams.append(7, pa.RecordBatch.from_arrays([pa.array([payload]), pa.array([0])], schema=MESSAGES))
    found: list[bytes] = []
    while (part := streams.read(7, len(found), 1000)).num_rows:
        assert part.num_rows == min(3, 20 - len(found))
        found += part.column(0).to_pylist()
    assert found == payloads
