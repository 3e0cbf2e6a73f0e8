"""Redis Streams on a real redis-server: the contract of every source, the group's acknowledgements, gaps, refusals."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from connectors.redis.entries import debezium
from connectors.redis.server import offset
from control.cli.main import app
from libcore.errors import ConfigurationError, FatalError
from tests.connectors.contract_source import (
    TABLE,
    ChangesContract,
    Followed,
    RowsContract,
    SourceSystem,
    check_killed_and_rescaled,
    some_rows,
)
from tests.connectors.redis_parts import RedisServer, Streams

GROUP = "headrace_streams"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """One server for all tests; each empties it."""
    with RedisServer() as running:
        yield running


@pytest.fixture
def streams(server: RedisServer, tmp_path: Path) -> Streams:
    """Empty streams of Debezium events."""
    return Streams(server, tmp_path)


class TestRedis(RowsContract, ChangesContract):
    """A stream of Debezium Server's compact events keeps the whole contract."""

    @pytest.fixture
    def system(self, server: RedisServer, tmp_path: Path) -> SourceSystem:
        return Streams(server, tmp_path)


@pytest.mark.parametrize("form", ["extended", "fields"])
def test_other_forms_of_entries(server: RedisServer, tmp_path: Path, form: str) -> None:
    """Extended events, and plain fields with __op: rows, NULLs, deletes, values as they are."""
    streams = Streams(server, tmp_path, form)
    streams.write(some_rows(Random(1), 0, 200))
    streams.write({}, tuple(range(50, 70)))
    streams.write({500: (500, "1e5", Decimal("12.5000")), 501: (501, "true", None)})
    followed = Followed(streams.pipeline(batch_rows_max=30), tmp_path / "state", until_end=True)
    followed.drained()
    assert followed.letters == []
    assert followed.rows() == streams.rows()


def _pending(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.xpending(TABLE, GROUP)["pending"])


def test_acknowledged_only_once_durable(streams: Streams, server: RedisServer, tmp_path: Path) -> None:
    """What was delivered stays pending until its epoch is durable; at the end nothing is pending."""
    streams.write(some_rows(Random(2), 0, 100))
    followed = Followed(streams.pipeline(batch_rows_max=100), tmp_path / "state")
    deadline = time.monotonic() + 10
    while _pending_or_none(server) < 100:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while followed.epoch() == 0:
        time.sleep(0.005)
    assert _pending(server) == 100  # brought, and its epoch not yet followed by two more
    followed.until(lambda: _pending(server) == 0)
    assert followed.rows() == streams.rows()
    followed.close()


def _pending_or_none(server: RedisServer) -> int:
    with server.client() as client:
        groups = {group["name"]: group for group in client.xinfo_groups(TABLE)}
    return int(groups.get(GROUP.encode(), {"pending": 0})["pending"])


def _has(followed: Followed, count: int) -> bool:
    return len(followed.rows()) >= count


def test_a_killed_reader_leaves_nothing_pending(streams: Streams, server: RedisServer, tmp_path: Path) -> None:
    """Entries that a killed reader was given come again or are acknowledged, whether they were durable or not."""
    streams.write(some_rows(Random(3), 0, 300))
    followed = Followed(streams.pipeline(batch_rows_max=40), tmp_path / "state")
    for count in range(1, 240, 40):
        followed.until(partial(_has, followed, count))
        followed.crash()
    with server.client() as client:  # as if it had died before its acknowledgements
        client.xgroup_setid(TABLE, GROUP, "0")
        client.xreadgroup(GROUP, "headrace", {TABLE: ">"}, count=1000)
    followed.crash()
    followed.until(lambda: followed.rows() == streams.rows() and _pending(server) == 0)
    followed.close()
    assert len(followed.rows()) == 300


