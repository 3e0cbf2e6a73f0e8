"""Segments into a real PostgreSQL: the surviving rows, exactly once, fenced."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base.target import Progress
from connectors.postgres.apply import PostgresPart
from control.embedded import EmbeddedPostgres
from libcore.change import ChangeBatch
from libcore.compact import compact
from libcore.errors import FatalError, TransientError
from tests.connectors.changes import batch, config, segment_of, table, target

WIDE = table("wide", ("a", "b"), a="int32", b="string", x="int64", y="decimal(12,3)", z="json")
KEYLESS = table("keyless", (), a="int32", b="string", z="json")
ONE_SERVER = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

values = {
    "x": st.none() | st.integers(-5, 5),
    "y": st.none() | st.decimals("-9.999", "9.999", places=3),
    "z": st.none() | st.sampled_from(["{}", "[1, 2]"]),
}
upserts = st.builds(
    lambda a, b, row, unset: {"a": a, "b": b, **{k: None if k in unset else v for k, v in row.items()}, "unset": unset},
    st.integers(1, 3),
    st.sampled_from(["k", "K"]),
    st.fixed_dictionaries(values),
    st.sets(st.sampled_from(list(values))),
)
deletes = st.builds(lambda a, b: {"a": a, "b": b, "op": "d"}, st.integers(1, 3), st.sampled_from(["k", "K"]))


def rows_of(dsn: str, name: str, *, order: str = "1, 2") -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(f"SELECT * FROM {name} ORDER BY {order}").fetchall()


@pytest.fixture
def part(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresPart]:
    """A session for part 0 of a flow with the tables WIDE and KEYLESS."""
    opened = target(config(postgres, tmp_path, monkeypatch), WIDE, KEYLESS).open(0)
    yield opened
    opened.close()


def emptied(dsn: str, name: str) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(f"TRUNCATE {name}")


def compacted(changes: ChangeBatch) -> ChangeBatch:
    return ChangeBatch(changes.table, compact(changes.record, changes.table))


def survivors(changes: list[dict[str, Any]]) -> dict[tuple[int, str], dict[str, Any]]:
    """What the rows should be, one change after the other."""
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    for change in changes:
        key = (change["a"], change["b"])
        if change.get("op") == "d":
            rows.pop(key, None)
        else:
            old = rows.get(key, {})
            rows[key] = {name: old.get(name) if name in change["unset"] else change[name] for name in values}
    return rows


@ONE_SERVER
@given(changes=st.lists(upserts | deletes, max_size=25), borders=st.lists(st.integers(0, 25), max_size=4))
def test_the_table_equals_the_last_state(
    postgres: str, part: PostgresPart, changes: list[dict[str, Any]], borders: list[int]
) -> None:
    """Any sequence of upserts and deletes, with unset columns, in any segments, leaves exactly the surviving rows."""
    emptied(postgres, "wide")
    first = part.progress().seq + 1
    cuts = sorted({0, len(changes), *(border for border in borders if border < len(changes))})
    for seq, (start, end) in enumerate(itertools.pairwise(cuts), first):
        part.apply(seq, segment_of(compacted(batch(WIDE, changes[start:end], start + 1))))
    with psycopg.connect(postgres) as connection:
        found = connection.execute("SELECT a, b, x, y, z::text FROM wide").fetchall()
    assert {(a, b): {"x": x, "y": y, "z": z} for a, b, x, y, z in found} == survivors(changes)


@ONE_SERVER
@given(
    changes=st.lists(
        st.tuples(st.sampled_from("ud"), st.sampled_from([(1, "x", "{}"), (1, None, None), (None, None, "[1, 2]")])),
        max_size=30,
    ),
    border=st.integers(0, 30),
)
def test_a_table_without_a_key_keeps_exact_counts(
    postgres: str, part: PostgresPart, changes: list[Any], border: int
) -> None:
    """Each insert adds a copy, each delete removes one; NULL and types without equality are counted too."""
    emptied(postgres, "keyless")
    first = part.progress().seq + 1
    counts: Counter[Any] = Counter()
    kept = []
    for op, row in changes:  # a delete of a row that is not there cannot come from a source
        if op == "u" or counts[row]:
            counts[row] += 1 if op == "u" else -1
            kept.append({"op": op, **dict(zip("abz", row, strict=True))})
    for seq, some in enumerate((kept[:border], kept[border:]), first):
        part.apply(seq, segment_of(compacted(batch(KEYLESS, some))) if some else segment_of())
    with psycopg.connect(postgres) as connection:
        found = Counter(connection.execute("SELECT a, b, z::text FROM keyless").fetchall())
    assert found == +counts


def test_a_segment_by_example(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of two tables go in with the progress; an unset column and an extra one of the target keep their value."""
    items = table("erp.items", ("id",), id="int64", name="string", price="decimal(10,2)")
    with psycopg.connect(postgres) as connection:
        connection.execute(
            "CREATE SCHEMA erp; CREATE TABLE erp.items "
            "(id int8 PRIMARY KEY, name text, price numeric(12,4), extra text DEFAULT 'x')"
        )
    part = target(config(postgres, tmp_path, monkeypatch), items, WIDE).open(0)
    assert part.progress() == Progress(0, "store-1")
    part.apply(
        1,
        segment_of(
            batch(items, [{"id": 1, "name": "a", "price": 1}, {"id": 2, "name": "b"}]),
            batch(WIDE, [{"a": 1, "b": "k"}]),
        ),
    )
    part.apply(2, segment_of(batch(items, [{"id": 1, "unset": {"name"}, "price": 2}, {"id": 2, "op": "d"}])))
    assert [(row[0], row[1], str(row[2]), row[3]) for row in rows_of(postgres, "erp.items")] == [
        (1, "a", "2.0000", "x")
    ]
    assert len(rows_of(postgres, "wide")) == 1 and part.progress() == Progress(2, "store-1")
    part.close()


