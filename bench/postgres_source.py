"""postgres-snapshot, postgres-stream: the rates of [source.postgres] beside what the server gives at all.

The snapshot is measured beside a bare binary COPY of the same table in one session, thrown away; the stream beside a
walsender whose messages are taken and thrown away by the same C reader. Both decode everything into batches here, and
apply nothing.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench import rig
from bench.measure import MemoryProbe, Result
from bench.postgres_parts import DDL, drop_slot, fill
from bench.w1 import say

AIM_SNAPSHOT, AIM_STREAM = 0.7, 0.8


def _source(dsn: str, directory: Path) -> Any:
    from connectors import registry
    from connectors.base.database import SourceContext
    from connectors.postgres.source import PostgresChanges
    from connectors.postgres.source_config import PostgresSourceConfig

    (directory / "dsn").write_text(dsn, "utf-8")
    context = SourceContext(flow="bench", directory=directory, decoder=registry.decoder)
    return PostgresChanges(PostgresSourceConfig(dsn=f"file:{directory / 'dsn'}", slot="bench"), context)


def _pieces(changes: Any, state: tuple[Any, ...]) -> Iterator[Any]:
    """The reader's pieces, as they come, without a flow."""
    from connectors.base.guardian import Pace
    from connectors.formats.binding import TopicBinding
    from connectors.postgres.slot_reader import SlotReader
    from connectors.postgres.source import bound
    from connectors.postgres.source_login import Logins
    from connectors.postgres.source_state import unpacked

    tables = changes.describe(["public.items"])
    bindings = bound(tables, {table.name: TopicBinding(table.name) for table in tables})
    pace, logins = Pace(changes._config.guardian), Logins("bench")
    reader = SlotReader(changes._config, changes._context, bindings, unpacked(state), pace, logins, until_end=True)
    try:
        for piece in reader.pieces():
            if piece is not None:
                yield piece
    finally:
        reader.close()


def copied(dsn: str) -> float:
    """Seconds of a bare COPY."""
    import psycopg

    from connectors.postgres.source_wire import wire

    with psycopg.connect(dsn, autocommit=True) as connection:
        begun = time.monotonic()
        connection.pgconn.exec_(b"COPY items TO STDOUT (FORMAT binary)")
        taker = wire(connection)
        while not taker.rows(1, "b" * 8, 1, 1 << 20, 4 << 20, 100).ended:
            continue
        while connection.pgconn.get_result() is not None:
            continue
        return time.monotonic() - begun


def received(dsn: str, rows: int) -> float:
    """Seconds of a walsender's messages, up to the last insert."""
    import psycopg

    from connectors.postgres.slot import replication_options
    from connectors.postgres.source_session import command
    from connectors.postgres.source_wire import wire

    with closing(psycopg.connect(dsn, replication="database", autocommit=True)) as connection:
        options = replication_options("headrace_bench", connection.info.server_version, False)
        for _ in command(connection, f"START_REPLICATION SLOT bare LOGICAL 0/0 ({options})"):
            continue
        taker, count, begun = wire(connection), 0, time.monotonic()
        while count < rows + 2 * rows // 1000:  # B and C of each transaction; the relation's message comes once
            taken = taker.stream(20_000, 8 << 20, 1000)
            count += taken.messages.num_rows if taken.messages is not None else 0
        return time.monotonic() - begun


def postgres_source(items: int, pairs: int, processes: int) -> Result:
    """The snapshot's rate as a part of a bare COPY's; the stream's stands in the lines for people."""
    import psycopg

    from connectors.postgres.source_state import SlotState

    copies, snapshots, bare, streams = [], [], [], []
    with rig.postgres() as postgres, tempfile.TemporaryDirectory(prefix="headrace-bench-") as scratch:
        dsn = postgres.create_database("source")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(DDL)
            connection.execute("SET synchronous_commit = off")
            fill(connection, 1, items)
            connection.execute("VACUUM ANALYZE items")
            changes = _source(dsn, Path(scratch))
            with MemoryProbe(os.getpid()) as memory:
                for pair in range(pairs):
                    copies.append(copied(dsn))
                    begun, rows, state = 0.0, 0, SlotState().packed()
                    for piece in _pieces(changes, state):
                        begun = begun or time.monotonic()  # the first piece says that the slot is made
                        rows += sum(item.row_count for item in piece.items)
                        state = piece.state
                        if state[1] == "stream":
                            break
                    snapshots.append(time.monotonic() - begun)
                    assert rows >= items * (pair + 1), (rows, items)
                    connection.execute("SELECT pg_create_logical_replication_slot('bare', 'pgoutput')")
                    fill(connection, items * (pair + 1) + 1, items * (pair + 2))
                    bare.append(received(dsn, items))
                    begun, rows = time.monotonic(), 0
                    for piece in _pieces(changes, state):
                        rows += sum(item.row_count for item in piece.items)
                    streams.append(time.monotonic() - begun)
                    assert rows == items, (rows, items)
                    drop_slot(connection, "bare")
                    changes.drop()
    for pair in range(pairs):
        count = items * (pair + 1)
        say(
            f"postgres-source: {count:,} rows: COPY {count / copies[pair]:,.0f}/s, snapshot "
            f"{count / snapshots[pair]:,.0f}/s; {items:,} changes: receive only {items / bare[pair]:,.0f}/s, stream "
            f"{items / streams[pair]:,.0f}/s"
        )
    part = max(a / b for a, b in zip(copies, snapshots, strict=True))
    stream = max(a / b for a, b in zip(bare, streams, strict=True))
    text = f"of a bare COPY's rate; the stream: {stream:.2f} of receive only"
    return Result("postgres-source", part, "of COPY", text, AIM_SNAPSHOT, part / AIM_SNAPSHOT, memory.peak_mb, True)