@pytest.mark.parametrize("behind", [0, 40])
def test_a_second_reader_takes_nothing_away(streams: Streams, server: RedisServer, tmp_path: Path, behind: int) -> None:
    """Entries that the group gave to another process, one that should be dead, come here all the same."""
    streams.write(some_rows(Random(5), 0, 100))
    followed = Followed(streams.pipeline(batch_rows_max=30), tmp_path / "state")
    followed.until(partial(_has, followed, 100))
    entry = {json.dumps({"id": 900}): json.dumps({"before": None, "after": {"id": 900}, "op": "c", "ts_ms": 1})}
    with server.client() as client, client.pipeline(transaction=True) as together:
        together.xadd(TABLE, entry)
        together.execute_command("XREADGROUP", "GROUP", GROUP, "headrace", "COUNT", 100, "STREAMS", TABLE, ">")
        for number in range(behind):
            together.xadd(TABLE, {json.dumps({"id": number}): json.dumps({"before": {"id": number}, "op": "d"})})
        together.execute()
    followed.until(lambda: 900 in followed.rows() and len(followed.rows()) == 101 - behind)
    followed.close()
    assert followed.letters == []


def test_entries_that_were_trimmed_unread_are_a_gap(streams: Streams, server: RedisServer, tmp_path: Path) -> None:
    """Trimmed behind the position it stops and says how many ids; on_gap goes on; trimmed before it nothing happens."""
    streams.write(some_rows(Random(4), 0, 50))
    followed = Followed(streams.pipeline(), tmp_path / "state")
    followed.until(lambda: len(followed.rows()) == 50)
    with server.client() as client:
        client.xtrim(TABLE, maxlen=10, approximate=False)
    followed.until(lambda: _pending(server) == 0)
    followed.crash()
    streams.write(some_rows(Random(5), 50, 50))
    followed.until(lambda: len(followed.rows()) == 100)
    followed.close()
    streams.write(some_rows(Random(6), 100, 50))
    with server.client() as client:
        client.xtrim(TABLE, maxlen=20, approximate=False)
    followed.open()
    with pytest.raises(FatalError, match="trimmed or deleted before they were read"):
        followed.until(lambda: False)
    followed = _again(followed, streams.pipeline(on_gap='"earliest"'), tmp_path)
    followed.until(lambda: len(followed.rows()) == 120)
    followed.close()


def _again(former: Followed, file: Path, directory: Path) -> Followed:
    later = Followed(file, directory / "state")
    later.close()
    later._states, later.tables = former._states, former.tables
    later.open()
    return later


def test_a_stream_that_was_made_anew(streams: Streams, server: RedisServer, tmp_path: Path) -> None:
    """Deleted, or a server that lost its end: the position is beyond the stream, and nobody goes on in silence."""
    streams.write(some_rows(Random(7), 0, 5))
    followed = Followed(streams.pipeline(), tmp_path / "state")
    followed.until(lambda: len(followed.rows()) == 5)
    followed.close()
    with server.client() as client:
        client.delete(TABLE)
        client.xadd(TABLE, {"{}": "{}"}, id="1-1")
    followed.open()
    with pytest.raises(FatalError, match="made anew"):
        followed.until(lambda: False)


def test_what_is_no_event_is_a_dead_letter(streams: Streams, server: RedisServer, tmp_path: Path) -> None:
    """An entry of other fields, or of broken JSON, is a dead letter; the rows around it come."""
    streams.write({1: (1, "a", None)})
    with server.client() as client:
        client.xadd(TABLE, {"a": "1", "b": "2"})
        client.xadd(TABLE, {"k": '{"after": {'})
        client.xadd(TABLE, {'{"id":9}': "default"})  # a tombstone
    streams.write({2: (2, "b", None)})
    followed = Followed(streams.pipeline(), tmp_path / "state", until_end=True)
    followed.drained()
    assert followed.rows() == streams.rows()
    assert len(followed.letters) == 2