def test_every_statement_takes_the_index(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that was never analysed is not read as a whole: no sequential scan happens, whatever the statistics."""
    part = target(config(postgres, tmp_path, monkeypatch), WIDE).open(0)
    for seq in range(1, 4):
        rows = [{"a": number, "b": "k", "op": "d" if number % 5 == seq else "u"} for number in range(2000)]
        part.apply(seq, segment_of(batch(WIDE, rows)))
    part.close()
    asked = "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname = 'wide' AND idx_scan > 0"
    with psycopg.connect(postgres, autocommit=True) as connection:
        deadline = time.monotonic() + 20
        while (scans := connection.execute(asked).fetchone()) is None and time.monotonic() < deadline:
            time.sleep(0.05)  # a session tells its numbers when its process ends, which close() does not wait for
    assert scans is not None and scans[0] <= 1  # the one: preflight asks whether the table is filled


def test_a_zombie_is_fenced(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was replaced cannot write: neither an old segment, nor one that the new owner does not have."""
    made = target(config(postgres, tmp_path, monkeypatch), WIDE)
    zombie, owner = made.open(0), made.open(0)
    zombie.apply(1, segment_of(batch(WIDE, [{"a": 1, "b": "k"}])))
    owner.apply(2, segment_of(batch(WIDE, [{"a": 2, "b": "k"}])))
    owner.apply(3, segment_of(batch(WIDE, [{"a": 3, "b": "k"}])))
    for seq in (2, 5):
        with pytest.raises(FatalError, match="another process writes for this part, or the target was restored"):
            zombie.apply(seq, segment_of(batch(WIDE, [{"a": 9, "b": "k"}])))
    zombie.close()
    owner.close()
    assert [row[0] for row in rows_of(postgres, "wide")] == [1, 2, 3]


class LostCommit:
    """A TCP relay to PostgreSQL that delivers one COMMIT and cuts the line before its answer comes back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.armed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed by the test
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            cut = threading.Event()
            threading.Thread(target=self._relay, args=(client, server, cut, True), daemon=True).start()
            threading.Thread(target=self._relay, args=(server, client, cut, False), daemon=True).start()

    def _relay(self, source: socket.socket, sink: socket.socket, cut: threading.Event, asks: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if asks and self.armed.is_set() and b"COMMIT\0" in data:
                    self.armed.clear()
                    cut.set()
                if not asks and cut.is_set():
                    break  # the server has answered: it is committed
                sink.sendall(data)
        except OSError:  # the other thread has shut it down
            cut.set()
        for side in (source, sink):
            with contextlib.suppress(OSError):  # the peer may have gone first
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def test_a_lost_answer_to_a_commit_doubles_nothing(
    postgres: str, postgres_server: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The COMMIT arrives, its answer does not: the segment is tried again and found to be in the target."""
    relay = LostCommit(postgres_server.port)
    dsn = postgres.replace(f":{postgres_server.port}/", f":{relay.port}/")
    part = target(config(dsn, tmp_path, monkeypatch), KEYLESS).open(0)
    segment = segment_of(batch(KEYLESS, [{"a": 1}] * 3))
    part.progress()
    relay.armed.set()
    with pytest.raises(TransientError):
        part.apply(1, segment)
    part.close()
    again = part.apply(1, segment)
    part.apply(2, segment)
    part.close()
    relay.close()
    assert again.repeated and again.rows == 0
    assert len(rows_of(postgres, "keyless")) == 6


def test_a_killed_session_is_opened_again(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is terminated is a passing error; nothing of the open transaction stays, and the retry goes in."""
    part: PostgresPart = target(config(postgres, tmp_path, monkeypatch), WIDE).open(0)
    part.apply(1, segment_of(batch(WIDE, [{"a": 1, "b": "k"}])))
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'headrace flow/0'"
        )
    with pytest.raises(TransientError):
        part.apply(2, segment_of(batch(WIDE, [{"a": 2, "b": "k"}])))
    part.close()
    part.apply(2, segment_of(batch(WIDE, [{"a": 2, "b": "k"}])))
    part.close()
    assert [row[0] for row in rows_of(postgres, "wide")] == [1, 2]


def test_a_lock_held_by_somebody_is_waited_out(postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that another session holds makes the segment wait up to the lock timeout, then it may be tried again."""
    part = target(config(postgres, tmp_path, monkeypatch, lock_timeout_s=0.1), WIDE).open(0)
    part.apply(1, segment_of(batch(WIDE, [{"a": 1, "b": "k"}])))
    with psycopg.connect(postgres) as other:
        other.execute("SELECT * FROM wide FOR UPDATE")
        with pytest.raises(TransientError, match="55P03"):
            part.apply(2, segment_of(batch(WIDE, [{"a": 1, "b": "k", "x": 7}])))
    part.close()
    part.apply(2, segment_of(batch(WIDE, [{"a": 1, "b": "k", "x": 7}])))
    part.close()
    assert rows_of(postgres, "wide")[0][2] == 7