def test_a_server_that_comes_back(tmp_path: Path) -> None:
    """Killed with -9 and started again, a server that appends to its file is read on; nothing is lost or doubled."""
    with RedisServer(append=True) as server:
        streams = Streams(server, tmp_path)
        streams.write(some_rows(Random(8), 0, 100))
        followed = Followed(streams.pipeline(), tmp_path / "state")
        followed.until(lambda: len(followed.rows()) == 100)
        server.kill()
        for _ in range(20):
            followed.epoch()
        server.start()
        streams.write(some_rows(Random(9), 100, 100))
        followed.until(lambda: followed.rows() == streams.rows())
        followed.close()
        assert len(followed.rows()) == 200


def test_killed_and_rescaled(streams: Streams, postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 in the middle and started again as two processes: target and stream are equal."""
    monkeypatch.setenv("TARGET_DSN", postgres)
    random = Random(10)
    streams.write(some_rows(random, 0, 2000))

    def more() -> None:
        streams.write(some_rows(random, 1900, 300), tuple(range(10 + len(streams.rows()) % 7, 60)))

    check_killed_and_rescaled(streams, tmp_path, postgres, more)
    assert 0 < len(streams.rows()) < 2300


def test_doctor(streams: Streams, server: RedisServer, tmp_path: Path) -> None:
    """Persistence that is off, a second consumer and entries that are gone are found, each with its statement."""
    streams.write(some_rows(Random(11), 0, 20))
    file = streams.pipeline()
    with server.client() as client:
        first = _doctor(file)
        assert (first[0], first[1]["appendonly"]["remedy"]) == (0, "CONFIG SET appendonly yes")
        client.xgroup_create(TABLE, GROUP, "0")
        client.xreadgroup(GROUP, "stranger", {TABLE: ">"}, count=1)
        code, found = _doctor(file)
        assert (code, "stranger" in found[f"stream {TABLE}"]["found"]) == (1, True)
        client.execute_command(*found[f"stream {TABLE}"]["remedy"].split())
        assert _doctor(file)[0] == 0
        client.xtrim(TABLE, maxlen=5, approximate=False)
        code, found = _doctor(file)
        assert (code, "unread" in found[f"stream {TABLE}"]["found"]) == (1, True)


def _doctor(file: Path) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["doctor", str(file), "--json"])
    return result.exit_code, {one["what"]: one for one in json.loads(result.stdout)["findings"]}


def test_refusals(streams: Streams, server: RedisServer, tmp_path: Path) -> None:
    """A key that is no stream is not offered, and a password that is wrong stops, without the password in the text."""
    with server.client() as client:
        client.delete(TABLE)
        client.set(TABLE, "text")
    with pytest.raises(ConfigurationError, match="found none of that name"):
        Followed(streams.pipeline(), tmp_path / "state")
    file = streams.pipeline()
    (tmp_path / "url").write_text(f"redis://user:hidden@127.0.0.1:{server.port}", "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        Followed(file, tmp_path / "state")
    assert "hidden" not in str(caught.value)


@given(st.lists(st.tuples(st.integers(0, (1 << 43) - 1), st.integers(0, (1 << 20) - 1)), min_size=2))
def test_offsets_keep_the_order_of_ids(ids: list[tuple[int, int]]) -> None:
    """The numbers in positions are in the ids' order, and no two ids share one."""
    assert sorted(ids) == sorted(ids, key=lambda one: offset(one, "s"))
    assert len({offset(one, "s") for one in ids}) == len(set(ids))
    with pytest.raises(FatalError):
        offset((1, 1 << 20), "s")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([(b'{"id":1}', b"{}")], (b'{"id":1}', b"{}")),
        ([(b"default", b"{}")], (None, b"{}")),
        ([(b'{"id":1}', b"default")], (b'{"id":1}', None)),
        ([(b"value", b"{}"), (b"key", b"k")], (b"k", b"{}")),
        ([(b"key", b"default"), (b"value", b"{}")], (None, b"{}")),
    ],
)
def test_forms_of_debezium_server(
    fields: list[tuple[bytes, bytes]], message: tuple[bytes | None, bytes | None]
) -> None:
    """Compact and extended, with "default" for none."""
    assert debezium(fields) == message
